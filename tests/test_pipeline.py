"""The whole workflow for real: the sweep of tests/smoke.yaml, resuming, and interruption at any time."""

import csv
import itertools
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import profile_server
import pytest
from checkouts import (
    ROOT,
    SNAKEMAKE,
    copy_checkout,
    jobs_to_run,
    processes_mentioning,
    run_snakemake,
)

SERVERS = sorted(path.stem for path in (ROOT / "servers").glob("server*.c"))
EVENT_DRIVEN = [name for name in SERVERS if name not in ("server", "server_thread")]
FIGURES = ("throughput", "latency", "cpu")


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a finished smoke sweep, and what the console showed."""
    folder = tmp_path_factory.mktemp("smoke")
    run = run_snakemake(
        ROOT, "--directory", str(folder), "--configfile", "tests/smoke.yaml", timeout_s=400
    )
    assert run.returncode == 0, run.stdout
    return folder, run.stdout


@pytest.fixture(scope="module")
def cells(smoke: tuple[Path, str]) -> list[dict[str, str]]:
    with (smoke[0] / "results/cells.csv").open() as file:
        return list(csv.DictReader(file))


def test_every_cell_of_the_sweep_has_its_row(cells: list[dict[str, str]]) -> None:
    expected = {(server, connections) for server in SERVERS for connections in ("1", "100")}
    assert {(cell["server"], cell["connections"]) for cell in cells} == expected
    assert len(cells) == len(expected)


def test_every_field_is_filled(cells: list[dict[str, str]]) -> None:
    for cell in cells:
        if cell["status"] != "unavailable":
            empty = {name for name, value in cell.items() if value == ""}
            assert empty <= {"flags"}, cell


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
        answered = record["requests"] + record["warmup_requests"] + 2
        assert 0 <= counted - answered <= 2 * record["connections"], path


def test_all_pictures_are_there(smoke: tuple[Path, str]) -> None:
    plots = smoke[0] / "plots"
    expected = {f"overview_{figure}.png" for figure in FIGURES}
    for server in SERVERS:
        expected |= {f"{server}.png", f"{server}_flamegraph.png", f"{server}_flamegraph.svg"}
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
    if profile_server.obstacle_here() == "":
        assert sum(profile["status"] == "ok" for profile in facts) >= len(SERVERS) / 2, facts


def test_table_at_the_end_has_a_line_for_each_server(smoke: tuple[Path, str]) -> None:
    folder, console = smoke
    table = (folder / "results/summary.txt").read_text()
    assert console.count(table) == 1
    assert [line.split()[0] for line in table.splitlines()[2 : 2 + len(SERVERS)]] == table_order()


def table_order() -> list[str]:
    """Servers in the order of config.yaml."""
    lines = (ROOT / "config.yaml").read_text().splitlines()
    names = [line.split()[1] for line in lines if line.startswith("  - server")]
    assert sorted(names) == SERVERS
    return names


def test_console_tells_the_expected_time_and_the_time_left(smoke: tuple[Path, str]) -> None:
    assert "16 cells and 8 profiles to run, about " in smoke[1]
    assert "[16/16, " in smoke[1]
    assert smoke[1].count(" left] ") == 16


def test_second_run_does_nothing(smoke: tuple[Path, str]) -> None:
    arguments = ("--directory", str(smoke[0]), "--configfile", "tests/smoke.yaml")
    assert jobs_to_run(ROOT, *arguments) == set()


def test_results_land_in_the_working_directory_alone(smoke: tuple[Path, str]) -> None:
    produced = {path.name for path in smoke[0].iterdir()}
    assert produced == {".snakemake", "results", "plots"}


SLOW = """\
servers: [server_epoll]
connections: [1, 2, 3]
repeats: 4
duration_s: 0.5
warmup_s: 0
profile: {connections: 2, duration_s: 0.5}
"""


def start_sweep(checkout: Path) -> "subprocess.Popen[str]":
    """A sweep in a session of its own, as in a terminal, that has measured two cells and works on another."""
    (checkout / "slow.yaml").write_text(SLOW)
    sweep = subprocess.Popen(
        [*SNAKEMAKE, "-j1", "--configfile", "slow.yaml"],
        cwd=checkout,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while len(list(checkout.glob("results/cells/*/*.json"))) < 2:
        assert sweep.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    while not processes_mentioning(f"{checkout}/results/bin"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
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
    assert 2 <= len(records) < 12
    for path in records:
        json.loads(path.read_text())
    assert list(checkout.glob("results/cells/*/.*")) == []

    if number == signal.SIGKILL:
        assert run_snakemake(checkout, "--unlock", "--configfile", "slow.yaml").returncode == 0
    again = run_snakemake(checkout, "--configfile", "slow.yaml")
    assert again.returncode == 0, again.stdout
    assert len(list(checkout.glob("results/cells/*/*.json"))) == 12
    assert {path: path.stat().st_mtime_ns for path in records} == records


def test_two_sweeps_in_two_checkouts_do_not_overlap(tmp_path: Path) -> None:
    checkouts = [copy_checkout(tmp_path / name) for name in ("one", "two")]
    sweeps = []
    for checkout in checkouts:
        (checkout / "slow.yaml").write_text(SLOW.replace("repeats: 4", "repeats: 2"))
        command = [*SNAKEMAKE, "-j8", "--configfile", "slow.yaml", "--until", "summarize_server"]
        sweeps.append(subprocess.Popen(command, cwd=checkout, stderr=subprocess.DEVNULL))
    assert [sweep.wait(timeout=120) for sweep in sweeps] == [0, 0]
    spans = []
    for checkout in checkouts:
        for path in checkout.glob("results/cells/*/*.json"):
            record = json.loads(path.read_text())
            start = time.mktime(time.strptime(record["started"][:19], "%Y-%m-%dT%H:%M:%S"))
            start += float("0" + record["started"][19:23])
            spans.append((start, start + record["duration_s"]))
    assert len(spans) == 12
    spans.sort()
    for (_, end), (start, _) in itertools.pairwise(spans):
        assert end <= start


def test_failing_server_stops_no_other(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    (checkout / "servers/server_broken.c").write_text(
        '#include <stdio.h>\nint main(void) { return fputs("cannot serve\\n", stderr) < 0 ? 2 : 3; }\n'
    )
    (checkout / "overlay.yaml").write_text(
        "servers: [server_broken, server_epoll]\nconnections: [2]\nrepeats: 1\nduration_s: 0.2\n"
        "warmup_s: 0\nprofile: {connections: 2, duration_s: 0.5}\n"
    )
    run = run_snakemake(checkout, "--configfile", "overlay.yaml")
    assert run.returncode != 0
    assert "the server did not start: status 3 (cannot serve)" in run.stdout
    assert (checkout / "plots/server_epoll.png").exists()
    assert not (checkout / "results/cells/server_broken/c2_r1.json").exists()
