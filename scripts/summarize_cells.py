#!/usr/bin/env python3
"""A table of cells → its summary, a row for each machine, server and number of connections."""

import argparse
import sys

from analysis import summary, tables
from common import command


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", help="results/cells.csv")
    parser.add_argument("summary", help="the table to write")
    arguments = parser.parse_args()
    cells = tables.read_cell_table(arguments.cells)
    tables.write_table(summary.summary_table(cells), arguments.summary)
    return 0


if __name__ == "__main__":
    sys.exit(command.report(main))
