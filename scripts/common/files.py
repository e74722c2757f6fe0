"""Files that are replaced as a whole: whatever happens, a reader finds the old file or the new one."""

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
    """Raises OSError, also for a pipe or a device, which may never end, and ValueError if it is not text."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "not a regular file", path)
    with open(path, encoding="utf-8") as file:
        return file.read()


def read_json(path: str, keys: Collection[str] = ()) -> dict[str, Any]:
    """Read an object that has at least these keys. Raises DamagedFile or OSError."""
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path} is not JSON ({error})", MADE_AGAIN) from None
    if not isinstance(content, dict) or not content.keys() >= set(keys):
        raise DamagedFile(f"{path} is not an object with {', '.join(keys)}", MADE_AGAIN)
    return content


def _lock(path: str) -> int:
    """Lock a file for this process alone and return its descriptor. Other writers wait until the file is in place."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        with contextlib.suppress(OSError):  # some file systems have no such lock
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)  # another process has moved that file into place meanwhile


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
    """A path to write to, with the same suffix. At the end that file replaces `path`. Raises OSError."""
    folder, name = os.path.split(path)
    os.makedirs(folder or ".", exist_ok=True)
    # Always the same name: the next writer overwrites what a kill left.
    temporary = os.path.join(folder, f".part.{name}")
    lock = _lock(temporary)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename in (None, temporary):
            error.filename = path  # the error of a full disk names no file
        raise
    finally:
        os.close(lock)


def write_text(path: str, text: str) -> None:
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
