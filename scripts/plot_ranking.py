#!/usr/bin/env python3
"""Draw the ranking of one machine's servers: ratios to one of them, the anchor, and which differ significantly."""

import sys

import pandas as pd

from analysis import program, tables
from analysis.ranking import notes_of, titles_of
from analysis.summary import read_summary
from analysis.verdicts import CELL_COLUMNS, read_verdicts
from drawing import style
from drawing.ranking_panels import draw_panels


def draw(cells: pd.DataFrame, summary: pd.DataFrame, verdicts: pd.DataFrame, *paths: str) -> None:
    machine = tables.main_machine(summary)
    others = summary["machine"].nunique() - 1
    cells, summary, verdicts = (
        table[table["machine"] == machine] for table in (cells, summary, verdicts)
    )
    height = 2.35 + 0.28 * summary["server"].nunique()
    figure = style.new_canvas(style.WIDTH_INCHES, height)
    panels = figure.subplots(1, len(titles_of(verdicts)), sharey=True, squeeze=False)
    draw_panels(panels[0], verdicts, summary)
    notes = [f"Workload: {cells['workload'].iloc[0]}.", *notes_of(cells, verdicts)]
    if others:
        notes.append(
            f"This shows machine {machine} alone; the table also has the verdicts of {others} more, never mixed."
        )
    style.add_notes(figure, notes)
    style.save(figure, paths)


main = program.of_tables(
    __doc__,
    draw,
    choose=tables.of_first_workload,
    cells=lambda path: tables.read_cell_table(path, CELL_COLUMNS),
    summary=read_summary,
    verdicts=read_verdicts,
)

if __name__ == "__main__":
    sys.exit(main())
