"""The machine: clocks, limits, lists of CPUs, and the lock that keeps it to one measurement at a time.

Imported once a cell, like its neighbours: hence no pathlib, which takes as long to import as all of this.
"""

import contextlib
import fcntl
import os
import resource
import time
from collections.abc import Collection, Iterator

# One lock for all users and checkouts of a machine (contract 6): of root, readable by all, never removed, and the same
# in all network namespaces, which have a /sys of their own.
LOCK_PATH = "/proc/cpuinfo"
SPARE_DESCRIPTORS = 64  # of a server or wrk, beside its connections


def read_text(path: str) -> str:
    """Of the kernel, which tells names of processes as their owners gave them, of any bytes."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def parse_cpu_list(text: str) -> list[int]:
    """`0-2,8` → [0, 1, 2, 8], the format of /sys/devices/system/cpu; ValueError for any other."""
    cpus: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        numbers = range(int(first), int(last or first) + 1)
        if not numbers:
            raise ValueError(f"{part!r} ends before it begins")
        cpus += numbers
    return cpus


def format_cpu_list(cpus: Collection[int]) -> str:
    """[8, 0, 1, 2] → `0-2,8`."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and cpu == runs[-1][-1] + 1:
            runs[-1].append(cpu)
        else:
            runs.append([cpu])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


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


def wall_clock_ahead_s() -> float:
    """By how much the wall clock is ahead of the monotonic one, which nobody can set: the quickest of 5 readings."""
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


def take_lock(lock: int, wait: bool) -> bool:
    """Take the machine's lock for oneself; false if another has it and there is no waiting."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def lock_holder(descriptor: int) -> str:
    """Who has a file locked (flock), as far as this user may know, in words."""
    file = os.fstat(descriptor)
    wanted = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    pids = [
        fields[-4]
        for fields in map(str.split, read_text("/proc/locks").splitlines())
        if fields[1] == "FLOCK" and fields[-3] == wanted and int(fields[-4]) > 0
    ]
    return " and ".join(describe_process(pid) for pid in pids) or "of another container or user"


def describe_process(pid: str) -> str:
    """`process 1234 of alice in /home/alice/checkout`."""
    import pwd  # noqa: PLC0415  only for who has to wait

    said = f"process {pid}"
    with contextlib.suppress(OSError, KeyError):
        said += f" of {pwd.getpwuid(os.stat(f'/proc/{pid}').st_uid).pw_name}"
        said += f" in {os.readlink(f'/proc/{pid}/cwd')}"
    return said


@contextlib.contextmanager
def opened_lock() -> Iterator[int]:
    lock = os.open(LOCK_PATH, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield lock
    finally:
        os.close(lock)


@contextlib.contextmanager
def exclusive_machine() -> Iterator[None]:
    """Hold the machine alone: no other cell runs on it meanwhile, and no compile or plot of any checkout."""
    with opened_lock() as lock:
        if not take_lock(lock, wait=False):
            print(f"waiting for this machine: {lock_holder(lock)} uses it", flush=True)
            take_lock(lock, wait=True)
        yield
