"""Was something else on the machine during a run? What the kernel says of waiting, stolen and foreign CPU time.

The readings know nothing of the run's result: whether a run is measured again must not depend on how it came out
(docs/method.md, "Disturbed cells").
"""

import contextlib
import time
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import machine


class CpuTime(NamedTuple):
    """Seconds since boot, summed over some CPUs."""

    idle_s: float
    stolen_s: float  # by the hypervisor, for other machines


def parse_cpu_time(stat: str, cpus: Collection[int]) -> CpuTime:
    """/proc/stat → the time of these CPUs. Waiting for I/O is idle time: the CPU is free."""
    idle = stolen = 0
    for line in stat.splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cpus:
            idle += int(fields[3]) + int(fields[4])
            stolen += int(fields[7])
    return CpuTime(idle / machine.USER_HZ, stolen / machine.USER_HZ)


def parse_pressure_s(text: str) -> float:
    """/proc/pressure/cpu → seconds since boot in which some task waited for a CPU."""
    return int(text.partition("total=")[2].split()[0]) / 1e6


def read_pressure_s() -> float | None:
    """None if the kernel does not tell."""
    try:
        return parse_pressure_s(machine.read_text("/proc/pressure/cpu"))
    except (OSError, IndexError, ValueError):
        return None


def read_waits_s(threads: Sequence[str]) -> dict[str, float]:
    """By thread, the time in which it was runnable and had no CPU, since it began; without those that do not tell."""
    waits_s = {}
    for thread in threads:
        with contextlib.suppress(OSError, IndexError):
            waits_s[thread] = int(machine.read_text(f"{thread}/schedstat").split()[1]) / 1e9
    return waits_s


class Reading(NamedTuple):
    """What grows with time where server or client runs, at one moment; as a list it goes from one host to another."""

    at_s: float
    cpus: int  # whose time this is
    idle_s: float
    stolen_s: float
    own_s: float | None  # CPU time of the run's processes; None if it is not known
    pressure_s: float | None
    waits_s: dict[str, float]


def read(
    own_ns: int, cpus: Collection[int], threads: Sequence[str], tells_pressure: bool
) -> Reading:
    """Of a run's processes, which have used `own_ns`, and of CPUs that they have to themselves (empty where another
    reading has them).

    `threads`: whose waiting for a CPU is a sign of others.
    """
    return Reading(
        time.monotonic(),
        len(cpus),
        *parse_cpu_time(machine.read_text("/proc/stat"), cpus),
        own_ns / 1e9,
        read_pressure_s() if tells_pressure else None,
        read_waits_s(threads),
    )


def readings(
    before: dict[str, Any], after: dict[str, Any], own_ns: int | None = 0
) -> tuple[Reading, Reading]:
    """What a side's answers hold under `disturbance`, which may have come as lists.

    `own_ns`: the CPU time of the run's processes between them, where it is not in the readings; None: not known.
    """
    first, last = Reading(*before["disturbance"]), Reading(*after["disturbance"])
    if own_ns is None or last.own_s is None:
        return first, last._replace(own_s=None)
    return first, last._replace(own_s=last.own_s + own_ns / 1e9)


def between(
    server: tuple[Reading, Reading], client: tuple[Reading, Reading]
) -> dict[str, float | None]:
    """The fields of a record, from readings before and after, each by its own clock; None for what cannot be told here.

    Shares of the elapsed time; of all CPUs, but for pressure and waiting.
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

    def waited(before: Reading, after: Reading) -> float | None:
        """The longest of any thread; None if none tells."""
        waits_s = [wait - before.waits_s.get(thread, 0.0) for thread, wait in after.waits_s.items()]
        return max(waits_s) / (after.at_s - before.at_s) if waits_s else None

    return {
        "steal_share": stolen_s / available_s,
        "foreign_cpu_share": None if foreign_s is None else max(0.0, foreign_s) / available_s,
        "cpu_pressure_share": max(pressures, default=None),
        "client_wait_share": waited(*client),
        "server_wait_share": waited(*server),
    }
