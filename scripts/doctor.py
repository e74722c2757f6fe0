#!/usr/bin/env python3
"""Check each host: what it lacks, what would make its results noisy or wrong, and the commands that fix it.

It also measures how much the machine's speed varies, and says which differences a sweep can therefore detect. Changes
nothing. Status 1 if no sweep should start, because its results would be wrong or missing.
"""

import argparse
import json
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import console
import machine
import network
import preflight
import resolution
import runs
from console import Color, Part
from cpus import CpuFault
from host_checks import Check
from preflight_side import PreflightSide

COLORS = {"ok": Color.GREEN, "warn": Color.YELLOW, "bad": Color.RED, "unknown": Color.GREY}
INDENT = " " * 9
# Beyond this, times in two hosts' logs are hard to compare.
CLOCK_TOLERANCE_S = 1.0
LIFETIME_S = 120
NETWORK = "network"  # the check that the load reaches the server


class HostChecks(NamedTuple):
    """The checks of one host. role: as `load (ssh:far)`, where several hosts take part."""

    label: str
    checks: Sequence[Check]
    role: str = ""

    @property
    def heading(self) -> str:
        return f"{self.role}: {self.label}" if self.role else self.label


Hosts = Sequence[HostChecks]


def gather(both: preflight.Sides, connections: int, compiler: str, address: str) -> Hosts:
    """The checks of each host or namespace that takes part, and of the network between them. Raises SideLost.

    address: the servers' address over loopback.
    """
    net = both.network
    listens = address if net.is_loopback else None
    parts: dict[str, tuple[PreflightSide, list[str]]] = {
        network.HERE: (PreflightSide(), ["control"])
    }
    for role, place, side in (
        ("server", net.server, both.server),
        ("load", net.load, both.load),
    ):
        parts.setdefault(place, (side, []))[1].append(role)
    hosts: list[HostChecks] = []
    # Namespaces of one machine share most checks: each is shown once.
    seen: set[tuple[str, Check]] = set()
    for place, (side, roles) in parts.items():
        boot = side.boot()
        checks = [Check(*check) for check in side.checks(roles, connections, compiler, listens)]
        new = [check for check in checks if (boot, check) not in seen]
        role = "" if both.are_here else f"{', '.join(roles)} ({place})"
        hosts.append(HostChecks(side.label(), new, role))
        seen |= {(boot, check) for check in checks}
    if not both.are_here:
        between = [*network_checks(both), *clock_checks(both)]
        hosts.append(HostChecks("between the two sides", between))
    return hosts


def network_checks(both: preflight.Sides) -> list[Check]:
    why = "the network is part of what is measured: it must be the intended one"
    faults = preflight.faults(both)
    checks = [Check(NETWORK, "bad", fault, why, "", True) for fault in faults]
    if both.network.is_loopback:
        return checks
    reached = f"the load reaches the server over {both.network.interface}"
    return checks or [Check(NETWORK, "ok", reached, why, "", False)]


def clock_checks(both: preflight.Sides) -> Iterator[Check]:
    why = "no result depends on it, but the times in two hosts' logs cannot be compared"
    for side, ahead_s in both.clocks_ahead_s.items():
        direction = "ahead of" if ahead_s > 0 else "behind"
        said = f"the clock of the {side}'s host is {abs(ahead_s):.3f} s {direction} this one's"
        wrong = abs(ahead_s) > CLOCK_TOLERANCE_S
        fix = "on that host: sudo chronyc makestep" if wrong else ""
        yield Check(f"clock of {side}", "warn" if wrong else "ok", said, why, fix, False)


def describe_stops(hosts: Hosts) -> list[str]:
    """One line for each check that keeps a sweep from starting."""
    lines = []
    for host in hosts:
        for check in host.checks:
            if check.stops and check.status == "bad":
                # The text of a network fault says itself what it is about.
                name = "" if check.name == NETWORK else check.name
                lines.append(": ".join(filter(None, [host.role, name, check.found, check.fix])))
    return lines


def count(checks: Iterable[Check]) -> str:
    """`30 ok, 1 warn`."""
    numbers = Counter(check.status for check in checks)
    return ", ".join(f"{numbers[status]} {status}" for status in COLORS if numbers[status])


def format_result(check: Check) -> str:
    return f"{check.status:<8} {check.name:<20} {check.found}"


def color_status(line: str, check: Check) -> str:
    """Colour the status, with which the line begins."""
    return console.color(check.status, COLORS[check.status]) + line[len(check.status) :]


def full_lines(check: Check) -> Iterator[str]:
    def fill(text: str, indent: str) -> str:
        return textwrap.fill(
            text,
            console.width(),
            initial_indent=indent,
            subsequent_indent=INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        )

    yield color_status(fill(format_result(check), ""), check)
    yield fill(f"why:  {check.why}", INDENT)
    if check.fix:
        yield f"{INDENT}fix:  {check.fix}"  # whole, to be copied


def format_full(hosts: Hosts) -> str:
    """All checks, with why they matter and what fixes them."""
    lines: list[str] = []
    for host in hosts:
        lines.append(console.wrap(host.heading))
        lines += [line for check in host.checks for line in full_lines(check)]
        lines += [count(host.checks), ""]
    return "\n".join(lines[:-1])


def format_brief(hosts: Hosts) -> str:
    """A line for each check that is not ok, and one that counts them all."""
    lines: list[str] = []
    for host in hosts:
        lines += [console.wrap(host.heading)] if len(hosts) > 1 else []
        for check in host.checks:
            if check.status != "ok":
                status = Part(check.status, COLORS[check.status])
                rest = format_result(check)[len(check.status) :]
                fix = f"; {check.fix}" if check.fix else ""
                lines.append(console.format_line([status, Part(f"{rest}{fix}")]))
        lines.append(f"{count(host.checks)}; for reasons and fixes: make doctor")
    return "\n".join(lines)


def describe_speed(both: preflight.Sides, arguments: argparse.Namespace) -> str:
    """How much the machine's speed varies, and which differences the sweep can detect."""
    try:
        split = preflight.split_of(both, arguments.cpus)
    except (OSError, CpuFault) as fault:
        return f"{resolution.NOT_MEASURED}: {fault}."
    with machine.exclusive_machine():
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
            speed = console.make_printable(describe_speed(both, arguments))
            print(f"\n{console.wrap(speed)}")
    except OSError as error:
        print(f"doctor: {error}")  # on standard output: the workflow would hide it in a log
        return 1
    return 1 if describe_stops(hosts) else 0


if __name__ == "__main__":
    sys.exit(main())
