"""Verdicts about synthetic sweeps whose truth is known, and the picture of their ranking."""

import functools
import itertools
import math
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import comparisons
import numpy as np
import pandas as pd
import plot_ranking
import pytest
import tables
from cells import CONTROL_SUFFIX
from checkouts import ROOT
from comparisons import COST, THROUGHPUT
from scipy import stats

pytestmark = pytest.mark.filterwarnings("error")

BASE = "server_epoll"
CONTROL = BASE + CONTROL_SUFFIX
SERVERS = ["server", "server_thread", "server_select", "server_poll", BASE, "server_mine"]
SERVERS += ["server_uring", "server_uring_multitask", CONTROL]
COUNTS = [1, 10, 50, 100, 500, 1000]
REPEATS = 5
# Coefficients of variation between runs on a shared machine (shared/measuring.md).
VARIATION = {THROUGHPUT: (0.16, 0.21), COST: (0.025, 0.029)}
TYPICAL = {THROUGHPUT: 120_000.0, COST: 6_000.0}
SWEEPS = 300
# False verdicts may be in 5 % of the sweeps: more than this many would be seen in 1 % of the trials.
TOLERATED = stats.binom.ppf(0.99, SWEEPS, comparisons.ALPHA)

# Server (and metric) → true factor, one or one for each number of connections.
Factors = Mapping[str, Any]


def sweep(
    random: np.random.Generator,
    servers: list[str] = SERVERS,
    counts: list[int] = COUNTS,
    repeats: int = REPEATS,
    factors: Factors | None = None,
    variation: Mapping[str, tuple[float, float]] = VARIATION,
    lost: float = 0.02,
    machine: str = "0123abcd",
) -> pd.DataFrame:
    """cells.csv of servers that differ by `factors` alone, in both metrics; `lost` is missing, as much is invalid."""
    shape = (len(servers), len(counts), repeats)
    index = pd.MultiIndex.from_product(
        [servers, counts, range(1, repeats + 1)], names=["server", "connections", "repeat"]
    )
    status = random.choice(["ok", "invalid", ""], shape, p=[1 - 2 * lost, lost, lost])
    columns: dict[str, Any] = {"machine": machine, "status": status.ravel()}
    truth = np.ones(shape)
    for server, factor in (factors or {}).items():
        truth[servers.index(server)] = np.reshape(factor, (-1, 1))
    for metric, (low, high) in variation.items():
        deviation = np.sqrt(np.log1p(random.uniform(low, high, (len(servers), 1, 1)) ** 2))
        drift = random.normal(
            0, 2 * low, repeats
        )  # of the machine: common to all servers of a repeat
        noise = drift + deviation * random.normal(size=shape)
        columns[metric] = (TYPICAL[metric] * truth * np.exp(noise)).ravel()
    cells = pd.DataFrame(columns, index=index).reset_index()
    return cells[cells["status"] != ""]


def summary_of(cells: pd.DataFrame, **limits: Callable[[str, int], Any]) -> pd.DataFrame:
    """summary.csv with what verdicts need of it: server-bound points, but for `limits` by server and connections."""
    means = cells.groupby(["machine", "server", "connections"], sort=False)[[COST]].mean()
    summary = means.reset_index().assign(limiter="server-bound", at_ceiling=False, repeats_ok=1)
    for column, limit in limits.items():
        points = zip(summary["server"], summary["connections"], strict=True)
        summary[column] = [limit(*point) for point in points]
    return summary


def verdicts_of(cells: pd.DataFrame, **limits: Callable[[str, int], Any]) -> pd.DataFrame:
    return comparisons.verdict_table(cells, summary_of(cells, **limits))


def row(
    verdicts: pd.DataFrame,
    server: str,
    other: str,
    metric: str = COST,
    connections: Any = comparisons.WHOLE_SWEEP,
) -> "pd.Series[Any]":
    wanted = (verdicts["server"] == server) & (verdicts["other"] == other)
    wanted &= (verdicts["metric"] == metric) & (verdicts["connections"] == connections)
    assert wanted.sum() == 1
    found: pd.Series[Any] = verdicts[wanted].iloc[0]
    return found


def quiet(factors: Factors, seed: int = 1, **changes: Any) -> pd.DataFrame:
    """A sweep with little noise, in which nothing is lost."""
    variation = {THROUGHPUT: (0.002, 0.002), COST: (0.002, 0.002)}
    changes = {"variation": variation, "lost": 0, "servers": list(factors), **changes}
    return sweep(np.random.default_rng(seed), factors=factors, **changes)


PAIR = ("server_poll", BASE)
ALIKE = {"server_poll": 1, BASE: 1}
DEARER = {"server_poll": 1.1, BASE: 1}


# What the whole method promises, over many sweeps


@functools.cache
def sweeps_of_equal_servers() -> list[pd.DataFrame]:
    random = np.random.default_rng(20260101)
    return [verdicts_of(sweep(random)) for _ in range(SWEEPS)]


@pytest.mark.parametrize("metric", [COST, THROUGHPUT])
@pytest.mark.parametrize("whole_sweep", [True, False])
def test_equal_servers_are_told_apart_in_5_of_100_sweeps_at_most(
    metric: str, whole_sweep: bool
) -> None:
    false = 0
    for verdicts in sweeps_of_equal_servers():
        level = (verdicts["connections"] == comparisons.WHOLE_SWEEP) == whole_sweep
        found = verdicts.loc[level & (verdicts["metric"] == metric), "verdict"]
        false += bool(found.isin(comparisons.DIFFERENCES).any())
    assert false <= TOLERATED


def test_5_percent_of_cpu_time_are_found_at_a_noise_of_3_percent() -> None:
    random = np.random.default_rng(5)
    trials, found = 100, 0
    for _ in range(trials):
        variation = {**VARIATION, COST: (0.029, 0.029)}
        verdicts = verdicts_of(sweep(random, factors={"server_thread": 1.05}, variation=variation))
        found += row(verdicts, "server_thread", "server_poll")["verdict"] == comparisons.SLOWER
    assert found >= 0.95 * trials


@pytest.mark.parametrize(
    ("metric", "verdict"), [(COST, comparisons.SLOWER), (THROUGHPUT, comparisons.FASTER)]
)
def test_smallest_detectable_difference_is_found_in_nine_of_ten_sweeps(
    metric: str, verdict: str
) -> None:
    pair = ("server_thread", "server_poll", metric)
    percent = np.median(
        [row(it, *pair)["smallest_detectable_percent"] for it in sweeps_of_equal_servers()]
    )
    random = np.random.default_rng(17)
    factors = {"server_thread": 1 + percent / 100}
    fresh = [verdicts_of(sweep(random, factors=factors)) for _ in range(SWEEPS)]
    found = sum(row(verdicts, *pair)["verdict"] == verdict for verdicts in fresh)
    assert 0.85 * SWEEPS <= found <= 0.95 * SWEEPS


# The statistics, against others' figures


def test_holm_against_an_example_by_hand() -> None:
    # Sorted: 0.005 × 4, 0.01 × 3, 0.03 × 2, then 0.04 × 1 raised to the one before; NaN is no test.
    adjusted = comparisons.holm(np.array([[0.01, 0.04, np.nan], [0.03, 0.005, np.nan]]))
    np.testing.assert_allclose(adjusted, [[0.03, 0.06, np.nan], [0.06, 0.02, np.nan]])
    assert comparisons.holm(np.array([0.7, 0.8])).max() == 1


def test_mean_interval_and_test_are_students_t_of_the_log_ratios() -> None:
    cells = sweep(np.random.default_rng(2), servers=list(PAIR), lost=0)
    costs = cells.pivot(index=["connections", "repeat"], columns="server", values=COST)
    log_ratios = pd.Series(np.log(costs["server_poll"] / costs[BASE]))
    at_50 = log_ratios[log_ratios.index.get_level_values("connections") == 50]
    verdicts = verdicts_of(cells)
    for connections, sample in ((comparisons.WHOLE_SWEEP, log_ratios), (50, at_50)):
        expected = stats.ttest_1samp(sample, 0)
        interval = expected.confidence_interval(0.95)
        it = row(verdicts, *PAIR, connections=connections)
        assert it["pairs"] == len(sample)
        assert it["ratio"] == pytest.approx(np.exp(sample.mean()))
        assert it["p_value"] == pytest.approx(expected.pvalue)
        assert it["ratio_low"] == pytest.approx(np.exp(interval.low))
        assert it["ratio_high"] == pytest.approx(np.exp(interval.high))


def test_smallest_detectable_difference_has_its_power_by_the_noncentral_t() -> None:
    pairs, errors = np.array([2, 5, 30]), np.array([0.1, 0.02, 0.01])
    differences = comparisons.smallest_detectable(pairs, errors, np.array(0.0))
    t_critical = stats.t.isf(comparisons.ALPHA / 2 / len(pairs), pairs - 1)
    power = stats.nct.sf(t_critical, pairs - 1, differences / errors)
    np.testing.assert_allclose(power, comparisons.POWER, rtol=1e-4)


def test_smallest_detectable_difference_is_quick_and_smooth_far_out() -> None:
    t = np.array([999.9, 1000.1, 1e9])
    close, beyond, far = comparisons._noncentrality(np.array([1, 1, 1]), t)
    assert beyond / close == pytest.approx(1, abs=1e-3)
    assert far / beyond == pytest.approx(t[2] / t[1])


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_smallest_detectable_difference_has_its_power_by_simulation(floor: float) -> None:
    pairs, deviation, trials = 10, 0.1, 20_000
    error = np.array([deviation / math.sqrt(pairs)])
    difference = comparisons.smallest_detectable(np.array([pairs]), error, np.array(floor))
    samples = np.random.default_rng(3).normal(difference, deviation, (trials, pairs))
    estimates = comparisons.estimate(samples)
    found = (estimates.p_value <= comparisons.ALPHA) & (estimates.mean > floor)
    assert found.mean() == pytest.approx(comparisons.POWER, abs=0.01)


# What is compared with what


def test_faster_is_more_throughput_or_less_cpu_time() -> None:
    verdicts = verdicts_of(quiet(DEARER))
    assert row(verdicts, *PAIR, COST)["verdict"] == comparisons.SLOWER
    assert row(verdicts, *PAIR, THROUGHPUT)["verdict"] == comparisons.FASTER
    assert row(verdicts, *PAIR)["ratio"] == pytest.approx(1.1, rel=0.01)


def test_a_control_is_compared_with_its_base_alone() -> None:
    servers = ["a", CONTROL, BASE, "b", "flow" + CONTROL_SUFFIX]
    pairs = [{servers[first], servers[second]} for first, second in comparisons.pairs_of(servers)]
    controls = [pair for pair in pairs if CONTROL in pair]
    assert controls == [{CONTROL, BASE}]
    # Only a server that has a base is a control.
    assert len(pairs) == 1 + math.comb(4, 2)


def test_a_pair_needs_both_cells_of_its_block() -> None:
    cells = quiet(DEARER, counts=[10])
    cells.loc[cells["repeat"] == 5, [COST, THROUGHPUT]] *= 100  # the machine, not a server
    block = (cells["repeat"] == 5) & (cells["server"] == BASE)
    missing = cells[~block]
    invalid = cells.assign(status=cells["status"].mask(block, "invalid"))
    for table in (missing, invalid):
        it = row(verdicts_of(table), *PAIR)
        assert it["pairs"] == 4
        assert it["ratio"] == pytest.approx(1.1, rel=0.01)


def test_a_figure_of_zero_has_no_ratio() -> None:
    cells = quiet(ALIKE, counts=[10])
    cells.loc[cells.index[0], COST] = 0
    it = row(verdicts_of(cells), *PAIR)
    assert (it["pairs"], it["verdict"]) == (REPEATS - 1, comparisons.EQUAL)


def test_order_of_the_cells_does_not_matter_within_a_server() -> None:
    cells = sweep(np.random.default_rng(4), servers=list(PAIR))
    shuffled = cells.sample(frac=1, random_state=1).sort_values("server", kind="stable")
    expected = verdicts_of(cells.sort_values("server", kind="stable"))
    pd.testing.assert_frame_equal(verdicts_of(shuffled), expected)


def test_machines_are_never_pooled() -> None:
    here = quiet(DEARER, machine="12345678")
    there = quiet({"server_poll": 1, BASE: 1.1}, machine="00001e10")
    verdicts = verdicts_of(pd.concat([here, there]), limiter=lambda *_: "server-bound")
    for machine, verdict in (("12345678", comparisons.SLOWER), ("00001e10", comparisons.FASTER)):
        it = row(verdicts[verdicts["machine"] == machine], *PAIR)
        assert (it["verdict"], it["pairs"]) == (verdict, len(COUNTS) * REPEATS)


def test_what_limits_a_machine_does_not_limit_another() -> None:
    cells = pd.concat([quiet(ALIKE, machine=machine) for machine in ("here", "there")])
    summary = summary_of(cells)
    summary.loc[summary["machine"] == "there", "limiter"] = "starving"
    verdicts = comparisons.verdict_table(cells, summary)
    decided = verdicts[verdicts["verdict"] != comparisons.UNDECIDABLE]
    assert set(decided["machine"]) == {"here"}


# Where nothing can be said


def test_starving_servers_are_not_compared() -> None:
    verdicts = verdicts_of(
        quiet(DEARER),
        limiter=lambda server, count: (
            "starving" if server == BASE and count > 10 else "server-bound"
        ),
    )
    for metric in (COST, THROUGHPUT):
        point = row(verdicts, *PAIR, metric, connections=50)
        assert (point["verdict"], point["pairs"]) == (comparisons.UNDECIDABLE, 0)
        assert math.isnan(point["ratio"])
        assert point["reason"] == "server_epoll starving (another workload)"
        whole = row(verdicts, *PAIR, metric)
        assert whole["pairs"] == 2 * REPEATS
        assert whole["verdict"] in {comparisons.FASTER, comparisons.SLOWER}
        assert whole["reason"] == (
            "2 of 6 points comparable; "
            "server_epoll starving (another workload) at 50, 100, 500, 1000"
        )


@pytest.mark.parametrize(
    "limits",
    [
        {"limiter": lambda *_: "client-bound"},
        {"at_ceiling": lambda *_: True},
        {
            "limiter": lambda server, _: "client-bound" if server == BASE else "server-bound",
            "at_ceiling": lambda server, _: server != BASE,
        },
    ],
)
def test_where_wrk_limits_both_throughput_tells_nothing(
    limits: dict[str, Callable[[str, int], Any]],
) -> None:
    verdicts = verdicts_of(quiet(DEARER), **limits)
    throughput = verdicts[verdicts["metric"] == THROUGHPUT]
    assert set(throughput["verdict"]) == {comparisons.UNDECIDABLE}
    assert throughput["reason"].str.contains("wrk was the limit for both").all()
    assert row(verdicts, *PAIR, COST)["verdict"] == comparisons.SLOWER


def test_where_wrk_limits_one_throughput_is_compared() -> None:
    verdicts = verdicts_of(
        quiet(DEARER),
        limiter=lambda server, _: "client-bound" if server == "server_poll" else "server-bound",
    )
    assert row(verdicts, *PAIR, THROUGHPUT)["verdict"] == comparisons.FASTER


def test_a_server_without_valid_cells_is_not_compared() -> None:
    cells = quiet({"server_poll": 1, BASE: 1, "server_uring": 1})
    absent = cells["server"] == "server_uring"
    cells.loc[absent, "status"] = "unavailable"
    cells.loc[absent, [COST, THROUGHPUT]] = np.nan
    verdicts = verdicts_of(cells, limiter=lambda server, _: None if "uring" in server else "")
    its_rows = verdicts[verdicts["other"] == "server_uring"]
    assert set(its_rows["verdict"]) == {comparisons.UNDECIDABLE}
    assert its_rows["reason"].str.contains("no valid cells in common").all()
    # What was not tested does not make the other tests stricter.
    it = row(verdicts, *PAIR)
    assert it["p_adjusted"] == it["p_value"]


def test_one_repeat_decides_over_the_sweep_and_not_at_a_point() -> None:
    verdicts = verdicts_of(quiet(DEARER, repeats=1))
    whole, point = row(verdicts, *PAIR), row(verdicts, *PAIR, connections=10)
    assert (whole["pairs"], whole["verdict"]) == (len(COUNTS), comparisons.SLOWER)
    assert (point["pairs"], point["verdict"]) == (1, comparisons.UNDECIDABLE)
    assert point["reason"] == "only 1 pair"
    assert point[["ratio_low", "p_value", "smallest_detectable_percent"]].isna().all()


@pytest.mark.parametrize("factor", [1, 1.1])
def test_pairs_that_do_not_vary_are_not_tested(factor: float) -> None:
    variation = {THROUGHPUT: (0, 0), COST: (0, 0)}
    cells = quiet({"server_poll": factor, BASE: 1}, variation=variation)
    cells[[COST, THROUGHPUT]] = cells[[COST, THROUGHPUT]].mul(cells["repeat"] / 7, axis=0)
    verdicts = verdicts_of(cells)
    assert set(verdicts["verdict"]) == {comparisons.UNDECIDABLE}
    assert verdicts["reason"].str.startswith("the pairs do not vary").all()


@pytest.mark.parametrize("servers", [[], [BASE]])
def test_one_server_has_no_verdicts(servers: list[str]) -> None:
    verdicts = verdicts_of(sweep(np.random.default_rng(1), servers=servers))
    assert verdicts.empty
    assert list(verdicts.columns) == comparisons.VERDICT_COLUMNS


# Verdicts of another kind


def test_servers_that_cross_depend_on_connections() -> None:
    crossing = [0.95, 0.95, 1, 1, 1, 1.2]
    verdicts = verdicts_of(quiet({"server_poll": crossing, BASE: [1] * 6}))
    it = row(verdicts, *PAIR)
    assert it["verdict"] == comparisons.DEPENDS
    assert it["reason"] == "faster at 1, 10; slower at 1000"
    at_points = [row(verdicts, *PAIR, connections=count)["verdict"] for count in COUNTS]
    assert at_points == ["faster"] * 2 + ["no difference"] * 3 + ["slower"]


def test_one_sign_alone_does_not_depend_on_connections() -> None:
    verdicts = verdicts_of(quiet({"server_poll": [1.05, 1.1, 1, 1, 1, 1.2], BASE: [1] * 6}))
    it = row(verdicts, *PAIR)
    assert (it["verdict"], it["reason"]) == (comparisons.SLOWER, "")


def test_what_is_smaller_than_the_noise_floor_is_no_difference() -> None:
    verdicts = verdicts_of(
        quiet({"server_poll": 1.02, BASE: 1, "server_thread": 1.05, CONTROL: 1.03})
    )
    for connections in (comparisons.WHOLE_SWEEP, 10):
        below = row(verdicts, *PAIR, connections=connections)
        assert below["p_adjusted"] < comparisons.ALPHA
        assert (below["verdict"], below["reason"]) == (comparisons.EQUAL, comparisons.BELOW_FLOOR)
        above = row(verdicts, BASE, "server_thread", connections=connections)
        assert (above["verdict"], above["reason"]) == (comparisons.FASTER, "")
        assert above["noise_floor_percent"] == pytest.approx(3, abs=0.1)
        assert above["smallest_detectable_percent"] > 3
    control = row(verdicts, BASE, CONTROL)
    assert (control["verdict"], control["reason"]) == ("faster", comparisons.CONTROL_DIFFERS)


def test_points_below_the_noise_floor_do_not_make_it_depend() -> None:
    crossing = {"server_poll": [0.98, 1.2], BASE: [1, 1]}
    assert (
        row(verdicts_of(quiet(crossing, counts=[1, 10])), *PAIR)["verdict"] == comparisons.DEPENDS
    )
    with_control = quiet({**crossing, CONTROL: [1.03, 1.03]}, counts=[1, 10])
    assert row(verdicts_of(with_control), *PAIR)["verdict"] == comparisons.SLOWER


def test_without_a_control_the_noise_floor_is_unknown() -> None:
    assert verdicts_of(quiet(ALIKE))["noise_floor_percent"].isna().all()


# The scripts


def test_tables_have_the_columns_that_verdicts_need() -> None:
    assert set(comparisons.CELL_COLUMNS) <= set(tables.CELL_COLUMNS)
    assert {*comparisons.SUMMARY_COLUMNS, COST, "repeats_ok"} <= set(tables.SUMMARY_COLUMNS)


def run(folder: Path, script: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-W", "always", str(ROOT / "scripts" / script), *arguments]
    return subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)


def test_scripts_turn_tables_into_verdicts_and_their_picture(tmp_path: Path) -> None:
    cells = sweep(np.random.default_rng(6), machine="00001e10")
    tables.write_table(cells, str(tmp_path / "cells.csv"))
    tables.write_table(summary_of(cells), str(tmp_path / "summary.csv"))
    compared = run(tmp_path, "compare_servers.py", "cells.csv", "summary.csv", "verdicts.csv")
    assert (compared.returncode, compared.stderr) == (0, "")
    verdicts = pd.read_csv(tmp_path / "verdicts.csv", dtype={"machine": str})
    assert list(verdicts.columns) == comparisons.VERDICT_COLUMNS
    assert set(verdicts["machine"]) == {"00001e10"}
    pictures = []
    for _ in range(2):
        drawn = run(tmp_path, "plot_ranking.py", "verdicts.csv", "summary.csv", "ranking.png")
        assert (drawn.returncode, drawn.stderr) == (0, "")
        pictures.append((tmp_path / "ranking.png").read_bytes())
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize(
    ("cells", "fault"),
    [
        (None, "cells.csv"),
        ("server,connections\n", "no column machine, repeat"),
        ("", "No columns"),
    ],
)
def test_faults_of_a_table_are_told_in_one_line(
    cells: str | None, fault: str, tmp_path: Path
) -> None:
    if cells is not None:
        (tmp_path / "cells.csv").write_text(cells)
    tables.write_table(summary_of(quiet(ALIKE)), str(tmp_path / "summary.csv"))
    ended = run(tmp_path, "compare_servers.py", "cells.csv", "summary.csv", "verdicts.csv")
    assert ended.returncode == 1
    assert ended.stderr.startswith("compare_servers: ")
    assert fault in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "verdicts.csv").exists()


def test_a_cell_that_is_there_twice_is_refused() -> None:
    cells = quiet(ALIKE)
    with pytest.raises(ValueError, match="twice"):
        verdicts_of(pd.concat([cells, cells]))


# The ranking


def test_letters_are_the_largest_groups_that_are_not_told_apart() -> None:
    random, names = np.random.default_rng(8), list("abcdef")
    for _ in range(50):
        pairs = [frozenset(pair) for pair in itertools.combinations(names, 2)]
        told_apart = [pair for pair in pairs if random.random() < 0.5]
        alike = [
            set(group)
            for size in range(1, len(names) + 1)
            for group in itertools.combinations(names, size)
            if not any(pair <= set(group) for pair in told_apart)
        ]
        largest = [group for group in alike if not any(group < other for other in alike)]
        found = comparisons.letter_groups(names, told_apart)
        assert sorted(map(sorted, found)) == sorted(map(sorted, largest))
    assert comparisons.letter_groups("abc", [frozenset("ac")]) == [{"a", "b"}, {"b", "c"}]


FOUR = {"server": 4, "server_thread": 2, BASE: 1, "server_uring": 0.8, CONTROL: 1}


def limiter_of_blocking(server: str, connections: int) -> str:
    return "starving" if server == "server" and connections > 1 else "server-bound"


def ranking_sweep(**changes: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    cells = sweep(np.random.default_rng(9), servers=list(FOUR), factors=FOUR, lost=0, **changes)
    summary = summary_of(cells, limiter=limiter_of_blocking)
    return comparisons.verdict_table(cells, summary), summary


def test_ranking_is_by_cost_with_the_control_beside_its_base() -> None:
    verdicts, summary = ranking_sweep()
    # What starves is cheap, and serves another workload.
    starving = (summary["limiter"] == "starving") & (summary["connections"] == 10)
    summary.loc[starving, COST] = 1
    servers = plot_ranking.ordered(list(FOUR), summary)
    assert servers == ["server_uring", BASE, CONTROL, "server_thread", "server"]
    assert plot_ranking.reference_of(list(FOUR), summary) == BASE
    without = [server for server in FOUR if server != CONTROL]
    assert plot_ranking.reference_of(without, summary) == "server_thread"
    its_verdicts = verdicts[verdicts["metric"] == COST]
    ratios = {name: plot_ranking.row_of(name, BASE, its_verdicts) for name in FOUR}
    assert ratios[BASE].ratio == 1
    assert ratios["server_uring"].ratio == pytest.approx(
        0.8, rel=0.03
    )  # stands as BASE / server_uring
    assert ratios["server_thread"].ratio == pytest.approx(2, rel=0.03)
    assert ratios["server_uring"].low < ratios["server_uring"].ratio < ratios["server_uring"].high
    assert ratios["server"].remark == "1 of 6 points"
    assert plot_ranking.letters_of([*without, "unavailable"], its_verdicts) == {
        "server": "a",
        "server_thread": "b",
        BASE: "c",
        "server_uring": "d",
        "unavailable": "",
    }


@pytest.mark.parametrize("servers", [[BASE], list(FOUR)[:4], ["server_uring", BASE], list(FOUR)])
@pytest.mark.parametrize("repeats", [1, 2, 5])
def test_every_ranking_is_drawn(servers: list[str], repeats: int, tmp_path: Path) -> None:
    verdicts, summary = ranking_sweep(repeats=repeats)
    summary = summary[summary["server"].isin(servers)]
    verdicts = verdicts[verdicts["server"].isin(servers) & verdicts["other"].isin(servers)]
    plot_ranking.draw(verdicts, summary, str(tmp_path / "ranking.png"))
    assert (tmp_path / "ranking.png").stat().st_size > 5000


def test_what_cannot_be_compared_has_no_place_in_the_ranking() -> None:
    verdicts = verdicts_of(quiet(ALIKE), limiter=lambda *_: "starving")
    row = plot_ranking.row_of("server_poll", BASE, verdicts[verdicts["metric"] == COST])
    assert row is plot_ranking.NOTHING


def test_ranking_says_what_a_reader_must_know() -> None:
    cells = quiet({"server_poll": 1, BASE: 1, CONTROL: 1.03})
    verdicts = verdicts_of(cells, limiter=lambda _, count: "client-bound" if count > 10 else "")
    notes = "\n".join(plot_ranking.notes_of(verdicts))
    assert "8 of 12 comparisons" in notes
    assert "CPU time per request 3 %" in notes
    assert "doubt" in notes
    nowhere = verdicts_of(cells, limiter=lambda *_: "client-bound")
    assert "Throughput unknown" in "\n".join(plot_ranking.notes_of(nowhere))
    notes = "\n".join(plot_ranking.notes_of(verdicts_of(quiet(ALIKE))))
    assert "No control" in notes
    assert "wrk was the limit" not in notes
