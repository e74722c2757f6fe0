"""Sweeps that are interrupted, that run beside each other, and of servers with faults."""

import csv
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
import tables
from checkouts import (
    ROOT,
    SNAKEMAKE,
    assert_measured_in_order,
    copy_checkout,
    processes_mentioning,
    records_of,
    run_snakemake,
)

SLOW = """\
servers: [server_epoll]
connections: [1, 2, 3]
repeats: 2
duration_s: 0.5
warmup_s: 0
disturbed_retries: 0
control: null
"""
CELLS = "results/cells/server_epoll.csv"


def start_sweep(checkout: Path, overlay: str = SLOW, measured: int = 2) -> "subprocess.Popen[str]":
    """A sweep in a session of its own, as in a terminal, that has measured some cells and works on another."""
    (checkout / "slow.yaml").write_text(overlay)
    sweep = subprocess.Popen(
        [*SNAKEMAKE, "-j1", CELLS, "--configfile", "slow.yaml"],
        cwd=checkout,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    try:
        while len(list(checkout.glob("results/cells/*/*.json"))) < measured:
            assert sweep.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        while not processes_mentioning(f"{checkout}/results/bin"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    except AssertionError:
        os.killpg(sweep.pid, signal.SIGINT)  # it may have waited for the machine all the time
        raise
    return sweep


def assert_nothing_left(checkout: Path) -> None:
    deadline = time.monotonic() + 10
    while processes_mentioning(str(checkout)):
        assert time.monotonic() < deadline, processes_mentioning(str(checkout))
        time.sleep(0.05)


@pytest.mark.alone
def test_snakemake_sleeps_while_a_cell_is_measured(tmp_path: Path) -> None:
    """It used to look at all jobs again every second, once more with each job that had ended."""
    checkout = copy_checkout(tmp_path / "checkout")
    sweep = start_sweep(checkout, SLOW.replace("duration_s: 0.5", "duration_s: 3"), measured=1)

    def wake_ups() -> int:
        status = Path(f"/proc/{sweep.pid}/status").read_text()
        return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])

    def running() -> list[str]:
        return processes_mentioning("results/cells/server_epoll/c")

    try:
        for _ in range(
            4
        ):  # cells, of which one must last as long as we look at it, however late we wake up
            time.sleep(0.5)
            cell, before = running(), wake_ups()
            time.sleep(2)
            seen = wake_ups() - before
            if cell and running() == cell:
                break
        assert cell and running() == cell
        assert seen <= 1
    finally:
        os.killpg(sweep.pid, signal.SIGINT)
        sweep.wait(timeout=30)


def test_two_sweeps_in_two_checkouts_do_not_overlap(tmp_path: Path) -> None:
    checkouts = [copy_checkout(tmp_path / name) for name in ("one", "two")]
    sweeps = []
    for checkout in checkouts:
        (checkout / "slow.yaml").write_text(SLOW.replace("[1, 2, 3]", "[1, 2]"))
        command = [*SNAKEMAKE, "-j8", CELLS, "--configfile", "slow.yaml"]
        sweeps.append(subprocess.Popen(command, cwd=checkout, stderr=subprocess.DEVNULL))
    assert [sweep.wait(timeout=120) for sweep in sweeps] == [0, 0]
    spans = []
    for checkout in checkouts:
        assert_measured_in_order(records_of(checkout))
        for path in checkout.glob("results/cells/*/*.json"):
            record = json.loads(path.read_text())
            start = time.mktime(time.strptime(record["started"][:19], "%Y-%m-%dT%H:%M:%S"))
            start += float("0" + record["started"][19:23])
            spans.append((start, start + record["duration_s"]))
    assert len(spans) == 8
    spans.sort()
    for (_, end), (start, _) in itertools.pairwise(spans):
        assert end <= start


FAULTS = {
    "starves": "unserved_connections",
    "wrong_body": "wrong_responses",
    "errors": "error_responses",
    "closes": "connections_disagree",
}
FAILURES = {
    "crashes": "the server ended during the run: SIGABRT",
    "hangs": "after the run the server does not answer: timed out",
    "cannot_start": "the server did not start: status 3 (cannot serve)",
}
CANNOT_START = """\
#include <stdio.h>
int main(void) { return fputs("cannot serve\\n", stderr) < 0 ? 2 : 3; }
"""


def test_faulty_servers_are_caught_and_the_others_results_stay(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    source = (ROOT / "tests/faulty/server_faulty.c").read_text()
    names = [f"server_{fault}" for fault in (*FAULTS, *FAILURES)]
    for name in names:
        (checkout / f"servers/{name}.c").write_text(source)
    (checkout / "servers/server_cannot_start.c").write_text(CANNOT_START)
    (checkout / "overlay.yaml").write_text(
        f"servers: [server_epoll, {', '.join(names)}]\nconnections: [10]\nrepeats: 1\n"
        "duration_s: 0.7\nwarmup_s: 0.2\ndisturbed_retries: 0\n"
    )
    pictures = [f"plots/{name}.png" for name in ("server_epoll", *names)]
    run = run_snakemake(checkout, "-j2", *pictures, "--configfile", "overlay.yaml")
    assert run.returncode != 0
    for fault, flag in FAULTS.items():
        with (checkout / f"results/cells/server_{fault}.csv").open() as file:
            (cell,) = csv.DictReader(file)
        assert flag in cell["flags"].split(";"), cell
        assert cell["status"] == ("ok" if fault == "starves" else "invalid")
        (limiter,) = tables.summary_table(tables.read_cell_table(file.name))["limiter"]
        assert limiter == "starving" if fault == "starves" else pd.isna(limiter)
    for fault, said in FAILURES.items():
        line = f"measure_cell: server_{fault}, 10 connections, repeat 1: {said}"
        assert line in run.stdout.splitlines(), run.stdout
        assert not (checkout / f"results/cells/server_{fault}/c10_r1.json").exists()
    made = {path.stem for path in (checkout / "plots").glob("*.png")}
    assert made == {"server_epoll", *(f"server_{fault}" for fault in FAULTS)}


@pytest.mark.alone
def test_server_that_does_needless_work_is_called_slower(tmp_path: Path) -> None:
    """Several times slower, so that no noise hides it in seconds; tests/test_comparisons.py has 5 %."""
    checkout = copy_checkout(tmp_path / "checkout")
    (checkout / "servers/server_spins.c").write_text(
        (ROOT / "tests/faulty/server_spins.c").read_text()
    )
    (checkout / "overlay.yaml").write_text(
        "servers: [server_epoll, server_spins]\ncontrol: null\nconnections: [10, 100]\n"
        "repeats: 3\nduration_s: 0.3\nwarmup_s: 0.1\ndisturbed_retries: 0\n"
        "compile: {flags: [-O2, -DSPIN_NS=20000]}\n"
    )
    for _ in range(3):  # where some cells were disturbed, too few undisturbed pairs may be left
        run = run_snakemake(checkout, "results/verdicts.csv", "--configfile", "overlay.yaml")
        assert run.returncode == 0, run.stdout
        with (checkout / "results/verdicts.csv").open() as file:
            rows = {(row["metric"], row["connections"]): row for row in csv.DictReader(file)}
        whole = rows["server_cpu_ns_per_request", "all"]
        if whole["verdict"] != "not decidable here":
            break
        shutil.rmtree(checkout / "results/cells")
    assert (whole["server"], whole["other"]) == ("server_epoll", "server_spins")
    assert whole["verdict"] == "faster", whole
    assert float(whole["ratio_high"]) < 1
    assert all(row["verdict"] != "slower" for row in rows.values())
