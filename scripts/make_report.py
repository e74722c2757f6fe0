#!/usr/bin/env python3
"""Write the report: one self-contained HTML file, from the tables and profiles of a sweep.

Reads results/ and plots/ of the working directory: tables, profiles, flamegraphs, and one record of each server.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import findings, latency, ranking, tables, workload_map
from analysis.summary import best_point, read_summary
from analysis.verdicts import CPU_RATIO, read_verdicts
from common import files
from common.command import report
from drawing import palette
from page import caveats, charts, rated_charts
from page.profiles import profile_of
from page.render import _base64, render, table_of
from sweep import records
from sweep.cells import Cell, record_path
from sweep.workloads import picture_suffix

# Tables that the report offers as files to download.
DOWNLOADS = ["cells", "summary", "verdicts", "syscalls"]
OPEN_LOOP = [
    "results/latency.csv",
    "results/latency_summary.csv",
    "results/latency_limits.csv",
]
SHOWN_OF_CELLS = [
    "server",
    "workload",
    "connections",
    "repeat",
    "status",
    "flags",
    "requests_per_second",
    "latency_p50_us",
    "latency_p99_us",
    "latency_max_us",
    "server_cpu_ns_per_request",
    "server_cpu_share",
    "client_cpu_share",
    "unserved_connections",
    "fairness_jain",
    "attempts",
    "position",
]
SHOWN_OF_POINTS = [
    "server",
    "workload",
    "connections",
    "repeats_ok",
    "requests_per_second",
    "requests_per_second_low",
    "requests_per_second_high",
    "latency_p50_us",
    "latency_p99_us",
    "server_cpu_ns_per_request",
    "server_cpu_ns_per_request_low",
    "server_cpu_ns_per_request_high",
    "limiter",
    "unserved_connections",
    "fairness_jain",
    "flags",
]


def facts_of(cells: pd.DataFrame, machine: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A machine's facts, and one record of each of its servers: its first valid cell, if it has one."""
    first = cells[cells["machine"] == machine].sort_values(
        "status", key=lambda status: status != "ok", kind="stable"
    )
    named = first.drop_duplicates("server")[[*Cell._fields]].itertuples(index=False)
    samples = [records.read(record_path(Cell(*cell))) for cell in named]
    return samples[0]["facts"], samples


def shorten_command(command: list[str]) -> str:
    """A command whose paths begin at results/ or scripts/, not at the root."""
    return " ".join(re.sub("^/(.*/)?(?=results/bin/|scripts/)", "", word) for word in command)


def flatten_facts(facts: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Sections of machine.json → their fields as text."""
    return {
        section: [(name, _text(value)) for name, value in fields.items()]
        for section, fields in facts.items()
        if isinstance(fields, dict)
    }


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(part)}" for name, part in value.items())
    if isinstance(value, list):
        return " ".join(_text(part) for part in value)
    return "none" if value is None else str(value)


NOBODY = {"left": "", "right": ""}


def choose_pair(finding: findings.Finding, profiles: list[dict[str, Any]]) -> dict[str, str]:
    """The servers whose flamegraphs the page shows first: those of the answer, if they have flamegraphs."""
    names = [str(profile["server"]) for profile in profiles]
    published = [str(profile["server"]) for profile in profiles if profile["status"] == "ok"]
    pair = {"left": finding.ahead, "right": finding.runner_up}
    either = published or names
    return {
        side: name if name in either else either[0 if side == "left" else -1]
        for side, name in pair.items()
    }


def best_rows(summary: pd.DataFrame) -> list[dict[str, Any]]:
    """Each server at its highest throughput."""
    return [
        {**best, "limited_by": palette.LIMITERS[best["limiter"]].word}
        if (best := best_point(points))
        else {"server": server, "missing": tables.describe_no_result(points)}
        for server, points in summary.groupby("server", sort=False)
    ]


def profiles_of(
    workload: str, profiled: list[str], servers: list[str], summary: pd.DataFrame
) -> list[dict[str, Any]]:
    """The servers' profiles in a workload; none if it is not one of those profiled."""
    if workload not in profiled:
        return []
    suffix = picture_suffix(workload, profiled)
    by_point = summary.set_index(["server", "connections"])["server_cpu_ns_per_request"]
    cpu_ns = by_point.dropna().to_dict()
    return [profile_of(name, workload, suffix, cpu_ns) for name in servers]


def of_workload(
    column: workload_map.Column,
    profiled: list[str],
    cells: pd.DataFrame,
    summary: pd.DataFrame,
    verdicts: pd.DataFrame,
    syscalls: pd.DataFrame,
) -> dict[str, Any]:
    """What the template shows of one workload. profiled: the names of those that are."""
    compared = tables.without_control(summary)
    servers = [str(server) for server in compared["server"].unique()]
    single, repeats_note = tables.choose_single_runs(cells)
    _, samples = facts_of(cells, str(summary["machine"].iloc[0]))
    found = workload_map.findings_of(summary, verdicts).get(column.workload, {})
    left_out = next(iter(found.values())).left_out if found else []
    # What profiles explain.
    finding = found.get(CPU_RATIO, findings.Finding(CPU_RATIO, [], [], []))
    profiles = profiles_of(column.workload, profiled, servers, summary)
    return {
        "name": column.workload,
        "figure": column.figure,
        "connections": column.connections,
        "is_paired": column.decided_by == CPU_RATIO,
        "load": findings.workload(cells, samples),
        "sentences": [findings.best_sentence(finding) for finding in found.values()],
        "left_out": left_out,
        "caveats": caveats.caveats(cells[cells["server"].isin(servers)], compared, verdicts),
        "best": best_rows(compared),
        "limiter_notes": palette.limiter_notes(compared),
        "ranking_notes": ranking.notes_of(cells, verdicts),
        "has_ceiling": bool(cells[charts.CEILING].any()),
        "latency_note": palette.saturation_note(compared),
        "unserved": compared[compared["unserved_connections"] > 0].to_dict("records"),
        "flagged": caveats.list_flags(cells),
        "commands": [
            (
                record["server"],
                shorten_command(record["server_command"]),
                shorten_command(record["load_command"]),
            )
            for record in samples
            if "server_command" in record
        ],
        "cells_count": len(cells),
        "repeats_note": repeats_note,
        "reasons": findings.reasons(finding, syscalls, profiles) if profiles else [],
        "profiles": profiles,
        "chosen": choose_pair(finding, profiles) if profiles else {},
        "uncounted": syscalls[syscalls["status"] != "ok"][["server", "reason"]].to_dict("records"),
        "charts": charts.of_workload(single, summary, verdicts) | charts.of_calls(syscalls),
    }


def of_open_loop() -> list[dict[str, Any]]:
    """What the template shows of each workload that was measured at fixed rates; nothing if none was."""
    if not all(Path(path).exists() for path in OPEN_LOOP):
        return []
    cells, points, limits = (
        read(path)
        for read, path in zip(
            (latency.read_latencies, latency.read_points, latency.read_limits),
            OPEN_LOOP,
            strict=True,
        )
    )
    shown = []
    for workload in cells["workload"].unique():
        its, its_points, its_limits = (
            table[table["workload"] == workload] for table in (cells, points, limits)
        )
        # Without a cell that counts there is neither a limit nor a chart.
        target_ms = float(its_limits["target_ms"].iloc[0]) if len(its_limits) else 0.0
        shown.append(
            {
                "name": str(workload),
                "connections": int(its["connections"].iloc[0]),
                "sentence": latency.sentence(its_limits, its_points),
                "notes": latency.missing_notes(its),
                "target_ms": target_ms,
                "limits": its_limits.to_dict("records"),
                "charts": rated_charts.of_workload(its_points, latency.counted(its), target_ms),
            }
        )
    return shown


def page_data() -> dict[str, Any]:
    """Everything that the template shows."""
    cells = tables.read_cell_table("results/cells.csv")
    summary = read_summary("results/summary.csv")
    all_machines = list(summary["machine"].unique())
    cells, summary, other_machines = tables.of_main_machine(cells, summary)
    machine = str(summary["machine"].iloc[0])
    verdicts = read_verdicts("results/verdicts.csv")
    verdicts = verdicts[verdicts["machine"] == machine]
    syscalls = tables.read_table("results/syscalls.csv", ["workload"], {"reason": "str"})
    profiled = [str(name) for name in syscalls["workload"].unique()]
    # The page leaves out servers of other machines. (Counts and profiles do not say which machine they are of.)
    syscalls = syscalls[syscalls["server"].isin(summary["server"])]
    compared = tables.without_control(summary)
    servers = [str(name) for name in compared["server"].unique()]
    facts, _ = facts_of(cells, machine)
    single, repeats_note = tables.choose_single_runs(cells)
    whole_map = workload_map.make(summary, verdicts)
    found = workload_map.findings_of(summary, verdicts)
    workloads = [
        of_workload(
            column,
            profiled,
            *(
                its[its["workload"] == column.workload]
                for its in (cells, summary, verdicts, syscalls)
            ),
        )
        for column in whole_map.columns
    ]
    open_loop = of_open_loop()
    return {
        "machine": facts,
        "machine_facts": flatten_facts(facts),
        "other_machines": other_machines if len(all_machines) > 1 else "",
        "map": whole_map,
        "sentences": workload_map.short_sentences(whole_map, found),
        "distance_colors": palette.distance_colors,
        "farthest": palette.FARTHEST_RATIO,
        "workloads": workloads,
        "profiled": profiled,
        "sweeps": sorted(str(name) for name in cells["sweep"].dropna().unique()),
        "servers": [
            {
                "name": name,
                "color": palette.color_of(name),
                "glyph": charts.SHAPES[palette.marker_of(name)][1],
            }
            for name in servers
        ],
        "join": findings.join,
        "limiters": palette.LIMITERS,
        "profiles": {it["name"]: it["profiles"] for it in workloads if it["profiles"]},
        "chosen": next((it["chosen"] for it in workloads if it["profiles"]), NOBODY),
        "seeds": sorted(int(seed) for seed in cells["seed"].dropna().unique()),
        "repeats_note": repeats_note,
        "open_loop": open_loop,
        "charts": {
            f"{it['name']}/{name}": spec
            for it in [*workloads, *open_loop]
            for name, spec in it["charts"].items()
        },
        "tables": {
            "points": table_of(summary, SHOWN_OF_POINTS),
            "runs": table_of(single, SHOWN_OF_CELLS),
        },
        "downloads": {
            name: _base64(Path(f"results/{name}.csv").read_bytes())
            for name in [*DOWNLOADS, *(Path(path).stem for path in OPEN_LOOP if open_loop)]
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", help="the HTML to write")
    arguments = parser.parse_args()
    files.write_text(arguments.output, render(page_data()))
    return 0


if __name__ == "__main__":
    sys.exit(report(main))
