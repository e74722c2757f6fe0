#!/usr/bin/env python3
"""Compare two results folders, before and after a change: did a server get slower? Status 3 if one did.

This compares a server's ratios to the reference in one set with those in the other, as analysis/verdicts.py compares
two servers of one set; what the machine did between the two sets is in neither. Holm's method corrects over all changed
servers, once for the whole sweep and once for the points. Servers with the same binary in both sets are a family of
their own: if they differ although no known fact of the machine has changed, that is drift, which ratios do not show.
"""

import argparse
import json
import sys
from typing import Any, NamedTuple

import pandas as pd

from analysis import result_sets, set_comparison, set_notes, tables
from analysis.result_sets import NoComparison
from analysis.verdicts import FASTER, SLOWER, UNDECIDABLE, WHOLE_SWEEP
from common import command, terminal
from common.terminal import UNAVAILABLE, Color, Part
from sweep.cells import POINTS_HELP

# Columns that a narrow terminal goes without, the least important first.
SPARE = ["p (Holm)", "binary", "95 % interval", "detectable"]
VERDICT_COLORS = {
    SLOWER: Color.RED,
    FASTER: Color.GREEN,
    set_comparison.DRIFT: Color.GREY,
    UNDECIDABLE: Color.GREY,
}


class Comparison(NamedTuple):
    table: pd.DataFrame
    facts: pd.DataFrame
    notes: list[str]


def compare(sets: set_comparison.Sets) -> Comparison:
    """Two sets → rows, the facts that changed, and notes for the reader."""
    facts = pd.DataFrame(
        result_sets.changes(sets.baseline, sets.current), columns=set_comparison.FACT_COLUMNS
    )
    is_unchanged = not (facts["kind"] == "environment").any()
    same = set_comparison.servers_with_same_binary(sets)
    drifting = same if is_unchanged else set()
    rows = []
    for workload, metrics, its in set_comparison.by_workload(sets):
        sweep, twice = set_comparison.sweep_of(its), set_comparison.measured_twice(its)
        for metric in metrics:
            found = set_comparison.compare_metric(sweep, metric, drifting, twice)
            rows += [{**row, "workload": workload} for row in found]
    binaries = [
        set_comparison.SAME if row["server"] in same else set_comparison.CHANGED for row in rows
    ]
    table = pd.DataFrame(rows, columns=set_comparison.COLUMNS).assign(
        binary=binaries,
        machine_baseline=sets.baseline[0]["machine"],
        machine=sets.current[0]["machine"],
    )
    notes = [
        *set_notes.point_notes(table),
        *set_notes.drift_notes(table, is_unchanged),
        *set_notes.reason_notes(table),
        *set_notes.change_notes(facts),
        *sets.notes,
        set_notes.conclusion(table),
    ]
    return Comparison(table, facts, notes)


# --- In words ---


def _line_of(row: dict[Any, Any]) -> dict[str, Part]:
    low, high = row["ratio_low"], row["ratio_high"]
    detectable = row["smallest_detectable_percent"]
    texts = {
        "server": row["server"],
        "binary": row["binary"],
        "figure": set_notes.figure_of(row["workload"], row["metric"]),
        "current/baseline": f"{row['ratio']:.3f}" if pd.notna(row["ratio"]) else UNAVAILABLE,
        "95 % interval": f"{low:.3f}–{high:.3f}" if pd.notna(low) else UNAVAILABLE,
        "p (Holm)": f"{row['p_adjusted']:.2g}" if pd.notna(row["p_adjusted"]) else UNAVAILABLE,
        "detectable": f"{detectable:.3g} %" if pd.notna(detectable) else UNAVAILABLE,
    }
    verdict = Part(row["verdict"], VERDICT_COLORS.get(row["verdict"], Color.NONE))
    return {name: Part(text) for name, text in texts.items()} | {"verdict": verdict}


def tabulate(compared: Comparison) -> terminal.Table:
    """The table for the console: a row for each server and figure over the whole sweep."""
    whole = compared.table[compared.table["connections"] == WHOLE_SWEEP]
    rows = [_line_of(row) for row in whole.to_dict("records")]
    return terminal.Table(list(rows[0]), [[*row.values()] for row in rows], compared.notes, SPARE)


# --- The command ---


def is_wanted(record: dict[str, Any], points: dict[str, Any]) -> bool:
    connections, repeats = points.get(set_comparison.workload_of(record), ([], 0))
    return record["connections"] in connections and record["repeat"] <= repeats


def read_sets(
    baseline: str, current: str, other_machine: str | None, wanted: argparse.Namespace
) -> set_comparison.Sets:
    """Read both sets. Raises NoComparison or OSError."""
    folders = [result_sets.results_folder(path) for path in (baseline, current)]
    if result_sets.is_same_folder(*folders):
        raise NoComparison(f"{baseline}: the baseline is the current set itself")
    old, new = (result_sets.read(folder) for folder in folders)
    new = [
        record
        for record in new
        if (not wanted.servers or record["server"] in wanted.servers)
        and (not wanted.points or is_wanted(record, wanted.points))
    ]
    if not new:
        raise NoComparison(f"{current}: no records of the wanted servers and connections")
    versions = [{record.get("schema_version") for record in its} for its in (old, new)]
    if versions[0] != versions[1]:
        both = " and ".join(set_comparison._list(its) for its in versions)
        raise NoComparison(
            f"the baseline and the current set have records of schema versions {both}, whose ratios do not compare",
            "measure the baseline again",
        )
    return set_comparison.in_common(set_comparison.of_one_machine(old, new, other_machine))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog=f"Status: 0 nothing got slower, {set_comparison.GOT_SLOWER} something did,"
        f" {set_comparison.NOTHING_DECIDED} nothing could be decided, 1 a set cannot be compared, 2 bad usage.",
    )
    parser.add_argument("baseline", help="a folder with results/ in it, measured before")
    parser.add_argument("current", nargs="?", default=".", help="the same, after (default: .)")
    parser.add_argument("--table", help="the table of comparisons to write, CSV")
    parser.add_argument("--facts", help="the table of changed facts to write, CSV")
    parser.add_argument(
        "--text",
        help="the text to write, beside it its values as JSON (default: text to standard output)",
    )
    parser.add_argument("--other-machine", help="the baseline's machine, if it is another one")
    parser.add_argument("--servers", nargs="+", help="servers to compare (default: all)")
    parser.add_argument("--points", type=json.loads, help=f"compare {POINTS_HELP} (default: all)")
    parser.add_argument("--no-status", action="store_true", help="end with 0 whatever got slower")
    arguments = parser.parse_args()
    sets = read_sets(arguments.baseline, arguments.current, arguments.other_machine, arguments)
    compared = compare(sets)
    if arguments.table:
        tables.write_table(compared.table, arguments.table)
    if arguments.facts:
        tables.write_table(compared.facts, arguments.facts)
    if arguments.text:
        terminal.write_table(tabulate(compared), arguments.text)
    else:
        print(terminal.format_text(tabulate(compared)), end="")
    return 0 if arguments.no_status else set_comparison.status_of(compared.table)


if __name__ == "__main__":
    sys.exit(command.report(main))
