"""The machine: CPUs, clocks, limits, and the lock that keeps it to one measurement at a time.

Imported once a cell, like its neighbours: hence no pathlib, which takes as long to import as all of this.
"""

import contextlib
import fcntl
import os
import resource
import time
from collections.abc import Collection, Iterator, Sequence

# One lock for all users and checkouts of a machine (contract 6): of root, readable by all, and never removed.
LOCK_PATH = "/sys/devices/system/cpu"
SPARE_DESCRIPTORS = 64  # of a server or wrk, beside its connections


def read_text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


class CpuSplit:
    """Disjoint sets of CPUs for the server and its load; one shared set where there is but one core (M13)."""

    def __init__(self, cores: Sequence[Sequence[int]], server_cpus: int | None = None) -> None:
        """`cores`: for each physical core its CPUs (SMT siblings), which server and load never share between them.

        `server_cpus`: at most so many for the server, the first ones of its cores; the others stay idle.
        """
        half = len(cores) // 2
        load, server = (cores[:half], cores[half:]) if half else (cores, cores)
        self.load = sorted(cpu for core in load for cpu in core)
        self.server = sorted(cpu for core in server for cpu in core)[:server_cpus]
        self.shared = half == 0


def parse_cpu_list(text: str) -> list[int]:
    """`0-2,8` → [0, 1, 2, 8], the format of /sys/devices/system/cpu."""
    cpus: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return cpus


def format_cpu_list(cpus: Collection[int]) -> str:
    return ",".join(str(cpu) for cpu in sorted(cpus))


def read_cores() -> list[list[int]]:
    """The physical cores that this process may use, each as its allowed CPUs, in ascending order."""
    allowed = os.sched_getaffinity(0)
    cores = set()
    for cpu in allowed:
        try:
            core = parse_cpu_list(
                read_text(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
            )
        except (OSError, ValueError):
            core = [cpu]  # the kernel does not tell: each CPU counts as a core
        cores.add(tuple(sorted(allowed & set(core))))
    return [list(core) for core in sorted(cores)]


def workers_for(workers: str, split: CpuSplit) -> int:
    """Processes of a server: `cpus` is one for each of its CPUs, `auto` the same, but several in any case."""
    known = {"cpus": len(split.server), "auto": max(2, len(split.server))}
    return known.get(workers) or int(workers)


def processes_of(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for task in os.listdir(f"/proc/{pid}/task"):
        # A thread that has just ended has no children of its own any more.
        with contextlib.suppress(OSError):
            for child in read_text(f"/proc/{pid}/task/{task}/children").split():
                found += processes_of(int(child))
    return found


def cpu_time_ns(pids: Collection[int]) -> int:
    """CPU time of processes, summed; threads that have ended are included.

    The clock id is the kernel's encoding of a process's CPU clock, as clock_getcpuclockid(3) returns it.
    Raises ProcessLookupError or OSError if one has ended.
    """
    return sum(time.clock_gettime_ns((~pid << 3) | 2) for pid in pids)


def thread_times_ns(pids: Collection[int], most: int = 64) -> dict[str, int]:
    """CPU time of each thread that lives; empty for more than `most`, of which no single one can be the limit.

    The kernel's schedstat, in which a thread that runs now may lack its last 4 ms.
    """
    tasks = [f"/proc/{pid}/task/{task}" for pid in pids for task in os.listdir(f"/proc/{pid}/task")]
    times_ns = {}
    for task in tasks if len(tasks) <= most else []:
        with contextlib.suppress(OSError):  # it has ended, or the kernel does not tell
            times_ns[task] = int(read_text(f"{task}/schedstat").split()[0])
    return times_ns


def memory_peak_kib(pids: Collection[int]) -> int:
    """Largest resident memory (VmHWM), summed over processes: pages that they share count for each."""
    total = 0
    for pid in pids:
        for line in read_text(f"/proc/{pid}/status").splitlines():
            if line.startswith("VmHWM:"):
                total += int(line.split()[1])
    return total


def raise_open_files_limit() -> int:
    """Raise the soft limit of open files to the hard one, also for what is started later; returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


@contextlib.contextmanager
def exclusive_machine() -> Iterator[None]:
    """Hold the machine alone: no other cell runs on it meanwhile, and no compile or plot of any checkout."""
    lock = os.open(LOCK_PATH, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting: another measurement has this machine", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
