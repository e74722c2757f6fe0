"""The paired phase of a cell: its server and a reference, loaded in turns, so that both meet the same machine.

A machine's speed wanders over seconds. What two servers did in slices a few ms apart it changes in the same way, and
their ratio not at all (Bulej et al.: Duet Benchmarking, ICPE 2020). Both servers are alive all the time, each with a
load of its own, of which one at most runs. Only the side of the load knows of slices; CPU times and bytes are read
before and after all of them, while neither load runs.
"""

import argparse
import math
import os
import random
from typing import Any, NamedTuple

import disturbance
import failed_build
import load
import machine
import runs
import server_process
import sides

SERVER, REFERENCE = 0, 1
FIGURES = ("cpu_ratio", "throughput_ratio", "reference_requests_per_second")
# docs/precision.md says where these come from, and what is not shown of them.
FEW_CONNECTIONS = 10
SLICE_FEW_S = 0.02
SLICE_S = 0.05
SLICE_S_PER_CONNECTION = 1e-4
# After a slice, until what is under way has been answered: so many times what all connections take once, but no longer
# than MOST_PAUSE_S. Ratios of slices with longer pauses vary more (docs/precision.md).
ROUNDS_OF_PAUSE = 1.5
MOST_PAUSE_S = 0.05
ROUND_S_PER_CONNECTION = 1e-5  # where it was not measured
LEAST_PAIRS = 3
# Of a side's requests, at most: what is answered after its slices, one on each connection each time. So much nearer to
# 1 is a ratio of throughputs, if the servers were not busy; if they were, their CPU time tells (serving_s).
TAIL_SHARE = 0.15
DRAIN_SHARE = 0.1  # of a slice, where there is no pause


class ReferenceFault(OSError):
    """A reference that cannot be what servers are compared with; the text is one line for the user."""


class Plan(NamedTuple):
    slice_s: float
    pause_s: float  # after each slice
    order: list[int]  # whose slice: SERVER or REFERENCE; each pair has one of both

    @property
    def longest_s(self) -> float:
        return len(self.order) * (self.slice_s + self.pause_s)


def plan_of(connections: int, load_s: float, seed: str, round_s: float | None = None) -> Plan:
    """Slices that give each side `load_s` seconds of load; which of a pair comes first is random, from `seed`.

    `round_s`: in which the server answers each connection once, as measured.
    """
    if round_s is None:
        round_s = ROUND_S_PER_CONNECTION * connections
    few = connections <= FEW_CONNECTIONS
    slice_s = SLICE_FEW_S if few else max(SLICE_S, SLICE_S_PER_CONNECTION * connections)
    pairs = max(LEAST_PAIRS, math.ceil(load_s / slice_s - 1e-9))
    chosen = random.Random(seed)
    order: list[int] = []
    for _ in range(pairs):
        first = chosen.randrange(2)
        order += [first, 1 - first]
    pause_s = min(ROUNDS_OF_PAUSE * round_s, MOST_PAUSE_S)
    return Plan(slice_s, 0.0 if pause_s <= DRAIN_SHARE * slice_s else pause_s, order)


def requests_of(
    before: dict[str, int], after: dict[str, int], response_bytes: float | None
) -> float | None:
    """Requests that were answered between two readings of the bytes sent on each connection, by its peer.

    None if they are not the same connections, or if it is not known how large a response is.
    """
    if not response_bytes or not before or before.keys() != after.keys():
        return None
    return (sum(after.values()) - sum(before.values())) / response_bytes


def is_drained_in_time(
    plan: Plan, connections: int, requests: float, time_s: float, cpu_ns: int | None, cpus: int
) -> bool:
    """Whether a side has answered what is under way before the other's slice; true if its cost is not known.

    `time_s`: of its slices. Servers of several processes work at the same time.
    """
    if not cpu_ns or requests <= 0:
        return True
    drain_s = connections * min(cpu_ns / 1e9, serving_s(time_s, cpu_ns, cpus)) / requests
    return drain_s <= max(plan.pause_s, DRAIN_SHARE * plan.slice_s)


def has_errors(errors_by_kind: list[dict[str, int]]) -> bool:
    """Without timeouts: for wrk a slice of the other side is one answer that came late."""
    return any(
        number
        for of_side in errors_by_kind
        for kind, number in of_side.items()
        if kind != "timeout"
    )


def serving_s(time_s: float, cpu_ns: int | None, cpus: int) -> float:
    """In how many seconds a side has answered its requests.

    A busy server works on after a slice, for what is under way then: as long as its CPU time exceeds the slices'.
    """
    return max(time_s, (cpu_ns or 0) / 1e9 / cpus)


def figures_of(
    seconds: list[float],
    requests: list[float],
    cpu_ns: list[int | None],
    cpus: int,
    is_sound: bool,
    is_counted: bool,
) -> dict[str, float | None]:
    """`cpu_ratio`, of CPU time per request, and `throughput_ratio`, of requests per second of a side's own slices:
    server / reference; and the reference's requests per second. None for what is not known, or would be of no requests:
    all if the phase is not `is_sound`, `throughput_ratio` if it is not known which requests are of the slices
    (`is_counted`). `cpus`: of the servers."""
    figures: dict[str, float | None] = dict.fromkeys(FIGURES)
    if not is_sound or min(requests) <= 0:
        return figures
    if (server_ns := cpu_ns[SERVER]) and (reference_ns := cpu_ns[REFERENCE]):
        figures["cpu_ratio"] = (server_ns / requests[SERVER]) / (reference_ns / requests[REFERENCE])
    if min(seconds) > 0:
        rates = [
            done / serving_s(time_s, its_ns, cpus)
            for done, time_s, its_ns in zip(requests, seconds, cpu_ns, strict=True)
        ]
        figures["reference_requests_per_second"] = rates[REFERENCE]
        if is_counted:
            figures["throughput_ratio"] = rates[SERVER] / rates[REFERENCE]
    return figures


def start_reference(run: runs.Run, arguments: argparse.Namespace) -> str:
    """Start the reference beside the server; its URL. Raises ReferenceFault."""
    found, path = run.sides, arguments.reference
    try:
        if reason := failed_build.reason_of(path):
            raise server_process.RunError(reason)
        address, target, scope = runs.addresses(found.network, arguments.host, found.server)
        told = found.server.start_reference(
            runs.binary_at(found, path),
            address=address,
            interface=None if found.network.is_loopback else found.network.interface,
            scope=scope,
            workers=len(run.split.server),
            cpus=run.split.server,
            shares_cpus=run.split.shared,
            watch_closed=False,
            start_timeout_s=runs.start_timeout_of(arguments),
        )
        found.load.verify(target, told["port"])
    except FileNotFoundError:
        raise ReferenceFault(f"there is no reference {path}") from None
    except (server_process.RunError, server_process.Unavailable) as error:
        raise ReferenceFault(f"the reference {os.path.basename(path)}: {error}") from None
    return load.url_of(target, told["port"])


def time_between(readings: list[Any]) -> int | None:
    """CPU time from the first to the last of readings, which may have come from afar."""
    return machine.cpu_time_between(*(machine.CpuReading(*reading) for reading in readings))


def _loaded(run: runs.Run, urls: list[str], plan: Plan) -> dict[str, Any]:
    """What both sides saw of the phase, as lists of server and reference."""
    server, load_side = run.sides.server, run.sides.load
    load_cpus = [] if run.split.shared else run.split.load
    unloaded = server.read_pair_cpu()
    load_side.start_pair(
        urls, connections=run.connections, threads=run.threads, duration_s=plan.longest_s
    )
    before, idle = server.read_pair(), load_side.read_pair_idle(load_cpus)
    seconds = load_side.alternate(plan.order, plan.slice_s, plan.pause_s)
    client, after = load_side.read_pair_idle(load_cpus), server.read_pair()
    results = load_side.finish_pair()
    gone = server.read_pair_cpu()
    cpu_ns, in_slices_ns, requests, counted_by = [], [], [], []
    for side, result in enumerate(results):
        size = result["response_bytes"] / result["requests"] if result["requests"] else None
        sent = [reading["bytes_sent"][side] for reading in (before, after)]
        readings = [before["cpu"][side], after["cpu"][side]]
        in_slices_ns.append(time_between(readings))
        counted = requests_of(sent[0], sent[1], size)
        counted_by.append("wrk" if counted is None else "kernel")
        if counted is None:  # its connections come and go: all that it did for this load
            counted, readings = result["requests"], [unloaded[side], *readings, gone[side]]
        requests.append(counted)
        cpu_ns.append(time_between(readings))
    known_ns = [time_ns for time_ns in in_slices_ns if time_ns is not None]
    own_ns = sum(known_ns) if len(known_ns) == len(in_slices_ns) else None
    slices = len(plan.order) // 2
    is_drained = [
        is_drained_in_time(plan, run.connections, done, time_s, time_ns, len(run.split.server))
        for done, time_s, time_ns in zip(requests, seconds, cpu_ns, strict=True)
    ]
    is_counted = "wrk" not in counted_by and run.connections * slices <= TAIL_SHARE * min(requests)
    errors = [result["errors_by_kind"] for result in results]
    connections = [len(after["bytes_sent"][side]) for side in (SERVER, REFERENCE)]
    return {
        **figures_of(
            seconds,
            requests,
            cpu_ns,
            len(run.split.server),
            is_sound=not has_errors(errors)
            and connections[REFERENCE] == run.connections
            and counted_by[REFERENCE] == "kernel"
            and all(is_drained),
            is_counted=is_counted,
        ),
        "seconds": seconds,
        "requests": requests,
        "cpu_ns": cpu_ns,
        "counted_by": counted_by,
        "wrk_requests": [result["requests"] for result in results],  # of all its life
        "connections": connections,
        "errors_by_kind": errors,
        **disturbance.between(
            disturbance.readings(before, after, own_ns),
            disturbance.readings(idle, client),
        ),
    }


def measure(
    run: runs.Run, arguments: argparse.Namespace, warmup_requests: int | None = None
) -> dict[str, Any]:
    """The fields of a record that tell of the paired phase. `warmup_requests`: in arguments.warmup_s.

    Raises ReferenceFault if that side fails; RunError or LoadError if the server's does.
    """
    seed = f"{arguments.server}/{run.connections}/{arguments.repeat}"
    round_s = None
    if warmup_requests is not None:
        round_s = run.connections * arguments.warmup_s / max(warmup_requests, 1)
    plan = plan_of(run.connections, arguments.paired_s, seed, round_s)
    url = start_reference(run, arguments)
    try:
        seen = _loaded(run, [run.url, url], plan)
    except sides.SideLost:
        raise
    except (load.LoadError, OSError, server_process.RunError):
        run.sides.server.check_running(runs.ENDING_S)  # if the server has ended, that explains it
        try:
            run.sides.server.check_reference()
        except server_process.RunError as its:
            raise ReferenceFault(f"in the paired phase, of the reference: {its}") from None
        raise
    run.sides.server.stop_reference()
    figures = {name: seen.pop(name) for name in FIGURES}
    return {**figures, "paired": {**plan._asdict(), **seen}}
