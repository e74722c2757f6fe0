"""How the plots look: colours, axes, intervals, and the meaning of hollow points."""

import math
import textwrap
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import files
import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
import tables
from cells import REFERENCE
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator
from matplotlib.transforms import Bbox
from scipy.optimize import isotonic_regression

Floats = npt.NDArray[np.float64]

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

# A search found these colours, which readers with each kind of colour blindness can distinguish (tests/test_plots.py).
# Each kind of I/O has its own hues: yellow and orange scan all connections, blue is epoll, green is io_uring.
COLORS = {
    "server": "#484848",
    "server_thread": "#bc00b2",
    "server_select": "#c6af00",
    "server_poll": "#cb7948",
    "server_epoll": "#3d50ff",
    "server_epoll_multitask": "#3fb8ff",
    "server_uring": "#006e0e",
    "server_uring_multitask": "#23a098",
    "server_thread_50": "#971050",
    "server_uring_naive": "#7841db",
    "nginx": "#661100",
    "h2o": "#7b7b7b",
    "lighttpd": "#8d4471",
    "server_sigio": "#7c5e42",
}
OTHER_COLORS = ["#999933", "#cc6677", "#000000"]
MARKERS = "osD^vP*X<>"
REFERENCE_COLOR = "#555555"
REFERENCE_DASHES = (0, (4, 2))
# What limits a point: its colour, and a letter for readers who do not see colours.
LIMITERS = {
    "server-bound": ("#228833", "S"),
    "client-bound": ("#a0700a", "C"),
    "latency-bound": ("#4a7ebb", "L"),
    "shared-cpus": ("#aa4499", "="),
    "disturbed": ("#777777", "?"),
    "starving": ("#bb4455", "!"),
}


def color_of(server: str) -> str:
    """A server's colour, the same in all plots; other servers get one derived from their name."""
    return COLORS.get(server) or OTHER_COLORS[zlib.crc32(server.encode()) % len(OTHER_COLORS)]


def marker_of(server: str) -> str:
    known = list(COLORS)
    index = known.index(server) if server in known else zlib.crc32(server.encode())
    return MARKERS[index % len(MARKERS)]


def format_count(value: float, _position: float = 0) -> str:
    """1500 → 1.5k: short enough for ticks."""
    for divisor, suffix in ((1e6, "M"), (1e3, "k")):
        if value >= divisor:
            return f"{value / divisor:.4g}{suffix}"
    return f"{value:.4g}"


def format_ratio(value: float, _position: float) -> str:
    return f"{value:.3g}×"


def format_microseconds(value: float, _position: float = 0) -> str:
    for divisor, unit in ((1e6, "s"), (1e3, "ms")):
        if value >= divisor:
            return f"{value / divisor:g} {unit}"
    return f"{value:g} µs"


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


def choose_labels(connections: list[int], most: int) -> list[int]:
    """The counts to label on a logarithmic axis with room for `most` labels: the ends and powers of ten first."""
    ends = min(connections), max(connections)
    least = (math.log10(ends[1] / ends[0]) or 1.0) / most
    shown: list[int] = []
    for count in sorted(connections, key=lambda c: (c not in ends, math.log10(c) % 1 > 0, c)):
        if all(abs(math.log10(count / other)) > least for other in shown):
            shown.append(count)
    return shown


def set_connections_axis(axes: Axes, connections: list[int], most: int = 18) -> None:
    """Set a logarithmic axis with ticks at the measured counts, without labels that would touch."""
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    shown = choose_labels(connections, most)
    labels = [f"{count:,}" if count in shown else "" for count in connections]
    axes.set_xticks(connections, labels)
    axes.set_xlabel("connections (logarithmic)")


def set_logarithmic(axes: Axes, values: "pd.Series[float]") -> None:
    """Set a logarithmic y axis around the values, whose intervals may be far wider, with enough labels for any span."""
    if values.dropna().empty:
        return
    low, high = values.min() / 1.25, values.max() * 1.25
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    steps = (1, 2, 5) if high / low > 30 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    axes.yaxis.set_major_locator(LogLocator(subs=steps))
    axes.yaxis.set_minor_locator(NullLocator())


def start_at_zero(axes: Axes, values: "pd.Series[float]") -> None:
    """Set a y axis from 0 to above the values, whose intervals may be far wider."""
    axes.set_ylim(0, values.max() * 1.12 if values.max() > 0 else 1)


def say_nothing_drawn(axes: Axes, text: str = "no valid run") -> None:
    """Write a text in place of lines, and remove the scale, which would be meaningless."""
    axes.yaxis.set_major_locator(NullLocator())
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=GREY)


def spread(wanted: Floats, sizes: Floats, low: float, high: float) -> Floats:
    """Positions of labels closest to the wanted ones, which ascend, so that none overlap or leave low…high."""
    offsets = np.cumsum(sizes) - sizes / 2
    free = isotonic_regression(wanted - offsets).x
    return np.asarray(np.clip(free, low, max(low, high - sizes.sum())) + offsets)


class End(NamedTuple):
    """The right end of a line (y is NaN if there is no line), and its label."""

    x: float
    y: float
    label: str
    color: str
    marker: str


def label_ends(axes: Axes, ends: list[End]) -> None:
    """Write each line's label near its end, moved as far as needed. Call this last: scales and layout must be final."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    box = axes.get_window_extent()
    drawn = [axes.transData.transform((end.x, end.y))[1] for end in ends]
    # Rounded, because the layout's last digits differ between processes.
    heights = np.round(np.nan_to_num(np.array(drawn, float), nan=box.y0), 3)
    order = np.argsort(heights, kind="stable")
    line_height = 1.3 * SMALL * figure.dpi / 72
    sizes = np.array([line_height * (1 + ends[number].label.count("\n")) for number in order])
    for number, position in zip(order, spread(heights[order], sizes, box.y0, box.y1), strict=True):
        _label_end(axes, ends[number], (position - box.y0) / box.height)


def _label_end(axes: Axes, end: End, height: float) -> None:
    """Draw a thin line from the end, its marker and the label, at a height relative to the axes'."""
    if math.isfinite(end.y):
        axes.annotate(
            "",
            (end.x, end.y),
            xytext=(1.03, height),
            textcoords=axes.transAxes,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": end.color,
                "linestyle": (0, (1, 1.5)),  # a solid line would look like a part of the server's
                "linewidth": 0.8,
                "shrinkA": 0,
                "shrinkB": 3,
            },
        )
    axes.plot(
        1.04,
        height,
        transform=axes.transAxes,
        clip_on=False,
        color=end.color,
        marker=end.marker,
        markersize=4,
    )
    axes.annotate(
        end.label,
        (1.04, height),
        xycoords=axes.transAxes,
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        fontsize=SMALL,
    )


def draw_points(
    axes: Axes, cells: pd.DataFrame, column: str, color: str, marker: str, size: float
) -> None:
    """Draw each cell's value; hollow if the cell is invalid, disturbed or left connections unserved."""
    drawn = cells.dropna(subset=[column])
    hollow = (drawn["status"] != "ok") | (drawn["unserved_connections"].fillna(0) > 0)
    hollow |= drawn["flags"].str.contains("disturbed")
    for part, face in ((drawn[~hollow], color), (drawn[hollow], "white")):
        axes.scatter(
            part["connections"],
            part[column],
            s=size,
            marker=marker,
            facecolors=face,
            edgecolors=color,
            linewidths=0.8,
            alpha=0.85,
            zorder=3,
        )


def draw_interval(axes: Axes, summary: pd.DataFrame, column: str, color: str) -> None:
    """Draw the line of a server's summary, dotted if it left connections unserved, and the band of its intervals."""
    drawn = summary.dropna(subset=[column]).sort_values("connections")
    style = ":" if (drawn["unserved_connections"] > 0).any() else "-"
    axes.plot(
        drawn["connections"],
        drawn[column],
        color=color,
        linestyle=style,
        linewidth=1.6,
        zorder=2,
    )
    axes.fill_between(
        drawn["connections"].astype(float),
        drawn[f"{column}_low"].astype(float),
        drawn[f"{column}_high"].astype(float),
        color=color,
        alpha=0.13,
        linewidth=0,
        zorder=1,
    )


def draw_reference(axes: Axes, summary: pd.DataFrame) -> None:
    """Draw the throughput of the reference in the paired phases over the number of connections."""
    rates = tables.reference_rates(summary)
    if rates.empty:
        return
    axes.plot(
        rates.index,
        rates,
        color=REFERENCE_COLOR,
        linestyle=REFERENCE_DASHES,
        linewidth=1.1,
        zorder=1,
        label=REFERENCE,
    )


def reference_ends(axes: Axes) -> list[End]:
    """The end of the line that draw_reference() drew, if any, for label_ends()."""
    lines = [line for line in axes.get_lines() if line.get_label() == REFERENCE]
    ends = [np.asarray(line.get_xydata())[-1] for line in lines]
    return [End(x, y, REFERENCE, REFERENCE_COLOR, "") for x, y in ends]


def draw_limiters(axes: Axes, summary: pd.DataFrame, servers: list[str]) -> None:
    """Draw a row for each server from the top down: what limited it at each number of connections."""
    for row, server in enumerate(servers):
        its_points = summary[summary["server"] == server]
        invalid = invalid_points(its_points)["connections"]
        axes.scatter(
            invalid, [row] * len(invalid), marker="s", s=80, color="none", edgecolors="#999999"
        )
        for point in its_points[its_points["limiter"].notna()].itertuples():
            color, letter = LIMITERS[str(point.limiter)]
            axes.scatter(point.connections, row, marker="s", s=90, color=color)  # type: ignore[arg-type]
            axes.text(
                point.connections,  # type: ignore[arg-type]
                row,
                letter,
                ha="center",
                va="center_baseline",
                fontsize=7,
                color="white",
                fontweight="bold",
            )
    axes.set_yticks(range(len(servers)), servers)
    axes.set_ylim(len(servers) - 0.5, -0.5)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)


def invalid_points(summary: pd.DataFrame) -> pd.DataFrame:
    """The points that were measured or tried, but have no valid run."""
    tried = summary["repeats_invalid"] + summary["repeats_failed"]
    return summary[(summary["repeats_ok"] == 0) & (tried > 0)]


def limiter_legend(axes: Axes, summary: pd.DataFrame, above: bool = False) -> None:
    """Explain the colours of draw_limiters() that occur, to the right or, under a title, above."""
    present = [name for name in LIMITERS if (summary["limiter"] == name).any()]
    handles = [
        Line2D([], [], marker="s", markersize=8, linestyle="", color=LIMITERS[name][0])
        for name in present
    ]
    labels = [f"{LIMITERS[name][1]}  {name}" for name in present]
    if not invalid_points(summary).empty:
        handles.append(
            Line2D(
                [],
                [],
                marker="s",
                markersize=8,
                linestyle="",
                color="none",
                markeredgecolor="#999999",
            )
        )
        labels.append("    no valid run")
    if above:
        columns = 3
        legend = axes.legend(
            handles,
            labels,
            loc="lower left",
            bbox_to_anchor=(-0.03, 1),
            ncols=columns,
            borderaxespad=0.2,
            handletextpad=0.2,
            columnspacing=0.8,
        )
        # The legend is wider than the axes, but not wider than the axes with the names at their side.
        legend.set_in_layout(False)
        axes.set_title("Limited by", pad=4 + 14 * math.ceil(len(handles) / columns))
    else:
        axes.legend(handles, labels, loc="center left", bbox_to_anchor=(1.01, 0.5))


LIMITER_NOTES = {
    "server-bound": "server-bound: the server had no CPU time left; wrk may have had none either.",
    "client-bound": "client-bound: wrk had no CPU time left, the server had some.",
    "latency-bound": "latency-bound: neither was busy, each waited for the other's packets.",
    "shared-cpus": "shared-cpus: server and wrk took turns on the same CPUs.",
    "disturbed": "disturbed: something else on the machine used the CPUs.",
    "starving": "starving: connections never got a response; wrk's figures are those of the others.",
}


def limiter_notes(summary: pd.DataFrame) -> list[str]:
    """A line that explains each limiter that occurs."""
    return [note for name, note in LIMITER_NOTES.items() if (summary["limiter"] == name).any()]


def throughput_notes(summary: pd.DataFrame) -> list[str]:
    """A note on the line of draw_reference(), if there is one, and limiter_notes()."""
    drawn = summary[tables.REFERENCE_RATE].notna().any()
    note = (
        f"Dashed line: {REFERENCE} (servers/{REFERENCE}.c) in the paired phases of the same cells."
    )
    return [*([note] if drawn else []), *limiter_notes(summary)]


def interval_note(summary: pd.DataFrame) -> str:
    if summary["requests_per_second_low"].isna().all():
        return "One repeat: no intervals."
    return "Bands: 95 % intervals (Student's t)."


def saturation_note(summary: pd.DataFrame) -> str:
    """A warning for readers of latencies; empty if the client was never the limit."""
    bound = summary["limiter"] == "client-bound"
    if not bound.any():
        return ""
    return (
        f"At {bound.sum()} of {len(summary)} points wrk was the limit; "
        "its latencies there leave out the time that requests waited in wrk."
    )


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
