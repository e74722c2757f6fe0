#!/usr/bin/env python3
"""Draw results/cost.csv: each server's CPU time per request as ratio to the baseline, a panel a connection count."""

import argparse
import math
import sys
from typing import Any

import faults
import pandas as pd
import plot_style
import tables
from cells import CEILING
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

# Of rows without a ratio.
MISSING = {
    "starving": "connections never served",
    "other_workload": "a connection per request",
    "ok": "no pair",
    "disturbed": "no pair",
}


def ordered(table: pd.DataFrame) -> list[str]:
    """The baseline, then servers by the geometric mean of their ratios; those without one at the end."""
    means = table.groupby("server", sort=False)["ratio"].apply(
        lambda ratios: (
            math.exp(sum(map(math.log, ratios.dropna())) / len(ratios.dropna()))
            if ratios.notna().any()
            else math.inf
        )
    )
    return sorted(means.index, key=lambda server: (server != CEILING, means[server]))


def draw_row(axes: Axes, height: int, point: dict[Any, Any], ratios: "pd.Series[float]") -> None:
    """One server: the ratio of each block, pale; the median and its interval; or why there is none."""
    if pd.isna(point["ratio"]):
        text = MISSING.get(point["status"], point["status"])
        label = axes.text(0.5, height, text, transform=axes.get_yaxis_transform())
        label.set(
            ha="center",
            va="center",
            fontsize=plot_style.SMALL,
            color=plot_style.GREY,
            backgroundcolor="white",
        )
        return
    color = plot_style.color_of(point["server"])
    # Above the interval, so that neither hides the other.
    axes.scatter(
        ratios, [height - 0.27] * len(ratios), s=9, color=color, alpha=0.5, linewidths=0, zorder=2
    )
    ends = [point["ratio_low"], point["ratio_high"]]
    axes.plot(ends, [height] * 2, color=color, linewidth=1.6, marker="|", markersize=8)
    hollow = point["status"] != "ok"
    axes.scatter(
        point["ratio"],
        height,
        s=26,
        marker=plot_style.marker_of(point["server"]),
        facecolors="white" if hollow else color,
        edgecolors=color,
        linewidths=1.4,
        zorder=3,
    )


def label_of(point: dict[Any, Any]) -> str:
    if pd.isna(point["ratio"]):
        return ""
    return f"{point['ratio']:.2f}   {point['cpu_ns_per_request']:,.0f} ns"


def draw_panel(axes: Axes, points: pd.DataFrame, cells: pd.DataFrame, servers: list[str]) -> None:
    """One number of connections: a row a server from the top down, with ratio and time at the right."""
    axes.axvline(1, color=plot_style.GREY, linewidth=0.8, zorder=1)
    labels = [""] * len(servers)
    for point in points.to_dict("records"):
        height = servers.index(point["server"])
        its_cells = cells[cells["server"] == point["server"]]
        if point["server"] == CEILING:
            axes.scatter(1, height, s=24, marker="D", color=plot_style.GREY, zorder=3)
        else:
            draw_row(axes, height, point, its_cells["ratio"].dropna())
        labels[height] = label_of(point)
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _position: f"{value:.4g}×")
    axes.set_xlabel("ratio to the baseline (← better)")
    axes.tick_params(axis="y", length=0)
    right = axes.secondary_yaxis("right")
    right.set_yticks(range(len(servers)), labels)
    right.tick_params(length=0)
    right.spines["right"].set_visible(False)


def notes_of(table: pd.DataFrame, machines: int) -> list[str]:
    pairs = table["pairs"][table["ratio"].notna() & (table["server"] != CEILING)]
    noun = "block" if len(pairs) and pairs.max() == 1 else "blocks"
    numbers = "–".join(str(number) for number in sorted({*pairs.agg(["min", "max"])}))
    lines = "; lines: its exact 95 % interval" if table["ratio_low"].notna().any() else ""
    notes = [
        f"Large marks: median ratio over {numbers} {noun}{lines}; small dots: the blocks."
        if len(pairs)
        else "",
        "Baseline: an epoll loop which receives and sends without looking. Server: one process on one CPU, keep-alive.",
    ]
    for server, points in table[table["status"].isin(["failed", "unavailable"])].groupby(
        "server", sort=False
    ):
        notes.append(f"{server}: {points['reason'].iloc[0]}.")
    if (table["status"] == "disturbed").any():
        notes.append("Hollow: every run was disturbed by something else on the machine.")
    if machines > 1:
        notes.append(f"One of {machines} machines, that with most runs; they are never mixed.")
    return notes


def draw(table: pd.DataFrame, cells: pd.DataFrame, *paths: str) -> None:
    machines = table["machine"].nunique()
    machine = tables.main_machine(table, "runs")
    table, cells = table[table["machine"] == machine], cells[cells["machine"] == machine]
    servers = ordered(table)
    counts = sorted(table["connections"].unique())
    figure = plot_style.new_canvas(
        max(plot_style.WIDTH_INCHES, 1.6 + 3.7 * len(counts)), 1.7 + 0.34 * len(servers)
    )
    panels = figure.subplots(1, len(counts), sharex=True, sharey=True, squeeze=False)[0]
    for axes, count in zip(panels, counts, strict=True):
        draw_panel(
            axes,
            table[table["connections"] == count],
            cells[cells["connections"] == count],
            servers,
        )
        noun = "connection" if count == 1 else "connections"
        axes.set_title(f"{count:,} {noun}", fontsize=9)
    names = [f"baseline ({CEILING})" if name == CEILING else name for name in servers]
    panels[0].set_yticks(range(len(servers)), names)
    panels[0].set_ylim(len(servers) - 0.5, -0.5)
    figure.suptitle("CPU time per request on one CPU", x=0.01, ha="left", fontweight="bold")
    plot_style.add_notes(figure, notes_of(table, machines))
    plot_style.save(figure, paths)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", help="results/cost.csv")
    parser.add_argument("cells", help="results/cost/cells.csv")
    parser.add_argument("output", nargs="+", help="the picture to draw: .png, .svg or both")
    arguments = parser.parse_args()
    table = tables.read_table(arguments.table, dtype={"reason": "str"}).fillna({"reason": ""})
    draw(table, tables.read_cell_table(arguments.cells), *arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(faults.told(main))
