#!/usr/bin/env python3
"""Write one server's rows of results/cells.csv from its records."""

import argparse
import csv
import json
import sys

from common import command, files
from sweep import records
from sweep.cells import POINTS_HELP, Cell, record_path
from sweep.rows import CELL_COLUMNS, check_record, format_value, make_row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("server")
    parser.add_argument("table", help="the table of cells to write")
    parser.add_argument("--points", type=json.loads, required=True, help=POINTS_HELP)
    arguments = parser.parse_args()
    wanted = [
        Cell(arguments.server, count, repeat, workload)
        for workload, (connections, repeats) in arguments.points.items()
        for count in sorted(connections)
        for repeat in range(1, repeats + 1)
    ]
    paths = [record_path(cell) for cell in wanted]
    found = zip(records.read_all(paths), wanted, paths, strict=True)
    rows = [make_row(check_record(*one)) for one in found]
    with (
        files.replacing(arguments.table) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as file,
    ):
        table = csv.writer(file, lineterminator="\n")
        table.writerow(CELL_COLUMNS)
        table.writerows(map(format_value, row.values()) for row in rows)
    return 0


if __name__ == "__main__":
    sys.exit(command.report(main))
