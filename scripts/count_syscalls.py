#!/usr/bin/env python3
"""Count a server's system calls, context switches, page faults and memory under load, with perf stat.

This is a run of its own: perf counts from before the load until after it, and wrk's number of requests is the divisor,
so there is no warm-up. Without counts the table has one row with a status and its reason: not_permitted, with the
command that helps; unavailable; failed if the server did; invalid if wrk saw errors. If the machine fails, the script
prints one line and ends with 1.
"""

import argparse
import csv
import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from common import command, files
from common.processes import one_line
from hosts.perf_permission import PerfObstacle
from instruments import server_process, wrk
from instruments.perf_stat import ALL_CALLS, CALL_PREFIX, SOFTWARE_EVENTS
from measuring import runs
from measuring.counted_side import CountedSide
from measuring.load_side import LoadSide
from sweep.workloads import words_before

AllSides = runs.Sides[CountedSide, LoadSide]
COLUMNS = [
    *("server", "connections", "status", "reason", "requests"),
    *("kind", "name", "count", "per_request", "workload"),
]
Row = dict[str, Any]  # of these columns
# How far the sum over names may exceed the total: threads end while perf stops one counter after the other.
NOISE = 0.001


@dataclass(frozen=True, kw_only=True)
class Arguments(runs.Arguments):
    output: str


def system_calls(counts: dict[str, int]) -> dict[str, int]:
    """Counts by event → by system call, with `other` for calls without a name and `all` for the sum.

    Raises RunError if the sum over names exceeds the total.
    """
    named = {
        event.removeprefix(CALL_PREFIX): count
        for event, count in counts.items()
        if event.startswith(CALL_PREFIX) and count
    }
    of_names, of_all = sum(named.values()), counts[ALL_CALLS]
    if of_names > of_all * (1 + NOISE):
        raise server_process.RunError(f"perf counted {of_names} calls by name, but {of_all} in all")
    total = max(of_names, of_all)
    return {**named, "other": total - of_names, "all": total}


def check_load(errors_by_kind: dict[str, int], requests: int) -> None:
    """Raises PerfObstacle if wrk's requests cannot be the divisor."""
    errors = ", ".join(f"{count} {kind}" for kind, count in errors_by_kind.items() if count)
    if errors:
        raise PerfObstacle("invalid", f"wrk saw errors: {errors}")
    if not requests:
        raise PerfObstacle("invalid", "not one request was answered")


def rows_of(requests: int, counts: dict[str, int], memory_kib: int) -> list[Row]:
    """The table's rows for a run, from its counts by event."""
    seen = [("system_call", name, number) for name, number in system_calls(counts).items()]
    seen += [(kind, "all", counts[event]) for kind, event in SOFTWARE_EVENTS.items()]
    run: Row = {"status": "ok", "requests": requests}
    rows = [
        {
            **run,
            "kind": kind,
            "name": name,
            "count": number,
            "per_request": f"{number / requests:.6g}",
        }
        for kind, name, number in seen
    ]
    return [*rows, {**run, "kind": "memory", "name": "peak_kib", "count": memory_kib}]


def count(found: AllSides, arguments: Arguments) -> list[Row]:
    """Run the server and count what it does, the start and end of its connections included."""
    server = found.server
    events = server.events()
    with runs.started(found, arguments) as run:
        server.start_counting(events)
        run.start_load(arguments.duration_s)
        result = found.load.finish_load()
        # perf stops its counters one after the other, and they would differ if the server were still at work.
        server.wait_until_closed()
        memory_kib = server.memory_peak_kib()
        counts = server.finish_counting()
        server.stop_server()
    check_load(result["errors_by_kind"], result["requests"])
    return rows_of(result["requests"], counts, memory_kib)


def make_rows(arguments: Arguments) -> list[Row]:
    """Count; returns the rows, or one that says why there are none. Raises OSError, CpuFault or TimeoutExpired."""
    again = f"to try again, delete {arguments.output}"
    try:
        with runs.exclusive_sides(arguments, CountedSide) as found:
            try:
                found.server.check_counting()
            except PerfObstacle as obstacle:
                # When it is gone, the workflow tries again by itself: obstacle_to().
                return [{"status": obstacle.status, "reason": str(obstacle)}]
            return runs.try_twice(lambda: count(found, arguments))
    except PerfObstacle as obstacle:
        return [{"status": obstacle.status, "reason": f"{obstacle}; {again}"}]
    except server_process.Unavailable as reason:
        # An external server's launcher names what is installed, so a change makes the table stale.
        advice = "" if server_process.is_external(arguments.binary) else f"; {again}"
        return [{"status": "unavailable", "reason": f"{reason}{advice}"}]
    except (server_process.RunError, wrk.LoadError) as error:
        name = os.path.basename(arguments.binary)
        print(f"count_syscalls: {name}: {error}", file=sys.stderr)
        return [{"status": "failed", "reason": one_line(str(error))}]


def format_table(rows: Sequence[Row]) -> str:
    """Rows as CSV; a value that a row lacks is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def parse_arguments() -> Arguments:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="There is no warm-up, whatever --warmup-s says."
    )
    parser.add_argument("binary", help="the compiled server")
    parser.add_argument("output", help="where the table goes (CSV)")
    runs.add_arguments(parser, duration_s=0.7)
    return Arguments(**runs.parse_options(parser))


def main() -> int:
    arguments = parse_arguments()
    name = os.path.basename(arguments.binary)
    with runs.reported(f"count_syscalls: {name}"):
        rows = make_rows(arguments)
    asked = {
        "server": name,
        "connections": arguments.connections,
        "workload": arguments.workload_name,
    }
    files.write_text(arguments.output, format_table([{**asked, **row} for row in rows]))
    told = f"not counted: {rows[0].get('reason')}"
    for row in rows:
        if row.get("kind") == "system_call" and row["name"] == "all":
            told = f"{row['count'] / row['requests']:.2f} a request"
    what = f"{words_before(arguments.workload_name)}system calls"
    print(f"{name:<23}{arguments.connections:>5} connections, {what}: {told}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(command.report(main))
