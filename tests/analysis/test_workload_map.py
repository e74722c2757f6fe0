"""The order of workloads, and of servers in the map. tests/drawing/test_map.py has its fields and sentences."""

from typing import Any

import pandas as pd

from analysis import tables, workload_map
from analysis.summary import summary_table
from analysis.verdicts import CPU_RATIO, RATE, TAIL, verdict_table
from helpers.made_up import record

DECIDERS = {"keepalive": CPU_RATIO, "large": CPU_RATIO, "waiting": RATE, "slow": TAIL}
SERVERS = ("server_epoll", "server_poll")
Rows = list[dict[str, Any]]


def cells(workload: str, server: str, factor: float, **changes: Any) -> Rows:
    """Three repeats at 10 and 100 connections, with the deciding figure × `factor`, and a little noise."""
    decider = DECIDERS[workload]
    changes = {"asked": {"workload": {"decided_by": decider}}, **changes}
    if decider != CPU_RATIO:
        changes |= {"cpu_ratio": None, "throughput_ratio": None}
    rows = []
    for count in (10, 100):
        for repeat, noise in enumerate((0.999, 1, 1.001), 1):
            figure = 100.0 * factor * noise
            its = {decider: figure, "server": server, "workload": workload, "connections": count}
            if decider == RATE:
                its |= {"duration_s": 1.0, "requests": round(figure * 1000), RATE: figure * 1000}
            rows.append(record(repeat, **{**its, **changes}))
    return rows


def tables_of(rows: Rows) -> tuple[pd.DataFrame, pd.DataFrame]:
    table = tables.cell_table(rows)
    summary = summary_table(table)
    return summary, verdict_table(table, summary)


def two(workload: str, first: float, second: float) -> Rows:
    epoll, poll = SERVERS
    return cells(workload, epoll, first) + cells(workload, poll, second)


def test_servers_near_the_best_of_most_workloads_come_first() -> None:
    rows = two("keepalive", 1.01, 1) + two("large", 1, 3) + two("waiting", 2, 1)
    assert workload_map.make(*tables_of(rows)).servers == list(SERVERS)


def test_workloads_come_in_the_order_of_the_sweep_those_of_cpu_time_first() -> None:
    summary, _ = tables_of(two("waiting", 1, 2) + two("large", 1, 2) + two("keepalive", 1, 2))
    assert tables.workloads_of(summary) == ["large", "keepalive", "waiting"]
    (first,) = tables.of_first_workload(summary)
    assert set(first["workload"]) == {"large"}
