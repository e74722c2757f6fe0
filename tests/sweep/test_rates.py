"""The grid of an open loop: which rates, in which order, over how many connections, and from which capacity."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import plan_rates
from helpers.checkouts import ROOT, run_script
from helpers.made_up import failed, record
from sweep import rates, records
from sweep.cells import Cell, record_path
from sweep.rates import RatedCell

LATENCY = yaml.safe_load((ROOT / "config.yaml").read_text())["latency"]
CONFIG: dict[str, Any] = {
    "servers": ["a", "b", "c"],
    "workloads": ["keepalive", "body_128k"],
    "connections": [1, 10, 100],
    "repeats": 3,
    "seed": 1,
    "latency": {**LATENCY, "repeats": 4},
}


def with_latency(**changes: Any) -> dict[str, Any]:
    return {**CONFIG, "latency": {**CONFIG["latency"], **changes}}


def test_name_of_a_rate_says_its_share_or_its_requests_per_second() -> None:
    shares = {"shares": [0.95, 0.07, 0.5, 0.125, 2], "rates": None}
    assert rates.rate_names(shares) == ["s7", "s12.5", "s50", "s95", "s200"]
    assert [rates.rate_of(name, 4000) for name in ("s7", "s12.5")] == pytest.approx([280, 500])
    own = {"shares": [0.5], "rates": [20000, 1000, 10_000_000]}
    assert rates.rate_names(own) == ["q1000", "q20000", "q10000000"]
    assert rates.rate_of("q10000000", None) == 1e7
    assert [rates.share_of(name) for name in ("s12.5", "q1000")] == [0.125, None]


def test_order_is_shuffled_within_repeats_and_again_the_same() -> None:
    order = rates.order_of(CONFIG)
    cells = sorted(order, key=order.__getitem__)
    assert [*order.values()] == [*range(len(cells))] and len(cells) == 3 * 7 * 4
    assert [cell.repeat for cell in cells] == sorted(cell.repeat for cell in cells)
    blocks = [[cell[:3] for cell in cells if cell.repeat == repeat] for repeat in range(1, 5)]
    assert len({tuple(block) for block in blocks}) == 4
    assert all(sorted(block) == sorted(blocks[0]) != block for block in blocks)
    assert order == rates.order_of({**CONFIG, "servers": ["c", "a", "b"]})
    assert order != rates.order_of({**CONFIG, "seed": 2})
    last = rates.record_path(cells[-1])
    assert rates.positions_of(CONFIG)[last] == len(cells) - 1
    assert rates.positions_of({"servers": []}) == {}  # a sweep from before there were rates
    assert rates.record_path(RatedCell("a", "w", "s50", 2)) == "results/latency/w/a/s50_r2.json"


@pytest.mark.parametrize(
    ("counts", "expected"), [([1, 10, 100], 10), ([49, 51], 49), ([1000], 1000), ([40, 55], 55)]
)
def test_connections_are_those_nearest_to_fifty_unless_the_config_says(
    counts: list[int], expected: int
) -> None:
    assert rates.connections_of({**CONFIG, "connections": counts}, "keepalive") == expected
    assert rates.connections_of(with_latency(connections=7), "keepalive") == 7
    assert rates.connections_of(CONFIG, "body_128k") == 50


def test_first_workload_whose_connections_stay_is_rated_or_those_that_the_config_names() -> None:
    coming = ["connection_per_request", "pipelined"]
    assert rates.workloads_of(CONFIG) == ["keepalive"]
    assert rates.workloads_of({**CONFIG, "workloads": [*coming, "body_128k"]}) == ["body_128k"]
    assert rates.workloads_of({**CONFIG, "workloads": coming}) == []
    both = with_latency(workloads=["body_128k", "keepalive"])
    assert rates.workloads_of(both) == ["body_128k", "keepalive"]
    assert {cell.workload for cell in rates.cells_of(both)} == {"body_128k", "keepalive"}


def test_capacity_is_the_least_median_and_keeps_two_digits() -> None:
    measured = {"a": [9.0, 1.0, 8.0], "b": [7.0, 6.0], "none": [], "c": [100.0]}
    assert plan_rates.slowest_of(measured) == ("b", 6.5)
    assert plan_rates.slowest_of({"none": []}) is plan_rates.slowest_of({}) is None
    rounded = {48_499.9: 48_000, 48_500.1: 49_000, 104.0: 100, 6.54: 6.5}
    assert {value: plan_rates.round_capacity(value) for value in rounded} == rounded


@pytest.mark.parametrize(
    ("text", "planned"),
    [
        ('{"w": {"connections": 10, "capacity_per_second": 5.0}, "other": {}}', True),
        ('{"w": {"connections": 50, "capacity_per_second": 5.0}}', False),
        ('{"other": {"connections": 10}}', False),
        ('{"w": 5}', False),
        ("[]", False),
        ("{", False),
        (None, False),
    ],
)
def test_rates_are_planned_once_for_a_workload_and_its_connections(
    text: str | None, planned: bool, tmp_path: Path
) -> None:
    path = tmp_path / "rates.json"
    if text is not None:
        path.write_text(text)
    assert rates.is_planned(str(path), {"w": {"connections": 10}}) == planned


# --- plan_rates ---


def plan(folder: Path, *rows: dict[str, Any]) -> Any:
    for row in rows:
        cell = Cell(row["server"], row["connections"], row["repeat"], row["workload"])
        records.write(str(folder / record_path(cell)), row)
    grid = {"connections": 10, "repeats": 1, "servers": [row["server"] for row in rows]}
    words = ("rates.json", "--grid", json.dumps({"keepalive": grid}))
    return run_script("plan_rates.py", *words, cwd=folder)


def test_rates_are_shares_of_the_slowest_server_that_serves_everybody(tmp_path: Path) -> None:
    starving = record(server="server", requests_per_second=1.0, unserved_connections=9)
    invalid = record(server="wrong", requests_per_second=2.0, status="invalid", flags=["errors"])
    slow, fast = (record(server=f"s{rate}", requests_per_second=rate) for rate in (512.0, 700.0))
    crashed = {**failed(), "server": "crashed"}
    run = plan(tmp_path, starving, invalid, crashed, fast, slow)
    assert (run.returncode, run.stderr) == (0, "")
    planned = json.loads((tmp_path / "rates.json").read_text())
    known = {"connections": 10, "slowest": "s512.0", "capacity_per_second": 510.0}
    assert planned == {"keepalive": known}


def test_without_a_valid_cell_there_is_no_plan_but_one_line(tmp_path: Path) -> None:
    run = plan(tmp_path, failed())
    assert (run.returncode, run.stderr.count("\n")) == (1, 1)
    assert "no server has a valid cell of keepalive at 10 connections" in run.stderr
    assert "latency.rates" in run.stderr
    assert not (tmp_path / "rates.json").exists()
