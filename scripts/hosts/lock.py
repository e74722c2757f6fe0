"""The lock that allows one measurement at a time on a machine."""

import contextlib
import fcntl
import os
from collections.abc import Iterator

from hosts.proc import read_text

# All users and checkouts of a machine lock this file (docs/method.md, "One cell at a time"). It belongs to root, all
# can read it, nobody removes it, and it is the same in all network namespaces, whose /sys differ.
LOCK_PATH = "/proc/cpuinfo"


def take_lock(lock: int, wait: bool) -> bool:
    """Lock an opened file; false if another process has it and `wait` is false."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def lock_holder(descriptor: int) -> str:
    """Describe the processes that have locked a file (flock), as far as this user may see them."""
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
    import pwd  # noqa: PLC0415  only processes that wait need it

    said = f"process {pid}"
    with contextlib.suppress(OSError, KeyError):
        said += f" of {pwd.getpwuid(os.stat(f'/proc/{pid}').st_uid).pw_name}"
        said += f" in {os.readlink(f'/proc/{pid}/cwd')}"
    return said


@contextlib.contextmanager
def opened_lock(path: str | None = None) -> Iterator[int]:
    lock = os.open(path or LOCK_PATH, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield lock
    finally:
        os.close(lock)


@contextlib.contextmanager
def exclusive_machine() -> Iterator[None]:
    """Hold the machine's lock: meanwhile no other cell, compile or plot of any checkout runs on it."""
    with opened_lock() as lock:
        if not take_lock(lock, wait=False):
            print(f"waiting for this machine: {lock_holder(lock)} uses it", flush=True)
            take_lock(lock, wait=True)
        yield
