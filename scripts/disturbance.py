"""Was something else on the machine during a run? What the kernel says of waiting, stolen and foreign CPU time.

The readings know nothing of the run's result: whether a run is measured again must not depend on how it came out (M28).
"""

import contextlib
import os
import time
from collections.abc import Collection, Sequence
from typing import NamedTuple

import machine
from cpus import CpuSplit

USER_HZ = os.sysconf("SC_CLK_TCK")


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
    return CpuTime(idle / USER_HZ, stolen / USER_HZ)


def parse_pressure_s(text: str) -> float:
    """/proc/pressure/cpu → seconds since boot in which some task waited for a CPU."""
    return int(text.partition("total=")[2].split()[0]) / 1e6


def read_pressure_s() -> float | None:
    """None if the kernel does not tell."""
    try:
        return parse_pressure_s(machine.read_text("/proc/pressure/cpu"))
    except (OSError, IndexError, ValueError):
        return None


def threads_of(pids: Collection[int]) -> list[str]:
    """The folders of all threads of some processes."""
    return [f"/proc/{pid}/task/{task}" for pid in pids for task in os.listdir(f"/proc/{pid}/task")]


def read_waits_s(threads: Sequence[str]) -> dict[str, float]:
    """By thread, the time in which it was runnable and had no CPU, since it began; without those that do not tell."""
    waits_s = {}
    for thread in threads:
        with contextlib.suppress(OSError, IndexError):
            waits_s[thread] = int(machine.read_text(f"{thread}/schedstat").split()[1]) / 1e9
    return waits_s


def longest_wait_s(before: dict[str, float], after: dict[str, float]) -> float | None:
    """Of any thread in the time between; None if none tells."""
    return max((wait - before.get(thread, 0.0) for thread, wait in after.items()), default=None)


class Reading(NamedTuple):
    """What grows with time, at one moment."""

    at_s: float
    cpu: CpuTime
    own_s: float  # CPU time of server and load
    pressure_s: float | None
    client_waits_s: dict[str, float]
    server_waits_s: dict[str, float]


def read(server: Collection[int], client: Collection[int], split: CpuSplit) -> Reading:
    """Of the run's processes and CPUs. Raises OSError if one of the processes has ended."""
    cpus = {*split.server, *split.load}
    threads = threads_of(server)
    # A server with more threads than CPUs waits for itself: what it waits for others cannot be told from that.
    waits_for_itself = len(threads) > len(split.server) or split.shared
    return Reading(
        time.monotonic(),
        parse_cpu_time(machine.read_text("/proc/stat"), cpus),
        machine.cpu_time_ns([*server, *client]) / 1e9,
        None if waits_for_itself else read_pressure_s(),
        {} if split.shared else read_waits_s(threads_of(client)),
        {} if waits_for_itself else read_waits_s(threads),
    )


def between(before: Reading, after: Reading, split: CpuSplit) -> dict[str, float | None]:
    """The fields of a record: shares of the elapsed time; None for what cannot be told here."""
    elapsed_s = after.at_s - before.at_s
    cpus = len({*split.server, *split.load})

    def share(time_s: float | None) -> float | None:
        return None if time_s is None else time_s / elapsed_s

    pressure_s = None
    if before.pressure_s is not None and after.pressure_s is not None:
        pressure_s = after.pressure_s - before.pressure_s
    busy_s = elapsed_s * cpus - (after.cpu.idle_s - before.cpu.idle_s)
    return {
        "steal_share": (after.cpu.stolen_s - before.cpu.stolen_s) / elapsed_s / cpus,
        "foreign_cpu_share": max(0.0, busy_s - (after.own_s - before.own_s)) / elapsed_s / cpus,
        "cpu_pressure_share": share(pressure_s),
        "client_wait_share": share(longest_wait_s(before.client_waits_s, after.client_waits_s)),
        "server_wait_share": share(longest_wait_s(before.server_waits_s, after.server_waits_s)),
    }
