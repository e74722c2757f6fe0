#!/usr/bin/env python3
"""Draw results/compare.csv: the ratios of each server's figures to those of the baseline, with verdicts."""

import math
import sys
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis import program, ranking, result_sets, tables
from analysis.ranking import TITLES, Row
from analysis.verdicts import DEPENDS, EQUAL, FASTER, SLOWER, UNDECIDABLE, WHOLE_SWEEP
from drawing import ranking_panels, style

# Verdicts differ by colour, by mark, and by the word at the right.
STYLES = {
    SLOWER: ("#bb4455", "X"),
    FASTER: ("#228833", "P"),
    EQUAL: ("#4a7ebb", "o"),
    DEPENDS: ("#aa4499", "s"),
    "drift": ("#777777", "D"),
    UNDECIDABLE: ("#777777", "o"),
}
WORDS = {UNDECIDABLE: "not decidable"}
MOST_FACTS = 8
WIDEST = 40  # characters of a fact's value


def row_of(its: dict[Any, Any]) -> Row:
    """A row of the table as a row of the picture, with the text at its right."""
    ratio = its["ratio"]
    word = WORDS.get(its["verdict"], its["verdict"])
    remark = f"{ratio:.3f}  {word}" if math.isfinite(ratio) else ""
    return Row(ratio, its["ratio_low"], its["ratio_high"], remark)


def draw_points(axes: Axes, height: int, points: pd.DataFrame) -> None:
    """Draw one server's ratios at each number of connections, small and pale, above its ratio over the sweep."""
    for verdict, its in points.dropna(subset=["ratio"]).groupby("verdict"):
        color, marker = STYLES[str(verdict)]
        heights = [height - 0.27] * len(its)
        marks = axes.scatter(its["ratio"], heights, s=11, marker=marker, color=color)
        marks.set(alpha=0.6, linewidths=0)


def draw_panel(axes: Axes, metric: str, table: pd.DataFrame, servers: list[str]) -> None:
    """Draw one metric: a row a server from the top down, with its ratio and verdict at the right."""
    is_whole = table["connections"] == WHOLE_SWEEP
    whole = table[is_whole].set_index("server").loc[servers].to_dict("records")
    floor = 1 + ranking.floor_percent(table[is_whole]) / 100
    rows = [row_of(its) for its in table.to_dict("records")]
    remarks = [row_of(its).remark for its in whole]
    ranking_panels.set_up_panel(axes, metric, rows, floor, "the baseline", remarks)
    for height, (server, its) in enumerate(zip(servers, whole, strict=True)):
        draw_points(axes, height, table[(table["server"] == server) & ~is_whole])
        is_hollow = its["verdict"] == UNDECIDABLE
        ranking_panels.draw_row(axes, height, row_of(its), *STYLES[its["verdict"]], is_hollow)


def notes_of(table: pd.DataFrame, facts: pd.DataFrame) -> list[str]:
    """What a reader must know, a line each."""
    notes = [
        "Large marks: mean ratio over the numbers of connections; lines: its 95 % interval (Student's t); small marks:"
        " the ratio at each number of connections. Verdicts use Holm's method.",
        "Grey band: noise floor; smaller differences are treated as noise."
        if table["noise_floor_percent"].notna().any()
        else "The noise floor is not known.",
    ]
    if (table["verdict"] == "drift").any():
        notes.append("Drift: the same binary differs from itself; doubt the other verdicts too.")
    environment = facts[facts["kind"] == "environment"]
    if len(environment):
        notes.append("The environment changed, and every ratio includes its effect.")
    changed = pd.concat([environment, facts[facts["kind"] != "environment"]])
    for row in changed.head(MOST_FACTS).to_dict("records"):
        old, new = result_sets.shorten(row["baseline"], row["current"], WIDEST)
        notes.append(f"Changed: {row['fact']}: {old} → {new}")
    if len(changed) > MOST_FACTS:
        notes.append(f"{len(changed) - MOST_FACTS} more facts changed: results/compare_facts.csv.")
    return notes


def legend(figure: Figure, table: pd.DataFrame) -> None:
    handles = []
    for name in [name for name in STYLES if (table["verdict"] == name).any()]:
        color, marker = STYLES[name]
        label = WORDS.get(name, name)
        mark = Line2D([], [], linestyle="", marker=marker, color=color, label=label)
        mark.set_markerfacecolor("white" if name == UNDECIDABLE else color)
        handles.append(mark)
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles), handletextpad=0.1)


def draw(table: pd.DataFrame, facts: pd.DataFrame, *paths: str) -> None:
    servers = list(dict.fromkeys(table["server"]))
    same = set(table.loc[table["binary"] == "same", "server"])
    figure = style.new_canvas(style.WIDTH_INCHES, 2.6 + 0.34 * len(servers))
    panels = figure.subplots(1, len(TITLES), sharey=True)
    for axes, metric in zip(panels, TITLES, strict=True):
        draw_panel(axes, metric, table[table["metric"] == metric], servers)
    labels = [f"{name}\n(same binary)" if name in same else name for name in servers]
    panels[0].set_yticks(range(len(servers)), labels)
    panels[0].set_ylim(len(servers) - 0.5, -0.6)
    figure.suptitle("Compared with the baseline", x=0.01, ha="left", fontweight="bold", fontsize=11)
    legend(figure, table)
    style.add_notes(figure, notes_of(table, facts))
    style.save(figure, paths)


def of_first_workload(
    table: pd.DataFrame, facts: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What the picture shows, which has room for one workload."""
    return table[table["workload"] == table["workload"].iloc[0]], facts


main = program.of_tables(
    __doc__,
    draw,
    choose=of_first_workload,
    compare=lambda path: tables.read_table(path, dtype={"connections": "str"}),
    compare_facts=lambda path: tables.read_table(path).fillna(""),
)

if __name__ == "__main__":
    sys.exit(main())
