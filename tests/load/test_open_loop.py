"""An open loop: latencies are those of users who do not wait for each other. The servers are of known speed."""

import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from generator import finish, read_latencies, run_load, start_load, two_cpus, url_of
from scipy import stats

from helpers.harness import Server, is_running

pytestmark = pytest.mark.alone
BLOCK_US = 1000  # a handler's: long beside what else a request costs
# The server, which sleeps, does not keep the load off its CPU, so these tests need no second one.


def count_from(result: dict[str, Any], least_us: float) -> int:
    """How many latencies the result reports from `least_us` on."""
    histogram = result["histogram"]
    pairs = zip(histogram["us_low"], histogram["count"], strict=True)
    return sum(count for low, count in pairs if low >= least_us)


def test_a_server_that_stops_shows_in_all_requests_that_were_due(
    load: Path, start: Callable[..., Server], tmp_path: Path
) -> None:
    """Not only in the 64 that were under way."""
    rate, connections, file = 6400, 64, tmp_path / "latencies"
    server = start("server_epoll")
    process = start_load(
        load,
        url_of(server.port),
        rate=rate,
        connections=connections,
        duration_s=2,
        latencies=file,
    )
    time.sleep(0.8)
    server.process.send_signal(signal.SIGSTOP)
    begin_s = time.monotonic()
    time.sleep(0.5)
    server.process.send_signal(signal.SIGCONT)
    stop_s = time.monotonic() - begin_s
    result = finish(process)

    assert result["answered"] == result["requests"]
    for wait_s in (0.1, 0.2, 0.3, 0.4):
        expected = rate * (stop_s - wait_s)
        assert count_from(result, wait_s * 1e6) > expected - 5 * expected**0.5 - 0.02 * rate
    due, sent, ends = read_latencies(file).T
    order = np.sort(ends)
    at = np.diff(order).argmax()  # the longest time without an answer
    begin, end = order[at], order[at + 1]
    assert end - begin > 0.95 * stop_s * 1e9
    is_due = (due > begin) & (due < end)
    assert is_due.sum() > 0.9 * rate * stop_s  # about 3,200
    assert ((ends - due)[is_due] >= (end - due)[is_due]).all()
    assert ((sent > begin) & (sent < end)).sum() <= connections
    # The requests waited for the server, not for the generator.
    assert result["lateness_us"]["p99"] < 50_000


def lindley(due_s: np.ndarray, service_s: float) -> np.ndarray:
    """The waiting times in front of one server that serves in order of arrival."""
    waits, free_s = np.empty(len(due_s)), -np.inf
    for i, at_s in enumerate(due_s):
        waits[i] = max(0.0, free_s - at_s)
        free_s = at_s + waits[i] + service_s
    return waits


class Queue:
    """server_epoll with a handler that takes BLOCK_US, and what a request takes without and with waiting."""

    def __init__(self, load: Path, start: Callable[..., Server], file: Path) -> None:
        self.load, self.file = load, file
        self.url = url_of(start("server_epoll", "--handler-block-us", str(BLOCK_US)).port)
        alone = self.run(rate=100, duration_s=1, gaps="fixed")
        self.base_s = alone["latency_us"]["p50"] / 1e6
        busy = self.run(rate=2000, duration_s=1, timeout_s=0.1)
        self.service_s = 1 / busy["achieved_per_second"]

    def run(self, **options: Any) -> dict[str, Any]:
        options = {"connections": 64, "latencies": self.file} | options
        return run_load(self.load, self.url, **options)


@pytest.fixture
def queue(load: Path, start: Callable[..., Server], tmp_path: Path) -> Queue:
    return Queue(load, start, tmp_path / "latencies")


@pytest.mark.parametrize("utilisation", [0.5, 0.7])
def test_waiting_agrees_with_queueing_theory(queue: Queue, utilisation: float) -> None:
    """M/D/1: the mean wait is ρ S / (2 (1 - ρ)) (Pollaczek and Khinchine)."""
    rate, batches = utilisation / queue.service_s, 20
    result = queue.run(rate=rate, duration_s=6, warmup_s=0.3)
    assert result["answered"] == result["requests"]
    due, _, ends = read_latencies(queue.file).T / 1e9
    waits = ends - due - queue.base_s

    # The very waits that this schedule makes: this needs no statistics. The machine may have added some.
    modelled = lindley(due, queue.service_s).mean()
    assert waits.mean() == pytest.approx(modelled, rel=0.25, abs=1e-4)
    # What the theory says of all schedules, within the interval of batch means (a false alarm in 1,000).
    expected = utilisation * queue.service_s / (2 * (1 - utilisation))
    means = [batch.mean() for batch in np.array_split(waits, batches)]
    half = stats.t.ppf(0.9995, batches - 1) * np.std(means, ddof=1) / batches**0.5
    assert abs(waits.mean() - expected) < half + 0.1 * expected


def test_with_fixed_gaps_nobody_waits(queue: Queue) -> None:
    """The median, as a machine that pauses makes some wait."""
    result = queue.run(rate=0.7 / queue.service_s, duration_s=2, gaps="fixed")
    waited_s = result["latency_us"]["p50"] / 1e6 - queue.base_s
    assert waited_s < 0.2 * queue.service_s  # with Poisson gaps the mean wait is 1.2 S


def test_overload_never_looks_good(queue: Queue) -> None:
    """Requests that were never answered count with the time that they have waited at least."""
    offered = 2 / queue.service_s
    runs = [
        queue.run(rate=offered, duration_s=duration_s, timeout_s=0.2) for duration_s in (0.5, 1, 2)
    ]
    for result in runs:
        achieved = result["achieved_per_second"] * queue.service_s
        assert 0.8 < achieved < 1.1
        assert result["achieved_per_second"] < 0.99 * result["offered_per_second"]
        assert 0 < result["unsent"] <= result["censored"] == result["requests"] - result["answered"]
        # The last answer before the end belongs to a request that was due at half of the time.
        assert result["latency_us"]["max"] > 0.35 * result["duration_s"] * 1e6
    for one, longer in pairwise(runs):
        assert longer["latency_us"]["p99"] > 1.4 * one["latency_us"]["p99"]
    due, _, ends = read_latencies(queue.file).T
    answered_ns = (ends - due)[ends >= 0]
    # What was never answered has waited at least for the timeout, so what is shorter was answered.
    shorter = result["requests"] - count_from(result, 190_000)
    assert shorter <= (answered_ns < 200_000_000).sum()
    quarters = np.array_split(answered_ns, 4)
    means = [quarter.mean() for quarter in quarters]
    assert means == sorted(means) and means[3] > 2 * means[0]


def test_a_generator_without_a_cpu_of_its_own_says_that_it_was_late(
    load: Path, start: Callable[..., Server]
) -> None:
    """It shares its CPU with programs that compute, and the server has another one."""
    cpu, other = two_cpus()
    url = url_of(start("server_epoll", cpu=other).port)
    options = {"connections": 64, "rate": 10_000, "duration_s": 1, "spin_us": 1000}
    alone = run_load(load, url, cpu=cpu, **options)
    with ExitStack() as hogs:
        for _ in range(2):
            hog = psutil.Popen(
                ["taskset", "--cpu-list", str(cpu), "sh", "-c", "while :; do :; done"]
            )
            hogs.callback(hog.wait)
            hogs.callback(hog.kill)
        crowded = run_load(load, url, cpu=cpu, **options)
        assert is_running(hog.pid)
    assert crowded["lateness_us"]["p99"] > 2000
    assert crowded["lateness_us"]["p99"] > 3 * alone["lateness_us"]["p50"]
    assert crowded["latency_us"]["p99"] > 2000


def test_the_same_server_twice_is_not_told_apart(load: Path, start: Callable[..., Server]) -> None:
    """Neither by its instances nor by their places: each of two instances has each place in every other run."""
    cpu, other = two_cpus()
    urls = [url_of(start("server_epoll", cpu=other).port) for _ in range(2)]
    by_place = []
    for repeat in range(10):
        order = urls if repeat % 2 == 0 else urls[::-1]
        result = run_load(
            load, *order, cpu=cpu, rate=10_000, duration_s=0.6, connections=16, seed=repeat
        )
        first, second = (target["latency_us"]["p50"] for target in result["targets"])
        by_place.append(np.log(first / second))
    by_instance = np.array(by_place) * np.tile([1, -1], 5)
    for ratios in (by_place, by_instance):
        half = stats.t.ppf(0.9995, len(ratios) - 1) * np.std(ratios, ddof=1) / len(ratios) ** 0.5
        assert abs(np.mean(ratios)) < half + 0.02
        assert abs(np.median(ratios)) < 0.1
