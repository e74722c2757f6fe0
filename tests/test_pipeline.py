"""The whole workflow for real: the sweep of tests/smoke.yaml, resuming, and interruption at any time."""

import csv
import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import perf_record
import plot_style
import pytest
import yaml
from checkouts import (
    ROOT,
    SNAKEMAKE,
    copy_checkout,
    jobs_to_run,
    processes_mentioning,
    run_in_terminal,
    run_snakemake,
)

SERVERS = sorted(yaml.safe_load((ROOT / "config.yaml").read_text())["servers"])
EVENT_DRIVEN = [name for name in SERVERS if name not in ("server", "server_thread")]
FIGURES = ("throughput", "latency", "cpu")
CONTROL = "server_poll_control"
pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a finished smoke sweep, and what the console showed."""
    folder = tmp_path_factory.mktemp("smoke")
    run = run_snakemake(ROOT, "-j2", *in_folder(folder), timeout_s=400)
    assert run.returncode == 0, run.stdout
    return folder, run.stdout


def in_folder(folder: Path) -> list[str]:
    return ["--directory", str(folder), "--configfile", "tests/smoke.yaml"]


@pytest.fixture(scope="module")
def cells(smoke: tuple[Path, str]) -> list[dict[str, str]]:
    with (smoke[0] / "results/cells.csv").open() as file:
        return list(csv.DictReader(file))


def test_every_cell_of_the_sweep_has_its_row(cells: list[dict[str, str]]) -> None:
    expected = {(name, count) for name in [*SERVERS, CONTROL] for count in ("1", "100")}
    assert {(cell["server"], cell["connections"]) for cell in cells} == expected
    assert len(cells) == len(expected)


def test_every_field_is_filled(cells: list[dict[str, str]]) -> None:
    for cell in cells:
        if cell["status"] != "unavailable":
            empty = {name for name, value in cell.items() if value == ""}
            # Not told of a server with more threads than CPUs, or with very many.
            of_threads = {"cpu_pressure_share", "server_wait_share", "server_busiest_thread_share"}
            assert empty <= {"flags", "worker_fairness_jain", *of_threads}, cell
            has_workers = cell["server"].endswith("_multitask")
            assert has_workers == ("worker_fairness_jain" not in empty), cell
            if cell["server"] in EVENT_DRIVEN and not has_workers:
                assert not empty & of_threads or "shared_cpus" in cell["flags"], cell


def test_only_io_uring_may_be_unavailable(cells: list[dict[str, str]]) -> None:
    for cell in cells:
        if "uring" not in cell["server"]:
            assert cell["status"] == "ok", cell


def test_blocking_server_leaves_all_but_one_connection_unserved(
    cells: list[dict[str, str]],
) -> None:
    (cell,) = [c for c in cells if c["server"] == "server" and c["connections"] == "100"]
    assert cell["unserved_connections"] == "99"
    assert float(cell["fairness_jain"]) == pytest.approx(0.01)
    assert "unserved_connections" in cell["flags"]


def test_event_driven_servers_leave_none_unserved(cells: list[dict[str, str]]) -> None:
    for cell in cells:
        if cell["server"] in EVENT_DRIVEN and cell["status"] == "ok":
            assert cell["unserved_connections"] == "0", cell


def test_server_counts_agree_with_the_client(smoke: tuple[Path, str]) -> None:
    for path in (smoke[0] / "results/cells").glob("*/*.json"):
        record = json.loads(path.read_text())
        if record["status"] == "unavailable":
            continue
        counted = sum(worker["requests"] for worker in record["server_counts"])
        answered = record["requests"] + record["warmup_requests"] + 2 * 2
        assert 0 <= counted - answered <= 2 * record["connections"], path


def test_all_pictures_are_there(smoke: tuple[Path, str]) -> None:
    plots = smoke[0] / "plots"
    pictures = {"overview", "ranking", "syscalls", *(f"overview_{figure}" for figure in FIGURES)}
    pictures |= {f"{server}{part}" for server in SERVERS for part in ("", "_flamegraph")}
    expected = {f"{picture}.{suffix}" for picture in pictures for suffix in ("png", "svg")}
    assert {path.name for path in plots.iterdir()} == expected
    assert all(path.stat().st_size > 300 for path in plots.iterdir())


def test_flamegraph_holds_what_was_sampled_or_says_why_not(smoke: tuple[Path, str]) -> None:
    for server in SERVERS:
        facts = json.loads((smoke[0] / f"results/profile/{server}.json").read_text())
        svg = (smoke[0] / f"plots/{server}_flamegraph.svg").read_text()
        if facts["status"] == "ok":
            assert "<script" in svg
        else:
            assert facts["reason"].split(":")[0][:40] in svg


def test_profiles_are_made_where_this_machine_lets_us(smoke: tuple[Path, str]) -> None:
    facts = [json.loads(p.read_text()) for p in (smoke[0] / "results/profile").glob("*.json")]
    assert len(facts) == len(SERVERS)
    # Not all: a busy machine may spoil some, and their pictures say so.
    if perf_record.obstacle_here() == "":
        assert sum(profile["status"] == "ok" for profile in facts) >= len(SERVERS) / 2, facts


def test_table_at_the_end_has_a_line_for_each_server(smoke: tuple[Path, str]) -> None:
    folder, console = smoke
    table = (folder / "results/summary.txt").read_text()
    assert console.count(table) == 1
    assert [line.split()[0] for line in table.splitlines()[2 : 2 + len(SERVERS)]] == table_order()


def test_table_at_the_end_fits_the_terminal_and_says_where_to_look(
    smoke: tuple[Path, str],
) -> None:
    folder, console = smoke
    (folder / "results/summary.txt").unlink()
    command = [*SNAKEMAKE, "-j1", "results/summary.txt", *in_folder(folder)]
    shown = run_in_terminal(command, ROOT, 60)
    table = shown[shown.index("server   ") : shown.index("Open first")]
    assert len(table.splitlines()) > len(SERVERS) + 2
    assert all(len(re.sub(r"\033\[\d+m", "", line)) <= 60 for line in table.splitlines())
    assert "\033[31m99 of 100\033[0m" in table
    # This run has not made the page, the other has.
    command = ["snakemake", "results/report.html", "-j1", *in_folder(folder)]
    said = " ".join(shown.splitlines())
    assert (
        f"Open first: {folder}/results/report.html, made by: {shlex.join(command)} Pictures" in said
    )
    assert f"Open first: {folder}/results/report.html\n" in console


def table_order() -> list[str]:
    """Servers in the order of config.yaml."""
    lines = (ROOT / "config.yaml").read_text().splitlines()
    names = [line.split()[1] for line in lines if line.startswith("  - server")]
    assert sorted(names) == SERVERS
    return names


def test_console_tells_the_expected_time_and_the_time_left(smoke: tuple[Path, str]) -> None:
    assert "18 cells, 2 runs of the ceiling and 8 profiles to run, about " in smoke[1]
    assert "[20/20, " in smoke[1]
    assert smoke[1].count(" left] ") == 20 + smoke[1].count(" connections, profile: ") == 28
    assert (
        smoke[1].count(" connections, repeat 1: ") == 20
    )  # in full: there is no terminal that is too narrow


def records_of(folder: Path) -> list[dict[str, Any]]:
    paths = [*folder.glob("results/cells/*/*.json"), *folder.glob("results/ceiling/*.json")]
    return [json.loads(path.read_text()) for path in paths]


def assert_measured_in_order(records: list[dict[str, Any]]) -> None:
    measured = sorted(
        (record["started"], record["position"]) for record in records if "started" in record
    )
    positions = [position for _, position in measured]
    assert positions == sorted(positions)
    assert len(set(positions)) == len(positions)


def test_cells_are_measured_in_the_order_that_their_records_say(smoke: tuple[Path, str]) -> None:
    records = records_of(smoke[0])
    assert len(records) == 20
    assert {record["seed"] for record in records} == {1}
    assert {record["position"] for record in records} == set(range(20))
    assert_measured_in_order(records)


def test_every_point_says_what_limited_it(smoke: tuple[Path, str]) -> None:
    with (smoke[0] / "results/summary.csv").open() as file:
        points = list(csv.DictReader(file))
    for point in points:
        if point["repeats_ok"] != "0":
            assert point["limiter"] in plot_style.LIMITERS, point


def test_machine_is_named_in_every_record(smoke: tuple[Path, str]) -> None:
    facts = json.loads((smoke[0] / "results/machine.json").read_text())
    for record in records_of(smoke[0]):
        assert record["machine"] == facts["machine_id"]
        assert record["facts"] == facts
        assert len(record["binary_sha256"]) == 64
    with (smoke[0] / "results/summary.csv").open() as file:
        assert {row["machine"] for row in csv.DictReader(file)} == {facts["machine_id"]}


def test_verdicts_compare_every_pair_and_the_control(smoke: tuple[Path, str]) -> None:
    with (smoke[0] / "results/verdicts.csv").open() as file:
        whole = [row for row in csv.DictReader(file) if row["connections"] == "all"]
    pairs = {(row["server"], row["other"]) for row in whole}
    assert len(pairs) == 8 * 7 / 2 + 1
    assert ("server_poll", CONTROL) in pairs
    assert len(whole) == 2 * len(pairs)
    assert all(row["verdict"] for row in whole)


def test_second_run_does_nothing(smoke: tuple[Path, str]) -> None:
    assert jobs_to_run(ROOT, *in_folder(smoke[0])) == set()


def test_results_land_in_the_working_directory_alone(smoke: tuple[Path, str]) -> None:
    produced = {path.name for path in smoke[0].iterdir()}
    assert produced == {".snakemake", "results", "plots"}


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_sweep_leaves_nothing_and_goes_on(
    number: signal.Signals, tmp_path: Path
) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    sweep = start_sweep(checkout)
    if number == signal.SIGINT:
        os.killpg(sweep.pid, number)  # Ctrl-C reaches the whole foreground group
    else:
        os.kill(sweep.pid, number)
    assert sweep.wait(timeout=30) != 0
    assert_nothing_left(checkout)
    records = {path: path.stat().st_mtime_ns for path in checkout.glob("results/cells/*/*.json")}
    assert 2 <= len(records) < 6
    for path in records:
        json.loads(path.read_text())
    assert list(checkout.glob("results/cells/*/.*")) == []

    if number == signal.SIGKILL:
        assert run_snakemake(checkout, "--unlock", "--configfile", "slow.yaml").returncode == 0
    again = run_snakemake(checkout, CELLS, "--configfile", "slow.yaml")
    assert again.returncode == 0, again.stdout
    assert len(list(checkout.glob("results/cells/*/*.json"))) == 6
    assert_measured_in_order(records_of(checkout))
    assert {path: path.stat().st_mtime_ns for path in records} == records


def test_snakemake_sleeps_while_a_cell_is_measured(tmp_path: Path) -> None:
    """It used to look at all jobs again every second, once more with each job that had ended."""
    checkout = copy_checkout(tmp_path / "checkout")
    sweep = start_sweep(checkout, SLOW.replace("duration_s: 0.5", "duration_s: 3"), measured=1)

    def wake_ups() -> int:
        status = Path(f"/proc/{sweep.pid}/status").read_text()
        return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])

    try:
        time.sleep(0.5)
        before = wake_ups()
        time.sleep(2)
        assert wake_ups() - before <= 1
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
        with (checkout / f"results/summary/server_{fault}.csv").open() as file:
            (point,) = csv.DictReader(file)
        assert point["limiter"] == ("starving" if fault == "starves" else "")
    for fault, said in FAILURES.items():
        line = f"measure_cell: server_{fault}, 10 connections, repeat 1: {said}"
        assert line in run.stdout.splitlines(), run.stdout
        assert not (checkout / f"results/cells/server_{fault}/c10_r1.json").exists()
    made = {path.stem for path in (checkout / "plots").glob("*.png")}
    assert made == {"server_epoll", *(f"server_{fault}" for fault in FAULTS)}


def test_server_that_does_needless_work_is_called_slower(tmp_path: Path) -> None:
    """By more than 5 % here, which this machine's noise would hide for minutes; tests/test_comparisons.py has 5 %."""
    checkout = copy_checkout(tmp_path / "checkout")
    (checkout / "servers/server_spins.c").write_text(
        (ROOT / "tests/faulty/server_spins.c").read_text()
    )
    (checkout / "overlay.yaml").write_text(
        "servers: [server_epoll, server_spins]\ncontrol: null\nconnections: [10, 100]\n"
        "repeats: 3\nduration_s: 0.3\nwarmup_s: 0.1\ndisturbed_retries: 0\n"
        "compile: {flags: [-O2, -DSPIN_NS=6000]}\n"
    )
    run = run_snakemake(checkout, "results/verdicts.csv", "--configfile", "overlay.yaml")
    assert run.returncode == 0, run.stdout
    with (checkout / "results/verdicts.csv").open() as file:
        rows = {(row["metric"], row["connections"]): row for row in csv.DictReader(file)}
    whole = rows["server_cpu_ns_per_request", "all"]
    assert (whole["server"], whole["other"]) == ("server_epoll", "server_spins")
    assert whole["verdict"] == "faster", whole
    assert float(whole["ratio_high"]) < 0.8
    assert all(row["verdict"] != "slower" for row in rows.values())
