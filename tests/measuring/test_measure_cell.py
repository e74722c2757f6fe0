"""One cell for real: servers that work, and servers that fail in every way that a record must not hide."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import measure_cell
from common import processes
from helpers.checkouts import (
    ROOT,
    eventually,
    make_program,
    processes_mentioning,
    run_script,
)
from helpers.external_servers import started
from helpers.measured import OF_THE_MACHINE, compile_faulty, compile_server, fake_server, measure
from helpers.tools import tools_in
from hosts import cpus
from instruments import failed_build, server_process, sockets, wrk
from instruments.wrk import OWN_END_SLACK_S
from measuring import runs
from measuring.load_side import LoadSide
from measuring.server_side import ServerSide
from sweep import flags, records


@pytest.fixture(scope="module")
def server_epoll(tmp_path_factory: pytest.TempPathFactory) -> str:
    return compile_server("server_epoll", tmp_path_factory.mktemp("bin"))


def record_of(binary: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """Of a cell that could be measured or told why not."""
    run = measure(binary, folder / "record.json", *arguments)
    assert run.returncode == 0, run.stderr
    return dict(json.loads((folder / "record.json").read_text()))


@pytest.fixture(scope="module")
def record(server_epoll: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return record_of(server_epoll, tmp_path_factory.mktemp("cell"))


@pytest.mark.alone
def test_record_of_a_good_run_is_whole(record: dict[str, Any]) -> None:
    assert record["status"] == "ok"
    assert set(record["flags"]) <= OF_THE_MACHINE
    assert record["duration_s"] > 0.9
    assert record["requests_per_second"] == record["requests"] / record["duration_s"]
    assert record["errors"] == 0
    assert record["established_connections"] == 4
    assert record["unserved_connections"] == 0
    assert 0.25 <= record["fairness_jain"] <= 1
    percentiles = [record[f"latency_p{p}_us"] for p in (50, 75, 90, 95, 99, 99.9, 99.99)]
    assert percentiles == sorted(percentiles)
    assert 0 < percentiles[0] <= percentiles[-1] <= record["latency_max_us"]
    assert 0 < record["client_cpu_share"] <= 1.05
    assert 0 < record["server_cpu_share"] <= 1.05
    assert record["server_cpu_ns_per_request"] > 100
    assert record["server_memory_peak_kib"] > 100


@pytest.mark.alone
def test_server_counts_what_wrk_counts(record: dict[str, Any]) -> None:
    (counts,) = record["server_counts"]
    answered = (
        record["requests"] + record["warmup_requests"] + 2 * 2
    )  # two to verify, before and after
    assert 0 <= counts["requests"] - answered <= 2 * 4  # under way when wrk stopped
    # wrk connects once, to see whether anybody is there, before it opens its connections.
    assert counts["accepted"] == 2 * 1 + 2 * (1 + 4)


@pytest.mark.alone
def test_kernel_and_server_count_the_timed_run_alone_and_agree(record: dict[str, Any]) -> None:
    assert record["kernel_connections"] == record["server_accepted"] == 1 + 4
    assert record["kernel_responses"] == record["server_requests"]
    assert 0 <= record["kernel_responses"] - record["requests"] <= 4


@pytest.mark.alone
def test_server_and_load_run_on_different_cpus(record: dict[str, Any]) -> None:
    if record["cpus_shared"]:
        assert "shared_cpus" in record["flags"]
    else:
        assert not set(record["server_cpus"]) & set(record["load_cpus"])


@pytest.mark.alone
def test_fraction_of_a_second_is_kept(server_epoll: str, tmp_path: Path) -> None:
    record = record_of(server_epoll, tmp_path, "--duration-s", "0.6", "--warmup-s", "0")
    assert 0.5 < record["duration_s"] < 1
    assert record["warmup_requests"] == 0


@pytest.mark.alone
def test_timed_run_begins_when_the_warm_up_is_over_for_the_server_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocking server has all but one connection of the warm-up still to serve when wrk is gone."""
    left = []
    seen = {"errors": 1, "processes_changed": False, "raw_bytes_sent": [], "latency_mean_us": None}
    monkeypatch.setattr(
        measure_cell,
        "run_timed_load",
        lambda run, _: left.append(sockets.wait_until_closed(run.port, 0)) or seen,
    )
    command = ["measure_cell", compile_server("server", tmp_path), "none", "--connections", "500"]
    command += ["--warmup-s", "0.3", "--workers", "1", "--start-timeout-s", "60"]
    monkeypatch.setattr(sys, "argv", command)
    arguments = measure_cell.parse_arguments()
    monkeypatch.setattr(measure_cell.flags, "flags_of", lambda _: [])
    with runs.connected(arguments.network, ServerSide, LoadSide, lifetime_s=60) as sides:
        measure_cell.measure(sides, arguments)
    assert left == [0]


@pytest.mark.alone
def test_connections_that_a_server_keeps_are_counted(tmp_path: Path) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        port = listener.getsockname()[1]
        assert sockets.wait_until_closed(port, 0) == 0
        with socket.create_connection(("::1", port)):
            assert sockets.wait_until_closed(port, 0.1) == 1
        assert sockets.wait_until_closed(port, 0.1) == 1  # the client has closed, the server not
        listener.accept()[0].close()
        assert sockets.wait_until_closed(port, 2) == 0


FAULTS = {
    "does_not_start": "did not start: status 1 (cannot bind)",
    "silent": "not 'listening on",
    "wrong_body": "body is not",
    "wrong_second": "second answer differs",
    "status_500": "is not a 200",
    "closes": "server's answer is wrong: it closed",
    "announces_to_close": "announces 'Connection: close' but does not close",
    "crashes": "ended during the run: SIGSEGV",
    "no_stop": "did not stop within",
    "ends_badly": "ended badly: status 3",
}


def assert_failed(run: subprocess.CompletedProcess[str], name: str, folder: Path) -> str:
    """A record that says so, and the same on one line; the reason."""
    assert run.returncode == 0, run.stderr
    path = folder / "record.json"
    record = records.read(str(path))
    assert record["status"] == records.read_status(str(path)) == "failed"
    assert run.stderr == f"measure_cell: {name}, 4 connections, repeat 1: {record['reason']}\n"
    assert "failed: " in run.stdout
    assert processes_mentioning(str(folder)) == []
    return str(record["reason"])


@pytest.mark.parametrize("name", FAULTS)
def test_server_that_fails_gives_a_record_with_the_reason(name: str, tmp_path: Path) -> None:
    soon = ("--start-timeout-s", "3") if name == "silent" else ()
    run = measure(fake_server(name, tmp_path), tmp_path / "record.json", *soon)
    assert FAULTS[name] in assert_failed(run, name, tmp_path)


def test_server_that_was_not_built_fails_with_the_compilers_reason(tmp_path: Path) -> None:
    failed_build.write(str(tmp_path / "server_typo"), "does not compile: a.c:1: error: no")
    run = measure(str(tmp_path / "server_typo"), tmp_path / "record.json")
    assert assert_failed(run, "server_typo", tmp_path) == "does not compile: a.c:1: error: no"


def test_missing_wrk_gives_one_line(server_epoll: str, tmp_path: Path) -> None:
    path = tools_in(tmp_path, "setpriv", "sh", "taskset", "ss")
    run = run_script("measure_cell.py", server_epoll, "record.json", cwd=tmp_path, PATH=str(path))
    assert run.returncode == 1
    assert "wrk is not installed: see make setup" in run.stderr
    assert len(run.stderr.splitlines()) == 1, run.stderr


def test_unavailable_server_gives_a_record_that_says_so(tmp_path: Path) -> None:
    record = record_of(fake_server("unavailable", tmp_path), tmp_path)
    assert record["status"] == "unavailable"
    assert "this machine has no such thing" in record["reason"]


def test_what_a_server_leaves_behind_is_ended(tmp_path: Path) -> None:
    run = measure(fake_server("leaves_child", tmp_path), tmp_path / "record.json")
    assert processes_mentioning(str(tmp_path)) == []
    assert run.returncode in (0, 1)


FAULTY = {
    "starves": {"unserved_connections"},
    "wrong_body": {"wrong_responses"},
    "errors": {"error_responses"},
    "closes": {"errors", "connections_disagree"},
}


@pytest.mark.alone
@pytest.mark.parametrize("name", FAULTY)
def test_fault_under_load_raises_its_flag_and_no_other(name: str, tmp_path: Path) -> None:
    record = record_of(compile_faulty(name, tmp_path), tmp_path)
    raised = set(record["flags"]) - OF_THE_MACHINE
    # The last answer may be an error, and is none where the connection closes; then wrk is between two of them, too.
    if name in ("errors", "closes"):
        raised -= {"wrong_responses"}
    if name == "closes":
        raised -= {"unserved_connections", "connections_differ"}
    assert raised == FAULTY[name]
    assert record["status"] == ("ok" if name == "starves" else "invalid")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("crashes", "the server ended during the run: SIGABRT"),
        ("hangs", "after the run the server does not answer: timed out"),
    ],
)
def test_server_that_ends_or_hangs_in_the_run_fails(name: str, said: str, tmp_path: Path) -> None:
    run = measure(compile_faulty(name, tmp_path), tmp_path / "record.json")
    assert assert_failed(run, f"server_{name}", tmp_path) == said


@pytest.mark.alone
def test_wrong_answers_are_seen_without_a_warm_up_too(tmp_path: Path) -> None:
    binary = compile_faulty("wrong_body", tmp_path)
    record = record_of(binary, tmp_path, "--warmup-s", "0", "--duration-s", "0.3")
    assert not record["response_unchanged"]
    assert "wrong_responses" in record["flags"]


@pytest.mark.alone
@pytest.mark.parametrize("warmup_s", ["0", "0.2"])
def test_server_that_announces_to_close_is_measured_and_what_is_not_known_is_empty(
    warmup_s: str, tmp_path: Path
) -> None:
    binary = compile_server("server_uring_naive", tmp_path)
    record = record_of(binary, tmp_path, "--duration-s", "0.5", "--warmup-s", warmup_s)
    if record["status"] == "unavailable":
        pytest.skip(record["reason"])
    assert (record["status"], record["errors"]) == ("ok", 0)
    assert record["connection_per_request"]
    assert set(record["flags"]) - OF_THE_MACHINE == {"connection_per_request"}
    for name in ("unserved_connections", "fairness_jain", "littles_law_ratio", "kernel_responses"):
        assert record[name] is None, name
    assert record["kernel_connections"] > record["requests"] > 0
    assert abs(record["server_accepted"] - record["requests"] - 1) <= 4
    assert abs(record["server_requests"] - record["requests"]) <= 4
    (counts,) = record["server_counts"]
    assert counts["accepted"] >= counts["requests"] >= record["requests"] + 2 * 2


@pytest.mark.alone
def test_short_answers_are_seen_by_their_bytes(record: dict[str, Any]) -> None:
    assert not flags.has_wrong_size(record)
    assert flags.has_wrong_size(
        {**record, "response_size_bytes": record["response_size_bytes"] + 1}
    )


@pytest.mark.alone
@pytest.mark.parametrize("name", ["server_epoll", "server_thread"])
@pytest.mark.parametrize("side", ["load", "server"])
def test_foreign_loop_makes_a_cell_disturbed_and_every_attempt_is_kept(
    name: str, side: str, tmp_path: Path
) -> None:
    (cpu, *_) = getattr(cpus.choose_split(cpus.read_topology()), side)
    code = f"import os; os.sched_setaffinity(0, {{{cpu}}})\nwhile True: pass"
    loop = subprocess.Popen([sys.executable, "-c", code])
    try:
        arguments = ("--disturbed-retries", "2", "--duration-s", "0.5")
        run = measure(compile_server(name, tmp_path), tmp_path / "record.json", *arguments)
    finally:
        loop.kill()
        loop.wait()
    assert run.returncode == 0, run.stderr
    assert "disturbed in each of 3 attempts" in run.stdout
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["attempts"] == 3
    attempts = [*record["earlier_attempts"], record]
    assert all("disturbed" in attempt["flags"] for attempt in attempts)
    assert len({attempt["started"] for attempt in attempts}) == 3
    assert all(attempt["requests"] > 0 and attempt["raw_text"] for attempt in attempts)


@pytest.mark.parametrize(
    ("spoilt", "attempts"),
    [([False], 1), ([True, False], 2), ([True, True, False], 3), ([True, True, True, False], 3)],
)
def test_what_is_measured_again_depends_on_disturbance_alone(
    spoilt: list[bool], attempts: int
) -> None:
    shares = iter(0.5 if disturbed else 0.0 for disturbed in spoilt)
    # Nothing of the result is there to look at.
    found = runs.repeat_while_disturbed(
        lambda: {"steal_share": next(shares)}, flags.is_disturbed, retries=2
    )
    assert [flags.is_disturbed(attempt) for attempt in found] == spoilt[:attempts]


def test_a_wrk_that_did_not_end_costs_no_attempt_but_does_not_go_on_for_ever() -> None:
    tries = iter([False, False, True])

    def attempt() -> dict[str, Any]:
        if not next(tries, False):
            raise wrk.Unstopped("wrk went on")
        return {"steal_share": 0.5}

    assert len(runs.repeat_while_disturbed(attempt, flags.is_disturbed, retries=0)) == 1
    with pytest.raises(wrk.Unstopped):
        runs.repeat_while_disturbed(attempt, flags.is_disturbed, retries=0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_killed_measurement_leaves_nothing(
    number: signal.Signals, server_epoll: str, tmp_path: Path
) -> None:
    # In the background, where it has left its parent, its session and its group.
    target = tmp_path / "server_epoll"
    target.symlink_to(server_epoll)
    make_program(tmp_path / "server", f"setsid -f '{target}' \"$@\"\nexec sleep 1000")
    command = [sys.executable, str(ROOT / "scripts/measure_cell.py"), "./server", "record.json"]
    seconds = 20 + os.getpid() % 3000  # tells this wrk from those of other tests on this machine
    process = subprocess.Popen(
        [*command, "--duration-s", str(seconds)], cwd=tmp_path, stdout=subprocess.DEVNULL
    )
    wrk = f"-d {seconds + OWN_END_SLACK_S}s"
    try:
        assert eventually(lambda: processes_mentioning(wrk), 60)
        os.kill(process.pid, number)
        process.wait(timeout=120)
    finally:
        process.terminate()  # if it has waited for the machine all the time
    assert eventually(
        lambda: not processes_mentioning(str(tmp_path)) + processes_mentioning(wrk), 5
    )
    assert not (tmp_path / "record.json").exists()


@pytest.mark.alone
def test_balance_over_workers_is_of_their_own_counts(tmp_path: Path) -> None:
    """One connection is one worker's; the other has at most the requests that check the answer."""
    binary = compile_server("server_epoll_multitask", tmp_path)
    options = ["--connections", "1", "--workers", "2", "--warmup-s", "0"]
    record = record_of(binary, tmp_path, *options)
    assert record["worker_fairness_jain"] == pytest.approx(0.5, abs=0.01)


def test_what_a_server_prints_at_its_end_is_counts_only_if_it_has_them() -> None:
    """Authors print JSON of their own, and anything else."""
    counts = '{"accepted": 3, "requests": 5, "name": "x"}'
    for other in ('{"msg": 1}', '{"accepted": "3", "requests": 5}', "{ starting", "[1]", ""):
        assert server_process.parse_counts(f"{other}\n{counts}\n") == [
            {"accepted": 3, "requests": 5}
        ]


@pytest.mark.parametrize("head", [b"", b"oops", b"HTTP/1.1", b"\0HTTP/1.1 200 OK"])
def test_answer_without_a_status_line_is_a_wrong_answer(head: bytes) -> None:
    with pytest.raises(server_process.WrongAnswer, match="not a status line"):
        server_process.parse_answer(head + b"\r\n\r\n", has_ended=True)
    with pytest.raises(server_process.WrongAnswer, match="not a status line"):
        server_process.is_same_answer(head + b"\r\n\r\n", head + b"\r\n\r\n")


def test_end_of_a_process_is_one_line_whatever_ended_it() -> None:
    assert processes.describe_status(-35, "") == "signal 35"
    assert processes.describe_status(-11, "x\ny") == "SIGSEGV (x / y)"
    assert "make setup" in processes.describe_status(127, "wrk: not found")
    lacking = "x: error while loading shared libraries: libevent.so.7: cannot open"
    assert "make setup" not in processes.describe_status(127, lacking)


@pytest.mark.parametrize("line", ['{"level": "info"}', "{ starting"])
def test_first_line_of_our_server_is_never_taken_for_that_of_a_launcher(
    line: str, tmp_path: Path
) -> None:
    make_program(tmp_path / "server_logs", f"echo '{line}'\nexec sleep 60")
    with (
        pytest.raises(server_process.RunError, match="not 'listening on"),
        started(str(tmp_path / "server_logs")),
    ):
        pass
