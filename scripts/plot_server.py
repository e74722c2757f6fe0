#!/usr/bin/env python3
"""Draw one server's throughput over the number of connections: every cell, their summary and its 95 % interval."""

import sys

import pandas as pd
from matplotlib.axes import Axes

from analysis import program, tables
from analysis.summary import summary_table
from drawing import marks, palette, style
from drawing.axes import (
    format_count,
    label_ends,
    say_nothing_drawn,
    set_connections_axis,
    start_at_zero,
)


def mark_limits(axes: Axes, summary: pd.DataFrame) -> None:
    """Draw ≥ at the points where wrk was the limit."""
    for point in summary[summary["limiter"] == "client-bound"].itertuples():
        place = point.connections, point.requests_per_second
        text = axes.annotate("≥", place, xytext=(-9, 4), textcoords="offset points")
        text.set(ha="center", fontsize=11, fontweight="bold")


def workload_notes(summary: pd.DataFrame) -> list[str]:
    """A line for each point of the workloads that the picture has no curve of."""
    main, *others = tables.workloads_of(summary)
    notes = [f"Workload of the picture: {main}. In others:"] if others else []
    for point in summary[summary["workload"].isin(others)].to_dict("records"):
        where = f"{point['workload']}, {point['connections']:,} connections"
        if pd.isna(point["requests_per_second"]):
            status = tables.describe_no_result(pd.DataFrame([point]))
            notes.append(f"  {where}: {status}.")
            continue
        ratio = point[tables.RATIOS[0]]
        cpu = f", CPU time per request {ratio:.2f} × the reference's" if pd.notna(ratio) else ""
        notes.append(
            f"  {where}: {point['requests_per_second']:,.0f} requests/s, p99"
            f" {point['latency_p99_us']:,.0f} µs{cpu}."
        )
    return notes


def draw(cells: pd.DataFrame, summary: pd.DataFrame, *paths: str) -> None:
    cells, summary, machine_note = tables.to_draw(cells, summary)
    other_notes = workload_notes(summary)
    summary, cells = tables.of_first_workload(summary, cells)
    server = str(summary["server"].iloc[0])
    color = palette.color_of(server)
    figure, axes, limits = style.new_figure_with_strip(7.5, 5.2, rows=1)
    column = "requests_per_second"
    marks.draw_interval(axes, summary, column, color)
    marks.draw_points(axes, cells, column, color, palette.marker_of(server), 22)
    marks.draw_reference(axes, summary)
    mark_limits(axes, summary)
    marks.draw_limiters(limits, summary, [server])
    limits.set_yticks([0], ["limited by"])
    marks.limiter_legend(limits, summary)
    set_connections_axis(limits, list(summary["connections"]))
    highest = pd.concat([cells[column], summary[tables.REFERENCE_RATE]])
    start_at_zero(axes, highest)
    axes.yaxis.set_major_formatter(format_count)
    axes.set_ylabel("requests per second")
    axes.set_title(f"{server}: throughput")
    notes = [
        f"Line: all valid repeats together. {palette.interval_note(summary)} Points: single runs."
    ]
    if cells[column].notna().sum() == 0:
        say_nothing_drawn(axes, tables.describe_no_result(summary))
    unserved = summary[summary["unserved_connections"] > 0]
    if not unserved.empty:
        most = unserved.sort_values("unserved_connections").iloc[-1]
        notes.append(
            f"Hollow points, dotted line: up to {most['unserved_connections']:,.0f} of {most['connections']:,} "
            "connections never got a response."
        )
    if tables.has_flag(summary, "connection_per_request").any():
        notes.append(
            "Each request makes a new connection: compare only with servers that do the same."
        )
    if (summary["repeats_invalid"] > 0).any():
        notes.append(
            "Hollow points off the line: invalid runs, which are not counted (flags in cells.csv)."
        )
    notes += tables.failure_notes(summary)
    if (summary["disturbed_share"] > 0).any():
        notes.append("Hollow points: disturbed runs, which count only if there are no others.")
    if (summary["limiter"] == "client-bound").any():
        notes.append("≥: wrk was the limit, so the server could do more.")
    style.add_notes(
        figure, [*notes, *palette.throughput_notes(summary), machine_note, *other_notes]
    )
    label_ends(axes, marks.reference_ends(axes))
    style.save(figure, paths)


main = program.of_tables(
    __doc__,
    lambda cells, *paths: draw(cells, summary_table(cells), *paths),
    cells=tables.read_cell_table,
)

if __name__ == "__main__":
    sys.exit(main())
