#!/usr/bin/env python3
"""Compare two results folders, before and after a change: did a server get slower? Status 3 if one did.

This compares a server's ratios to the reference in one set with those in the other, as comparisons.py compares two
servers of one set; what the machine did between the two sets is in neither. Holm's method corrects over all changed
servers, once for the whole sweep and once for the points. Servers with the same binary in both sets are a family of
their own: if they differ although no known fact of the machine has changed, that is drift, which ratios do not show.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import comparisons
import console
import faults
import numpy as np
import pandas as pd
import result_sets
import tables
from cells import base_of, is_control
from comparisons import (
    CPU_RATIO,
    FASTER,
    SLOWER,
    THROUGHPUT,
    UNDECIDABLE,
    WHOLE_SWEEP,
    Pair,
    Sweep,
)
from console import Color, Part
from result_sets import NoComparison, Record
from tabulate_results import UNAVAILABLE

GOT_SLOWER, NOTHING_DECIDED = 3, 4  # statuses

# Prefix of the baseline's servers in the arrays that hold both sets; no server's name has a space.
OLD = "baseline "
SAME, CHANGED = "same", "changed"
DRIFT = "drift"
CLIENT_LIMITED = "wrk was the limit in both"
SAME_RUNS = "the same measurements in both"
FIGURES = {CPU_RATIO: "CPU time", THROUGHPUT: "throughput"}  # as ratios to the reference
# Columns that a narrow terminal goes without, the least important first.
SPARE = ["p (Holm)", "binary", "95 % interval", "detectable"]
VERDICT_COLORS = {
    SLOWER: Color.RED,
    FASTER: Color.GREEN,
    DRIFT: Color.GREY,
    UNDECIDABLE: Color.GREY,
}

COLUMNS = ["metric", "server", "binary", "connections", "runs_baseline", "runs_current"]
COLUMNS += ["ratio", "ratio_low", "ratio_high", "p_value", "p_adjusted", "verdict"]
COLUMNS += ["smallest_detectable_percent", "noise_floor_percent", "reason"]
COLUMNS += ["machine_baseline", "machine"]
FACT_COLUMNS = ["kind", "fact", "baseline", "current"]


class Sets(NamedTuple):
    """Records of one machine each, of the servers and numbers of connections that both sets have, and notes about what
    is left out."""

    baseline: list[Record]
    current: list[Record]
    notes: list[str]


class Comparison(NamedTuple):
    table: pd.DataFrame
    facts: pd.DataFrame
    notes: list[str]


# --- Which records are compared ---


def machine_with_most(set_records: list[Record], like: Record | None = None) -> str:
    """The machine of a set with most records; if `like` is given, preferably one with that record's hardware."""

    def key(name: str) -> tuple[bool, bool, int]:
        its = next(record for record in set_records if record["machine"] == name)
        alike = like is not None and result_sets.is_same_machine(its["facts"], like["facts"])
        return bool(alike), like is not None and name == like["machine"], counts[name]

    counts: Counter[str] = Counter(record["machine"] for record in set_records)
    return max(counts, key=key)


def label_of(record: Record) -> str:
    return f"{record['machine']} ({result_sets.format_value(record['facts']['machine_label'])})"


def of_one_machine(
    baseline: list[Record], current: list[Record], other_machine: str | None
) -> Sets:
    """Both sets reduced to one machine each. NoComparison if the two machines differ and the user named none."""
    name = machine_with_most(current)
    new = [record for record in current if record["machine"] == name]
    names = sorted({record["machine"] for record in baseline})
    if other_machine is not None and other_machine not in names:
        raise NoComparison(
            f"the baseline has no machine {other_machine}, it has {', '.join(names)}"
        )
    chosen = other_machine or machine_with_most(baseline, new[0])
    old = [record for record in baseline if record["machine"] == chosen]
    same = result_sets.is_same_machine(old[0]["facts"], new[0]["facts"])
    if not same and other_machine is None:
        raise NoComparison(
            f"the baseline is of another machine, {label_of(old[0])}, not {label_of(new[0])}",
            f"to compare them nevertheless, name it: --other-machine {chosen}"
            f" (for snakemake: --config other_machine={chosen})",
        )
    notes = [] if same else [f"Two machines: {label_of(old[0])}, then {label_of(new[0])}."]
    for which, its, all_of_it in (("baseline", old, baseline), ("current", new, current)):
        if others := len(all_of_it) - len(its):
            notes.append(f"{others} cells of other machines in the {which} set are not compared.")
        disturbed = sum("disturbed" in record["flags"] for record in its)
        if disturbed:
            notes.append(
                f"Other processes took CPU time in {disturbed} of {len(its)} cells of the {which} set."
            )
    return Sets(old, new, notes)


def _list(names: Iterable[Any]) -> str:
    return ", ".join(map(str, sorted(names)))


def in_common(sets: Sets) -> Sets:
    """Reduce both sets to the servers and numbers of connections that both have; NoComparison if there are none."""
    notes = list(sets.notes)
    baseline, current = sets.baseline, sets.current
    for key, noun in (("server", "servers"), ("connections", "connections")):
        compared = [
            {record[key] for record in its if not is_control(record["server"])}
            for its in (baseline, current)
        ]
        old, new = compared
        if not old & new:
            raise NoComparison(
                f"the two sets have no {noun} in common: the baseline has {_list(old) or 'none'},"
                f" the current one {_list(new) or 'none'}"
            )
        for which, alone in (("baseline", old - new), ("current", new - old)):
            if alone:
                notes.append(f"Only the {which} set has {noun} {_list(alone)}.")
        # A control stays even if the other set controls another server: it shows the noise of its own set.
        wanted = old & new
        baseline, current = (
            [it for it in its if it[key] in wanted or base_of(str(it[key])) in wanted]
            for its in (baseline, current)
        )
    return Sets(baseline, current, notes)


def binaries_of(set_records: list[Record]) -> dict[str, set[str | None]]:
    binaries: dict[str, set[str | None]] = {}
    for record in set_records:
        binaries.setdefault(record["server"], set()).add(record.get("binary_sha256"))
    return binaries


def servers_with_same_binary(sets: Sets) -> set[str]:
    """The servers whose records in both sets all have one binary."""
    old, new = binaries_of(sets.baseline), binaries_of(sets.current)
    return {
        name
        for name in old.keys() & new.keys()
        if old[name] == new[name] and len(old[name]) == 1 and None not in old[name]
    }


# --- Their figures as arrays ---


def _as_one_machine(records: list[Record], prefix: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cells and their summary, with a prefix to the servers' names.

    The main yardsticks of both sets count as one: what has changed between the sets is reported as facts.
    """
    cells = tables.of_main_yardstick(tables.cell_table(records)).assign(machine="", yardstick="")
    summary = tables.summary_table(cells)
    return tuple(table.assign(server=prefix + table["server"]) for table in (cells, summary))  # type: ignore[return-value]


def sweep_of(sets: Sets) -> Sweep:
    """Both sets as one sweep; the names of the baseline's servers begin with OLD."""
    parts = [_as_one_machine(sets.baseline, OLD), _as_one_machine(sets.current, "")]
    cells, summary = (pd.concat(tables_, ignore_index=True) for tables_ in zip(*parts, strict=True))
    return comparisons.sweep_of(cells, summary)


def measured_twice(sets: Sets) -> set[tuple[str, int]]:
    """Points with a measurement that is in both sets, as when a set was copied and then measured again in part."""
    keys = [
        {
            (record["server"], record["connections"], record["repeat"], record["started"])
            for record in its
            if record.get("started")
        }
        for its in (sets.baseline, sets.current)
    ]
    return {(server, connections) for server, connections, *_ in keys[0] & keys[1]}


def pairs_of(sweep: Sweep) -> list[Pair]:
    """Positions of each server in the current set and in the baseline."""
    positions = {name: position for position, name in enumerate(sweep.servers)}
    return [
        (position, positions[OLD + name])
        for name, position in positions.items()
        if OLD + name in positions
    ]


def obstacles_of(
    sweep: Sweep, metric: str, pair: Pair, same_binary: bool, twice: set[tuple[str, int]]
) -> list[str]:
    """Why a server cannot be compared with itself at each point; empty where it can."""
    obstacles = comparisons.obstacles_of(sweep, metric, pair, same_binary)
    of_sets = {comparisons.CLIENT_LIMITED: CLIENT_LIMITED}
    return [
        SAME_RUNS if (sweep.servers[pair[0]], count) in twice else of_sets.get(its, its)
        for count, its in zip(sweep.connections, obstacles, strict=True)
    ]


# --- Verdicts ---


def _family(
    sweep: Sweep,
    metric: str,
    pairs: list[Pair],
    obstacles: list[list[str]],
    floor: float,
    is_drift: bool,
) -> list[dict[str, Any]]:
    """Rows of servers that are tested together; is_drift: whether any difference between them is drift."""
    usable = np.array(obstacles) == ""
    estimates = comparisons.estimate(sweep.logarithms[metric], pairs, usable)
    floors = np.full(estimates.mean.shape, np.nan_to_num(floor))
    same = np.full(len(pairs), is_drift)
    judged = comparisons.judge(sweep, metric, pairs, obstacles, estimates, floors, same)
    runs = np.isfinite(sweep.logarithms[metric]).sum(axis=-1)
    rows = []
    for (new_at, old_at), levels in zip(pairs, judged, strict=True):
        for level, row in enumerate(levels):
            points = slice(None) if level == 0 else slice(level - 1, level)
            is_different = row["verdict"] in comparisons.DIFFERENCES
            rows.append(
                {
                    **row,
                    "metric": metric,
                    "server": sweep.servers[new_at],
                    "runs_current": int(runs[new_at, points].sum()),
                    "runs_baseline": int(runs[old_at, points].sum()),
                    "verdict": DRIFT if is_drift and is_different else row["verdict"],
                    "noise_floor_percent": 100 * np.expm1(floor),
                }
            )
    return rows


def compare_metric(
    sweep: Sweep, metric: str, drifting: set[str], twice: set[tuple[str, int]]
) -> list[dict[str, Any]]:
    """Rows of one metric: first the changed servers, then those that only show drift."""
    floor = comparisons.noise_floor(sweep, metric)
    # Without controls: a control is its server once more.
    every = [pair for pair in pairs_of(sweep) if not is_control(sweep.servers[pair[0]])]
    rows = []
    for is_drift in (False, True):
        pairs = [pair for pair in every if (sweep.servers[pair[0]] in drifting) == is_drift]
        obstacles = [obstacles_of(sweep, metric, pair, is_drift, twice) for pair in pairs]
        if pairs:
            rows += _family(sweep, metric, pairs, obstacles, floor, is_drift)
    return rows


def compare(sets: Sets) -> Comparison:
    """Two sets → rows, the facts that changed, and notes for the reader."""
    facts = pd.DataFrame(result_sets.changes(sets.baseline, sets.current), columns=FACT_COLUMNS)
    is_unchanged = not (facts["kind"] == "environment").any()
    same = servers_with_same_binary(sets)
    sweep = sweep_of(sets)
    drifting = same if is_unchanged else set()
    twice = measured_twice(sets)
    rows = [row for metric in FIGURES for row in compare_metric(sweep, metric, drifting, twice)]
    binaries = [SAME if row["server"] in same else CHANGED for row in rows]
    table = pd.DataFrame(rows, columns=COLUMNS).assign(
        binary=binaries,
        machine_baseline=sets.baseline[0]["machine"],
        machine=sets.current[0]["machine"],
    )
    notes = [
        *point_notes(table),
        *drift_notes(table, is_unchanged),
        *reason_notes(table),
        *change_notes(facts),
        *sets.notes,
        conclusion(table),
    ]
    return Comparison(table, facts, notes)


# --- In words ---


def drift_notes(table: pd.DataFrame, is_unchanged: bool) -> list[str]:
    """What the unchanged servers say about all others."""
    if not is_unchanged:
        return [
            "The environment changed, and every ratio includes its effect. The ratio of a server with the same binary"
            " shows this effect alone."
        ]
    drifted = table[(table["verdict"] == DRIFT) & (table["connections"] == WHOLE_SWEEP)]
    return [
        f"{row['server']} has the same binary in both sets, but its {FIGURES[row['metric']]} differs: doubt the other"
        " verdicts too."
        for row in drifted.to_dict("records")
    ]


def change_notes(facts: pd.DataFrame) -> list[str]:
    if facts.empty:
        return ["No known fact of the machine, its tools or the source has changed."]
    notes = []
    for row in facts.to_dict("records"):
        old, new = result_sets.shorten(row["baseline"], row["current"])
        notes.append(f"changed: {row['fact']}: {old} -> {new}")
    return notes


def point_notes(table: pd.DataFrame) -> list[str]:
    """The single points at which a changed server got faster or slower."""
    points = table[table["connections"] != WHOLE_SWEEP]
    decided = points[points["verdict"].isin([FASTER, SLOWER])]
    notes = []
    for (verdict, server, metric), its in decided.groupby(
        ["verdict", "server", "metric"], sort=False
    ):
        where = ", ".join(
            f"{row['ratio']:.3f} at {row['connections']:,}" for row in its.to_dict("records")
        )
        notes.append(
            f"{verdict}: {server}, {FIGURES[str(metric)]}, by number of connections: {where}"
        )
    return notes


def reason_notes(table: pd.DataFrame) -> list[str]:
    """The reasons of the rows over the whole sweep, a line for each."""
    whole = table[(table["connections"] == WHOLE_SWEEP) & (table["reason"] != "")]
    notes = []
    for (reason, metric), its in whole.groupby(["reason", "metric"], sort=False):
        notes.append(f"{', '.join(its['server'])}, {FIGURES[str(metric)]}: {reason}.")
    return notes


def conclusion(table: pd.DataFrame) -> str:
    slower = list(dict.fromkeys(table.loc[table["verdict"] == SLOWER, "server"]))
    if slower:
        return f"Got slower: {', '.join(slower)}."
    if status_of(table) == NOTHING_DECIDED:
        return "Nothing could be decided."
    if (table["binary"] == SAME).all() and (table["verdict"] == DRIFT).any():
        return "Nothing got slower: no server has changed, and the differences are drift."
    return "Nothing got slower, as far as these two sets can tell."


def _line_of(row: dict[Any, Any]) -> dict[str, Part]:
    low, high = row["ratio_low"], row["ratio_high"]
    detectable = row["smallest_detectable_percent"]
    texts = {
        "server": row["server"],
        "binary": row["binary"],
        "figure": FIGURES[row["metric"]],
        "current/baseline": f"{row['ratio']:.3f}" if pd.notna(row["ratio"]) else UNAVAILABLE,
        "95 % interval": f"{low:.3f}–{high:.3f}" if pd.notna(low) else UNAVAILABLE,
        "p (Holm)": f"{row['p_adjusted']:.2g}" if pd.notna(row["p_adjusted"]) else UNAVAILABLE,
        "detectable": f"{detectable:.3g} %" if pd.notna(detectable) else UNAVAILABLE,
    }
    verdict = Part(row["verdict"], VERDICT_COLORS.get(row["verdict"], Color.NONE))
    return {name: Part(text) for name, text in texts.items()} | {"verdict": verdict}


def tabulate(compared: Comparison) -> console.Table:
    """The table for the console: a row for each server and figure over the whole sweep."""
    whole = compared.table[compared.table["connections"] == WHOLE_SWEEP]
    rows = [_line_of(row) for row in whole.to_dict("records")]
    return console.Table(list(rows[0]), [[*row.values()] for row in rows], compared.notes, SPARE)


def status_of(table: pd.DataFrame) -> int:
    """For CI: 0, GOT_SLOWER or NOTHING_DECIDED."""
    if (table["verdict"] == SLOWER).any():
        return GOT_SLOWER
    undecided = (table["verdict"] == UNDECIDABLE).groupby(table["server"]).all()
    changed = set(table.loc[table["binary"] == "changed", "server"])
    # If a server has no valid run at all after a patch, the patch must not pass as harmless.
    if undecided.all() or undecided[undecided.index.isin(changed)].any():
        return NOTHING_DECIDED
    return 0


# --- The command ---


def read_sets(
    baseline: str, current: str, other_machine: str | None, wanted: argparse.Namespace
) -> Sets:
    """Read both sets. Raises NoComparison or OSError."""
    folders = [result_sets.results_folder(path) for path in (baseline, current)]
    if result_sets.is_same_folder(*folders):
        raise NoComparison(f"{baseline}: the baseline is the current set itself")
    old, new = (result_sets.read(folder) for folder in folders)
    new = [
        record
        for record in new
        if (not wanted.servers or record["server"] in wanted.servers)
        and (not wanted.connections or record["connections"] in wanted.connections)
        and (not wanted.repeats or record["repeat"] <= wanted.repeats)
    ]
    if not new:
        raise NoComparison(f"{current}: no records of the wanted servers and connections")
    versions = [{record.get("schema_version") for record in its} for its in (old, new)]
    if versions[0] != versions[1]:
        both = " and ".join(_list(its) for its in versions)
        raise NoComparison(
            f"the baseline and the current set have records of schema versions {both}, whose ratios do not compare",
            "measure the baseline again",
        )
    return in_common(of_one_machine(old, new, other_machine))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog=f"Status: 0 nothing got slower, {GOT_SLOWER} something did, {NOTHING_DECIDED} nothing could be decided,"
        " 1 a set cannot be compared, 2 bad usage.",
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
    parser.add_argument("--connections", type=int, nargs="+", help="numbers to compare")
    parser.add_argument("--repeats", type=int, help="compare the first N repeats (default: all)")
    parser.add_argument("--no-status", action="store_true", help="end with 0 whatever got slower")
    arguments = parser.parse_args()
    sets = read_sets(arguments.baseline, arguments.current, arguments.other_machine, arguments)
    compared = compare(sets)
    if arguments.table:
        tables.write_table(compared.table, arguments.table)
    if arguments.facts:
        tables.write_table(compared.facts, arguments.facts)
    if arguments.text:
        console.write_table(tabulate(compared), arguments.text)
    else:
        print(console.format_text(tabulate(compared)), end="")
    return 0 if arguments.no_status else status_of(compared.table)


if __name__ == "__main__":
    sys.exit(faults.report(main))
