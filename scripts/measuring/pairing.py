"""The paired phase of a cell: its server and a reference are loaded in turns, so that both meet the same machine.

A machine's speed varies over seconds. It changes the work of two servers in slices a few ms apart in the same way, so
their ratio stays the same (Bulej et al.: Duet Benchmarking, ICPE 2020). Both servers run at the same time, each with
its own load, but at most one load runs at a time. Only the load's side knows about slices; CPU times and bytes are
read between blocks of some slices, while neither load runs. A disturbed block is an outlier: a cell's ratio is the
median over its blocks.
"""

import math
import os
import random
from collections.abc import Iterable
from typing import Any, NamedTuple

from hosts import proc
from instruments import disturbance, failed_build, server_process, wrk
from measuring import places, runs
from sweep import flags
from sweep.workloads import Workload

SERVER, REFERENCE = 0, 1
FIGURES = ("cpu_ratio", "throughput_ratio", "reference_requests_per_second")
# docs/precision.md says where these values come from, and what is not proved about them.
FEW_CONNECTIONS = 10
SLICE_FEW_S = 0.02
SLICE_S = 0.05
SLICE_S_PER_CONNECTION = 1e-4
# A pause after a slice lets the server answer pending requests. It lasts this many times what one answer on every
# connection takes, but at most MOST_PAUSE_S. Ratios of slices with longer pauses vary more (docs/precision.md).
ROUNDS_OF_PAUSE = 1.5
MOST_PAUSE_S = 0.05
ROUND_S_PER_CONNECTION = 1e-5  # if it was not measured
# Seconds of load on each side of a block, and its least number of pairs of slices.
BLOCK_S = 0.15
LEAST_PAIRS = 2
READING_S = 1.0  # the longest that the readings between blocks take
# The largest share of a side's requests that it answers after its slices, one on each connection each time. By so much
# a ratio of throughputs is too close to 1 if the servers were not busy; if they were, their CPU time corrects it
# (serving_s).
TAIL_SHARE = 0.15
DRAIN_SHARE = 0.1  # of a slice, if there is no pause


class ReferenceFault(OSError):
    """The reference cannot be used; the text is one line for the user."""


class Plan(NamedTuple):
    slice_s: float
    pause_s: float  # after each slice
    blocks: list[list[int]]  # each slice's side: SERVER or REFERENCE; each pair has one of both

    @property
    def slices(self) -> int:
        """The number of each side's slices."""
        return sum(map(len, self.blocks)) // 2

    @property
    def longest_s(self) -> float:
        return 2 * self.slices * (self.slice_s + self.pause_s)


def plan_of(connections: int, load_s: float, seed: str, round_s: float | None = None) -> Plan:
    """Plan slices that give each side `load_s` seconds of load, or some more.

    The order within a pair is random, from `seed`. round_s: the measured time in which the server answers every
    connection once.
    """
    if round_s is None:
        round_s = ROUND_S_PER_CONNECTION * connections
    few = connections <= FEW_CONNECTIONS
    slice_s = SLICE_FEW_S if few else max(SLICE_S, SLICE_S_PER_CONNECTION * connections)
    pairs = max(LEAST_PAIRS, round(BLOCK_S / slice_s))
    blocks = max(1, math.ceil(load_s / slice_s / pairs - 1e-9))
    chosen = random.Random(seed)
    pause_s = min(ROUNDS_OF_PAUSE * round_s, MOST_PAUSE_S)
    return Plan(
        slice_s,
        0.0 if pause_s <= DRAIN_SHARE * slice_s else pause_s,
        [_block(pairs, chosen) for _ in range(blocks)],
    )


def _block(pairs: int, chosen: random.Random) -> list[int]:
    firsts = [chosen.randrange(2) for _ in range(pairs)]
    return [side for first in firsts for side in (first, 1 - first)]


def requests_of(
    before: dict[str, int], after: dict[str, int], response_bytes: float | None
) -> float | None:
    """Requests that were answered between two readings of the bytes sent on each connection; keys are the peers.

    None if the connections differ, or if the size of a response is not known.
    """
    if not response_bytes or not before or before.keys() != after.keys():
        return None
    return (sum(after.values()) - sum(before.values())) / response_bytes


def is_drained_in_time(
    plan: Plan, connections: int, requests: float, time_s: float, cpu_ns: int | None, cpus: int
) -> bool:
    """Whether a side answers its pending requests before the other's slice; true if its CPU time is not known.

    time_s: of its slices; cpus: of the server, whose processes work at the same time.
    """
    if not cpu_ns or requests <= 0:
        return True
    drain_s = connections * min(cpu_ns / 1e9, serving_s(time_s, cpu_ns, cpus)) / requests
    return drain_s <= max(plan.pause_s, DRAIN_SHARE * plan.slice_s)


def has_errors(errors_by_kind: list[dict[str, int]]) -> bool:
    """Whether there were errors other than timeouts: wrk counts a late answer when the other side has had its slice."""
    return any(
        number
        for of_side in errors_by_kind
        for kind, number in of_side.items()
        if kind != "timeout"
    )


def serving_s(time_s: float, cpu_ns: int | None, cpus: int) -> float:
    """The seconds in which a side has answered its requests.

    A busy server works on pending requests after a slice, so its CPU time may exceed the time of the slices.
    """
    return max(time_s, (cpu_ns or 0) / 1e9 / cpus)


class Work(NamedTuple):
    """The work of server and reference in some slices; None for what is not known."""

    seconds: list[float]
    requests: list[float | None]
    cpu_ns: list[int | None]


def figures_of(
    seconds: list[float],
    requests: list[float | None],
    cpu_ns: list[int | None],
    cpus: int,
    is_sound: bool,
    is_counted: bool,
) -> dict[str, float | None]:
    """Compute server / reference for CPU time per request (`cpu_ratio`) and for requests per second of a side's own
    slices (`throughput_ratio`), and the reference's requests per second.

    A figure is None if it is not known or there were no requests. is_sound: otherwise all are None; is_counted: whether
    the requests of the slices are known, otherwise throughput_ratio is None; cpus: the number of the servers' CPUs.
    """
    figures: dict[str, float | None] = dict.fromkeys(FIGURES)
    answered = [counted for counted in requests if counted]
    if not is_sound or len(answered) < len(requests):
        return figures
    if (server_ns := cpu_ns[SERVER]) and (reference_ns := cpu_ns[REFERENCE]):
        figures["cpu_ratio"] = (server_ns / answered[SERVER]) / (reference_ns / answered[REFERENCE])
    if min(seconds) > 0:
        rates = [
            done / serving_s(time_s, its_ns, cpus)
            for done, time_s, its_ns in zip(answered, seconds, cpu_ns, strict=True)
        ]
        figures["reference_requests_per_second"] = rates[REFERENCE]
        if is_counted:
            figures["throughput_ratio"] = rates[SERVER] / rates[REFERENCE]
    return figures


def figures_of_blocks(
    blocks: list[Work], cpus: int, *, is_sound: bool, is_counted: bool
) -> dict[str, float | None]:
    """The median over blocks of each figure; None if one block's figure is not known."""
    each = [figures_of(*block, cpus, is_sound, is_counted) for block in blocks]
    return {name: _median([figures[name] for figures in each]) for name in FIGURES}


def _median(values: list[float | None]) -> float | None:
    """None if one of them is not known. Importing `statistics` would take 2 ms of each cell's start."""
    known = sorted(value for value in values if value is not None)
    half = len(known) // 2
    return (known[half] + known[~half]) / 2 if len(known) == len(values) else None


def check_reference(path: str) -> None:
    """Raise ReferenceFault if the reference could not be built, before any time is spent."""
    if reason := failed_build.reason_of(path):
        raise ReferenceFault(f"the reference {os.path.basename(path)}: {reason}")


def start_reference(run: runs.Run, arguments: runs.CellArguments) -> str:
    """Start the reference beside the server, with as many idle connections; its URL. Raises ReferenceFault."""
    both, path, changes = run.sides, arguments.reference, arguments.workload.changes
    try:
        target, options = runs.start_options(both, arguments, run.split)
        listening = both.server.start_reference(
            runs.binary_at(both, path), workers=len(run.split.server), **options
        )
        both.load.verify(target, listening["port"], changes)
        if run.idle_connections:
            opened = both.load.open_idle(target, listening["port"], changes)
            both.server.note_reference_idle(*opened)
    except FileNotFoundError:
        raise ReferenceFault(f"there is no reference {path}") from None
    except (server_process.RunError, server_process.Unavailable) as error:
        raise ReferenceFault(f"the reference {os.path.basename(path)}: {error}") from None
    return wrk.url_of(target, listening["port"])


def time_between(readings: Iterable[Any]) -> int | None:
    """CPU time from the first to the last reading; readings from another host come as lists."""
    return proc.cpu_time_between(*(proc.CpuReading(*reading) for reading in readings))


def _work(
    readings: list[dict[str, Any]], seconds: list[list[float]], sizes: list[float | None]
) -> Work:
    """The work from the first to the last reading; seconds: of the blocks between them; sizes: of a response."""
    sent = zip(readings[0]["bytes_sent"], readings[-1]["bytes_sent"], sizes, strict=True)
    cpu = zip(*(reading["cpu"] for reading in readings), strict=True)
    return Work(
        [sum(of_side) for of_side in zip(*seconds, strict=True)],
        [requests_of(*of_side) for of_side in sent],
        [time_between(of_side) for of_side in cpu],
    )


def _load_in_turns(run: runs.Run, urls: list[str], plan: Plan) -> dict[str, Any]:
    """Load both sides in turns; return the readings, and the results of both loads."""
    server, load_side = run.sides.server, run.sides.load
    load_cpus = [] if run.split.shared else run.split.load
    unloaded = server.read_pair_cpu()
    load_side.start_pair(
        urls,
        **run.load_options,
        duration_s=plan.longest_s + READING_S * len(plan.blocks),
    )
    readings, idle = [server.read_pair()], load_side.read_pair_idle(load_cpus)
    seconds = []
    for block in plan.blocks:
        seconds.append(load_side.alternate(block, plan.slice_s, plan.pause_s))
        readings.append(server.read_pair())
    client = load_side.read_pair_idle(load_cpus)
    return {
        "readings": readings,
        "seconds": seconds,
        "client": (idle, client),
        "results": load_side.finish_pair(),
        "ends": (unloaded, server.read_pair_cpu()),
    }


def _measure_pair(run: runs.Run, urls: list[str], plan: Plan) -> dict[str, Any]:
    """Run the phase and return its fields; those of `paired` are lists of server and reference."""
    seen = _load_in_turns(run, urls, plan)
    readings, seconds, results = seen["readings"], seen["seconds"], seen["results"]
    sizes = [its["requests"] and its["response_bytes"] / its["requests"] for its in results]
    comes_and_goes = run.workload.connection_per_request
    whole = _work(readings, seconds, sizes)
    known_ns = [time_ns for time_ns in whole.cpu_ns if time_ns is not None]
    own_ns = sum(known_ns) if len(known_ns) == len(urls) else None
    counted_by = ["wrk" if counted is None else "kernel" for counted in whole.requests]
    for side in (SERVER, REFERENCE):
        if (
            counted_by[side] == "wrk"
        ):  # its connections come and go: take all its work for this load
            cpu = [reading["cpu"][side] for reading in readings]
            whole.requests[side] = results[side]["requests"]
            whole.cpu_ns[side] = time_between([seen["ends"][0][side], *cpu, seen["ends"][1][side]])
    blocks = [
        _work(readings[at : at + 2], seconds[at : at + 1], sizes) for at in range(len(seconds))
    ]
    requests = [counted or 0.0 for counted in whole.requests]
    is_drained = [
        is_drained_in_time(plan, run.connections, *of_side, len(run.split.server))
        for of_side in zip(requests, whole.seconds, whole.cpu_ns, strict=True)
    ]
    errors = [result["errors_by_kind"] for result in results]
    connections = [len(sent) for sent in readings[-1]["bytes_sent"]]
    figures = figures_of_blocks(
        [whole] if any(None in block.requests for block in blocks) else blocks,
        len(run.split.server),
        is_sound=not has_errors(errors)
        and (comes_and_goes or connections[REFERENCE] == run.connections)
        and (comes_and_goes or counted_by[REFERENCE] == "kernel")
        and all(is_drained),
        is_counted="wrk" not in counted_by
        and run.connections * plan.slices <= TAIL_SHARE * min(requests),
    )
    paired = {
        **plan._asdict(),
        **whole._asdict(),
        "blocks": [
            {"order": order, **block._asdict()}
            for order, block in zip(plan.blocks, blocks, strict=True)
        ],
        "counted_by": counted_by,
        "wrk_requests": [result["requests"] for result in results],  # in all
        "connections": connections,
        "errors_by_kind": errors,
        **disturbance.between(
            disturbance.readings(readings[0], readings[-1], own_ns),
            disturbance.readings(*seen["client"]),
        ),
    }
    return {**figures, "paired": paired}


def _once(both: runs.Sides[Any, Any], arguments: runs.CellArguments, plan: Plan) -> dict[str, Any]:
    """The phase, of a fresh server and a fresh reference."""
    with runs.started(both, arguments) as run:
        url = start_reference(run, arguments)
        try:
            seen = _measure_pair(run, [run.url, url], plan)
            seen["paired"]["response_unchanged"] = run.answers_as_before()
            return seen
        except places.SideLost:
            raise
        except (wrk.LoadError, OSError, server_process.RunError):
            # If one of the two servers has ended, say that instead.
            both.server.check_running(runs.ENDING_S)
            try:
                both.server.check_reference()
            except server_process.RunError as its:
                raise ReferenceFault(f"the reference, in the paired phase: {its}") from None
            raise


def measure(
    both: runs.Sides[Any, Any], arguments: runs.CellArguments, round_s: float | None = None
) -> dict[str, Any]:
    """Run the paired phase and return its fields of the record. round_s: as in plan_of().

    Raises ReferenceFault if the reference fails, RunError or LoadError if the server does.
    """
    seed = f"{arguments.server}/{arguments.connections}/{arguments.repeat}"
    if arguments.workload != Workload():
        seed = f"{arguments.workload_name}/{seed}"
    plan = plan_of(arguments.connections, arguments.paired_s, seed, round_s)
    try:
        *earlier, seen = runs.repeat_while_disturbed(
            lambda: _once(both, arguments, plan),
            lambda seen: flags.is_disturbed(seen["paired"]),
            arguments.disturbed_retries,
        )
    except (server_process.RunError, wrk.LoadError) as error:
        error.args = (f"in the paired phase: {error}",)
        raise
    seen["paired"]["earlier_attempts"] = earlier
    return seen
