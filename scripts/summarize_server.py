#!/usr/bin/env python3
"""One server's records → its rows of results/cells.csv and of results/summary.csv."""

import argparse
import sys

import faults
import records
import tables
from cells import Cell, record_path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("server")
    parser.add_argument("cells", help="the table of cells to write")
    parser.add_argument("summary", help="the table of the summary to write")
    parser.add_argument("--connections", type=int, nargs="+", required=True)
    parser.add_argument("--repeats", type=int, required=True)
    parser.add_argument("--ceiling", help="the ceiling's summary, if this is not the ceiling")
    arguments = parser.parse_args()
    wanted = [
        Cell(arguments.server, connections, repeat)
        for connections in sorted(arguments.connections)
        for repeat in range(1, arguments.repeats + 1)
    ]
    paths = [record_path(cell) for cell in wanted]
    read = zip(records.read_all(paths), wanted, paths, strict=True)
    cells = tables.cell_table(tables.checked(*one) for one in read)
    ceiling = tables.read_summary(arguments.ceiling) if arguments.ceiling else None
    tables.write_table(cells, arguments.cells)
    tables.write_table(tables.summary_table(cells, ceiling), arguments.summary)
    return 0


if __name__ == "__main__":
    sys.exit(faults.told(main))
