#!/usr/bin/env python3
"""Draw results/compare.csv: each server's figures as ratios to those of the baseline, with their verdicts."""

import argparse
import math
import sys
from typing import Any

import faults
import pandas as pd
import plot_style
import tables
from comparisons import COST, DEPENDS, EQUAL, FASTER, SLOWER, THROUGHPUT, UNDECIDABLE, WHOLE_SWEEP
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

TITLES = {COST: "CPU time per request", THROUGHPUT: "Throughput"}
DIRECTIONS = {COST: "← better", THROUGHPUT: "better →"}
# Told apart by the mark too, and by the word at the right.
STYLES = {
    SLOWER: ("#bb4455", "X"),
    FASTER: ("#228833", "P"),
    EQUAL: ("#4a7ebb", "o"),
    DEPENDS: ("#aa4499", "s"),
    "drift": ("#777777", "D"),
    UNDECIDABLE: ("#777777", "o"),
}
WORDS = {UNDECIDABLE: "not decidable"}
BAND_COLOR = "#e2e2e2"
FACTS = ["kind", "fact", "baseline", "current"]
MOST_FACTS = 8
WIDEST = 40  # characters of a fact's value


def draw_row(axes: Axes, height: int, whole: dict[Any, Any], points: pd.DataFrame) -> None:
    """One server: the ratio over the sweep and its interval; above it, pale, those at its points."""
    color, marker = STYLES[whole["verdict"]]
    for verdict, its in points.dropna(subset=["ratio"]).groupby("verdict"):
        its_color, its_marker = STYLES[str(verdict)]
        heights = [height - 0.27] * len(its)
        axes.scatter(
            its["ratio"], heights, s=11, marker=its_marker, color=its_color, alpha=0.6, linewidths=0
        )
    if not math.isfinite(whole["ratio"]):
        text = axes.text(0.5, height, "no comparable point", transform=axes.get_yaxis_transform())
        text.set(ha="center", va="center", fontsize=plot_style.SMALL, color=plot_style.GREY)
        text.set_backgroundcolor("white")
        return
    axes.plot([whole["ratio_low"], whole["ratio_high"]], [height] * 2, color=color, linewidth=1.6)
    axes.scatter(
        whole["ratio"],
        height,
        s=34,
        marker=marker,
        facecolors="white" if whole["verdict"] == UNDECIDABLE else color,
        edgecolors=color,
        linewidths=1.2,
        zorder=3,
    )


def remark_of(whole: dict[Any, Any]) -> str:
    word = WORDS.get(whole["verdict"], whole["verdict"])
    return f"{whole['ratio']:.3f}  {word}" if math.isfinite(whole["ratio"]) else ""


def set_ratio_axis(axes: Axes, rows: pd.DataFrame, floor: float) -> None:
    """Logarithmic, around 1, all ratios and the floor; intervals far wider run out of it."""
    ends = pd.concat([rows["ratio"], rows["ratio_low"], rows["ratio_high"]]).dropna()
    ratios = rows["ratio"].dropna()
    reach = max([1.25, *ratios, *(1 / ratios)]) ** 1.5
    low = min([1 / floor, 0.98, *ends.clip(lower=1 / reach)])
    high = max([floor, 1.02, *ends.clip(upper=reach)])
    margin = (high / low) ** 0.06
    axes.set_xscale("log")
    axes.set_xlim(low / margin, high * margin)
    near = high / low < 4
    axes.xaxis.set_major_locator(
        MaxNLocator(5, steps=[1, 2, 5, 10]) if near else LogLocator(subs=(1, 2, 5))
    )
    axes.xaxis.set_major_formatter(lambda value, _position: f"{value:.4g}×")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def draw_panel(axes: Axes, metric: str, rows: pd.DataFrame, servers: list[str]) -> None:
    """One metric: a row a server from the top down, with its ratio and verdict at the right."""
    is_whole = rows["connections"] == WHOLE_SWEEP
    floor = 1 + float(rows.loc[is_whole, "noise_floor_percent"].max()) / 100
    floor = floor if math.isfinite(floor) else 1.0
    axes.axvspan(1 / floor, floor, color=BAND_COLOR, linewidth=0, zorder=0)
    axes.axvline(1, color=plot_style.GREY, linewidth=0.8, zorder=1)
    remarks = []
    for height, server in enumerate(servers):
        its = rows["server"] == server
        whole = rows[its & is_whole].to_dict("records")[0]
        draw_row(axes, height, whole, rows[its & ~is_whole])
        remarks.append(remark_of(whole))
    set_ratio_axis(axes, rows, floor)
    axes.set_title(TITLES[metric])
    axes.set_xlabel(f"ratio to the baseline, logarithmic ({DIRECTIONS[metric]})")
    axes.tick_params(axis="y", length=0)
    right = axes.secondary_yaxis("right")
    right.set_yticks(range(len(servers)), remarks)
    right.tick_params(length=0)
    right.spines["right"].set_visible(False)


def shown(text: str) -> str:
    """Nothing of a set's facts is taken for mathematics."""
    text = text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"
    return text.replace("$", r"\$")


def notes_of(table: pd.DataFrame, facts: pd.DataFrame) -> list[str]:
    """What a reader must know, a line each."""
    notes = [
        "Large marks: mean ratio over the numbers of connections; lines: its 95 % interval (Welch's t); small marks:"
        " each number. Verdicts by Holm's method.",
        "Grey band: noise floor, within which nothing is called a difference."
        if table["noise_floor_percent"].notna().any()
        else "No noise floor is known.",
    ]
    if (table["verdict"] == "drift").any():
        notes.append("Drift: the same binary differs from itself; doubt the other verdicts too.")
    environment = facts[facts["kind"] == "environment"]
    if len(environment):
        notes.append("The environment changed: every ratio shows its effect too.")
    changed = pd.concat([environment, facts[facts["kind"] != "environment"]])
    for row in changed.head(MOST_FACTS).to_dict("records"):
        notes.append(
            f"Changed: {shown(row['fact'])}: {shown(row['baseline'])} → {shown(row['current'])}"
        )
    if len(changed) > MOST_FACTS:
        notes.append(f"{len(changed) - MOST_FACTS} more facts changed: results/compare_facts.csv.")
    return notes


def legend(axes: Axes, table: pd.DataFrame) -> None:
    verdicts = [name for name in STYLES if (table["verdict"] == name).any()]
    handles = []
    for name in verdicts:
        color, marker = STYLES[name]
        face = "white" if name == UNDECIDABLE else color
        handles.append(
            Line2D(
                [],
                [],
                linestyle="",
                marker=marker,
                color=color,
                markerfacecolor=face,
                label=WORDS.get(name, name),
            )
        )
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles), handletextpad=0.1)


def draw(table: pd.DataFrame, facts: pd.DataFrame, *paths: str) -> None:
    servers = list(dict.fromkeys(table["server"]))
    same = set(table.loc[table["binary"] == "same", "server"])
    figure = plot_style.new_canvas(plot_style.WIDTH_INCHES, 2.6 + 0.34 * len(servers))
    panels = figure.subplots(1, len(TITLES), sharey=True)
    for axes, metric in zip(panels, TITLES, strict=True):
        draw_panel(axes, metric, table[table["metric"] == metric], servers)
    labels = [f"{name}\n(same binary)" if name in same else name for name in servers]
    panels[0].set_yticks(range(len(servers)), labels)
    panels[0].set_ylim(len(servers) - 0.5, -0.6)
    figure.suptitle("Compared with the baseline", x=0.01, ha="left", fontweight="bold", fontsize=11)
    legend(panels[0], table)
    plot_style.add_notes(figure, notes_of(table, facts))
    plot_style.save(figure, paths)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", help="results/compare.csv")
    parser.add_argument("facts", help="results/compare_facts.csv")
    parser.add_argument("output", nargs="+", help="the picture to draw: .png, .svg or both")
    arguments = parser.parse_args()
    facts = tables.read_table(arguments.facts, dtype=dict.fromkeys(FACTS, "str")).fillna("")
    table = tables.read_table(arguments.table, dtype={"connections": "str"})
    draw(table, facts, *arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(faults.told(main))
