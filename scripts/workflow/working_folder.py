"""Allow one run of the workflow at a time in a folder, and remove the locks of a run that is dead.

Snakemake's own lock is a list of files, which outlives the process that wrote it. A run of the workflow therefore also
holds a kernel lock, which ends with the process, and writes down which machine it is on.
"""

import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterable
from typing import Any

from hosts import lock, proc

HOLDER = ".snakemake/holder.json"
SNAKEMAKE_LOCKS = ".snakemake/locks"
# Errors of file systems without such a lock: there, Snakemake's own must do.
NO_FLOCK = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}


class FolderInUse(Exception):
    """Another run works in the folder; the text is one line for the user."""


def identity() -> dict[str, str]:
    """Identify this machine and its running kernel; empty strings for what is not known."""
    values = {"host": os.uname().nodename}
    for name, path in (("machine", "/etc/machine-id"), ("boot", "/proc/sys/kernel/random/boot_id")):
        try:
            values[name] = proc.read_text(path).strip()
        except OSError:
            values[name] = ""
    return values


def ended_here(holder: Any, here: dict[str, str]) -> bool:
    """Whether the holder, which has no lock any more, is certainly dead: locks of other machines may be invisible."""
    if not isinstance(holder, dict) or not holder.get("jobs_end_with_it"):
        return False
    is_same_kernel = here["boot"] != "" and holder.get("boot") == here["boot"]
    # The machine has booted since. Machines made from one image share the id, but not the name.
    is_same_machine = here["machine"] != "" and all(
        holder.get(key) == here[key] for key in ("machine", "host")
    )
    return is_same_kernel or is_same_machine


def check_writable(folders: Iterable[str]) -> None:
    """Raises OSError if a folder exists and this user may not write to it."""
    for folder in folders:
        if os.path.exists(folder) and not os.access(folder, os.W_OK):
            raise OSError(f"{folder}/ is not writable")


def bring_back(folders: Iterable[str]) -> None:
    """Set file times in the future to now, keeping their order, so that new files are newer. Raises OSError.

    Such times occur if the clock was set back, or if the files come from a machine whose clock is ahead.
    """
    now_ns = time.time_ns()
    paths = [
        os.path.join(at, name) for top in folders for at, _, files in os.walk(top) for name in files
    ]
    ahead = sorted((os.lstat(path).st_mtime_ns, path) for path in paths)
    ahead = [one for one in ahead if one[0] > now_ns]
    for place, (_, path) in enumerate(ahead):
        time_ns = now_ns - (len(ahead) - place) * 1000
        os.utime(path, ns=(time_ns, time_ns), follow_symlinks=False)


def hold(jobs_end_with_it: bool) -> None:
    """Lock the working directory until this process ends. Raises FolderInUse or OSError.

    jobs_end_with_it: whether no job of this process outlives it, as on a cluster.
    """
    os.makedirs(os.path.dirname(HOLDER), exist_ok=True)
    descriptor = os.open(HOLDER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        who = lock.lock_holder(descriptor)
        os.close(descriptor)
        raise FolderInUse(
            f"another run of the workflow uses it ({who}): wait until it has ended, or choose another --directory"
        ) from None
    except OSError as error:
        os.close(descriptor)
        if error.errno in NO_FLOCK:
            return
        raise
    here = identity()
    if ended_here(_read(descriptor), here):
        shutil.rmtree(SNAKEMAKE_LOCKS, ignore_errors=True)
    if os.path.exists(SNAKEMAKE_LOCKS):
        return  # the file goes on naming their owner until somebody has unlocked
    os.ftruncate(descriptor, 0)
    holder = json.dumps({**here, "jobs_end_with_it": jobs_end_with_it})
    os.pwrite(descriptor, f"{holder}\n".encode(), 0)


def _read(descriptor: int) -> Any:
    try:
        return json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return None
