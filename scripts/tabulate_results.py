#!/usr/bin/env python3
"""The table at the end: each server at its best, one line each, and what to know before believing it."""

import argparse
import sys
from collections.abc import Mapping
from typing import Any

import comparisons
import faults
import files
import findings
import flags
import pandas as pd
import tables
from cells import is_control

RATIO = "CPU / reference"
COLUMNS = ["server", "requests/s", "95 % interval", "at connections"]
COLUMNS += ["p99 µs", "CPU µs/request", RATIO, "limited by", "unserved"]
UNAVAILABLE = "-"
LIMITED_BY = {
    "server-bound": "server",
    "client-bound": "wrk",
    "latency-bound": "round trip",
    "shared-cpus": "shared CPUs",
    "disturbed": "disturbance",
    "starving": "starving",
}
# Told in the notes; the others are seen in the table, or are what limits a point.
TOLD = {flag.name for flag in flags.FLAGS} - {
    "unserved_connections",
    "client_saturated",
    "server_not_saturated",
    "littles_law",
}


def best_point(points: pd.DataFrame) -> dict[str, Any] | None:
    """The row of the highest throughput, of one server's summary; None if it has no valid cell.

    Where connections starved only if they did everywhere: that is not what the server does for all of them.
    """
    valid = points.dropna(subset=["requests_per_second"])
    served = valid[valid["limiter"] != "starving"]
    measured = (valid if served.empty else served).to_dict("records")
    return max(measured, key=lambda row: row["requests_per_second"], default=None)  # type: ignore[return-value]


def _row(server: str, points: pd.DataFrame) -> dict[str, str]:
    best = best_point(points)
    # At the largest number of connections: at its best point a server often has but one.
    last = (
        points.dropna(subset=["requests_per_second"])
        .tail(1)
        .dropna(subset=["unserved_connections"])
    )
    unserved = "".join(
        f"{row.unserved_connections:,.0f} of {row.connections:,}" for row in last.itertuples()
    )
    if best is None:
        return {"server": server, "requests/s": tables.why_no_result(points)}
    low, high = best["requests_per_second_low"], best["requests_per_second_high"]
    cpu_ns = best["server_cpu_ns_per_request"]
    return {
        "server": server,
        "requests/s": f"{'≥ ' if best['limiter'] == 'client-bound' else ''}{best['requests_per_second']:,.0f}",
        "95 % interval": f"{low:,.0f}–{high:,.0f}" if pd.notna(low) else UNAVAILABLE,
        "at connections": f"{best['connections']:,}",
        "p99 µs": f"{best['latency_p99_us']:,.0f}",
        "CPU µs/request": f"{cpu_ns / 1000:.2f}" if pd.notna(cpu_ns) else UNAVAILABLE,
        "limited by": LIMITED_BY[best["limiter"]],
        "unserved": unserved or UNAVAILABLE,
    }


def ratios_of(cells: pd.DataFrame) -> dict[str, str]:
    """Server → CPU time per request as ratio to the reference's, over all points, as text; without unknown ones."""
    found = {}
    points = cells["connections"].nunique()
    served = tables.of_main_yardstick(tables.counted_cells(cells))
    served = served[served["unserved_connections"].fillna(0) == 0].dropna(subset=["cpu_ratio"])
    for server, its in served.groupby("server"):
        if its["connections"].nunique() < points:  # means over other points are of other things
            continue
        ratio, low, high = tables.mean_over_points(its, "cpu_ratio")
        if pd.notna(ratio):
            interval = f" ({low:.2f}–{high:.2f})" if pd.notna(low) else ""
            found[str(server)] = f"{ratio:.2f}{interval}"
    return found


def _notes(summary: pd.DataFrame) -> list[str]:
    """A line for each thing that a reader of the table must know, with how many points it concerns."""
    notes = [
        "Each server at its highest throughput, with its interval over repeats; ≥: wrk was the limit, the server"
        " could do more; unserved: connections that never got a response, at the largest number of connections.",
        "wrk's loop is closed, so p99 is no response time of users who come whether or not the server is ready.",
    ]
    raised = summary["flags"].fillna("").str.split(";")
    for flag in flags.FLAGS:
        count = sum(flag.name in names for names in raised)
        if flag.name in TOLD and count:
            effect = "invalid, not counted" if flag.invalidates else "counted"
            notes.append(
                f"{flag.name} at {count} of {len(summary)} points ({effect}): {flag.meaning}. {flag.hint}."
            )
    return notes + tables.failure_notes(summary)


def aligned(table: pd.DataFrame) -> list[str]:
    """A table as lines: its header, what underlines each column, and a line a row, the first column to the left.

    Two spaces apart, which no cell has: the console finds columns and cells again by that.
    """
    widths = [max(len(str(value)) for value in [name, *table[name]]) for name in table.columns]
    lines = []
    for cells in [list(table.columns), *table.itertuples(index=False)]:
        first, *others = (str(cell) for cell in cells)
        line = first.ljust(widths[0])
        line += "".join(
            f"  {cell.rjust(width)}" for cell, width in zip(others, widths[1:], strict=True)
        )
        lines.append(line)
    lines.insert(1, "  ".join("-" * width for width in widths))
    return lines


def answer_of(verdicts: pd.DataFrame, summary: pd.DataFrame, cells: pd.DataFrame) -> str:
    """Who is first, of the machine that is shown, in a sentence for each metric; empty without verdicts. And how many
    of its cells these do not rest on."""
    its = verdicts[verdicts["machine"] == tables.main_machine(summary)]
    servers = [str(name) for name in summary["server"].unique() if not is_control(str(name))]
    limited = set(summary[summary["limiter"] == "client-bound"]["server"])
    found = [findings.find(its, metric, servers, limited) for metric in comparisons.BETTER_SIGN]
    said = [findings.best_sentence(one) for one in found if len(its)]
    left_out = len(cells) - len(tables.of_main_yardstick(cells))
    if left_out:
        said.append(
            f"{left_out} of {len(cells)} cells were {comparisons.OTHER_YARDSTICK}, and are in no verdict: delete their"
            " records to measure them again."
        )
    return "\n".join(said)


def tabulate(
    summary: pd.DataFrame, ratios: Mapping[str, str] | None = None, answer: str = ""
) -> str:
    """The table as text and, below it, the answer and a line for each note. `ratios`: of ratios_of."""
    main = summary[summary["machine"] == tables.main_machine(summary)]
    compared = tables.without_control(main)
    empty = dict.fromkeys(COLUMNS, UNAVAILABLE)
    rows = [
        empty | _row(str(server), points)
        for server, points in compared.groupby("server", sort=False)
    ]
    table = pd.DataFrame(rows)
    notes = _notes(main)
    if ratios:
        table[RATIO] = [ratios.get(server, UNAVAILABLE) for server in table["server"]]
        notes.insert(
            1,
            f"{RATIO}: CPU time per request as ratio to a loop that only receives and sends, measured in turns with it,"
            " over all numbers of connections, with its 95 % interval.",
        )
    else:
        table = table.drop(columns=RATIO)
    lines = aligned(table)
    if len(main) < len(summary):
        notes.append(
            f"{len(summary) - len(main)} points are of other machines than {main['machine'].iloc[0]} "
            "and are not in this table; they are never mixed."
        )
    answers = [answer, ""] if answer else []
    return "\n".join([*lines, "", *answers, *notes]) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", help="results/cells.csv")
    parser.add_argument("summary", help="results/summary.csv")
    parser.add_argument("verdicts", help="results/verdicts.csv")
    parser.add_argument("output", help="the text to write")
    arguments = parser.parse_args()
    summary = tables.read_summary(arguments.summary)
    cells = tables.read_cell_table(arguments.cells)
    cells = cells[cells["machine"] == tables.main_machine(summary)]
    ratios = ratios_of(cells)
    answer = answer_of(comparisons.read_verdicts(arguments.verdicts), summary, cells)
    files.write_text(arguments.output, tabulate(summary, ratios, answer))
    return 0


if __name__ == "__main__":
    sys.exit(faults.told(main))
