"""Marks on axes: points, intervals, the reference and what limited a server."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.summary import reference_rates
from drawing.axes import End
from drawing.palette import LIMITERS, REFERENCE_COLOR, REFERENCE_DASHES
from sweep.cells import REFERENCE

NO_RUN_COLOR = "#999999"


def draw_points(
    axes: Axes, cells: pd.DataFrame, column: str, color: str, marker: str, size: float
) -> None:
    """Draw each cell's value; hollow if the cell is invalid, disturbed or left connections unserved."""
    drawn = cells.dropna(subset=[column])
    hollow = (drawn["status"] != "ok") | (drawn["unserved_connections"].fillna(0) > 0)
    hollow |= drawn["flags"].str.contains("disturbed")
    for part, face in ((drawn[~hollow], color), (drawn[hollow], "white")):
        x, y = part["connections"], part[column]
        points = axes.scatter(x, y, s=size, marker=marker, facecolors=face, edgecolors=color)
        points.set(linewidths=0.8, alpha=0.85, zorder=3)


def draw_interval(axes: Axes, summary: pd.DataFrame, column: str, color: str) -> None:
    """Draw the line of a server's summary, dotted if it left connections unserved, and the band of its intervals."""
    drawn = summary.dropna(subset=[column]).sort_values("connections")
    style = ":" if (drawn["unserved_connections"] > 0).any() else "-"
    names = ["connections", column, f"{column}_low", f"{column}_high"]
    x, y, low, high = (drawn[name].astype(float) for name in names)
    axes.plot(x, y, color=color, linestyle=style, linewidth=1.6, zorder=2)
    axes.fill_between(x, low, high, color=color, alpha=0.13, linewidth=0, zorder=1)


def draw_reference(axes: Axes, summary: pd.DataFrame) -> None:
    """Draw the throughput of the reference in the paired phases over the number of connections."""
    rates = reference_rates(summary)
    if rates.empty:
        return
    (line,) = axes.plot(rates.index, rates, color=REFERENCE_COLOR, label=REFERENCE)
    line.set(linestyle=REFERENCE_DASHES, linewidth=1.1, zorder=1)


def reference_ends(axes: Axes) -> list[End]:
    """The end of the line that draw_reference() drew, if any, for label_ends()."""
    lines = [line for line in axes.get_lines() if line.get_label() == REFERENCE]
    ends = [np.asarray(line.get_xydata())[-1] for line in lines]
    return [End(x, y, REFERENCE, REFERENCE_COLOR, "") for x, y in ends]


def draw_limiters(axes: Axes, summary: pd.DataFrame, servers: list[str]) -> None:
    """Draw a row for each server from the top down: what limited it at each number of connections."""
    for row, server in enumerate(servers):
        its_points = summary[summary["server"] == server]
        invalid = invalid_points(its_points)["connections"]
        rows = [row] * len(invalid)
        axes.scatter(invalid, rows, marker="s", s=80, color="none", edgecolors=NO_RUN_COLOR)
        known = its_points.dropna(subset=["limiter"])
        for count, limiter in zip(known["connections"], known["limiter"], strict=True):
            axes.scatter(count, row, marker="s", s=90, color=LIMITERS[limiter].color)
            text = axes.text(count, row, LIMITERS[limiter].letter, color="white", fontsize=7)
            text.set(ha="center", va="center_baseline", fontweight="bold")
    axes.set_yticks(range(len(servers)), servers)
    axes.set_ylim(len(servers) - 0.5, -0.5)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)


def invalid_points(summary: pd.DataFrame) -> pd.DataFrame:
    """The points that were measured or tried, but have no valid run."""
    tried = summary["repeats_invalid"] + summary["repeats_failed"]
    return summary[(summary["repeats_ok"] == 0) & (tried > 0)]


def limiter_legend(axes: Axes, summary: pd.DataFrame, above: bool = False) -> None:
    """Explain the colours of draw_limiters() that occur, to the right or, under a title, above."""
    present = {name: its for name, its in LIMITERS.items() if (summary["limiter"] == name).any()}
    shown = [(its.color, its.color, f"{its.letter}  {name}") for name, its in present.items()]
    if not invalid_points(summary).empty:
        shown.append(("none", NO_RUN_COLOR, "    no valid run"))
    square = {"marker": "s", "markersize": 8, "linestyle": ""}
    handles = [
        Line2D([], [], color=color, markeredgecolor=edge, label=label, **square)  # type: ignore[arg-type]
        for color, edge, label in shown
    ]
    if above:
        columns = 3
        legend = axes.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(-0.03, 1),
            ncols=columns,
            borderaxespad=0.2,
            handletextpad=0.2,
            columnspacing=0.8,
        )
        # The legend is wider than the axes, but not wider than the axes with the names at their side.
        legend.set_in_layout(False)
        axes.set_title("Limited by", pad=4 + 14 * math.ceil(len(handles) / columns))
    else:
        axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5))
