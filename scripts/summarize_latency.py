#!/usr/bin/env python3
"""Write latency_summary.csv, a row for each server and rate, and latency_limits.csv: the load within the target."""

import argparse
import sys

from analysis import latency, tables
from common import command


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("latencies", help="results/latency.csv")
    parser.add_argument("summary", help="results/latency_summary.csv, to write")
    parser.add_argument("limits", help="results/latency_limits.csv, to write")
    parser.add_argument("--target-ms", type=float, required=True, help="for the 99th percentile")
    arguments = parser.parse_args()
    cells = latency.read_latencies(arguments.latencies)
    tables.write_table(latency.summarize(cells), arguments.summary)
    tables.write_table(latency.limits(cells, arguments.target_ms), arguments.limits)
    return 0


if __name__ == "__main__":
    sys.exit(command.report(main))
