"""Run perf record where the server runs: folded stacks of a time under load, and counts to check them."""

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import machine
import profile_gates
import server_process
from perf_permission import CAP_PERFMON, CAP_SYS_ADMIN, PerfObstacle, permission_obstacle
from processes import Process, describe_status, one_line, running
from server_side import ServerSide

STACK_BYTES = 8192  # dwarf unwinding: 4096 is too small
BUFFER_PAGES = 1024  # perf's buffer for each CPU: room for a second of samples that nobody fetches
PERF_TIMEOUT_S = 60.0


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
    scope = ["--cpu", machine.format_cpu_list(cpus)]
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
        if not select.select([self._answers], [], [], PERF_TIMEOUT_S)[0]:
            raise server_process.RunError(f"perf did not answer within {PERF_TIMEOUT_S:g} s")
        if not os.read(self._answers, 16):
            error = one_line(self.process.communicate(timeout=PERF_TIMEOUT_S)[1])
            if self.process.returncode < 0:  # killed: the machine does permit perf
                how = describe_status(self.process.returncode, error)
                raise server_process.RunError(f"perf record ended: {how}")
            raise PerfObstacle("not_permitted", f"perf record failed: {error[:300]}")

    def finish(self) -> None:
        self.process.send_signal(signal.SIGINT)
        _, error = self.process.communicate(timeout=PERF_TIMEOUT_S)
        if self.process.returncode not in (0, -signal.SIGINT, 128 + signal.SIGINT):
            raise server_process.RunError(f"perf record failed: {one_line(error)}")


@contextlib.contextmanager
def recording(scope: Sequence[str], frequency_hz: int, output: str) -> Iterator[Recording]:
    """Start perf; it is ready when it answers the first command."""
    control_read, control_write = os.pipe()
    answers_read, answers_write = os.pipe()
    command = ["perf", "record", "-q", "-N", "-e", "cpu-clock", "-F", str(frequency_hz)]
    command += ["--call-graph", f"dwarf,{STACK_BYTES}", *scope, "-o", output, "--delay=-1"]
    command += [f"--control=fd:{control_read},{answers_write}"]
    try:
        with running(command, pass_fds=[control_read, answers_write]) as process:
            os.close(control_read)
            os.close(answers_write)
            yield Recording(process, command, control_write, answers_read)
    finally:
        os.close(control_write)
        os.close(answers_read)


def run_perf(*arguments: str) -> str:
    run = subprocess.run(
        ["perf", *arguments], capture_output=True, text=True, errors="replace", check=False
    )
    if run.returncode != 0:
        raise PerfObstacle("unavailable", f"perf {arguments[0]} failed: {one_line(run.stderr)}")
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


class ProfiledSide(ServerSide):
    """A server, and perf beside it."""

    _perf: Recording
    _come_and_go = False  # whether the server's processes do

    def start_server(self, binary: str, **options: Any) -> dict[str, Any]:
        """Start the server, from a copy elsewhere if perf could not read its path."""
        if not binary.isascii() and is_compiled(binary):
            folder = tempfile.TemporaryDirectory(prefix="profile_")
            binary = shutil.copy(binary, self.run.enter_context(folder))
        return super().start_server(binary, **options)

    def check_profiling(self) -> None:
        """Raises PerfObstacle if this machine does not let us."""
        self._script = check_here()

    def start_perf(self, frequency_hz: int) -> list[str]:
        """Start perf, which takes about a second and samples nothing yet. Returns its command."""
        scope = scope_of(
            _capabilities(),
            _sysctl("kernel.perf_event_paranoid"),
            self._cpus,
            self.server.pids,
        )
        folder = self.run.enter_context(tempfile.TemporaryDirectory(prefix="profile_"))
        self._data = os.path.join(folder, "perf.data")
        self._perf = self.run.enter_context(recording(scope, frequency_hz, self._data))
        return self._perf.command

    def sample(self, duration_s: float) -> dict[str, Any]:
        """Sample for some time. Returns `server_pids`, `server_cpu_s` that they used, and the `unreadable_path`."""
        self._perf.tell("enable")
        before = self.read_cpu()
        time.sleep(duration_s)
        after = self.read_cpu()
        self._perf.tell("disable")
        self._come_and_go = before.pids != after.pids
        cpu_ns = machine.cpu_time_between(before, after)
        return {
            "server_pids": sorted({*before.pids, *after.pids}),
            "server_cpu_s": None if cpu_ns is None else cpu_ns / 1e9,
            "unreadable_path": unreadable_path(after.pids),
        }

    def finish_perf(self) -> None:
        self._perf.finish()

    def fold(self, pids: list[int]) -> dict[str, Any]:
        """What perf saw of these processes: `folded` stacks, and counts that must agree."""
        if self._come_and_go:
            tasks = ["--show-task-events", "-F", "comm,pid,tid"]
            pids = profile_gates.add_forked(pids, run_perf("script", *tasks, "-i", self._data))
        source = ["-i", self._data, "--pid", ",".join(map(str, pids))]
        stats = run_perf("report", "--stats", "-i", self._data)
        report = ["report", "--no-children", "-g", "none", "-F", "sample,pid,sym", "--stdio"]
        return {
            "folded": run_perf(
                "script", "--no-inline", *source, "-s", self._script, "--", "--kernel"
            ),
            "events": profile_gates.parse_event_counts(stats),
            "reported": profile_gates.parse_self_counts(run_perf(*report, *source)),
        }
