"""The intended starts: what a seed determines, and that they are a Poisson process. All seeds are fixed, so each test
always has the same outcome."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generator import read_latencies, run_load, url_of
from scipy import stats

from helpers.harness import Server

RATE = 40_000
SEEDS = range(1, 6)
# Exceeded by chance once in 1,000 samples (Marsaglia and Marsaglia, 2004: P(A² < 6) = 0.999).
ANDERSON_DARLING_MAX = 6.0
NORMAL_MAX = 3.5  # in standard deviations; once in 2,000 samples


@pytest.fixture
def starts_of(
    load: Path, start: Callable[..., Server], tmp_path: Path
) -> Callable[..., np.ndarray]:
    """The intended starts of a run, in ns."""
    url = url_of(start("server_epoll").port)

    def run(**options: Any) -> np.ndarray:
        file = tmp_path / "latencies"
        options = {"rate": RATE, "duration_s": 0.25, "connections": 16} | options
        result = run_load(load, url, latencies=file, timeout_s=1, **options)
        starts = read_latencies(file)[:, 0]
        assert len(starts) == result["requests"]
        assert (np.diff(starts) >= 0).all()
        return starts

    return run


def anderson_darling(gaps: np.ndarray, mean: float) -> float:
    """A² of gaps against the exponential distribution of this mean. Times are whole ns: gaps get half a one more."""
    scaled = (np.sort(gaps) + 0.5) / mean
    ranks = np.arange(1, len(gaps) + 1)
    terms = (2 * ranks - 1) * (np.log(-np.expm1(-scaled)) - scaled[::-1])
    return float(-len(gaps) - terms.mean())


def gaps_of(starts: np.ndarray) -> np.ndarray:
    return np.diff(starts, prepend=0).astype(float)


@pytest.mark.parametrize("threads", [1, 3])
def test_poisson_gaps_are_exponential_and_independent(
    starts_of: Callable[..., np.ndarray], threads: int
) -> None:
    for seed in SEEDS:
        starts = starts_of(seed=seed, threads=threads)
        gaps = gaps_of(starts)
        count = len(gaps)
        assert abs(count - RATE / 4) < NORMAL_MAX * (RATE / 4) ** 0.5
        assert anderson_darling(gaps, 1e9 / RATE) < ANDERSON_DARLING_MAX
        assert abs(stats.spearmanr(gaps[:-1], gaps[1:])[0]) * count**0.5 < NORMAL_MAX
        # Counts in intervals vary as they are many, neither less (fixed gaps) nor more (bursts).
        counts, _ = np.histogram(starts, bins=250, range=(0, 0.25e9))
        dispersion = counts.var(ddof=1) / counts.mean()
        assert abs(dispersion - 1) < NORMAL_MAX * (2 / 249) ** 0.5


def test_the_tests_tell_other_processes_from_a_poisson_process() -> None:
    """Those of generators that exist: ticks of 1 ms, fixed gaps, and gaps that are uniform; and a rate 5 % too high."""
    random = np.random.default_rng(1)
    gaps = random.exponential(25_000.0, 10_000)
    assert anderson_darling(gaps, 25_000) < ANDERSON_DARLING_MAX
    ticks = gaps_of(np.cumsum(gaps) // 1_000_000 * 1_000_000)
    uniform = random.uniform(0, 50_000.0, 10_000)
    for other in (ticks, uniform, np.full(10_000, 25_000.0), gaps / 1.05):
        assert anderson_darling(other, 25_000) > ANDERSON_DARLING_MAX


def test_a_seed_determines_the_schedule_whatever_else_changes(
    starts_of: Callable[..., np.ndarray],
) -> None:
    once = starts_of(seed=7)
    assert (starts_of(seed=7, connections=1) == once).all()
    assert (starts_of(seed=7, threads=4) == once).all()
    longer = starts_of(seed=7, duration_s=0.3)
    assert (longer[: len(once)] == once).all() and len(longer) > len(once)
    assert set(starts_of(seed=8)).isdisjoint(once[once > 1000])


def test_the_warm_up_is_the_same_schedule_begun_earlier(
    starts_of: Callable[..., np.ndarray],
) -> None:
    whole = starts_of(seed=7, duration_s=0.25)
    rest = starts_of(seed=7, duration_s=0.15, warmup_s=0.1)
    assert (rest == whole[whole >= 100_000_000] - 100_000_000).all()


@pytest.mark.parametrize("threads", [1, 3])
def test_fixed_gaps_are_exact(starts_of: Callable[..., np.ndarray], threads: int) -> None:
    starts = starts_of(gaps="fixed", rate=30_000, threads=threads)
    assert (starts == np.rint(np.arange(7500) * (1e9 / 30_000))).all()


def test_two_targets_share_one_schedule_in_slices(
    load: Path, start: Callable[..., Server], tmp_path: Path
) -> None:
    one, other = start("server_epoll"), start("server_epoll")
    options = {"rate": 4000, "warmup_s": 0.05, "duration_s": 0.3, "seed": 3, "slice_ms": 20}
    file = tmp_path / "latencies"
    urls = url_of(one.port), url_of(other.port)
    result = run_load(load, *urls, latencies=file, **options)
    starts = read_latencies(file)[:, 0]
    run_load(load, urls[0], latencies=file, **options)
    assert (starts == read_latencies(file)[:, 0]).all()

    of_second = (starts + 50_000_000) // 20_000_000 % 2 == 1
    first, second = result["targets"]
    assert [first["requests"], second["requests"]] == [(~of_second).sum(), of_second.sum()]
    # The window begins in the middle of the third slice, and ends in the middle of the eighteenth.
    assert [first["duration_s"], second["duration_s"]] == [0.15, 0.15]
    assert result["duration_s"] == 0.3 and result["requests"] == len(starts)
    for target in result["targets"]:
        assert target["connections"] == 4
        assert target["offered_per_second"] == pytest.approx(target["requests"] / 0.15, abs=0.001)
    all_starts = sum(its.stop_and_sum()["requests"] for its in (one, other))
    assert all_starts > 2 * len(starts)  # the warm-ups, and the first request of each connection
