#!/usr/bin/env python3
"""A table of cells → its summary, a row for each machine, server and number of connections."""

import argparse
import sys

import faults
import tables


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", help="results/cells.csv, or the ceiling's")
    parser.add_argument("summary", help="the table to write")
    parser.add_argument("--ceiling", help="the ceiling's summary, if this is not the ceiling")
    arguments = parser.parse_args()
    cells = tables.read_cell_table(arguments.cells)
    ceiling = tables.read_summary(arguments.ceiling) if arguments.ceiling else None
    tables.write_table(tables.summary_table(cells, ceiling), arguments.summary)
    return 0


if __name__ == "__main__":
    sys.exit(faults.told(main))
