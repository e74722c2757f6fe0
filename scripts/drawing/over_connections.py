"""Draw figures over the number of connections."""

import math
from collections.abc import Callable
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes

from analysis import tables
from analysis.summary import reference_rates
from drawing import marks, palette
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
        formatter=format_count,
        logarithmic=False,
        with_limits=True,
    ),
    "latency": Figure(
        column="latency_p99_us",
        title="Latency",
        unit="99th percentile (logarithmic)",
        formatter=format_microseconds,
        of_client=True,
        note="wrk runs a closed loop: each connection waits for its answer before it sends the next request. This is "
        "not the response time of users who arrive whether or not the server is ready. Unserved connections are not "
        "included.",
    ),
    "cpu": Figure(
        column="cpu_ratio",
        title="CPU time per request / the reference's",
        unit="ratio (logarithmic)",
        formatter=format_ratio,
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
        measured = points[["connections", figure_of.column]].dropna().astype(float)
        x, y = measured.iloc[-1] if len(measured) else (math.nan, math.nan)
        label = label_of(server, points, figure_of.column)
        ends.append(End(x, y, label, palette.color_of(server), palette.marker_of(server)))
    label_ends(axes, ends + marks.reference_ends(axes))


def draw_lines(
    axes: Axes, figure_of: Figure, cells: pd.DataFrame, summary: pd.DataFrame, servers: list[str]
) -> None:
    """Draw all servers and the axis of their values. The caller sets the other axis, and then labels the lines."""
    if figure_of.with_limits:
        marks.draw_reference(axes, summary)
    for server in servers:
        color, marker = palette.color_of(server), palette.marker_of(server)
        points, its_cells = summary[summary["server"] == server], cells[cells["server"] == server]
        marks.draw_interval(axes, points, figure_of.column, color)
        marks.draw_points(axes, its_cells, figure_of.column, color, marker, 12)
    values = cells[figure_of.column]
    if figure_of.with_limits:
        values = pd.concat([values, reference_rates(summary)])
    if figure_of.logarithmic:
        set_logarithmic(axes, values)
    else:
        start_at_zero(axes, values)
    axes.yaxis.set_major_formatter(figure_of.formatter)
    if values.isna().all():
        has_run = summary["requests_per_second"].notna().any()
        say_nothing_drawn(axes, "not known" if has_run else "no valid run")
    axes.set_ylabel(figure_of.unit)
    axes.set_title(figure_of.title)
