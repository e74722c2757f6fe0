"""The generator beside wrk. Only ratios of neighbouring runs: how fast the machine is, is no matter of a test."""

import re
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from generator import run_load, two_cpus, url_of

from helpers.harness import Server

pytestmark = pytest.mark.alone
CONNECTIONS = 64
PAIRS = 5


def wrk_per_second(url: str, cpu: int) -> float:
    command = ["taskset", "--cpu-list", str(cpu), "wrk", "-t", "1", "-c", str(CONNECTIONS)]
    done = subprocess.run(
        [*command, "-d", "1s", url], capture_output=True, text=True, check=True, timeout=60
    )
    found = re.search(r"^Requests/sec: +([0-9.]+)$", done.stdout, re.MULTILINE)
    assert found is not None, done.stdout
    return float(found[1])


def test_at_saturation_it_sends_at_least_nine_tenths_of_what_wrk_sends(
    load: Path, start: Callable[..., Server]
) -> None:
    cpu, other = two_cpus()
    url = url_of(start("server_epoll", cpu=other).port)
    ratios = []
    for seed in range(PAIRS):
        ours = run_load(
            load,
            url,
            cpu=cpu,
            connections=CONNECTIONS,
            rate=1_000_000,
            duration_s=1,
            timeout_s=0.05,
            seed=seed,
        )
        ratios.append(ours["achieved_per_second"] / wrk_per_second(url, cpu))
        # It had no time to sleep, and shows that it was late.
        assert ours["lateness_us"]["mean"] > 10 * 1e6 / ours["achieved_per_second"]
    assert statistics.median(ratios) >= 0.9, ratios


def test_at_half_of_its_capacity_it_is_seldom_late(
    load: Path, start: Callable[..., Server]
) -> None:
    """At most by a few requests' work at p99, which is less than 50 µs where one takes 5 µs (docs/load.md)."""
    cpu, other = two_cpus()
    if cpu == other:
        pytest.skip("the load needs a CPU of its own")
    url = url_of(start("server_epoll", cpu=other).port)
    options = {"cpu": cpu, "connections": CONNECTIONS, "timeout_s": 0.05}
    in_requests = []
    for seed in range(PAIRS):
        full = run_load(load, url, rate=1_000_000, duration_s=0.5, seed=seed, **options)
        capacity = full["achieved_per_second"]
        half = run_load(load, url, rate=capacity / 2, duration_s=1, seed=seed, **options)
        in_requests.append(half["lateness_us"]["p99"] * 1e-6 * capacity)
    assert min(in_requests) < 10, in_requests
