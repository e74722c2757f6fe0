#!/usr/bin/env python3
"""Write latency_summary.csv (a row a server and rate), latency_limits.csv (the load within the target) and a text."""

import argparse
import sys

import pandas as pd

from analysis import latency, tables
from common import command, terminal
from common.terminal import Part


def tabulate(cells: pd.DataFrame, points: pd.DataFrame, limits: pd.DataFrame) -> terminal.Table:
    """What the person at the terminal reads: a row a workload and server, and who takes the most load."""
    columns = ["server", "workload", "requests/s within the target", "95 % interval"]
    rows = [
        [Part(str(text)) for text in (row["server"], row["workload"], *latency.words_of(row))]
        for row in limits.to_dict("records")
    ]
    notes = []
    for workload in dict.fromkeys(cells["workload"]):
        its, its_points, its_limits = (
            table[table["workload"] == workload] for table in (cells, points, limits)
        )
        notes.append(f"{workload}: {latency.sentence(its_limits, its_points)}")
        notes += [f"{workload}: {note}" for note in latency.missing_notes(its)]
    return terminal.Table(columns, rows, notes, ["workload"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("latencies", help="results/latency.csv")
    parser.add_argument("summary", help="results/latency_summary.csv, to write")
    parser.add_argument("limits", help="results/latency_limits.csv, to write")
    parser.add_argument("text", help="results/latency.txt, to write, and its values beside it")
    parser.add_argument("--target-ms", type=float, required=True, help="for the 99th percentile")
    arguments = parser.parse_args()
    cells = latency.read_latencies(arguments.latencies)
    points, limits = latency.summarize(cells), latency.limits(cells, arguments.target_ms)
    tables.write_table(points, arguments.summary)
    tables.write_table(limits, arguments.limits)
    terminal.write_table(tabulate(cells, points, limits), arguments.text)
    return 0


if __name__ == "__main__":
    sys.exit(command.report(main))
