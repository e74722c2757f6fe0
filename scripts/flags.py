"""What can be wrong with a cell: each flag once, with what it means and whether the cell still counts."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Flag(NamedTuple):
    name: str
    invalidates: bool  # its figures are listed but never enter a summary (M27)
    meaning: str


ERRORS = Flag("errors", True, "wrk saw errors: of the socket, in the status, or a timeout")
NO_REQUESTS = Flag("no_requests", True, "not one request was answered")
UNSERVED = Flag("unserved_connections", False, "connections that never got a response")
MISSING = Flag("missing_connections", False, "fewer connections were established than asked for")
LEFTOVER = Flag(
    "leftover_connections",
    False,
    "the server kept connections of the warm-up open for 2 s after it",
)
CLIENT_SATURATED = Flag("client_saturated", False, "wrk had no CPU left: the server could do more")
SHARED_CPUS = Flag("shared_cpus", False, "server and load shared CPUs: there is one core only")

CLIENT_SATURATED_SHARE = 0.95


def flags_of(record: Mapping[str, Any]) -> list[Flag]:
    """The flags of a record that was measured, in the order above."""
    raised = {
        ERRORS: record["errors"] > 0,
        NO_REQUESTS: record["requests"] == 0,
        UNSERVED: record["unserved_connections"] > 0,
        MISSING: record["established_connections"] < record["connections"],
        LEFTOVER: record["leftover_connections"] > 0,
        CLIENT_SATURATED: record["client_cpu_share"] >= CLIENT_SATURATED_SHARE,
        SHARED_CPUS: record["cpus_shared"],
    }
    return [flag for flag, is_raised in raised.items() if is_raised]
