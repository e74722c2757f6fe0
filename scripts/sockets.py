"""What the kernel knows of a server's connections, which the load generator cannot see (M10, M12)."""

import re
import subprocess
from collections.abc import Sequence

_SENT = re.compile(r"\bbytes_sent:(\d+)")


def parse_bytes_sent(text: str) -> list[int]:
    """Bytes sent on each connection, from `ss -tinHO`: a line each; a connection that sent none has no field."""
    return [
        int(match[1]) if (match := _SENT.search(line)) else 0
        for line in text.splitlines()
        if line.strip()
    ]


def read_bytes_sent(port: int) -> list[int]:
    """Bytes that the server on this port has sent on each of its established connections.

    A connection that waits to be accepted is one of them: the client sees it as connected.
    """
    command = ["ss", "-tinHO", "state", "established", f"sport = :{port}"]
    return parse_bytes_sent(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout
    )


def fairness_jain(shares: Sequence[float]) -> float:
    """Jain's index over shares: 1 if all are equal, 1/n if one of n has all; 0 if there is nothing to share.

    Jain, Chiu, Hawe: A quantitative measure of fairness (DEC-TR-301, 1984).
    """
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 0.0
