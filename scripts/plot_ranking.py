#!/usr/bin/env python3
"""Draw the ranking of one machine's servers: ratios to one of them, the anchor, and which differ significantly."""

import argparse
import sys

import pandas as pd

from analysis import tables
from analysis.ranking import TITLES, notes_of
from analysis.summary import read_summary
from analysis.verdicts import CELL_COLUMNS, read_verdicts
from common import command
from drawing import style
from drawing.ranking_panels import draw_panels


def draw(cells: pd.DataFrame, summary: pd.DataFrame, verdicts: pd.DataFrame, *paths: str) -> None:
    machine = tables.main_machine(summary)
    others = summary["machine"].nunique() - 1
    cells, summary, verdicts = (
        table[table["machine"] == machine] for table in (cells, summary, verdicts)
    )
    height = 2.2 + 0.28 * summary["server"].nunique()
    figure = style.new_canvas(style.WIDTH_INCHES, height)
    draw_panels(figure.subplots(1, len(TITLES), sharey=True), verdicts, summary)
    notes = notes_of(cells, summary, verdicts)
    if others:
        notes.append(
            f"This shows machine {machine} alone; the table also has the verdicts of {others} more, never mixed."
        )
    style.add_notes(figure, notes)
    style.save(figure, paths)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", help="results/cells.csv")
    parser.add_argument("summary", help="results/summary.csv")
    parser.add_argument("verdicts", help="results/verdicts.csv")
    parser.add_argument("output", nargs="+", help="the picture to draw: .png, .svg or both")
    arguments = parser.parse_args()
    draw(
        tables.read_cell_table(arguments.cells, CELL_COLUMNS),
        read_summary(arguments.summary),
        read_verdicts(arguments.verdicts),
        *arguments.output,
    )
    return 0


if __name__ == "__main__":
    sys.exit(command.report(main))
