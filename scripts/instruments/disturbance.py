"""Whether something else used the machine during a run, from the kernel's figures for waiting, stolen and foreign CPU
time.

The readings do not depend on the run's result, because a result must not decide whether a run is repeated
(docs/method.md, "Disturbed cells").
"""

import contextlib
import time
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from hosts import proc


class CpuTime(NamedTuple):
    """Seconds since boot, summed over some CPUs."""

    idle_s: float
    stolen_s: float  # by the hypervisor, for other machines


def parse_cpu_time(stat: str, cpus: Collection[int]) -> CpuTime:
    """/proc/stat → the time of these CPUs. Waiting for I/O counts as idle: the CPU is free."""
    idle = stolen = 0
    for line in stat.splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cpus:
            idle += int(fields[3]) + int(fields[4])
            stolen += int(fields[7])
    return CpuTime(idle / proc.USER_HZ, stolen / proc.USER_HZ)


def parse_pressure_s(text: str) -> float:
    """/proc/pressure/cpu → seconds since boot during which some task waited for a CPU."""
    return int(text.partition("total=")[2].split()[0]) / 1e6


def read_pressure_s() -> float | None:
    """Read the pressure; None if the kernel does not have it."""
    try:
        return parse_pressure_s(proc.read_text("/proc/pressure/cpu"))
    except (OSError, IndexError, ValueError):
        return None


def read_waits_s(threads: Sequence[str]) -> dict[str, float]:
    """For each thread, the time since its start in which it was runnable but had no CPU; without unreadable threads."""
    waits_s = {}
    for thread in threads:
        with contextlib.suppress(OSError, IndexError):
            waits_s[thread] = int(proc.read_text(f"{thread}/schedstat").split()[1]) / 1e9
    return waits_s


class Reading(NamedTuple):
    """Counters at one moment where server or client runs; between hosts a reading travels as a list."""

    at_s: float
    cpus: int  # the number of CPUs that idle_s and stolen_s cover
    idle_s: float
    stolen_s: float
    own_s: float | None  # CPU time of the run's processes; None if it is not known
    pressure_s: float | None
    waits_s: dict[str, float]


def read(
    own_ns: int, cpus: Collection[int], threads: Sequence[str], tells_pressure: bool
) -> Reading:
    """Read the counters. own_ns: CPU time of the run's processes; cpus: the CPUs that only these use (empty if another
    reading covers them); threads: those whose waiting for a CPU shows other processes."""
    return Reading(
        time.monotonic(),
        len(cpus),
        *parse_cpu_time(proc.read_text("/proc/stat"), cpus),
        own_ns / 1e9,
        read_pressure_s() if tells_pressure else None,
        read_waits_s(threads),
    )


def readings(
    before: dict[str, Any], after: dict[str, Any], own_ns: int | None = 0
) -> tuple[Reading, Reading]:
    """The readings under `disturbance` of a side's answers, which may have come as lists.

    own_ns: the CPU time of the run's processes between them, if the readings do not contain it; None: not known.
    """
    first, last = Reading(*before["disturbance"]), Reading(*after["disturbance"])
    if own_ns is None or last.own_s is None:
        return first, last._replace(own_s=None)
    return first, last._replace(own_s=last.own_s + own_ns / 1e9)


def between(
    server: tuple[Reading, Reading], client: tuple[Reading, Reading]
) -> dict[str, float | None]:
    """The fields of a record, from readings before and after, each with its own clock; None for what is not known.

    Shares of the elapsed time, on all CPUs except for pressure and waiting.
    """
    available_s = stolen_s = 0.0
    foreign_s: float | None = 0.0
    pressures = []
    for before, after in (server, client):
        elapsed_s = after.at_s - before.at_s
        available_s += elapsed_s * after.cpus
        stolen_s += after.stolen_s - before.stolen_s
        busy_s = elapsed_s * after.cpus - (after.idle_s - before.idle_s)
        if foreign_s is None or after.own_s is None or before.own_s is None:
            foreign_s = None
        else:
            foreign_s += busy_s - (after.own_s - before.own_s)
        if before.pressure_s is not None and after.pressure_s is not None:
            pressures.append((after.pressure_s - before.pressure_s) / elapsed_s)

    def longest_wait(before: Reading, after: Reading) -> float | None:
        """The largest share of any thread; None if no thread's is known."""
        waits_s = [wait - before.waits_s.get(thread, 0.0) for thread, wait in after.waits_s.items()]
        return max(waits_s) / (after.at_s - before.at_s) if waits_s else None

    return {
        "steal_share": stolen_s / available_s,
        "foreign_cpu_share": None if foreign_s is None else max(0.0, foreign_s) / available_s,
        "cpu_pressure_share": max(pressures, default=None),
        "client_wait_share": longest_wait(*client),
        "server_wait_share": longest_wait(*server),
    }
