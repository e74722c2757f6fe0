#!/usr/bin/env python3
"""Draw one figure of all servers over the number of connections, on one scale."""

import argparse
import sys
from collections.abc import Callable
from typing import NamedTuple

import pandas as pd
import plot_style
import tables
from cells import is_control
from matplotlib.axes import Axes
from matplotlib.lines import Line2D


class Figure(NamedTuple):
    column: str
    scale: float
    title: str
    unit: str
    formatter: Callable[[float, float], str]
    logarithmic: bool
    with_limits: bool
    of_client: bool  # by the client's clock
    notes: list[str]


FIGURES = {
    "throughput": Figure(
        column="requests_per_second",
        scale=1,
        title="Throughput",
        unit="requests per second",
        formatter=plot_style.format_count,
        logarithmic=False,
        with_limits=True,
        of_client=False,
        notes=[],
    ),
    "latency": Figure(
        column="latency_p99_us",
        scale=1,
        title="Latency: 99th percentile",
        unit="latency (logarithmic)",
        formatter=plot_style.format_microseconds,
        logarithmic=True,
        with_limits=False,
        of_client=True,
        notes=[
            "A closed loop: each connection waits for its answer before it asks again, so this is no response",
            "time of users who come whether or not the server is ready. Unserved connections are not in it.",
        ],
    ),
    "cpu": Figure(
        column="server_cpu_ns_per_request",
        scale=1e-3,
        title="Server CPU time per request",
        unit="CPU time per request (logarithmic)",
        formatter=plot_style.format_microseconds,
        logarithmic=True,
        with_limits=False,
        of_client=False,
        notes=[
            "Lower is better. It also tells servers apart where wrk is the limit of throughput."
        ],
    ),
}


def without_control(table: pd.DataFrame) -> pd.DataFrame:
    return table[~table["server"].map(is_control).astype(bool)]


def label_of(server: str, points: pd.DataFrame, column: str) -> str:
    """A server's name, and what must be known before its line is compared with others."""
    remarks = [] if points[column].notna().any() else ["no valid run"]
    if tables.has_flag(points, "connection_per_request").any():
        remarks.append("a connection per request")
    return f"{server}\n({', '.join(remarks)})" if remarks else server


def label_lines(axes: Axes, summary: pd.DataFrame, column: str, servers: list[str]) -> None:
    """A legend beside the plot, in the order of the lines' right ends, so that it reads like labels of the lines."""
    ends = summary.sort_values("connections").groupby("server")[column].last().fillna(-1.0)
    entries = []
    for server in sorted(servers, key=lambda name: -ends[name]):
        points = summary[summary["server"] == server]
        unserved = (points["unserved_connections"] > 0).any()
        entries.append(
            Line2D(
                [],
                [],
                color=plot_style.color_of(server),
                marker=plot_style.marker_of(server),
                markersize=5,
                linestyle=":" if unserved else "-",
                label=label_of(server, points, column),
            )
        )
    ceiling, _ = axes.get_legend_handles_labels()
    axes.legend(
        handles=[*entries, *ceiling],
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        frameon=False,
        fontsize=9,
    )


def draw(figure_of: Figure, cells: pd.DataFrame, summary: pd.DataFrame, path: str) -> None:
    cells, summary, machine_note = tables.of_main_machine(cells, summary)
    cells, summary = without_control(cells), without_control(summary)
    servers = [str(name) for name in summary["server"].unique()]
    if figure_of.with_limits:
        height = 5.6 + 0.2 * len(servers)
        figure, axes, limits = plot_style.new_figure_with_strip(10, height, rows=len(servers))
        plot_style.draw_ceiling(axes, summary)
        plot_style.draw_limiters(limits, summary, servers)
        limits.set_title("limited by", loc="left", fontsize=9)
        plot_style.limiter_legend(limits, summary)
        connections_axes = limits
    else:
        figure, axes = plot_style.new_figure(10, 5.6)
        connections_axes = axes
    for server in servers:
        color = plot_style.color_of(server)
        marker = plot_style.marker_of(server)
        points, its_cells = summary[summary["server"] == server], cells[cells["server"] == server]
        plot_style.draw_interval(axes, points, figure_of.column, figure_of.scale, color)
        plot_style.draw_points(
            axes, its_cells, figure_of.column, figure_of.scale, color, marker, 16
        )
    plot_style.set_connections_axis(connections_axes, sorted(summary["connections"].unique()))
    values = cells[figure_of.column] * figure_of.scale
    if figure_of.with_limits:
        values = pd.concat([values, summary["ceiling_requests_per_second"]])
    if figure_of.logarithmic:
        plot_style.set_logarithmic(axes, values)
    else:
        plot_style.start_at_zero(axes, values)
    axes.yaxis.set_major_formatter(figure_of.formatter)
    axes.set_ylabel(figure_of.unit)
    axes.set_title(figure_of.title, loc="left", fontweight="bold")
    label_lines(axes, summary, figure_of.column, servers)
    notes = [
        f"{plot_style.interval_note(summary)} Points: single runs; hollow, dotted line: connections were left "
        "unserved; hollow alone: invalid or disturbed."
    ]
    notes += plot_style.limiter_notes(summary) if figure_of.with_limits else []
    notes += [plot_style.saturation_note(summary)] if figure_of.of_client else []
    plot_style.add_notes(figure, [*notes, *figure_of.notes, machine_note])
    plot_style.save(figure, path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figure", choices=FIGURES)
    parser.add_argument("cells", help="results/cells.csv")
    parser.add_argument("summary", help="results/summary.csv")
    parser.add_argument("output", help="the PNG to draw")
    arguments = parser.parse_args()
    cells = tables.read_cell_table(arguments.cells)
    draw(FIGURES[arguments.figure], cells, pd.read_csv(arguments.summary), arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
