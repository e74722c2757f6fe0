#!/usr/bin/env python3
"""Measure one cell: start a fresh server process, load it, and write a JSON record.

A record exists only if the run ended and was checked. If the server fails, or this machine cannot run it, the record
has status `failed` or `unavailable` and the reason. If the machine fails, the script prints one line and ends with 1.
"""

import argparse
import contextlib
import sys
import time
from typing import Any

from common.command import report
from hosts import interfaces, proc
from instruments import disturbance
from measuring import pairing, record, runs
from measuring.counts import (
    counts_of_short_connections,
    counts_of_timed_run,
    fairness_of,
    reopened_connections,
    share_of,
    without_idle,
    worker_fairness_jain,
)
from measuring.load_side import LoadSide
from measuring.server_side import ServerSide
from sweep import cells, flags, records
from workflow import progress

AllSides = runs.Sides[ServerSide, LoadSide]

# Sockets are read just before the load ends, since then they are gone.
SNAPSHOT_LEAD_S = 0.1
MOST_RESPONSE_BYTES = 4096  # of a response in a record
# What sockets.time_wait() and waiting_ports() count.
OF_CLOSED = ("time_wait_sockets", "time_wait_limit", "ports_waiting", "ports")
# How long to search for the answer that ends a connection. nginx's 1,000th takes 0.1 s.
MOST_PROBED, PROBE_TIMEOUT_S = 20_000, 3.0


def warm_up(run: runs.Run, arguments: runs.CellArguments) -> dict[str, Any]:
    """Load the server without measuring it, but check every response; returns what this saw."""
    if arguments.warmup_s == 0:
        return {"warmup_requests": 0, "warmup_wrong_responses": 0}
    run.start_load(arguments.warmup_s, expected_body_bytes=arguments.workload.body_bytes)
    result = run.sides.load.finish_load()
    return {
        "warmup_requests": result["requests"],
        "warmup_wrong_responses": result["wrong_responses"],
    }


def round_s_of(seen: dict[str, Any], arguments: runs.CellArguments) -> float | None:
    """Seconds in which the warm-up answered each connection once; None if there was none."""
    if arguments.warmup_s == 0:
        return None
    return float(arguments.connections * arguments.warmup_s / max(seen["warmup_requests"], 1))


def run_timed_load(run: runs.Run, arguments: runs.CellArguments) -> dict[str, Any]:
    """Run the measured load; returns wrk's result, and what the kernel knows of server, client and connections."""
    server, load_side = run.sides.server, run.sides.load
    # The server's reading covers CPUs that both share, and the pressure on a machine that both share.
    load_cpus = [] if run.split.shared else run.split.load
    apart = run.sides.apart
    before = server.read(tells_pressure=True)
    idle = load_side.read_idle(load_cpus, tells_pressure=apart)
    command = run.start_load(arguments.duration_s)
    trips_s = run.sides.round_trips_s
    started_s = time.monotonic() - trips_s.get("load", 0) / 2
    lead_s = SNAPSHOT_LEAD_S + 3 * max(trips_s.values(), default=0)
    client = load_side.read_at(
        max(arguments.duration_s / 2, arguments.duration_s - lead_s),
        load_cpus,
        tells_waits=not run.split.shared,
        tells_pressure=apart,
    )
    asked_s = time.monotonic()
    during = server.read(tells_pressure=True)
    # The server is read later than the client, by the time of a round trip: its shares need a time of their own.
    server_ns = ((asked_s + time.monotonic()) / 2 - started_s) * 1e9
    bytes_sent = server.read_connections()
    result = load_side.finish_load()
    after = server.read(tells_pressure=False)

    cpu = [proc.CpuReading(*reading["cpu"]) for reading in (before, during, after)]
    cpu_ns = proc.cpu_time_between(*cpu)
    cpu_at_snapshot_ns = proc.cpu_time_between(*cpu[:2])
    requests = result["requests"]
    threads_ns = [
        time_ns - before["threads_ns"].get(thread, 0)
        for thread, time_ns in during["threads_ns"].items()
    ]
    busy_threads = sum(time_ns > 0 for time_ns in threads_ns)
    return {
        **result,
        "load_command": command,
        "errors": sum(result["errors_by_kind"].values()),
        "server_cpu_ns_per_request": share_of(cpu_ns, requests) if requests else None,
        "server_cpu_share": share_of(cpu_at_snapshot_ns, server_ns * len(run.split.server)),
        "server_busiest_thread_share": max(threads_ns) / server_ns if threads_ns else None,
        "server_threads": busy_threads or None,
        "client_cpu_share": client["cpu_ns"] / (client["elapsed_s"] * 1e9) / run.threads,
        # Some processes are gone by now, so the earlier reading counts too.
        "server_memory_peak_kib": max(during["memory_peak_kib"], after["memory_peak_kib"]),
        "established_connections": len(bytes_sent),
        "processes_changed": set(cpu[1].pids) != set(cpu[0].pids),
        **disturbance.between(
            disturbance.readings(before, during, cpu_at_snapshot_ns),
            disturbance.readings({"disturbance": idle}, client),
        ),
        "interface": interfaces.counters_between(before["interface"], after["interface"]),
        "raw_bytes_sent": bytes_sent,
    }


def watch_ports(run: runs.Run) -> dict[str, int]:
    """What closed connections still hold, right after a load that made many."""
    counts = (*run.sides.server.time_wait(), *run.sides.load.waiting_ports(run.port))
    return dict(zip(OF_CLOSED, counts, strict=True))


def measure(sides: AllSides, arguments: runs.CellArguments) -> dict[str, Any]:
    """Do the timed run once; returns the record's fields from there on. Raises one of runs.FAULTS, or Unavailable."""
    with runs.started(sides, arguments, watch_closed=True) as run:
        short = run.connection_per_request
        if short:
            sides.server.end_watching()  # reporting so many would be a load of its own
        warmup = warm_up(run, arguments)
        # The timed run must not pay for work on connections of the warm-up.
        left = sides.server.wait_until_closed()
        # One connection to check the server, and one with which wrk probes it.
        loads = 1 + arguments.connections
        warmup_closed = sides.server.take_closed(1 + loads * (arguments.warmup_s > 0))
        started_s = time.time()
        accepted = sides.server.accepted_connections()
        seen = run_timed_load(run, arguments)
        accepted = sides.server.accepted_connections() - accepted
        waiting = watch_ports(run) if short else dict.fromkeys(OF_CLOSED)
        seen["response_unchanged"] = run.answers_as_before()
        is_probed = (
            not short
            and not seen["errors"]
            and accepted > loads  # other programs' are in it
            and sides.server.has_closed_more_than(loads + 1)
        )
        lost = sides.server.lost_idle() if run.idle_connections else None
        limit = run.requests_until_close(MOST_PROBED, PROBE_TIMEOUT_S) if is_probed else None
        told = sides.server.stop_server()
        if short:
            warmed = warmup["warmup_requests"] if arguments.warmup_s > 0 else None
            counts = counts_of_short_connections(told, arguments.connections, warmed, accepted)
        else:
            timed_closed = sides.server.take_closed(loads + 1 + is_probed)
            counts = counts_of_timed_run(run, told, warmup_closed, timed_closed, is_probed)
        counts = without_idle(counts, run.idle_connections)
    if seen["processes_changed"]:  # nobody knows the counts of those that are gone
        counts |= {"server_accepted": None, "server_requests": None}
    seen |= counts
    reopened = None if short else reopened_connections(seen, arguments.connections)
    return {
        "started": records.format_utc(started_s),
        "connections": arguments.connections,
        "server_cpus": run.split.server,
        "load_cpus": run.split.load,
        "cpus_shared": run.split.shared,
        "workers": run.workers,
        "server_command": run.command,
        **seen,
        **fairness_of(seen, arguments.connections, run.workload.pipelined, short or bool(reopened)),
        **warmup,
        "leftover_connections": left,
        "server_counts": told,
        "worker_fairness_jain": worker_fairness_jain(told),
        "response": run.response[:MOST_RESPONSE_BYTES].decode("latin-1"),
        "response_size_bytes": len(run.response),
        "handler_cpu_ns_per_request": run.workload.handler_cpu_ns_per_request,
        "idle_connections": run.idle_connections,
        "idle_connections_asked": run.workload.idle_connections,
        "idle_connections_lost": lost,
        **waiting,
        "requests_in_flight": arguments.connections * run.workload.pipelined,
        "varying_headers": run.verified.varying,
        "connection_per_request": short,
        "reopened_connections": reopened,
        "requests_per_connection": limit,
    }


def judge(seen: dict[str, Any]) -> dict[str, Any]:
    """Add status and flags."""
    raised = flags.flags_of(seen)
    status = "invalid" if any(flag.invalidates for flag in raised) else "ok"
    return {**seen, "status": status, "flags": [flag.name for flag in raised]}


def measure_undisturbed(sides: AllSides, arguments: runs.CellArguments) -> dict[str, Any]:
    """Do the timed run, again if something disturbed it, and the paired phase."""
    is_paired = (
        arguments.workload.is_paired and bool(arguments.reference) and arguments.paired_s > 0
    )
    if is_paired:
        pairing.check_reference(arguments.reference)
    *earlier, seen = runs.repeat_while_disturbed(
        lambda: measure(sides, arguments), flags.is_worth_repeating, arguments.disturbed_retries
    )
    paired = {}
    if is_paired:
        paired = pairing.measure(sides, arguments, round_s_of(seen, arguments))
    attempts = {"attempts": len(earlier) + 1, "earlier_attempts": [*map(judge, earlier)]}
    return judge({**seen, **paired, **attempts})


def parse_arguments() -> runs.CellArguments:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    runs.add_cell_arguments(parser, duration_s=2.0)
    return runs.CellArguments(**runs.parse_cell_options(parser))


def main() -> int:
    arguments = parse_arguments()
    cell = cells.Cell(
        arguments.server, arguments.connections, arguments.repeat, arguments.workload_name
    )
    with (
        runs.reported(f"measure_cell: {cell}"),
        runs.exclusive_sides(arguments, ServerSide) as sides,
    ):
        seen = record.make(
            sides, arguments, cells.positions_of, lambda: measure_undisturbed(sides, arguments)
        )
        records.write(arguments.output, seen)
    if seen["status"] == "failed":
        print(f"measure_cell: {cell}: {seen['reason']}", file=sys.stderr)
    with contextlib.suppress(OSError, ValueError):  # a torn plan is no fault of the measurement
        progress.print_cell(cell, seen)
    return 0


if __name__ == "__main__":
    sys.exit(report(main))
