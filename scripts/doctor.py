#!/usr/bin/env python3
"""Check each host: what it lacks, what would make its results noisy or wrong, and the commands that fix it.

It also measures how much the machine's speed varies, and says which differences a sweep can therefore detect. Changes
nothing. Status 1 if no sweep should start, because its results would be wrong or missing.
"""

import argparse
import json
import sys

from common import terminal
from hosts import lock, network
from hosts.cpus import CpuFault
from measuring import runs
from measuring.preflight_side import PreflightSide
from workflow import preflight, resolution
from workflow.health import LIFETIME_S, describe_stops, format_brief, format_full, gather


def describe_speed(both: preflight.Sides, arguments: argparse.Namespace) -> str:
    """How much the machine's speed varies, and which differences the sweep can detect."""
    try:
        split = runs.split_of(both, arguments.cpus)
    except (OSError, CpuFault) as fault:
        return f"{resolution.NOT_MEASURED}: {fault}."
    with lock.exclusive_machine():
        return resolution.describe(both, split, arguments.sweep, resolution.DOCTOR_S)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--connections", type=int, default=1000, help="the most at a time (%(default)s)"
    )
    parser.add_argument(
        "--compiler", default="gcc", help="it compiles the servers (default: %(default)s)"
    )
    parser.add_argument(
        "--host", default="::1", help="the servers' address over loopback (default: %(default)s)"
    )
    parser.add_argument(
        "--network",
        type=network.from_json,
        default=network.Network(),
        help="where server and load run, as in the config, as JSON (default: here)",
    )
    parser.add_argument("--cpus", type=json.loads, help="as in the config, as JSON (default: auto)")
    parser.add_argument(
        "--sweep",
        type=resolution.from_json,
        help="what to measure, as JSON: servers (how many), connections, repeats, paired_s",
    )
    parser.add_argument("--brief", action="store_true", help="a line for each check that is not ok")
    arguments = parser.parse_args()
    try:
        with runs.connected(arguments.network, PreflightSide, PreflightSide, LIFETIME_S) as both:
            hosts = gather(both, arguments.connections, arguments.compiler, arguments.host)
            print(format_brief(hosts) if arguments.brief else format_full(hosts), flush=True)
            speed = terminal.make_printable(describe_speed(both, arguments))
            print(f"\n{terminal.wrap(speed)}")
    except OSError as error:
        print(f"doctor: {error}")  # on standard output: the workflow would hide it in a log
        return 1
    return 1 if describe_stops(hosts) else 0


if __name__ == "__main__":
    sys.exit(main())
