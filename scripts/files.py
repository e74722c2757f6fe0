"""Files that are whole or not there: a reader, a crash or a full disk meets the old one or the new one."""

import contextlib
import errno
import fcntl
import json
import os
import stat
from collections.abc import Collection, Iterator
from typing import Any

MADE_AGAIN = "delete it and run again"


class DamagedFile(ValueError):
    """A file does not hold what it should. As text: one line that names the file, with the advice, if there is any."""

    def __init__(self, fault: str, advice: str = "") -> None:
        super().__init__(fault, advice)
        self.fault = fault
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.fault}: {self.advice}" if self.advice else self.fault


def read_text(path: str) -> str:
    """Raises OSError, also for a pipe or a device, of which there may be no end, and ValueError if it is no text."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "not a regular file", path)
    with open(path, encoding="utf-8") as file:
        return file.read()


def read_json(path: str, keys: Collection[str] = ()) -> dict[str, Any]:
    """An object that has these keys, and may have others. Raises DamagedFile or OSError."""
    try:
        found = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path} is no JSON ({error}): {MADE_AGAIN}") from None
    if not isinstance(found, dict) or not found.keys() >= set(keys):
        raise DamagedFile(f"{path} is no object with {', '.join(keys)}: {MADE_AGAIN}")
    return found


def _locked(path: str) -> int:
    """A descriptor of a file that only this process has locked: who else would write it waits until it is in place."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        with contextlib.suppress(OSError):  # some file systems have no such lock
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)  # that one has been put in its place meanwhile


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
    """A path to write to, of the same suffix, which takes the place of `path` at the end. Raises OSError."""
    folder, name = os.path.split(path)
    os.makedirs(folder or ".", exist_ok=True)
    # Always the same: what a kill leaves of it, the next to write this file writes over.
    temporary = os.path.join(folder, f".part.{name}")
    lock = _locked(temporary)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename in (None, temporary):
            error.filename = path  # a full disk is not said to be one of which file
        raise
    finally:
        os.close(lock)


def write_text(path: str, text: str) -> None:
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
