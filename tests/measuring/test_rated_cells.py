"""Cells of an open loop for real: servers that keep up or fall behind, and all that a record must not hide."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import collect_latency
from helpers.checkouts import run_script
from helpers.measured import (
    OF_THE_MACHINE,
    compile_faulty,
    compile_load,
    compile_server,
    fake_server,
)
from instruments import failed_build
from sweep import rated_flags, rates, records
from sweep.rates import RatedCell

# What other work on this machine may raise too.
BUSY = OF_THE_MACHINE | {"generator_late"}
Binary = Callable[[str], str]


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Binary:
    """The compiled server of a name, or the load generator."""
    folder = tmp_path_factory.mktemp("bin")

    def compiled(name: str) -> str:
        path = folder / name
        if not path.exists():
            _ = compile_load(folder) if name == "load" else compile_server(name, folder)
        return str(path)

    return compiled


def measure(
    server: str, load: str, folder: Path, *arguments: object, **workload: Any
) -> "subprocess.CompletedProcess[str]":
    options = ["--load", load, "--connections", "4", "--duration-s", "0.5"]
    if workload:
        options += ["--workload-name", "mine", "--workload", json.dumps(workload)]
    output = folder / "record.json"
    return run_script("measure_latency.py", server, output, *options, *arguments, cwd=folder)


def record_of(
    server: str, load: str, folder: Path, *arguments: object, **workload: Any
) -> dict[str, Any]:
    run = measure(server, load, folder, *arguments, **workload)
    assert run.returncode == 0, run.stderr
    return records.read(str(folder / "record.json"))


def assert_kept_up(record: dict[str, Any], rate: float) -> None:
    """It counts, unless this machine had no time for the generator; as many requests as that rate gives by chance."""
    assert set(record["flags"]) <= BUSY, record["flags"]
    assert record["status"] == ("invalid" if "generator_late" in record["flags"] else "ok")
    due = rate * record["duration_s"]
    assert abs(record["requests"] - due) < 5 * due**0.5
    assert record["rate_per_second"] == rate
    assert (record["errors"], record["reconnects"], record["censored"]) == (0, 0, 0)
    figures = [record[f"latency_{name}_us"] for name in ("min", "p50", "p90", "p99", "p999", "max")]
    assert figures == sorted(figures) and figures[0] > 0


@pytest.mark.alone
def test_record_of_a_server_that_keeps_up_is_whole(binary: Binary, tmp_path: Path) -> None:
    (tmp_path / "rates.json").write_text('{"keepalive": {"capacity_per_second": 8000.0}}')
    options = ("--rate", "s25", "--rates", "rates.json", "--disturbed-retries", "3")
    paired = ("--reference", binary("reference"), "--paired-s", "0.5", "--repeat", "2")
    record = record_of(binary("server_epoll"), binary("load"), tmp_path, *options, *paired)
    assert_kept_up(record, 2000)
    assert (
        record["achieved_per_second"] >= rated_flags.ACHIEVED_SHARE * record["offered_per_second"]
    )
    assert 0.7 < record["cpu_ratio"] < 1.6
    answered = record["paired"]["answered"]
    assert all(abs(count - 1004) < 200 for count in answered) and record["paired"]["errors"] == 0
    assert 1000 < record["server_cpu_ns_per_request"] < 100_000
    assert 0 < record["server_cpu_share"] < 0.5
    assert record["share"] == 0.25
    assert record["attempts"] == 1 + len(record["earlier_attempts"]) <= 4
    assert sum(record["raw_histogram"]["count"]) == record["requests"]
    cell = RatedCell("server_epoll", "keepalive", "s25", 2)
    row = collect_latency.make_row(collect_latency.check(record, cell, "r.json"))
    empty = {name for name, value in row.items() if value in ("", None)}
    assert empty == {"reason"} | ({"flags"} if not record["flags"] else set())
    names = ("binary", "reference", "load", "capacity")
    assert all(len(record[f"{name}_sha256"]) == 64 for name in names)


@pytest.mark.alone
def test_requests_come_at_the_same_times_for_all_servers_and_others_in_each_repeat(
    binary: Binary, tmp_path: Path
) -> None:
    def seed_of(server: str, repeat: int) -> str:
        options = ("--rate", "q300", "--repeat", repeat, "--seed", "5")
        record = record_of(binary(server), binary("load"), tmp_path, *options)
        assert_kept_up(record, 300)
        words = record["load_command"]
        return str(words[words.index("--seed") + 1])

    seeds = [seed_of("server_epoll", 1), seed_of("server_thread", 1), seed_of("server_epoll", 2)]
    assert seeds[0] == seeds[1] != seeds[2]


@pytest.mark.alone
def test_blocking_server_is_unavailable_since_it_starves_connections(
    binary: Binary, tmp_path: Path
) -> None:
    record = record_of(binary("server"), binary("load"), tmp_path, "--rate", "q100")
    assert record["status"] == "unavailable"
    said = "it leaves 3 of 4 connections without an answer; when that has changed, delete "
    assert record["reason"] == said + str(tmp_path)
    alone = ("--rate", "q100", "--connections", "1")
    assert_kept_up(record_of(binary("server"), binary("load"), tmp_path, *alone), 100)


# Name of tests/faulty/server_faulty.c, or of helpers/fake_server.py → status, and the flag or what the reason says.
FAULTS = {
    "wrong_body": ("invalid", "wrong_responses"),
    "errors": ("invalid", "errors"),
    "closes": ("invalid", "connections_reopened"),
    "hangs": ("failed", "after the run the server does not answer"),
    "segfaults": ("failed", "the server ended during the run: SIGSEGV"),
    "mute": ("failed", "the server does not answer: timed out"),
    "starves": ("unavailable", "it leaves 3 of 4 connections without an answer"),
    "wrong_second": ("failed", "second answer differs"),
    "does_not_start": ("failed", "did not start: status 1 (cannot bind)"),
    "unavailable": ("unavailable", "this machine has no such thing"),
    "no_stop": ("failed", "did not stop within"),
}
FAKES = ("wrong_second", "does_not_start", "unavailable", "no_stop")


@pytest.mark.alone
@pytest.mark.parametrize("name", FAULTS)
def test_server_that_misbehaves_is_told_in_the_record_and_in_one_line(
    name: str, binary: Binary, tmp_path: Path
) -> None:
    status, said = FAULTS[name]
    server = (fake_server if name in FAKES else compile_faulty)(name, tmp_path)
    run = measure(server, binary("load"), tmp_path, "--rate", "q2000", "--duration-s", "1.2")
    assert run.returncode == 0, run.stderr
    record = records.read(str(tmp_path / "record.json"))
    assert record["status"] == records.read_status(str(tmp_path / "record.json")) == status, record
    assert said in (record.get("reason") or record["flags"])
    if status == "failed":
        who = f"measure_latency: {Path(server).name}, keepalive, 2,000/s"
        assert run.stderr == f"{who}: {record['reason']}\n"
    else:
        assert run.stderr == ""
    lines = run.stdout.splitlines()  # it may have waited for another test
    assert len([it for it in lines if not it.startswith("waiting for this machine")]) == 1


@pytest.mark.alone
def test_rate_above_the_capacity_is_overload_and_not_an_error(
    binary: Binary, tmp_path: Path
) -> None:
    options = ("--rate", "q2000", "--disturbed-retries", "2")
    record = record_of(
        binary("server_epoll"), binary("load"), tmp_path, *options, handler_burn_us=2000
    )
    assert record["status"] == "overloaded", record["flags"]
    assert 250 < record["achieved_per_second"] <= 505
    assert record["latency_p50_us"] > 100_000
    assert record["server_cpu_share"] > 0.5
    # What no answer came for in time is in the percentiles with the time that had passed.
    assert record["censored"] > 0 and record["latency_max_us"] > 1e6


@pytest.mark.alone
def test_handler_that_waits_is_no_overload_though_the_run_ends_before_its_last_answers(
    binary: Binary, tmp_path: Path
) -> None:
    mine = {"handler_block_us": 20_000, "decided_by": "requests_per_second"}
    options = ("--rate", "q100", "--connections", "20")
    record = record_of(binary("server_thread"), binary("load"), tmp_path, *options, **mine)
    assert_kept_up(record, 100)
    assert record["latency_p50_us"] >= record["latency_min_us"] >= 0.98 * 20_000


@pytest.mark.alone
def test_bodies_and_idle_connections_are_those_of_the_workload(
    binary: Binary, tmp_path: Path
) -> None:
    mine = {"body_bytes": 50_000, "idle_connections": 20}
    pair = ("--reference", binary("reference"), "--paired-s", "0.3")
    record = record_of(
        binary("server_epoll"), binary("load"), tmp_path, "--rate", "q400", *pair, **mine
    )
    assert_kept_up(record, 400)
    assert (record["idle_connections"], record["idle_connections_lost"]) == (20, 0)
    words = record["load_command"]
    assert words[words.index("--body-bytes") + 1] == "50000"
    assert record["cpu_ratio"] > 0
    lost = record_of(
        fake_server("closes_idle", tmp_path), binary("load"), tmp_path, "--rate", "q400", **mine
    )
    assert lost["status"] == "failed"  # its bodies are others


@pytest.mark.alone
def test_run_without_a_request_is_invalid(binary: Binary, tmp_path: Path) -> None:
    options = ("--rate", "q1", "--duration-s", "0.1", "--disturbed-retries", "0", "--seed", "3")
    record = record_of(binary("server_epoll"), binary("load"), tmp_path, *options)
    assert (record["requests"], record["status"]) == (0, "invalid")
    assert "no_requests" in record["flags"] and record["latency_p99_us"] is None


# Options → what the one line says.
WRONG = {
    "no generator": (["--load", "none", "--rate", "q10"], "there is no load generator "),
    "a generator that was not built": (["--load", "typo", "--rate", "q10"], "load.c:1: error"),
    "no plan": (["--rate", "s50"], "--rate as a share needs --rates"),
    "a plan that is not there": (["--rate", "s50", "--rates", "none"], "No such file"),
    "a plan of others": (["--rate", "s50", "--rates", "rates"], "not an object with keepalive"),
    "a generator that refuses": (["--rate", "q100000000"], "status 2 (load: --rate"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_missing_is_one_line_and_no_record(
    name: str, binary: Binary, tmp_path: Path
) -> None:
    options, said = WRONG[name]
    failed_build.write(str(tmp_path / "typo"), "does not compile: load.c:1: error: no")
    (tmp_path / "rates").write_text('{"mine": {}}')
    run = measure(binary("server_epoll"), binary("load"), tmp_path, *options)
    assert run.returncode in (1, 2) and said in run.stderr.splitlines()[-1]
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "record.json").exists()


def test_names_of_rates_are_those_of_the_records_paths() -> None:
    assert rates.rate_of("q2000", None) == 2000 and rates.rate_of("s25", 8000.0) == 2000
