"""Records, and tables of them, that tests make up."""

from pathlib import Path
from typing import Any

import pandas as pd

from analysis import tables
from analysis.summary import summary_table
from analysis.verdicts import verdict_table

# What cannot be known where connections end.
ENDING = dict.fromkeys(["unserved_connections", "fairness_jain", "littles_law_ratio"])


def record(repeat: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "schema_version": 7,
        "workload": "keepalive",
        "server": "server_epoll",
        "connections": 10,
        "repeat": repeat,
        "status": "ok",
        "requests": 1000,
        "duration_s": 2.0,
        "requests_per_second": 500.0,
        "latency_mean_us": 20.0,
        "latency_p50_us": 19,
        "latency_p90_us": 25,
        "latency_p99_us": 40,
        "latency_max_us": 90,
        "interface": None,
        "wall_clock_step_share": 0.0001,
        "errors": 0,
        "server_cpu_ns_per_request": 4000.0,
        "client_cpu_share": 0.5,
        "unserved_connections": 0,
        "fairness_jain": 1.0,
        "flags": [],
        "server_cpu_share": 0.9,
        "established_connections": 10,
        "server_memory_peak_kib": 1500,
        "latency_synthetic_share": 0.0,
        "workers": 2,
        "worker_fairness_jain": 0.9,
        "started": "2026-01-01T00:00:00+00:00",
        "machine": "0123abcd",
        "sweep": "2026-01-01T00:00:00.000+00:00",
        "position": repeat,
        "seed": 1,
        "attempts": 1,
        "server_busiest_thread_share": 0.99,
        "littles_law_ratio": 1.0,
        "kernel_connections": 11,
        "kernel_responses": 1003,
        "server_accepted": 11,
        "server_requests": 1003,
        "steal_share": 0.0,
        "foreign_cpu_share": 0.01,
        "cpu_pressure_share": 0.01,
        "client_wait_share": 0.001,
        "server_wait_share": 0.001,
        "cpu_ratio": 1.1,
        "throughput_ratio": 0.95,
        "reference_requests_per_second": 600.0,
        "paired": {"seconds": [0.5, 0.5]},
        "cpus_shared": False,
        "leftover_connections": 0,
        "processes_changed": False,
        "errors_by_kind": {"connect": 0, "read": 0, "write": 0, "status": 0, "timeout": 0},
        "warmup_wrong_responses": 0,
        "response_unchanged": True,
        "response_bytes": 1000 * 20,
        "response": "20 bytes of response",
        "response_size_bytes": 20,
        "handler_cpu_ns_per_request": 0.0,
        "idle_connections": 0,
        "idle_connections_asked": 0,
        "idle_connections_lost": None,
        **dict.fromkeys(("time_wait_sockets", "time_wait_limit", "ports_waiting", "ports")),
        "requests_in_flight": changes.get("connections", 10),
        "varying_headers": [],
        "connection_per_request": False,
        "reopened_connections": 0,
        "requests_per_connection": None,
        **changes,
    }


def unavailable(repeat: int = 1) -> dict[str, Any]:
    fields = (
        "schema_version",
        "workload",
        "server",
        "connections",
        "repeat",
        "machine",
        "sweep",
        "position",
    )
    return {**{key: record(repeat)[key] for key in fields}, "status": "unavailable", "flags": []}


def failed(repeat: int = 1, reason: str = "it crashed") -> dict[str, Any]:
    return {**unavailable(repeat), "status": "failed", "reason": reason}


def write_tables(rows: list[dict[str, Any]], folder: Path) -> pd.DataFrame:
    """The three tables that all others and pictures are made of; the summary."""
    tables.write_table(tables.cell_table(rows), str(folder / "cells.csv"))
    cells = tables.read_cell_table(str(folder / "cells.csv"))
    summary = summary_table(cells)
    tables.write_table(summary, str(folder / "summary.csv"))
    verdicts = verdict_table(cells, summary)
    tables.write_table(verdicts, str(folder / "verdicts.csv"))
    return summary


# A cell that wrk limits.
CLIENT_BOUND = {
    "client_cpu_share": 0.99,
    "server_cpu_share": 0.5,
    "server_busiest_thread_share": 0.5,
}
# A cell of a server that closes after each response: how many were established when the kernel was asked says nothing.
SHORT_CONNECTIONS = {
    **ENDING,
    "flags": ["connection_per_request"],
    "connection_per_request": True,
    "established_connections": 3,
    "kernel_connections": 1000,
    "kernel_responses": None,
    "server_accepted": 1011,
    "server_requests": 1010,
}
