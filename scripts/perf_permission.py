"""What this user may not let perf see, and the command that mends it; why there is no profile or count."""

import os
from collections.abc import Callable

TRACEFS = "/sys/kernel/tracing"
CAP_SYS_ADMIN, CAP_SYSLOG, CAP_PERFMON = 21, 34, 38


class PerfObstacle(Exception):
    """No profile or counts, and why: a `status` of the result, and its reason."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status

    def __str__(self) -> str:
        return str(self.args[1])


# What a picture says of a status, before the reason.
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


def permission_obstacle(capabilities: int, paranoid: int, kptr_restrict: int) -> str | None:
    """Why perf would silently lose kernel frames or their names, and the command that mends it; or None."""

    def has(capability: int) -> bool:
        return bool(capabilities >> capability & 1)

    if paranoid > 1 and not (has(CAP_PERFMON) or has(CAP_SYS_ADMIN)):
        return f"kernel.perf_event_paranoid is {paranoid}: sudo sysctl kernel.perf_event_paranoid=1"
    if kptr_restrict == 2 or (kptr_restrict == 1 and not has(CAP_SYSLOG)):
        return f"kernel.kptr_restrict is {kptr_restrict}: sudo sysctl kernel.kptr_restrict=0"
    return None


def tracefs_obstacle(root: str = "/") -> str:
    """What keeps this user from naming system calls to perf; empty if nothing does. (For root perf mounts tracefs.)"""
    tracefs = os.path.join(root, TRACEFS[1:])
    if os.geteuid() == 0 or os.access(f"{tracefs}/events/raw_syscalls/sys_enter/id", os.R_OK):
        return ""
    # Not mode=755 alone, at which perf hints: newer kernels let none but the group read what is below.
    rights = f"mode=750,gid={os.getgid()}"
    how = f"-o remount,{rights}" if os.path.ismount(tracefs) else f"-t tracefs -o {rights} tracefs"
    return f"{TRACEFS} is not readable: sudo mount {how} {TRACEFS}"
