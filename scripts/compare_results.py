#!/usr/bin/env python3
"""Two folders of results, before and after a change: did a server get faster or slower? Status 3 if one got slower.

A server's ratios to the reference in one set are compared with those in the other, as those of two servers of one set
are (comparisons.py); what the machine did between the two is in neither. Holm's method corrects over all changed
servers, once for the whole sweep and once for the points. Servers whose binary is the same in both are a family of
their own: what they differ by, though nothing known of the machine has changed, is what ratios do not show (drift).
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import comparisons
import faults
import files
import numpy as np
import pandas as pd
import result_sets
import tables
from cells import base_of, is_control
from comparisons import (
    COST,
    FASTER,
    SLOWER,
    THROUGHPUT,
    UNDECIDABLE,
    WHOLE_SWEEP,
    Pair,
    Sweep,
)
from result_sets import NoComparison, Record
from tabulate_results import UNAVAILABLE, aligned

GOT_SLOWER, NOTHING_DECIDED = 3, 4  # statuses

# Before a server's name in the arrays that hold both sets; no name of a server has a space.
OLD = "baseline "
SAME, CHANGED = "same", "changed"
DRIFT = "drift"
CLIENT_LIMITED = "wrk was the limit in both"
SAME_RUNS = "the same measurements in both"
FIGURES = {COST: "CPU time", THROUGHPUT: "throughput"}  # as ratios to the reference

COLUMNS = ["metric", "server", "binary", "connections", "runs_baseline", "runs_current"]
COLUMNS += ["ratio", "ratio_low", "ratio_high", "p_value", "p_adjusted", "verdict"]
COLUMNS += ["smallest_detectable_percent", "noise_floor_percent", "reason"]
COLUMNS += ["machine_baseline", "machine"]
FACT_COLUMNS = ["kind", "fact", "baseline", "current"]


class Sets(NamedTuple):
    """Records of one machine each, of the servers and numbers of connections in both; and what was left out."""

    baseline: list[Record]
    current: list[Record]
    notes: list[str]


class Comparison(NamedTuple):
    table: pd.DataFrame
    facts: pd.DataFrame
    notes: list[str]


# --- Which records are compared ---


def machine_with_most(found: list[Record], like: Record | None = None) -> str:
    """Of a set's machines that with most records; of the same hardware as another record's, if there is such a one."""

    def key(name: str) -> tuple[bool, bool, int]:
        its = next(record for record in found if record["machine"] == name)
        alike = like is not None and result_sets.is_same_machine(its["facts"], like["facts"])
        return bool(alike), like is not None and name == like["machine"], counts[name]

    counts: Counter[str] = Counter(record["machine"] for record in found)
    return max(counts, key=key)


def label_of(record: Record) -> str:
    return f"{record['machine']} ({result_sets.printable(record['facts']['machine_label'])})"


def of_one_machine(
    baseline: list[Record], current: list[Record], other_machine: str | None
) -> Sets:
    """The sets of the machine that is compared; NoComparison if it is another one that was not asked for by name."""
    name = machine_with_most(current)
    new = [record for record in current if record["machine"] == name]
    names = sorted({record["machine"] for record in baseline})
    if other_machine is not None and other_machine not in names:
        raise NoComparison(f"the baseline has no machine {other_machine}, but {', '.join(names)}")
    chosen = other_machine or machine_with_most(baseline, new[0])
    old = [record for record in baseline if record["machine"] == chosen]
    same = result_sets.is_same_machine(old[0]["facts"], new[0]["facts"])
    if not same and other_machine is None:
        raise NoComparison(
            f"the baseline is of another machine, {label_of(old[0])}, not {label_of(new[0])}: to compare them"
            f" nevertheless, name it: --other-machine {chosen} (of snakemake: --config other_machine={chosen})"
        )
    notes = [] if same else [f"Two machines: {label_of(old[0])}, then {label_of(new[0])}."]
    for which, its, all_of_it in (("baseline", old, baseline), ("current", new, current)):
        if others := len(all_of_it) - len(its):
            notes.append(f"{others} cells of other machines in the {which} set are left out.")
        disturbed = sum("disturbed" in record["flags"] for record in its)
        if disturbed:
            notes.append(
                f"Something else had the CPUs in {disturbed} of {len(its)} cells of the {which} set."
            )
    return Sets(old, new, notes)


def _listed(names: Iterable[Any]) -> str:
    return ", ".join(map(str, sorted(names)))


def in_common(sets: Sets) -> Sets:
    """The servers and numbers of connections that both have; NoComparison if there are none."""
    notes = list(sets.notes)
    baseline, current = sets.baseline, sets.current
    for key, noun in (("server", "servers"), ("connections", "connections")):
        compared = [
            {record[key] for record in found if not is_control(record["server"])}
            for found in (baseline, current)
        ]
        old, new = compared
        if not old & new:
            raise NoComparison(
                f"the two sets have no {noun} in common: the baseline has {_listed(old) or 'none'},"
                f" the current one {_listed(new) or 'none'}"
            )
        for which, alone in (("baseline", old - new), ("current", new - old)):
            if alone:
                notes.append(f"In the {which} set alone: {noun} {_listed(alone)}.")
        # A control stays, whichever server's it is in the other set: it tells of its own set's noise.
        wanted = old & new
        baseline, current = (
            [it for it in found if it[key] in wanted or base_of(str(it[key])) in wanted]
            for found in (baseline, current)
        )
    return Sets(baseline, current, notes)


def binaries_of(found: list[Record]) -> dict[str, set[str | None]]:
    binaries: dict[str, set[str | None]] = {}
    for record in found:
        binaries.setdefault(record["server"], set()).add(record.get("binary_sha256"))
    return binaries


def servers_with_same_binary(sets: Sets) -> set[str]:
    """Those whose every record in both sets is of one binary."""
    old, new = binaries_of(sets.baseline), binaries_of(sets.current)
    return {
        name
        for name in old.keys() & new.keys()
        if old[name] == new[name] and len(old[name]) == 1 and None not in old[name]
    }


# --- Their figures as arrays ---


def _as_one_machine(found: list[Record], prefix: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cells and their summary, with a prefix to the servers' names.

    Whatever has changed between the sets is told as a fact: what is their main yardstick counts as one.
    """
    cells = tables.of_main_yardstick(tables.cell_table(found)).assign(machine="", yardstick="")
    summary = tables.summary_table(cells)
    return tuple(table.assign(server=prefix + table["server"]) for table in (cells, summary))  # type: ignore[return-value]


def sweep_of(sets: Sets) -> Sweep:
    """Both sets as one sweep, in which the baseline's servers have names that begin with OLD."""
    parts = [_as_one_machine(sets.baseline, OLD), _as_one_machine(sets.current, "")]
    cells, summary = (pd.concat(tables_, ignore_index=True) for tables_ in zip(*parts, strict=True))
    return comparisons.sweep_of(cells, summary)


def measured_twice(sets: Sets) -> set[tuple[str, int]]:
    """Points with a measurement that is in both sets, as where one was copied and measured again in part."""
    keys = [
        {
            (record["server"], record["connections"], record["repeat"], record["started"])
            for record in found
            if record.get("started")
        }
        for found in (sets.baseline, sets.current)
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
    found = comparisons.obstacles_of(sweep, metric, pair, same_binary)
    return [
        SAME_RUNS if (sweep.servers[pair[0]], count) in twice else its
        for count, its in zip(sweep.connections, found, strict=True)
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
    """Rows of servers that are tested together; is_drift: what they differ by is nothing else."""
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
            reason = row["reason"].replace(comparisons.CLIENT_LIMITED, CLIENT_LIMITED)
            rows.append(
                {
                    **row,
                    "metric": metric,
                    "server": sweep.servers[new_at],
                    "runs_current": int(runs[new_at, points].sum()),
                    "runs_baseline": int(runs[old_at, points].sum()),
                    "verdict": DRIFT if is_drift and is_different else row["verdict"],
                    "noise_floor_percent": 100 * np.expm1(floor),
                    "reason": reason,
                }
            )
    return rows


def compare_metric(
    sweep: Sweep, metric: str, drifting: set[str], twice: set[tuple[str, int]]
) -> list[dict[str, Any]]:
    """Rows of one metric: of changed servers, then of those that tell of drift alone."""
    floor = comparisons.noise_floor(sweep, metric)
    # A control is its server once more.
    every = [pair for pair in pairs_of(sweep) if not is_control(sweep.servers[pair[0]])]
    rows = []
    for is_drift in (False, True):
        pairs = [pair for pair in every if (sweep.servers[pair[0]] in drifting) == is_drift]
        obstacles = [obstacles_of(sweep, metric, pair, is_drift, twice) for pair in pairs]
        if pairs:
            rows += _family(sweep, metric, pairs, obstacles, floor, is_drift)
    return rows


def compare(sets: Sets) -> Comparison:
    """Two sets → rows, what changed in their facts, and what to know of the rows."""
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
    """What servers that have not changed say of all others."""
    if not is_unchanged:
        return [
            "The environment changed: every ratio shows its effect too; one of a server whose binary is the same shows"
            " it alone."
        ]
    drifted = table[(table["verdict"] == DRIFT) & (table["connections"] == WHOLE_SWEEP)]
    return [
        f"{row['server']}, the same binary in both sets, differs from itself in {FIGURES[row['metric']]}: doubt the"
        " other verdicts too."
        for row in drifted.to_dict("records")
    ]


def change_notes(facts: pd.DataFrame) -> list[str]:
    if facts.empty:
        return ["Nothing known of the machine, its tools or the source has changed."]
    notes = []
    for row in facts.to_dict("records"):
        old, new = result_sets.shortened(row["baseline"], row["current"])
        notes.append(f"changed: {row['fact']}: {old} -> {new}")
    return notes


def point_notes(table: pd.DataFrame) -> list[str]:
    """Where at single points a changed server got faster or slower."""
    points = table[table["connections"] != WHOLE_SWEEP]
    told = points[points["verdict"].isin([FASTER, SLOWER])]
    notes = []
    for (verdict, server, metric), its in told.groupby(["verdict", "server", "metric"], sort=False):
        where = ", ".join(
            f"{row['ratio']:.3f} at {row['connections']:,}" for row in its.to_dict("records")
        )
        notes.append(
            f"{verdict}: {server}, {FIGURES[str(metric)]}, by number of connections: {where}"
        )
    return notes


def reason_notes(table: pd.DataFrame) -> list[str]:
    """Why the rows over the whole sweep are as they are, a line for each reason."""
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
        return "Nothing got slower: no server has changed, and what differs is drift."
    return "Nothing got slower, as far as these two sets can tell."


def _line_of(row: dict[Any, Any]) -> dict[str, str]:
    low, high = row["ratio_low"], row["ratio_high"]
    detectable = row["smallest_detectable_percent"]
    return {
        "server": row["server"],
        "binary": row["binary"],
        "figure": FIGURES[row["metric"]],
        "current/baseline": f"{row['ratio']:.3f}" if pd.notna(row["ratio"]) else UNAVAILABLE,
        "95 % interval": f"{low:.3f}–{high:.3f}" if pd.notna(low) else UNAVAILABLE,
        "p (Holm)": f"{row['p_adjusted']:.2g}" if pd.notna(row["p_adjusted"]) else UNAVAILABLE,
        "detectable": f"{detectable:.3g} %" if pd.notna(detectable) else UNAVAILABLE,
        "verdict": row["verdict"],
    }


def tabulate(compared: Comparison) -> str:
    """The table for the console, a row a server and figure over the whole sweep, and what to know of it."""
    whole = compared.table[compared.table["connections"] == WHOLE_SWEEP]
    lines = aligned(pd.DataFrame([_line_of(row) for row in whole.to_dict("records")]))
    return "\n".join([*lines, "", *compared.notes]) + "\n"


def status_of(table: pd.DataFrame) -> int:
    """For CI: 0, GOT_SLOWER or NOTHING_DECIDED."""
    if (table["verdict"] == SLOWER).any():
        return GOT_SLOWER
    undecided = (table["verdict"] == UNDECIDABLE).groupby(table["server"]).all()
    changed = set(table.loc[table["binary"] == "changed", "server"])
    # A patch after which a server has no valid run at all must not pass for one that did no harm.
    if undecided.all() or undecided[undecided.index.isin(changed)].any():
        return NOTHING_DECIDED
    return 0


# --- The command ---


def read_sets(
    baseline: str, current: str, other_machine: str | None, wanted: argparse.Namespace
) -> Sets:
    """NoComparison or OSError."""
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
    versions = [{record.get("schema_version") for record in found} for found in (old, new)]
    if versions[0] != versions[1]:
        told = " and ".join(_listed(its) for its in versions)
        raise NoComparison(
            f"the baseline and the current set have records of schema versions {told}, whose ratios do not compare:"
            " measure the baseline again"
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
    parser.add_argument("--facts", help="the table of what changed to write, CSV")
    parser.add_argument("--text", help="the text to write (default: standard output)")
    parser.add_argument("--other-machine", help="that of a baseline of another machine, by name")
    parser.add_argument("--servers", nargs="+", help="of the current set (default: all)")
    parser.add_argument("--connections", type=int, nargs="+", help="the same")
    parser.add_argument("--repeats", type=int, help="the first so many (default: all)")
    parser.add_argument("--no-status", action="store_true", help="end with 0 whatever got slower")
    arguments = parser.parse_args()
    sets = read_sets(arguments.baseline, arguments.current, arguments.other_machine, arguments)
    compared = compare(sets)
    if arguments.table:
        tables.write_table(compared.table, arguments.table)
    if arguments.facts:
        tables.write_table(compared.facts, arguments.facts)
    if arguments.text:
        files.write_text(arguments.text, tabulate(compared))
    else:
        print(tabulate(compared), end="")
    return 0 if arguments.no_status else status_of(compared.table)


if __name__ == "__main__":
    sys.exit(faults.told(main))
