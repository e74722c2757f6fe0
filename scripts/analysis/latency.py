"""What an open loop says: latencies over the rate, and the highest rate within a target."""

import math
import textwrap
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import isotonic_regression

from analysis.inference import interval_factor_95
from analysis.tables import geometric_mean, has_flag, read_table
from sweep import rated_fields
from sweep.fields import columns_of

Floats = npt.NDArray[np.float64]

COUNTED = ("ok", "overloaded")
OF_POINTS = [column.name for column in rated_fields.SUMMARY if column.has_interval]
KEY = ["workload", "server", "rate_per_second"]
AT_LEAST, BELOW, UNKNOWN = "at least", "below", "unknown above"
LONGEST_REASON = 120


def read_latencies(path: str) -> pd.DataFrame:
    """latency.csv. Raises DamagedFile."""
    table = read_table(path, columns_of(rated_fields.LATENCY))
    return table.fillna({"flags": "", "reason": ""})


def valid(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells whose figures mean something, of the machine that has most of them."""
    its = cells[cells["status"].isin(COUNTED)]
    return its if its.empty else its[its["machine"] == its["machine"].mode().iloc[0]]


def counted(cells: pd.DataFrame) -> pd.DataFrame:
    """The valid cells that count: at each point the undisturbed ones, if it has any."""
    its = valid(cells)
    if its.empty:
        return its
    disturbed = has_flag(its, "disturbed")
    some_undisturbed = (~disturbed).groupby([its[name] for name in KEY]).transform("any")
    chosen: pd.Series[bool] = ~disturbed | ~some_undisturbed.astype(bool)
    return pd.DataFrame(its[chosen])


def summarize(cells: pd.DataFrame) -> pd.DataFrame:
    """A row for each workload, server and rate, in the order of the cells and by rate."""
    rows = []
    for (workload, server, rate), its in counted(cells).groupby(KEY, sort=False):
        row = {"machine": its["machine"].iloc[0], "workload": workload, "server": server}
        row |= {"share": its["share"].iloc[0], "rate_per_second": rate, "repeats": len(its)}
        row["overloaded"] = int((its["status"] == "overloaded").sum())
        for name in OF_POINTS:
            known = its[name].dropna().astype(float)
            row[name] = mean = geometric_mean(known)
            factor = interval_factor_95(known)
            row |= {f"{name}_low": mean / factor, f"{name}_high": mean * factor}
        rows.append(row)
    table = pd.DataFrame(rows, columns=columns_of(rated_fields.SUMMARY))
    order = {name: n for n, name in enumerate(table["server"].unique())}
    return table.sort_values(
        ["workload", "server", "rate_per_second"],
        key=lambda its: its.map(order) if its.name == "server" else its,
        kind="stable",
        ignore_index=True,
    )


class Limit(NamedTuple):
    """The highest rate of the grid within a target, where between two rates the latency reaches it, and the bound."""

    highest: float
    crossing: float
    bound: str


def limit_of(rates: Floats, latencies_us: Floats, target_us: float) -> Limit:
    """rates: ascending. Latency cannot fall as the rate rises. So that one noisy low rate does not decide, ascending
    values are fitted to the logarithms first (isotonic regression)."""
    fitted = isotonic_regression(np.log(latencies_us)).x
    target = math.log(target_us)
    within = int((fitted <= target).sum())
    if within == 0:
        return Limit(math.nan, math.nan, BELOW)
    highest = float(rates[within - 1])
    if within == len(rates):
        return Limit(highest, highest, AT_LEAST)
    low, high = fitted[within - 1], fitted[within]
    part = (target - low) / (high - low)
    return Limit(highest, highest + part * (float(rates[within]) - highest), "")


def limits(cells: pd.DataFrame, target_ms: float) -> pd.DataFrame:
    """What each server takes within the target at the 99th percentile, in each workload.

    The interval is of the repeats that count at every rate at which the server counts at all, and stays on the grid.
    """
    grids = {
        str(workload): (its.min(), its.max())
        for workload, its in cells.groupby("workload")["rate_per_second"]
    }
    rows = []
    for (workload, server), its in counted(cells).groupby(["workload", "server"], sort=False):
        means = its.groupby("rate_per_second")["latency_p99_us"].apply(geometric_mean)
        of_means = limit_of(means.index.to_numpy(float), means.to_numpy(float), 1000 * target_ms)
        lowest, top = grids[str(workload)]
        if of_means.bound == AT_LEAST and means.index.max() < top:
            of_means = of_means._replace(bound=UNKNOWN)
        of_repeats = []
        for _, of_repeat in its.groupby("repeat"):
            ordered = of_repeat.sort_values("rate_per_second")
            if len(ordered) < len(means):
                continue
            its_rates = ordered["rate_per_second"].to_numpy(float)
            found = limit_of(its_rates, ordered["latency_p99_us"].to_numpy(float), 1000 * target_ms)
            # One that is above the target at every rate stands at the lowest: to leave it out would favour the server.
            of_repeats.append(its_rates[0] if found.bound == BELOW else found.crossing)
        known = pd.Series(of_repeats, dtype=float)
        factor = interval_factor_95(known) if of_means.bound == "" else math.nan
        # Not the mean of the repeats' limits, which may be below the highest rate within the target.
        middle = of_means.crossing
        rows.append(
            {
                "machine": its["machine"].iloc[0],
                "workload": workload,
                "server": server,
                "target_ms": target_ms,
                "highest_rate_per_second": of_means.highest,
                "limit_per_second": middle,
                "limit_per_second_low": np.clip(middle / factor, lowest, top),
                "limit_per_second_high": np.clip(middle * factor, lowest, top),
                "repeats": len(of_repeats),
                "bound": of_means.bound,
            }
        )
    return pd.DataFrame(rows, columns=columns_of(rated_fields.LIMITS))


def read_limits(path: str) -> pd.DataFrame:
    """latency_limits.csv. Raises DamagedFile."""
    return read_table(path, columns_of(rated_fields.LIMITS)).fillna({"bound": ""})


def read_points(path: str) -> pd.DataFrame:
    """latency_summary.csv. Raises DamagedFile."""
    return read_table(path, columns_of(rated_fields.SUMMARY))


def _names(servers: list[str]) -> str:
    return servers[0] if len(servers) == 1 else f"{', '.join(servers[:-1])} and {servers[-1]}"


def _amount(row: "pd.Series[float]") -> str:
    low, high = row["limit_per_second_low"], row["limit_per_second_high"]
    interval = "" if math.isnan(low) else f" (95 % interval {low:,.0f} to {high:,.0f})"
    return f"{row['limit_per_second']:,.0f} requests/s{interval}"


def words_of(row: Mapping[Hashable, Any]) -> tuple[str, str]:
    """A row of limits() as people read it: requests per second, and their interval."""
    if row["bound"] == BELOW:
        return "none", "-"
    if row["bound"] in (AT_LEAST, UNKNOWN):
        return f"≥ {row['limit_per_second']:,.0f}", "-"
    low, high = row["limit_per_second_low"], row["limit_per_second_high"]
    interval = "-" if math.isnan(low) else f"{low:,.0f}–{high:,.0f}"
    return f"{row['limit_per_second']:,.0f}", interval


def sentence(its: pd.DataFrame, points: pd.DataFrame) -> str:
    """Who takes the most load within the target, in one workload; its: rows of limits(), points: of summarize()."""
    if its.empty:
        return "No cell counts, so nothing is known of any server."
    unknown = [
        f" Nothing counts of {row['server']} above {row['limit_per_second']:,.0f} requests/s."
        for _, row in its[its["bound"] == UNKNOWN].iterrows()
    ]
    return _verdict(its, points) + "".join(unknown)


def _verdict(its: pd.DataFrame, points: pd.DataFrame) -> str:
    target = f"{its['target_ms'].iloc[0]:g} ms"
    within = f"With a 99th percentile of at most {target}"
    most = points["rate_per_second"].max()
    whole = its[its["bound"] == AT_LEAST]
    if len(whole):
        verb = "takes" if len(whole) == 1 else "take"
        said = (
            f"{within} {_names(list(whole['server']))} {verb} the most load: every rate that was measured, up to"
            f" {most:,.0f} requests/s."
        )
        reaches = its["limit_per_second_high"].fillna(math.inf) >= most
        near = its[(its["bound"] == "") & reaches]
        each = [f"{row['server']}, {_amount(row)}," for _, row in near.iterrows()]
        return f"{said} Not told apart from that: {' '.join(each)[:-1]}." if each else said
    able = its[its["bound"] == ""].sort_values("limit_per_second", ascending=False)
    if able.empty:
        least = points["latency_p50_us"].min()
        why = (
            f"even the median is at least {least:,.0f} µs"
            if least > 1000 * float(its["target_ms"].iloc[0])
            else f"at {points['rate_per_second'].min():,.0f} requests/s, the lowest rate, it is already longer"
        )
        if (its["bound"] == UNKNOWN).any():
            return f"{within} no server has a limit that is known."
        return f"No server whose cells count keeps its 99th percentile within {target}: {why}."
    first = able.iloc[0]
    if math.isnan(first["limit_per_second_low"]):
        return (
            f"{within} {first['server']} took the most load, {_amount(first)}; without two repeats that count at"
            " every rate nobody knows whether that is chance."
        )
    close = able[able["limit_per_second_high"].fillna(math.inf) >= first["limit_per_second_low"]]
    if len(close) > 1:
        names = _names(list(close["server"]))
        return (
            f"{within} {names} take the most load, and their intervals overlap:"
            f" {first['server']} {_amount(first)}, the others {close['limit_per_second'].min():,.0f} or more."
        )
    others = able.iloc[1:]
    after = (
        f"; the next, {others.iloc[0]['server']}, {_amount(others.iloc[0])}" if len(others) else ""
    )
    return f"{within} {first['server']} takes the most load: {_amount(first)}{after}."


def missing_notes(cells: pd.DataFrame) -> list[str]:
    """A sentence for each server and reason for which cells have no figures that count."""
    notes = []
    others = cells[~cells["status"].isin(COUNTED)]
    for (server, status), its in others.groupby(["server", "status"], sort=False):
        why = next(filter(None, its["reason"]), "") or ", ".join(
            sorted({name for flags in its["flags"] for name in flags.split(";") if name})
        )
        of_all = (cells["server"] == server).sum()
        why = why.partition("; when that has changed")[0]
        said = textwrap.shorten(why, LONGEST_REASON, placeholder=" …")
        notes.append(f"{server} is {status} in {len(its)} of {of_all} cells: {said}.")
    return notes
