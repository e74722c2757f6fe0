#!/usr/bin/env python3
"""Find what the slowest server can do in each workload of the open loop, from its cells: the rates are shares of that.

Only servers count that answered all connections. Writes results/latency/rates.json.
"""

import argparse
import json
import statistics
import sys
from typing import Any

from common import files
from common.command import report
from sweep import records
from sweep.cells import Cell, record_path


def round_capacity(requests_per_second: float) -> float:
    """To two digits: the throughputs vary by more."""
    return float(f"{requests_per_second:.1e}")


def slowest_of(throughputs: dict[str, list[float]]) -> tuple[str, float] | None:
    """The server whose median throughput is the least, and that; None if no server has one."""
    medians = {
        server: statistics.median(values) for server, values in throughputs.items() if values
    }
    return min(medians.items(), key=lambda its: its[1]) if medians else None


def throughputs_of(workload: str, its: dict[str, Any]) -> dict[str, list[float]]:
    """Server → requests per second of its valid cells in which every connection had an answer."""
    found: dict[str, list[float]] = {}
    for server in its["servers"]:
        cells = [
            Cell(server, its["connections"], repeat, workload)
            for repeat in range(1, its["repeats"] + 1)
        ]
        read = records.read_all(map(record_path, cells))
        found[server] = [
            record["requests_per_second"]
            for record in read
            if record["status"] == "ok" and not record["unserved_connections"]
        ]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", help="where the rates go (JSON)")
    parser.add_argument(
        "--grid",
        type=json.loads,
        required=True,
        help='what to read, as JSON: {"WORKLOAD": {"connections": N, "repeats": N, "servers": [...]}}',
    )
    arguments = parser.parse_args()
    planned = {}
    for workload, its in arguments.grid.items():
        slowest = slowest_of(throughputs_of(workload, its))
        if slowest is None:
            print(
                f"plan_rates: no server has a valid cell of {workload} at {its['connections']} connections in which all"
                " of them had an answer, so there is no capacity to take shares of: name rates of your own"
                " (latency.rates in the config)",
                file=sys.stderr,
            )
            return 1
        server, per_second = slowest
        planned[workload] = {
            "connections": its["connections"],
            "slowest": server,
            "capacity_per_second": round_capacity(per_second),
        }
    files.write_text(arguments.output, json.dumps(planned, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(report(main))
