"""wrk: who is late blames nobody; its report: percentiles, and taking off what wrk adds to its histogram."""

import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.checkouts import make_program
from helpers.external_servers import started
from helpers.measured import compile_server
from instruments import wrk as instruments_wrk
from instruments.wrk import (
    LoadError,
    Unstopped,
    Wrk,
    measured_histogram,
    parse_report,
    percentile,
    running_load,
    threads_for,
    url_of,
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with started(compile_server("server_epoll", tmp_path_factory.mktemp("bin"))) as server:
        yield url_of("::1", server.port)


def test_harness_that_wakes_up_late_makes_the_run_longer_and_no_fault(url: str) -> None:
    with running_load(url, connections=1, threads=1, duration_s=0.2) as wrk:
        time.sleep(1.3)  # longer than the whole second that wrk's -d once was
        result = wrk.finish()
    assert result["duration_s"] > 1
    assert result["requests"] > 0


def test_wrk_that_begins_late_still_has_its_whole_time(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_program(tmp_path / "wrk", f'sleep 0.5\nPATH={os.environ["PATH"]} exec wrk "$@"')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with running_load(url, connections=1, threads=1, duration_s=0.2) as wrk:
        result = wrk.finish()
    assert result["duration_s"] > 0.1


def test_wrk_that_does_not_end_when_it_is_told_is_told_again_and_no_fault_of_a_server(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where SIGINT came before the sleep that it was to end: its time is then too long."""
    monkeypatch.setattr(instruments_wrk, "TELL_AGAIN_S", 0.5)
    interrupt, told = Wrk.interrupt, []

    def not_at_first(wrk: Wrk) -> None:
        if told:
            interrupt(wrk)
        told.append(time.monotonic())

    monkeypatch.setattr(Wrk, "interrupt", not_at_first)
    with (
        running_load(url, connections=1, threads=1, duration_s=0.2) as wrk,
        pytest.raises(Unstopped, match=r"wrk ran on for 0\.5 s after it was told to end"),
    ):
        wrk.finish()
    assert len(told) == 2


def test_wrk_that_rests_goes_on_and_ends_at_once(url: str) -> None:
    """Its other threads, which leave their rest at the same time, must not take the signal to end."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})  # they wait for each other
    try:
        for _ in range(10):
            with running_load(url, connections=20, threads=1, duration_s=0.2) as wrk:
                wrk.stop()
                time.sleep(0.05)
                wrk.check_stopped()
                wrk.go_on()
                wrk.interrupt()
                wrk.result()
    finally:
        os.sched_setaffinity(0, allowed)


def correct(histogram: dict[int, int], expected: int) -> dict[int, int]:
    """What wrk's stats_correct does to a histogram at the end of a run (stats.c, 4.1.0 and 4.2.0)."""
    corrected = dict(histogram)
    for latency in sorted(range(2 * expected, max(histogram) + 1)):
        count = corrected.get(latency, 0)
        made_up = latency - expected
        while count and made_up > expected:
            corrected[made_up] = corrected.get(made_up, 0) + count
            made_up -= expected
    return corrected


@pytest.mark.parametrize("seed", range(20))
def test_measured_histogram_undoes_the_correction_exactly(seed: int) -> None:
    source = random.Random(seed)
    histogram = {source.randint(1, 3000): source.randint(1, 50) for _ in range(200)}
    interval = source.randint(5, 400)
    corrected = correct(histogram, interval)
    assert corrected != histogram
    assert measured_histogram(corrected, interval) == histogram


def test_what_wrk_adds_below_the_smallest_latency_is_not_listed_and_not_missed() -> None:
    # 100 twice and 130 once; wrk adds at 70, 40 and 100, 70, 40, and lists what is 100 or more.
    assert measured_histogram({100: 3, 130: 1}, 30) == {100: 2, 130: 1}


def test_measured_histogram_without_long_latencies_is_as_it_was() -> None:
    assert measured_histogram({100: 5, 120: 3}, 110) == {100: 5, 120: 3}


@pytest.mark.parametrize(
    ("percent", "expected"), [(50, 2), (50.1, 3), (75, 3), (99, 10), (100, 10), (0.1, 1)]
)
def test_percentile_is_the_nearest_rank(percent: float, expected: int) -> None:
    assert percentile({10: 1, 1: 1, 2: 1, 3: 1}, percent) == expected


def report(histogram: dict[int, int], requests: int, duration_us: int, timeouts: int = 0) -> str:
    errors = {"connect": 0, "read": 0, "write": 0, "status": 0, "timeout": timeouts}
    line = {
        "duration_us": duration_us,
        "requests": requests,
        "bytes": 78 * requests,
        "errors": errors,
        "wrong_responses": 0,
        "histogram": {"latency_us": list(histogram), "count": list(histogram.values())},
    }
    return "Running 1s test\nRequests/sec: 5\n" + json.dumps(line) + "\n"


def test_report_gives_rate_and_latencies_that_were_measured() -> None:
    measured = {100: 6, 1000: 4}
    # Two connections: 10 requests of 2 connections in 1,000 µs are one in 200 µs.
    result = parse_report(report(correct(measured, 200), 10, 1000), connections=2)
    assert result["requests_per_second"] == 10_000
    assert result["latency_mean_us"] == pytest.approx(460)
    assert result["latency_p50_us"] == 100
    assert result["latency_p99_us"] == 1000
    assert result["latency_max_us"] == 1000
    assert result["latency_synthetic_share"] == pytest.approx(1 - 10 / 22)
    assert result["raw_text"].startswith("Running")


def test_report_with_timeouts_counts_requests_that_have_no_latency() -> None:
    result = parse_report(report({100: 9}, 10, 1000, timeouts=1), connections=10)
    assert result["errors_by_kind"]["timeout"] == 1


def test_report_whose_histogram_lacks_requests_is_refused() -> None:
    with pytest.raises(LoadError, match="8 measured latencies of 10 requests"):
        parse_report(report({100: 8}, 10, 1000), connections=10)


def test_report_of_a_run_without_answers_has_no_latencies() -> None:
    result = parse_report(report({}, 0, 1000), connections=10)
    assert result["requests"] == 0
    assert result["latency_p99_us"] is None


def test_output_without_a_report_is_refused() -> None:
    with pytest.raises(LoadError, match="no report"):
        parse_report("Running 1s test\nRequests/sec: 5\n", connections=1)


def test_pipelined_requests_have_a_latency_for_each_batch_but_those_cut_off_at_the_end() -> None:
    for batches in (3, 10):
        text = report({100: batches}, 40, 1000)
        assert parse_report(text, connections=10, pipelined=4)["latency_mean_us"] == 100
    for batches in (2, 18):
        with pytest.raises(LoadError, match="histogram"):
            parse_report(report({100: batches}, 40, 1000), connections=10, pipelined=4)


@pytest.mark.parametrize(
    ("connections", "cpus", "threads"), [(1, 8, 1), (15, 8, 5), (100, 8, 5), (64, 8, 8), (7, 4, 1)]
)
def test_threads_divide_connections(connections: int, cpus: int, threads: int) -> None:
    assert threads_for(connections, cpus) == threads
