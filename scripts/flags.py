"""What can be wrong with a cell: each flag once, with threshold, meaning, what helps, and if the cell still counts.

docs/results.md has the same list as a table, which a test compares.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

Record = Mapping[str, Any]

SATURATED_SHARE = 0.95  # of the CPU time that there was
SYNTHETIC_SHARE = 0.05
LITTLE_TOLERANCE = 0.1
# Shares of the elapsed time. 270 clean runs on two virtual CPUs: steal to 0.008, waits to 0.017, foreign to 0.045 (most
# of it the way in and out of idle), pressure to 0.04, but to 0.17 with one connection, whose every answer is a wake-up.
# With a busy loop beside them: waits from 0.1, foreign from 0.25, pressure from 0.4.
STEAL_SHARE = 0.02
PRESSURE_SHARE = 0.25
WAIT_SHARE = 0.033
FOREIGN_SHARE = 0.1
# A clock that is slewed, not set, gains at most 0.0005.
CLOCK_STEP_SHARE = 0.005
# By which answers with varying headers may be longer or shorter than the one that was checked: less than a body.
VARYING_BYTES = 6


def is_disturbed(record: Record) -> bool:
    """Whether something else had the CPUs: by readings that say nothing of the result."""
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


def clock_stepped(record: Record) -> bool:
    return bool(abs(record["wall_clock_step_share"]) > CLOCK_STEP_SHARE)


def is_worth_repeating(record: Record) -> bool:
    """Whether something that says nothing of the result spoilt it."""
    return is_disturbed(record) or clock_stepped(record)


def is_saturated(share: float | None) -> bool:
    """NaN and None, what is not known, are not."""
    return share is not None and share >= SATURATED_SHARE


def is_server_saturated(figures: Record) -> bool:
    """All of the server's CPUs, or the busiest of its threads, had no time left; of a record or a point."""
    return is_saturated(figures["server_cpu_share"]) or is_saturated(
        figures["server_busiest_thread_share"]
    )


def has_wrong_size(record: Record) -> bool:
    """Without errors every byte belongs to a whole response, but for one on each connection when wrk stopped.

    Where headers vary, or the last answer on a connection announces its end, sizes are only known roughly.
    """
    size, requests = len(record["response"]), record["requests"]
    surplus = record["response_bytes"] - requests * size
    spread = VARYING_BYTES * requests if record["varying_headers"] else 0
    spread += size * (record["reopened_connections"] or 0)
    most = record["connections"] * size + spread
    return record["errors"] == 0 and not -spread <= surplus <= most


def disagrees(record: Record, names: tuple[str, ...], expected: float) -> bool:
    """Whether a count of the server or of the kernel is further from wrk's than one for each connection."""
    counts = [record[name] for name in names if record[name] is not None]
    return any(abs(count - expected) > record["connections"] for count in counts)


def connections_disagree(record: Record) -> bool:
    """Whether the server's or the kernel's count does not fit to wrk's connections."""
    accepted = ("server_accepted",)
    if record["connection_per_request"]:
        # The kernel's count has other programs' connections in it.
        too_few = record["kernel_connections"] < record["requests"]
        return too_few or disagrees(record, accepted, record["requests"] + 1)
    if record["reopened_connections"]:
        return disagrees(record, accepted, record["kernel_connections"])
    names = (*accepted, "kernel_connections")
    return disagrees(record, names, record["connections"] + 1)  # wrk's probing one


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
    invalidates: bool  # its figures are listed but never enter a summary
    when: str
    meaning: str
    hint: str
    is_raised: Callable[[Record], bool]


def bypassed_interface(record: Record) -> bool:
    crossed = record["interface"]
    return crossed is not None and crossed["sent_bytes"] < record["response_bytes"]


FLAGS = [
    Flag(
        "errors",
        True,
        "wrk's socket errors and timeouts > 0",
        "connections failed, or answers took longer than 2 s",
        "look at errors_by_kind and server_counts in the record; fewer connections, a higher ulimit -n, or more ports"
        " in net.ipv4.ip_local_port_range",
        lambda record: sum(record["errors_by_kind"].values()) > record["errors_by_kind"]["status"],
    ),
    Flag(
        "error_responses",
        True,
        "responses with a status above 399 > 0",
        "the server refused requests",
        "ask it with curl -i under load",
        lambda record: record["errors_by_kind"]["status"] > 0,
    ),
    Flag(
        "wrong_responses",
        True,
        "the body of a response of the warm-up, each of which is compared, or the answer after the run, or after the"
        " paired phase, is not what it was before; or, without errors, wrk did not receive the bytes of its requests",
        "wrong or short answers: the server did not do the work",
        "look at the answers of the server under load, as with tcpdump -A",
        lambda record: (
            record["warmup_wrong_responses"] > 0
            or not record["response_unchanged"]
            or (record.get("paired") or {}).get("response_unchanged") is False
            or has_wrong_size(record)
        ),
    ),
    Flag(
        "no_requests",
        True,
        "requests = 0",
        "not one request was answered",
        "the server hangs: try it by hand",
        lambda record: record["requests"] == 0,
    ),
    Flag(
        "connections_differ",
        True,
        "established connections ≠ connections asked for (not with connection_per_request or connections_reopened)",
        "another load than the one asked for was measured",
        "a longer queue of the server's listen() (backlog), a higher net.core.somaxconn or ulimit -n, or fewer"
        " connections",
        lambda record: (
            not record["connection_per_request"]
            and not record["reopened_connections"]
            and record["established_connections"] != record["connections"]
        ),
    ),
    Flag(
        "connections_disagree",
        True,
        "connections that the server or the kernel counted differ from wrk's by more than `connections`, and wrk saw"
        " errors, or only one of the two differs; with connection_per_request, the server's from wrk's requests, or the"
        " kernel counted fewer than those",
        "connections were opened again and again, since the server closes them without announcing it; without errors,"
        " the server counts wrongly",
        "keep connections open after a response, or say Connection: close in it",
        connections_disagree,
    ),
    Flag(
        "requests_disagree",
        True,
        "without errors, responses that the server or the kernel counted differ from wrk's by more than"
        " `connections`",
        "one of them counts wrongly, and no rate can be trusted",
        "look at server_counts, kernel_responses and requests in the record",
        # Errors are of another size, and counted as bad requests.
        lambda record: (
            record["errors"] == 0
            and disagrees(record, ("server_requests", "kernel_responses"), record["requests"])
        ),
    ),
    Flag(
        "bypassed_interface",
        True,
        "the server's interface sent fewer bytes than wrk received (not over loopback)",
        "the answers went another way: another network than the configured one was measured",
        "put server and load into different network namespaces or hosts, and look at `ip route get`",
        bypassed_interface,
    ),
    Flag(
        "clock_stepped",
        True,
        f"wall_clock_step_share further than {CLOCK_STEP_SHARE} from 0",
        "the wall clock, by which wrk times everything, was set during the run, in each of the attempts",
        "let the clock be slewed (chrony, systemd-timesyncd), or set it before the sweep; raise disturbed_retries",
        clock_stepped,
    ),
    Flag(
        "no_cpu_time",
        True,
        "server_cpu_ns_per_request is 0",
        "requests were answered, but by none of the processes that the server's command has started",
        "start the server itself, without systemctl, docker and the like",
        no_cpu_time,
    ),
    Flag(
        "cpu_time_unknown",
        False,
        "server_cpu_ns_per_request is empty: processes come and go, and their parent waits for none of them (SIGCHLD"
        " ignored)",
        "throughput and latency count; the CPU time of processes that have ended is in no count",
        "measure as root, or where you may make a cgroup (version 2), which counts it; or let the parent wait for"
        " its children",
        lambda record: record["server_cpu_ns_per_request"] is None and record["requests"] > 0,
    ),
    Flag(
        "processes_changed",
        False,
        "the server has other processes near the end of the run than before it",
        "processes come and go, as one for each connection: starting them is a part of every figure; the server's own"
        " counts are empty, and server_memory_peak_kib is of those that live at one moment",
        "a property of the I/O model; a longer duration_s makes their start a smaller part",
        lambda record: record["processes_changed"],
    ),
    Flag(
        "unpaired",
        False,
        "cpu_ratio is empty, though there was a paired phase",
        "one of its two sides answered nothing or had errors, the reference lacked connections, a CPU time is not"
        " known, or a server is so slow that it still worked in the other's slices: no ratio can be told",
        "look at paired in the record, where the server's figure comes before the reference's",
        is_unpaired,
    ),
    Flag(
        "unserved_connections",
        False,
        "connections on which the server sent no byte > 0",
        "the server starved them: wrk does not see it, its figures are those of the others",
        "a property of the I/O model, or of a server that accepts too slowly",
        lambda record: (record["unserved_connections"] or 0) > 0,
    ),
    Flag(
        "connection_per_request",
        False,
        "the response announces that its connection ends: Connection: close, or HTTP/1.0 without keep-alive",
        "another workload: each request has a connection of its own, whose making is in every figure but latencies",
        "compare only with servers that do the same: what differs from others is not the I/O model's part",
        lambda record: record["connection_per_request"],
    ),
    Flag(
        "connections_reopened",
        False,
        "without errors, the kernel counted more connections than wrk was asked for",
        "the server ends a connection after some requests, and announces it: making connections is a part of every"
        " figure. requests_per_connection in the record says after how many, if it was found",
        "raise the server's limit: keepalive_requests of nginx, MaxKeepAliveRequests of Apache, maxRequestsPerSocket of"
        " node",
        lambda record: bool(record["reopened_connections"]),
    ),
    Flag(
        "leftover_connections",
        False,
        "2 s after the warm-up, the server still kept connections of its load",
        "it may still have been busy with them",
        "close connections when the client has",
        lambda record: record["leftover_connections"] > 0,
    ),
    Flag(
        "client_saturated",
        False,
        f"client_cpu_share ≥ {SATURATED_SHARE}",
        "wrk had no CPU left: the server could do more, and latencies leave out the time in wrk",
        "compare CPU per request; give wrk more CPUs, or a machine of its own",
        lambda record: is_saturated(record["client_cpu_share"]),
    ),
    Flag(
        "server_not_saturated",
        False,
        f"server_cpu_share and server_busiest_thread_share < {SATURATED_SHARE}",
        "the server was not the limit: its throughput is not the most that it can do",
        "compare CPU per request; see limiter in summary.csv",
        lambda record: not record["cpus_shared"] and not is_server_saturated(record),
    ),
    Flag(
        "synthetic_latency",
        False,
        f"latency_synthetic_share > {SYNTHETIC_SHARE}",
        "wrk made up that many latencies (they are left out): some requests took far longer than most",
        "look at latency_max_us; a longer duration_s",
        lambda record: record["latency_synthetic_share"] > SYNTHETIC_SHARE,
    ),
    Flag(
        "littles_law",
        False,
        f"littles_law_ratio further than {LITTLE_TOLERANCE} from 1",
        "mean latency × throughput is not the number of served connections: latencies leave out time in wrk,"
        " or connections were served in turns",
        "do not read latencies as response times here",
        violates_littles_law,
    ),
    Flag(
        "disturbed",
        False,
        f"steal_share > {STEAL_SHARE}, cpu_pressure_share > {PRESSURE_SHARE}, client_wait_share or server_wait_share"
        f" > {WAIT_SHARE}, or foreign_cpu_share > {FOREIGN_SHARE}",
        "something else had the CPUs, in each of the attempts",
        "end what else runs on the machine; raise disturbed_retries",
        is_disturbed,
    ),
    Flag(
        "shared_cpus",
        False,
        "server and load on the same CPUs",
        "there is one core only: the two take it from each other",
        "a machine with two cores or more",
        lambda record: record["cpus_shared"],
    ),
]


def invalidating(names: Collection[str]) -> list[str]:
    """Those of these flags because of which a cell does not count."""
    return [flag.name for flag in FLAGS if flag.invalidates and flag.name in names]


def flags_of(record: Record) -> list[Flag]:
    """The flags of a record that was measured, in the order above."""
    return [flag for flag in FLAGS if flag.is_raised(record)]
