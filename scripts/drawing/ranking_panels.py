"""Draw the panels of the ranking."""

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import Locator, LogLocator, MaxNLocator, NullFormatter, NullLocator

from analysis import ranking
from drawing import palette, style
from sweep.cells import base_of, is_control

BAND_COLOR = "#e2e2e2"


def ratio_locator(span: float) -> Locator:
    """Ticks at round factors, or at even steps where all ratios are close to 1."""
    if span < 4:
        return MaxNLocator(6, steps=[1, 2, 5, 10])
    return LogLocator(subs=(1, 1.5, 2, 3, 5, 7) if span < 6 else (1, 2, 5))


def draw_row(
    axes: Axes, height: int, row: ranking.Row, color: str, marker: str, is_hollow: bool
) -> None:
    if not math.isfinite(row.ratio):
        middle = axes.get_yaxis_transform()
        text = axes.text(0.5, height, "no comparable point", transform=middle, color=style.GREY)
        text.set(ha="center", va="center", fontsize=style.SMALL, backgroundcolor="white")
        return
    axes.plot([row.low, row.high], [height, height], color=color, linewidth=1.6, zorder=2)
    face = "white" if is_hollow else color
    point = axes.scatter(row.ratio, height, s=30, marker=marker, facecolors=face, edgecolors=color)
    point.set(linewidths=1.2, zorder=3)


def set_up_panel(
    axes: Axes, metric: str, rows: list[ranking.Row], floor: float, base: str, remarks: list[str]
) -> None:
    """Draw all but the rows: the band of the floor (a factor), a logarithmic axis around the rows' ratios to `base`,
    with as many labels as have room, and a remark on each row at the right."""
    if math.isfinite(floor):
        axes.axvspan(1 / floor, floor, color=BAND_COLOR, linewidth=0, zorder=0)
    axes.axvline(1, color=style.GREY, linewidth=0.8, zorder=1)
    low, high = ranking.ratio_limits(rows, floor)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(ratio_locator(high / low))
    axes.xaxis.set_major_formatter(lambda value, _position: f"{value:.4g}×")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_title({**ranking.TITLES, **ranking.UNDIVIDED_TITLES}[metric])
    axes.set_xlabel(f"ratio to {base}, logarithmic ({ranking.DIRECTIONS[metric]})")
    axes.tick_params(axis="y", length=0)
    right = axes.secondary_yaxis("right")
    right.set_yticks(range(len(remarks)), remarks)
    right.tick_params(length=0)
    right.spines["right"].set_visible(False)


def draw_panel(
    axes: Axes, metric: str, rows: dict[str, ranking.Row], anchor: str, verdicts: pd.DataFrame
) -> None:
    """Draw one metric and its verdicts: a row a server from the top down, with its letters and remark at the right."""
    remarks = [f"{row.letters}  {row.remark}" for row in rows.values()]
    floor = 1 + ranking.floor_percent(verdicts) / 100
    set_up_panel(axes, metric, list(rows.values()), floor, anchor, remarks)
    for height, (server, row) in enumerate(rows.items()):
        base = base_of(server)
        color, marker = palette.color_of(base), palette.marker_of(base)
        draw_row(axes, height, row, color, marker, is_control(server))


def draw_panels(panels: Sequence[Axes], verdicts: pd.DataFrame, summary: pd.DataFrame) -> None:
    """Draw one machine's ranking: a panel a metric, with the same rows."""
    for axes, metric in zip(panels, ranking.titles_of(verdicts), strict=True):
        its_verdicts = verdicts[verdicts["metric"] == metric]
        anchor, rows = ranking.rows_of(summary, its_verdicts)
        draw_panel(axes, metric, rows, anchor, its_verdicts)
    panels[0].set_yticks(range(len(rows)), [ranking.label_of(name, summary) for name in rows])
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
