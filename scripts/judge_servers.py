#!/usr/bin/env python3
"""results/cells.csv and results/summary.csv → results/verdicts.csv: which server is faster, pair by pair."""

import sys

from analysis import program, tables, verdicts
from analysis.summary import read_summary

main = program.of_tables(
    __doc__,
    lambda cells, summary, path: tables.write_table(verdicts.verdict_table(cells, summary), path),
    "the table of verdicts to write",
    cells=lambda path: tables.read_cell_table(path, verdicts.CELL_COLUMNS),
    summary=lambda path: read_summary(path, verdicts.SUMMARY_COLUMNS),
)

if __name__ == "__main__":
    sys.exit(main())
