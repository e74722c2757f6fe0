"""Counts of a timed run: fairness, Little's law and what the server's workers did."""

from typing import Any

from instruments import server_process, sockets
from measuring import runs


def share_of(part: float | None, whole: float) -> float | None:
    return None if part is None else part / whole


def fairness_of(
    seen: dict[str, Any], connections: int, pipelined: int, come_and_go: bool
) -> dict[str, Any]:
    """Who was served; None where connections come and go, since the open ones say nothing about the others."""
    if come_and_go:
        return dict.fromkeys(("unserved_connections", "fairness_jain", "littles_law_ratio"))
    bytes_sent = seen["raw_bytes_sent"]
    unserved = max(0, connections - sum(1 for sent in bytes_sent if sent > 0))
    return {
        "unserved_connections": unserved,
        "fairness_jain": sockets.fairness_jain(
            [*bytes_sent, *[0] * (connections - len(bytes_sent))]
        ),
        "littles_law_ratio": littles_law_ratio(seen, (connections - unserved) * pipelined),
    }


def littles_law_ratio(result: dict[str, Any], served: int) -> float | None:
    """Mean latency × throughput / connections, 1 in a closed loop (Little 1961); None if nothing was served."""
    if result["latency_mean_us"] is None or served == 0:
        return None
    return float(result["latency_mean_us"] / 1e6 * result["requests_per_second"] / served)


Counts = list[dict[str, int]]  # one for each worker, over the server's whole life


def total_of(counts: Counts, name: str) -> int:
    return sum(worker.get(name, 0) for worker in counts)


UNKNOWN_COUNTS: dict[str, int | None] = dict.fromkeys(
    ("kernel_connections", "kernel_responses", "server_accepted", "server_requests")
)


def worker_fairness_jain(told: Counts) -> float | None:
    """Jain's index over each worker's requests, warm-up included; None for fewer than two workers with counts."""
    if len(told) < 2:
        return None
    return sockets.fairness_jain([worker["requests"] for worker in told])


def counts_of_timed_run(
    run: runs.Run, told: Counts, warmup: list[int] | None, timed: list[int] | None, was_probed: bool
) -> dict[str, int | None]:
    """Connections and responses of the timed load, by the kernel's and by the server's count.

    `warmup` and `timed`: bytes sent on each connection, as the kernel reported them. A count is None if the server
    prints none, or if we missed the kernel's. The count of responses is None too if they differ in size, or if the
    server was probed. We subtract the checks before and after (two requests on one connection each), the probe's
    connection, and the warm-up by the kernel's count.
    """
    size = len(run.response)
    checked = server_process.VERIFY_REQUESTS
    counts = dict(UNKNOWN_COUNTS)
    if timed is not None:
        counts["kernel_connections"] = len(timed) - 1 - was_probed
        counts["kernel_responses"] = sum(timed) // size - checked
    if warmup is not None and told:
        # The server counts an answer when it begins it; the warm-up's end cuts large ones off.
        answered = sum(-(-sent // size) for sent in warmup)
        counts["server_accepted"] = total_of(told, "accepted") - len(warmup) - 1 - was_probed
        counts["server_requests"] = total_of(told, "requests") - answered - checked
    if was_probed or run.verified.varying:
        counts |= {"kernel_responses": None, "server_requests": None}
    return counts


def without_idle(counts: dict[str, int | None], idle: int) -> dict[str, int | None]:
    """The server's counts without the idle connections, each of which had one request before the timed run."""
    return {
        name: count - idle if count is not None and name.startswith("server_") else count
        for name, count in counts.items()
    }


def counts_of_short_connections(
    told: Counts, connections: int, warmup_requests: int | None, accepted: int
) -> dict[str, int | None]:
    """Like counts_of_timed_run, for a connection per request; `accepted`: by the kernel, in the timed load.

    We subtract the warm-up by wrk's count, and one request for each connection that was open when wrk stopped. So the
    server's counts are exact to `connections`.
    """
    counts = {**UNKNOWN_COUNTS, "kernel_connections": accepted}
    if told:
        other = 2 * server_process.VERIFY_REQUESTS
        if warmup_requests is not None:
            other += warmup_requests + connections
        counts["server_accepted"] = (
            total_of(told, "accepted") - other - (warmup_requests is not None)
        )
        counts["server_requests"] = total_of(told, "requests") - other
    return counts


def reopened_connections(seen: dict[str, Any], connections: int) -> int | None:
    """Connections that wrk opened in place of others; None if nobody counted them, or wrk saw errors.

    Without errors wrk opens a new one only after a response that announced the end of its connection.
    """
    counted = seen["kernel_connections"]
    if counted is None or seen["errors"]:
        return None
    return max(0, int(counted) - connections - 1)  # wrk's probing one
