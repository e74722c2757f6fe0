"""Readings of what else runs on the machine, and what they make of a cell."""

import os
import subprocess
import sys
import time
from pathlib import Path

import cpus
import disturbance
import machine
import pytest
from disturbance import CpuTime, Reading, between, parse_cpu_time, parse_pressure_s

pytestmark = pytest.mark.alone

STAT = """\
cpu  1000 0 2000 137615 388 0 35 16 0 0
cpu0 462 0 602 71000 100 0 8 5 0 0
cpu1 4648 0 1486 66000 300 0 26 10 0 0
cpu10 1 1 1 1 1 1 1 1 1 1
intr 12345
"""
SPLIT = cpus.CpuSplit(load=[0], server=[1])


def test_idle_and_stolen_time_of_the_cpus_that_count() -> None:
    tick_s = 1 / disturbance.USER_HZ
    assert parse_cpu_time(STAT, {1}) == pytest.approx((66300 * tick_s, 10 * tick_s))
    assert parse_cpu_time(STAT, {0, 1}) == pytest.approx((137400 * tick_s, 15 * tick_s))


def test_pressure() -> None:
    text = "some avg10=0.00 avg60=0.00 avg300=0.06 total=3548893\nfull avg10=0.00 total=0\n"
    assert parse_pressure_s(text) == pytest.approx(3.548893)


def reading(at_s: float, **changes: object) -> Reading:
    values = {"cpu": CpuTime(0, 0), "own_s": 0.0, "pressure_s": 0.0}
    values |= {"client_waits_s": {"1": 0.0}, "server_waits_s": {"9": 0.0}, **changes}
    return Reading(at_s=at_s, **values)  # type: ignore[arg-type]


def test_shares_are_of_the_elapsed_time_and_of_all_cpus() -> None:
    after = reading(
        12.0,
        cpu=CpuTime(1.0, 0.2),
        own_s=2.5,
        pressure_s=0.5,
        client_waits_s={"1": 0.1, "2": 0.08},  # of any thread, not of all: wrk may have many
        server_waits_s={"9": 0.3},
    )
    assert between(reading(10.0), after, SPLIT) == {
        "steal_share": pytest.approx(0.05),
        "foreign_cpu_share": pytest.approx(0.125),  # of 4 s, 1 s idle and 2.5 s ours
        "cpu_pressure_share": pytest.approx(0.25),
        "client_wait_share": pytest.approx(0.05),
        "server_wait_share": pytest.approx(0.15),
    }


def test_what_the_kernel_does_not_tell_is_not_taken_for_nothing() -> None:
    after = reading(2.0, pressure_s=None, server_waits_s={})
    shares = between(reading(0.0), after, SPLIT)
    assert shares["cpu_pressure_share"] is shares["server_wait_share"] is None


def spinning(cpus: set[int], threads: int = 1) -> "subprocess.Popen[bytes]":
    code = (
        "import os, threading\n"
        f"os.sched_setaffinity(0, {cpus})\n"
        "def spin():\n    while True: pass\n"
        f"for _ in range({threads - 1}): threading.Thread(target=spin, daemon=True).start()\n"
        "print(flush=True)\nspin()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_a_foreign_loop_on_the_servers_cpu_is_seen_in_every_reading() -> None:
    split = cpus.split(cpus.read_topology())
    if split.shared:
        pytest.skip("one core: server and load wait for each other")
    cpu = {split.server[0]}
    processes = [spinning(cpu), spinning(cpu)]
    try:
        server = [processes[0].pid]
        before = disturbance.read(server, [], split)
        time.sleep(1)
        after = disturbance.read(server, [], split)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    shares = between(before, after, split)
    count = len(split.server) + len(split.load)
    assert shares["server_wait_share"] == pytest.approx(0.5, abs=0.25)
    assert (shares["cpu_pressure_share"] or 0) > 0.5
    assert (shares["foreign_cpu_share"] or 0) * count > 0.25


def test_a_server_of_many_threads_waits_for_itself() -> None:
    split = cpus.CpuSplit(load=[0], server=[1])
    process = spinning(set(os.sched_getaffinity(0)), threads=3)
    try:
        seen = disturbance.read([process.pid], [], split)
    finally:
        process.kill()
        process.communicate()
    assert seen.server_waits_s == {}
    assert seen.pressure_s is None


def test_a_kernel_without_these_files_is_told_apart_from_a_quiet_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing(path: str) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(machine, "read_text", missing)
    assert disturbance.read_pressure_s() is None
    assert disturbance.read_waits_s([str(tmp_path)]) == {}
