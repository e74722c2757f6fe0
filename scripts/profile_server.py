#!/usr/bin/env python3
"""Profile a server under load with perf, in a run of its own; write folded stacks and the facts that vouch for them.

The facts are JSON with a status: ok; not_permitted or unavailable, with the reason and what helps, if this machine does
not let us; failed if the server did; invalid if a gate failed. Only ok has stacks. If the machine fails, the script
prints one line and ends with 1.
"""

import argparse
import contextlib
import json
import os
import sys
from dataclasses import dataclass
from typing import Any

from common import command, files
from common.processes import one_line
from common.terminal import Part
from hosts.perf_permission import PerfObstacle
from instruments import perf_stat, profile_gates, server_process, wrk
from measuring import runs
from measuring.load_side import LoadSide
from measuring.profiled_side import ProfiledSide
from sweep.workloads import words_before
from workflow import progress

AllSides = runs.Sides[ProfiledSide, LoadSide]
ATTEMPTS = 3  # if a profile fails a gate that a busy machine makes fail


@dataclass(frozen=True, kw_only=True)
class Arguments(runs.Arguments):
    folded: str
    facts: str
    frequency_hz: int


def record_profile(found: AllSides, arguments: Arguments) -> tuple[str, dict[str, Any]]:
    """Run server, load and perf once; returns folded stacks and facts."""
    longest_s = arguments.warmup_s + arguments.duration_s + perf_stat.PERF_TIMEOUT_S
    server, load_side = found.server, found.load
    with runs.started(found, arguments) as run:
        load_command = run.start_load(longest_s)
        perf_command = server.start_perf(  # during the warm-up
            arguments.frequency_hz,
            keeps_vdso=arguments.workload.handler_burn_us > 0,  # the handler reads the clock
        )
        load_side.wait_until(arguments.warmup_s)
        facts = server.sample(arguments.duration_s)
        load_side.wait_until(0)  # raises LoadError if the load has ended
        server.finish_perf()
        load_side.end_load()
        server.stop_server()
        seen = server.fold(facts["server_pids"])
        facts = {
            "perf_command": perf_command,
            "server_command": run.command,
            "load_command": load_command,
            "idle_connections": run.idle_connections,
            **facts,
        }
    stacks = profile_gates.parse_folded(seen["folded"])
    facts["samples"] = sum(stacks.values())
    expected = arguments.frequency_hz * (facts["server_cpu_s"] or 0)
    failed = profile_gates.failed_gates(stacks, seen["events"], seen["reported"], expected)
    if facts["server_cpu_s"] is None:
        failed["no_cpu_time"] = "its CPU time is not known, nor how many samples there should be"
    if failed and (path := facts["unreadable_path"]):
        failed["unreadable_path"] = (
            f"perf cannot read the path {path}: use one of ASCII letters alone"
        )
    facts["failed_gates"] = list(failed)
    facts["status"] = "invalid" if failed else "ok"
    facts["reason"] = "; ".join(failed.values())
    return "" if failed else seen["folded"], facts


def profile(arguments: Arguments, name: str) -> tuple[str, dict[str, Any]]:
    """Try until no gate fails because of a busy machine; returns folded stacks, and facts with status and reason."""
    folded = ""
    try:
        with runs.exclusive_sides(arguments, ProfiledSide) as found:
            found.server.check_profiling()
            for attempt in range(1, ATTEMPTS + 1):
                folded, seen = runs.try_twice(lambda: record_profile(found, arguments))
                seen["attempts"] = attempt
                if not profile_gates.OF_A_BUSY_MACHINE & set(seen["failed_gates"]):
                    break
    except PerfObstacle as obstacle:
        seen = {"status": obstacle.status, "reason": str(obstacle)}
    except server_process.Unavailable as obstacle:
        seen = {"status": "unavailable", "reason": str(obstacle)}
    except (server_process.RunError, wrk.LoadError) as error:
        seen = {"status": "failed", "reason": one_line(str(error))}
        print(f"profile_server: {name}: {error}", file=sys.stderr)
    return folded, seen


def parse_arguments() -> Arguments:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", help="the compiled server")
    parser.add_argument("folded", help="where the folded stacks go")
    parser.add_argument("facts", help="where the facts go (JSON)")
    parser.add_argument("--frequency-hz", type=int, default=499)
    runs.add_arguments(parser, duration_s=4.0)
    return Arguments(**runs.parse_options(parser))


def main() -> int:
    arguments = parse_arguments()
    name = os.path.basename(arguments.binary)
    asked = ("connections", "duration_s", "frequency_hz", "warmup_s")
    facts: dict[str, Any] = {
        "server": name,
        "workload": arguments.workload_name,
        **{key: getattr(arguments, key) for key in asked},
    }
    with runs.reported(f"profile_server: {name}"):
        folded, seen = profile(arguments, name)
    files.write_text(arguments.folded, folded)
    files.write_text(arguments.facts, json.dumps({**facts, **seen}, indent=2) + "\n")
    told = f"{seen['samples']} samples" if seen["status"] == "ok" else "no flamegraph"
    reason = f": {seen['reason']}" if seen["reason"] else ""
    with contextlib.suppress(OSError, ValueError):  # a torn plan is no fault of the profile
        what = f"{words_before(arguments.workload_name)}profile"
        progress.print_line(name, facts["connections"], what, [Part(told + reason)])
    return 0


if __name__ == "__main__":
    sys.exit(command.report(main))
