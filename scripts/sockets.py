"""What the kernel knows of a server's connections, which the load generator cannot see (M10, M12)."""

import re
import subprocess
import time
from collections.abc import Sequence

_SENT = re.compile(r"\bbytes_sent:(\d+)")


def _ss(options: str, port: int, *states: str) -> list[str]:
    """Lines of `ss`, one a connection of the server on this port in one of the states; OSError if ss fails."""
    command = ["ss", options, *(word for state in states for word in ("state", state))]
    command.append(f"sport = :{port}")
    try:
        run = subprocess.run(command, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        raise OSError("ss is not installed, see make setup") from None
    if run.returncode != 0:
        raise OSError(f"ss failed: {' '.join(run.stderr.split())}")
    return [line for line in run.stdout.splitlines() if line.strip()]


def parse_bytes_sent(lines: Sequence[str]) -> list[int]:
    """Bytes sent on each connection, from lines of `ss -i`: a connection that sent none has no such field.

    Raises OSError if the kernel tells nothing of its connections, which must not pass for nothing sent.
    """
    if not all("cwnd:" in line for line in lines):
        raise OSError("ss tells nothing about connections: is the kernel's tcp_diag missing?")
    return [int(match[1]) if (match := _SENT.search(line)) else 0 for line in lines]


def read_bytes_sent(port: int) -> list[int]:
    """Bytes that the server on this port has sent on each of its established connections.

    A connection that waits to be accepted is one of them: the client sees it as connected.
    """
    return parse_bytes_sent(_ss("-tinHO", port, "established"))


def wait_until_closed(port: int, timeout_s: float) -> int:
    """Wait until the server has closed the connections of clients that are gone; how many are left at the end."""
    deadline_s = time.monotonic() + timeout_s
    while (left := len(_ss("-tnHO", port, "established", "close-wait"))) > 0:
        if time.monotonic() > deadline_s:
            break
        time.sleep(0.01)
    return left


def fairness_jain(shares: Sequence[float]) -> float:
    """Jain's index over shares: 1 if all are equal, 1/n if one of n has all; 0 if there is nothing to share.

    Jain, Chiu, Hawe: A quantitative measure of fairness (DEC-TR-301, 1984).
    """
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 0.0
