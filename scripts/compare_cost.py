#!/usr/bin/env python3
"""Records of the benchmark of cost → results/cost.csv: CPU time per request as ratio to a loop that looks at nothing.

A server is compared with the baseline (servers/ceiling.c) within a block: the runs of one machine, run of the workflow,
number of connections and repeat, which the machine's drift has met alike. Nothing is assumed of how ratios vary.
"""

import argparse
import sys
from typing import Any

import cell_rows
import faults
import files
import flags
import numpy as np
import pandas as pd
import records
import tables
from cells import CEILING, Cell, cost_record_path
from scipy.stats import quantile_test
from tabulate_results import UNAVAILABLE, aligned

COST = "server_cpu_ns_per_request"
BLOCK = ["machine", "sweep", "connections", "repeat"]
COLUMNS = ["machine", "server", "connections", "status", "cpu_ns_per_request"]
COLUMNS += ["ratio", "ratio_low", "ratio_high", "pairs"]
COLUMNS += ["runs", "invalid", "disturbed", "starving", "failed", "unavailable"]
COLUMNS += ["unserved_connections", "client_cpu_share", "reason"]

# Of a point without a valid run: that of its runs which says most.
EMPTY_STATUSES = ("failed", "unavailable", "invalid")


def median_interval_95(values: "pd.Series[float]") -> tuple[float, float]:
    """95 % interval of the median, of any distribution: two of the values; NaN for fewer than six.

    From the binomial distribution of how many values lie below the median: the 4th and the 12th of 15 (Conover,
    "Practical Nonparametric Statistics", 3rd ed. 1999, section 3.2; scipy.stats.quantile_test).
    """
    if values.empty:
        return np.nan, np.nan
    interval = quantile_test(values.to_numpy(float), p=0.5).confidence_interval(0.95)
    return float(interval.low), float(interval.high)


def served_runs(cells: pd.DataFrame) -> pd.DataFrame:
    """The runs that count and in which no connection is known to have starved: others had another workload."""
    counted = tables.counted_cells(cells)
    short = tables.has_flag(counted, "connection_per_request")
    return counted[(counted["unserved_connections"].fillna(0) == 0) & ~short]


def with_ratios(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells with `ratio`, to the baseline's run in the same block; NaN where one of the two has no run that counts."""
    served = served_runs(cells)
    baseline = served[served["server"] == CEILING].set_index(BLOCK)[COST]
    paired = served.join(baseline.rename("baseline"), on=BLOCK)
    return cells.assign(ratio=paired[COST] / paired["baseline"])


def _status_of(cells: pd.DataFrame) -> str:
    valid = cells[cells["status"] == "ok"]
    if valid.empty:
        return next(status for status in EMPTY_STATUSES if (cells["status"] == status).any())
    if tables.has_flag(valid, "connection_per_request").any():
        return "other_workload"
    if (valid["unserved_connections"] > 0).all():
        return "starving"
    return "disturbed" if tables.has_flag(valid, "disturbed").all() else "ok"


def _invalidating_flags(cells: pd.DataFrame) -> str:
    raised = {flag for text in cells["flags"] for flag in text.split(";")}
    return ", ".join(flags.invalidating(raised))


def _reasons(row: dict[str, Any], cells: pd.DataFrame, baseline: str) -> list[str]:
    """What a reader of a point's row must know; baseline: its status, empty if there is none."""
    reasons = list(cells["reason"][cells["status"] == "unavailable"].unique())
    if row["failed"]:
        why = "; ".join(cells["reason"][cells["status"] == "failed"].unique())
        reasons.append(f"{row['failed']} of {row['runs']} runs failed: {why}")
    if row["invalid"]:
        why = _invalidating_flags(cells[cells["status"] == "invalid"])
        reasons.append(f"{row['invalid']} of {row['runs']} runs invalid: {why}")
    if row["starving"]:
        reasons.append(
            f"{row['unserved_connections']} of {row['connections']} connections were never served:"
            " another workload"
        )
    if row["status"] == "other_workload":
        reasons.append("each request has a connection of its own: another workload")
    if row["status"] == "disturbed":
        reasons.append(
            "every valid run was disturbed: delete results/cost, and run again when the machine is idle"
        )
    elif baseline == "disturbed":
        reasons.append("every valid run of the baseline was disturbed")
    if row["status"] in ("ok", "disturbed"):
        served = len(served_runs(cells))
        if baseline not in ("ok", "disturbed"):
            reasons.append("the baseline has no run that counts")
        elif row["pairs"] < served:
            reasons.append(
                f"{served - row['pairs']} of {served} runs without one of the baseline in the same block"
                " and run of the workflow: to measure all together, delete results/cost"
            )
        if row["status"] == "ok" and row["disturbed"]:
            reasons.append(f"{row['disturbed']} of {row['runs']} runs disturbed, left out")
        if row["pairs"] < 6 and cells["server"].iloc[0] != CEILING:
            reasons.append("fewer than 6 pairs: no interval")
    return reasons


def _summarize_point(cells: pd.DataFrame, baseline: str) -> dict[str, Any]:
    """A row but for its identity, from the runs of one machine, server and number of connections."""
    counted = tables.counted_cells(cells)
    served = served_runs(cells)
    ratios = cells["ratio"].dropna()
    is_baseline = cells["server"].iloc[0] == CEILING
    low, high = (np.nan, np.nan) if is_baseline else median_interval_95(ratios)
    valid = cells[cells["status"] == "ok"]
    row = {
        "connections": cells["connections"].iloc[0],
        "status": _status_of(cells),
        "cpu_ns_per_request": (counted if served.empty else served)[COST].median(),
        "ratio": ratios.median(),
        "ratio_low": low,
        "ratio_high": high,
        "pairs": len(ratios),
        "runs": len(cells),
        "invalid": int((cells["status"] == "invalid").sum()),
        "disturbed": int(tables.has_flag(valid, "disturbed").sum()),
        "starving": int((valid["unserved_connections"] > 0).sum()),
        "failed": int((cells["status"] == "failed").sum()),
        "unavailable": int((cells["status"] == "unavailable").sum()),
        "unserved_connections": valid["unserved_connections"].max(),
        "client_cpu_share": counted["client_cpu_share"].median(),
    }
    return {**row, "reason": "; ".join(_reasons(row, cells, baseline))}


def cost_table(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells with ratios → a row for each machine, server and number of connections, in the order in which they come."""
    baselines = cells[cells["server"] == CEILING].groupby(["machine", "connections"])
    statuses = {point: _status_of(its_cells) for point, its_cells in baselines}
    rows = []
    for (machine, server, connections), its_cells in cells.groupby(tables.POINT, sort=False):
        row = _summarize_point(its_cells, statuses.get((machine, connections), ""))
        rows.append({**row, "machine": machine, "server": server})
    return pd.DataFrame(rows, columns=COLUMNS)


def _line_of(point: dict[Any, Any]) -> dict[str, str]:
    has_ratio, has_interval = pd.notna(point["ratio"]), pd.notna(point["ratio_low"])
    cost = point["cpu_ns_per_request"]
    interval = f"{point['ratio_low']:.3f}–{point['ratio_high']:.3f}"
    return {
        "server": point["server"],
        "connections": f"{point['connections']:,}",
        "CPU ns/request": f"{cost:,.0f}" if pd.notna(cost) else UNAVAILABLE,
        "ratio": f"{point['ratio']:.3f}" if has_ratio else UNAVAILABLE,
        "95 % interval": interval if has_interval else UNAVAILABLE,
        "pairs": str(point["pairs"]),
        "status": point["status"],
    }


def tabulate(table: pd.DataFrame) -> str:
    """The table for the console: the cheapest first at each number of connections, and what to know of the rows."""
    main = table[table["machine"] == tables.main_machine(table, "runs")].sort_values(
        ["connections", "ratio"]
    )
    lines = aligned(pd.DataFrame([_line_of(point) for point in main.to_dict("records")]))
    lines += [
        "",
        "CPU time per request on one CPU; ratio: median over blocks of that to the loop which only receives and sends",
        f"({CEILING}), with the exact interval of the median. Below 1 is possible: another I/O model than that loop's.",
    ]
    for reason, points in main[main["reason"] != ""].groupby("reason", sort=False):
        counts = points.groupby("server", sort=False)["connections"]
        whom = [f"{server} at {', '.join(map(str, its))}" for server, its in counts]
        lines.append(f"{'; '.join(whom)}: {reason}.")
    if len(main) < len(table):
        lines.append(
            f"{len(table) - len(main)} rows are of other machines and are not in this table; they are never mixed."
        )
    return "\n".join(lines) + "\n"


def read_cells(servers: list[str], connections: list[int], repeats: int) -> pd.DataFrame:
    """The baseline's and the servers' records as a table of cells."""
    wanted = [
        Cell(server, count, repeat)
        for server in [CEILING, *servers]
        for count in sorted(connections)
        for repeat in range(1, repeats + 1)
    ]
    paths = [cost_record_path(cell) for cell in wanted]
    found = zip(records.read_all(paths), wanted, paths, strict=True)
    return tables.cell_table(cell_rows.checked(*one) for one in found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", help="results/cost.csv to write")
    parser.add_argument("cells", help="the table of its cells to write")
    parser.add_argument("text", help="the table for the console to write")
    parser.add_argument("--servers", nargs="+", required=True)
    parser.add_argument("--connections", type=int, nargs="+", required=True)
    parser.add_argument("--repeats", type=int, required=True)
    arguments = parser.parse_args()
    cells = with_ratios(read_cells(arguments.servers, arguments.connections, arguments.repeats))
    table = cost_table(cells)
    tables.write_table(cells, arguments.cells)
    tables.write_table(table, arguments.table)
    files.write_text(arguments.text, tabulate(table))
    return 0


if __name__ == "__main__":
    sys.exit(faults.told(main))
