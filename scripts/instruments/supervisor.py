"""Start a server, adopt all processes that it leaves behind, and end all of them, whatever happens to the parent.

    python3 -IS supervisor.py PARENT COMMAND...

A separate process that survives a harness that is killed. It passes SIGTERM on to the server. SIGHUP, which the kernel
sends when PARENT has died, kills all processes. It ends as the server ended, when no process is left. It imports
nothing of ours and little else, since it starts once per cell.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
STOP, KILL = signal.SIGTERM, signal.SIGHUP
GROUP_NAME = "server_under_test_{pid}"


def group_folder(pid: int | str) -> str | None:
    """The folder of a process's cgroup (version 2), if its hierarchy is mounted here."""
    try:
        with open(f"/proc/{pid}/cgroup") as file:
            (path,) = (line[3:].rstrip("\n") for line in file if line.startswith("0::"))
        with open("/proc/self/mountinfo") as file:
            mounts = [line.split() for line in file if " - cgroup2 " in line]
    except (OSError, ValueError):
        return None
    for _, _, _, root, folder, *_ in mounts:
        if os.path.commonpath([root, path]) == root:
            return os.path.normpath(os.path.join(folder, os.path.relpath(path, root)))
    return None


def server_group(supervisor: int) -> str | None:
    """The folder of the cgroup that a supervisor has made for its server, if it could."""
    folder = group_folder(supervisor)
    made = GROUP_NAME.format(pid=supervisor)
    return folder if folder and os.path.basename(folder) == made else None


def enter_group() -> str | None:
    """Make a cgroup for later processes, if that is allowed: it counts CPU time of processes that have ended."""
    parent = group_folder("self")
    if parent is None:
        return None
    folder = os.path.join(parent, GROUP_NAME.format(pid=os.getpid()))
    try:
        os.mkdir(folder)
        join_group(folder)
    except OSError:
        with contextlib.suppress(OSError):
            os.rmdir(folder)
        return None
    return folder


def join_group(folder: str) -> None:
    with open(f"{folder}/cgroup.procs", "w") as file:
        file.write(str(os.getpid()))


def leave_group(folder: str | None) -> None:
    if folder:
        with contextlib.suppress(OSError):
            join_group(os.path.dirname(folder))
            os.rmdir(folder)


def children_of(pid: int) -> list[int]:
    children: list[int] = []
    with contextlib.suppress(OSError):  # it has ended
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/children") as file:
                children += map(int, file.read().split())
    return children


def descendants_of(pid: int) -> list[int]:
    """All descendants, parents before their children."""
    pids = children_of(pid)
    for child in pids:  # the list grows meanwhile
        pids += children_of(child)
    return pids


def send(pid: int, number: int) -> bool:
    """Send a signal; false if that is not allowed, as for a setuid program."""
    with contextlib.suppress(ProcessLookupError):
        try:
            os.kill(pid, number)
        except PermissionError:
            return False
    return True


class Supervisor:
    def __init__(self, server: int) -> None:
        self.server = server
        self.status: int | None = None  # of the server's first process
        self.asked: set[int] | None = None  # processes that got SIGTERM and have not ended

    def reap(self, wait: bool = False) -> bool:
        """Note which children have ended; with `wait`, first wait for one. False if no child is left."""
        try:
            pid, status = os.waitpid(-1, 0 if wait else os.WNOHANG)
            while pid:
                self.note(pid, status)
                pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        return True

    def note(self, pid: int, status: int) -> None:
        if pid == self.server:
            self.status = status
        if self.asked:
            self.asked.discard(pid)

    def living(self, list_pids: Callable[[int], list[int]]) -> set[int]:
        """Living processes; at least the server, even if the kernel does not list children (CONFIG_PROC_CHILDREN)."""
        return {*list_pids(os.getpid()), *([self.server] if self.status is None else [])}

    def stop(self) -> None:
        """Ask the server, and the processes that it has left behind, to end."""
        self.asked = set(self.living(children_of))
        for pid in self.asked:
            send(pid, STOP)

    def kill(self) -> None:
        """Kill all processes, also those forked meanwhile: orphans become children of this process."""
        while True:
            killed = [send(pid, signal.SIGKILL) for pid in self.living(descendants_of)]
            if (killed and not any(killed)) or not self.reap(wait=True):
                return

    def is_over(self) -> bool:
        """Whether the server has failed, or has ended when asked to. If it ended well unasked, it may go on in the
        background."""
        return bool(self.status) or self.asked == set()

    def wait(self) -> None:
        while self.reap():
            number = None if self.is_over() else signal.sigwait({signal.SIGCHLD, STOP, KILL})
            if number in (None, KILL):
                self.kill()
                return
            if number == STOP:
                self.stop()


def prctl(option: int, value: int) -> None:
    import ctypes  # noqa: PLC0415  modules that import this one do not need it

    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def become_server(supervisor: int, command: list[str]) -> NoReturn:
    os.setsid()  # signals of the server to its process group must not reach the supervisor
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:
        os._exit(1)
    # Reset signals as a shell does: Python ignores some, and exec would keep that.
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        os._exit(127)


def end_as(status: int) -> NoReturn:
    """End this process as the server ended, for the process that started this."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        import resource  # noqa: PLC0415  rarely needed

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        os.kill(os.getpid(), -code)
    os._exit(code)


def main() -> NoReturn:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, STOP, KILL})
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, KILL)
    if os.getppid() != parent:  # the parent has died before
        os._exit(1)
    group = enter_group()
    own = os.getpid()
    server = os.fork()
    if server == 0:
        become_server(own, command)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # readers of the server's output must not wait for this process
        os.dup2(nothing, descriptor)
    supervisor = Supervisor(server)
    supervisor.wait()
    leave_group(group)
    end_as(supervisor.status or 0)


if __name__ == "__main__":
    main()
