#!/usr/bin/env python3
"""Draw one figure of all servers over the number of connections, on a common scale."""

import argparse
import math
import sys
from collections.abc import Callable
from typing import NamedTuple

import faults
import pandas as pd
import plot_style
import tables
from matplotlib.axes import Axes


class Figure(NamedTuple):
    column: str
    title: str
    unit: str
    formatter: Callable[[float, float], str]
    note: str = ""
    logarithmic: bool = True
    with_limits: bool = False
    of_client: bool = False  # measured with the client's clock


FIGURES = {
    "throughput": Figure(
        column="requests_per_second",
        title="Throughput",
        unit="requests per second",
        formatter=plot_style.format_count,
        logarithmic=False,
        with_limits=True,
    ),
    "latency": Figure(
        column="latency_p99_us",
        title="Latency",
        unit="99th percentile (logarithmic)",
        formatter=plot_style.format_microseconds,
        of_client=True,
        note="wrk runs a closed loop: each connection waits for its answer before it sends the next request. This is "
        "not the response time of users who arrive whether or not the server is ready. Unserved connections are not "
        "included.",
    ),
    "cpu": Figure(
        column="cpu_ratio",
        title="CPU time per request / the reference's",
        unit="ratio (logarithmic)",
        formatter=plot_style.format_ratio,
        note="Lower is better. The reference is a bare receive/send loop, measured in turns with each server. "
        "The ratio shows differences between servers even where wrk limits the throughput.",
    ),
}


POINTS_NOTE = (
    "Points: single runs. Hollow points on a dotted line: connections were left unserved; "
    "other hollow points: invalid or disturbed runs."
)


def label_of(server: str, points: pd.DataFrame, column: str) -> str:
    """A server's name, and what a reader must know before comparing its line with others."""
    has_run = points["requests_per_second"].notna().any()
    remarks = [] if has_run else [tables.describe_no_result(points)]
    if has_run and points[column].isna().all():
        remarks.append("not known")
    if tables.has_flag(points, "connection_per_request").any():
        remarks.append("a connection per request")
    return f"{server}\n({', '.join(remarks)})" if remarks else server


def label_lines(axes: Axes, summary: pd.DataFrame, figure_of: Figure, servers: list[str]) -> None:
    """Write every server's name at the end of its line, and the reference's if it is drawn."""
    ends = []
    for server in servers:
        points = summary[summary["server"] == server].sort_values("connections")
        measured = points.dropna(subset=[figure_of.column])
        last = measured.iloc[-1] if len(measured) else None
        ends.append(
            plot_style.End(
                math.nan if last is None else last["connections"],
                math.nan if last is None else last[figure_of.column],
                label_of(server, points, figure_of.column),
                plot_style.color_of(server),
                plot_style.marker_of(server),
            )
        )
    plot_style.label_ends(axes, ends + plot_style.reference_ends(axes))


def draw_lines(
    axes: Axes, figure_of: Figure, cells: pd.DataFrame, summary: pd.DataFrame, servers: list[str]
) -> None:
    """Draw all servers and the axis of their values. The caller sets the other axis, and then labels the lines."""
    if figure_of.with_limits:
        plot_style.draw_reference(axes, summary)
    for server in servers:
        color = plot_style.color_of(server)
        marker = plot_style.marker_of(server)
        points, its_cells = summary[summary["server"] == server], cells[cells["server"] == server]
        plot_style.draw_interval(axes, points, figure_of.column, color)
        plot_style.draw_points(axes, its_cells, figure_of.column, color, marker, 12)
    values = cells[figure_of.column]
    if figure_of.with_limits:
        values = pd.concat([values, tables.reference_rates(summary)])
    if figure_of.logarithmic:
        plot_style.set_logarithmic(axes, values)
    else:
        plot_style.start_at_zero(axes, values)
    axes.yaxis.set_major_formatter(figure_of.formatter)
    if values.isna().all():
        has_run = summary["requests_per_second"].notna().any()
        plot_style.say_nothing_drawn(axes, "not known" if has_run else "no valid run")
    axes.set_ylabel(figure_of.unit)
    axes.set_title(figure_of.title)


def draw_limits(axes: Axes, summary: pd.DataFrame, servers: list[str], above: bool = False) -> None:
    """Draw the strip that shows what limited each point, and its legend."""
    plot_style.draw_limiters(axes, summary, servers)
    plot_style.limiter_legend(axes, summary, above)


def draw(figure_of: Figure, cells: pd.DataFrame, summary: pd.DataFrame, *paths: str) -> None:
    cells, summary, machine_note = tables.of_main_machine(cells, summary)
    cells, repeats_note = tables.choose_single_runs(cells)
    machine_note = f"{machine_note} {repeats_note}".strip()
    cells, summary = tables.without_control(cells), tables.without_control(summary)
    servers = [str(name) for name in summary["server"].unique()]
    if figure_of.with_limits:
        height = 5.2 + 0.25 * len(servers)
        figure, axes, limits = plot_style.new_figure_with_strip(
            plot_style.WIDTH_INCHES, height, rows=len(servers)
        )
        draw_limits(limits, summary, servers)
        limits.set_title("limited by", fontsize=plot_style.SMALL, fontweight="normal")
        connections_axes = limits
    else:
        height = max(5.2, 2 + 0.2 * len(servers))
        figure = plot_style.new_canvas(plot_style.WIDTH_INCHES, height)
        connections_axes = axes = figure.add_subplot()
    draw_lines(axes, figure_of, cells, summary, servers)
    plot_style.set_connections_axis(connections_axes, sorted(summary["connections"].unique()))
    notes = [f"{plot_style.interval_note(summary)} {POINTS_NOTE}"]
    notes += plot_style.throughput_notes(summary) if figure_of.with_limits else []
    notes += [plot_style.saturation_note(summary)] if figure_of.of_client else []
    notes += [figure_of.note, machine_note, *tables.failure_notes(summary)]
    plot_style.add_notes(figure, notes)
    label_lines(axes, summary, figure_of, servers)
    plot_style.save(figure, paths)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figure", choices=FIGURES)
    parser.add_argument("cells", help="results/cells.csv")
    parser.add_argument("summary", help="results/summary.csv")
    parser.add_argument("output", nargs="+", help="the picture to draw: .png, .svg or both")
    arguments = parser.parse_args()
    cells = tables.read_cell_table(arguments.cells)
    draw(
        FIGURES[arguments.figure], cells, tables.read_summary(arguments.summary), *arguments.output
    )
    return 0


if __name__ == "__main__":
    sys.exit(faults.report(main))
