"""The whole workflow for real: the sweep of tests/smoke.yaml, its tables and pictures."""

import csv
import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from drawing import palette
from helpers.checkouts import (
    ROOT,
    SNAKEMAKE,
    assert_measured_in_order,
    jobs_to_run,
    records_of,
    run_in_terminal,
    run_snakemake,
)
from hosts import perf_permission
from instruments import perf_record

SERVERS = yaml.safe_load((ROOT / "config.yaml").read_text())["servers"]
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
            may_be = {"flags", "reason", "worker_fairness_jain", "throughput_ratio"}
            may_be |= {"handler_ceiling_per_second"}  # keep-alive's handler does not wait
            assert empty <= may_be | of_threads, cell
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
    for path in (smoke[0] / "results/cells").glob("*/*/*.json"):
        record = json.loads(path.read_text())
        if record["status"] == "unavailable":
            continue
        counted = sum(worker["requests"] for worker in record["server_counts"])
        answered = record["requests"] + record["warmup_requests"] + 2 * 2
        assert 0 <= counted - answered <= 2 * record["connections"], path  # of two loads


def test_all_pictures_are_there(smoke: tuple[Path, str]) -> None:
    plots = smoke[0] / "plots"
    pictures = {"map", "overview", "ranking", "syscalls"}
    pictures |= {f"overview_{figure}" for figure in FIGURES}
    pictures |= {f"{server}{part}" for server in SERVERS for part in ("", "_flamegraph")}
    expected = {f"{picture}.{suffix}" for picture in pictures for suffix in ("png", "svg")}
    assert {path.name for path in plots.iterdir()} == expected
    assert all(path.stat().st_size > 300 for path in plots.iterdir())


def test_flamegraph_holds_what_was_sampled_or_says_why_not(smoke: tuple[Path, str]) -> None:
    for server in SERVERS:
        facts = json.loads((smoke[0] / f"results/profile/keepalive/{server}.json").read_text())
        svg = (smoke[0] / f"plots/{server}_flamegraph.svg").read_text()
        if facts["status"] == "ok":
            assert "<script" in svg
        else:
            assert facts["reason"].split(":")[0][:40] in svg


def test_profiles_are_made_where_this_machine_lets_us(smoke: tuple[Path, str]) -> None:
    folder = smoke[0] / "results/profile/keepalive"
    facts = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    assert len(facts) == len(SERVERS)
    # Not all: a busy machine may spoil some, and their pictures say so.
    if perf_permission.obstacle_of(perf_record.check_here) == "":
        assert sum(profile["status"] == "ok" for profile in facts) >= len(SERVERS) / 2, facts


def test_table_at_the_end_has_a_line_for_each_server(smoke: tuple[Path, str]) -> None:
    folder, console = smoke
    table = (folder / "results/summary.txt").read_text()
    assert console.count(table) == 1
    assert [line.split()[0] for line in table.splitlines()[2 : 2 + len(SERVERS)]] == SERVERS


def test_table_at_the_end_fits_the_terminal_and_says_where_to_look(
    smoke: tuple[Path, str],
) -> None:
    folder, console = smoke
    (folder / "results/summary.txt").unlink()
    command = [*SNAKEMAKE, "-j1", "results/summary.txt", *in_folder(folder)]
    shown = run_in_terminal(command, ROOT, 60)
    table = shown[shown.index("server   ") : shown.index("Open first")]
    assert all(len(re.sub(r"\033\[\d+m", "", line)) <= 60 for line in table.splitlines())
    # This run has not made the page, the other has.
    command = ["snakemake", "results/report.html", "-j1", *in_folder(folder)]
    said = " ".join(shown.splitlines())
    assert (
        f"Open first: {folder}/results/report.html, made by: {shlex.join(command)} Pictures" in said
    )
    assert f"Open first: {folder}/results/report.html\n" in console


def test_console_tells_the_expected_time_and_the_time_left(smoke: tuple[Path, str]) -> None:
    assert "18 cells and 8 profiles to run, about " in smoke[1]
    assert "[18/18, " in smoke[1]
    assert smoke[1].count(" left] ") == 18 + smoke[1].count(" connections, profile: ") == 26
    # In full: there is no terminal that is too narrow.
    assert smoke[1].count(" connections, repeat 1: ") == 18


def test_cells_are_measured_in_the_order_that_their_records_say(smoke: tuple[Path, str]) -> None:
    records = records_of(smoke[0])
    assert len(records) == 18
    assert {record["seed"] for record in records} == {1}
    assert {record["position"] for record in records} == set(range(18))
    assert_measured_in_order(records)


def test_every_point_says_what_limited_it(smoke: tuple[Path, str]) -> None:
    with (smoke[0] / "results/summary.csv").open() as file:
        points = list(csv.DictReader(file))
    for point in points:
        if point["repeats_ok"] != "0":
            assert point["limiter"] in palette.LIMITERS, point


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
