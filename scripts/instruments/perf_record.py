"""Run perf record where the server runs: folded stacks of a time under load, and counts to check them."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.processes import Process, one_line, running
from hosts.cpus import format_cpu_list
from hosts.perf_permission import CAP_PERFMON, CAP_SYS_ADMIN, PerfObstacle, permission_obstacle
from instruments import perf_stat, server_process

STACK_BYTES = 8192  # dwarf unwinding: 4096 is too small
DATA = "perf.data"
BUFFER_PAGES = 1024  # perf's buffer for each CPU: room for a second of samples that nobody fetches


def _sysctl(name: str) -> int:
    return int(Path("/proc/sys", *name.split(".")).read_text())


def _capabilities() -> int:
    status = Path("/proc/self/status").read_text()
    match = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return int(match[1], 16) if match else 0


def stackcollapse_script() -> str:
    """perf's own folding script. Raises PerfObstacle if this machine lacks perf or the script."""
    if shutil.which("perf") is None:
        raise PerfObstacle("unavailable", "perf is not installed: make setup names its package")
    run = subprocess.run(
        ["perf", "--exec-path"], check=False, capture_output=True, text=True, errors="replace"
    )
    script = Path(run.stdout.strip()) / "scripts/python/stackcollapse.py"
    if run.returncode != 0 or not script.exists():
        raise PerfObstacle("unavailable", "this perf has no scripts/python/stackcollapse.py")
    return str(script)


def check_here() -> str:
    """stackcollapse_script(), if this machine lets us profile. Raises PerfObstacle."""
    script = stackcollapse_script()
    obstacle = permission_obstacle(
        _capabilities(), _sysctl("kernel.perf_event_paranoid"), _sysctl("kernel.kptr_restrict")
    )
    if obstacle:
        raise PerfObstacle("not_permitted", str(obstacle))
    return script


def scope_of(
    capabilities: int, paranoid: int, cpus: Sequence[int], pids: Sequence[int]
) -> list[str]:
    """What perf samples: the server's CPUs where we may, since a timer for each task misses short bursts.

    A server with a thread per connection switches every 10 µs: timers by task took 70 % of the samples due, timers
    by CPU 96 %. Folding leaves out samples of other processes.
    """
    privileged = bool(capabilities >> CAP_PERFMON & 1 or capabilities >> CAP_SYS_ADMIN & 1)
    if not privileged and paranoid > 0:
        return ["--pid", ",".join(map(str, pids))]
    scope = ["--cpu", format_cpu_list(cpus)]
    return [*scope, f"--mmap-pages={BUFFER_PAGES}"] if privileged else scope


class Recording:
    """A running perf record, which samples only between enable and disable."""

    def __init__(self, process: Process, command: list[str], control: int, answers: int) -> None:
        self.process = process
        self.command = command
        self._control = control
        self._answers = answers

    def tell(self, command: str) -> None:
        """Give perf a command and wait until it is done. Raises PerfObstacle if perf has ended instead."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._control, f"{command}\n".encode())
        if said := perf_stat.wait_for_answer(self.process, self._answers):
            raise PerfObstacle("not_permitted", f"perf record failed: {one_line(said)[:300]}")

    def finish(self) -> None:
        self.process.send_signal(signal.SIGINT)
        _, error = self.process.communicate(timeout=perf_stat.PERF_TIMEOUT_S)
        if self.process.returncode not in (0, -signal.SIGINT, 128 + signal.SIGINT):
            raise server_process.RunError(f"perf record failed: {one_line(error)}")


@contextlib.contextmanager
def recording(
    scope: Sequence[str], frequency_hz: int, folder: str, keeps_vdso: bool
) -> Iterator[Recording]:
    """Start perf, which writes to this folder; it is ready when it answers the first command.

    keeps_vdso: copy the vDSO there, which takes a second more; without it the stacks of calls that read the clock are
    unknown.
    """
    control_read, control_write = os.pipe()
    answers_read, answers_write = os.pipe()
    command = ["perf", "--buildid-dir", folder, "record", "-q", *([] if keeps_vdso else ["-N"])]
    command += ["-e", "cpu-clock", "-F", str(frequency_hz)]
    command += ["--call-graph", f"dwarf,{STACK_BYTES}", *scope]
    command += ["-o", os.path.join(folder, DATA), "--delay=-1"]
    command += [f"--control=fd:{control_read},{answers_write}"]
    try:
        with running(command, pass_fds=[control_read, answers_write]) as process:
            os.close(control_read)
            os.close(answers_write)
            yield Recording(process, command, control_write, answers_read)
    finally:
        os.close(control_write)
        os.close(answers_read)


def read_recording(folder: str, what: str, *arguments: str) -> str:
    """What perf says of the recording in this folder. what: perf's command."""
    command = ["perf", "--buildid-dir", folder, what, "-i", os.path.join(folder, DATA), *arguments]
    run = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if run.returncode != 0:
        raise PerfObstacle("unavailable", f"perf {what} failed: {one_line(run.stderr)}")
    return run.stdout


def unreadable_path(pids: Sequence[int]) -> str | None:
    """The path of a program or library that perf cannot read: for perf a path in /proc/PID/maps ends at a byte beyond
    ASCII."""
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended
            for line in Path(f"/proc/{pid}/maps").read_bytes().splitlines():
                if not line.isascii():
                    return line.split(maxsplit=5)[5].decode(errors="replace")
    return None


def is_compiled(binary: str) -> bool:
    """Whether it is a program, not a script, which may start another program by a path relative to its own."""
    with open(binary, "rb") as file:
        return file.read(4) == b"\x7fELF"
