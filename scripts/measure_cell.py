#!/usr/bin/env python3
"""Measure one cell: a fresh server process under one load; the result is a JSON record.

The record exists only if the run ended and was checked. A server that this machine cannot run gives a record with
status `unavailable`; any other fault gives one line and status 1.
"""

import argparse
import contextlib
import os
import signal
import sys
import time
from typing import Any

import flags
import load
import machine
import progress
import records
import runs
import server_process
import sockets
from cells import Cell

# Sockets are read just before the load ends: afterwards they are gone.
SNAPSHOT_LEAD_S = 0.1
CLOSE_TIMEOUT_S = 2.0


def format_utc(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601, to the millisecond."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return time.strftime(f"%Y-%m-%dT%H:%M:%S.{milliseconds:03}+00:00", time.gmtime(whole))


def warm_up(run: runs.Run, arguments: argparse.Namespace) -> dict[str, int]:
    """Load that is not measured (M19): its requests, which the server's counts include, and what it left behind."""
    if arguments.warmup_s == 0:
        return {"warmup_requests": 0, "leftover_connections": 0}
    with load.running_load(
        run.url,
        connections=arguments.connections,
        threads=run.threads,
        duration_s=arguments.warmup_s,
    ) as warmup:
        requests = warmup.finish()["requests"]
    # What the server still does for connections that are gone must not be on the timed run's account.
    left = sockets.wait_until_closed(run.server.port, CLOSE_TIMEOUT_S)
    return {"warmup_requests": requests, "leftover_connections": left}


def timed_load(run: runs.Run, arguments: argparse.Namespace) -> dict[str, Any]:
    """The measured load: wrk's result, and what the kernel knows of server, client and connections."""
    pids = run.server.pids
    cpu_before_ns = machine.cpu_time_ns(pids)
    with load.running_load(
        run.url,
        connections=arguments.connections,
        threads=run.threads,
        duration_s=arguments.duration_s,
    ) as wrk:
        wrk.wait_until(max(arguments.duration_s / 2, arguments.duration_s - SNAPSHOT_LEAD_S))
        elapsed_ns = (time.monotonic() - wrk.started_s) * 1e9
        client_cpu_ns = machine.cpu_time_ns([wrk.process.pid])
        server_cpu_ns = machine.cpu_time_ns(pids) - cpu_before_ns
        bytes_sent = sockets.read_bytes_sent(run.server.port)
        result = wrk.finish()
    cpu_ns = machine.cpu_time_ns(pids) - cpu_before_ns
    missing = max(0, arguments.connections - len(bytes_sent))
    served = sum(1 for sent in bytes_sent if sent > 0)
    return {
        **result,
        "load_command": wrk.command,
        "errors": sum(result["errors_by_kind"].values()),
        "server_cpu_ns_per_request": cpu_ns / result["requests"] if result["requests"] else None,
        "server_cpu_share": server_cpu_ns / elapsed_ns / len(run.split.server),
        "client_cpu_share": client_cpu_ns / elapsed_ns / run.threads,
        "server_memory_peak_kib": machine.memory_peak_kib(pids),
        "established_connections": len(bytes_sent),
        "unserved_connections": max(0, arguments.connections - served),
        "fairness_jain": sockets.fairness_jain([*bytes_sent, *[0] * missing]),
        "raw_bytes_sent": bytes_sent,
    }


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """A record's fields from the run on. Raises RunError, LoadError, Unavailable or OSError."""
    with runs.started(arguments) as run:
        warmup = warm_up(run, arguments)
        started_s = time.time()
        seen = timed_load(run, arguments)
        run.server.stop()
    return {
        "started": format_utc(started_s),
        "server_cpus": run.split.server,
        "load_cpus": run.split.load,
        "cpus_shared": run.split.shared,
        "workers": run.workers,
        "server_command": run.server.command,
        **seen,
        **warmup,
        "server_counts": run.server.counts,
        "response": run.response.decode("latin-1"),
    }


def record_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The whole record: what was asked, what was seen, and what that makes of it."""
    record: dict[str, Any] = {
        "schema_version": records.SCHEMA_VERSION,
        "server": arguments.server,
        "connections": arguments.connections,
        "repeat": arguments.repeat,
        "asked": {name: getattr(arguments, name) for name in ("duration_s", "warmup_s", "host")},
    }
    try:
        seen = measure(arguments)
    except server_process.Unavailable as reason:
        again = f"when that has changed, delete results/cells/{arguments.server}"
        return {**record, "status": "unavailable", "reason": f"{reason}; {again}", "flags": []}
    raised = flags.flags_of({**record, **seen})
    record["status"] = "invalid" if any(flag.invalidates for flag in raised) else "ok"
    return {**record, "flags": [flag.name for flag in raised], **seen}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", help="the compiled server")
    parser.add_argument("output", help="where the record goes")
    parser.add_argument("--server", help="its name in the record (default: the binary's)")
    parser.add_argument("--repeat", type=int, default=1)
    runs.add_arguments(parser, duration_s=2.0)
    arguments = parser.parse_args()
    arguments.server = arguments.server or os.path.basename(arguments.binary)
    return arguments


def main() -> int:
    arguments = parse_arguments()
    cell = Cell(arguments.server, arguments.connections, arguments.repeat)
    runs.end_cleanly_on_sigterm()
    try:
        with machine.exclusive_machine():
            record = record_of(arguments)
            records.write(arguments.output, record)
    except (server_process.RunError, load.LoadError, OSError) as error:
        print(f"measure_cell: {cell}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    with contextlib.suppress(OSError, ValueError):  # a torn plan is no fault of the measurement
        progress.tell(cell, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
