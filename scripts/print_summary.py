#!/usr/bin/env python3
"""Write the table that ends a sweep: each server at its highest throughput, and what limits the conclusions."""

import sys
from collections.abc import Mapping, Sequence

import pandas as pd

from analysis import findings, program, tables, workload_map
from analysis.summary import best_point, read_summary
from analysis.verdicts import read_verdicts, yardstick_note
from common import terminal
from common.terminal import UNAVAILABLE, Color, Part
from drawing.palette import LIMITERS
from sweep import flags

RATIO = "CPU / reference"
COLUMNS = ["server", "requests/s", "95 % interval", "at connections"]
COLUMNS += ["p99 µs", "CPU µs/request", RATIO, "limited by", "unserved"]
# Columns that a narrow terminal goes without, the least important first.
SPARE = ["p99 µs", "at connections", "95 % interval", "CPU µs/request", "limited by", RATIO]
LIMITER_COLORS = {
    "server-bound": Color.GREEN,
    "client-bound": Color.YELLOW,
    "latency-bound": Color.BLUE,
    "shared-cpus": Color.PURPLE,
    "disturbed": Color.GREY,
    "starving": Color.RED,
}
# Flags that the notes explain; the table shows the others, or they are limiters.
EXPLAINED = {flag.name for flag in flags.FLAGS} - {
    "unserved_connections",
    "client_saturated",
    "server_not_saturated",
    "littles_law",
}


def _format_unserved(points: pd.DataFrame) -> Part:
    """At the largest number of connections: at its best point a server often has only one."""
    known = points.dropna(subset=["requests_per_second"]).tail(1)
    last = known.dropna(subset=["unserved_connections"]).to_dict("records")
    if not last:
        return Part(UNAVAILABLE)
    unserved, connections = last[0]["unserved_connections"], last[0]["connections"]
    return Part(f"{unserved:,.0f} of {connections:,}", Color.RED if unserved else Color.NONE)


def _row(server: str, points: pd.DataFrame) -> dict[str, Part]:
    best = best_point(points)
    if best is None:
        status = tables.status_without_result(points)
        color = Color.GREY if status == "unavailable" else Color.RED
        return {"server": Part(server), "requests/s": Part(tables.NO_RESULT[status], color)}
    low, high = best["requests_per_second_low"], best["requests_per_second_high"]
    cpu_ns = best["server_cpu_ns_per_request"]
    rate = f"{best['requests_per_second']:,.0f}"
    is_bound = best["limiter"] == "client-bound"
    return {
        "server": Part(server),
        "requests/s": Part(f"≥ {rate}", Color.YELLOW) if is_bound else Part(rate),
        "95 % interval": Part(f"{low:,.0f}–{high:,.0f}" if pd.notna(low) else UNAVAILABLE),
        "at connections": Part(f"{best['connections']:,}"),
        "p99 µs": Part(f"{best['latency_p99_us']:,.0f}"),
        "CPU µs/request": Part(f"{cpu_ns / 1000:.2f}" if pd.notna(cpu_ns) else UNAVAILABLE),
        "limited by": Part(LIMITERS[best["limiter"]].word, LIMITER_COLORS[best["limiter"]]),
        "unserved": _format_unserved(points),
    }


def ratios_of(cells: pd.DataFrame) -> dict[str, str]:
    """Server → the ratio of its CPU time per request to the reference's over all points, as text.

    Servers without a known ratio, or with fewer points than others, are left out.
    """
    ratios = {}
    served = tables.of_main_yardstick(tables.counted_cells(cells))
    served = served[served["unserved_connections"].fillna(0) == 0].dropna(subset=["cpu_ratio"])
    for server, its in served.groupby("server"):
        ratio, low, high = tables.mean_over_points(its, "cpu_ratio")
        if its["connections"].nunique() == cells["connections"].nunique():
            interval = f" ({low:.2f}–{high:.2f})" if pd.notna(low) else ""
            ratios[str(server)] = f"{ratio:.2f}{interval}"
    return ratios


def _notes(summary: pd.DataFrame) -> list[str]:
    """What a reader of the table must know, a line each, with the number of points that it affects."""
    notes = [
        "Each server is shown at its highest throughput, with the interval over repeats. ≥: wrk was the limit, so the"
        " server could do more. unserved: connections that never got a response, at the largest number of connections.",
        "wrk runs a closed loop: p99 is not the response time of users who arrive whether or not the server is ready.",
    ]
    raised = summary["flags"].fillna("").str.split(";")
    for flag in flags.FLAGS:
        count = sum(flag.name in names for names in raised)
        if flag.name in EXPLAINED and count:
            effect = "whose cells do not count" if flag.invalidates else "whose cells still count"
            hint = flag.hint[0].upper() + flag.hint[1:]
            notes.append(
                f"{flag.name} at {count} of {len(summary)} points, {effect}: {flag.meaning}. {hint}."
            )
    return notes + tables.failure_notes(summary)


def answer_of(verdicts: pd.DataFrame, summary: pd.DataFrame, cells: pd.DataFrame) -> list[str]:
    """Which server is first on the machine that is shown, a sentence for each metric, and how many of the machine's
    cells no verdict uses; empty without verdicts."""
    its = verdicts[verdicts["machine"] == tables.main_machine(summary)]
    found = workload_map.findings_of(summary, its)
    sentences = [findings.best_sentence(one) for by in found.values() for one in by.values()]
    return [*sentences, *filter(None, [yardstick_note(cells)])]


def tabulate(
    summary: pd.DataFrame,
    ratios: Mapping[str, str] | None = None,
    answer: Sequence[str] = (),
) -> terminal.Table:
    """The table; its notes begin with the answer. ratios: as ratios_of()."""
    main = summary[summary["machine"] == tables.main_machine(summary)]
    compared = tables.without_control(main)
    columns = [name for name in COLUMNS if ratios or name != RATIO]
    notes = _notes(main)
    if ratios:
        notes.insert(
            1,
            f"{RATIO}: CPU time per request divided by that of the reference, a bare receive/send loop measured in"
            " turns with the server; over all numbers of connections, with its 95 % interval.",
        )
    if len(main) < len(summary):
        notes.append(
            f"This table shows machine {main['machine'].iloc[0]} alone. It leaves out"
            f" {len(summary) - len(main)} points of other machines: machines are never mixed."
        )
    rows = []
    for server, points in compared.groupby("server", sort=False):
        row = _row(str(server), points)
        row[RATIO] = Part((ratios or {}).get(str(server), UNAVAILABLE))
        rows.append([row.get(name, Part(UNAVAILABLE)) for name in columns])
    return terminal.Table(columns, rows, [*answer, *([""] if answer else []), *notes], SPARE)


def write(cells: pd.DataFrame, summary: pd.DataFrame, verdicts: pd.DataFrame, path: str) -> None:
    said = workload_map.sentences(summary, verdicts)
    others = [f"{workload}: {sentence}" for workload, sentence in said.items()]
    cells, summary, verdicts = tables.of_first_workload(cells, summary, verdicts)
    cells = cells[cells["machine"] == tables.main_machine(summary)]
    answer = answer_of(verdicts, summary, cells)
    terminal.write_table(tabulate(summary, ratios_of(cells), [*answer, *others[1:]]), path)


main = program.of_tables(
    __doc__,
    write,
    "the text to write, beside it its values as JSON",
    cells=tables.read_cell_table,
    summary=read_summary,
    verdicts=read_verdicts,
)

if __name__ == "__main__":
    sys.exit(main())
