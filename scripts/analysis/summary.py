"""The summary: a row for each server and number of connections."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from analysis import tables
from analysis.inference import interval_factor_95
from common import files
from common.files import DamagedFile
from sweep import fields
from sweep.fields import STATUSES
from sweep.flags import is_saturated, is_server_saturated

# Summarized as the geometric mean over repeats with an interval.
AVERAGED = ["latency_p50_us", "latency_p99_us"]
SUMMARY_COLUMNS = fields.columns_of(fields.SUMMARY)


def read_summary(path: str, columns: Iterable[str] = ()) -> pd.DataFrame:
    """Read a summary, which must have these columns (default: all)."""
    summary = tables.read_table(path, columns or SUMMARY_COLUMNS)
    if summary.empty:
        raise DamagedFile(f"{path} has no rows", files.MADE_AGAIN)
    return summary.fillna({"reason": ""})


def _with_interval(name: str, middle: float, values: "pd.Series[float]") -> dict[str, float]:
    factor = interval_factor_95(values)
    return {name: middle, f"{name}_low": middle / factor, f"{name}_high": middle * factor}


def _summarize_point(cells: pd.DataFrame) -> dict[str, Any]:
    """One row of the summary, from the cells of one machine, server and number of connections.

    Only valid cells enter its figures; the others are counted.
    """
    valid = tables.counted_cells(cells)
    row: dict[str, Any] = {
        f"repeats_{status}": int((cells["status"] == status).sum()) for status in STATUSES
    }
    flags = sorted({flag for text in cells["flags"] for flag in text.split(";") if flag})
    row["flags"] = ";".join(flags)
    row["decided_by"] = cells["decided_by"].iloc[0]
    row["reason"] = next(filter(None, cells["reason"]), "")
    if valid.empty:
        return row
    requests = valid["requests"].sum()
    has_cpu_time = valid["server_cpu_ns_per_request"].notna()  # of some servers it is not known
    timed = valid[has_cpu_time]
    cpu_ns = (timed["server_cpu_ns_per_request"] * timed["requests"]).sum()
    # A rate is total work over total time; its interval comes from the repeats.
    rate = requests / valid["duration_s"].sum()
    row |= _with_interval("requests_per_second", rate, valid["requests_per_second"])
    for name in (*AVERAGED, *tables.RATIOS):
        values = valid[name].astype(float)
        if name in tables.RATIOS:
            values = values.dropna()
        if not values.empty:
            row |= _with_interval(name, tables.geometric_mean(values), values)
    row["latency_max_us"] = valid["latency_max_us"].max()
    if not timed.empty:
        name = "server_cpu_ns_per_request"
        row |= _with_interval(name, cpu_ns / timed["requests"].sum(), timed[name])
    # One disturbed repeat must not hide what limited the others.
    for name in ("server_cpu_share", "server_busiest_thread_share", "client_cpu_share"):
        row[name] = valid[name].median()
    row["unserved_connections"] = valid["unserved_connections"].max()
    row["fairness_jain"] = valid["fairness_jain"].min()
    row["worker_fairness_jain"] = valid["worker_fairness_jain"].min()
    row["server_memory_peak_kib"] = valid["server_memory_peak_kib"].max()
    row["disturbed_share"] = tables.has_flag(cells[cells["status"] == "ok"], "disturbed").mean()
    row["cpus_shared"] = tables.has_flag(valid, "shared_cpus").any()
    row["limiter"] = limiter_of(row)
    row[tables.REFERENCE_RATE] = tables.geometric_mean(valid[tables.REFERENCE_RATE])
    return row


def limiter_of(point: dict[str, Any]) -> str:
    """What kept a point's throughput from being higher, from its figures over valid repeats.

    A saturated server comes before a saturated client: its throughput is the most that it can do in any case.
    """
    if pd.notna(point["unserved_connections"]) and point["unserved_connections"] > 0:
        return "starving"
    if point["cpus_shared"] and is_saturated(point["server_cpu_share"] + point["client_cpu_share"]):
        return "shared-cpus"
    if is_server_saturated(point):
        return "server-bound"
    if is_saturated(point["client_cpu_share"]):
        return "client-bound"
    return "disturbed" if point["disturbed_share"] == 1 else "latency-bound"


def summary_table(cells: pd.DataFrame) -> pd.DataFrame:
    """A row for each machine, server and number of connections, in the order in which they come."""
    compare = tables.has_main_yardstick(cells)
    cells = cells.assign(**{name: cells[name].where(compare) for name in tables.RATIOS})
    rows = [
        {**dict(zip(tables.POINT, point, strict=True)), **_summarize_point(point_cells)}
        for point, point_cells in cells.groupby(tables.POINT, sort=False, dropna=False)
    ]
    return pd.DataFrame(rows, columns=SUMMARY_COLUMNS)


def reference_rates(summary: pd.DataFrame) -> "pd.Series[float]":
    """Requests per second of the reference by the number of connections: geometric mean over all servers' rows."""
    known = summary.dropna(subset=[tables.REFERENCE_RATE])
    return known.groupby("connections")[tables.REFERENCE_RATE].agg(tables.geometric_mean)


def best_point(points: pd.DataFrame) -> dict[str, Any] | None:
    """The row of one server's summary with its highest throughput; None if it has no valid cell.

    A point where connections starved counts only if they starved at all points: such a throughput is not what the
    server delivers to all connections.
    """
    valid = points.dropna(subset=["requests_per_second"])
    served = valid[valid["limiter"] != "starving"]
    measured = (valid if served.empty else served).to_dict("records")
    return max(measured, key=lambda row: row["requests_per_second"], default=None)  # type: ignore[return-value]
