"""Sweeps that are interrupted, that run beside each other, and of servers with faults."""

import csv
import html
import itertools
import os
import re
import shutil
import signal
import subprocess
import time
from datetime import datetime
from pathlib import Path

import pytest

from helpers.checkouts import (
    ROOT,
    SNAKEMAKE,
    assert_measured_in_order,
    copy_checkout,
    eventually,
    jobs_to_run,
    processes_mentioning,
    records_of,
    run_snakemake,
)
from helpers.overlays import overlay

SLOW = overlay(connections=[1, 2, 3], repeats=2, duration_s=0.5)
CELLS = "results/cells/server_epoll.csv"


@pytest.mark.alone
def test_snakemake_sleeps_while_a_cell_is_measured(checkout: Path) -> None:
    """It used to look at all jobs again every second, once more with each job that had ended."""
    (checkout / "slow.yaml").write_text(SLOW.replace("duration_s: 0.5", "duration_s: 3"))
    command = [*SNAKEMAKE, "-j1", CELLS, "--configfile", "slow.yaml"]
    sweep = subprocess.Popen(
        command, cwd=checkout, stderr=subprocess.DEVNULL, start_new_session=True
    )

    def wake_ups() -> int:
        status = Path(f"/proc/{sweep.pid}/status").read_text()
        return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])

    def running() -> list[str]:
        return processes_mentioning("results/cells/keepalive/server_epoll/c")

    try:
        assert eventually(lambda: records_of(checkout) and running(), 60)
        for _ in range(4):  # cells, of which one must last while we look, however late we wake up
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
        sweep.wait(timeout=120)


def test_two_sweeps_in_two_checkouts_do_not_overlap(tmp_path: Path) -> None:
    checkouts = [copy_checkout(tmp_path / name) for name in ("one", "two")]
    sweeps = []
    for checkout in checkouts:
        (checkout / "slow.yaml").write_text(SLOW.replace("[1, 2, 3]", "[1, 2]"))
        command = [*SNAKEMAKE, "-j8", CELLS, "--configfile", "slow.yaml"]
        sweeps.append(subprocess.Popen(command, cwd=checkout, stderr=subprocess.DEVNULL))
    assert [sweep.wait(timeout=300) for sweep in sweeps] == [0, 0]
    spans = []
    for checkout in checkouts:
        assert_measured_in_order(records_of(checkout))
        for record in records_of(checkout):
            start_s = datetime.fromisoformat(record["started"]).timestamp()
            spans.append((start_s, start_s + record["duration_s"]))
    assert len(spans) == 8
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(sorted(spans)))


# Name of tests/faulty/server_faulty.c → the flag that its cell gets.
FAULTS = {
    "starves": "unserved_connections",
    "wrong_body": "wrong_responses",
    "closes": "connections_disagree",
}
# Server → why it fails.
FAILURES = {
    "server_segfaults": "the server ended during the run: SIGSEGV",
    "server_hangs": "after the run the server does not answer: timed out",
    "server_cannot_start": "the server did not start: status 3 (cannot serve)",
    "server_typo": "does not compile: servers/server_typo.c:1:26: error: 'x' undeclared",
    "absent": "bin/absent is not installed: sudo apt-get install absentee",
}
SOURCES = {
    "server_cannot_start": "#include <stdio.h>\n"
    'int main(void) { return fputs("cannot serve\\n", stderr) < 0 ? 2 : 3; }\n',
    "server_typo": "int main(void) { return (x); }\n",
}
TARGETS = ("results/report.html", "plots/overview.png", "plots/server_epoll.png")


def sweep_of(*servers: str, command: str = "bin/absent") -> str:
    """With an external server of that command."""
    absent = {"command": f"{command} --host @host --port @port", "package": "absentee"}
    return overlay(
        servers=list(servers),
        external={"absent": absent},
        connections=[10],
        duration_s=0.7,
        warmup_s=0.2,
        profile={"duration_s": 0.5, "connections": 10},
    )


def rows_of(checkout: Path, table: str = "cells") -> dict[str, dict[str, str]]:
    """By server."""
    with (checkout / f"results/{table}.csv").open() as file:
        return {row["server"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A checkout after a sweep of servers that fail in every way, and of server_epoll; what the console showed."""
    checkout = copy_checkout(tmp_path_factory.mktemp("broken") / "checkout")
    source = (ROOT / "tests/faulty/server_faulty.c").read_text()
    ours = [name for name in FAILURES if name != "absent"]
    names = [*(f"server_{fault}" for fault in FAULTS), *ours]
    for name in names:
        (checkout / f"servers/{name}.c").write_text(SOURCES.get(name, source))
    (checkout / "overlay.yaml").write_text(sweep_of("server_epoll", *names, "absent"))
    run = run_snakemake(checkout, "-j2", *TARGETS, "--configfile", "overlay.yaml")
    assert run.returncode == 1, run.stdout
    return checkout, run.stdout


def test_failing_servers_cost_only_themselves_and_are_told(broken: tuple[Path, str]) -> None:
    checkout, console = broken
    cells = rows_of(checkout)
    assert cells["server_epoll"]["status"] == "ok"
    for fault, flag in FAULTS.items():
        cell = cells[f"server_{fault}"]
        assert flag in cell["flags"].split(";"), cell
        assert cell["status"] == ("ok" if fault == "starves" else "invalid")
    summary = rows_of(checkout, "summary")
    assert summary["server_starves"]["limiter"] == "starving"
    page = html.unescape((checkout / "results/report.html").read_text())
    for server, said in FAILURES.items():
        status = "unavailable" if server == "absent" else "failed"
        assert cells[server]["status"] == status and said in cells[server]["reason"]
        assert cells[server]["requests"] == ""
        assert summary[server][f"repeats_{status}"] == "1" and said in summary[server]["reason"]
        assert said in page
        (line,) = (line for line in console.splitlines() if line.startswith(f"{server} failed ("))
        assert said in line and "(1 of 1 cells" in line
    failed = [line for line in console.splitlines() if re.match(r"\w+ failed \(", line)]
    invalid = [f"server_{fault}" for fault in FAULTS if fault != "starves"]
    assert {line.split()[0] for line in failed} == {*FAILURES, *invalid}
    assert "Error in rule" not in console
    assert all((checkout / target).exists() for target in TARGETS)


def test_what_failed_is_tried_again_and_when_it_is_mended_nothing_is_left_to_do(
    broken: tuple[Path, str],
) -> None:
    checkout, _ = broken
    record = checkout / "results/cells/keepalive/server_epoll/c10_r1.json"
    measured = record.read_text()
    configfile = ("--configfile", "overlay.yaml")
    again = {
        job[2] for job in jobs_to_run(checkout, *TARGETS, *configfile) if job[0] == "measure_cell"
    }
    invalid = {f"server_{fault}" for fault in FAULTS if fault != "starves"}
    assert again == {*FAILURES, *invalid}
    # Nobody else's pictures need them.
    assert jobs_to_run(checkout, "plots/server_epoll.png", *configfile) == set()

    for name in ("server_typo", "server_segfaults"):
        (checkout / f"servers/{name}.c").write_text((ROOT / "servers/server_epoll.c").read_text())
    few = ("server_epoll", "server_typo", "server_segfaults", "absent")
    mended = sweep_of(*few, command="@root/results/bin/server_epoll")
    (checkout / "overlay.yaml").write_text(mended)
    run = run_snakemake(checkout, TARGETS[1], *configfile)
    assert run.returncode == 0, run.stdout
    assert {cell["status"] for cell in rows_of(checkout).values()} == {"ok"}
    assert record.read_text() == measured
    assert jobs_to_run(checkout, TARGETS[1], *configfile) == set()


def test_tables_and_pictures_are_made_where_all_servers_fail(broken: tuple[Path, str]) -> None:
    checkout, _ = broken
    (checkout / "none.yaml").write_text(sweep_of("server_cannot_start"))
    for target in TARGETS[:2]:
        (checkout / target).unlink(missing_ok=True)
    run = run_snakemake(checkout, *TARGETS[:2], "--configfile", "none.yaml")
    assert run.returncode == 1
    assert run.stdout.splitlines()[-1].startswith("server_cannot_start failed (1 of 1 cells")
    assert all((checkout / target).exists() for target in TARGETS[:2])


@pytest.mark.alone
def test_server_that_does_needless_work_is_called_slower(tmp_path: Path) -> None:
    """Several times slower, so that no noise hides it in seconds; tests/analysis/test_verdicts.py has 5 %."""
    checkout = copy_checkout(tmp_path / "checkout")
    (checkout / "servers/server_spins.c").write_text(
        (ROOT / "tests/faulty/server_spins.c").read_text()
    )
    few = {"servers": ["server_epoll", "server_spins"], "connections": [10, 100], "repeats": 3}
    long = {"duration_s": 0.3, "warmup_s": 0.1, "paired_s": 0.1}
    spins = overlay(**few, **long, compile={"flags": ["-O2", "-DSPIN_NS=20000"]})
    (checkout / "overlay.yaml").write_text(spins)
    for _ in range(3):  # where some cells were disturbed, too few undisturbed ones may be left
        run = run_snakemake(checkout, "results/verdicts.csv", "--configfile", "overlay.yaml")
        assert run.returncode == 0, run.stdout
        with (checkout / "results/verdicts.csv").open() as file:
            rows = {(row["metric"], row["connections"]): row for row in csv.DictReader(file)}
        whole = rows["cpu_ratio", "all"]
        if whole["verdict"] != "not decidable here":
            break
        shutil.rmtree(checkout / "results/cells")
    assert (whole["server"], whole["other"]) == ("server_epoll", "server_spins")
    assert whole["verdict"] == "faster", whole
    assert float(whole["ratio_high"]) < 1
    assert all(row["verdict"] != "slower" for row in rows.values())
