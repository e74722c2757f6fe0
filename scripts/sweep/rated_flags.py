"""What can be wrong with a measurement at a rate, and its status. docs/latency.md has the same list."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sweep import flags

Record = Mapping[str, Any]

# Of the offered rate: below, the server cannot take it.
ACHIEVED_SHARE = 0.99
# The generator's own lateness at the 99th percentile must be at most the larger of these.
LATENESS_US = 50.0
LATENESS_SHARE = (
    0.1  # of the latency at the 99th percentile, which overload makes as long as the run:
)
MOST_LATENESS_US = 1000.0  # in any case
# Of the run: a thread of a server that waits longer for its CPU has a tail that other work made. Of 29 runs of 0.5 s,
# the 99th percentile was 70 to 410 µs below 0.007, and above 0.0095 mostly 650 to 4,100 µs.
WAIT_SHARE = 0.008


class Flag(NamedTuple):
    name: str
    meaning: str
    is_raised: Callable[[Record], bool]
    invalidates: bool = False


def is_late(record: Record) -> bool:
    """False where nothing was sent."""
    most_us = max(LATENESS_US, LATENESS_SHARE * (record["latency_p99_us"] or 0.0))
    return (record["generator_lateness_p99_us"] or 0.0) > min(most_us, MOST_LATENESS_US)


def falls_behind(record: Record) -> bool:
    """Whether too few of the requests that were due had an answer at the end of the run.

    Some are under way then in any case: those that came within the shortest latency of the run (a handler that waits,
    or a long way), and by chance a few more.
    """
    due, answered = (
        record[f"{name}_per_second"] * record["duration_s"] for name in ("offered", "achieved")
    )
    under_way = record["offered_per_second"] * (record["latency_min_us"] or 0.0) / 1e6
    return bool(answered < ACHIEVED_SHARE * due - under_way - 3 * math.sqrt(under_way))


def is_disturbed(record: Record) -> bool:
    """Whether something else used the CPUs. A tail needs less of that than a mean."""
    return flags.is_disturbed(record) or (record["server_wait_share"] or 0.0) > WAIT_SHARE


def is_worth_repeating(record: Record) -> bool:
    """Whether something has spoilt it. Unlike is_late() it asks for nothing of the server's latencies, or one could
    measure until they look good."""
    return is_disturbed(record) or (record["generator_lateness_p99_us"] or 0.0) > LATENESS_US


FLAGS = [
    Flag(
        "no_requests",
        "no request was due in the run: ask for more of them, or for a longer run",
        lambda record: record["requests"] == 0,
        invalidates=True,
    ),
    Flag(
        "errors",
        "requests failed: look at errors_by_kind in the record",
        lambda record: record["errors"] > 0,
        invalidates=True,
    ),
    Flag(
        "wrong_responses",
        "after the run the server gave another answer than before",
        lambda record: not record["response_unchanged"],
        invalidates=True,
    ),
    Flag(
        "idle_connections_lost",
        "the server closed idle connections of the workload during the run",
        lambda record: bool(record["idle_connections_lost"]),
        invalidates=True,
    ),
    Flag(
        "fewer_idle_connections",
        "the limit of open files allows fewer idle connections than the workload asks for",
        lambda record: record["idle_connections"] < record["idle_connections_asked"],
    ),
    Flag(
        "generator_late",
        "the generator sent requests too late: it had no CPU time left, or something else took it",
        is_late,
        invalidates=True,
    ),
    Flag(
        "connections_reopened",
        "the server ended connections, so that the generator had to open new ones",
        lambda record: record["reconnects"] > 0,
    ),
    Flag("disturbed", "something else used the CPUs in each of the attempts", is_disturbed),
    Flag(
        "shared_cpus",
        "server and generator share their CPUs, so that latencies include waiting for each other",
        lambda record: record["cpus_shared"],
    ),
]


def judge(seen: Record) -> dict[str, Any]:
    """Status and flags. A rate that the server does not reach is a result, unless the generator was the reason."""
    raised = [flag for flag in FLAGS if flag.is_raised(seen)]
    status = "ok"
    if falls_behind(seen):
        status = "overloaded"
    if any(flag.invalidates for flag in raised):
        status = "invalid"
    return {"status": status, "flags": [flag.name for flag in raised]}
