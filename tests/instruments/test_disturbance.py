"""Readings of what else runs on the machine, and what they make of a cell."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from hosts import proc
from hosts.cpus import choose_split, read_topology
from instruments import disturbance
from instruments.disturbance import Reading, between, parse_cpu_time, parse_pressure_s
from measuring.server_side import ServerSide

pytestmark = pytest.mark.alone

STAT = """\
cpu  1000 0 2000 137615 388 0 35 16 0 0
cpu0 462 0 602 71000 100 0 8 5 0 0
cpu1 4648 0 1486 66000 300 0 26 10 0 0
cpu10 1 1 1 1 1 1 1 1 1 1
intr 12345
"""


def test_idle_and_stolen_time_of_the_cpus_that_count() -> None:
    tick_s = 1 / proc.USER_HZ
    assert parse_cpu_time(STAT, {1}) == pytest.approx((66300 * tick_s, 10 * tick_s))
    assert parse_cpu_time(STAT, {0, 1}) == pytest.approx((137400 * tick_s, 15 * tick_s))


def test_pressure() -> None:
    text = "some avg10=0.00 avg60=0.00 avg300=0.06 total=3548893\nfull avg10=0.00 total=0\n"
    assert parse_pressure_s(text) == pytest.approx(3.548893)


def reading(at_s: float, **changes: object) -> Reading:
    values = {"cpus": 1, "idle_s": 0.0, "stolen_s": 0.0, "own_s": 0.0, "pressure_s": 0.0}
    values |= {"waits_s": {"1": 0.0}, **changes}
    return Reading(at_s=at_s, **values)  # type: ignore[arg-type]


def test_shares_are_of_the_elapsed_time_and_of_all_cpus() -> None:
    server = (reading(10.0), reading(12.0, idle_s=0.4, own_s=1.5, waits_s={"1": 0.3}))
    # Its clock is another machine's; its longest wait is of any thread, not of all: wrk may have many.
    client_after = reading(
        502.0, idle_s=0.6, stolen_s=0.2, own_s=1.0, pressure_s=0.5, waits_s={"1": 0.1, "2": 0.08}
    )
    assert between(server, (reading(500.0), client_after)) == {
        "steal_share": pytest.approx(0.05),
        "foreign_cpu_share": pytest.approx(0.125),  # of 4 s, 1 s idle and 2.5 s ours
        "cpu_pressure_share": pytest.approx(0.25),  # where it is the worse
        "client_wait_share": pytest.approx(0.05),
        "server_wait_share": pytest.approx(0.15),
    }


def test_cpus_that_both_share_are_counted_once() -> None:
    server = (reading(0.0), reading(1.0, idle_s=0.25, own_s=0.25))
    client = (reading(0.0, cpus=0), reading(1.0, cpus=0, own_s=0.25))
    assert between(server, client)["foreign_cpu_share"] == pytest.approx(0.25)


def test_what_the_kernel_does_not_tell_is_not_taken_for_nothing() -> None:
    server = (reading(0.0), reading(2.0, pressure_s=None, waits_s={}))
    client = (reading(0.0, pressure_s=None), reading(2.0))
    shares = between(server, client)
    assert shares["cpu_pressure_share"] is shares["server_wait_share"] is None
    # Of processes that come and go it may not be known how much of the busy time was theirs.
    ends = ({"disturbance": list(reading(0.0))}, {"disturbance": list(reading(2.0))})
    assert between(disturbance.readings(*ends, None), client)["foreign_cpu_share"] is None
    own = disturbance.readings(*ends, 2 * 10**9)
    assert between(own, client)["foreign_cpu_share"] == pytest.approx(0.5)


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
    split = choose_split(read_topology())
    if split.shared:
        pytest.skip("one core: server and load wait for each other")
    cpu = {split.server[0]}
    processes = [spinning(cpu), spinning(cpu)]
    try:
        server = [processes[0].pid]

        def read() -> tuple[Reading, Reading]:
            threads, own_ns = proc.threads_of(server), proc.cpu_time_ns(server)
            of_server = disturbance.read(own_ns, split.server, threads, tells_pressure=True)
            return of_server, disturbance.read(0, split.load, [], tells_pressure=False)

        before = read()
        time.sleep(1)
        after = read()
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    shares = between((before[0], after[0]), (before[1], after[1]))
    count = len(split.server) + len(split.load)
    assert 0.25 < (shares["server_wait_share"] or 0) <= 1
    assert (shares["cpu_pressure_share"] or 0) > 0.5
    assert (shares["foreign_cpu_share"] or 0) * count > 0.25


@pytest.mark.parametrize(
    ("threads", "shares_cpus", "tells"), [(3, False, False), (1, True, False), (1, False, True)]
)
def test_a_server_that_waits_for_itself_tells_nothing_of_others(
    threads: int, shares_cpus: bool, tells: bool
) -> None:
    process = spinning(set(os.sched_getaffinity(0)), threads)
    try:
        side = ServerSide()
        side.server = SimpleNamespace(  # type: ignore[assignment]
            process=process, pids=[process.pid], check_running=lambda: None
        )
        side.set_cpus([1], shares_cpus)
        seen = Reading(*side.read(tells_pressure=True)["disturbance"])
    finally:
        process.kill()
        process.communicate()
    assert bool(seen.waits_s) == tells
    assert (seen.pressure_s is not None) == tells


def test_a_kernel_without_these_files_is_told_apart_from_a_quiet_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing(path: str) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(proc, "read_text", missing)
    assert disturbance.read_pressure_s() is None
    assert disturbance.read_waits_s([str(tmp_path)]) == {}
