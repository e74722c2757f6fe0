"""What keeps perf from profiling and counting here, and the commands that fix it."""

import os
from collections.abc import Callable
from typing import NamedTuple

TRACEFS = "/sys/kernel/tracing"
CAP_SYS_ADMIN, CAP_SYSLOG, CAP_PERFMON = 21, 34, 38


class Obstacle(NamedTuple):
    """What keeps perf from its work, and the command that fixes it (empty if there is none)."""

    reason: str
    command: str = ""

    def __str__(self) -> str:
        return f"{self.reason}: {self.command}" if self.command else self.reason


class PerfObstacle(Exception):
    """There is no profile or count: the `status` of the result, and its reason."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status

    def __str__(self) -> str:
        return str(self.args[1])


# What a picture says about a status, before the reason.
TITLES = {
    "not_permitted": "not permitted",
    "unavailable": "not available",
    "invalid": "not published",
    "failed": "failed",
}


def obstacle_of(check: Callable[[], object]) -> str:
    """Why a check raises PerfObstacle; empty if it does not."""
    try:
        check()
    except PerfObstacle as obstacle:
        return str(obstacle)
    return ""


def permission_obstacle(capabilities: int, paranoid: int, kptr_restrict: int) -> Obstacle | None:
    """Why perf would silently lose kernel frames or their names."""

    def has(capability: int) -> bool:
        return bool(capabilities >> capability & 1)

    if paranoid > 1 and not (has(CAP_PERFMON) or has(CAP_SYS_ADMIN)):
        command = "sudo sysctl kernel.perf_event_paranoid=1"
        return Obstacle(f"kernel.perf_event_paranoid is {paranoid}", command)
    if kptr_restrict == 2 or (kptr_restrict == 1 and not has(CAP_SYSLOG)):
        command = "sudo sysctl kernel.kptr_restrict=0"
        return Obstacle(f"kernel.kptr_restrict is {kptr_restrict}", command)
    return None


def tracefs_obstacle(root: str = "/") -> Obstacle | None:
    """What keeps this user from naming system calls to perf. (For root, perf mounts tracefs.)"""
    tracefs = os.path.join(root, TRACEFS[1:])
    if os.geteuid() == 0 or os.access(f"{tracefs}/events/raw_syscalls/sys_enter/id", os.R_OK):
        return None
    # perf suggests mode=755, which is not enough: newer kernels let only the group read what is below.
    rights = f"mode=750,gid={os.getgid()}"
    how = f"-o remount,{rights}" if os.path.ismount(tracefs) else f"-t tracefs -o {rights} tracefs"
    return Obstacle(f"{TRACEFS} is not readable", f"sudo mount {how} {TRACEFS}")
