"""Compare two result sets: what is common to both, and what changed."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis import result_sets, tables, verdicts
from analysis.inference import Pair
from analysis.result_sets import NoComparison, Record
from analysis.summary import summary_table
from analysis.verdicts import CPU_RATIO, RATE, SLOWER, TAIL, THROUGHPUT, UNDECIDABLE, Sweep
from sweep.cells import base_of, is_control
from sweep.rows import make_row
from sweep.workloads import KEEPALIVE

GOT_SLOWER, NOTHING_DECIDED = 3, 4  # statuses
# Prefix of the baseline's servers in the arrays that hold both sets; no server's name has a space.
OLD = "baseline "
SAME, CHANGED = "same", "changed"
DRIFT = "drift"
CLIENT_LIMITED = "wrk was the limit in both"
SAME_RUNS = "the same measurements in both"
RATIOS = {CPU_RATIO: "CPU time", THROUGHPUT: "throughput"}  # to the reference
FIGURES = {**RATIOS, RATE: "throughput", TAIL: "99th percentile"}
COLUMNS = ["metric", "server", "binary", "connections", "runs_baseline", "runs_current"]
COLUMNS += ["ratio", "ratio_low", "ratio_high", "p_value", "p_adjusted", "verdict"]
COLUMNS += ["smallest_detectable_percent", "noise_floor_percent", "reason"]
COLUMNS += ["machine_baseline", "machine", "workload"]
FACT_COLUMNS = ["kind", "fact", "baseline", "current"]


class Sets(NamedTuple):
    """Records of one machine each, of the workloads, servers and numbers of connections that both sets have, and notes
    about what is left out."""

    baseline: list[Record]
    current: list[Record]
    notes: list[str]


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


def workload_of(record: Record) -> str:
    return str(record.get("workload", KEEPALIVE))


def _point_of(record: Record) -> str:
    where = "" if workload_of(record) == KEEPALIVE else f" ({workload_of(record)})"
    return f"{record['connections']}{where}"


def in_common(sets: Sets) -> Sets:
    """Reduce both sets to what both have; NoComparison if there is nothing."""
    notes = list(sets.notes)
    baseline, current = sets.baseline, sets.current
    keys: dict[str, Callable[[Record], str]] = {
        "workloads": workload_of,
        "servers": lambda record: str(record["server"]),
        "connections": _point_of,
    }
    for noun, key in keys.items():
        compared = [
            {key(record) for record in its if not is_control(record["server"])}
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
            [it for it in its if key(it) in wanted or base_of(key(it)) in wanted]
            for its in (baseline, current)
        )
    return Sets(baseline, current, notes)


def by_workload(sets: Sets) -> Iterator[tuple[str, list[str], Sets]]:
    """Each workload, the figures that it is compared by, and its records: workloads are never pooled."""
    for workload in dict.fromkeys(map(workload_of, sets.current)):
        old, new = (
            [record for record in its if workload_of(record) == workload]
            for its in (sets.baseline, sets.current)
        )
        decider = make_row(new[0])["decided_by"]
        yield workload, [*RATIOS] if decider == CPU_RATIO else [decider], Sets(old, new, [])


def binaries_of(set_records: list[Record]) -> dict[str, set[str | None]]:
    binaries = defaultdict(set)
    for record in set_records:
        binaries[record["server"]].add(record.get("binary_sha256"))
    return binaries


def servers_with_same_binary(sets: Sets) -> set[str]:
    """The servers whose records in both sets all have one binary."""
    old, new = binaries_of(sets.baseline), binaries_of(sets.current)
    return {
        name
        for name in old.keys() & new.keys()
        if old[name] == new[name] and len(old[name]) == 1 and None not in old[name]
    }


def _as_one_machine(records: list[Record], prefix: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cells and their summary, with a prefix to the servers' names.

    The main yardsticks of both sets count as one: what has changed between the sets is reported as facts.
    """
    cells = tables.of_main_yardstick(tables.cell_table(records)).assign(machine="", yardstick="")
    summary = summary_table(cells)
    return tuple(table.assign(server=prefix + table["server"]) for table in (cells, summary))  # type: ignore[return-value]


def sweep_of(sets: Sets) -> Sweep:
    """Both sets as one sweep; the names of the baseline's servers begin with OLD."""
    parts = [_as_one_machine(sets.baseline, OLD), _as_one_machine(sets.current, "")]
    cells, summary = (pd.concat(tables_, ignore_index=True) for tables_ in zip(*parts, strict=True))
    return verdicts.sweep_of(cells, summary)


def measured_twice(sets: Sets) -> set[tuple[str, int]]:
    """Points with a measurement that is in both sets, as when a set was copied and then measured again in part."""
    key = ["server", "connections", "repeat", "started"]
    old, new = (
        {tuple(record[name] for name in key) for record in its if record.get("started")}
        for its in (sets.baseline, sets.current)
    )
    return {(server, connections) for server, connections, *_ in old & new}


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
    obstacles = verdicts.obstacles_of(sweep, metric, pair, same_binary)
    of_sets = {verdicts.CLIENT_LIMITED: CLIENT_LIMITED}
    return [
        SAME_RUNS if (sweep.servers[pair[0]], count) in twice else of_sets.get(its, its)
        for count, its in zip(sweep.connections, obstacles, strict=True)
    ]


def _family(
    sweep: Sweep,
    metric: str,
    pairs: list[Pair],
    twice: set[tuple[str, int]],
    floor: float,
    is_drift: bool,
) -> list[dict[str, Any]]:
    """Rows of servers that are tested together; is_drift: whether any difference between them is drift."""
    obstacles = [obstacles_of(sweep, metric, pair, is_drift, twice) for pair in pairs]
    same = np.full(len(pairs), is_drift)
    judged = verdicts.judge(sweep, metric, pairs, obstacles, np.nan_to_num(floor), same)
    runs = np.isfinite(sweep.logarithms[metric]).sum(axis=-1)
    runs = np.column_stack([runs.sum(axis=1), runs])  # by level
    names = dict.fromkeys(verdicts.DIFFERENCES, DRIFT) if is_drift else {}
    return [
        {
            **row,
            "metric": metric,
            "server": sweep.servers[new_at],
            "runs_current": runs[new_at, level],
            "runs_baseline": runs[old_at, level],
            "verdict": names.get(row["verdict"], row["verdict"]),
            "noise_floor_percent": 100 * np.expm1(floor),
        }
        for (new_at, old_at), levels in zip(pairs, judged, strict=True)
        for level, row in enumerate(levels)
    ]


def compare_metric(
    sweep: Sweep, metric: str, drifting: set[str], twice: set[tuple[str, int]]
) -> list[dict[str, Any]]:
    """Rows of one metric: first the changed servers, then those that only show drift."""
    floor = verdicts.noise_floor(sweep, metric)
    # Without controls: a control is its server once more.
    every = [pair for pair in pairs_of(sweep) if not is_control(sweep.servers[pair[0]])]
    rows = []
    for is_drift in (False, True):
        pairs = [pair for pair in every if (sweep.servers[pair[0]] in drifting) == is_drift]
        if pairs:
            rows += _family(sweep, metric, pairs, twice, floor, is_drift)
    return rows


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
