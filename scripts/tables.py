"""The tables in results/: their columns, how records become rows, and how rows become summaries (docs/results.md)."""

import math
import textwrap
from collections import Counter
from collections.abc import Iterable
from typing import Any

import cell_rows
import fields
import files
import numpy as np
import pandas as pd
from cell_rows import CELL_COLUMNS, LARGEST_NUMBER, LOOPBACK, SERVER_NAME, is_text
from cells import is_control
from fields import STATUSES
from files import DamagedFile
from flags import invalidating, is_saturated, is_server_saturated
from scipy.special import stdtrit

MOST_SHOWN_REPEATS = 20
LONGEST_REASON = 300  # in a note

POINT = ["machine", "server", "connections"]

# Summarized as the geometric mean over repeats with an interval.
AVERAGED = ["latency_p50_us", "latency_p99_us"]
# From the paired phase; some cells have none.
RATIOS = ["cpu_ratio", "throughput_ratio"]
REFERENCE_RATE = "reference_requests_per_second"

SUMMARY_COLUMNS = fields.columns_of(fields.SUMMARY)
COUNTS = [field.name for field in fields.CELLS if field.kind == fields.COUNT]
# Kinds of columns by name, in all tables; all others hold numbers.
KINDS = {column.name: column.kind for column in fields.COLUMNS}
# Of syscalls.csv, compare.csv and compare_facts.csv.
KINDS |= dict.fromkeys(["kind", "name", "binary", "machine_baseline", "fact"], fields.TEXT)
KINDS |= dict.fromkeys(["baseline", "current"], fields.TEXT)
TEXT_KINDS = (fields.NAME, fields.TEXT, fields.FLAGS)


def cell_table(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Records → a row a cell, as cell_rows.make_row."""
    table = pd.DataFrame(map(cell_rows.make_row, records), columns=CELL_COLUMNS)
    return table.astype(dict.fromkeys(COUNTS, "Int64"))


def _lack_sense(name: str, values: "pd.Series[Any]") -> "pd.Series[bool]":
    """Which values of a table's column, none of them empty, do not fit."""
    kind = KINDS.get(name, fields.NUMBER)
    if kind == fields.NAME:
        return ~values.map(lambda value: bool(SERVER_NAME.fullmatch(str(value)))).astype(bool)
    if kind in TEXT_KINDS:
        return ~values.map(is_text).astype(bool)
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    sensible = numbers.between(1 if name == "connections" else -LARGEST_NUMBER, LARGEST_NUMBER)
    return ~(sensible if kind == fields.NUMBER else sensible & (numbers % 1 == 0))


def read_table(
    path: str, columns: Iterable[str] = (), dtype: dict[str, str] | None = None
) -> pd.DataFrame:
    """A table, which may come from anywhere, that has these columns, and may have others. Raises DamagedFile."""
    texts = {name: "str" for name, kind in KINDS.items() if kind in TEXT_KINDS}
    try:
        table = pd.read_csv(path, dtype={**texts, **(dtype or {})})
    except (ValueError, TypeError, OverflowError) as error:
        said = " ".join(str(error).split())
        raise DamagedFile(f"{path} is not a table ({said})", files.MADE_AGAIN) from None
    if absent := [name for name in columns if name not in table]:
        raise DamagedFile(f"{path} has no column {absent[0]}", files.MADE_AGAIN)
    for name in map(str, table.columns):
        values = table[name].dropna()
        if name == "connections":  # verdicts over all numbers of connections say "all"
            values = values[values.astype(str) != "all"]
        wrong = values[_lack_sense(name, values)]
        if len(wrong):
            value = repr(wrong.iloc[0])[:80]
            raise DamagedFile(f"{path}: {name} is {value}", files.MADE_AGAIN)
    return table


def read_cell_table(path: str, columns: Iterable[str] = CELL_COLUMNS) -> pd.DataFrame:
    table = read_table(path, columns, {**dict.fromkeys(COUNTS, "float64"), "flags": "str"})
    # Only now: read_table() has refused what is not a count, which a cast may accept.
    counts = set(COUNTS) & set(table.columns)
    return table.astype(dict.fromkeys(counts, "Int64")).fillna({"flags": "", "reason": ""})


def read_summary(path: str, columns: Iterable[str] = ()) -> pd.DataFrame:
    """Read a summary, which must have these columns (default: all)."""
    summary = read_table(path, columns or SUMMARY_COLUMNS)
    if summary.empty:
        raise DamagedFile(f"{path} has no rows", files.MADE_AGAIN)
    return summary.fillna({"reason": ""})


def interval_factor_95(values: "pd.Series[float]") -> float:
    """The factor to divide and multiply the mean of n positive values by for its 95 % interval; NaN for fewer than two.

    Student's t with n - 1 degrees of freedom on the logarithms, which suits small n: these figures vary by factors, and
    the interval of a positive figure stays positive.
    """
    n = len(values)
    if n < 2:
        return math.nan
    deviation = np.log(values.astype(float)).std(ddof=1)
    return float(np.exp(stdtrit(n - 1, 0.975) * deviation / math.sqrt(n)))


def geometric_mean(values: "pd.Series[float]") -> float:
    """Mean of the known values; NaN if none is known."""
    return float(np.exp(np.log(values.dropna().astype(float)).mean()))


def _with_interval(name: str, middle: float, values: "pd.Series[float]") -> dict[str, float]:
    factor = interval_factor_95(values)
    return {name: middle, f"{name}_low": middle / factor, f"{name}_high": middle * factor}


def mean_over_points(cells: pd.DataFrame, name: str) -> tuple[float, float, float]:
    """Geometric mean of a positive figure over the points of one server's counted cells, and its 95 % interval.

    The numbers of connections are fixed, not a sample: each has the same weight, and only the variation within points
    makes the interval (Student's t, with degrees of freedom by Welch and Satterthwaite). NaN for what is not known.
    """
    values = cells.dropna(subset=[name])
    by_point = values[name].astype(float).map(math.log).groupby(values["connections"])
    counts, means, variances = by_point.count(), by_point.mean(), by_point.var(ddof=1)
    if means.empty:
        return math.nan, math.nan, math.nan
    middle = float(means.mean())
    errors = variances / counts / len(means) ** 2  # squared
    if errors.isna().any() or errors.sum() == 0:
        return math.exp(middle), math.nan, math.nan
    freedom = errors.sum() ** 2 / (errors**2 / (counts - 1)).sum()
    half = stdtrit(freedom, 0.975) * math.sqrt(errors.sum())
    return math.exp(middle), math.exp(middle - half), math.exp(middle + half)


def has_flag(cells: pd.DataFrame, name: str) -> "pd.Series[bool]":
    return cells["flags"].map(lambda names: name in str(names).split(";")).astype(bool)


def counted_cells(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells that summaries and verdicts use: valid ones, and of these the undisturbed ones if the point has any.

    The readings that show a disturbance say nothing about the result, so leaving these cells out favours nobody.
    """
    valid = cells[cells["status"] == "ok"]
    disturbed = has_flag(valid, "disturbed")
    keys = [valid[name].fillna("") for name in POINT]
    some_undisturbed = (~disturbed).groupby(keys, sort=False).transform("any").astype(bool)
    return valid[~disturbed | ~some_undisturbed]


def has_main_yardstick(cells: pd.DataFrame) -> "pd.Series[bool]":
    """Which cells compare with each other: for each machine, those with the kernel, compiler, wrk and reference that
    most of its cells with a ratio have."""
    yardsticks, machines = (cells[name].fillna("").to_numpy() for name in ("yardstick", "machine"))
    is_known = cells[RATIOS].notna().any(axis=1).to_numpy()
    is_main = np.zeros(len(cells), bool)
    for machine in dict.fromkeys(machines):
        its = machines == machine
        counts = Counter(yardsticks[its & is_known])
        is_main |= its & (yardsticks == counts.most_common(1)[0][0]) if counts else its
    return pd.Series(is_main, cells.index, dtype=bool)


def of_main_yardstick(cells: pd.DataFrame) -> pd.DataFrame:
    return cells[has_main_yardstick(cells)]


def _summarize_point(cells: pd.DataFrame) -> dict[str, Any]:
    """One row of the summary, from the cells of one machine, server and number of connections.

    Only valid cells enter its figures; the others are counted.
    """
    valid = counted_cells(cells)
    row: dict[str, Any] = {
        f"repeats_{status}": int((cells["status"] == status).sum()) for status in STATUSES
    }
    flags = sorted({flag for text in cells["flags"] for flag in text.split(";") if flag})
    row["flags"] = ";".join(flags)
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
    for name in (*AVERAGED, *RATIOS):
        values = valid[name].astype(float)
        if name in RATIOS:
            values = values.dropna()
        if not values.empty:
            row |= _with_interval(name, geometric_mean(values), values)
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
    row["disturbed_share"] = has_flag(cells[cells["status"] == "ok"], "disturbed").mean()
    row["cpus_shared"] = has_flag(valid, "shared_cpus").any()
    row["limiter"] = limiter_of(row)
    row[REFERENCE_RATE] = geometric_mean(valid[REFERENCE_RATE])
    return row


def limiter_of(point: dict[str, Any]) -> str:
    """What kept a point's throughput from being higher, from its medians over valid repeats.

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
    compare = has_main_yardstick(cells)
    cells = cells.assign(**{name: cells[name].where(compare) for name in RATIOS})
    rows = [
        {**dict(zip(POINT, point, strict=True)), **_summarize_point(point_cells)}
        for point, point_cells in cells.groupby(POINT, sort=False, dropna=False)
    ]
    return pd.DataFrame(rows, columns=SUMMARY_COLUMNS)


def reference_rates(summary: pd.DataFrame) -> "pd.Series[float]":
    """Requests per second of the reference by the number of connections: geometric mean over all servers' rows."""
    known = summary.dropna(subset=[REFERENCE_RATE])
    return known.groupby("connections")[REFERENCE_RATE].agg(geometric_mean)


def without_control(table: pd.DataFrame) -> pd.DataFrame:
    return table[~table["server"].map(is_control).astype(bool)]


# In a word or three, why a server has no result.
NO_RESULT = {"failed": "failed", "invalid": "no valid run", "unavailable": "unavailable"}


def status_without_result(points: pd.DataFrame) -> str:
    """The status that stands for one server's points, none of which has a valid cell."""
    for status in ("failed", "invalid"):
        if (points[f"repeats_{status}"] > 0).any():
            return status
    return "unavailable"


def describe_no_result(points: pd.DataFrame) -> str:
    return NO_RESULT[status_without_result(points)]


def failure_notes(summary: pd.DataFrame) -> list[str]:
    """A sentence for each server that failed or is unavailable: in how many of its cells, and why; and one for each
    server whose cells are all invalid."""
    notes = []
    for server, points in summary.groupby("server", sort=False):
        cells = points[[f"repeats_{status}" for status in STATUSES]].sum().sum()
        for status, said in (("failed", "failed"), ("unavailable", "is unavailable")):
            its = points[points[f"repeats_{status}"] > 0]
            if its.empty:
                continue
            count = its[f"repeats_{status}"].sum()
            reasons = list(dict.fromkeys(filter(None, its["reason"]))) or ["see results/cells"]
            reason = textwrap.shorten(reasons[0], LONGEST_REASON, placeholder=" …")
            more = f" (other reasons: {len(reasons) - 1}, in summary.csv)" if reasons[1:] else ""
            notes.append(f"{server} {said} in {count} of {cells} cells: {reason}{more}.")
        if points["repeats_invalid"].sum() == cells:
            raised = {name for text in points["flags"] for name in text.split(";")}
            why = ", ".join(invalidating(raised))
            notes.append(f"{server} has no valid cell of {cells}: {why}.")
    return notes


def main_machine(summary: pd.DataFrame) -> str:
    """The machine with most valid cells: the one that is drawn where there are several."""
    return str(summary.groupby("machine", sort=False)["repeats_ok"].sum().idxmax())


def of_main_machine(
    cells: pd.DataFrame, summary: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """The rows of the machine that most cells are of, and a note: of others, which are never mixed, and of the
    network, if it is not loopback."""
    main = main_machine(summary)
    others = int((cells["machine"] != main).sum())
    cells = cells[cells["machine"] == main]
    networks = set(cells["network"]) - {LOOPBACK}
    note = f"Measured {', '.join(sorted(networks))}. " if networks else ""
    if others:
        note += f"This shows machine {main} alone: {others} cells of other machines are left out"
        note += " (to measure all cells here, delete results/cells)."
    return cells, summary[summary["machine"] == main], note.strip()


def choose_single_runs(cells: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Cells to draw or list one by one, and a note if these are not all: more points would hide each other. The choice
    does not depend on results."""
    repeats = cells["repeat"].max()
    if not repeats > MOST_SHOWN_REPEATS:
        return cells, ""
    note = f"Single runs: the first {MOST_SHOWN_REPEATS} of {repeats} repeats."
    return cells[cells["repeat"] <= MOST_SHOWN_REPEATS], note


def write_table(table: pd.DataFrame, path: str) -> None:
    """Write CSV, with more digits than any figure is precise to."""
    with files.replacing(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.9g")
