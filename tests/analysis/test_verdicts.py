"""Verdicts about synthetic sweeps whose truth is known, and the picture of their ranking."""

import functools
import itertools
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import polygamma

from analysis import inference, ranking, tables
from analysis import summary as summaries
from analysis.summary import summary_table
from analysis.verdicts import (
    BELOW_FLOOR,
    BETTER_SIGN,
    CELL_COLUMNS,
    CONTROL_DIFFERS,
    CPU_RATIO,
    DEPENDS,
    DIFFERENCES,
    EQUAL,
    FASTER,
    NO_NOISE,
    NO_RATIO,
    OTHER_YARDSTICK,
    RATE,
    SLOWER,
    SUMMARY_COLUMNS,
    TAIL,
    THROUGHPUT,
    UNDECIDABLE,
    VERDICT_COLUMNS,
    WHOLE_SWEEP,
    pairs_of,
    verdict_table,
)
from helpers.made_up import record
from sweep.cells import CONTROL_SUFFIX

pytestmark = pytest.mark.filterwarnings("error")

BASE = "server_epoll"
CONTROL = BASE + CONTROL_SUFFIX
SERVERS = ["server", "server_thread", "server_select", "server_poll", BASE, "server_mine"]
SERVERS += ["server_uring", "server_uring_multitask", CONTROL]
COUNTS = [1, 10, 50, 100, 500, 1000]
REPEATS = 5
# Of ratios to the reference between repeats, of one server and another.
VARIATION = {THROUGHPUT: (0.02, 0.05), CPU_RATIO: (0.02, 0.03)}
TYPICAL = {THROUGHPUT: 0.9, CPU_RATIO: 1.1, RATE: 5000.0, TAIL: 900.0}
SWEEPS = 300
ROUGH_SWEEPS = 150
YARDSTICK, OTHER = "01234567", "89abcdef"

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
    machine: str = "m0123abcd",
    workload: str = "keepalive",
    decided_by: str = CPU_RATIO,
) -> pd.DataFrame:
    """cells.csv of servers that differ by `factors` alone, in the metrics of `variation`; `lost` is missing, as much is
    invalid."""
    shape = (len(servers), len(counts), repeats)
    index = pd.MultiIndex.from_product(
        [servers, counts, range(1, repeats + 1)], names=["server", "connections", "repeat"]
    )
    status = random.choice(["ok", "invalid", ""], shape, p=[1 - 2 * lost, lost, lost])
    columns: dict[str, Any] = {"machine": machine, "workload": workload, "decided_by": decided_by}
    columns |= {"yardstick": YARDSTICK, "flags": "", **dict.fromkeys(BETTER_SIGN, math.nan)}
    columns["status"] = status.ravel()
    truth = np.ones(shape)
    for server, factor in (factors or {}).items():
        truth[servers.index(server)] = np.reshape(factor, (-1, 1))
    for metric, (low, high) in variation.items():
        deviation = np.sqrt(np.log1p(random.uniform(low, high, (len(servers), 1, 1)) ** 2))
        noise = deviation * random.normal(size=shape)
        columns[metric] = (TYPICAL[metric] * truth * np.exp(noise)).ravel()
    cells = pd.DataFrame(columns, index=index).reset_index()
    return cells[cells["status"] != ""]


def summary_of(cells: pd.DataFrame, **limits: Callable[[str, int], Any]) -> pd.DataFrame:
    """summary.csv with what verdicts need of it: server-bound points, but for `limits` by server and connections."""
    keys = ["machine", "workload", "decided_by", "server", "connections"]
    means = cells.groupby(keys, sort=False)[[*BETTER_SIGN]].mean()
    summary = means.reset_index().assign(limiter="server-bound", flags="", repeats_ok=1)
    summary[RATE] = summary[RATE].fillna(summary[CPU_RATIO])
    summary = summary.assign(repeats_invalid=0, repeats_failed=0, repeats_unavailable=0)
    for column, limit in limits.items():
        points = zip(summary["server"], summary["connections"], strict=True)
        summary[column] = [limit(*point) for point in points]
    return summary


def limited(word: str, *names: str, above: int = 0) -> Callable[[str, int], str]:
    """What limits servers of these names, or all, at more connections than so many."""
    return lambda name, count: word if name in (names or [name]) and count > above else ""


def verdicts_of(cells: pd.DataFrame, **limits: Callable[[str, int], Any]) -> pd.DataFrame:
    return verdict_table(cells, summary_of(cells, **limits))


def notes_of(cells: pd.DataFrame, **limits: Callable[[str, int], Any]) -> list[str]:
    """The notes of the ranking."""
    summary = summary_of(cells, **limits)
    return ranking.notes_of(cells, verdict_table(cells, summary))


def row(
    verdicts: pd.DataFrame,
    server: str,
    other: str,
    metric: str = CPU_RATIO,
    connections: Any = WHOLE_SWEEP,
) -> "pd.Series[Any]":
    wanted = (verdicts["server"] == server) & (verdicts["other"] == other)
    wanted &= (verdicts["metric"] == metric) & (verdicts["connections"] == connections)
    assert wanted.sum() == 1
    found: pd.Series[Any] = verdicts[wanted].iloc[0]
    return found


def quiet(factors: Factors, seed: int = 1, **changes: Any) -> pd.DataFrame:
    """A sweep with little noise, in which nothing is lost."""
    variation = {THROUGHPUT: (0.002, 0.002), CPU_RATIO: (0.002, 0.002)}
    changes = {"variation": variation, "lost": 0, "servers": list(factors), **changes}
    return sweep(np.random.default_rng(seed), factors=factors, **changes)


PAIR = ("server_poll", BASE)
ALIKE = {"server_poll": 1, BASE: 1}
DEARER = {"server_poll": 1.1, BASE: 1}


# What the whole method promises, over many sweeps


def tolerated(sweeps: int) -> float:
    """False verdicts may be in 5 % of the sweeps: more than this many would be seen in 1 % of the trials."""
    return float(stats.binom.ppf(0.99, sweeps, inference.ALPHA))


@functools.cache
def sweeps_of_equal_servers() -> list[pd.DataFrame]:
    random = np.random.default_rng(20260101)
    return [verdicts_of(sweep(random)) for _ in range(SWEEPS)]


@pytest.mark.simulation
@pytest.mark.parametrize("metric", [CPU_RATIO, THROUGHPUT])
@pytest.mark.parametrize("whole_sweep", [True, False])
def test_equal_servers_are_told_apart_in_5_of_100_sweeps_at_most(
    metric: str, whole_sweep: bool
) -> None:
    false = 0
    for verdicts in sweeps_of_equal_servers():
        level = (verdicts["connections"] == WHOLE_SWEEP) == whole_sweep
        found = verdicts.loc[level & (verdicts["metric"] == metric), "verdict"]
        false += bool(found.isin(DIFFERENCES).any())
    assert false <= tolerated(SWEEPS)


def rough_sweep(random: np.random.Generator, factors: Factors) -> pd.DataFrame:
    """A sweep whose noise is another at each point, and has heavy tails."""
    cells = sweep(random, list(factors), factors=factors, variation={}, lost=0)
    points = cells["connections"].map(COUNTS.index)
    truth = [factors[name][point] for name, point in zip(cells["server"], points, strict=True)]
    for metric, (low, high) in {THROUGHPUT: (0.01, 0.08), CPU_RATIO: (0.01, 0.04)}.items():
        deviation = random.uniform(low, high, len(COUNTS))[points]
        noise = deviation * random.standard_t(3, len(cells)) / math.sqrt(3)
        cells[metric] = TYPICAL[metric] * np.array(truth) * np.exp(noise)
    return cells


COMPARED = [server for server in SERVERS if server != CONTROL]


@pytest.mark.simulation
@pytest.mark.parametrize("factor", [1.0, 1.5, 3.0])
def test_rough_noise_makes_no_more_false_verdicts_over_the_sweep(factor: float) -> None:
    """Four of the servers cost more at one point, and are equal elsewhere; with a factor of 1 all are equal."""
    random = np.random.default_rng(20260102)
    dearer = set(COMPARED[:4])
    factors = {name: [1, 1, 1, 1, 1, factor if name in dearer else 1] for name in COMPARED}
    false = {CPU_RATIO: 0, THROUGHPUT: 0}
    for _ in range(ROUGH_SWEEPS):
        verdicts = verdicts_of(rough_sweep(random, factors))
        whole = verdicts[verdicts["connections"] == WHOLE_SWEEP]
        whole = whole[whole["verdict"].isin(DIFFERENCES)]
        higher = whole["server"].isin(dearer).astype(int) - whole["other"].isin(dearer).astype(int)
        higher *= int(factor > 1)
        found = whole["verdict"].map({FASTER: 1, SLOWER: -1})
        right = (higher != 0) & (found == higher * whole["metric"].map(BETTER_SIGN))
        for metric in false:
            false[metric] += bool((~right & (whole["metric"] == metric)).any())
    assert max(false.values()) <= tolerated(ROUGH_SWEEPS), false


@pytest.mark.simulation
@pytest.mark.parametrize(("metric", "verdict"), [(CPU_RATIO, SLOWER), (THROUGHPUT, FASTER)])
def test_smallest_detectable_difference_is_found_in_nine_of_ten_sweeps(
    metric: str, verdict: str
) -> None:
    pair = ("server_thread", "server_poll", metric)
    percent = np.median(
        [row(it, *pair)["smallest_detectable_percent"] for it in sweeps_of_equal_servers()]
    )
    assert percent < 5  # at a noise of 2 to 5 %
    random = np.random.default_rng(17)
    factors = {"server_thread": 1 + percent / 100}
    fresh = [verdicts_of(sweep(random, factors=factors)) for _ in range(SWEEPS)]
    found = sum(row(verdicts, *pair)["verdict"] == verdict for verdicts in fresh)
    assert 0.85 * SWEEPS <= found <= 0.95 * SWEEPS


# The statistics, against others' figures


def test_holm_against_an_example_by_hand() -> None:
    # Sorted: 0.005 × 4, 0.01 × 3, 0.03 × 2, then 0.04 × 1 raised to the one before; NaN is no test.
    adjusted = inference.holm(np.array([[0.01, 0.04, np.nan], [0.03, 0.005, np.nan]]))
    np.testing.assert_allclose(adjusted, [[0.03, 0.06, np.nan], [0.06, 0.02, np.nan]])
    assert inference.holm(np.array([0.7, 0.8])).max() == 1


def logarithms_of(cells: pd.DataFrame, server: str, connections: int) -> Any:
    its = (cells["server"] == server) & (cells["connections"] == connections)
    return np.log(cells.loc[its, CPU_RATIO].to_numpy())


def alike(seed: int) -> pd.DataFrame:
    """Two servers that vary exactly alike, at each point otherwise."""
    cells = sweep(np.random.default_rng(seed), servers=list(PAIR), lost=0)
    first, second = (cells["server"] == name for name in PAIR)
    cells.loc[second, CPU_RATIO] = 1.01 * cells.loc[first, CPU_RATIO].to_numpy()
    return cells


def test_where_servers_vary_alike_a_point_is_compared_by_students_t_as_scipy_does_it() -> None:
    cells = alike(2)
    one, other = (logarithms_of(cells, name, 50) for name in PAIR)
    expected = stats.ttest_ind(one, other)
    interval = expected.confidence_interval(0.95)
    it = row(verdicts_of(cells), *PAIR, connections=50)
    assert it["pairs"] == REPEATS
    assert it["ratio"] == pytest.approx(1 / 1.01)
    assert it["p_value"] == pytest.approx(expected.pvalue)
    assert it["ratio_low"] == pytest.approx(np.exp(interval.low))
    assert it["ratio_high"] == pytest.approx(np.exp(interval.high))


def test_over_the_sweep_points_count_alike_and_their_variances_are_added() -> None:
    cells = alike(3)
    variances = np.array(
        [2 * stats.sem(logarithms_of(cells, BASE, count)) ** 2 for count in COUNTS]
    )
    error = np.sqrt(variances.sum()) / len(COUNTS)
    freedom = variances.sum() ** 2 / (variances**2 / (2 * (REPEATS - 1))).sum()
    mean = -np.log(1.01)
    it = row(verdicts_of(cells), *PAIR)
    assert it["pairs"] == len(COUNTS) * REPEATS
    assert it["ratio"] == pytest.approx(np.exp(mean))
    assert it["p_value"] == pytest.approx(2 * stats.t.sf(abs(mean) / error, freedom))
    assert it["ratio_high"] == pytest.approx(np.exp(mean + stats.t.isf(0.025, freedom) * error))


@pytest.mark.parametrize("prior", [4.0, 8.0, np.inf])
def test_variances_are_drawn_together_as_far_as_they_are_alike(prior: float) -> None:
    """Of 4,000 servers whose true variances are drawn as the method takes them to be."""
    random = np.random.default_rng(4)
    true = np.ones(4000) if np.isinf(prior) else prior / random.chisquare(prior, 4000)
    freedoms = np.full((4000, 1), REPEATS - 1)
    squares = true[:, np.newaxis] * random.chisquare(REPEATS - 1, (4000, 1))
    variances, worth = inference.moderate(squares, freedoms)
    found = worth[0, 0] - freedoms[0, 0]
    if np.isinf(prior):
        assert found > 100
        assert variances == pytest.approx(squares.sum() / freedoms.sum(), rel=0.2)
    else:
        assert found == pytest.approx(prior, rel=0.15)
        weight = freedoms / (freedoms + found)
        common = squares.sum() / freedoms.sum()
        assert variances == pytest.approx(weight * squares / freedoms + (1 - weight) * common)


def test_a_server_that_varies_more_at_all_points_does_not_blur_the_others() -> None:
    true = np.ones((8, 6))
    true[3] = 16
    squares = true * np.random.default_rng(8).chisquare(2, true.shape)
    variances, worth = inference.moderate(squares, np.full(true.shape, 2))
    assert variances[3].mean() > 8
    assert np.delete(variances, 3, axis=0).mean() == pytest.approx(1, rel=0.3)
    assert worth.min() > 6


def test_trigamma_is_inverted() -> None:
    for x in (1e-3, 0.5, 3.0, 1e4):
        assert inference.inverse_trigamma(float(polygamma(1, x))) == pytest.approx(x, rel=1e-6)


@pytest.mark.parametrize("floor", [0.0, 0.2])
def test_smallest_detectable_difference_has_its_power_by_the_noncentral_t(floor: float) -> None:
    pairs, errors = np.array([3, 5, 30]), np.array([0.1, 0.02, 0.01])
    differences = inference.smallest_detectable(pairs - 1.0, errors, np.full(3, floor))
    t_critical = stats.t.isf(inference.ALPHA / 2 / len(pairs), pairs - 1)
    significant = stats.nct.sf(t_critical, pairs - 1, differences / errors)
    above_floor = stats.norm.sf(floor, differences, errors)
    found = np.minimum(significant, above_floor)
    np.testing.assert_allclose(found, inference.POWER, rtol=1e-4)


# What is compared with what


def test_a_control_is_compared_with_its_base_alone() -> None:
    servers = ["a", CONTROL, BASE, "b", "flow" + CONTROL_SUFFIX]
    pairs = [{servers[first], servers[second]} for first, second in pairs_of(servers)]
    assert {CONTROL, BASE} in pairs
    # The control of a server that was not measured has no pair.
    assert len(pairs) == 1 + math.comb(3, 2)


def test_what_is_invalid_or_missing_is_left_out() -> None:
    cells = quiet(DEARER, counts=[10])
    last = (cells["repeat"] == 5) & (cells["server"] == BASE)
    cells.loc[last, [CPU_RATIO, THROUGHPUT]] *= 100
    invalid = cells.assign(status=cells["status"].mask(last, "invalid"))
    for table in (cells[~last], invalid):
        it = row(verdicts_of(table), *PAIR)
        assert it["pairs"] == 4
        assert it["ratio"] == pytest.approx(1.1, rel=0.01)


def test_a_figure_of_zero_has_no_ratio() -> None:
    cells = quiet(ALIKE, counts=[10])
    cells.loc[cells.index[0], CPU_RATIO] = 0
    it = row(verdicts_of(cells), *PAIR)
    assert (it["pairs"], it["verdict"]) == (REPEATS - 1, EQUAL)


def test_order_of_the_cells_does_not_matter_within_a_server() -> None:
    cells = sweep(np.random.default_rng(4), servers=list(PAIR))
    shuffled = cells.sample(frac=1, random_state=1).sort_values("server", kind="stable")
    expected = verdicts_of(cells.sort_values("server", kind="stable"))
    pd.testing.assert_frame_equal(verdicts_of(shuffled), expected)


def test_machines_are_never_pooled() -> None:
    here = quiet(DEARER, machine="m1")
    there = quiet({"server_poll": 1, BASE: 1.1}, machine="m2")
    verdicts = verdicts_of(pd.concat([here, there]))
    for machine, verdict in (("m1", SLOWER), ("m2", FASTER)):
        it = row(verdicts[verdicts["machine"] == machine], *PAIR)
        assert (it["verdict"], it["pairs"]) == (verdict, len(COUNTS) * REPEATS)


def test_what_limits_a_machine_does_not_limit_another() -> None:
    cells = pd.concat([quiet(ALIKE, machine=machine) for machine in ("here", "there")])
    summary = summary_of(cells)
    summary.loc[summary["machine"] == "there", "limiter"] = "starving"
    verdicts = verdict_table(cells, summary)
    decided = verdicts[verdicts["verdict"] != UNDECIDABLE]
    assert set(decided["machine"]) == {"here"}


# Where nothing can be said


def test_starving_servers_are_not_compared() -> None:
    verdicts = verdicts_of(quiet(DEARER), limiter=limited("starving", BASE, above=50))
    for metric, verdict in ((CPU_RATIO, SLOWER), (THROUGHPUT, FASTER)):
        point = row(verdicts, *PAIR, metric, connections=100)
        assert (point["verdict"], point["pairs"]) == (UNDECIDABLE, 0)
        assert math.isnan(point["ratio"])
        assert point["reason"] == "server_epoll starving (another workload)"
        whole = row(verdicts, *PAIR, metric)
        assert whole["pairs"] == 3 * REPEATS
        assert whole["verdict"] == verdict
        assert whole["ratio"] == pytest.approx(1.1, rel=0.01)
        assert whole["reason"] == (
            "3 of 6 points comparable; server_epoll starving (another workload) at 100, 500, 1000"
        )


def test_a_connection_per_request_is_compared_only_with_the_same() -> None:
    for short, reason in (
        ({BASE}, "server_epoll: a connection per request (another workload)"),
        ({*PAIR}, ""),
    ):
        flags = {name: "connection_per_request" if name in short else "" for name in PAIR}
        verdicts = verdicts_of(quiet(DEARER), flags=lambda server, _, flags=flags: flags[server])
        for metric in (CPU_RATIO, THROUGHPUT):
            point = row(verdicts, *PAIR, metric, connections=100)
            assert (point["verdict"] == UNDECIDABLE) == bool(reason)
            assert (point["pairs"] == 0) == bool(reason)
            assert point["reason"] == reason


def test_a_verdict_over_the_sweep_needs_half_of_its_points() -> None:
    cells = quiet({"server_poll": 1.1, BASE: 1, "server_uring": 1.2})
    verdicts = verdicts_of(cells, limiter=limited("starving", BASE, above=1))
    few = row(verdicts, *PAIR)
    assert few["verdict"] == UNDECIDABLE
    assert few["reason"].startswith("only 1 of 6 points comparable; server_epoll starving")
    assert few["pairs"] == REPEATS
    assert few["ratio"] == pytest.approx(1.1, rel=0.01)
    assert row(verdicts, *PAIR, connections=1)["verdict"] == SLOWER
    # It is no test, and does not make the others stricter.
    assert few[["p_value", "p_adjusted", "smallest_detectable_percent"]].isna().all()
    it = row(verdicts, "server_poll", "server_uring")
    assert it["p_adjusted"] == it["p_value"]
    its_verdicts = verdicts[verdicts["metric"] == CPU_RATIO]
    assert ranking.row_of("server_poll", BASE, its_verdicts).remark == "1 of 6 points"
    assert ranking.letters_of([*PAIR, "server_uring"], its_verdicts)[BASE] == ""
    half = verdicts_of(quiet(DEARER, counts=[1, 10]), limiter=limited("starving", above=1))
    assert row(half, *PAIR)["verdict"] == SLOWER
    assert row(half, *PAIR)["reason"].startswith("1 of 2 points comparable")


def test_where_wrk_limits_both_throughput_tells_nothing() -> None:
    verdicts = verdicts_of(quiet(DEARER), limiter=limited("client-bound"))
    throughput = verdicts[verdicts["metric"] == THROUGHPUT]
    assert set(throughput["verdict"]) == {UNDECIDABLE}
    assert throughput["reason"].str.contains("wrk was the limit for both").all()
    assert row(verdicts, *PAIR, CPU_RATIO)["verdict"] == SLOWER


@pytest.mark.parametrize(
    ("server", "verdict"),
    [("server_poll", FASTER), (BASE, UNDECIDABLE)],
)
def test_a_server_that_wrk_limits_can_be_faster_but_not_slower(server: str, verdict: str) -> None:
    cells = quiet({"server_poll": 1.3, BASE: 1})
    verdicts = verdicts_of(cells, limiter=limited("client-bound", server))
    for level in (WHOLE_SWEEP, 50):
        found = row(verdicts, *PAIR, THROUGHPUT, level)
        assert found["verdict"] == verdict
        assert ("lower bound" in found["reason"]) == (verdict == UNDECIDABLE)
    assert row(verdicts, *PAIR, CPU_RATIO)["verdict"] == SLOWER


def test_a_control_is_compared_where_wrk_limits_but_not_where_it_starves() -> None:
    cells = quiet({"server_poll": 1, BASE: 1, CONTROL: [1, 1, 1, 1.06, 1.06, 1.06]})
    bound = verdicts_of(cells, limiter=limited("client-bound"))
    control = row(bound, BASE, CONTROL, THROUGHPUT)
    assert (control["pairs"], control["noise_floor_percent"]) == (30, pytest.approx(3, abs=0.2))
    assert row(bound, *PAIR, THROUGHPUT)["pairs"] == 0
    wrong = verdicts_of(quiet({BASE: 1, CONTROL: 1.3}), limiter=limited("client-bound"))
    assert row(wrong, BASE, CONTROL, THROUGHPUT)["verdict"] == SLOWER
    starving = verdicts_of(cells, limiter=limited("starving", above=50))
    assert row(starving, BASE, CONTROL, THROUGHPUT)["pairs"] == 15


def test_disturbed_cells_count_only_where_there_are_no_others() -> None:
    cells = quiet({"server_poll": 1, BASE: 1})
    first = cells["repeat"] == 1
    spoilt = cells.assign(flags=np.where(first, "littles_law;disturbed", ""))
    spoilt.loc[first & (cells["server"] == BASE), [CPU_RATIO, THROUGHPUT]] *= 5
    verdicts = verdicts_of(spoilt)
    assert row(verdicts, *PAIR)["pairs"] == 24
    assert row(verdicts, *PAIR)["ratio"] == pytest.approx(1, abs=0.05)
    assert row(verdicts_of(cells.assign(flags="disturbed")), *PAIR)["pairs"] == 30


# Cells of different runs


def test_a_cell_measured_again_compares_as_long_as_its_yardstick_is_the_same() -> None:
    cells = quiet({"server_poll": 1.1, BASE: 1, "server_uring": 0.9, "server_thread": 2})
    together = verdicts_of(cells)
    again = cells["server"] == "server_uring"
    mixed = cells.assign(yardstick=cells["yardstick"].mask(again, OTHER))
    verdicts = verdicts_of(mixed)
    its = (verdicts["server"] == "server_uring") | (verdicts["other"] == "server_uring")
    assert set(verdicts.loc[its, "verdict"]) == {UNDECIDABLE}
    assert set(verdicts.loc[its, "pairs"]) == {0}
    at_points = its & (verdicts["connections"] != WHOLE_SWEEP)
    expected = f"server_uring {OTHER_YARDSTICK}"
    assert set(verdicts.loc[at_points, "reason"]) == {expected}
    whole = row(verdicts, BASE, "server_uring")["reason"]
    assert whole.startswith(f"none of 6 points comparable; {expected} at 1, 10")
    columns = [name for name in VERDICT_COLUMNS if name not in WHAT_THE_FAMILY_CHANGES]
    pd.testing.assert_frame_equal(verdicts.loc[~its, columns], together.loc[~its, columns])
    hint = "delete their records"
    assert sum(hint in note for note in notes_of(mixed)) == 1
    assert not any(hint in note for note in notes_of(cells))


WHAT_THE_FAMILY_CHANGES = ["p_value", "p_adjusted", "smallest_detectable_percent"]
WHAT_THE_FAMILY_CHANGES += ["ratio_low", "ratio_high"]  # by what their variances are drawn to


def test_repeats_with_another_yardstick_are_left_out() -> None:
    cells = quiet(DEARER)
    again = (cells["server"] == BASE) & (cells["connections"] == 10) & (cells["repeat"] <= 2)
    cells.loc[again, [CPU_RATIO, THROUGHPUT]] *= 100
    it = row(verdicts_of(cells.assign(yardstick=cells["yardstick"].mask(again, OTHER))), *PAIR)
    assert (it["pairs"], it["verdict"], it["reason"]) == (28, SLOWER, "")
    assert it["ratio"] == pytest.approx(1.1, rel=0.01)


def test_a_point_with_few_repeats_is_left_out_of_the_sweep() -> None:
    cells = quiet(DEARER)
    lost = (cells["server"] == BASE) & (cells["connections"] == 10) & (cells["repeat"] > 1)
    verdicts = verdicts_of(cells[~lost])
    whole = row(verdicts, *PAIR)
    assert (whole["verdict"], whole["pairs"]) == (SLOWER, 25)
    assert whole["reason"] == f"5 of 6 points comparable; only 1 repeat of {BASE} at 10"
    assert row(verdicts, *PAIR, connections=10)["verdict"] == UNDECIDABLE


def test_cells_without_ratios_are_in_no_majority() -> None:
    """As records of earlier versions, of six servers, beside two that were measured again."""
    cells = quiet(dict.fromkeys(SERVERS[:6], 1) | DEARER)
    old = ~cells["server"].isin(PAIR)
    cells.loc[old, [CPU_RATIO, THROUGHPUT]] = np.nan
    verdicts = verdicts_of(cells.assign(yardstick=cells["yardstick"].mask(old, OTHER)))
    assert row(verdicts, *PAIR)["verdict"] == SLOWER


def test_the_summary_has_ratios_of_one_yardstick_alone() -> None:
    rows = [record(repeat, cpu_ratio=1.0, reference_sha256="a" * 64) for repeat in (1, 2, 3)]
    rows += [record(4, cpu_ratio=5.0, reference_sha256="b" * 64)]
    (point,) = summary_table(tables.cell_table(rows)).to_dict("records")
    assert point["cpu_ratio"] == pytest.approx(1)


def test_valid_cells_without_ratios_are_told_from_those_that_are_missing() -> None:
    cells = quiet(ALIKE)
    cells.loc[cells["server"] == BASE, THROUGHPUT] = np.nan
    verdicts = verdicts_of(cells)
    assert row(verdicts, *PAIR)["verdict"] == EQUAL
    missing = row(verdicts, *PAIR, THROUGHPUT, 10)
    assert missing["verdict"] == UNDECIDABLE
    assert missing["reason"] == f"{NO_RATIO} of {BASE}"


def test_a_server_without_valid_cells_is_not_compared() -> None:
    cells = quiet({"server_poll": 1, BASE: 1, "server_uring": 1})
    absent = cells["server"] == "server_uring"
    cells.loc[absent, "status"] = "unavailable"
    cells.loc[absent, [CPU_RATIO, THROUGHPUT]] = np.nan
    verdicts = verdicts_of(cells, limiter=lambda server, _: None if "uring" in server else "")
    its_rows = verdicts[verdicts["other"] == "server_uring"]
    assert set(its_rows["verdict"]) == {UNDECIDABLE}
    assert its_rows["reason"].str.contains("no valid cells of server_uring").all()
    # What was not tested does not make the other tests stricter.
    it = row(verdicts, *PAIR)
    assert it["p_adjusted"] == it["p_value"]


@pytest.mark.parametrize(("repeats", "enough"), [(1, False), (2, True)])
def test_one_repeat_decides_nothing(repeats: int, enough: bool) -> None:
    verdicts = verdicts_of(quiet(DEARER, repeats=repeats))
    point = row(verdicts, *PAIR, connections=10)
    for it in (row(verdicts, *PAIR), point):
        assert it["verdict"] == (SLOWER if enough else UNDECIDABLE)
    if not enough:
        assert point["reason"] == NO_NOISE
        assert point["ratio"] == pytest.approx(1.1, rel=0.01)
        assert point[["ratio_low", "p_value", "smallest_detectable_percent"]].isna().all()


@pytest.mark.parametrize("factor", [1, 1.1])
def test_repeats_that_do_not_vary_are_not_tested(factor: float) -> None:
    variation = {THROUGHPUT: (0, 0), CPU_RATIO: (0, 0)}
    cells = quiet({"server_poll": factor, BASE: 1}, variation=variation)
    verdicts = verdicts_of(cells)
    assert set(verdicts["verdict"]) == {UNDECIDABLE}
    assert verdicts["reason"].str.startswith(NO_NOISE).all()


@pytest.mark.parametrize("servers", [[], [BASE]])
def test_one_server_has_no_verdicts(servers: list[str]) -> None:
    verdicts = verdicts_of(sweep(np.random.default_rng(1), servers=servers))
    assert verdicts.empty
    assert list(verdicts.columns) == VERDICT_COLUMNS


# Workloads


def decided_by(metric: str, factors: Factors, **changes: Any) -> pd.DataFrame:
    """A quiet sweep of a workload that this figure of the undivided run decides."""
    variation = {metric: (0.002, 0.002)}
    return quiet(factors, variation=variation, workload="mine", decided_by=metric, **changes)


def test_workloads_are_never_pooled() -> None:
    """Two with opposite truths: each has the verdicts that it would have alone."""
    both = [quiet(DEARER), quiet({"server_poll": 0.9, BASE: 1}, seed=2, workload="mine")]
    alone = pd.concat(map(verdicts_of, both), ignore_index=True)
    pd.testing.assert_frame_equal(verdicts_of(pd.concat(both)), alone)
    of_sweep = alone[(alone["connections"] == WHOLE_SWEEP) & (alone["metric"] == CPU_RATIO)]
    assert dict(zip(of_sweep["workload"], of_sweep["verdict"], strict=True)) == {
        "keepalive": SLOWER,
        "mine": FASTER,
    }


@pytest.mark.parametrize(("metric", "verdict"), [(RATE, FASTER), (TAIL, SLOWER)])
def test_a_workload_that_another_figure_decides_has_verdicts_on_this_one_alone(
    metric: str, verdict: str
) -> None:
    verdicts = verdicts_of(pd.concat([quiet(DEARER), decided_by(metric, DEARER)]))
    its = verdicts[verdicts["workload"] == "mine"]
    assert set(its["metric"]) == {metric}
    assert set(its["verdict"]) == {verdict}
    others = verdicts[verdicts["workload"] != "mine"]
    assert set(others["metric"]) == {CPU_RATIO, THROUGHPUT}


def test_throughput_that_wrk_limits_is_not_decided_whichever_figure_it_is() -> None:
    cells = decided_by(RATE, DEARER)
    limits = {"limiter": limited("client-bound", *PAIR)}
    assert set(verdicts_of(cells, **limits)["verdict"]) == {UNDECIDABLE}
    tail = decided_by(TAIL, DEARER)
    assert set(verdicts_of(tail, **limits)["verdict"]) == {SLOWER}


def test_figures_without_a_ratio_compare_under_one_yardstick_too() -> None:
    cells = decided_by(RATE, {**ALIKE, "server_uring": 1})
    cells.loc[cells["server"] == "server_uring", "yardstick"] = OTHER
    verdicts = verdicts_of(cells)
    its = (verdicts["server"] == "server_uring") | (verdicts["other"] == "server_uring")
    assert set(verdicts.loc[its, "verdict"]) == {UNDECIDABLE}
    assert row(verdicts, *PAIR, RATE)["verdict"] == EQUAL


# Verdicts of another kind


def test_servers_that_cross_depend_on_connections() -> None:
    crossing = [0.95, 0.95, 1, 1, 1, 1.2]
    verdicts = verdicts_of(quiet({"server_poll": crossing, BASE: [1] * 6}))
    it = row(verdicts, *PAIR)
    assert it["verdict"] == DEPENDS
    assert it["reason"] == "faster at 1, 10; slower at 1000"
    at_points = [row(verdicts, *PAIR, connections=count)["verdict"] for count in COUNTS]
    assert at_points == ["faster"] * 2 + ["no difference"] * 3 + ["slower"]
    # It is a difference: they share no letter.
    letters = ranking.letters_of(list(PAIR), verdicts[verdicts["metric"] == CPU_RATIO])
    assert letters == {"server_poll": "a", BASE: "b"}


def test_what_is_smaller_than_the_noise_floor_is_no_difference() -> None:
    verdicts = verdicts_of(
        quiet({"server_poll": 1.02, BASE: 1, "server_thread": 1.05, CONTROL: 1.03})
    )
    for connections in (WHOLE_SWEEP, 10):
        below = row(verdicts, *PAIR, connections=connections)
        assert below["p_adjusted"] < inference.ALPHA
        assert (below["verdict"], below["reason"]) == (EQUAL, BELOW_FLOOR)
        above = row(verdicts, BASE, "server_thread", connections=connections)
        assert (above["verdict"], above["reason"]) == (FASTER, "")
        assert above["noise_floor_percent"] == pytest.approx(3, abs=0.1)
        assert above["smallest_detectable_percent"] > 3
    control = row(verdicts, BASE, CONTROL)
    assert (control["verdict"], control["reason"]) == ("faster", CONTROL_DIFFERS)


def test_points_below_the_noise_floor_do_not_make_it_depend() -> None:
    crossing = {"server_poll": [0.98, 1.2], BASE: [1, 1]}
    assert row(verdicts_of(quiet(crossing, counts=[1, 10])), *PAIR)["verdict"] == DEPENDS
    with_control = quiet({**crossing, CONTROL: [1.03, 1.03]}, counts=[1, 10])
    it = row(verdicts_of(with_control), *PAIR)
    assert (it["verdict"], it["reason"]) == (SLOWER, "")


def test_without_a_control_the_noise_floor_is_unknown() -> None:
    assert verdicts_of(quiet(ALIKE))["noise_floor_percent"].isna().all()


# The scripts


def test_tables_have_the_columns_that_verdicts_need() -> None:
    assert {"yardstick", "machine"} <= set(CELL_COLUMNS) <= set(tables.CELL_COLUMNS)
    assert {*SUMMARY_COLUMNS, CPU_RATIO, "repeats_ok"} <= set(summaries.SUMMARY_COLUMNS)


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
        found = inference.letter_groups(names, told_apart)
        assert sorted(map(sorted, found)) == sorted(map(sorted, largest))
    assert inference.letter_groups("abc", [frozenset("ac")]) == [{"a", "b"}, {"b", "c"}]


FOUR = {"server": 4, "server_thread": 2, BASE: 1, "server_uring": 0.8, CONTROL: 1}


def test_ranking_is_by_cost_with_the_control_beside_its_base() -> None:
    cells = sweep(np.random.default_rng(9), servers=list(FOUR), factors=FOUR, lost=0)
    summary = summary_of(cells, limiter=limited("starving", "server", above=1))
    verdicts = verdict_table(cells, summary)
    # What starves is cheap, and serves another workload.
    starving = (summary["limiter"] == "starving") & (summary["connections"] == 10)
    summary.loc[starving, CPU_RATIO] = 1
    # Cheap at one point alone.
    thread = (summary["server"] == "server_thread") & (summary["connections"] == 10)
    summary.loc[thread, CPU_RATIO] /= 3
    servers = ranking.order_servers(list(FOUR), summary)
    assert servers == ["server_uring", BASE, CONTROL, "server_thread", "server"]
    assert ranking.anchor_of(list(FOUR), summary) == BASE
    without = [server for server in FOUR if server != CONTROL]
    assert ranking.anchor_of(without, summary) == "server_thread"
    its_verdicts = verdicts[verdicts["metric"] == CPU_RATIO]
    ratios = {name: ranking.row_of(name, BASE, its_verdicts) for name in FOUR}
    assert ratios[BASE].ratio == 1
    # Stands as BASE / server_uring.
    assert ratios["server_uring"].ratio == pytest.approx(0.8, rel=0.03)
    assert ratios["server_thread"].ratio == pytest.approx(2, rel=0.03)
    assert ratios["server_uring"].low < ratios["server_uring"].ratio < ratios["server_uring"].high
    assert ratios["server"].remark == "1 of 6 points"
    assert ranking.letters_of([*without, "unavailable"], its_verdicts) == {
        "server": "",
        "server_thread": "a",
        BASE: "b",
        "server_uring": "c",
        "unavailable": "",
    }


def test_what_cannot_be_compared_has_no_place_in_the_ranking() -> None:
    verdicts = verdicts_of(quiet(ALIKE), limiter=limited("starving"))
    row = ranking.row_of("server_poll", BASE, verdicts[verdicts["metric"] == CPU_RATIO])
    assert row is ranking.NOTHING


def test_ranking_says_what_a_reader_must_know() -> None:
    cells = quiet({"server_poll": 1, BASE: 1, CONTROL: 1.03})
    notes = "\n".join(notes_of(cells, limiter=limited("client-bound", above=10)))
    assert "4 of 6 comparisons" in notes  # the control is compared at all
    difference = r"(3|2\.9|3\.1) % \(interval \+[23]\.\d to \+[23]\.\d %\)"
    assert re.search(f"twice: CPU time per request {difference}, throughput {difference}", notes)
    assert "doubt" in notes
    nowhere = "\n".join(notes_of(cells, limiter=limited("starving")))
    assert "CPU time per request unknown, throughput unknown" in nowhere
    once = quiet({BASE: 1, CONTROL: 1.03}, repeats=1, counts=[1, 10])
    assert "% (no interval)" in "\n".join(notes_of(once))
    notes = "\n".join(notes_of(quiet(ALIKE)))
    assert "No control" in notes
    assert "wrk was the limit" not in notes
