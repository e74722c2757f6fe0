"""How the plots look: one place for colours, axes, intervals, and for what a hollow point means."""

import math
import zlib

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

# Paul Tol's "bright" and "dark" qualitative schemes (SRON/EPS/TN/09-002): told apart by colour-blind readers.
COLORS = {
    "server": "#777777",
    "server_thread": "#aa3377",
    "server_select": "#ccbb44",
    "server_poll": "#ee8866",
    "server_epoll": "#4477aa",
    "server_epoll_multitask": "#66ccee",
    "server_uring": "#117733",
    "server_uring_multitask": "#44bb99",
    "server_thread_50": "#882255",
    "server_uring_naive": "#332288",
    "nginx": "#661100",
    "h2o": "#888888",
    "lighttpd": "#cc99bb",
}
OTHER_COLORS = ["#999933", "#cc6677", "#000000"]
MARKERS = "osD^vP*X<>"
DPI = 150
CEILING_COLOR = "#555555"
CEILING_DASHES = (0, (4, 2))
CEILING_LABEL = "wrk's ceiling"
# What limits a point: its colour, and a letter for those who do not see it.
LIMITERS = {
    "server-bound": ("#228833", "S"),
    "client-bound": ("#ddaa33", "C"),
    "latency-bound": ("#77aadd", "L"),
    "shared-cpus": ("#aa4499", "="),
    "disturbed": ("#999999", "?"),
    "starving": ("#bb5566", "!"),
}


def color_of(server: str) -> str:
    """A server's colour, the same in all plots; of a server that is not ours it follows from its name."""
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


def format_microseconds(value: float, _position: float = 0) -> str:
    for divisor, unit in ((1e6, "s"), (1e3, "ms")):
        if value >= divisor:
            return f"{value / divisor:g} {unit}"
    return f"{value:g} µs"


def new_canvas(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def style_axes(axes: Axes) -> None:
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = new_canvas(width, height)
    axes = figure.add_subplot()
    style_axes(axes)
    return figure, axes


def new_figure_with_strip(width: float, height: float, rows: int) -> tuple[Figure, Axes, Axes]:
    """A figure whose plot has, below and over the same connections, a strip with so many rows."""
    figure = new_canvas(width, height)
    strip_inches = 0.25 * rows + 0.05
    axes, strip = figure.subplots(
        2, sharex=True, height_ratios=[height - strip_inches - 1.5, strip_inches]
    )
    style_axes(axes)
    style_axes(strip)
    return figure, axes, strip


def set_connections_axis(axes: Axes, connections: list[int]) -> None:
    """A logarithmic axis whose ticks are the measured counts; labels that would touch are left out."""
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    span = math.log10(max(connections) / min(connections)) or 1.0
    shown: list[int] = []
    for count in sorted(connections):
        if not shown or math.log10(count / shown[-1]) > span / 18:
            shown.append(count)
    axes.set_xticks(shown, [f"{count:,}" for count in shown])
    axes.set_xlabel("connections (logarithmic)")


def set_logarithmic(axes: Axes, values: "pd.Series[float]") -> None:
    """A logarithmic y axis around the values, whose intervals may be far wider, with labels enough for any span."""
    if values.dropna().empty:
        return
    low, high = values.min() / 1.25, values.max() * 1.25
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    steps = (1, 2, 5) if high / low > 30 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    axes.yaxis.set_major_locator(LogLocator(subs=steps))
    axes.yaxis.set_minor_locator(NullLocator())


def start_at_zero(axes: Axes, values: "pd.Series[float]") -> None:
    """A y axis from 0 to above the values, whose intervals may be far wider."""
    if values.max() > 0:
        axes.set_ylim(0, values.max() * 1.12)


def draw_points(
    axes: Axes, cells: pd.DataFrame, column: str, scale: float, color: str, marker: str, size: float
) -> None:
    """Each cell's own value; hollow if invalid, disturbed, or if it left connections unserved (M31)."""
    drawn = cells.dropna(subset=[column])
    hollow = (drawn["status"] != "ok") | (drawn["unserved_connections"].fillna(0) > 0)
    hollow |= drawn["flags"].str.contains("disturbed")
    for part, face in ((drawn[~hollow], color), (drawn[hollow], "white")):
        axes.scatter(
            part["connections"],
            part[column] * scale,
            s=size,
            marker=marker,
            facecolors=face,
            edgecolors=color,
            linewidths=0.8,
            alpha=0.85,
            zorder=3,
        )


def draw_interval(axes: Axes, summary: pd.DataFrame, column: str, scale: float, color: str) -> None:
    """The line of a server's summary, dotted if it left connections unserved, and the band of its intervals."""
    drawn = summary.dropna(subset=[column]).sort_values("connections")
    style = ":" if (drawn["unserved_connections"] > 0).any() else "-"
    axes.plot(
        drawn["connections"],
        drawn[column] * scale,
        color=color,
        linestyle=style,
        linewidth=1.6,
        zorder=2,
    )
    axes.fill_between(
        drawn["connections"].astype(float),
        (drawn[f"{column}_low"] * scale).astype(float),
        (drawn[f"{column}_high"] * scale).astype(float),
        color=color,
        alpha=0.13,
        linewidth=0,
        zorder=1,
    )


def draw_ceiling(axes: Axes, summary: pd.DataFrame) -> None:
    """What wrk itself can reach, over the number of connections."""
    column = "ceiling_requests_per_second"
    ceiling = summary.dropna(subset=[column]).drop_duplicates("connections")
    ceiling = ceiling.sort_values("connections")
    if ceiling.empty:
        return
    axes.plot(
        ceiling["connections"],
        ceiling[column],
        color=CEILING_COLOR,
        linestyle=CEILING_DASHES,
        linewidth=1.1,
        zorder=1,
        label=CEILING_LABEL,
    )


def draw_limiters(axes: Axes, summary: pd.DataFrame, servers: list[str]) -> None:
    """A row for each server, from the top down: what limited it at each number of connections."""
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
    axes.set_yticks(range(len(servers)), servers, fontsize=8)
    axes.set_ylim(len(servers) - 0.5, -0.5)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)


def invalid_points(summary: pd.DataFrame) -> pd.DataFrame:
    """Those that were measured, but without a valid run."""
    return summary[(summary["repeats_ok"] == 0) & (summary["repeats_invalid"] > 0)]


def limiter_legend(axes: Axes, summary: pd.DataFrame) -> None:
    """Beside draw_limiters: what its colours mean, those that occur."""
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
    axes.legend(
        handles, labels, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8
    )


LIMITER_NOTES = {
    "client-bound": "client-bound: wrk had no CPU left, or was within 10 % of its ceiling; the server was not busy.",
    "latency-bound": "latency-bound: neither was busy, both waited for the other's packets.",
    "shared-cpus": "shared-cpus: server and wrk took turns on the same CPUs.",
    "disturbed": "disturbed: something else on the machine had the CPUs.",
    "starving": "starving: connections never got a response, wrk's figures are those of the others.",
}


def limiter_notes(summary: pd.DataFrame) -> list[str]:
    """A line for each limiter that occurs and does not speak for itself."""
    return [note for name, note in LIMITER_NOTES.items() if (summary["limiter"] == name).any()]


def interval_note(summary: pd.DataFrame) -> str:
    if summary["requests_per_second_low"].isna().all():
        return "One repeat: no intervals."
    return "Bands: 95 % intervals (Student's t)."


def saturation_note(summary: pd.DataFrame) -> str:
    """What a reader of latencies must know; empty if the client was never the limit."""
    bound = summary["limiter"] == "client-bound"
    if not bound.any():
        return ""
    return (
        f"At {bound.sum()} of {len(summary)} points wrk was the limit: "
        "there its latencies leave out the time that requests waited in wrk."
    )


def add_notes(figure: Figure, notes: list[str]) -> None:
    text = "\n".join(note for note in notes if note)
    figure.supxlabel(text, x=0.01, ha="left", fontsize=8, color="#444444")


def save(figure: Figure, path: str) -> None:
    """PNG with the same bytes for the same data: no date and no version in it."""
    figure.savefig(path, metadata={"Software": None})
