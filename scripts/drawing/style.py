"""How all plots look: sizes, canvas, notes below, and how a picture is saved."""

import textwrap
from collections.abc import Iterable
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from common import files

WIDTH_INCHES = 9.0  # a README shows it 900 px wide, so that SMALL is 11 px there
SMALL = 8  # points: the smallest text
CHARACTERS_AN_INCH = 17.5  # of that size, in sentences
GREY = "#666666"
matplotlib.rcdefaults()  # a user's matplotlibrc would change the pictures
matplotlib.rcParams.update(
    {
        "figure.dpi": 200,
        "figure.constrained_layout.use": True,
        "font.size": 9,
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "xtick.labelsize": SMALL,
        "ytick.labelsize": SMALL,
        "legend.fontsize": SMALL,
        "legend.frameon": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#dddddd",
        "grid.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "text.parse_math": False,  # names are plain text, whatever they contain
        "svg.hashsalt": "plots",  # otherwise names within an SVG would be random
    }
)


def new_canvas(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def new_figure_with_strip(width: float, height: float, rows: int) -> tuple[Figure, Axes, Axes]:
    """A figure with a plot and, below it over the same connections, a strip with so many rows."""
    figure = new_canvas(width, height)
    strip_inches = 0.25 * rows + 0.05
    axes, strip = figure.subplots(
        2, sharex=True, height_ratios=[height - strip_inches - 1.5, strip_inches]
    )
    return figure, axes, strip


def add_notes(figure: Figure, notes: list[str]) -> None:
    """Write notes below the plots, wrapped to the figure's width."""
    most = int(CHARACTERS_AN_INCH * figure.get_figwidth())
    lines = [textwrap.fill(note, most, subsequent_indent="   ") for note in notes if note]
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=SMALL, color="#444444")


# No date and no version, so that the same data give the same bytes.
METADATA: dict[str, dict[str, None]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
}


def fix_layout(figure: Figure) -> None:
    """Fix the layout, and round it: the solver's last digits differ between processes."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for part in figure.subfigs:
        part.bbox_relative.set(Bbox(np.round(part.bbox_relative.get_points(), 6)))
    for axes in figure.axes:
        left, bottom, width, height = np.round(axes.get_position().bounds, 6)
        axes.set_position((left, bottom, width, height))


def save(figure: Figure, paths: Iterable[str]) -> None:
    """Save a picture to each path, in the format of its suffix."""
    fix_layout(figure)
    for path in paths:
        with files.replacing(path) as temporary:
            figure.savefig(temporary, metadata=METADATA[Path(path).suffix])
