#!/usr/bin/env python3
"""Draw each server's system calls and context switches per request in a workload, and its peak memory."""

import sys
import textwrap

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.container import BarContainer

from analysis import program, tables
from drawing import style
from drawing.system_calls import CALL_COLORS, LEAST, OTHER_CALL_COLOR, calls_by_server
from hosts.perf_permission import TITLES

PLAIN_COLOR = "#667788"
BAR_HEIGHT = 0.62
KIB_PER_MIB = 1024


def draw_calls(axes: Axes, calls: pd.DataFrame, rows: dict[str, int]) -> None:
    positions = [rows[server] for server in calls.index]
    left = pd.Series(0.0, index=calls.index)
    for name in calls:
        color = CALL_COLORS.get(str(name), OTHER_CALL_COLOR)
        bars = axes.barh(
            positions, calls[name], left=left, height=BAR_HEIGHT, color=color, label=name
        )
        left += calls[name]
    label_ends(axes, bars, left, "{:.2f}", room=1.12)
    axes.set_title("System calls per request")


def draw_figure(
    axes: Axes, values: "pd.Series[float]", rows: dict[str, int], title: str, form: str
) -> None:
    """Draw one bar for each server."""
    positions = [rows[str(server)] for server in values.index]
    bars = axes.barh(positions, values, height=BAR_HEIGHT, color=PLAIN_COLOR)
    label_ends(axes, bars, values, form, room=1.5)
    axes.set_title(title, fontsize=style.SMALL, fontweight="normal")


def label_ends(
    axes: Axes, bars: BarContainer, values: "pd.Series[float]", form: str, room: float
) -> None:
    """Write the figure at the end of each bar; room: the length of the axis relative to the longest bar."""
    axes.bar_label(bars, list(map(form.format, values)), padding=3, fontsize=style.SMALL)
    axes.set_xlim(0, max(values, default=0) * room or 1)


def say_why(axes: Axes, table: pd.DataFrame, rows: dict[str, int]) -> None:
    """Write the reason in place of the bar of a server that was not counted."""
    for _, row in table[table["status"] != "ok"].iterrows():
        said = f"{TITLES[row['status']]}: {row['reason']}"
        lines = textwrap.fill(said, 66, max_lines=3, placeholder=" …", break_on_hyphens=False)
        place = (0, rows[row["server"]])
        text = axes.annotate(lines, place, xytext=(4, 0), textcoords="offset points")
        text.set(va="center", fontsize=7, color="#555555", in_layout=False)


def notes_of(table: pd.DataFrame) -> list[str]:
    connections = ", ".join(f"{count:,}" for count in table["connections"].unique())
    return [
        f"Workload: {table['workload'].iloc[0]}. "
        f"Counted in a separate run under perf stat at {connections} connections, including its start and end. "
        f"other: calls that perf did not count by name, and calls rarer than {LEAST:g} a request.",
        "One waiting call serves all requests that are ready: the busier a server is, the fewer such calls it makes "
        "per request. Memory: the sum over processes.",
    ]


def draw(table: pd.DataFrame, *paths: str) -> None:
    """Three panels with a row for each server, the first server at the top."""
    servers = [str(name) for name in table["server"].unique()]
    rows = {server: position for position, server in enumerate(servers)}
    figure = style.new_canvas(style.WIDTH_INCHES, 1.9 + 0.38 * len(servers))
    panels = figure.subplots(1, 3, sharey=True, width_ratios=[3.6, 1, 1])
    for axes in panels:
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(servers)), servers)
    panels[0].set_ylim(len(servers) - 0.4, -0.6)
    calls = calls_by_server(table)
    draw_calls(panels[0], calls, rows)
    switches = table[table["kind"] == "context_switch"].set_index("server")["per_request"]
    draw_figure(panels[1], switches, rows, "Context switches\nper request", "{:.3f}")
    memory = table[table["kind"] == "memory"].set_index("server")["count"] / KIB_PER_MIB
    draw_figure(panels[2], memory, rows, "Peak memory\n(MiB)", "{:.1f}")
    say_why(panels[0], table, rows)
    if len(calls):
        figure.legend(loc="outside upper left", ncols=8, columnspacing=1.2, handlelength=1.2)
    style.add_notes(figure, notes_of(table))
    style.save(figure, paths)


main = program.of_tables(
    __doc__,
    draw,
    choose=lambda workload, table: [table[table["workload"] == workload]],
    workload=str,
    syscalls=tables.read_table,
)

if __name__ == "__main__":
    sys.exit(main())
