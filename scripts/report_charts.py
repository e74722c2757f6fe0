"""The charts of the report, as Vega-Lite specifications made with Altair; the page draws them."""

import math
from collections.abc import Hashable, Mapping
from typing import Any

import altair as alt
import pandas as pd
import plot_ranking
import plot_style
import plot_syscalls
from cells import base_of, is_control
from comparisons import COST, THROUGHPUT

# Set by the page: names of the servers that the reader has hidden.
HIDDEN = alt.param(name="hidden", value=[])
IS_SHOWN = "indexof(hidden, datum.server) < 0"
HEIGHT_PX = 340
FONT = "system-ui, DejaVu Sans, sans-serif"
ROW_PX = 30
GREY = "#767676"
# [column, factor, title of the axis, format of the numbers, logarithmic]
FIGURES: dict[str, tuple[str, float, str, str, bool]] = {
    "throughput": ("requests_per_second", 1, "requests per second", ",.0f", False),
    "latency": ("latency_p99_us", 1, "99th percentile of latency, µs (logarithmic)", ",.0f", True),
    "cpu": (
        "server_cpu_ns_per_request",
        1e-3,
        "CPU time per request, µs (logarithmic)",
        ",.2f",
        True,
    ),
}

Spec = dict[str, Any]


def _spec(chart: Any, description: str) -> Spec:
    """Of a chart as wide as the page allows."""
    fit = alt.AutoSizeParams(type="fit-x", contains="padding")
    sized = chart.configure(
        font=FONT, axis=alt.AxisConfig(labelFontSize=12, titleFontSize=12, titleFontWeight="normal")
    )
    sized = sized.configure_legend(labelFontSize=12).configure_title(anchor="start", fontSize=14)
    sized = sized.properties(width="container", background="transparent", description=description)
    return dict(sized.properties(autosize=fit).to_dict())


def _colors(servers: list[str]) -> alt.Color:
    colors = [plot_style.color_of(base_of(name)) for name in servers]
    return alt.Color("server:N", scale=alt.Scale(domain=servers, range=colors), legend=None)


def _chart(table: pd.DataFrame) -> alt.Chart:
    """Of a table's rows: what is missing is null."""
    plain = table.astype(object)
    rows = plain.where(plain.notna(), None).to_dict("records")
    return alt.Chart(alt.Data(values=rows))  # type: ignore[no-untyped-call]


def _connections(summary: pd.DataFrame) -> alt.X:
    counts = sorted(int(count) for count in summary["connections"].unique())
    axis = alt.Axis(values=counts, format=",d", labelOverlap="greedy", grid=False)
    # One count has no extent for a logarithmic axis to span.
    domain = [counts[0] / 1.25, counts[-1] * 1.25]
    return alt.X(
        "connections:Q",
        title="connections (logarithmic)",
        axis=axis,
        scale=alt.Scale(type="log", domain=domain, nice=False),
    )


def _state_of(row: Mapping[Hashable, Any]) -> str:
    """What became of a cell or point, in words."""
    unserved = row.get("unserved_connections")
    if row["status"] != "ok":
        return str(row["status"])
    if unserved and unserved > 0:
        return f"{unserved:,.0f} connections unserved"
    return "disturbed" if "disturbed" in str(row["flags"]).split(";") else "ok"


def over_connections(name: str, cells: pd.DataFrame, summary: pd.DataFrame) -> Spec:
    """One figure of all servers over the number of connections: single runs, means, intervals, wrk's ceiling."""
    column, factor, title, number_format, logarithmic = FIGURES[name]
    servers = [str(server) for server in summary["server"].unique()]
    points = summary.dropna(subset=[column])
    points = points.assign(
        value=points[column] * factor,
        low=points[f"{column}_low"] * factor,
        high=points[f"{column}_high"] * factor,
    )
    runs = cells.dropna(subset=[column])
    runs = runs.assign(
        value=runs[column] * factor,
        state=[_state_of(row) for row in runs.to_dict("records")],
    )
    values = pd.concat([points["value"], runs["value"]])
    scale = alt.Scale(zero=True)
    if logarithmic and not values.empty:
        # Intervals of few repeats are far wider than what was measured.
        scale = alt.Scale(type="log", domain=[values.min() / 1.2, values.max() * 1.2], nice=False)
    elif not values.empty:
        top = pd.concat([values, summary["ceiling_requests_per_second"]]).max()
        scale = alt.Scale(domain=[0, top * 1.08], nice=False)
    y = alt.Y(
        "value:Q",
        title=title,
        scale=scale,
        axis=alt.Axis(format="~s" if name == "throughput" else ",~r", tickCount=8),
    )
    x, color = _connections(summary), _colors(servers)
    shown = [
        "machine",
        "server",
        "connections",
        "value",
        "low",
        "high",
        "limiter",
        "unserved_connections",
    ]
    tooltip = [
        alt.Tooltip("server:N"),
        alt.Tooltip("connections:Q", format=",d"),
        alt.Tooltip("value:Q", title=title.split(" (")[0], format=number_format),
    ]
    means = _chart(points[shown]).transform_filter(IS_SHOWN)
    its_tooltip = [
        *tooltip,
        alt.Tooltip("low:Q", title="95 % interval from", format=number_format),
        alt.Tooltip("high:Q", title="to", format=number_format),
        alt.Tooltip("limiter:N", title="limited by"),
        alt.Tooltip("unserved_connections:Q", title="unserved connections", format=",d"),
    ]
    lines = means.mark_line(strokeWidth=2).encode(x=x, y=y, color=color)
    bands = means.transform_filter("isValid(datum.low)").mark_rule(
        strokeWidth=5, opacity=0.3, clip=True
    )
    dots = means.mark_point(size=60, opacity=1, strokeWidth=2).encode(
        x=x,
        y=y,
        color=color,
        fill=alt.condition("datum.unserved_connections > 0", alt.value("transparent"), color),
        tooltip=its_tooltip,
    )
    single = _chart(runs[["server", "connections", "repeat", "value", "state"]])
    raw = (
        single.transform_filter(IS_SHOWN)
        .mark_point(size=18, strokeWidth=1, opacity=0.65)
        .encode(
            x=x,
            y=y,
            color=color,
            fill=alt.condition("datum.state == 'ok'", color, alt.value("transparent")),
            tooltip=[*tooltip, alt.Tooltip("repeat:Q"), alt.Tooltip("state:N")],
        )
    )
    layers = [
        bands.encode(x=x, y=alt.Y("low:Q", scale=scale, title=title), y2="high:Q", color=color),
        lines,
        raw,
        dots,
    ]
    if name == "throughput":
        layers.insert(0, _ceiling(summary, x, scale, title))
    chart = alt.layer(*layers).add_params(HIDDEN).properties(height=HEIGHT_PX)
    return _spec(
        chart,
        f"{title} of each server over the number of connections; the same figures are in the tables below.",
    )


def _ceiling(summary: pd.DataFrame, x: alt.X, scale: alt.Scale, title: str) -> Any:
    column = "ceiling_requests_per_second"
    ceiling = summary.dropna(subset=[column]).drop_duplicates("connections")
    ceiling = ceiling.assign(value=ceiling[column], label=plot_style.CEILING_LABEL)
    return (
        _chart(ceiling[["connections", "value", "label"]])
        .mark_line(
            strokeDash=[6, 4], color=GREY, point=alt.OverlayMarkDef(shape="stroke", color=GREY)
        )
        .encode(
            x=x,
            y=alt.Y("value:Q", scale=scale, title=title),
            tooltip=[
                alt.Tooltip("label:N", title="line"),
                alt.Tooltip("connections:Q", format=",d"),
                alt.Tooltip("value:Q", title="requests per second", format=",.0f"),
            ],
        )
    )


def limiters(summary: pd.DataFrame) -> Spec:
    """What limited each point: a letter on a colour."""
    servers = [str(server) for server in summary["server"].unique()]
    points = summary.assign(
        limiter=summary["limiter"].where(summary["limiter"].notna(), "no valid run")
    )
    points = points.assign(
        letter=points["limiter"].map(lambda name: plot_style.LIMITERS.get(name, ("", "–"))[1])
    )
    names = [*plot_style.LIMITERS, "no valid run"]
    colors = [color for color, _ in plot_style.LIMITERS.values()] + ["#dddddd"]
    base = (
        _chart(points[["server", "connections", "limiter", "letter"]])
        .transform_filter(IS_SHOWN)
        .encode(
            x=alt.X(
                "connections:O",
                title="connections",
                axis=alt.Axis(labelAngle=0, format=",d", orient="bottom"),
            ),
            y=alt.Y("server:N", sort=servers, title=None, axis=alt.Axis(labelLimit=220)),
        )
    )
    tiles = base.mark_rect(stroke="white", strokeWidth=2).encode(
        color=alt.Color("limiter:N", scale=alt.Scale(domain=names, range=colors), legend=None),
        tooltip=[
            "server:N",
            alt.Tooltip("connections:O"),
            alt.Tooltip("limiter:N", title="limited by"),
        ],
    )
    letters = base.mark_text(color="black", fontWeight="bold", fontSize=12).encode(text="letter:N")
    chart = (
        alt.layer(tiles, letters).add_params(HIDDEN).properties(height=(ROW_PX - 6) * len(servers))
    )
    return _spec(chart, "What limited the throughput of each server at each number of connections.")


def fairness(cells: pd.DataFrame, summary: pd.DataFrame) -> Spec:
    """Jain's index over the bytes that each connection got, and what was left unserved."""
    servers = [str(server) for server in summary["server"].unique()]
    points = summary.dropna(subset=["fairness_jain"])
    columns = ["server", "connections", "fairness_jain", "unserved_connections"]
    x, color = _connections(summary), _colors(servers)
    base = _chart(points[columns]).transform_filter(IS_SHOWN)
    y = alt.Y(
        "fairness_jain:Q",
        title="Jain's index (1: all alike)",
        scale=alt.Scale(domain=[0, 1.04], nice=False),
    )
    lines = base.mark_line(strokeWidth=2).encode(x=x, y=y, color=color)
    dots = base.mark_point(size=50, opacity=1, strokeWidth=2).encode(
        x=x,
        y=y,
        color=color,
        fill=alt.condition("datum.unserved_connections > 0", alt.value("transparent"), color),
        tooltip=[
            alt.Tooltip("server:N"),
            alt.Tooltip("connections:Q", format=",d"),
            alt.Tooltip(
                "fairness_jain:Q", title="Jain's index, least of the repeats", format=".4f"
            ),
            alt.Tooltip("unserved_connections:Q", title="unserved connections, most", format=",d"),
        ],
    )
    chart = alt.layer(lines, dots).add_params(HIDDEN).properties(height=240)
    return _spec(chart, "Fairness over connections of each server, over the number of connections.")


def _ranking_table(
    servers: list[str], reference: str, summary: pd.DataFrame, verdicts: pd.DataFrame
) -> pd.DataFrame:
    """A row a server, of one metric's verdicts: as in plots/ranking.png."""
    measured = set(summary.dropna(subset=[COST])["server"])
    letters = plot_ranking.letters_of([name for name in servers if not is_control(name)], verdicts)
    rows = []
    for server in servers:
        known = server in measured
        row = plot_ranking.row_of(server, reference, verdicts) if known else plot_ranking.NOTHING
        label = plot_ranking.label_of(server, measured)
        its = {"server": server, "label": label, "letters": letters.get(server, "")}
        rows.append({**its, "control": is_control(server), **row._asdict()})
    return pd.DataFrame(rows)


def _ratio_domain(table: pd.DataFrame) -> list[float]:
    """Around 1 and all ratios; intervals far wider run out of it."""
    ratios = [1.0, *table["ratio"].dropna()]
    ends = [1.0, *table[["ratio", "low", "high"]].stack()]
    reach = max(max(ratios) / min(ratios), 1.5)
    return [max(min(ends), min(ratios) / reach) / 1.05, min(max(ends), max(ratios) * reach) * 1.05]


def ranking(verdicts: pd.DataFrame, summary: pd.DataFrame, metric: str) -> Spec:
    """Ratios to one server with intervals, on the noise floor's band."""
    names = [str(name) for name in summary["server"].unique()]
    reference = plot_ranking.reference_of(names, summary)
    servers = plot_ranking.ordered(names, summary)
    its = verdicts[verdicts["metric"] == metric]
    table = _ranking_table(servers, reference, summary, its)
    scale = alt.Scale(type="log", domain=_ratio_domain(table), nice=False)
    axis = alt.Axis(format=".2~f", tickCount=6, labelOverlap="greedy", titleAnchor="end")

    def across(field: str) -> alt.X:
        title = f"ratio to {reference} ({plot_ranking.DIRECTIONS[metric]})"
        return alt.X(f"{field}:Q", title=title, scale=scale, axis=axis)

    y = alt.Y("label:N", sort=list(table["label"]), title=None, axis=alt.Axis(labelLimit=260))
    color = _colors(servers)
    rows = _chart(table)
    tooltip = [
        alt.Tooltip("label:N", title="server"),
        alt.Tooltip("ratio:Q", title=f"ratio to {reference}", format=".3f"),
        alt.Tooltip("low:Q", title="95 % interval from", format=".3f"),
        alt.Tooltip("high:Q", title="to", format=".3f"),
        alt.Tooltip("letters:N", title="shared letters: not told apart"),
        alt.Tooltip("remark:N"),
    ]
    one = _chart(pd.DataFrame({"one": [1]})).mark_rule(color=GREY).encode(x=across("one"))
    intervals = rows.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=3, clip=True)
    hollow = alt.condition("datum.control", alt.value("transparent"), color)
    dots = rows.mark_point(size=90, opacity=1, strokeWidth=2)
    layers: list[Any] = [
        one,
        intervals.encode(x=across("low"), x2="high:Q", y=y, color=color),
        dots.encode(x=across("ratio"), y=y, color=color, fill=hollow, tooltip=tooltip),
        rows.mark_text(align="left", dy=-10, dx=7, fontSize=12).encode(
            x=across("ratio"), y=y, text="letters:N"
        ),
        rows.mark_text(align="left", dy=10, fontSize=10).encode(
            x=alt.value(4), y=y, text="remark:N"
        ),
    ]
    floor = 1 + plot_ranking.floor_percent(its) / 100
    if math.isfinite(floor):
        band = _chart(pd.DataFrame({"low": [1 / floor], "high": [floor]}))
        layers.insert(
            0, band.mark_rect(color=GREY, opacity=0.25).encode(x=across("low"), x2="high:Q")
        )
    title = plot_ranking.TITLES[metric]
    chart = alt.layer(*layers).properties(height=ROW_PX * len(table), title=title)
    return _spec(chart, f"{title} of each server as ratio to {reference}, with 95 % intervals.")


def system_calls(syscalls: pd.DataFrame) -> Spec:
    """System calls per request, stacked by call."""
    counted = syscalls[syscalls["status"] == "ok"]
    servers = list(dict.fromkeys(counted["server"]))
    calls = plot_syscalls.calls_by_server(counted)
    names = [str(name) for name in calls.columns]
    colors = [plot_syscalls.COLORS.get(name, plot_syscalls.OTHER_COLOR) for name in names]
    table = (
        calls.rename_axis("server")
        .reset_index()
        .melt("server", var_name="call", value_name="per_request")
    )
    table = table.assign(rank=[names.index(name) for name in table["call"]])
    chart = (
        _chart(table)
        .transform_filter(IS_SHOWN)
        .mark_bar()
        .encode(
            x=alt.X("per_request:Q", title="system calls per request", stack="zero"),
            y=alt.Y("server:N", sort=servers, title=None, axis=alt.Axis(labelLimit=220)),
            color=alt.Color(
                "call:N",
                sort=names,
                scale=alt.Scale(domain=names, range=colors),
                legend=alt.Legend(orient="top", title=None, columns=4, symbolType="square"),
            ),
            order=alt.Order("rank:Q"),
            tooltip=[
                "server:N",
                "call:N",
                alt.Tooltip("per_request:Q", title="per request", format=".3f"),
            ],
        )
        .add_params(HIDDEN)
        .properties(height=ROW_PX * len(servers))
    )
    return _spec(chart, "System calls per request of each server, stacked by call.")


def all_charts(
    cells: pd.DataFrame, summary: pd.DataFrame, verdicts: pd.DataFrame, syscalls: pd.DataFrame
) -> dict[str, Spec]:
    """Name of the place in the page → specification; a chart with nothing to show is left out."""
    no_control = ~summary["server"].map(is_control).astype(bool)
    compared = summary[no_control]
    its_cells = cells[~cells["server"].map(is_control).astype(bool)]
    charts: dict[str, Spec] = {}
    if len(verdicts):
        charts["ranking_cpu"] = ranking(verdicts, summary, COST)
        charts["ranking_throughput"] = ranking(verdicts, summary, THROUGHPUT)
    if compared[COST].notna().any():
        for name in FIGURES:
            charts[name] = over_connections(name, its_cells, compared)
        charts["limiters"] = limiters(compared)
    if compared["fairness_jain"].notna().any():
        charts["fairness"] = fairness(its_cells, compared)
    if ((syscalls["status"] == "ok") & (syscalls["kind"] == "system_call")).any():
        charts["syscalls"] = system_calls(syscalls)
    return charts
