"""The tables in results/: their columns, and how records become rows and rows become summaries (docs/results.md)."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

CELL_COLUMNS = [
    "server",
    "connections",
    "repeat",
    "status",
    "requests",
    "duration_s",
    "requests_per_second",
    "latency_mean_us",
    "latency_p50_us",
    "latency_p90_us",
    "latency_p99_us",
    "latency_max_us",
    "errors",
    "server_cpu_ns_per_request",
    "client_cpu_share",
    "unserved_connections",
    "fairness_jain",
    "flags",
    "server_cpu_share",
    "established_connections",
    "server_memory_peak_kib",
    "latency_synthetic_share",
    "workers",
    "started",
]
COUNTS = ["requests", "errors", "unserved_connections", "established_connections"]
COUNTS += ["server_memory_peak_kib", "workers"]

# Summarized as the geometric mean over repeats with an interval.
AVERAGED = ["latency_p50_us", "latency_p99_us"]


def cell_table(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Records → a row a cell; what a record does not have is empty, flags are joined with semicolons."""
    rows = [{**record, "flags": ";".join(record["flags"])} for record in records]
    table = pd.DataFrame(rows, columns=CELL_COLUMNS)
    return table.astype(dict.fromkeys(COUNTS, "Int64"))


def read_cell_table(path: str) -> pd.DataFrame:
    return pd.read_csv(path, dtype=dict.fromkeys(COUNTS, "Int64")).fillna({"flags": ""})


def interval_factor_95(values: "pd.Series[float]") -> float:
    """What to divide and multiply a mean of n positive values by for its 95 % interval; NaN for fewer than two.

    Student's t with n - 1 degrees of freedom on the logarithms, suited to small n: what varies in these figures
    varies by factors, and the interval of a positive figure stays positive.
    """
    n = len(values)
    if n < 2:
        return math.nan
    deviation = np.log(values.astype(float)).std(ddof=1)
    return float(np.exp(stdtrit(n - 1, 0.975) * deviation / math.sqrt(n)))


def _with_interval(name: str, middle: float, values: "pd.Series[float]") -> dict[str, float]:
    factor = interval_factor_95(values)
    return {name: middle, f"{name}_low": middle / factor, f"{name}_high": middle * factor}


def _summarize_point(cells: pd.DataFrame) -> dict[str, Any]:
    """One row of the summary, from the cells of one server and number of connections; invalid ones are only counted."""
    valid = cells[cells["status"] == "ok"]
    row: dict[str, Any] = {
        f"repeats_{status}": int((cells["status"] == status).sum())
        for status in ("ok", "invalid", "unavailable")
    }
    flags = sorted({flag for text in cells["flags"] for flag in text.split(";") if flag})
    row["flags"] = ";".join(flags)
    if valid.empty:
        return row
    requests = valid["requests"].sum()
    cpu_ns = (valid["server_cpu_ns_per_request"] * valid["requests"]).sum()
    # Rates are total work over total time (M24); their intervals come from the repeats.
    rate = requests / valid["duration_s"].sum()
    row |= _with_interval("requests_per_second", rate, valid["requests_per_second"])
    for name in AVERAGED:
        geometric_mean = math.exp(np.log(valid[name].astype(float)).mean())
        row |= _with_interval(name, geometric_mean, valid[name])
    row["latency_max_us"] = valid["latency_max_us"].max()
    cost = valid["server_cpu_ns_per_request"]
    row |= _with_interval("server_cpu_ns_per_request", cpu_ns / requests, cost)
    row["server_cpu_share"] = valid["server_cpu_share"].mean()
    row["client_cpu_share"] = valid["client_cpu_share"].mean()
    row["unserved_connections"] = valid["unserved_connections"].max()
    row["fairness_jain"] = valid["fairness_jain"].min()
    row["server_memory_peak_kib"] = valid["server_memory_peak_kib"].max()
    return row


SUMMARY_COLUMNS = ["server", "connections", "repeats_ok", "repeats_invalid", "repeats_unavailable"]
for _name in ("requests_per_second", *AVERAGED, "server_cpu_ns_per_request"):
    SUMMARY_COLUMNS += [_name, f"{_name}_low", f"{_name}_high"]
SUMMARY_COLUMNS += ["latency_max_us", "server_cpu_share", "client_cpu_share"]
SUMMARY_COLUMNS += ["unserved_connections", "fairness_jain", "server_memory_peak_kib", "flags"]


def summary_table(cells: pd.DataFrame) -> pd.DataFrame:
    """A row for each server and number of connections, in the order in which they come."""
    rows = [
        {"server": server, "connections": connections, **_summarize_point(point)}
        for (server, connections), point in cells.groupby(["server", "connections"], sort=False)
    ]
    return pd.DataFrame(rows, columns=SUMMARY_COLUMNS)


def write_table(table: pd.DataFrame, path: str) -> None:
    """CSV with figures to a precision far beyond what any of them has."""
    table.to_csv(path, index=False, float_format="%.9g")
