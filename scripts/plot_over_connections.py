#!/usr/bin/env python3
"""Draw one figure of all servers over the number of connections, on a common scale."""

import sys

import pandas as pd

from analysis import program, tables
from analysis.summary import read_summary
from drawing import marks, palette, style
from drawing.axes import set_connections_axis
from drawing.over_connections import FIGURES, POINTS_NOTE, Figure, draw_lines, label_lines


def draw(figure_of: Figure, cells: pd.DataFrame, summary: pd.DataFrame, *paths: str) -> None:
    cells, summary, machine_note = tables.to_draw(cells, summary)
    cells, summary = tables.without_control(cells), tables.without_control(summary)
    servers = [str(name) for name in summary["server"].unique()]
    if figure_of.with_limits:
        height = 5.2 + 0.25 * len(servers)
        figure, axes, limits = style.new_figure_with_strip(
            style.WIDTH_INCHES, height, rows=len(servers)
        )
        marks.draw_limiters(limits, summary, servers)
        marks.limiter_legend(limits, summary)
        limits.set_title("limited by", fontsize=style.SMALL, fontweight="normal")
        connections_axes = limits
    else:
        height = max(5.2, 2 + 0.2 * len(servers))
        figure = style.new_canvas(style.WIDTH_INCHES, height)
        connections_axes = axes = figure.add_subplot()
    draw_lines(axes, figure_of, cells, summary, servers)
    set_connections_axis(connections_axes, sorted(summary["connections"].unique()))
    workload = f"Workload: {cells['workload'].iloc[0]}."
    notes = [f"{workload} {palette.interval_note(summary)} {POINTS_NOTE}"]
    notes += palette.throughput_notes(summary) if figure_of.with_limits else []
    notes += [palette.saturation_note(summary)] if figure_of.of_client else []
    notes += [figure_of.note, machine_note, *tables.failure_notes(summary)]
    style.add_notes(figure, notes)
    label_lines(axes, summary, figure_of, servers)
    style.save(figure, paths)


main = program.of_tables(
    __doc__,
    draw,
    choose=lambda figure, *its: (figure, *tables.of_first_workload(*its)),
    figure=FIGURES,
    cells=tables.read_cell_table,
    summary=read_summary,
)

if __name__ == "__main__":
    sys.exit(main())
