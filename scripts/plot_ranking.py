#!/usr/bin/env python3
"""Draw the ranking of one machine's servers: ratios to one of them, the anchor, and which differ significantly."""

import argparse
import math
import sys
from collections.abc import Sequence
from typing import NamedTuple

import comparisons
import faults
import numpy as np
import pandas as pd
import plot_style
import tables
from cells import base_of, is_control
from comparisons import CPU_RATIO, THROUGHPUT
from matplotlib.axes import Axes
from matplotlib.ticker import Locator, LogLocator, MaxNLocator, NullFormatter, NullLocator

TITLES = {CPU_RATIO: "CPU time per request", THROUGHPUT: "Throughput"}
DIRECTIONS = {CPU_RATIO: "← better", THROUGHPUT: "better →"}
REMARKS = {comparisons.DEPENDS: "depends", comparisons.UNDECIDABLE: "not decidable"}
BAND_COLOR = "#e2e2e2"


class Row(NamedTuple):
    """One server in one panel: its ratio to the anchor, the ratio's interval, and a remark; NaN for what is unknown."""

    ratio: float
    low: float
    high: float
    remark: str


NOTHING = Row(math.nan, math.nan, math.nan, "")


def served_points(summary: pd.DataFrame) -> pd.DataFrame:
    """The points with a valid run in which every connection was served: only these are compared."""
    return summary[summary["limiter"] != "starving"].dropna(subset=[CPU_RATIO])


def anchor_of(servers: list[str], summary: pd.DataFrame) -> str:
    """The control's base; without a control the first of the servers with most comparable points."""
    bases = [base_of(name) for name in servers if is_control(name) and base_of(name) in servers]
    points = served_points(summary)["server"].value_counts().to_dict()
    return bases[0] if bases else max(servers, key=lambda name: points.get(name, 0))


def order_servers(servers: list[str], summary: pd.DataFrame) -> list[str]:
    """Sort by mean CPU time per request over the points where all connections were served. Servers with fewer such
    points come later, and a control comes after its base."""
    served = served_points(summary)
    points = served["server"].value_counts().to_dict()
    mean = np.log(served[CPU_RATIO]).groupby(served["server"]).mean().to_dict()

    def key(server: str) -> tuple[int, float, str, bool]:
        base = base_of(server)
        return -points.get(base, 0), mean.get(base, math.inf), base, is_control(server)

    return sorted(servers, key=key)


def row_of(server: str, anchor: str, verdicts: pd.DataFrame) -> Row:
    """One server's row, from one metric's verdicts."""
    if server == anchor:
        return Row(1, math.nan, math.nan, "")
    names = [server, anchor]
    pair = verdicts[verdicts["server"].isin(names) & verdicts["other"].isin(names)]
    points = pair[pair["connections"] != comparisons.WHOLE_SWEEP]
    usable = int((points["pairs"] > 0).sum())
    if not usable:
        return NOTHING
    whole = pair[pair["connections"] == comparisons.WHOLE_SWEEP].iloc[0]
    ratio, low, high = (float(whole[name]) for name in ("ratio", "ratio_low", "ratio_high"))
    if whole["server"] == anchor:
        ratio, low, high = 1 / ratio, 1 / high, 1 / low
    remarks = [f"{usable} of {len(points)} points"] if usable < len(points) else []
    if whole["verdict"] in REMARKS and comparisons.has_enough_points(usable, len(points)):
        remarks.append(REMARKS[whole["verdict"]])
    return Row(ratio, low, high, ", ".join(remarks))


def letters_of(servers: list[str], verdicts: pd.DataFrame) -> dict[str, str]:
    """Each server's letters, from one metric's verdicts over the whole sweep; none if no verdict was possible."""
    pairs = verdicts[verdicts["server"].isin(servers) & verdicts["other"].isin(servers)]
    whole = pairs[pairs["connections"] == comparisons.WHOLE_SWEEP]
    decided = whole[whole["verdict"] != comparisons.UNDECIDABLE]
    different = decided[decided["verdict"].isin(comparisons.DIFFERENCES)]
    known = {*decided["server"], *decided["other"]}
    groups = comparisons.letter_groups(
        [name for name in servers if name in known],
        [frozenset(pair) for pair in zip(different["server"], different["other"], strict=True)],
    )
    return {
        name: "".join(_letter(number) for number, group in enumerate(groups) if name in group)
        for name in servers
    }


def _letter(number: int) -> str:
    return chr(ord("a") + number % 26) + "′" * (number // 26)


def ratio_locator(span: float) -> Locator:
    """Ticks at round factors, or at even steps where all ratios are close to 1."""
    if span < 4:
        return MaxNLocator(6, steps=[1, 2, 5, 10])
    return LogLocator(subs=(1, 1.5, 2, 3, 5, 7) if span < 6 else (1, 2, 5))


def ratio_limits(rows: list[Row], floor: float) -> tuple[float, float]:
    """Limits that contain 1, all ratios and the floor (a factor); much wider intervals are cut off."""
    ratios = np.array([1, *(row.ratio for row in rows if math.isfinite(row.ratio))])
    ends = [*ratios, 1 / floor, floor, *(end for row in rows for end in (row.low, row.high))]
    reach = max(ratios.max() / ratios.min(), 1.5)
    low = max(np.nanmin(ends), ratios.min() / reach)
    high = min(np.nanmax(ends), ratios.max() * reach)
    margin = max((high / low) ** 0.06, 1.03)
    return float(low / margin), float(high * margin)


def draw_row(axes: Axes, height: int, row: Row, color: str, marker: str, is_hollow: bool) -> None:
    if not math.isfinite(row.ratio):
        middle = axes.get_yaxis_transform()
        text = axes.text(0.5, height, "no comparable point", transform=middle)
        text.set(
            ha="center",
            va="center",
            fontsize=plot_style.SMALL,
            color=plot_style.GREY,
            backgroundcolor="white",
        )
        return
    axes.plot([row.low, row.high], [height, height], color=color, linewidth=1.6, zorder=2)
    axes.scatter(
        row.ratio,
        height,
        s=30,
        marker=marker,
        facecolors="white" if is_hollow else color,
        edgecolors=color,
        linewidths=1.2,
        zorder=3,
    )


def floor_percent(verdicts: pd.DataFrame) -> float:
    """The noise floor of one metric's verdicts; NaN if it was not measured."""
    return float(verdicts["noise_floor_percent"].max())


def set_up_panel(
    axes: Axes, metric: str, rows: list[Row], floor: float, base: str, remarks: list[str]
) -> None:
    """Draw all but the rows: the band of the floor (a factor), a logarithmic axis around the rows' ratios to `base`,
    with as many labels as have room, and a remark on each row at the right."""
    if math.isfinite(floor):
        axes.axvspan(1 / floor, floor, color=BAND_COLOR, linewidth=0, zorder=0)
    axes.axvline(1, color=plot_style.GREY, linewidth=0.8, zorder=1)
    low, high = ratio_limits(rows, floor)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(ratio_locator(high / low))
    axes.xaxis.set_major_formatter(lambda value, _position: f"{value:.4g}×")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_title(TITLES[metric])
    axes.set_xlabel(f"ratio to {base}, logarithmic ({DIRECTIONS[metric]})")
    axes.tick_params(axis="y", length=0)
    right = axes.secondary_yaxis("right")
    right.set_yticks(range(len(remarks)), remarks)
    right.tick_params(length=0)
    right.spines["right"].set_visible(False)


def draw_panel(
    axes: Axes, metric: str, rows: dict[str, Row], anchor: str, verdicts: pd.DataFrame
) -> None:
    """Draw one metric and its verdicts: a row a server from the top down, with its letters and remark at the right."""
    letters = letters_of([server for server in rows if not is_control(server)], verdicts)
    remarks = [f"{letters.get(server, '')}  {row.remark}" for server, row in rows.items()]
    floor = 1 + floor_percent(verdicts) / 100
    set_up_panel(axes, metric, list(rows.values()), floor, anchor, remarks)
    for height, (server, row) in enumerate(rows.items()):
        base = base_of(server)
        color, marker = plot_style.color_of(base), plot_style.marker_of(base)
        draw_row(axes, height, row, color, marker, is_control(server))


def describe_floor(verdicts: pd.DataFrame) -> str:
    """The noise floor of one metric, and the interval of the control's ratio to its server, which the floor is from."""
    floor = floor_percent(verdicts)
    if math.isnan(floor):
        return "unknown"
    control = next(name for name in verdicts["other"] if is_control(name))
    row = row_of(control, base_of(control), verdicts)
    interval = f"interval {100 * row.low - 100:+.1f} to {100 * row.high - 100:+.1f} %"
    return f"{floor:.2g} % ({interval if math.isfinite(row.low) else 'no interval'})"


def floor_note(verdicts: pd.DataFrame, name: str = "Grey band: noise floor") -> str:
    if not verdicts["other"].map(is_control).any():
        return "No control: noise floor not measured."
    floors = [
        f"{metric_name} {describe_floor(verdicts[verdicts['metric'] == metric])}"
        for metric, metric_name in comparisons.NAMES.items()
    ]
    return f"{name}, the difference of a server from itself, measured twice: {', '.join(floors)}."


def count_client_limited(verdicts: pd.DataFrame, summary: pd.DataFrame) -> int:
    """How many comparisons at points are left out because wrk was the limit for both servers."""
    bound = summary[summary["limiter"] == "client-bound"]
    points = set(zip(bound["server"], bound["connections"].map(str), strict=True))
    left_out = verdicts[(verdicts["verdict"] == comparisons.UNDECIDABLE) & (verdicts["pairs"] == 0)]
    names = zip(left_out["server"], left_out["other"], left_out["connections"], strict=True)
    return sum({(one, str(count)), (other, str(count))} <= points for one, other, count in names)


def notes_of(cells: pd.DataFrame, summary: pd.DataFrame, verdicts: pd.DataFrame) -> list[str]:
    """What a reader must know, a line each; of one machine."""
    if verdicts.empty:
        return ["One server: nothing to compare it with."]
    is_of_control = verdicts["other"].map(is_control).astype(bool)
    is_point = verdicts["connections"] != comparisons.WHOLE_SWEEP
    throughput = verdicts[is_point & (verdicts["metric"] == THROUGHPUT) & ~is_of_control]
    limited = count_client_limited(throughput, summary)
    surprising = is_of_control & verdicts["verdict"].isin(comparisons.DIFFERENCES)
    notes = [
        "Marks: mean ratio over the numbers of connections at which the two can be compared; lines: its 95 % interval.",
        "Servers that share a letter do not differ significantly (Holm's method: the risk that any verdict in a panel"
        " is false is about 5 %).",
        floor_note(verdicts),
    ]
    if limited:
        notes.append(
            f"Throughput: {limited} of {len(throughput)} comparisons of two servers at one number of connections "
            "are left out, since wrk was the limit for both."
        )
    if note := comparisons.yardstick_note(cells):
        notes.append(note)
    if surprising.any():
        notes.append(
            "The control differs significantly from its server, because of its code's layout or by chance: "
            "doubt other differences of this size."
        )
    return notes


def label_of(server: str, summary: pd.DataFrame) -> str:
    points = summary[summary["server"] == server]
    label = f"control: {base_of(server)} again" if is_control(server) else server
    has_run = points["requests_per_second"].notna().any()
    return label if has_run else f"{label} ({tables.describe_no_result(points)})"


def draw_panels(panels: Sequence[Axes], verdicts: pd.DataFrame, summary: pd.DataFrame) -> None:
    """Draw one machine's ranking: a panel a metric, with the same rows."""
    names = [str(name) for name in summary["server"].unique()]
    measured = set(summary.dropna(subset=["requests_per_second"])["server"])
    anchor, servers = anchor_of(names, summary), order_servers(names, summary)
    for axes, metric in zip(panels, TITLES, strict=True):
        its_verdicts = verdicts[verdicts["metric"] == metric]
        rows = {
            name: row_of(name, anchor, its_verdicts) if name in measured else NOTHING
            for name in servers
        }
        draw_panel(axes, metric, rows, anchor, its_verdicts)
    panels[0].set_yticks(range(len(servers)), [label_of(name, summary) for name in servers])
    panels[0].set_ylim(len(servers) - 0.5, -0.5)


def draw(cells: pd.DataFrame, summary: pd.DataFrame, verdicts: pd.DataFrame, *paths: str) -> None:
    machine = tables.main_machine(summary)
    others = summary["machine"].nunique() - 1
    cells, summary, verdicts = (
        table[table["machine"] == machine] for table in (cells, summary, verdicts)
    )
    height = 2.2 + 0.28 * summary["server"].nunique()
    figure = plot_style.new_canvas(plot_style.WIDTH_INCHES, height)
    draw_panels(figure.subplots(1, len(TITLES), sharey=True), verdicts, summary)
    notes = notes_of(cells, summary, verdicts)
    if others:
        notes.append(
            f"This shows machine {machine} alone; the table also has the verdicts of {others} more, never mixed."
        )
    plot_style.add_notes(figure, notes)
    plot_style.save(figure, paths)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", help="results/cells.csv")
    parser.add_argument("summary", help="results/summary.csv")
    parser.add_argument("verdicts", help="results/verdicts.csv")
    parser.add_argument("output", nargs="+", help="the picture to draw: .png, .svg or both")
    arguments = parser.parse_args()
    draw(
        tables.read_cell_table(arguments.cells, comparisons.CELL_COLUMNS),
        tables.read_summary(arguments.summary),
        comparisons.read_verdicts(arguments.verdicts),
        *arguments.output,
    )
    return 0


if __name__ == "__main__":
    sys.exit(faults.report(main))
