#!/usr/bin/env python3
"""Stands in for scripts/measure_cell.py: writes a copy of a record that was measured, whose figures vary."""

import argparse
import functools
import os
import random
from typing import Any

from sweep import cells, records

TEMPLATES = "templates"  # a folder beside scripts/: a record for each server
PROPORTIONAL = ["requests", "requests_per_second", "response_bytes"]
PROPORTIONAL += ["kernel_responses", "server_requests"]
INVERSE = [f"latency_{figure}_us" for figure in ("mean", "p50", "p90", "p99", "max")]


@functools.lru_cache
def template_of(checkout: str | os.PathLike[str], server: str) -> dict[str, Any]:
    return records.read(os.path.join(checkout, TEMPLATES, f"{server}.json"))


def made_up(template: dict[str, Any], cell: cells.Cell, position: int | None) -> dict[str, Any]:
    """A record for a cell: the template's, with figures that vary by some percent, always alike."""
    template = {**template, **cell._asdict(), "position": position}
    if template["status"] == "unavailable":
        return template
    chance = random.Random(str(cell))
    speed, cost = (chance.lognormvariate(0, 0.03) for _ in range(2))
    figures = {
        name: type(template[name])(template[name] * speed)
        for name in PROPORTIONAL
        if template[name]
    }
    figures |= {name: template[name] / speed for name in INVERSE}
    figures["server_cpu_ns_per_request"] = template["server_cpu_ns_per_request"] * cost
    return {**template, **figures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary")
    parser.add_argument("output")
    parser.add_argument("--server")
    parser.add_argument("--workload-name")
    parser.add_argument("--connections", type=int)
    parser.add_argument("--repeat", type=int)
    arguments, _ = parser.parse_known_args()
    checkout = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    template = template_of(checkout, arguments.server)
    numbers = arguments.connections, arguments.repeat
    cell = cells.Cell(arguments.server, *numbers, arguments.workload_name)
    records.write(arguments.output, made_up(template, cell, None))


if __name__ == "__main__":
    main()
