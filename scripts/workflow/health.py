"""What the doctor finds on the hosts of a sweep, as text."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from common import terminal
from common.terminal import Color, Part
from hosts import network
from hosts.inspection import Check
from measuring.preflight_side import PreflightSide
from workflow import preflight

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


def full_lines(check: Check) -> Iterator[str]:
    line = terminal.wrap(format_result(check), indent=INDENT)
    yield terminal.color(check.status, COLORS[check.status]) + line[len(check.status) :]
    yield terminal.wrap(f"why:  {check.why}", INDENT, INDENT)
    if check.fix:
        yield f"{INDENT}fix:  {check.fix}"  # whole, to be copied


def format_full(hosts: Hosts) -> str:
    """All checks, with why they matter and what fixes them."""
    lines: list[str] = []
    for host in hosts:
        lines.append(terminal.wrap(host.heading))
        lines += [line for check in host.checks for line in full_lines(check)]
        lines += [count(host.checks), ""]
    return "\n".join(lines[:-1])


def format_brief(hosts: Hosts) -> str:
    """A line for each check that is not ok, and one that counts them all."""
    lines: list[str] = []
    for host in hosts:
        lines += [terminal.wrap(host.heading)] if len(hosts) > 1 else []
        for check in host.checks:
            if check.status != "ok":
                status = Part(check.status, COLORS[check.status])
                rest = format_result(check)[len(check.status) :]
                fix = f"; {check.fix}" if check.fix else ""
                lines.append(terminal.format_line([status, Part(f"{rest}{fix}")]))
        lines.append(f"{count(host.checks)}; for reasons and fixes: make doctor")
    return "\n".join(lines)
