"""The charts of the report as Vega-Lite specifications, made with Altair; the page draws them."""

import math
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import altair as alt
import pandas as pd

from analysis import tables
from analysis.ranking import (
    DIRECTIONS,
    floor_percent,
    label_of,
    ratio_limits,
    rows_of,
    titles_of,
)
from analysis.summary import reference_rates
from drawing import palette
from drawing.system_calls import CALL_COLORS, OTHER_CALL_COLOR, calls_by_server
from sweep.cells import REFERENCE, base_of, is_control

# Set by the page: names of the servers that the reader has hidden.
HIDDEN = alt.param(name="hidden", value=[])
IS_SHOWN = "indexof(hidden, datum.server) < 0"
HEIGHT_PX = 340
FONT = "system-ui, DejaVu Sans, sans-serif"
ROW_PX = 30
RANKING_ROW_PX = 38  # has a second line
TILE_PX = 60
GREY = "#767676"


class Figure(NamedTuple):
    """A column of the tables, the axis' title, and the format of numbers."""

    column: str
    title: str
    number_format: str
    logarithmic: bool


FIGURES = {
    "throughput": Figure("requests_per_second", "requests per second", ",.0f", False),
    "latency": Figure("latency_p99_us", "99th percentile of latency, µs", ",.0f", True),
    "cpu": Figure("cpu_ratio", "CPU time per request / reference", ",.3f", True),
}

CEILING = "handler_ceiling_per_second"

# matplotlib's markers, as Vega's shapes and as characters.
SHAPES = {
    "o": ("circle", "●"),
    "s": ("square", "■"),
    "D": ("diamond", "◆"),
    "^": ("triangle-up", "▲"),
    "v": ("triangle-down", "▼"),
    "<": ("triangle-left", "◀"),
    ">": ("triangle-right", "▶"),
    "P": ("cross", "✚"),
    "X": ("M-1,-1L1,1M1,-1L-1,1", "✖"),
    "*": (
        "M0,-1L0.25,-0.3L1,-0.3L0.4,0.15L0.6,0.85L0,0.45L-0.6,0.85L-0.4,0.15L-1,-0.3L-0.25,-0.3Z",
        "★",
    ),
}
# Horizontal distance of the points of neighbouring servers, in decades.
APART_DECADES = 0.012

Spec = dict[str, Any]


def spec_of(chart: Any, height: int, description: str) -> Spec:
    """The specification of a chart of this height, in pixels, as wide as the page allows."""
    fit = alt.AutoSizeParams(type="fit-x", contains="padding")
    sized = chart.configure(
        font=FONT, axis=alt.AxisConfig(labelFontSize=12, titleFontSize=12, titleFontWeight="normal")
    )
    sized = sized.configure_legend(labelFontSize=12).configure_title(anchor="start", fontSize=14)
    sized = sized.properties(width="container", background="transparent", description=description)
    return dict(sized.properties(height=height, autosize=fit).to_dict())


def colors_of(servers: list[str]) -> alt.Color:
    colors = [palette.color_of(base_of(name)) for name in servers]
    return alt.Color("server:N", scale=alt.Scale(domain=servers, range=colors), legend=None)


def _shapes(servers: list[str]) -> alt.Shape:
    shapes = [SHAPES[palette.marker_of(base_of(name))][0] for name in servers]
    return alt.Shape("server:N", scale=alt.Scale(domain=servers, range=shapes), legend=None)


def _spread(table: pd.DataFrame, servers: list[str]) -> pd.DataFrame:
    """Add `x`: connections, moved sideways a little so that servers do not hide each other."""
    places = {name: number - (len(servers) - 1) / 2 for number, name in enumerate(servers)}
    aside = 10 ** (APART_DECADES * table["server"].map(places).astype(float))
    return table.assign(x=table["connections"] * aside)


def chart_of(table: pd.DataFrame) -> alt.Chart:
    """A chart of a table's rows; missing values become null."""
    plain = table.astype(object)
    rows = plain.where(plain.notna(), None).to_dict("records")
    return alt.Chart(alt.Data(values=rows))  # type: ignore[no-untyped-call]


def _connections(summary: pd.DataFrame) -> alt.X:
    counts = sorted(int(count) for count in summary["connections"].unique())
    axis = alt.Axis(values=counts, format=",d", labelOverlap="greedy", grid=False)
    # One count has no extent for a logarithmic axis to span.
    domain = [counts[0] / 1.25, counts[-1] * 1.25]
    return alt.X(
        "x:Q",
        title="connections (logarithmic)",
        axis=axis,
        scale=alt.Scale(type="log", domain=domain, nice=False),
    )


def _servers(servers: list[str]) -> alt.Y:
    return alt.Y("server:N", sort=servers, title=None, axis=alt.Axis(labelLimit=220))


def _is_over_connections(summary: pd.DataFrame) -> bool:
    """Whether there are several numbers of connections. If not, charts have a row a server, and values across."""
    return bool(summary["connections"].nunique() > 1)


def _place(
    layer: Any,
    summary: pd.DataFrame,
    values: Mapping[str, Any],
    start: str = "value",
    end: str = "",
) -> Any:
    """Place a layer's marks by a field (from one to another, if they are intervals), whose axis has these settings."""
    if _is_over_connections(summary):
        placed = layer.encode(x=_connections(summary), y=alt.Y(f"{start}:Q", **values))
        return placed.encode(y2=end) if end else placed
    servers = [str(name) for name in summary["server"].unique()]
    placed = layer.encode(x=alt.X(f"{start}:Q", **values), y=_servers(servers))
    return placed.encode(x2=end) if end else placed


def _height(summary: pd.DataFrame, height_px: int) -> int:
    return height_px if _is_over_connections(summary) else ROW_PX * summary["server"].nunique()


def _fault_of(row: Mapping[Hashable, Any]) -> str:
    """What is wrong with a cell, in words; empty if nothing is."""
    unserved = row.get("unserved_connections")
    if row["status"] != "ok":
        return str(row["status"])
    if unserved and unserved > 0:
        return f"{unserved:,.0f} connections unserved"
    return "disturbed" if "disturbed" in str(row["flags"]).split(";") else ""


def _value_scale(figure: Figure, values: "pd.Series[float]") -> alt.Scale:
    """A scale around the measured values; wider intervals of few repeats are cut off."""
    if values.dropna().empty:
        return alt.Scale(zero=True)
    if figure.logarithmic:
        return alt.Scale(type="log", domain=[values.min() / 1.2, values.max() * 1.2], nice=False)
    return alt.Scale(domain=[0, values.max() * 1.08], nice=False)


def _tooltip(figure: Figure) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("server:N"),
        alt.Tooltip("connections:Q", format=",d"),
        alt.Tooltip("value:Q", title=figure.title, format=figure.number_format),
    ]


def dots_of(
    marks: alt.Chart, servers: list[str], doubtful: str, size: int, *tips: alt.Tooltip
) -> Any:
    """A mark for each row, with its server's shape; hollow if it is doubtful."""
    hollow = alt.condition(doubtful, alt.value("transparent"), colors_of(servers))
    dots = marks.mark_point(size=size, opacity=1, strokeWidth=2)
    return dots.encode(shape=_shapes(servers), fill=hollow, tooltip=[*tips])


def _single_runs(figure: Figure, cells: pd.DataFrame, servers: list[str]) -> Any:
    runs = cells.dropna(subset=[figure.column])
    states = [_fault_of(row) or "ok" for row in runs.to_dict("records")]
    runs = runs.assign(
        value=runs[figure.column], doubtful=[it != "ok" for it in states], state=states
    )
    columns = ["x", "server", "connections", "repeat", "value", "doubtful", "state"]
    hollow = alt.condition("datum.doubtful", alt.value("transparent"), colors_of(servers))
    marks = chart_of(_spread(runs, servers)[columns]).transform_filter(IS_SHOWN)
    return marks.mark_point(size=16, strokeWidth=1, opacity=0.55).encode(
        fill=hollow,
        tooltip=[*_tooltip(figure), alt.Tooltip("repeat:Q"), alt.Tooltip("state:N")],
    )


def _means(figure: Figure, summary: pd.DataFrame, servers: list[str]) -> list[Any]:
    """Intervals, lines and points of the summary."""
    points = summary.dropna(subset=[figure.column])
    points = points.assign(
        value=points[figure.column],
        low=points[f"{figure.column}_low"],
        high=points[f"{figure.column}_high"],
        disturbed=points["disturbed_share"] == 1,
    )
    columns = ["x", "server", "connections", "value", "low", "high", "limiter", "disturbed"]
    marks = chart_of(_spread(points, servers)[[*columns, "unserved_connections"]])
    marks = marks.transform_filter(IS_SHOWN)
    intervals = marks.transform_filter("isValid(datum.low)").mark_rule(
        strokeWidth=5, opacity=0.3, clip=True
    )
    doubtful = "datum.unserved_connections > 0 || datum.disturbed"
    number_format = figure.number_format
    dots = dots_of(
        marks,
        servers,
        doubtful,
        70,
        *_tooltip(figure),
        alt.Tooltip("low:Q", title="95 % interval from", format=number_format),
        alt.Tooltip("high:Q", title="to", format=number_format),
        alt.Tooltip("limiter:N", title="limited by"),
        alt.Tooltip("disturbed:N", title="disturbed in all runs"),
        alt.Tooltip("unserved_connections:Q", title="unserved connections", format=",d"),
    )
    lines = [marks.mark_line(strokeWidth=1.5)] if _is_over_connections(summary) else []
    return [intervals, *lines, dots]


def over_connections(name: str, cells: pd.DataFrame, summary: pd.DataFrame) -> Spec:
    """One figure of all servers over the number of connections: single runs, means, intervals, the reference."""
    figure = FIGURES[name]
    servers = [str(server) for server in summary["server"].unique()]
    values = pd.concat([summary[figure.column], cells[figure.column]])
    if name == "throughput":
        values = pd.concat([values, reference_rates(summary), cells[CEILING]])
    scale = _value_scale(figure, values)
    axis = alt.Axis(format="~s" if name == "throughput" else ",~r", tickCount=8)
    title = f"{figure.title} (logarithmic)" if figure.logarithmic else figure.title
    across = {"title": title, "scale": scale, "axis": axis}
    color = colors_of(servers)
    intervals, *means = _means(figure, summary, servers)
    runs = _single_runs(figure, cells, servers)
    layers = [_place(intervals, summary, across, "low", "high").encode(color=color)]
    layers += [_place(layer, summary, across).encode(color=color) for layer in (runs, *means)]
    if name == "throughput" and reference_rates(summary).any():
        layers.insert(0, _reference(summary, across))
    if name == "throughput" and cells[CEILING].any():
        layers.append(_ceilings(cells, servers, summary, across).encode(color=color))
    chart = alt.layer(*layers).add_params(HIDDEN)
    described = f"{figure.title} of each server"
    if _is_over_connections(summary):
        described += " over the number of connections"
    height = _height(summary, HEIGHT_PX)
    return spec_of(chart, height, f"{described}. The tables below have the same figures.")


def _ceilings(
    cells: pd.DataFrame, servers: list[str], summary: pd.DataFrame, values: Mapping[str, Any]
) -> Any:
    """A stroke at the requests per second that the handlers' waits allow each server."""
    its = cells.groupby(["server", "connections"], sort=False)[CEILING].max().dropna()
    table = its.reset_index(name="value").assign(limit="ceiling: threads that serve / wait")
    marks = chart_of(_spread(table, servers)).transform_filter(IS_SHOWN)
    angle = 0 if _is_over_connections(summary) else 90
    strokes = marks.mark_point(shape="stroke", size=220, strokeWidth=2, angle=angle, opacity=1)
    tooltip = [*_tooltip(FIGURES["throughput"]), alt.Tooltip("limit:N", title="stroke")]
    return _place(strokes, summary, values).encode(tooltip=tooltip)


def _reference(summary: pd.DataFrame, values: Mapping[str, Any]) -> Any:
    rates = reference_rates(summary).rename_axis("x").reset_index(name="value")
    rates.insert(1, "connections", rates["x"])
    marks = chart_of(rates.assign(label=REFERENCE))
    tooltip = [
        alt.Tooltip("label:N", title="line"),
        alt.Tooltip("connections:Q", format=",d"),
        alt.Tooltip("value:Q", title="requests per second", format=",.0f"),
    ]
    if not _is_over_connections(summary):
        rule = marks.mark_rule(strokeDash=[6, 4], color=GREY)
        return rule.encode(x=alt.X("value:Q", **values), tooltip=tooltip)
    points = alt.OverlayMarkDef(shape="stroke", color=GREY)
    line = marks.mark_line(strokeDash=[6, 4], color=GREY, point=points)
    return _place(line, summary, values).encode(tooltip=tooltip)


def limiters(summary: pd.DataFrame) -> Spec:
    """What limited each point: a letter on a coloured tile."""
    servers = [str(server) for server in summary["server"].unique()]
    tiles_of = {name: its[:2] for name, its in palette.LIMITERS.items()}
    tiles_of["no valid run"] = ("#dddddd", "–")
    points = summary.fillna({"limiter": "no valid run"})
    points["letter"] = points["limiter"].map(lambda name: tiles_of[name][1])
    names, colors = list(tiles_of), [color for color, _ in tiles_of.values()]
    marks = chart_of(points[["server", "connections", "limiter", "letter"]])
    axis = alt.Axis(labelAngle=0, format=",d", orient="bottom", titleAnchor="start")
    x = alt.X("connections:O", title="connections", axis=axis)
    if not _is_over_connections(summary):  # a tile as wide as the page would be none
        x = x.scale(rangeMax=TILE_PX)
    base = marks.transform_filter(IS_SHOWN).encode(x=x, y=_servers(servers))
    tiles = base.mark_rect(stroke="white", strokeWidth=2).encode(
        color=alt.Color("limiter:N", scale=alt.Scale(domain=names, range=colors), legend=None),
        tooltip=["server:N", "connections:O", alt.Tooltip("limiter:N", title="limited by")],
    )
    letters = base.mark_text(color="black", fontWeight="bold", fontSize=12).encode(text="letter:N")
    description = "What limited the throughput of each server at each number of connections."
    chart = alt.layer(tiles, letters, view=alt.ViewConfig(stroke=None)).add_params(HIDDEN)
    return spec_of(chart, (ROW_PX - 6) * len(servers), description)


def fairness(summary: pd.DataFrame) -> Spec:
    """Jain's index over the bytes that each connection received; hollow where connections were left unserved."""
    servers = [str(server) for server in summary["server"].unique()]
    points = _spread(summary.dropna(subset=["fairness_jain"]), servers)
    columns = ["x", "server", "connections", "fairness_jain", "unserved_connections"]
    marks = chart_of(points[columns]).transform_filter(IS_SHOWN)
    dots = dots_of(
        marks,
        servers,
        "datum.unserved_connections > 0",
        60,
        alt.Tooltip("server:N"),
        alt.Tooltip("connections:Q", format=",d"),
        alt.Tooltip("fairness_jain:Q", title="Jain's index, least", format=".4f"),
        alt.Tooltip("unserved_connections:Q", title="unserved connections, most", format=",d"),
    )
    values = {
        "title": "Jain's index (1: all connections alike)",
        "scale": alt.Scale(domain=[0, 1.04], nice=False),
    }
    lines = [marks.mark_line(strokeWidth=1.5)] if _is_over_connections(summary) else []
    color = colors_of(servers)
    layers = [
        _place(layer, summary, values, "fairness_jain").encode(color=color)
        for layer in (*lines, dots)
    ]
    description = "Fairness over connections of each server, by number of connections."
    return spec_of(alt.layer(*layers).add_params(HIDDEN), _height(summary, 240), description)


def ranking(verdicts: pd.DataFrame, summary: pd.DataFrame, metric: str) -> Spec:
    """Ratios to one server with intervals, on a band that shows the noise floor, as in plots/ranking.png."""
    its = verdicts[verdicts["metric"] == metric]
    anchor, rows_by_server = rows_of(summary, its)
    servers = list(rows_by_server)
    table = pd.DataFrame(
        {
            "server": name,
            "label": f"{label_of(name, summary)}\n({row.remark})".removesuffix("\n()"),
            "letters": row.letters,
            "control": is_control(name),
            **row._asdict(),
        }
        for name, row in rows_by_server.items()
    )
    floor = 1 + floor_percent(its) / 100
    domain = list(ratio_limits(list(rows_by_server.values()), floor))
    scale = alt.Scale(type="log", domain=domain, nice=False)
    axis = alt.Axis(format=".2~f", tickCount=6, labelOverlap="greedy", titleAnchor="end")

    def across(field: str) -> alt.X:
        title = f"ratio to {anchor} ({DIRECTIONS[metric]})"
        return alt.X(f"{field}:Q", title=title, scale=scale, axis=axis)

    # The remark has its own line.
    label = alt.Axis(labelLimit=260, labelExpr="split(datum.label, '\\n')")
    y = alt.Y("label:N", sort=list(table["label"]), title=None, axis=label)
    color = colors_of(servers)
    rows = chart_of(table)
    tooltip = [
        alt.Tooltip("label:N", title="server"),
        alt.Tooltip("ratio:Q", title=f"ratio to {anchor}", format=".3f"),
        alt.Tooltip("low:Q", title="95 % interval from", format=".3f"),
        alt.Tooltip("high:Q", title="to", format=".3f"),
        alt.Tooltip("letters:N", title="letters (shared: no significant difference)"),
    ]
    one = chart_of(pd.DataFrame({"one": [1]})).mark_rule(color=GREY).encode(x=across("one"))
    intervals = rows.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=3, clip=True)
    dots = dots_of(rows, servers, "datum.control", 90, *tooltip)
    layers: list[Any] = [
        one,
        intervals.encode(x=across("low"), x2="high:Q", y=y, color=color),
        dots.encode(x=across("ratio"), y=y, color=color),
        rows.mark_text(align="left", dy=-10, dx=7, fontSize=12).encode(
            x=across("ratio"), y=y, text="letters:N"
        ),
    ]
    if math.isfinite(floor):
        band = chart_of(pd.DataFrame({"low": [1 / floor], "high": [floor]}))
        band = band.mark_rect(color=GREY, opacity=0.25, clip=True)
        layers.insert(0, band.encode(x=across("low"), x2="high:Q"))
    title = titles_of(its)[metric]
    description = f"{title} of each server as ratio to {anchor}, with 95 % intervals."
    chart = alt.layer(*layers).properties(title=title)
    return spec_of(chart, RANKING_ROW_PX * len(table), description)


def system_calls(syscalls: pd.DataFrame) -> Spec:
    """System calls per request, stacked by call."""
    counted = syscalls[syscalls["status"] == "ok"]
    servers = list(dict.fromkeys(counted["server"]))
    calls = calls_by_server(counted)
    names = [str(name) for name in calls.columns]
    colors = [CALL_COLORS.get(name, OTHER_CALL_COLOR) for name in names]
    table = calls.reset_index().melt("server", var_name="call", value_name="per_request")
    table["rank"] = table["call"].map(names.index)
    scale = alt.Scale(domain=names, range=colors)
    legend = alt.Legend(orient="top", title=None, columns=2, symbolType="square")
    bars = chart_of(table).transform_filter(IS_SHOWN).mark_bar()
    chart = bars.add_params(HIDDEN).encode(
        x=alt.X("per_request:Q", title="system calls per request", stack="zero"),
        y=_servers(servers),
        color=alt.Color("call:N", sort=names, scale=scale, legend=legend),
        order=alt.Order("rank:Q"),
        tooltip=[
            "server:N",
            "call:N",
            alt.Tooltip("per_request:Q", title="per request", format=".3f"),
        ],
    )
    description = "System calls per request of each server, stacked by call."
    return spec_of(chart, ROW_PX * len(servers), description)


def of_workload(
    cells: pd.DataFrame, summary: pd.DataFrame, verdicts: pd.DataFrame
) -> dict[str, Spec]:
    """Name → specification of a workload's charts; those with nothing to show are left out."""
    compared, its_cells = tables.without_control(summary), tables.without_control(cells)
    charts: dict[str, Spec] = {}
    for metric in verdicts["metric"].unique():
        charts[f"ranking_{metric}"] = ranking(verdicts, summary, metric)
    if compared["requests_per_second"].notna().any():
        for name in [name for name in FIGURES if compared[FIGURES[name].column].notna().any()]:
            charts[name] = over_connections(name, its_cells, compared)
        charts["limiters"] = limiters(compared)
    if compared["fairness_jain"].notna().any():
        charts["fairness"] = fairness(compared)
    return charts


def of_calls(syscalls: pd.DataFrame) -> dict[str, Spec]:
    """The chart of system calls, if any were counted."""
    is_counted = (syscalls["status"] == "ok") & (syscalls["kind"] == "system_call")
    return {"syscalls": system_calls(syscalls)} if is_counted.any() else {}
