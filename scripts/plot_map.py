#!/usr/bin/env python3
"""Draw the map: a table of servers and workloads, with each server's distance from the best of each workload."""

import sys
import textwrap

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from analysis import program, tables, workload_map
from analysis.summary import read_summary
from analysis.verdicts import read_verdicts
from analysis.workload_map import Column, Field, WorkloadMap
from drawing import palette, style

COLUMN_INCHES = 1.04
WIDEST_COLUMN_INCHES = 1.7
ROW_INCHES = 0.34
HEAD_CHARACTERS = 17  # that fit above a column
NAMES_INCHES = 1.8
LEAST_WIDTH_INCHES = 6.0  # for the notes
LINE_POINTS = 1.2 * style.SMALL
NOTHING_COLOR = "#ececec"
HATCH = "////"
# Of the whole width of a field, and of its height from the top.
TEXT_X, LETTERS_X, LIMITER_X, REMARK_Y = 0.06, 0.56, 0.91, 0.74


def head_of(column: Column) -> str:
    """What stands below a column's name, in lines."""
    figure = textwrap.wrap(f"{column.figure}, {column.direction}", HEAD_CHARACTERS)
    return "\n".join([*figure, *textwrap.wrap(column.connections_text, HEAD_CHARACTERS)])


def name_lines(name: str) -> list[str]:
    """A name, broken only behind an underscore, if it has to be."""
    lines = [""]
    for part in name.replace("_", "_ ").split(" "):
        if len(lines[-1] + part) > HEAD_CHARACTERS - 3 and lines[-1]:
            lines.append("")
        lines[-1] += part
    return lines


def draw_field(axes: Axes, field: Field, x: int, y: int) -> None:
    """Draw one field, whose upper left corner this is."""
    face, color = NOTHING_COLOR, "#333333"
    if field.has_ratio:
        face, color = palette.distance_colors(field.ratio)
    box = Rectangle((x, y), 1, 1, facecolor=face, edgecolor="white", linewidth=1.5)
    axes.add_patch(box)
    if field.remark and field.remark not in ("unavailable", "not measured"):
        hatched = Rectangle((x, y), 1, 1, facecolor="none", hatch=HATCH, linewidth=0)
        hatched.set(edgecolor=color, alpha=0.16)
        axes.add_patch(hatched)
    if not field.has_ratio:
        # On its own ground, so that the hatching does not cross it.
        text = axes.text(x + 0.5, y + 0.5, field.remark, color=color, fontsize=style.SMALL)
        text.set(ha="center", va="center", bbox={"facecolor": face, "linewidth": 0, "pad": 1.5})
        return
    middle = y + (0.34 if field.remark else 0.5)
    ratio = axes.text(x + TEXT_X, middle, field.text, color=color, va="center_baseline")
    ratio.set(fontweight="bold" if field.is_first else "normal")
    letters = axes.text(x + LETTERS_X, middle, field.letters, color=color, fontsize=style.SMALL)
    letters.set(ha="center", va="center_baseline")
    if field.remark:
        remark = axes.text(x + TEXT_X, y + REMARK_Y, field.remark, color=color)
        remark.set(va="center_baseline", fontsize=7)
    limiter = palette.LIMITERS[field.limiter]
    place = (x + LIMITER_X, middle)
    square = axes.scatter(*place, marker="s", s=62, color=limiter.color, edgecolors="white")
    square.set(linewidths=0.7, zorder=3)
    letter = axes.text(*place, limiter.letter, color="white", fontsize=6, fontweight="bold")
    letter.set(ha="center", va="center_baseline", zorder=4)


def draw_table(axes: Axes, its: WorkloadMap, columns_wide: float) -> None:
    """Draw all fields in an axes that is as wide as so many columns, with names at the left and heads above."""
    for x, column in enumerate(its.columns):
        for y, server in enumerate(its.servers):
            draw_field(axes, its.fields[column.workload, server], x, y)
        place, points = (x + TEXT_X, 0), "offset points"
        head = axes.annotate(head_of(column), place, (0, 4), textcoords=points)
        name = "\n".join(name_lines(column.workload))
        height = 7 + LINE_POINTS * (1 + head.get_text().count("\n"))
        title = axes.annotate(name, place, (0, height), textcoords=points, fontweight="bold")
        for text in (head, title):
            text.set(va="bottom", fontsize=style.SMALL)
    axes.set_xlim(0, columns_wide)
    axes.set_ylim(len(its.servers), 0)
    axes.set_yticks([y + 0.5 for y in range(len(its.servers))], its.servers)
    axes.set_xticks([])
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def notes_of(its: WorkloadMap, machine_note: str) -> list[str]:
    """How to read the map, a line each."""
    present = {field.limiter for field in its.fields.values() if field.has_ratio}
    limiters = [
        f"{it.letter}\u00a0{name}" for name, it in palette.LIMITERS.items() if name in present
    ]
    any_more = any(column.direction.startswith("more") for column in its.columns)
    more = " Where more is better, 0.50× means half as much as the best." if any_more else ""
    return [
        f"Each field: the figure above its column / that of the column's best server; bold: no server is better.{more}"
        f" The darker, the nearer to 1.00 (logarithmic, up to {palette.FARTHEST_RATIO:g}×).",
        "Servers that share a letter in a column do not differ significantly."
        + (f" Square: what limited most runs ({', '.join(limiters)})." if limiters else ""),
        "Hatched: without a ratio, or with one over fewer numbers of connections. Figures of different columns do not"
        " compare.",
        machine_note,
    ]


def draw(cells: pd.DataFrame, summary: pd.DataFrame, verdicts: pd.DataFrame, *paths: str) -> None:
    _, _, machine_note = tables.of_main_machine(cells, summary)
    its = workload_map.make(summary, verdicts)
    count = len(its.columns)
    width = max(NAMES_INCHES + COLUMN_INCHES * count, LEAST_WIDTH_INCHES)
    column_inches = min((width - NAMES_INCHES) / count, WIDEST_COLUMN_INCHES)
    heads = [head_of(it).count("\n") + 1 + len(name_lines(it.workload)) for it in its.columns]
    notes = notes_of(its, machine_note)
    head_inches = LINE_POINTS / 72 * max(heads)
    figure = style.new_canvas(width, 1.45 + head_inches + ROW_INCHES * len(its.servers))
    axes = figure.add_subplot()
    draw_table(axes, its, (width - NAMES_INCHES) / column_inches)
    style.add_notes(figure, notes)
    style.save(figure, paths)


main = program.of_tables(
    __doc__,
    draw,
    cells=tables.read_cell_table,
    summary=read_summary,
    verdicts=read_verdicts,
)

if __name__ == "__main__":
    sys.exit(main())
