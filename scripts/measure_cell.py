#!/usr/bin/env python3
"""Measure one cell: start a fresh server process, load it, and write a JSON record.

A record exists only if the run ended and was checked. If the server fails, or this machine cannot run it, the record
has status `failed` or `unavailable` and the reason. If the machine fails, the script prints one line and ends with 1.
"""

import argparse
import contextlib
import hashlib
import os
import signal
import sys
import time
from typing import Any

import cells
import disturbance
import faults
import flags
import interfaces
import load
import machine
import pairing
import progress
import records
import run_facts
import runs
import server_process
import sockets
import start_failures
from load_side import LoadSide
from processes import one_line
from server_side import ServerSide

AllSides = runs.Sides[ServerSide, LoadSide]

# Sockets are read just before the load ends, since then they are gone.
SNAPSHOT_LEAD_S = 0.1
# How long to search for the answer that ends a connection. nginx's 1,000th takes 0.1 s.
MOST_PROBED, PROBE_TIMEOUT_S = 20_000, 3.0


def warm_up(run: runs.Run, arguments: runs.CellArguments) -> dict[str, Any]:
    """Load the server without measuring it, but check every response; returns what this saw."""
    if arguments.warmup_s == 0:
        return {"warmup_requests": 0, "warmup_wrong_responses": 0}
    run.start_load(arguments.warmup_s, expected_body=server_process.BODY.decode())
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

    cpu = [machine.CpuReading(*reading["cpu"]) for reading in (before, during, after)]
    cpu_ns = machine.cpu_time_between(*cpu)
    cpu_at_snapshot_ns = machine.cpu_time_between(*cpu[:2])
    requests = result["requests"]
    threads_ns = [
        time_ns - before["threads_ns"].get(thread, 0)
        for thread, time_ns in during["threads_ns"].items()
    ]
    return {
        **result,
        "load_command": command,
        "errors": sum(result["errors_by_kind"].values()),
        "server_cpu_ns_per_request": share_of(cpu_ns, requests) if requests else None,
        "server_cpu_share": share_of(cpu_at_snapshot_ns, server_ns * len(run.split.server)),
        "server_busiest_thread_share": max(threads_ns) / server_ns if threads_ns else None,
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


def share_of(part: float | None, whole: float) -> float | None:
    return None if part is None else part / whole


def fairness_of(seen: dict[str, Any], connections: int, come_and_go: bool) -> dict[str, Any]:
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
        "littles_law_ratio": littles_law_ratio(seen, connections - unserved),
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
        counts["server_accepted"] = total_of(told, "accepted") - len(warmup) - 1 - was_probed
        counts["server_requests"] = total_of(told, "requests") - sum(warmup) // size - checked
    if was_probed or run.verified.varying:
        counts |= {"kernel_responses": None, "server_requests": None}
    return counts


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
        seen["response_unchanged"] = run.answers_as_before()
        is_probed = (
            not short
            and not seen["errors"]
            and accepted > loads  # other programs' are in it
            and sides.server.has_closed_more_than(loads + 1)
        )
        limit = run.requests_until_close(MOST_PROBED, PROBE_TIMEOUT_S) if is_probed else None
        told = sides.server.stop_server()
        if short:
            warmed = warmup["warmup_requests"] if arguments.warmup_s > 0 else None
            counts = counts_of_short_connections(told, arguments.connections, warmed, accepted)
        else:
            timed_closed = sides.server.take_closed(loads + 1 + is_probed)
            counts = counts_of_timed_run(run, told, warmup_closed, timed_closed, is_probed)
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
        **fairness_of(seen, arguments.connections, short or bool(reopened)),
        **warmup,
        "leftover_connections": left,
        "server_counts": told,
        "worker_fairness_jain": worker_fairness_jain(told),
        "response": run.response.decode("latin-1"),
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
    is_paired = bool(arguments.reference) and arguments.paired_s > 0
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


def sha256_of(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def measure_record(sides: AllSides, arguments: runs.CellArguments) -> dict[str, Any]:
    """Measure the cell; returns the whole record, as scripts/fields.py defines it."""
    facts = run_facts.of_sweep(sides)
    sweep, config = runs.read_sweep()
    record: dict[str, Any] = {
        "schema_version": records.SCHEMA_VERSION,
        "server": arguments.server,
        "connections": arguments.connections,
        "repeat": arguments.repeat,
        "status": None,  # near the beginning, where records.read_status looks for it
        "sweep": sweep,
        "position": cells.positions_of(config).get(arguments.output) if config else None,
        "seed": config.get("seed"),
        "asked": {
            "duration_s": arguments.duration_s,
            "warmup_s": arguments.warmup_s,
            "paired_s": arguments.paired_s,
            "host": arguments.host,
            "cpus": arguments.cpus,
            "network": arguments.network._asdict(),
        },
        "clocks_ahead_s": sides.clocks_ahead_s,
        "machine": facts["machine_id"],
        "facts": facts,
        "binary_sha256": sha256_of(arguments.binary),
        "reference_sha256": sha256_of(arguments.reference) if arguments.reference else None,
    }
    try:
        return {**record, **measure_undisturbed(sides, arguments)}
    except (server_process.RunError, load.LoadError) as error:
        failed: dict[str, Any] = {"status": "failed", "reason": one_line(str(error)), "flags": []}
        if isinstance(error, start_failures.NotTried):
            failed["attempts"] = 0
        return {**record, **failed}
    except server_process.Unavailable as reason:
        again = f"; when that has changed, delete {os.path.dirname(arguments.output)}"
        if server_process.is_external(arguments.binary):
            again = ""  # its launcher names what is installed, so a change makes the cell stale
        return {**record, "status": "unavailable", "reason": f"{reason}{again}", "flags": []}


def parse_arguments() -> runs.CellArguments:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", help="the compiled server")
    parser.add_argument("output", help="where the record goes")
    parser.add_argument("--server", help="its name in the record (default: the binary's)")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument(
        "--disturbed-retries",
        type=int,
        help="attempts after disturbed ones (as in the sweep, or 1)",
    )
    parser.add_argument(
        "--reference",
        default="",
        help="the compiled server to pair it with (default: no paired phase)",
    )
    parser.add_argument(
        "--paired-s", type=float, default=0.5, help="of load on each of the two (%(default)s)"
    )
    runs.add_arguments(parser, duration_s=2.0)
    options = runs.parse_options(parser)
    options["server"] = options["server"] or os.path.basename(options["binary"])
    if options["disturbed_retries"] is None:
        options["disturbed_retries"] = runs.read_sweep()[1].get("disturbed_retries", 1)
    return runs.CellArguments(**options)


def main() -> int:
    arguments = parse_arguments()
    cell = cells.Cell(arguments.server, arguments.connections, arguments.repeat)
    runs.end_cleanly_on_sigterm()
    try:
        with runs.exclusive_sides(arguments, ServerSide) as sides:
            record = measure_record(sides, arguments)
            records.write(arguments.output, record)
    except runs.FAULTS as error:
        print(f"measure_cell: {cell}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    if record["status"] == "failed":
        print(f"measure_cell: {cell}: {record['reason']}", file=sys.stderr)
    with contextlib.suppress(OSError, ValueError):  # a torn plan is no fault of the measurement
        progress.print_cell(*cell, record)
    return 0


if __name__ == "__main__":
    sys.exit(faults.report(main))
