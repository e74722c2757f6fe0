"""The server's side of a run that perf record samples."""

import functools
import shutil
import tempfile
import time
from typing import Any

from hosts import proc
from instruments import profile_gates
from instruments.perf_record import (
    Recording,
    _capabilities,
    _sysctl,
    check_here,
    is_compiled,
    read_recording,
    recording,
    scope_of,
    unreadable_path,
)
from measuring.server_side import ServerSide


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

    def start_perf(self, frequency_hz: int, keeps_vdso: bool) -> list[str]:
        """Start perf, which takes about a second and samples nothing yet. Returns its command.

        keeps_vdso: as of perf_record.recording().
        """
        scope = scope_of(
            _capabilities(),
            _sysctl("kernel.perf_event_paranoid"),
            self._cpus,
            self.server.pids,
        )
        self._folder = self.run.enter_context(tempfile.TemporaryDirectory(prefix="profile_"))
        self._perf = self.run.enter_context(
            recording(scope, frequency_hz, self._folder, keeps_vdso)
        )
        return self._perf.command

    def sample(self, duration_s: float) -> dict[str, Any]:
        """Sample for some time. Returns `server_pids`, `server_cpu_s` that they used, and the `unreadable_path`."""
        self._perf.tell("enable")
        before = self.read_cpu()
        time.sleep(duration_s)
        after = self.read_cpu()
        self._perf.tell("disable")
        self._come_and_go = before.pids != after.pids
        cpu_ns = proc.cpu_time_between(before, after)
        return {
            "server_pids": sorted({*before.pids, *after.pids}),
            "server_cpu_s": None if cpu_ns is None else cpu_ns / 1e9,
            "unreadable_path": unreadable_path(after.pids),
        }

    def finish_perf(self) -> None:
        self._perf.finish()

    def fold(self, pids: list[int]) -> dict[str, Any]:
        """What perf saw of these processes: `folded` stacks, and counts that must agree."""
        read = functools.partial(read_recording, self._folder)
        if self._come_and_go:
            tasks = read("script", "--show-task-events", "-F", "comm,pid,tid")
            pids = profile_gates.add_forked(pids, tasks)
        of_server = ["--pid", ",".join(map(str, pids))]
        report = ["--no-children", "-g", "none", "-F", "sample,pid,sym", "--stdio"]
        return {
            "folded": read(
                "script", "--no-inline", *of_server, "-s", self._script, "--", "--kernel"
            ),
            "events": profile_gates.parse_event_counts(read("report", "--stats")),
            "reported": profile_gates.parse_self_counts(read("report", *report, *of_server)),
        }
