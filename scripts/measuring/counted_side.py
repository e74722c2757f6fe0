"""The server's side of a run that perf stat counts."""

import os
import signal

from common.processes import Process
from hosts.perf_permission import TRACEFS, PerfObstacle
from instruments.perf_stat import (
    ALL_CALLS,
    CALL_PREFIX,
    PERF_TIMEOUT_S,
    SOFTWARE_EVENTS,
    SYSTEM_CALLS,
    check_permission,
    counting,
    parse_counts,
    refusal,
    try_perf,
)
from measuring.server_side import ServerSide


class CountedSide(ServerSide):
    """A server, and perf that counts its events."""

    _perf: Process
    check_counting = staticmethod(check_permission)

    def events(self) -> list[str]:
        """The events to count on this machine. Raises PerfObstacle if perf knows no system calls here."""
        if not os.path.isdir(f"{TRACEFS}/events"):
            tried = try_perf(ALL_CALLS)  # which mounts it
            if tried.returncode != 0:
                raise PerfObstacle("unavailable", f"perf stat failed: {refusal(tried.stderr)}")
        known = [
            name
            for name in SYSTEM_CALLS
            if os.path.isdir(f"{TRACEFS}/events/syscalls/sys_enter_{name}")
        ]
        return [*SOFTWARE_EVENTS.values(), ALL_CALLS, *(f"{CALL_PREFIX}{name}" for name in known)]

    def start_counting(self, events: list[str]) -> None:
        self._events = events
        self._perf = self.run.enter_context(counting(self.server.pids, events))

    def finish_counting(self) -> dict[str, int]:
        """End perf and return the count of each event."""
        self._perf.send_signal(signal.SIGINT)
        return parse_counts(self._perf.communicate(timeout=PERF_TIMEOUT_S)[1], self._events)
