"""The map of sweeps whose truth is known: ratios, what has none, and a sentence for each workload."""

import math
from typing import Any

import pandas as pd
import pytest

from analysis import tables, workload_map
from analysis.summary import summary_table
from analysis.verdicts import CPU_RATIO, RATE, TAIL, verdict_table
from analysis.workload_map import Field
from helpers.made_up import record, unavailable

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


def fields_of(rows: Rows) -> dict[tuple[str, str], Field]:
    found = workload_map.fields_of(*tables_of(rows))
    return {(field.workload, field.server): field for field in found}


def order_of(rows: Rows) -> list[str]:
    return workload_map.servers_in_order(workload_map.fields_of(*tables_of(rows)))


def sentences_of(rows: Rows) -> list[str]:
    """Of all workloads but the first."""
    return workload_map.sentences(*tables_of(rows))


def two(workload: str, first: float, second: float) -> Rows:
    epoll, poll = SERVERS
    return cells(workload, epoll, first) + cells(workload, poll, second)


def test_each_workload_has_ratios_to_its_own_best_by_the_figure_that_decides_it() -> None:
    rows = two("keepalive", 1, 2) + two("large", 3, 1.5) + two("waiting", 4, 1) + two("slow", 2, 1)
    fields = fields_of(rows)
    ratios = {key: field.ratio for key, field in fields.items()}
    epoll, poll = SERVERS
    assert ratios == {
        ("keepalive", epoll): pytest.approx(1),
        ("keepalive", poll): pytest.approx(2),
        ("large", epoll): pytest.approx(2),
        ("large", poll): pytest.approx(1),
        ("waiting", epoll): pytest.approx(1),  # more is better
        ("waiting", poll): pytest.approx(0.25),
        ("slow", epoll): pytest.approx(2),
        ("slow", poll): pytest.approx(1),
    }
    for workload in DECIDERS:
        letters = [fields[workload, server].letters for server in SERVERS]
        assert sorted(letters) == ["a", "b"], workload


def test_servers_that_no_verdict_tells_apart_share_a_letter() -> None:
    fields = fields_of(two("keepalive", 1, 1))
    assert {field.letters for field in fields.values()} == {"a"}


def test_starving_and_unavailable_fields_have_no_ratio_and_say_why() -> None:
    starved = cells("keepalive", "server", 0.1, unserved_connections=9)
    absent = [
        {**unavailable(repeat), "server": "server_uring", "connections": count}
        for count in (10, 100)
        for repeat in (1, 2, 3)
    ]
    fields = fields_of(two("keepalive", 1, 2) + starved + absent)
    assert math.isnan(fields["keepalive", "server"].ratio)
    assert fields["keepalive", "server"].remark == workload_map.STARVING
    assert math.isnan(fields["keepalive", "server_uring"].ratio)
    assert fields["keepalive", "server_uring"].remark == "unavailable"
    assert fields["keepalive", "server_epoll"].ratio == pytest.approx(1)  # not to the starving one


def test_a_server_that_lacks_points_is_not_the_best_and_says_how_many_it_has() -> None:
    cheap = cells("keepalive", "server", 0.5)
    for its in cheap:
        if its["connections"] == 100:
            its["unserved_connections"] = 90
    fields = fields_of(two("keepalive", 1, 2) + cheap)
    field = fields["keepalive", "server"]
    assert field.ratio == pytest.approx(0.5)
    assert field.remark.startswith("1 of 2")
    assert fields["keepalive", "server_epoll"].ratio == pytest.approx(1)


def test_a_server_without_the_deciding_figure_says_that_it_has_none() -> None:
    rows = two("keepalive", 1, 2) + cells("keepalive", "server", 1, cpu_ratio=None)
    field = fields_of(rows)["keepalive", "server"]
    assert math.isnan(field.ratio) and field.remark == "no ratio"


def test_servers_near_the_best_of_most_workloads_come_first() -> None:
    rows = two("keepalive", 1.01, 1) + two("large", 1, 3) + two("waiting", 2, 1)
    assert order_of(rows) == list(SERVERS)


def test_workloads_come_in_the_order_of_the_sweep_those_of_cpu_time_first() -> None:
    summary, _ = tables_of(two("waiting", 1, 2) + two("large", 1, 2) + two("keepalive", 1, 2))
    assert tables.workloads_of(summary) == ["large", "keepalive", "waiting"]
    (first,) = tables.of_first_workload(summary)
    assert set(first["workload"]) == {"large"}


def test_a_sentence_for_each_workload_but_the_first_says_which_is_best() -> None:
    rows = two("keepalive", 1, 2) + two("waiting", 1, 4) + two("slow", 2, 1)
    waiting, slow = sentences_of(rows)
    assert waiting.startswith("waiting: server_poll is first by throughput. ")
    assert slow.startswith("slow: server_poll is first by 99th percentile of latency. ")
    assert "server_epoll" in waiting and "server_epoll" in slow
    assert sentences_of(two("keepalive", 1, 2)) == []
