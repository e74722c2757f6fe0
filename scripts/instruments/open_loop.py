"""The open-loop load generator of load/: run it, and read the line that it prints (docs/load.md).

It sends each request at a time that was drawn before, so its latencies include the wait of a request that the server,
or a busy connection, holds up.
"""

import json
import os
import subprocess
from collections.abc import Sequence
from typing import Any

from common.processes import NOT_FOUND, describe_status, running
from instruments import failed_build
from instruments.wrk import LoadError

ANSWER_TIMEOUT_S = 1.0
END_TIMEOUT_S = 30.0
CANNOT_LOAD = 1  # its status if it cannot connect, or gets no answer at all


def command_of(
    binary: str,
    urls: Sequence[str],
    *,
    connections: int,
    threads: int,
    rate_per_second: float,
    duration_s: float,
    seed: int,
    body_bytes: int,
    timeout_s: float = ANSWER_TIMEOUT_S,
) -> list[str]:
    """One URL, or two that get requests in turns, slice by slice. timeout_s: the longest wait for an answer."""
    command = [binary, *(word for url in urls for word in ("--url", url))]
    options = {
        "--connections": connections,
        "--threads": threads,
        "--rate": f"{rate_per_second:.9g}",
        "--duration-s": f"{duration_s:g}",
        "--seed": seed,
        "--body-bytes": body_bytes,
        "--timeout-s": f"{timeout_s:g}",
    }
    return [*command, *(str(word) for option in options.items() for word in option)]


def run(command: Sequence[str], duration_s: float) -> dict[str, Any]:
    """What it printed. Raises LoadError if it could not load the server, OSError for faults that are not a server's."""
    if reason := failed_build.reason_of(command[0]):
        raise OSError(f"the load generator {os.path.basename(command[0])}: {reason}")
    with running(command) as process:
        try:
            output, errors = process.communicate(timeout=duration_s + END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise OSError(f"the load generator did not end within {END_TIMEOUT_S:g} s") from None
    if process.returncode == NOT_FOUND:
        raise OSError(f"there is no load generator {command[0]}")
    if process.returncode != 0:
        said = describe_status(process.returncode, errors)
        kind = LoadError if process.returncode == CANNOT_LOAD else OSError
        raise kind(f"the load generator failed: {said}")
    try:
        return dict(json.loads(output))
    except ValueError:
        raise OSError(f"the load generator printed no JSON, but {output[:80]!r}") from None
