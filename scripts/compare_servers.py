#!/usr/bin/env python3
"""results/cells.csv and results/summary.csv → results/verdicts.csv: which server is faster, pair by pair."""

import argparse
import sys

import comparisons
import faults
import tables


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", help="results/cells.csv")
    parser.add_argument("summary", help="results/summary.csv")
    parser.add_argument("output", help="the table of verdicts to write")
    arguments = parser.parse_args()
    cells = tables.read_cell_table(arguments.cells, comparisons.CELL_COLUMNS)
    summary = tables.read_summary(arguments.summary, comparisons.SUMMARY_COLUMNS)
    tables.write_table(comparisons.verdict_table(cells, summary), arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(faults.report(main))
