"""Start processes for a run: each leads its own group, dies with this script, and is ended with its children."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence

Process = subprocess.Popen[str]
LONGEST_LINE = 1000
NOT_FOUND = 127  # the status of setpriv and of shells for a missing program

# A prefix for a command that makes it die with its parent, even if that dies before this line; $0 is the parent's pid.
LEASH = ("setpriv", "--pdeathsig", "KILL", "sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"')


def leash(command: Sequence[str]) -> list[str]:
    """Make a command die with this process."""
    return [*LEASH, str(os.getpid()), *command]


@contextlib.contextmanager
def started(
    command: Sequence[str],
    end: Callable[[Process], None],
    pass_fds: Sequence[int] = (),
    stdin: int = subprocess.DEVNULL,
) -> Iterator[Process]:
    """Start a command with pipes for its output; at the end, call end() and wait for the process."""
    process = subprocess.Popen(
        command,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        pass_fds=pass_fds,
        start_new_session=True,  # only this script gets Ctrl-C; it ends the rest in order
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
    """Start a command with pipes for its output; afterwards nothing of it is left."""
    return started(leash(command), kill_group, pass_fds, stdin)


def kill_group(process: Process) -> None:
    """Kill the process and its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def one_line(text: str) -> str:
    """Make a process's output fit for a message of one line; cut it if it is long."""
    lines = " / ".join(text[: 2 * LONGEST_LINE].strip().splitlines())
    line = "".join(letter if letter.isprintable() else " " for letter in lines)
    return line if len(line) <= LONGEST_LINE else line[: LONGEST_LINE - 1] + "…"


LOADER = "error while loading shared libraries"  # the loader's status for this is the same


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most of the real-time ones
        return f"signal {number}"


def describe_status(code: int, said: str) -> str:
    """Describe in one line how a process ended, with its output."""
    how = f"status {code}" if code >= 0 else _name_of(-code)
    if code == NOT_FOUND and LOADER not in said:
        how = "not installed, see make setup: " + how
    return f"{how} ({one_line(said)})" if said.strip() else how
