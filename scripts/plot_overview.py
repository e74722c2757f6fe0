#!/usr/bin/env python3
"""Draw the first workload in one picture: throughput, latency, CPU time, what limited each server, and the ranking."""

import sys
import textwrap

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from analysis import findings, program, ranking, tables
from analysis.summary import read_summary
from analysis.verdicts import read_verdicts
from drawing import marks, over_connections, palette, ranking_panels, style
from drawing.axes import set_connections_axis

HEADLINE_CHARACTERS = 92
LABELS_OF_CONNECTIONS = 7  # as many fit into a panel half as wide as the picture


def title_of(cells: pd.DataFrame) -> str:
    """Describe the workload's sweep in a line."""
    workload = cells["workload"].iloc[0]
    servers = tables.without_control(cells)["server"].nunique()
    counts, repeats = cells["connections"], cells["repeat"].nunique()
    span = " to ".join(f"{count:,}" for count in sorted({counts.min(), counts.max()}))
    parts = [(servers, "server"), (counts.max(), "connection"), (repeats, "repeat")]
    nouns = [noun if number == 1 else f"{noun}s" for number, noun in parts]
    return f"{workload}: {servers} HTTP {nouns[0]}, {span} {nouns[1]}, {repeats} {nouns[2]}"


def headline_of(verdicts: pd.DataFrame, servers: list[str]) -> str:
    """Which server is best by the figure that decides, as far as the verdicts show; empty for one server."""
    if verdicts.empty:
        return ""
    decider = str(verdicts["metric"].iloc[0])
    sentence = findings.best_sentence(findings.find(verdicts, decider, servers))
    return textwrap.fill(sentence, HEADLINE_CHARACTERS)


def draw_lines(figure: SubFigure, cells: pd.DataFrame, summary: pd.DataFrame) -> None:
    """Draw three figures over the number of connections, and what limited each point."""
    servers = [str(name) for name in summary["server"].unique()]
    panels: list[Axes] = list(figure.subplots(2, 2).flat)
    for axes, figure_of in zip(panels, over_connections.FIGURES.values(), strict=False):
        over_connections.draw_lines(axes, figure_of, cells, summary, servers)
    limits = panels[-1]
    marks.draw_limiters(limits, summary, servers)
    marks.limiter_legend(limits, summary, above=True)
    limits.yaxis.tick_right()
    limits.tick_params(length=0)
    for axes in panels:
        counts = sorted(summary["connections"].unique())
        set_connections_axis(axes, counts, LABELS_OF_CONNECTIONS)
    for axes in panels[:2]:
        axes.set_xlabel("")


def notes_of(
    cells: pd.DataFrame, summary: pd.DataFrame, verdicts: pd.DataFrame, machine_note: str
) -> list[str]:
    """What a reader must know, a line each."""
    return [
        f"{palette.interval_note(summary)} {over_connections.POINTS_NOTE}",
        *palette.throughput_notes(summary),
        palette.saturation_note(summary),
        *ranking.notes_of(cells, verdicts),
        *tables.failure_notes(summary),
        machine_note,
    ]


def draw(cells: pd.DataFrame, summary: pd.DataFrame, verdicts: pd.DataFrame, *paths: str) -> None:
    cells, summary, machine_note = tables.of_main_machine(cells, summary)
    shown, repeats_note = tables.choose_single_runs(cells)
    machine_note = f"{machine_note} {repeats_note}".strip()
    verdicts = verdicts[verdicts["machine"].isin(summary["machine"])]
    its_cells = tables.without_control(shown)
    its_summary = tables.without_control(summary)
    servers = [str(name) for name in its_summary["server"].unique()]
    notes = notes_of(cells, its_summary, verdicts, machine_note)
    inches = [2 * max(2.5, 1 + 0.19 * len(servers)), 0.8 + 0.25 * summary["server"].nunique()]
    if verdicts.empty:
        inches.pop()
    title = "\n".join(filter(None, [title_of(shown), headline_of(verdicts, servers)]))
    height = sum(inches) + 0.4 + 0.18 * (1 + title.count("\n")) + 0.14 * len(notes)
    figure = style.new_canvas(style.WIDTH_INCHES, height)
    parts = figure.subfigures(len(inches), 1, height_ratios=inches, squeeze=False)[:, 0]
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    draw_lines(parts[0], its_cells, its_summary)
    if len(verdicts):
        panels = parts[1].subplots(1, len(ranking.titles_of(verdicts)), sharey=True, squeeze=False)
        ranking_panels.draw_panels(panels[0], verdicts, summary)
    style.add_notes(figure, notes)
    for axes, figure_of in zip(parts[0].axes, over_connections.FIGURES.values(), strict=False):
        over_connections.label_lines(axes, its_summary, figure_of, servers)
    style.save(figure, paths)


main = program.of_tables(
    __doc__,
    draw,
    choose=tables.of_first_workload,
    cells=tables.read_cell_table,
    summary=read_summary,
    verdicts=read_verdicts,
)

if __name__ == "__main__":
    sys.exit(main())
