#!/usr/bin/env python3
"""Write the report: one self-contained HTML file, from the tables and profiles of a sweep.

Reads results/ and plots/ of the working directory: tables, profiles, flamegraphs, and one record of each server.
"""

import argparse
import base64
import hashlib
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import comparisons
import faults
import files
import findings
import jinja2
import pandas as pd
import plot_ranking
import plot_style
import records
import report_caveats
import report_charts
import report_profiles
import tables
import vl_convert
from cells import Cell, record_path
from comparisons import CPU_RATIO, THROUGHPUT
from itables.utils import read_package_file
from markupsafe import Markup
from tabulate_results import LIMITED_BY, best_point

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "report"
# Both are inferno's; the second is an attribute of its <svg>.
FLAMEGRAPH_SCRIPT = re.compile(r'<script type="text/ecmascript">(.*?)</script>', re.DOTALL)
FLAMEGRAPH_START = "init(evt)"
# Tables that the report offers as files to download.
DOWNLOADS = ["cells", "summary", "verdicts", "syscalls"]
SHOWN_OF_CELLS = [
    "server",
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
    sections: dict[str, list[tuple[str, str]]] = {}
    for section, fields in facts.items():
        if isinstance(fields, dict):
            sections[section] = [(name, _text(value)) for name, value in fields.items()]
    return sections


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(part)}" for name, part in value.items())
    if isinstance(value, list):
        return " ".join(_text(part) for part in value)
    return "none" if value is None else str(value)


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
    rows = []
    for server, points in summary.groupby("server", sort=False):
        best = best_point(points)
        if best is not None:
            rows.append({**best, "limited_by": LIMITED_BY[best["limiter"]]})
        else:
            rows.append({"server": server, "missing": tables.describe_no_result(points)})
    return rows


def cpu_ns_at(summary: pd.DataFrame, server: str, connections: int | None) -> float | None:
    point = summary[(summary["server"] == server) & (summary["connections"] == connections)]
    rows = point["server_cpu_ns_per_request"].dropna()
    return float(rows.iloc[0]) if len(rows) else None


def page_data(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything that the template shows."""
    cells = tables.read_cell_table("results/cells.csv")
    summary = tables.read_summary("results/summary.csv")
    all_machines = list(summary["machine"].unique())
    cells, summary, other_machines = tables.of_main_machine(cells, summary)
    machine = str(summary["machine"].iloc[0])
    verdicts = comparisons.read_verdicts("results/verdicts.csv")
    verdicts = verdicts[verdicts["machine"] == machine]
    syscalls = tables.read_table("results/syscalls.csv", dtype={"reason": "str"})
    # The page leaves out servers of other machines. (Counts and profiles do not say which machine they are of.)
    syscalls = syscalls[syscalls["server"].isin(summary["server"])]
    compared = tables.without_control(summary)
    servers = [str(name) for name in compared["server"].unique()]
    facts, samples = facts_of(cells, machine)
    profiles = [
        report_profiles.profile_of(name, cpu_ns_at(summary, name, arguments.profile_connections))
        for name in servers
    ]
    client_bound = set(compared[compared["limiter"] == "client-bound"]["server"])
    single, repeats_note = tables.choose_single_runs(cells)
    by_metric = {
        metric: findings.find(verdicts, metric, servers, client_bound)
        for metric in (CPU_RATIO, THROUGHPUT)
    }
    measured = [record for record in samples if "server_command" in record]
    return {
        "machine": facts,
        "machine_facts": flatten_facts(facts),
        "other_machines": other_machines if len(all_machines) > 1 else "",
        "workload": findings.workload(cells, samples),
        "sweeps": sorted(str(name) for name in cells["sweep"].dropna().unique()),
        "servers": [
            {
                "name": name,
                "color": plot_style.color_of(name),
                "glyph": report_charts.SHAPES[plot_style.marker_of(name)][1],
            }
            for name in servers
        ],
        "findings": by_metric,
        "answer": findings,
        "left_out": [name for name in servers if name in by_metric[CPU_RATIO].left_out],
        "reasons": findings.reasons(by_metric[CPU_RATIO], syscalls, profiles),
        "caveats": report_caveats.caveats(cells[cells["server"].isin(servers)], compared, verdicts),
        "best": best_rows(compared),
        "limiters": {name: letter for name, (_, letter) in plot_style.LIMITERS.items()},
        "limiter_notes": plot_style.limiter_notes(compared),
        "ranking_notes": plot_ranking.notes_of(cells, summary, verdicts),
        "latency_note": plot_style.saturation_note(compared),
        "uncounted": syscalls[syscalls["status"] != "ok"][["server", "reason"]].to_dict("records"),
        "unserved": compared[compared["unserved_connections"] > 0].to_dict("records"),
        "profiles": profiles,
        "chosen": choose_pair(by_metric[CPU_RATIO], profiles),
        "flagged": report_caveats.list_flags(cells),
        "commands": [
            (
                record["server"],
                shorten_command(record["server_command"]),
                shorten_command(record["load_command"]),
            )
            for record in measured
        ],
        "seeds": sorted(int(seed) for seed in cells["seed"].dropna().unique()),
        "cells_count": len(cells),
        "repeats_note": repeats_note,
        "charts": report_charts.all_charts(single, summary, verdicts, syscalls),
        "tables": {
            "points": table_of(summary, SHOWN_OF_POINTS),
            "runs": table_of(single, SHOWN_OF_CELLS),
        },
        "downloads": {
            name: _base64(Path(f"results/{name}.csv").read_bytes()) for name in DOWNLOADS
        },
    }


def table_of(table: pd.DataFrame, columns: list[str]) -> dict[str, Any]:
    """The columns that matter most, and rows of pairs: a text, and the value to sort by. The files have all columns."""
    decimals = {name: _decimals(table[name]) for name in columns}
    rows = [
        [_format(value, decimals[name]) for name, value in zip(columns, row, strict=True)]
        for row in table[columns].itertuples(index=False)
    ]
    return {"columns": columns, "rows": rows}


def _decimals(column: "pd.Series[Any]") -> int:
    """Decimals with which the largest number has five digits; none if all are whole."""
    if not pd.api.types.is_numeric_dtype(column) or (column.dropna() % 1 == 0).all():
        return 0
    return max(0, 4 - math.floor(math.log10(column.abs().max())))


def _format(value: Any, decimals: int) -> tuple[str, Any]:
    """A value as text, and the value to sort by."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return "", ""
    if isinstance(value, (bool, str)):
        return str(value).replace(";", " "), str(value)
    return f"{float(value):,.{decimals}f}", float(value)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def as_json(value: Any) -> Markup:
    """JSON for a script element: nothing in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace(
        "<", "\\u003c"
    )
    return Markup(text)


def content_security_policy(script: str, profiles: list[dict[str, Any]]) -> str:
    """A policy that loads nothing, and runs no script but the page's, its libraries' and the flamegraphs'."""
    drawn = [FLAMEGRAPH_SCRIPT.search(profile["svg"]) for profile in profiles]
    scripts = {match[1].replace("<![CDATA[", "").replace("]]>", "") for match in drawn if match}
    hashes = [
        f"'sha256-{_base64(hashlib.sha256(text.encode()).digest())}'"
        for text in [script, *sorted(scripts), FLAMEGRAPH_START]
    ]
    return (
        f"default-src 'none'; script-src blob: 'unsafe-hashes' {' '.join(hashes)}; "
        "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def render(data: dict[str, Any]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["json"] = as_json
    # A number and its unit stay on one line.
    environment.filters["unbroken"] = lambda text: text.replace(" %", "\u00a0%").replace(
        " µs", "\u00a0µs"
    )
    script = (PAGE / "page.js").read_text()
    return environment.get_template("page.html").render(
        **data,
        policy=content_security_policy(script, data["profiles"]),
        # Vega, Vega-Lite and Vega-Embed, which set window.vegaEmbed. Its stubs take a snippet for required.
        vega=vl_convert.javascript_bundle(),  # type: ignore[call-arg]
        datatables=read_package_file("html/dt_bundle.js"),
        datatables_style=Markup(read_package_file("html/dt_bundle.css")),
        style=Markup((PAGE / "page.css").read_text()),
        script=Markup(script),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", help="the HTML to write")
    parser.add_argument(
        "--profile-connections",
        type=int,
        required=True,
        help="connections at which servers were profiled",
    )
    arguments = parser.parse_args()
    files.write_text(arguments.output, render(page_data(arguments)))
    return 0


if __name__ == "__main__":
    sys.exit(faults.report(main))
