#!/usr/bin/env python3
"""Draw the latencies of an open loop over the rate, and what each request costs there; a row for each workload."""

import math
import sys

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from analysis import latency, program
from drawing import palette, style
from drawing.axes import (
    End,
    format_count,
    format_microseconds,
    format_ratio,
    label_ends,
    say_nothing_drawn,
    set_logarithmic,
    start_at_zero,
)

PERCENTILES = {
    "latency_p50_us": "Median",
    "latency_p99_us": "99th percentile",
    "latency_p999_us": "99.9th percentile",
}
RATIO = "cpu_ratio"
ROW_INCHES = 6.4
NOTES = [
    "Open loop: each request is due at a time drawn before (Poisson). Its latency is the time from then to its answer,"
    " so that it includes waiting for a free connection or a busy server. Points: single runs, hollow if disturbed."
    " Bands: 95 % intervals of the geometric means over the repeats (Student's t).",
    "Crosses: the server fell behind the offered rate (fewer than 99 % were answered in time). Latencies there are at"
    " least as long, and grow with the length of the run.",
]


def draw_line(axes: Axes, points: pd.DataFrame, cells: pd.DataFrame, column: str) -> None:
    """One server's figure over the rate."""
    color = palette.color_of(str(points["server"].iloc[0]))
    marker = palette.marker_of(str(points["server"].iloc[0]))
    drawn = points.dropna(subset=[column])
    x = drawn["rate_per_second"].astype(float)
    axes.plot(x, drawn[column].astype(float), color=color, linewidth=1.6, zorder=2)
    low, high = (drawn[f"{column}_{end}"].astype(float) for end in ("low", "high"))
    axes.fill_between(x, low, high, color=color, alpha=0.13, linewidth=0, zorder=1)
    disturbed = cells["flags"].str.contains("disturbed")
    behind = cells["status"] == "overloaded"
    for its, face, shape in (
        (cells[~disturbed & ~behind], color, marker),
        (cells[disturbed & ~behind], "white", marker),
        (cells[behind], color, "x"),
    ):
        at = axes.scatter(its["rate_per_second"], its[column], s=14, marker=shape, color=color)
        if shape != "x":
            at.set_facecolor(face)
        at.set(linewidths=0.9, alpha=0.85, zorder=3)


def draw_figure(
    axes: Axes, points: pd.DataFrame, cells: pd.DataFrame, column: str, target_ms: float
) -> None:
    for _, its in points.groupby("server", sort=False):
        server = its["server"].iloc[0]
        draw_line(axes, its, cells[cells["server"] == server], column)
    values = cells[column].astype(float)
    if values.isna().all():
        say_nothing_drawn(axes, "not measured")
    if column == RATIO:
        start_at_zero(axes, values)
        axes.yaxis.set_major_formatter(format_ratio)
        axes.set_title("CPU time per request / the reference's")
    else:
        set_logarithmic(axes, values)
        axes.yaxis.set_major_formatter(format_microseconds)
        axes.set_title(PERCENTILES[column])
    low, high = axes.get_ylim()
    if column == "latency_p99_us" and low < 1000 * target_ms < high:
        axes.axhline(1000 * target_ms, color=style.GREY, linestyle=(0, (4, 2)), linewidth=1)
        axes.annotate(
            f"target {target_ms:g} ms",
            (0, 1000 * target_ms),
            (3, -3),
            axes.get_yaxis_transform(),
            "offset points",
            va="top",
            fontsize=style.SMALL,
            color=style.GREY,
        )
    axes.xaxis.set_major_formatter(format_count)
    axes.set_xlim(left=0)
    axes.set_xlabel("requests per second offered")


def draw_workload(
    figure: SubFigure, points: pd.DataFrame, cells: pd.DataFrame, limits: pd.DataFrame
) -> list[tuple[Axes, list[End]]]:
    """Four charts; returns the axes whose lines are to be labelled, with the labels."""
    axes = figure.subplots(2, 2)
    target_ms = float(limits["target_ms"].iloc[0])
    for at, column in zip(axes.flat, [*PERCENTILES, RATIO], strict=True):
        draw_figure(at, points, cells, column, target_ms)
    right = []
    for row, column in ((0, "latency_p99_us"), (1, RATIO)):
        ends = []
        for server, its in points.groupby("server", sort=False):
            known = its.dropna(subset=[column])
            x, y = (
                (float(known["rate_per_second"].iloc[-1]), float(known[column].iloc[-1]))
                if len(known)
                else (math.nan, math.nan)
            )
            name = str(server)
            ends.append(End(x, y, name, palette.color_of(name), palette.marker_of(name)))
        right.append((axes[row, 1], ends))
    return right


def draw(cells: pd.DataFrame, points: pd.DataFrame, limits: pd.DataFrame, *paths: str) -> None:
    workloads = list(dict.fromkeys(cells["workload"]))
    figure = style.new_canvas(style.WIDTH_INCHES, ROW_INCHES * len(workloads) + 0.6)
    parts = figure.subfigures(len(workloads), 1, squeeze=False)[:, 0]
    to_label = []
    sentences: list[str] = []
    missing: list[str] = []
    for part, workload in zip(parts, workloads, strict=True):
        of_cells, its, its_limits = (
            table[table["workload"] == workload] for table in (cells, points, limits)
        )
        runs = latency.valid(of_cells)
        connections = int(of_cells["connections"].iloc[0])
        part.suptitle(f"{workload}, {connections} connections", fontsize=11, fontweight="bold")
        if its.empty:
            say_nothing_drawn(part.subplots())
        else:
            to_label += draw_workload(part, its, runs, its_limits)
        sentences.append(f"{workload}: {latency.sentence(its_limits, its)}")
        which = f"{workload}: " if len(workloads) > 1 else ""
        missing += [f"{which}{note}" for note in latency.missing_notes(of_cells)]
    style.add_notes(figure, [*sentences, *NOTES, *missing])
    for axes, ends in to_label:
        label_ends(axes, ends)
    style.save(figure, paths)


main = program.of_tables(
    __doc__,
    draw,
    latency=latency.read_latencies,
    latency_summary=latency.read_points,
    latency_limits=latency.read_limits,
)

if __name__ == "__main__":
    sys.exit(main())
