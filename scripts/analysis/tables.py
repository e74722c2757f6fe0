"""The tables in results/: read and check them, and choose the cells that count (docs/results.md)."""

import math
import textwrap
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from common import files
from common.files import DamagedFile
from sweep import fields, rated_fields, rows
from sweep.cells import is_control
from sweep.fields import STATUSES
from sweep.flags import invalidating
from sweep.rows import CELL_COLUMNS, LARGEST_NUMBER, LOOPBACK, POSITIVE, SERVER_NAME, is_text
from sweep.workloads import CPU_RATIO

MOST_SHOWN_REPEATS = 20
LONGEST_REASON = 300  # in a note

POINT = ["machine", "workload", "server", "connections"]

# From the paired phase; some cells have none.
RATIOS = ["cpu_ratio", "throughput_ratio"]
REFERENCE_RATE = "reference_requests_per_second"

COUNTS = [field.name for field in fields.CELLS if field.kind == fields.COUNT]
NUMBERS = [field.name for field in fields.CELLS if field.kind == fields.NUMBER]
# Kinds of columns by name, in all tables; all others hold numbers.
KINDS = {column.name: column.kind for column in (*fields.COLUMNS, *rated_fields.COLUMNS)}
# Of syscalls.csv, compare.csv and compare_facts.csv.
KINDS |= dict.fromkeys(["kind", "name", "binary", "machine_baseline", "fact"], fields.TEXT)
KINDS |= dict.fromkeys(["baseline", "current"], fields.TEXT)
TEXT_KINDS = (fields.NAME, fields.TEXT, fields.FLAGS)


def cell_table(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Records → a row a cell, as sweep.rows.make_row()."""
    table = pd.DataFrame(map(rows.make_row, records), columns=CELL_COLUMNS)
    return table.astype(dict.fromkeys(COUNTS, "Int64") | dict.fromkeys(NUMBERS, "float"))


def _lack_sense(name: str, values: "pd.Series[Any]") -> "pd.Series[bool]":
    """Which values of a table's column, none of them empty, do not fit."""
    kind = KINDS.get(name, fields.NUMBER)
    if kind == fields.NAME:
        return ~values.map(lambda value: bool(SERVER_NAME.fullmatch(str(value)))).astype(bool)
    if kind in TEXT_KINDS:
        return ~values.map(is_text).astype(bool)
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    sensible = numbers.between(1 if name == "connections" else -LARGEST_NUMBER, LARGEST_NUMBER)
    if name in POSITIVE:
        sensible &= numbers > 0
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


def geometric_mean(values: "pd.Series[float]") -> float:
    """Mean of the known values; NaN if none is known."""
    return float(np.exp(np.log(values.dropna().astype(float)).mean()))


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
    """Which cells compare with each other: for each machine and workload, those with the kernel, compiler, wrk and
    reference that most of its cells with a ratio have, or all its cells if no ratio decides."""
    yardsticks = cells["yardstick"].fillna("").to_numpy()
    groups = (cells["machine"].fillna("") + " " + cells["workload"]).to_numpy()
    has_ratio = cells[RATIOS].notna().any(axis=1)
    is_known = (has_ratio | (cells["decided_by"] != CPU_RATIO)).to_numpy()
    is_main = np.zeros(len(cells), bool)
    for group in dict.fromkeys(groups):
        its = groups == group
        counts = Counter(yardsticks[its & is_known])
        is_main |= its & (yardsticks == counts.most_common(1)[0][0]) if counts else its
    return pd.Series(is_main, cells.index, dtype=bool)


def of_main_yardstick(cells: pd.DataFrame) -> pd.DataFrame:
    return cells[has_main_yardstick(cells)]


def workloads_of(table: pd.DataFrame) -> list[str]:
    """The workloads in the order of the sweep, those that CPU time decides first: most pictures show one."""
    names = [str(name) for name in table["workload"].unique()]
    by_cpu = set(table.loc[table["decided_by"] == CPU_RATIO, "workload"])
    return sorted(names, key=lambda name: name not in by_cpu)


def of_first_workload(*of_sweep: pd.DataFrame) -> list[pd.DataFrame]:
    """Rows of the sweep's first workload; the first table must say what decides."""
    first = workloads_of(of_sweep[0])[0]
    return [table[table["workload"] == first] for table in of_sweep]


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


def to_draw(cells: pd.DataFrame, summary: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """As of_main_machine(), but with the cells that choose_single_runs() chooses."""
    cells, summary, note = of_main_machine(cells, summary)
    cells, repeats_note = choose_single_runs(cells)
    return cells, summary, f"{note} {repeats_note}".strip()


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
