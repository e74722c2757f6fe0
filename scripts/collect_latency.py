#!/usr/bin/env python3
"""Write results/latency.csv from the records of an open loop."""

import argparse
import csv
import json
import sys
from typing import Any

from common import command, files
from sweep import rated_fields, rates, records
from sweep.fields import columns_of
from sweep.rates import RatedCell
from sweep.rows import DELETE_IT, format_value, is_text

STATUSES = ("ok", "overloaded", "invalid", "failed", "unavailable")


def check(record: dict[str, Any], cell: RatedCell, path: str) -> dict[str, Any]:
    """A record, if a run of this cell can have given it. Raises DamagedFile."""
    named = (record.get("server"), record.get("workload"), record.get("repeat"))
    if named != (cell.server, cell.workload, cell.repeat) or record.get("status") not in STATUSES:
        raise files.DamagedFile(f"{path} is of another cell", DELETE_IT)
    its_flags = record.get("flags")
    if not isinstance(its_flags, list) or not all(map(is_text, its_flags)):
        raise files.DamagedFile(f"{path}: its flags are not those of a record", DELETE_IT)
    return record


def make_row(record: dict[str, Any]) -> dict[str, Any]:
    row = {**record, "flags": ";".join(record["flags"]), "reason": record.get("reason") or ""}
    return {name: format_value(row.get(name)) for name in columns_of(rated_fields.LATENCY)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", help="the table to write")
    parser.add_argument(
        "--grid",
        type=json.loads,
        required=True,
        help='what to read, as JSON: {"servers": [...], "workloads": [...], "rates": [...], "repeats": N}',
    )
    arguments = parser.parse_args()
    grid = arguments.grid
    wanted = [
        RatedCell(server, workload, rate, repeat)
        for workload in grid["workloads"]
        for server in grid["servers"]
        for rate in grid["rates"]
        for repeat in range(1, grid["repeats"] + 1)
    ]
    if not wanted:
        print(
            "collect_latency: no workload of this config keeps its connections and has one request at a time on each,"
            " so none can be measured at a rate: add keepalive to workloads",
            file=sys.stderr,
        )
        return 1
    paths = [rates.record_path(cell) for cell in wanted]
    found = zip(records.read_all(paths), wanted, paths, strict=True)
    rows = [make_row(check(*one)) for one in found]
    with (
        files.replacing(arguments.table) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as file,
    ):
        table = csv.DictWriter(file, columns_of(rated_fields.LATENCY), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(command.report(main))
