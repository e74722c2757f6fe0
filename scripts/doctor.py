#!/usr/bin/env python3
"""What each host lacks, and what would make its results noisy or wrong, with the commands that mend it.

And how much its speed wanders, and which differences a sweep can then be expected to tell. Changes nothing. Status 1
if no sweep should start: its results would be wrong, or there would be none.
"""

import argparse
import json
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import console
import machine
import network
import preflight
import resolution
import runs
from cpus import CpuFault
from host_checks import Check
from preflight_side import PreflightSide

COLORS = {"ok": 32, "warn": 33, "bad": 31, "unknown": 90}
INDENT = " " * 9
# What makes times in two hosts' logs hard to compare.
CLOCK_TOLERANCE_S = 1.0
LIFETIME_S = 120
NETWORK = "network"  # the check of the way between the sides
Hosts = Mapping[str, Sequence[Check]]  # by the host's label


def gather(
    found: preflight.Sides, connections: int, compiler: str, address: str
) -> dict[str, list[Check]]:
    """The checks of each host or namespace that takes part, and of the way between them. Raises SideLost.

    `address`: that servers listen on over loopback.
    """
    net = found.network
    listens = address if net.is_loopback else None
    parts: dict[str, tuple[PreflightSide, list[str]]] = {
        network.HERE: (PreflightSide(), ["control"])
    }
    for role, place, side in (
        ("server", net.server, found.server),
        ("load", net.load, found.load),
    ):
        parts.setdefault(place, (side, []))[1].append(role)
    hosts: dict[str, list[Check]] = {}
    # Namespaces of one machine share most of what there is to see.
    seen: set[tuple[str, Check]] = set()
    for place, (side, roles) in parts.items():
        label = side.label() if found.are_here else f"{', '.join(roles)} ({place}): {side.label()}"
        boot = side.boot()
        checks = [Check(*check) for check in side.checks(roles, connections, compiler, listens)]
        hosts[label] = [check for check in checks if (boot, check) not in seen]
        seen |= {(boot, check) for check in checks}
    if not found.are_here:
        hosts["between the two sides"] = [*way_checks(found), *clock_checks(found)]
    return hosts


def way_checks(found: preflight.Sides) -> list[Check]:
    why = "the network is part of what is measured: it must be the one that is meant"
    faults = preflight.faults(found)
    told = [Check(NETWORK, "bad", fault, why, "", True) for fault in faults]
    if found.network.is_loopback:
        return told
    reached = f"the load reaches the server over {found.network.interface}"
    return told or [Check(NETWORK, "ok", reached, why, "", False)]


def clock_checks(found: preflight.Sides) -> Iterator[Check]:
    why = "no figure depends on it, but the times in the logs of two hosts cannot be compared"
    for side, ahead_s in found.clocks_ahead_s.items():
        direction = "ahead of" if ahead_s > 0 else "behind"
        said = f"the clock of the {side}'s host is {abs(ahead_s):.3f} s {direction} this one's"
        wrong = abs(ahead_s) > CLOCK_TOLERANCE_S
        mend = "on that host: sudo chronyc makestep" if wrong else ""
        yield Check(f"clock of {side}", "warn" if wrong else "ok", said, why, mend, False)


def _whose(host: str, hosts: Hosts) -> str:
    """Which host a line is of, where there are several: `load (ssh:far): `."""
    place = re.match(r"[\w, ]+ \([^)]*\)", host)
    return f"{place[0]}: " if place and len(hosts) > 1 else ""


def stopping(hosts: Hosts) -> list[str]:
    """One line for each check for which no sweep should start."""
    return [
        f"{_whose(host, hosts)}{check.found if check.name == NETWORK else f'{check.name}: {check.found}'}"
        f"{f': {check.mend}' if check.mend else ''}"
        for host, checks in hosts.items()
        for check in checks
        if check.stops and check.status == "bad"
    ]


def count(checks: Iterable[Check]) -> str:
    """`30 ok, 1 warn`."""
    numbers = Counter(check.status for check in checks)
    return ", ".join(f"{numbers[status]} {status}" for status in COLORS if numbers[status])


def first_line(check: Check) -> str:
    return f"{check.status:<8} {check.name:<20} {check.found}"


def colored(line: str, check: Check) -> str:
    return console.colored(check.status, COLORS[check.status]) + line[len(check.status) :]


def full_lines(check: Check) -> Iterator[str]:
    def filled(text: str, indent: str) -> str:
        return textwrap.fill(
            text,
            console.width(),
            initial_indent=indent,
            subsequent_indent=INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        )

    yield colored(filled(first_line(check), ""), check)
    yield filled(f"why:  {check.why}", INDENT)
    if check.mend:
        yield f"{INDENT}mend: {check.mend}"  # whole, to be copied


def format_full(hosts: Hosts) -> str:
    """All checks, with why they matter and what mends them."""
    lines: list[str] = []
    for host, checks in hosts.items():
        lines.append(console.wrapped(host))
        lines += [line for check in checks for line in full_lines(check)]
        lines += [count(checks), ""]
    return "\n".join(lines[:-1])


def format_brief(hosts: Hosts) -> str:
    """A line for each check that is not ok, and one that counts them all."""
    lines: list[str] = []
    for host, checks in hosts.items():
        lines += [console.wrapped(host)] if len(hosts) > 1 else []
        for check in checks:
            if check.status != "ok":
                mend = f"; {check.mend}" if check.mend else ""
                lines.append(colored(console.cut(f"{first_line(check)}{mend}"), check))
        lines.append(f"{count(checks)}; why, and what helps: make doctor")
    return "\n".join(lines)


def speed(found: preflight.Sides, arguments: argparse.Namespace) -> str:
    """How much the machine's speed wanders, and what the sweep can tell."""
    try:
        split = preflight.split_of(found, arguments.cpus)
    except (OSError, CpuFault) as fault:
        return f"{resolution.NOT_MEASURED}: {fault}."
    with machine.exclusive_machine():
        return resolution.told(found, split, arguments.sweep, resolution.DOCTOR_S)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--connections", type=int, default=1000, help="the most at a time (%(default)s)"
    )
    parser.add_argument("--compiler", default="gcc", help="what compiles the servers (%(default)s)")
    parser.add_argument(
        "--host", default="::1", help="what servers listen on over loopback (%(default)s)"
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
        help="that is to tell servers apart, as JSON: how many servers, connections, repeats, paired_s",
    )
    parser.add_argument("--brief", action="store_true", help="a line for each that is not ok")
    arguments = parser.parse_args()
    try:
        with runs.connected(arguments.network, PreflightSide, PreflightSide, LIFETIME_S) as found:
            hosts = gather(found, arguments.connections, arguments.compiler, arguments.host)
            print(format_brief(hosts) if arguments.brief else format_full(hosts), flush=True)
            print(f"\n{console.wrapped(console.printable(speed(found, arguments)))}")
    except OSError as error:
        print(f"doctor: {error}")  # it is the diagnosis: a workflow would hide it in a log
        return 1
    return 1 if stopping(hosts) else 0


if __name__ == "__main__":
    sys.exit(main())
