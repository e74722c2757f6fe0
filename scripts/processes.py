"""Processes that a run starts: each leads a group of its own, dies with this script, and is ended with its children."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence

Process = subprocess.Popen[str]
LONGEST_LINE = 1000
NOT_FOUND = 127  # setpriv's status, and a shell's, for a program that is not there

# Before a command: it dies with its parent, whose process id comes first, also if that was killed before this line.
LEASH = ("setpriv", "--pdeathsig", "KILL", "sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"')


def leashed(command: Sequence[str]) -> list[str]:
    """A command that dies with this process."""
    return [*LEASH, str(os.getpid()), *command]


@contextlib.contextmanager
def started(
    command: Sequence[str],
    end: Callable[[Process], None],
    pass_fds: Sequence[int] = (),
    stdin: int = subprocess.DEVNULL,
) -> Iterator[Process]:
    """Start a command, with pipes for its output; at the end, end() is called and the process waited for."""
    process = subprocess.Popen(
        command,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        pass_fds=pass_fds,
        start_new_session=True,  # Ctrl-C comes to this script alone, which ends the rest in its order
    )
    try:
        yield process
    finally:
        end(process)
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def running(
    command: Sequence[str], pass_fds: Sequence[int] = (), stdin: int = subprocess.DEVNULL
) -> contextlib.AbstractContextManager[Process]:
    """Start a command, with pipes for its output; nothing of it is left afterwards."""
    return started(leashed(command), kill_group, pass_fds, stdin)


def kill_group(process: Process) -> None:
    """End what is left of the process and of its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def one_line(text: str) -> str:
    """What a process said, fit for a message of one line, and cut if it is long."""
    lines = " / ".join(text[: 2 * LONGEST_LINE].strip().splitlines())
    line = "".join(letter if letter.isprintable() else " " for letter in lines)
    return line if len(line) <= LONGEST_LINE else line[: LONGEST_LINE - 1] + "…"


LOADER = "error while loading shared libraries"  # which ends with the same status


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most of the real-time ones
        return f"signal {number}"


def describe_status(code: int, said: str) -> str:
    """How a process ended, in one line with what it said."""
    how = f"status {code}" if code >= 0 else _name_of(-code)
    if code == NOT_FOUND and LOADER not in said:
        how = "not installed, see make setup: " + how
    return f"{how} ({one_line(said)})" if said.strip() else how
