"""The sentences below a comparison of two result sets."""

import pandas as pd

from analysis import result_sets
from analysis.set_comparison import DRIFT, FACT_COLUMNS, FIGURES, NOTHING_DECIDED, SAME, status_of
from analysis.verdicts import FASTER, SLOWER, WHOLE_SWEEP
from sweep.workloads import KEEPALIVE


def figure_of(workload: str, metric: str) -> str:
    """A figure, and of which workload it is."""
    return FIGURES[metric] if workload == KEEPALIVE else f"{FIGURES[metric]} in {workload}"


def drift_notes(table: pd.DataFrame, is_unchanged: bool) -> list[str]:
    """What the unchanged servers say about all others."""
    if not is_unchanged:
        return [
            "The environment changed, and every ratio includes its effect. The ratio of a server with the same binary"
            " shows this effect alone."
        ]
    drifted = table[(table["verdict"] == DRIFT) & (table["connections"] == WHOLE_SWEEP)]
    return [
        f"{row['server']} has the same binary in both sets, but its {figure_of(row['workload'], row['metric'])}"
        " differs: doubt the other verdicts too."
        for row in drifted.to_dict("records")
    ]


def change_notes(facts: pd.DataFrame) -> list[str]:
    if facts.empty:
        return ["No known fact of the machine, its tools or the source has changed."]
    return [
        f"changed: {fact}: {' -> '.join(result_sets.shorten(old, new))}"
        for fact, old, new in facts[FACT_COLUMNS[1:]].to_numpy()
    ]


def point_notes(table: pd.DataFrame) -> list[str]:
    """The single points at which a changed server got faster or slower."""
    points = table[table["connections"] != WHOLE_SWEEP]
    decided = points[points["verdict"].isin([FASTER, SLOWER])]
    notes = []
    keys = ["verdict", "server", "workload", "metric"]
    for (verdict, server, workload, metric), its in decided.groupby(keys, sort=False):
        where = ", ".join(f"{row.ratio:.3f} at {row.connections:,}" for row in its.itertuples())
        which = f"{verdict}: {server}, {figure_of(str(workload), str(metric))}"
        notes.append(f"{which}, by number of connections: {where}")
    return notes


def reason_notes(table: pd.DataFrame) -> list[str]:
    """The reasons of the rows over the whole sweep, a line for each."""
    whole = table[(table["connections"] == WHOLE_SWEEP) & (table["reason"] != "")]
    return [
        f"{', '.join(its['server'])}, {figure_of(str(workload), str(metric))}: {reason}."
        for (reason, workload, metric), its in whole.groupby(
            ["reason", "workload", "metric"], sort=False
        )
    ]


def conclusion(table: pd.DataFrame) -> str:
    slower = list(dict.fromkeys(table.loc[table["verdict"] == SLOWER, "server"]))
    if slower:
        return f"Got slower: {', '.join(slower)}."
    if status_of(table) == NOTHING_DECIDED:
        return "Nothing could be decided."
    if (table["binary"] == SAME).all() and (table["verdict"] == DRIFT).any():
        return "Nothing got slower: no server has changed, and the differences are drift."
    return "Nothing got slower, as far as these two sets can tell."
