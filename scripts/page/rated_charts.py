"""The charts of the report over the rate of an open loop."""

from typing import Any

import altair as alt
import pandas as pd

from page.charts import (
    GREY,
    HEIGHT_PX,
    HIDDEN,
    IS_SHOWN,
    Spec,
    chart_of,
    colors_of,
    dots_of,
    spec_of,
)

FIGURES = {
    "latency_p50_us": ("median, µs", True),
    "latency_p99_us": ("99th percentile, µs", True),
    "latency_p999_us": ("99.9th percentile, µs", True),
    "cpu_ratio": ("CPU time per request / reference", False),
}
RATE = "rate_per_second"


def over_rate(column: str, points: pd.DataFrame, cells: pd.DataFrame, target_ms: float) -> Spec:
    """One figure of all servers over the rate; hollow where they fell behind it."""
    title, logarithmic = FIGURES[column]
    servers = [str(name) for name in points["server"].unique()]
    x = alt.X(f"{RATE}:Q", title="requests per second offered", axis=alt.Axis(format="~s"))
    kind: Any = "log" if logarithmic else "linear"
    values = cells[column].dropna().astype(float)
    domain = [values.min() / 1.2, values.max() * 1.2] if logarithmic else [0, values.max() * 1.1]
    scale = alt.Scale(type=kind, domain=domain, nice=False)
    y_title = f"{title} (logarithmic)" if logarithmic else title

    def y(field: str) -> alt.Y:
        return alt.Y(
            f"{field}:Q", title=y_title, scale=scale, axis=alt.Axis(format=",~r", tickCount=5)
        )

    means = points.dropna(subset=[column]).assign(
        value=points[column], low=points[f"{column}_low"], high=points[f"{column}_high"]
    )
    marks = chart_of(
        means[["server", RATE, "share", "value", "low", "high", "overloaded", "repeats"]]
    )
    marks = marks.transform_filter(IS_SHOWN)
    color = colors_of(servers)
    dots = dots_of(
        marks,
        servers,
        "datum.overloaded > 0",
        60,
        alt.Tooltip("server:N"),
        alt.Tooltip(f"{RATE}:Q", title="requests/s offered", format=",.0f"),
        alt.Tooltip("value:Q", title=title, format=",.4~r"),
        alt.Tooltip("low:Q", title="95 % interval from", format=",.4~r"),
        alt.Tooltip("high:Q", title="to", format=",.4~r"),
        alt.Tooltip("overloaded:Q", title="repeats that fell behind"),
        alt.Tooltip("repeats:Q", title="of"),
    )
    bands = marks.transform_filter("isValid(datum.low)").mark_rule(
        strokeWidth=5, opacity=0.3, clip=True
    )
    layers = [
        bands.encode(x=x, y=y("low"), y2="high:Q", color=color),
        marks.mark_line(strokeWidth=1.5).encode(x=x, y=y("value"), color=color),
        dots.encode(x=x, y=y("value"), color=color),
    ]
    if column == "latency_p99_us":
        target = chart_of(pd.DataFrame({"target": [1000 * target_ms]}))
        rule = target.mark_rule(strokeDash=[6, 4], color=GREY, clip=True)
        layers.insert(
            0, rule.encode(y=y("target"), tooltip=[alt.Tooltip("target:Q", title="target, µs")])
        )
    description = (
        f"{title} of each server over the rate of requests. The table below has the limits."
    )
    chart = alt.layer(*layers).add_params(HIDDEN).properties(title=title)
    return spec_of(chart, HEIGHT_PX - 60, description)


def of_workload(points: pd.DataFrame, cells: pd.DataFrame, target_ms: float) -> dict[str, Spec]:
    """Name → specification of each figure that was measured."""
    return {
        f"rate_{column}": over_rate(column, points, cells, target_ms)
        for column in FIGURES
        if points[column].notna().any()
    }
