#!/usr/bin/env python3
"""Draw folded stacks as an interactive SVG (inferno) and a PNG, or a picture that says why there is no flamegraph."""

import argparse
import os
import shlex
import subprocess
import sys
import textwrap
from typing import Any
from xml.sax.saxutils import escape

from common import files
from common.command import report
from hosts.perf_permission import TITLES


def title_of(facts: dict[str, Any]) -> str:
    load = f"{facts['workload']}, {facts['connections']} connections"
    if idle := facts.get("idle_connections"):
        load += f" and {idle:,} idle ones"
    title = f"{facts['server']}: where its CPU time goes, {load}"
    return "".join(filter(str.isprintable, title))


def draw_stacks(folded: str, facts: dict[str, Any], svg: str) -> None:
    """Draw the flamegraph. Raises CalledProcessError. `flamegraph` wants to run perf itself, so it runs `true` instead,
    and a post-processor that prints our stacks."""
    command = ["flamegraph", "--perfdata", folded, "--no-inline", "--deterministic"]
    command += ["--palette", "java", "--title", title_of(facts)]
    width = f"share of {facts['samples']:,} samples"
    command += ["--subtitle", f"orange: kernel, red: user space; width: {width}"]
    # Remove the suffixes of the compiler and glibc, by which this palette would take names for Java's.
    tidy = r"s/[[:cntrl:]]//g; s/@@*GLIBC_[0-9.]*//g; s/\.(constprop|isra|part|cold)(\.[0-9]+)?//g"
    read_stacks = f"cat > /dev/null; sed -E '{tidy}' {shlex.quote(folded)}"
    command += ["--post-process", f"sh -c {shlex.quote(read_stacks)}", "-o", svg]
    environment = {**os.environ, "PERF": "true"}
    subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True, errors="replace"
    )


def notice_svg(facts: dict[str, Any]) -> str:
    """A picture with text alone: why there is no flamegraph, and what fixes it."""
    reason = f"{TITLES[facts['status']]}: {facts['reason']}"
    if facts["status"] == "invalid":
        reason += (
            f" (to try again, delete results/profile/{facts['workload']}/{facts['server']}.json)"
        )
    lines = textwrap.wrap("".join(filter(str.isprintable, reason)), width=100)
    text = "".join(
        f'<text x="600" y="{110 + 24 * number}" font-size="16">{escape(line)}</text>'
        for number, line in enumerate(lines)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="1200" height="{170 + 24 * len(lines)}" '
        'font-family="DejaVu Sans, sans-serif" text-anchor="middle">'
        '<rect width="100%" height="100%" fill="#f5f5f0"/>'
        f'<text x="600" y="50" font-size="20">{escape(title_of(facts))}</text>{text}</svg>\n'
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folded", help="folded stacks")
    parser.add_argument("facts", help="the profile's facts (JSON)")
    parser.add_argument("svg", help="the picture to draw")
    parser.add_argument("png", help="the same as PNG")
    arguments = parser.parse_args()
    facts = files.read_json(arguments.facts, ["server", "workload", "connections", "status"])
    try:
        if facts["status"] == "ok":
            with files.replacing(arguments.svg) as svg:
                draw_stacks(arguments.folded, facts, svg)
        else:
            files.write_text(arguments.svg, notice_svg(facts))
        with files.replacing(arguments.png) as png:
            command = ["rsvg-convert", "--zoom", "2", "--output", png, arguments.svg]
            subprocess.run(command, check=True, capture_output=True, text=True, errors="replace")
    except FileNotFoundError as error:
        print(f"draw_flamegraph: {error.filename} is not installed: make setup", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        said = " ".join(error.stderr.split())
        print(f"draw_flamegraph: {error.cmd[0]} failed: {said}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(report(main))
