#!/usr/bin/env python3
"""What each host lacks, and what would make its results noisy or wrong, with the commands that mend it (M14, M16).

Changes nothing. Status 1 if no sweep should start: its results would be wrong, or there would be none.
"""

import argparse
import os
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import console
import host_checks
from host_checks import Check

COLORS = {"ok": 32, "warn": 33, "bad": 31, "unknown": 90}
INDENT = " " * 9
Hosts = Mapping[str, Sequence[Check]]  # by the host's label


def gather(connections: int, compiler: str = "gcc") -> dict[str, list[Check]]:
    """The checks of each host that takes part: this one, which does all."""
    # .venv/bin/python works as if the venv were activated.
    path = f"{sys.prefix}/bin:{os.environ.get('PATH', os.defpath)}"
    checks = host_checks.checks(connections=connections, compiler=compiler, path=path)
    return {host_checks.label(): checks}


def stopping(hosts: Hosts) -> list[str]:
    """One line for each check for which no sweep should start."""
    return [
        f"{check.name}: {check.found}{f': {check.mend}' if check.mend else ''}"
        for checks in hosts.values()
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--connections", type=int, default=1000, help="the most at a time (%(default)s)"
    )
    parser.add_argument("--compiler", default="gcc", help="what compiles the servers (%(default)s)")
    parser.add_argument("--brief", action="store_true", help="a line for each that is not ok")
    arguments = parser.parse_args()
    hosts = gather(arguments.connections, arguments.compiler)
    print(format_brief(hosts) if arguments.brief else format_full(hosts))
    return 1 if stopping(hosts) else 0


if __name__ == "__main__":
    sys.exit(main())
