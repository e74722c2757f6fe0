"""The benchmark of cost: ratios and intervals of synthetic runs, what is left out, the order; and for real."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import compare_cost
import numpy as np
import pandas as pd
import pytest
import tables
from cells import (
    CEILING,
    Cell,
    cells_of,
    cost_record_path,
    cost_sweep,
    order_of,
    positions_of,
    record_path,
)
from checkouts import ROOT, jobs_to_run, run_snakemake
from scipy.stats import binom
from test_cells import CONFIG
from test_tables import failed, record, unavailable

Records = list[dict[str, Any]]
BASE_NS = 4000.0


def runs(server: str, ratios: list[float], **changes: Any) -> Records:
    """One run a repeat. In each block the machine has another speed, which a ratio must not see."""
    return [
        record(
            repeat,
            server=server,
            server_cpu_ns_per_request=BASE_NS * (1 + repeat / 10) * ratio,
            **changes,
        )
        for repeat, ratio in enumerate(ratios, start=1)
    ]


def baseline(repeats: int, **changes: Any) -> Records:
    return runs(CEILING, [1.0] * repeats, **changes)


def with_ratios(records: Records) -> pd.DataFrame:
    reasons = [record.get("reason", "") for record in records]
    return compare_cost.with_ratios(tables.cell_table(records).assign(reason=reasons))


def rows_of(records: Records) -> dict[str, dict[Any, Any]]:
    """A row a server; all of one machine and number of connections."""
    table = compare_cost.cost_table(with_ratios(records))
    return {row["server"]: row for row in table.to_dict("records")}


RATIOS = [1.2, 1.1, 1.3, 1.15, 1.25, 1.22, 1.18, 1.21, 1.19, 1.4, 1.05, 1.24, 1.16, 1.23, 1.17]


def test_ratio_is_the_median_over_blocks_and_the_interval_two_of_the_ratios() -> None:
    row = rows_of(baseline(15) + runs("a", RATIOS))["a"]
    assert row["ratio"] == pytest.approx(1.2)
    assert (row["ratio_low"], row["ratio_high"]) == pytest.approx((1.16, 1.24))  # 4th and 12th
    assert (row["pairs"], row["runs"], row["status"], row["reason"]) == (15, 15, "ok", "")
    costs = [BASE_NS * (1 + repeat / 10) * ratio for repeat, ratio in enumerate(RATIOS, start=1)]
    assert row["cpu_ns_per_request"] == pytest.approx(float(np.median(costs)))


def test_order_of_the_records_does_not_matter() -> None:
    records = baseline(15) + runs("a", RATIOS)
    assert rows_of(records[::-1])["a"] == rows_of(records)["a"]


def test_baseline_is_1_without_an_interval() -> None:
    row = rows_of(baseline(15) + runs("a", RATIOS))[CEILING]
    assert row["ratio"] == 1
    assert np.isnan(row["ratio_low"])
    assert np.isnan(row["ratio_high"])
    assert row["reason"] == ""


@pytest.mark.parametrize("n", [6, 7, 10, 15, 40])
def test_interval_is_the_narrowest_of_its_kind_that_covers_the_median_95_times_in_100(
    n: int,
) -> None:
    values = pd.Series(np.arange(1.0, n + 1))
    low, high = compare_cost.median_interval_95(values)
    assert low + high == n + 1
    # The k-th of n is above the median if fewer than k are below it.
    missed = 2 * binom.cdf(low - 1, n, 0.5)
    assert missed <= 0.05 < 2 * binom.cdf(low, n, 0.5)


def test_fewer_than_six_pairs_have_no_interval() -> None:
    row = rows_of(baseline(5) + runs("a", RATIOS[:5]))["a"]
    assert row["ratio"] == pytest.approx(1.2)
    assert np.isnan(row["ratio_low"])
    assert np.isnan(row["ratio_high"])
    assert row["reason"] == "fewer than 6 pairs: no interval"


def test_pairs_are_of_the_same_block() -> None:
    """The baseline lacks some repeats: their runs are not compared with those of another repeat."""
    row = rows_of(baseline(15)[:7] + runs("a", RATIOS))["a"]
    assert row["pairs"] == 7
    assert row["ratio"] == pytest.approx(np.median(RATIOS[:7]))
    assert "8 of 15 runs without one of the baseline" in row["reason"]
    assert "delete results/cost" in row["reason"]


def test_pairs_are_of_the_same_run_of_the_workflow() -> None:
    row = rows_of(baseline(15) + runs("a", RATIOS, sweep="another run"))["a"]
    assert row["pairs"] == 0
    assert np.isnan(row["ratio"])
    assert row["cpu_ns_per_request"] > 0
    assert "15 of 15 runs without one of the baseline" in row["reason"]


def test_machines_and_connections_are_never_mixed() -> None:
    records = baseline(6) + runs("a", [1.5] * 6)
    records += baseline(6, connections=99) + runs("a", [2.0] * 6, connections=99)
    records += runs("a", [0.1] * 6, machine="another")
    table = compare_cost.cost_table(with_ratios(records))
    ratios = table.set_index(["machine", "server", "connections"])["ratio"]
    assert ratios["0123abcd", "a", 10] == pytest.approx(1.5)
    assert ratios["0123abcd", "a", 99] == pytest.approx(2)
    assert np.isnan(ratios["another", "a", 10])
    assert "of other machines" in compare_cost.tabulate(table)


def test_invalid_runs_are_counted_and_left_out() -> None:
    records = baseline(10) + runs("a", [1.5] * 8 + [0.1] * 2)
    for bad in records[-2:]:
        bad |= {"status": "invalid", "flags": ["errors"]}
    row = rows_of(records)["a"]
    assert (row["status"], row["pairs"], row["invalid"]) == ("ok", 8, 2)
    assert (row["ratio"], row["ratio_low"]) == pytest.approx((1.5, 1.5))
    assert row["reason"] == "2 of 10 runs invalid: errors"


def test_server_without_a_valid_run_has_a_row_that_says_so() -> None:
    raised = ["errors", "wrong_responses", "client_saturated"]
    bad = runs("a", [1.5] * 6, status="invalid", flags=raised)
    row = rows_of(baseline(6) + bad)["a"]
    assert (row["status"], row["pairs"]) == ("invalid", 0)
    assert np.isnan(row["cpu_ns_per_request"])
    assert row["reason"] == "6 of 6 runs invalid: errors, wrong_responses"


def test_disturbed_runs_are_left_out_on_either_side() -> None:
    records = baseline(10) + runs("a", [1.5] * 8 + [9.0] * 2)
    for disturbed in (records[0], *records[-2:]):
        disturbed["flags"] = ["disturbed"]
    row = rows_of(records)["a"]
    assert (row["status"], row["pairs"], row["disturbed"]) == ("ok", 7, 2)
    assert row["ratio_high"] == pytest.approx(1.5)
    assert "2 of 10 runs disturbed, left out" in row["reason"]


def test_server_whose_every_run_was_disturbed_says_so() -> None:
    row = rows_of(baseline(6) + runs("a", [1.5] * 6, flags=["disturbed"]))["a"]
    assert (row["status"], row["disturbed"]) == ("disturbed", 6)
    assert row["ratio"] == pytest.approx(1.5)
    assert row["reason"].startswith("every valid run was disturbed")


def test_disturbed_baseline_is_said() -> None:
    row = rows_of(baseline(6, flags=["disturbed"]) + runs("a", [1.5] * 6))["a"]
    assert row["ratio"] == pytest.approx(1.5)
    assert row["reason"] == "every valid run of the baseline was disturbed"


def test_server_that_serves_few_connections_does_not_look_cheap() -> None:
    starving = runs("a", [0.5] * 6, unserved_connections=9, flags=["unserved_connections"])
    row = rows_of(baseline(6) + starving)["a"]
    assert (row["status"], row["pairs"], row["starving"]) == ("starving", 0, 6)
    assert np.isnan(row["ratio"])
    assert row["unserved_connections"] == 9
    assert row["reason"].startswith("9 of 10 connections were never served")


def test_server_with_a_connection_per_request_has_no_ratio() -> None:
    """Its unserved connections are not known, which must not pass for unserved ones."""
    closing = runs("a", [6] * 6, unserved_connections=None, flags=["connection_per_request"])
    row = rows_of(baseline(6) + closing)["a"]
    assert (row["status"], row["pairs"], row["starving"]) == ("other_workload", 0, 0)
    assert "a connection of its own" in row["reason"]


def test_single_starving_run_is_left_out() -> None:
    records = baseline(7) + runs("a", [1.5] * 6 + [0.1])
    records[-1]["unserved_connections"] = 1
    row = rows_of(records)["a"]
    assert (row["status"], row["pairs"], row["starving"]) == ("ok", 6, 1)
    assert row["ratio_low"] == pytest.approx(1.5)
    assert "1 of 10 connections" in row["reason"]


def test_unavailable_server_has_a_row_with_its_reason() -> None:
    absent = [{**unavailable(repeat), "server": "a", "reason": "no such"} for repeat in (1, 2)]
    row = rows_of(baseline(2) + absent)["a"]
    assert (row["status"], row["unavailable"], row["pairs"]) == ("unavailable", 2, 0)
    assert row["reason"] == "no such"


def test_failed_runs_are_counted_with_their_reason() -> None:
    crashed = [{**failed(1), "server": "b"}]
    wrong = runs("b", [1.5, 1.5], status="invalid", flags=["errors"])[1:]
    row = rows_of(baseline(2) + crashed + wrong)["b"]
    assert (row["status"], row["failed"], row["invalid"]) == ("failed", 1, 1)
    assert "1 of 2 runs failed: it crashed" in row["reason"]


def test_reason_is_told_once_for_all_that_it_concerns() -> None:
    names = [(name, count) for name in (CEILING, "a", "b") for count in (10, 99)]
    records = [one for name, count in names for one in runs(name, [1.5] * 3, connections=count)]
    table = compare_cost.cost_table(with_ratios(records))
    text = compare_cost.tabulate(table)
    assert text.endswith("\na at 10, 99; b at 10, 99: fewer than 6 pairs: no interval.\n")


def test_missing_baseline_is_said() -> None:
    bad = baseline(6, status="invalid", flags=["errors"])
    row = rows_of(bad + runs("a", [1.5] * 6))["a"]
    assert np.isnan(row["ratio"])
    assert "the baseline has no run that counts" in row["reason"]


COST_CONFIG = {
    **CONFIG,
    "control": "b",
    "cost": {"servers": ["b", "d"], "connections": [5, 7], "repeats": 3},
}


def test_benchmark_is_a_sweep_of_its_own_with_the_baseline_in_every_block() -> None:
    order = order_of(cost_sweep(COST_CONFIG))
    blocks = [[cell for cell in order if cell.repeat == repeat] for repeat in (1, 2, 3)]
    everything = {(name, count) for name in ("b", "d", CEILING) for count in (5, 7)}
    assert [cell.repeat for cell in sorted(order, key=order.__getitem__)] == sorted([1, 2, 3] * 6)
    assert [{cell[:2] for cell in block} for block in blocks] == [everything] * 3
    assert len({tuple(cell[:2] for cell in block) for block in blocks}) == 3
    assert order != order_of(cost_sweep({**COST_CONFIG, "seed": 2}))


def test_record_knows_its_position_in_the_order_of_its_own_sweep() -> None:
    positions = positions_of(COST_CONFIG)
    cell = Cell("b", 5, 2)
    assert positions[cost_record_path(cell)] == order_of(cost_sweep(COST_CONFIG))[cell]
    (first, *_) = cells_of(COST_CONFIG)
    assert positions[record_path(first)] == order_of(COST_CONFIG)[first]
    assert len(positions) == len(order_of(COST_CONFIG)) + 18


TINY = """\
servers: [server_poll]
control: null
disturbed_retries: 0
external: {absent: {command: no-such-server, package: its-package}}
cost: {servers: [server_epoll, server, absent], connections: [2], repeats: 6, duration_s: 0.1, warmup_s: 0}
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a finished tiny benchmark, and what the console showed."""
    folder = tmp_path_factory.mktemp("cost")
    (folder / "tiny.yaml").write_text(TINY)
    run = run_snakemake(
        ROOT,
        "plots/cost.png",
        *("--directory", str(folder), "--configfile", str(folder / "tiny.yaml")),
    )
    assert run.returncode == 0, run.stdout
    return folder, run.stdout


@pytest.mark.alone
def test_tiny_benchmark_gives_table_and_picture(tiny: tuple[Path, str]) -> None:
    folder, console = tiny
    with (folder / "results/cost.csv").open() as file:
        rows = {row["server"]: row for row in csv.DictReader(file)}
    assert list(rows) == [CEILING, "server_epoll", "server", "absent"]
    assert all(row["runs"] == "6" for row in rows.values())
    assert float(rows["server_epoll"]["cpu_ns_per_request"]) > 100
    assert rows["server"]["status"] == "starving"
    assert rows["server"]["unserved_connections"] == "1"
    assert (rows["absent"]["status"], rows["absent"]["unavailable"]) == ("unavailable", "6")
    assert "its-package" in rows["absent"]["reason"]
    assert "delete" not in rows["absent"]["reason"]  # installing it makes its cells stale by itself
    assert (folder / "plots/cost.png").stat().st_size > 5000
    assert console.count((folder / "results/cost.txt").read_text()) == 1
    assert "24 runs of the benchmark of cost to run, about " in console


@pytest.mark.alone
def test_each_server_of_the_benchmark_is_one_process_on_one_cpu(tiny: tuple[Path, str]) -> None:
    paths = list((tiny[0] / "results/cost").glob("[cs]*/*.json"))  # not of the absent one
    assert len(paths) == 18
    measured = [json.loads(path.read_text()) for path in paths]
    for one in measured:
        assert one["asked"]["server_cpus"] == len(one["server_cpus"]) == 1
        assert one["server_command"][-2:] == ["--workers", "1"]
    started = sorted(measured, key=lambda one: str(one["started"]))
    assert [one["position"] for one in started] == sorted(one["position"] for one in measured)


@pytest.mark.alone
def test_benchmark_is_not_measured_again_and_needs_nothing_of_the_sweep(
    tiny: tuple[Path, str], checkout: Path
) -> None:
    target = ("results/cost.csv", "--configfile", str(tiny[0] / "tiny.yaml"))
    assert jobs_to_run(ROOT, *target, "--directory", str(tiny[0])) == set()
    jobs = jobs_to_run(checkout, *target)
    names = ["server_epoll", "server", CEILING]
    expected = {("compile_server", name) for name in names} | {("prepare_external", "absent")}
    expected |= {
        ("measure_cost", name, "2", str(r)) for name in [*names, "absent"] for r in range(1, 7)
    }
    expected.add(("compare_cost",))
    assert jobs == expected


@pytest.mark.alone
def test_default_target_needs_nothing_of_the_benchmark(tiny: tuple[Path, str]) -> None:
    config = ("--configfile", str(tiny[0] / "tiny.yaml"))
    rules = {job[0] for job in jobs_to_run(ROOT, *config, "--directory", str(tiny[0] / "other"))}
    assert "measure_cell" in rules
    assert not rules & {"measure_cost", "compare_cost", "plot_cost"}


def test_unavailable_server_stops_nothing_and_is_drawn(tmp_path: Path) -> None:
    absent = [{**unavailable(repeat), "server": "a", "reason": "no such"} for repeat in (1, 2)]
    cells = with_ratios(baseline(2) + absent)
    tables.write_table(cells, str(tmp_path / "cells.csv"))
    tables.write_table(compare_cost.cost_table(cells), str(tmp_path / "cost.csv"))
    command = [sys.executable, str(ROOT / "scripts/plot_cost.py"), "cost.csv", "cells.csv", "a.png"]
    run = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "Warning" not in run.stderr
    assert (tmp_path / "a.png").stat().st_size > 5000
