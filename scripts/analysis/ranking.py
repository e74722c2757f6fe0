"""The ranking: the order of the servers, their ratios to the first, and their letters."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import inference, tables
from analysis.verdicts import (
    BETTER_SIGN,
    CLIENT_LIMITED,
    CPU_RATIO,
    DEPENDS,
    DIFFERENCES,
    NAMES,
    RATE,
    TAIL,
    THROUGHPUT,
    UNDECIDABLE,
    UNDIVIDED,
    WHOLE_SWEEP,
    has_enough_points,
    yardstick_note,
)
from sweep.cells import base_of, is_control

TITLES = {CPU_RATIO: "CPU time per request", THROUGHPUT: "Throughput"}
UNDIVIDED_TITLES = {RATE: "Throughput", TAIL: "Latency, 99th percentile"}
DIRECTIONS = {name: "← better" if sign < 0 else "better →" for name, sign in BETTER_SIGN.items()}
REMARKS = {DEPENDS: "depends", UNDECIDABLE: "not decidable"}


class Row(NamedTuple):
    """One server in one panel: its ratio to the anchor, the ratio's interval, a remark, and its letters; NaN for what
    is unknown."""

    ratio: float
    low: float
    high: float
    remark: str
    letters: str = ""


NOTHING = Row(math.nan, math.nan, math.nan, "")


def served_points(summary: pd.DataFrame) -> pd.DataFrame:
    """The points of a workload with a valid run in which every connection was served: only these are compared. Their
    `cost` is the logarithm of the figure that decides, less is better."""
    decider = str(summary["decided_by"].iloc[0])
    served = summary[summary["limiter"] != "starving"].dropna(subset=[decider])
    return served.assign(cost=-BETTER_SIGN[decider] * np.log(served[decider].astype(float)))


def anchor_of(servers: list[str], summary: pd.DataFrame) -> str:
    """The control's base; without a control the first of the servers with most comparable points."""
    bases = [base_of(name) for name in servers if is_control(name) and base_of(name) in servers]
    points = served_points(summary)["server"].value_counts().to_dict()
    return bases[0] if bases else max(servers, key=lambda name: points.get(name, 0))


def order_servers(servers: list[str], summary: pd.DataFrame) -> list[str]:
    """Sort by the mean of the figure that decides, over the points where all connections were served. Servers with
    fewer such points come later, and a control comes after its base."""
    served = served_points(summary)
    points = served["server"].value_counts().to_dict()
    mean = served["cost"].groupby(served["server"]).mean().to_dict()

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
    points = pair[pair["connections"] != WHOLE_SWEEP]
    usable = int((points["pairs"] > 0).sum())
    if not usable:
        return NOTHING
    whole = pair[pair["connections"] == WHOLE_SWEEP].iloc[0]
    ratio, low, high = (float(whole[name]) for name in ("ratio", "ratio_low", "ratio_high"))
    if whole["server"] == anchor:
        ratio, low, high = 1 / ratio, 1 / high, 1 / low
    remarks = [f"{usable} of {len(points)} points"] if usable < len(points) else []
    if whole["verdict"] in REMARKS and has_enough_points(usable, len(points)):
        remarks.append(REMARKS[whole["verdict"]])
    return Row(ratio, low, high, ", ".join(remarks))


def titles_of(verdicts: pd.DataFrame) -> dict[str, str]:
    """Metric → title, of the metrics that a workload's verdicts have; of one server, which has none, TITLES."""
    titles = {**TITLES, **UNDIVIDED_TITLES}
    return {str(metric): titles[metric] for metric in verdicts["metric"].unique()} or TITLES


def letters_of(servers: list[str], verdicts: pd.DataFrame) -> dict[str, str]:
    """Each server's letters, from one metric's verdicts over the whole sweep; none if no verdict was possible."""
    pairs = verdicts[verdicts["server"].isin(servers) & verdicts["other"].isin(servers)]
    whole = pairs[pairs["connections"] == WHOLE_SWEEP]
    decided = whole[whole["verdict"] != UNDECIDABLE]
    different = decided[decided["verdict"].isin(DIFFERENCES)]
    known = {*decided["server"], *decided["other"]}
    groups = inference.letter_groups(
        [name for name in servers if name in known],
        [frozenset(pair) for pair in zip(different["server"], different["other"], strict=True)],
    )
    return {
        name: "".join(_letter(number) for number, group in enumerate(groups) if name in group)
        for name in servers
    }


def rows_of(summary: pd.DataFrame, verdicts: pd.DataFrame) -> tuple[str, dict[str, Row]]:
    """The anchor, and the rows of all servers in order, from one metric's verdicts."""
    names = [str(name) for name in summary["server"].unique()]
    measured = set(summary.dropna(subset=["requests_per_second"])["server"])
    anchor, servers = anchor_of(names, summary), order_servers(names, summary)
    letters = letters_of([name for name in servers if not is_control(name)], verdicts)
    rows = {
        name: row_of(name, anchor, verdicts) if name in measured else NOTHING for name in servers
    }
    return anchor, {name: row._replace(letters=letters.get(name, "")) for name, row in rows.items()}


def _letter(number: int) -> str:
    return chr(ord("a") + number % 26) + "′" * (number // 26)


def ratio_limits(rows: list[Row], floor: float) -> tuple[float, float]:
    """Limits that contain 1, all ratios and the floor (a factor); much wider intervals are cut off."""
    ratios = np.array([1, *(row.ratio for row in rows if math.isfinite(row.ratio))])
    ends = [*ratios, 1 / floor, floor, *(end for row in rows for end in (row.low, row.high))]
    reach = max(ratios.max() / ratios.min(), 1.5)
    low = max(np.nanmin(ends), ratios.min() / reach)
    high = min(np.nanmax(ends), ratios.max() * reach)
    margin = max((high / low) ** 0.06, 1.03)
    return float(low / margin), float(high * margin)


def floor_percent(verdicts: pd.DataFrame) -> float:
    """The noise floor of one metric's verdicts; NaN if it was not measured."""
    return float(verdicts["noise_floor_percent"].max())


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
    names = {**NAMES, **UNDIVIDED}
    floors = [
        f"{names[str(metric)]} {describe_floor(its)}"
        for metric, its in verdicts.groupby("metric", sort=False)
    ]
    return f"{name}, the difference of a server from itself, measured twice: {', '.join(floors)}."


def notes_of(cells: pd.DataFrame, verdicts: pd.DataFrame) -> list[str]:
    """What a reader must know, a line each; of one machine."""
    if verdicts.empty:
        return ["One server: nothing to compare it with."]
    is_of_control = verdicts["other"].map(is_control).astype(bool)
    is_point = verdicts["connections"] != WHOLE_SWEEP
    of_throughput = verdicts["metric"].isin([THROUGHPUT, RATE])
    throughput = verdicts[is_point & of_throughput & ~is_of_control]
    limited = (throughput["reason"] == CLIENT_LIMITED).sum()
    surprising = is_of_control & verdicts["verdict"].isin(DIFFERENCES)
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
    if note := yardstick_note(cells):
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
