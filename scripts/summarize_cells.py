#!/usr/bin/env python3
"""A table of cells → its summary, a row for each machine, server and number of connections."""

import sys

from analysis import program, summary, tables

main = program.of_tables(
    __doc__,
    lambda cells, path: tables.write_table(summary.summary_table(cells), path),
    "the table to write",
    cells=tables.read_cell_table,
)

if __name__ == "__main__":
    sys.exit(main())
