"""What can be wrong with a cell: each flag with its condition, its meaning, what helps, and whether the cell counts.

docs/results.md has the same list as a table, with the conditions in words; a test compares the two.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

Record = Mapping[str, Any]

SATURATED_SHARE = 0.95  # of the available CPU time
SYNTHETIC_SHARE = 0.05
LITTLE_TOLERANCE = 0.1
# Shares of the elapsed time. In 270 clean runs on two virtual CPUs steal was at most 0.008, waits 0.017, foreign 0.045
# (mostly entering and leaving idle), pressure 0.04, but 0.17 with one connection, where each answer is a wake-up.
# With a busy loop on the same CPUs waits were at least 0.1, foreign 0.25, pressure 0.4.
STEAL_SHARE = 0.02
PRESSURE_SHARE = 0.25
WAIT_SHARE = 0.033
FOREIGN_SHARE = 0.1
# A clock that is slewed, not set, gains at most 0.0005.
CLOCK_STEP_SHARE = 0.005
# How much the length of answers with varying headers may differ from the checked one: less than a body.
VARYING_BYTES = 6
# Of the CPU time that the handler takes on average: a run has one request in so many, or one less.
HANDLER_SHARE = 0.9
# Of wrk's ports.
PORTS_SHARE = 0.8


def is_disturbed(record: Record) -> bool:
    """Whether something else used the CPUs, from readings that do not depend on the result."""
    gates = {
        "steal_share": STEAL_SHARE,
        "cpu_pressure_share": PRESSURE_SHARE,
        "client_wait_share": WAIT_SHARE,
        "server_wait_share": WAIT_SHARE,
        "foreign_cpu_share": FOREIGN_SHARE,
    }
    phases = [record, record.get("paired") or {}]
    return any(
        (phase.get(name) or 0.0) > limit for phase in phases for name, limit in gates.items()
    )


def has_clock_step(record: Record) -> bool:
    return bool(abs(record["wall_clock_step_share"]) > CLOCK_STEP_SHARE)


def is_worth_repeating(record: Record) -> bool:
    """Whether something that does not depend on the result has spoilt it."""
    return is_disturbed(record) or has_clock_step(record)


def is_saturated(share: float | None) -> bool:
    """Whether a CPU had no time left; false for NaN and None, which are unknown."""
    return share is not None and share >= SATURATED_SHARE


def is_server_saturated(figures: Record) -> bool:
    """Whether all of the server's CPUs, or its busiest thread, had no time left; for a record or a point."""
    return is_saturated(figures["server_cpu_share"]) or is_saturated(
        figures["server_busiest_thread_share"]
    )


def has_wrong_size(record: Record) -> bool:
    """Whether wrk received more or fewer bytes than its responses have.

    Without errors every byte belongs to a whole response, except one on each connection when wrk stopped. If headers
    vary, or the last answer on a connection announces its end, sizes are only roughly known.
    """
    size, requests = record["response_size_bytes"], record["requests"]
    surplus = record["response_bytes"] - requests * size
    spread = VARYING_BYTES * requests if record["varying_headers"] else 0
    spread += size * (record["reopened_connections"] or 0)
    most = record["requests_in_flight"] * size + spread
    return record["errors"] == 0 and not -spread <= surplus <= most


def disagrees(record: Record, names: tuple[str, ...], expected: float) -> bool:
    """Whether a count of the server or kernel differs from wrk's by more than the requests under way."""
    counts = [record[name] for name in names if record[name] is not None]
    return any(abs(count - expected) > record["requests_in_flight"] for count in counts)


def connections_disagree(record: Record) -> bool:
    """Whether the server's or the kernel's count does not match wrk's connections."""
    accepted = ("server_accepted",)
    if record["connection_per_request"]:
        # The kernel's count includes connections of other programs.
        too_few = record["kernel_connections"] < record["requests"]
        return too_few or disagrees(record, accepted, record["requests"] + 1)
    if record["reopened_connections"]:
        return disagrees(record, accepted, record["kernel_connections"])
    names = (*accepted, "kernel_connections")
    return disagrees(record, names, record["connections"] + 1)  # wrk probes with one more


def skips_handler(record: Record) -> bool:
    """Whether the server spends less CPU time per request than its handler alone must."""
    cpu_ns = record["server_cpu_ns_per_request"]
    return cpu_ns is not None and cpu_ns < HANDLER_SHARE * record["handler_cpu_ns_per_request"]


def no_cpu_time(record: Record) -> bool:
    cpu_ns = record["server_cpu_ns_per_request"]
    return record["requests"] > 0 and cpu_ns is not None and cpu_ns <= 0


def violates_littles_law(record: Record) -> bool:
    ratio = record["littles_law_ratio"]
    return ratio is not None and abs(ratio - 1) > LITTLE_TOLERANCE


def is_unpaired(record: Record) -> bool:
    return bool(record.get("paired")) and record.get("cpu_ratio") is None


class Flag(NamedTuple):
    name: str
    meaning: str
    hint: str
    is_raised: Callable[[Record], bool]
    invalidates: bool = False  # the cell is listed, but its figures enter no summary


def bypasses_interface(record: Record) -> bool:
    crossed = record["interface"]
    return crossed is not None and crossed["sent_bytes"] < record["response_bytes"]


FLAGS = [
    Flag(
        "errors",
        "connections failed, or answers took longer than 2 s",
        "look at errors_by_kind and server_counts in the record; use fewer connections, a higher ulimit -n, or more"
        " ports in net.ipv4.ip_local_port_range",
        lambda record: sum(record["errors_by_kind"].values()) > record["errors_by_kind"]["status"],
        invalidates=True,
    ),
    Flag(
        "error_responses",
        "the server refused requests",
        "send it a request with curl -i under load",
        lambda record: record["errors_by_kind"]["status"] > 0,
        invalidates=True,
    ),
    Flag(
        "wrong_responses",
        "wrong or short answers: the server did not do the work",
        "look at the server's answers under load, for example with tcpdump -A",
        lambda record: (
            record["warmup_wrong_responses"] > 0
            or not record["response_unchanged"]
            or (record.get("paired") or {}).get("response_unchanged") is False
            or has_wrong_size(record)
        ),
        invalidates=True,
    ),
    Flag(
        "no_requests",
        "the server answered no request",
        "the server hangs: try it by hand",
        lambda record: record["requests"] == 0,
        invalidates=True,
    ),
    Flag(
        "connections_differ",
        "the measured load is not the requested one",
        "use a longer queue of the server's listen() (backlog), a higher net.core.somaxconn or ulimit -n, or fewer"
        " connections",
        lambda record: (
            not record["connection_per_request"]
            and not record["reopened_connections"]
            and record["established_connections"] != record["connections"]
        ),
        invalidates=True,
    ),
    Flag(
        "connections_disagree",
        "the server closes connections without announcing it, so wrk opens new ones; without errors, the server counts"
        " wrongly",
        "keep connections open after a response, or send Connection: close in it",
        connections_disagree,
        invalidates=True,
    ),
    Flag(
        "requests_disagree",
        "one of them counts wrongly, and no rate can be trusted",
        "look at server_counts, kernel_responses and requests in the record",
        # Error responses have another size and count as bad requests.
        lambda record: (
            record["errors"] == 0
            and disagrees(record, ("server_requests", "kernel_responses"), record["requests"])
        ),
        invalidates=True,
    ),
    Flag(
        "bypassed_interface",
        "the answers took another way, so the configured network was not measured",
        "put server and load into different network namespaces or hosts, and look at `ip route get`",
        bypasses_interface,
        invalidates=True,
    ),
    Flag(
        "clock_stepped",
        "the wall clock, with which wrk times everything, was set during the run, in each of the attempts",
        "let a daemon slew the clock (chrony, systemd-timesyncd), or set it before the sweep; raise disturbed_retries",
        has_clock_step,
        invalidates=True,
    ),
    Flag(
        "no_cpu_time",
        "requests were answered, but not by a process that the server's command started",
        "start the server itself, not through systemctl, docker and the like",
        no_cpu_time,
        invalidates=True,
    ),
    Flag(
        "handler_skipped",
        "the server takes --handler-burn-us, but does not spend that CPU time",
        "let the handler compute for one request in --handler-every",
        skips_handler,
        invalidates=True,
    ),
    Flag(
        "cpu_time_unknown",
        "throughput and latency are valid; the CPU time of processes that have ended cannot be read",
        "measure as root, or where you may create a cgroup (version 2), which counts it; or let the parent wait for"
        " its children",
        lambda record: record["server_cpu_ns_per_request"] is None and record["requests"] > 0,
    ),
    Flag(
        "processes_changed",
        "processes come and go, for example one for each connection: every figure includes starting them; the server's"
        " own counts are empty, and server_memory_peak_kib covers the processes that live at one moment",
        "this is a property of the I/O model; a longer duration_s makes their start a smaller part",
        lambda record: record["processes_changed"],
    ),
    Flag(
        "unpaired",
        "one of the two servers answered nothing or had errors, the reference lacked connections, a CPU time is not"
        " known, or one is so slow that it still worked in the other's slices: the ratio is not known",
        "look at paired in the record, where the server's figure comes before the reference's",
        is_unpaired,
    ),
    Flag(
        "idle_connections_lost",
        "the server closed idle connections of the workload during the run, so it had fewer of them than asked for",
        "raise the server's limit of idle time, or of connections",
        lambda record: bool(record["idle_connections_lost"]),
        invalidates=True,
    ),
    Flag(
        "fewer_idle_connections",
        "the limit of open files allows fewer idle connections than the workload asks for",
        "raise ulimit -Hn: it takes twice as many files as idle connections",
        lambda record: record["idle_connections"] < record["idle_connections_asked"],
    ),
    Flag(
        "unserved_connections",
        "the server starved them: wrk does not see it, its figures come from the other connections",
        "this is a property of the I/O model, or of a server that accepts too slowly",
        lambda record: (record["unserved_connections"] or 0) > 0,
    ),
    Flag(
        "connection_per_request",
        "this is another workload: each request makes a connection, which every figure but latencies includes",
        "compare only with servers that do the same: other differences do not come from the I/O model",
        lambda record: record["connection_per_request"],
    ),
    Flag(
        "time_wait_full",
        "the kernel keeps no more closed connections in TIME_WAIT and ends further ones without, which costs other CPU"
        " time than in cells before it",
        "raise net.ipv4.tcp_max_tw_buckets",
        lambda record: (record["time_wait_sockets"] or 0) >= (record["time_wait_limit"] or 1),
    ),
    Flag(
        "ports_short",
        "closed connections hold most of wrk's ports: the kernel searches longer for a free one, and may find none",
        "let the server close first; more ports in net.ipv4.ip_local_port_range",
        lambda record: (record["ports_waiting"] or 0) > PORTS_SHARE * (record["ports"] or 1),
    ),
    Flag(
        "connections_reopened",
        "the server ends a connection after some requests and announces it: every figure includes making connections."
        " requests_per_connection in the record says after how many, if it is known",
        "raise the server's limit: keepalive_requests of nginx, MaxKeepAliveRequests of Apache, maxRequestsPerSocket of"
        " node",
        lambda record: bool(record["reopened_connections"]),
    ),
    Flag(
        "leftover_connections",
        "it may still have been busy with them",
        "close a connection when the client has closed it",
        lambda record: record["leftover_connections"] > 0,
    ),
    Flag(
        "client_saturated",
        "wrk had no CPU time left: the server could do more, and latencies leave out the time in wrk",
        "compare CPU time per request; give wrk more CPUs, or its own machine",
        lambda record: is_saturated(record["client_cpu_share"]),
    ),
    Flag(
        "server_not_saturated",
        "the server was not the limit: it can do more than this throughput",
        "compare CPU time per request; see limiter in summary.csv",
        lambda record: not record["cpus_shared"] and not is_server_saturated(record),
    ),
    Flag(
        "synthetic_latency",
        "wrk synthesized that many latencies (they are left out): some requests took far longer than most",
        "look at latency_max_us; use a longer duration_s",
        lambda record: record["latency_synthetic_share"] > SYNTHETIC_SHARE,
    ),
    Flag(
        "littles_law",
        "mean latency × throughput is not the number of served connections: latencies leave out time in wrk, or the"
        " server served connections in turns",
        "do not read these latencies as response times",
        violates_littles_law,
    ),
    Flag(
        "disturbed",
        "something else used the CPUs in each of the attempts",
        "end other work on the machine; raise disturbed_retries",
        is_disturbed,
    ),
    Flag(
        "shared_cpus",
        "there is only one core, and server and load take it from each other",
        "use a machine with two cores or more",
        lambda record: record["cpus_shared"],
    ),
]


def invalidating(names: Collection[str]) -> list[str]:
    """The flags among these that make a cell invalid."""
    return [flag.name for flag in FLAGS if flag.invalidates and flag.name in names]


def flags_of(record: Record) -> list[Flag]:
    """The flags of a measured record, in the order above."""
    return [flag for flag in FLAGS if flag.is_raised(record)]
