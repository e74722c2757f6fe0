"""Servers that cannot start: after a few cells, the server's other cells in the same run fail without a try.

A failed start does not depend on the load, and may take its whole time limit, so a few tries are enough. The workflow
makes FOLDER when it begins and removes it at its end; without FOLDER no failure is noted.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator

from instruments import failed_build
from instruments.server_process import RunError

FOLDER = "results/.start_failures"  # a file for each server, a line for each failure since its last good start
MOST = 3


class NotStarted(RunError):
    """The server failed before any load."""


class NotTried(NotStarted):
    """The server failed to start in earlier cells of the run."""


def begin() -> None:
    end()
    os.makedirs(FOLDER)


def end() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)


@contextlib.contextmanager
def noted(binary: str) -> Iterator[None]:
    """Wrap a start: RunError becomes NotStarted. Raises NotStarted at once if the start is known to fail."""
    if reason := failed_build.reason_of(binary):
        raise NotStarted(reason)
    path = os.path.join(FOLDER, os.path.basename(binary))
    if len(failures := _read(path)) >= MOST:
        raise NotTried(failures[-1])
    try:
        yield
    except RunError as error:
        if os.path.isdir(FOLDER):
            with open(path, "a", encoding="utf-8") as file:
                file.write(f"{error}\n")
        raise NotStarted(str(error)) from None
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _read(path: str) -> list[str]:
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as file:
        return file.read().splitlines()
    return []
