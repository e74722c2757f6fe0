"""Read what Linux says about processes and limits: CPU time, memory, threads, the wall clock, open files.

Every cell imports this module, so it does without pathlib, whose import takes as long as all of this.
"""

import contextlib
import os
import resource
import signal
import time
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

USER_HZ = os.sysconf("SC_CLK_TCK")
LAST_SYSTEM_PORT, HIGHEST_PORT = 1023, 65_535
SPARE_DESCRIPTORS = 64  # of a server or wrk, in addition to its connections


def read_text(path: str) -> str:
    """Text of a kernel file, in which names of processes may contain any bytes."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


class CpuReading(NamedTuple):
    """CPU time of a server's processes at one moment; between hosts it travels as a list."""

    pids: list[int]
    living_ns: int  # of these processes, by their clocks
    ended_ns: int  # of children that have ended and were waited for, in ticks of 10 ms
    group_ns: int | None  # of all processes so far, by their cgroup, if there is one
    is_lacking: bool  # time may be missing: nobody waits for children, or they changed in each try


CPU_TRIES = 5


def read_cpu(supervisor: int, list_pids: Callable[[], list[int]], group: str | None) -> CpuReading:
    """CPU time of a supervisor's descendants; group: the folder of their cgroup.

    Without a cgroup, a child that ends during the reading could be missing from both the living and the ended
    processes, so this reads again until nothing has changed meanwhile.
    """
    pids = list_pids()
    for _ in range(CPU_TRIES):
        ended_ns, living_ns = _ended_ns(supervisor, pids), cpu_time_ns(pids)
        if group is not None:
            group_ns = parse_usage_ns(read_text(f"{group}/cpu.stat"))
            return CpuReading(pids, living_ns, ended_ns, group_ns, False)
        read, pids = pids, list_pids()
        if read == pids and ended_ns == _ended_ns(supervisor, pids):
            # Parents come first.
            is_lacking = any(_ignores_children(pid) for pid in pids[:16])
            return CpuReading(pids, living_ns, ended_ns, None, is_lacking)
    return CpuReading(read, living_ns, ended_ns, None, True)


UNSEEN_NS = 20_000_000  # clocks and cgroup differ by less: the cgroup is updated at each tick


def cpu_time_between(*readings: CpuReading) -> int | None:
    """CPU time of a server, in ns, from the first reading to the last; None if it is not known.

    Exact to the ns while the processes stay the same. If processes come and go: with a cgroup, exact to 4 ms for each
    CPU that is busy at the last reading; without one, to 20 ms if their parents wait for them.
    """
    first, last = readings[0], readings[-1]
    by_clocks = last.living_ns - first.living_ns
    by_group = None
    if first.group_ns is not None and last.group_ns is not None:
        by_group = last.group_ns - first.group_ns
    # No reading contains a process that lived only between two readings.
    if by_group is None and any(it.is_lacking for it in readings):
        return None
    is_steady = all((it.pids, it.ended_ns) == (first.pids, first.ended_ns) for it in readings)
    if is_steady and (by_group is None or by_group < by_clocks + UNSEEN_NS):
        return by_clocks
    if by_group is not None:
        return by_group
    totals = [it.living_ns + it.ended_ns for it in readings]
    if totals != sorted(totals):
        return None
    return totals[-1] - totals[0]


def parse_usage_ns(cpu_stat: str) -> int:
    """A cgroup's cpu.stat (version 2) → its CPU time."""
    return int(cpu_stat.partition("usage_usec ")[2].split()[0]) * 1000


def _ended_ns(supervisor: int, pids: Sequence[int]) -> int:
    """CPU time of the children that these living processes have waited for, and of their children."""
    total = 0
    for pid in (supervisor, *pids):
        with contextlib.suppress(OSError):
            fields = read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
            total += (int(fields[13]) + int(fields[14])) * (10**9 // USER_HZ)
    return total


def _ignores_children(pid: int) -> bool:
    """Whether a process ignores SIGCHLD, so that it waits for no child."""
    try:
        mask = read_text(f"/proc/{pid}/status").partition("SigIgn:")[2].split()[0]
    except (OSError, IndexError):
        return False
    return bool(int(mask, 16) >> (signal.SIGCHLD - 1) & 1)


def cpu_time_ns(pids: Collection[int]) -> int:
    """The sum of the processes' CPU times, with threads that have ended, without processes that have ended.

    The clock id is the kernel's encoding of a process's CPU clock, as clock_getcpuclockid(3) returns it.
    """
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += time.clock_gettime_ns((~pid << 3) | 2)
    return total


def threads_of(pids: Collection[int]) -> list[str]:
    """The folders of all threads of some processes."""
    threads: list[str] = []
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended
            threads += [f"/proc/{pid}/task/{task}" for task in os.listdir(f"/proc/{pid}/task")]
    return threads


def own_time_ns() -> int:
    """CPU time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return round(sum(its.ru_utime + its.ru_stime for its in used) * 1e9)


def thread_times_ns(threads: Collection[str], most: int = 64) -> dict[str, int]:
    """CPU time of each living thread; empty for more than `most`, since then no single one can be the limit.

    It comes from the kernel's schedstat, which may lack the last 4 ms of a running thread.
    """
    times_ns = {}
    for thread in threads if len(threads) <= most else []:
        with contextlib.suppress(OSError):  # it has ended, or the kernel has no schedstat
            times_ns[thread] = int(read_text(f"{thread}/schedstat").split()[0])
    return times_ns


def memory_peak_kib(pids: Collection[int]) -> int:
    """The largest resident memory (VmHWM), summed over living processes; shared pages count for each."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in read_text(f"/proc/{pid}/status").splitlines():
                if line.startswith("VmHWM:"):
                    total += int(line.split()[1])
    return total


def wall_clock_ahead_s() -> float:
    """How far the wall clock is ahead of the monotonic one, which nobody can set: the quickest of 5 readings."""
    readings = []
    for _ in range(5):
        before_s = time.monotonic()
        wall_s = time.time()
        readings.append((time.monotonic() - before_s, wall_s - before_s))
    return min(readings)[1]


def raise_open_files_limit() -> int:
    """Raise the soft limit of open files to the hard one, also for what is started later; returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
