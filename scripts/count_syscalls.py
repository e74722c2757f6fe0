#!/usr/bin/env python3
"""Count a server's system calls, context switches, page faults and memory under load, with perf stat (M34).

A run of its own (M18): perf counts from before the load until after it, so that wrk's number of requests is the divisor
(hence no warm-up). Where there are no counts the table has one row with a status and its reason: not_permitted, with
the command that mends it; unavailable; invalid if wrk saw errors. Faults give one line and status 1.
"""

import argparse
import contextlib
import csv
import io
import os
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import load
import machine
import records
import runs
import server_process
from perf_permission import TRACEFS, tracefs_obstacle
from processes import Process, one_line, running

# By name, those that this kernel has: of receiving, sending, waiting, and of connections. The rest are counted as one:
# perf takes 40 ms to let go of each tracepoint, and no server here makes others more than a few times a connection.
SYSTEM_CALLS = (
    *("recvfrom", "read", "sendto", "write", "writev"),
    *("epoll_wait", "epoll_pwait", "poll", "ppoll", "pselect6", "io_uring_enter", "futex"),
    *("accept4", "close", "epoll_ctl"),
)
ALL_CALLS = "raw_syscalls:sys_enter"
CALL_PREFIX = "syscalls:sys_enter_"
SOFTWARE_EVENTS = {"context_switch": "context-switches", "page_fault": "page-faults"}
COLUMNS = [
    *("server", "connections", "status", "reason", "requests"),
    *("kind", "name", "count", "per_request"),
]
Row = dict[str, Any]  # of these columns
COUNT_LINE = re.compile(r"^(\d+|<not \w+>),[^,\n]*,([^,\n]+),", re.MULTILINE)
PERF_TIMEOUT_S = 60.0
NOISE = 0.001  # by which the calls with names may exceed all: threads end while perf stops one counter after the other


class NotCounted(Exception):
    """No counts, and why."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def refusal(said: str) -> str:
    """Why perf did not count, from all that it said: what follows its "Error:"."""
    match = re.search(r"^Error:\s*(.+)", said, re.MULTILINE)
    return match[1] if match else one_line(said)[:300]


def kernel_obstacle(said: str) -> str:
    """What keeps perf from counting in the kernel, from what `perf stat -e page-faults` said; empty if nothing does.

    Without the right to it perf counts in user space alone, and tells it only by a letter behind the event's name.
    """
    if ",page-faults," in said:
        return ""
    if ",page-faults:u," in said or "perf_event_paranoid" in said:
        return "perf may not count in the kernel: sudo sysctl kernel.perf_event_paranoid=1"
    return f"perf may not count: {refusal(said)}"


def check_permission() -> None:
    """In 10 ms; raises NotCounted with all that has to be mended."""
    if shutil.which("perf") is None:
        raise NotCounted("unavailable", "perf is not installed: make setup names its package")
    obstacles = [kernel_obstacle(try_perf("page-faults").stderr), tracefs_obstacle()]
    if any(obstacles):
        raise NotCounted("not_permitted", "; ".join(filter(None, obstacles)))


def obstacle_here() -> str:
    """What keeps this machine from counting; empty if nothing does."""
    try:
        check_permission()
    except NotCounted as obstacle:
        return str(obstacle)
    return ""


def obstacle_met(table_path: str, obstacle: str) -> str:
    """What makes a table stale: one that an obstacle prevented is made when that is gone, a good one is kept."""
    try:
        with open(table_path, encoding="utf-8", newline="") as file:
            first = next(csv.DictReader(file), {})
    except (OSError, ValueError, csv.Error):
        return obstacle
    return "" if first.get("status") == "ok" else obstacle


def try_perf(event: str) -> "subprocess.CompletedProcess[str]":
    """Let perf count an event of a process of its own."""
    command = ["perf", "stat", "-x,", "-e", event, "true"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def events_here() -> list[str]:
    """What to count on this machine. Raises NotCounted if perf knows of no system calls here."""
    if not os.path.isdir(f"{TRACEFS}/events"):
        tried = try_perf(ALL_CALLS)  # which mounts it
        if tried.returncode != 0:
            raise NotCounted("unavailable", f"perf stat failed: {refusal(tried.stderr)}")
    known = [
        name
        for name in SYSTEM_CALLS
        if os.path.isdir(f"{TRACEFS}/events/syscalls/sys_enter_{name}")
    ]
    return [*SOFTWARE_EVENTS.values(), ALL_CALLS, *(f"{CALL_PREFIX}{name}" for name in known)]


@contextlib.contextmanager
def counting(pids: Sequence[int], events: Sequence[str]) -> Iterator[Process]:
    """Start perf; it counts what these processes, and what they start from now on, do until it gets SIGINT.

    Raises NotCounted if perf refuses.
    """
    orders, ours = os.pipe()
    os.write(ours, b"enable\n")  # perf answers when it has attached its counters
    command = ["perf", "stat", "-x,", "-e", ",".join(events), "-p", ",".join(map(str, pids))]
    try:
        with running([*command, f"--control=fd:{orders},1"], pass_fds=[orders]) as perf:
            assert perf.stdout is not None
            if not select.select([perf.stdout], [], [], PERF_TIMEOUT_S)[0]:
                raise server_process.RunError(f"perf did not answer within {PERF_TIMEOUT_S:g} s")
            if not perf.stdout.readline():
                said = perf.communicate(timeout=PERF_TIMEOUT_S)[1]
                status = "not_permitted" if "ermission" in said else "unavailable"
                raise NotCounted(status, f"perf stat failed: {refusal(said)}")
            yield perf
    finally:
        os.close(orders)
        os.close(ours)


def parse_counts(output: str, events: Sequence[str]) -> dict[str, int]:
    """perf stat's output (-x,) → the count of each event.

    Raises NotCounted if this machine does not support one, RunError if one was not counted.
    """
    counts = {event: count for count, event in COUNT_LINE.findall(output)}
    lacking = {event: counts.get(event, "no line") for event in events}
    lacking = {event: count for event, count in lacking.items() if not count.isdigit()}
    said = "perf did not count " + ", ".join(f"{event} ({why})" for event, why in lacking.items())
    if "<not supported>" in lacking.values():
        raise NotCounted("unavailable", said)
    if lacking:
        raise server_process.RunError(said)
    return {event: int(counts[event]) for event in events}


def finish(perf: Process, events: Sequence[str]) -> dict[str, int]:
    """End perf and read its counts."""
    perf.send_signal(signal.SIGINT)
    return parse_counts(perf.communicate(timeout=PERF_TIMEOUT_S)[1], events)


def system_calls(counts: dict[str, int]) -> dict[str, int]:
    """Counts by event → by system call, those without a name as `other`, and their sum as `all`.

    Raises RunError if the names' counts do not fit into that of all.
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
    """Raises NotCounted if the load is no divisor."""
    errors = ", ".join(f"{count} {kind}" for kind, count in errors_by_kind.items() if count)
    if errors:
        raise NotCounted("invalid", f"wrk saw errors: {errors}")
    if not requests:
        raise NotCounted("invalid", "not one request was answered")


def rows_of(requests: int, counts: dict[str, int], memory_kib: int) -> list[Row]:
    """The table's rows of a run, from its counts by event."""
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


def count(arguments: argparse.Namespace, events: Sequence[str]) -> list[Row]:
    """A run: what the server did in it, the start and end of its connections included."""
    with runs.started(arguments) as run:
        with counting(run.server.pids, events) as perf:
            with load.running_load(
                run.url,
                connections=arguments.connections,
                threads=run.threads,
                duration_s=arguments.duration_s,
            ) as wrk:
                result = wrk.finish()
            memory_kib = machine.memory_peak_kib(run.server.pids)
            counts = finish(perf, events)
        run.server.stop()
    check_load(result["errors_by_kind"], result["requests"])
    return rows_of(result["requests"], counts, memory_kib)


def rows_here(arguments: argparse.Namespace) -> list[Row]:
    """The rows of a run, or one that says why there are none. Raises RunError, LoadError, OSError or TimeoutExpired."""
    again = f"to try again, delete {arguments.output}"
    try:
        check_permission()  # when that is mended, the workflow tries again by itself: obstacle_met
    except NotCounted as obstacle:
        return [{"status": obstacle.status, "reason": str(obstacle)}]
    try:
        with machine.exclusive_machine():
            return count(arguments, events_here())
    except NotCounted as obstacle:
        return [{"status": obstacle.status, "reason": f"{obstacle}; {again}"}]
    except server_process.Unavailable as reason:
        return [{"status": "unavailable", "reason": f"{reason}; {again}"}]


def format_table(rows: Sequence[Row]) -> str:
    """CSV; what a row lacks is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="There is no warm-up, whatever --warmup-s says."
    )
    parser.add_argument("binary", help="the compiled server")
    parser.add_argument("output", help="where the table goes (CSV)")
    runs.add_arguments(parser, duration_s=0.7)
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    name = os.path.basename(arguments.binary)
    runs.end_cleanly_on_sigterm()
    try:
        rows = rows_here(arguments)
    except (server_process.RunError, load.LoadError, OSError, subprocess.TimeoutExpired) as error:
        print(f"count_syscalls: {name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    asked = {"server": name, "connections": arguments.connections}
    records.write_text(arguments.output, format_table([{**asked, **row} for row in rows]))
    told = f"not counted: {rows[0].get('reason')}"
    for row in rows:
        if row.get("kind") == "system_call" and row["name"] == "all":
            told = f"{row['count'] / row['requests']:.2f} a request"
    print(f"{name:<23}{arguments.connections:>5} connections, system calls: {told}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
