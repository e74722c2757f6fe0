"""Records and tables of an open loop that tests make up."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

import collect_latency
from analysis import latency, tables
from sweep import rated_fields
from sweep.fields import columns_of

CLEAN = ("steal_share", "foreign_cpu_share", "cpu_pressure_share")
CLEAN += ("client_wait_share", "server_wait_share")
MISSING = {"status": "unavailable", "reason": "it leaves 49 of 50 connections without an answer"}


def rated(
    server: str = "server_epoll",
    rate: float = 1000.0,
    repeat: int = 1,
    p99_us: float | None = 200.0,
    **changes: Any,
) -> dict[str, Any]:
    """What measure_latency writes and a flag or a table reads."""
    known = p99_us or 0.0
    return {
        "server": server,
        "workload": "keepalive",
        "share": None,
        "rate_per_second": rate,
        "offered_per_second": rate,
        "achieved_per_second": rate,
        "repeat": repeat,
        "connections": 50,
        "requests": 1000,
        "duration_s": 1.0,
        "latency_min_us": 0.0,
        "latency_p50_us": known / 4,
        "latency_p99_us": p99_us,
        "latency_p999_us": 2 * known,
        "latency_max_us": 3 * known,
        "generator_lateness_p99_us": 5.0,
        "cpu_ratio": 1.1,
        "server_cpu_ns_per_request": 5000.0,
        "server_cpu_share": 0.3,
        "errors": 0,
        "response_unchanged": True,
        "idle_connections": 0,
        "idle_connections_asked": 0,
        "idle_connections_lost": None,
        "reconnects": 0,
        "cpus_shared": False,
        "censored": 0,
        "status": "ok",
        "flags": [],
        "attempts": 1,
        "machine": "0123abcd",
        **dict.fromkeys(CLEAN, 0.0),
        **changes,
    }


def without_figures(server: str, rate: float = 1000.0, **changes: Any) -> dict[str, Any]:
    known = ("server", "workload", "share", "rate_per_second", "repeat", "connections")
    its = rated(server, rate)
    return {name: its[name] for name in (*known, "machine", "flags")} | MISSING | changes


def at_rates(
    server: str, rates: Iterable[float], *repeats: Iterable[float | None], **changes: Any
) -> list[dict[str, Any]]:
    """A record for each rate and repeat. repeats: the 99th percentile at each of the rates; None: there is no cell."""
    return [
        rated(server, rate, number, p99_us, **changes)
        for number, its in enumerate(repeats, 1)
        for rate, p99_us in zip(rates, its, strict=True)
        if p99_us is not None
    ]


def write_latency(
    rows: list[dict[str, Any]], folder: Path, target_ms: float = 1.0
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The three tables in files, and as programs read them again: cells, points, limits."""
    paths = [str(folder / f"latency{end}.csv") for end in ("", "_summary", "_limits")]
    with open(paths[0], "w") as file:
        table = csv.DictWriter(file, columns_of(rated_fields.LATENCY), lineterminator="\n")
        table.writeheader()
        table.writerows(map(collect_latency.make_row, rows))
    cells = latency.read_latencies(paths[0])
    tables.write_table(latency.summarize(cells), paths[1])
    tables.write_table(latency.limits(cells, target_ms), paths[2])
    return cells, latency.read_points(paths[1]), latency.read_limits(paths[2])
