#!/usr/bin/env python3
"""Draw one server's throughput over the number of connections: every cell, their summary and its 95 % interval."""

import argparse
import sys

import pandas as pd
import plot_style
import tables


def draw(cells: pd.DataFrame, summary: pd.DataFrame, path: str) -> None:
    server = str(summary["server"].iloc[0])
    color = plot_style.color_of(server)
    figure, axes = plot_style.new_figure(7.5, 4.8)
    column = "requests_per_second"
    plot_style.draw_interval(axes, summary, column, 1, color)
    plot_style.draw_points(axes, cells, column, 1, color, "o", 26)
    plot_style.set_connections_axis(axes, list(summary["connections"]))
    plot_style.start_at_zero(axes, cells[column])
    axes.yaxis.set_major_formatter(plot_style.format_count)
    axes.set_ylabel("requests per second")
    axes.set_title(f"{server}: throughput", loc="left", fontweight="bold")
    notes = [
        f"Line: total over the valid repeats. {plot_style.interval_note(summary)} Points: single runs."
    ]
    if cells[column].notna().sum() == 0:
        reason = "unavailable" if (cells["status"] == "unavailable").all() else "no valid run"
        axes.text(0.5, 0.5, f"{reason} on this machine", transform=axes.transAxes, ha="center")
    unserved = summary[summary["unserved_connections"] > 0]
    if not unserved.empty:
        most = unserved.sort_values("unserved_connections").iloc[-1]
        notes.append(
            f"Hollow, dotted: connections that never got a response, up to {most['unserved_connections']:,.0f} "
            f"of {most['connections']:,}."
        )
    if (summary["repeats_invalid"] > 0).any():
        notes.append("Hollow and off the line: runs with errors, which are not counted.")
    plot_style.add_notes(figure, [*notes, plot_style.saturation_note(summary)])
    plot_style.save(figure, path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", help="the server's rows of cells.csv")
    parser.add_argument("summary", help="the server's rows of summary.csv")
    parser.add_argument("output", help="the PNG to draw")
    arguments = parser.parse_args()
    draw(tables.read_cell_table(arguments.cells), pd.read_csv(arguments.summary), arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
