#!/usr/bin/env python3
"""results/cells.csv and results/summary.csv → results/verdicts.csv: which server is faster, pair by pair."""

import argparse
import sys

from analysis import tables, verdicts
from analysis.summary import read_summary
from common import command


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", help="results/cells.csv")
    parser.add_argument("summary", help="results/summary.csv")
    parser.add_argument("output", help="the table of verdicts to write")
    arguments = parser.parse_args()
    cells = tables.read_cell_table(arguments.cells, verdicts.CELL_COLUMNS)
    summary = read_summary(arguments.summary, verdicts.SUMMARY_COLUMNS)
    tables.write_table(verdicts.verdict_table(cells, summary), arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(command.report(main))
