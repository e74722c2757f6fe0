"""A cell of each kind of workload for real, and from outside what a server's handler does."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers.checkouts import make_program
from helpers.made_up import record as made_up_record
from helpers.measured import OF_THE_MACHINE, compile_server, fake_server, measure
from hosts import proc
from instruments import server_process
from measuring.load_side import LoadSide
from sweep import rows
from sweep.flags import flags_of

HEAD_BYTES = len(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: \r\n\r\n")
Binary = Callable[[str], str]


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Binary:
    """The compiled server of a name."""
    folder = tmp_path_factory.mktemp("bin")

    def compiled(name: str) -> str:
        path = folder / name
        return str(path) if path.exists() else compile_server(name, folder)

    return compiled


def record_of(server: str, folder: Path, *arguments: str, **workload: Any) -> dict[str, Any]:
    options = ["--workload-name", "mine", "--workload", json.dumps(workload), *arguments]
    run = measure(server, folder / "record.json", *options)
    assert run.returncode == 0, run.stderr
    return dict(json.loads((folder / "record.json").read_text()))


def paired_with(reference: str) -> list[str]:
    return ["--reference", reference, "--paired-s", "0.3", "--duration-s", "0.5"]


def assert_sound(record: dict[str, Any], *flags: str) -> None:
    """It counts, and has these flags alone; whoever counted its requests agrees with wrk."""
    assert record["status"] == "ok", (record.get("reason"), record["flags"])
    assert set(record["flags"]) - OF_THE_MACHINE == set(flags)
    assert (record["workload"], record["errors"]) == ("mine", 0)
    assert record["requests"] > 0
    most = record["requests_in_flight"]
    for name in ("kernel_responses", "server_requests"):
        if record[name] is not None:
            assert abs(record[name] - record["requests"]) <= most, name
    assert record["server_requests"] is not None


@pytest.mark.alone
def test_connection_per_request(binary: Binary, tmp_path: Path) -> None:
    options = paired_with(binary("reference"))
    record = record_of(binary("server_epoll"), tmp_path, *options, connection_per_request=True)
    assert_sound(record, "connection_per_request")
    assert record["kernel_connections"] >= record["requests"]
    assert abs(record["server_accepted"] - record["requests"] - 1) <= 4
    assert record["cpu_ratio"] > 0
    assert record["throughput_ratio"] is None  # who ends connections works on after its slices
    assert "Connection: close" in record["response"]
    # The server mostly closes first, so that it has the sockets that wait, and the load has its ports back.
    waiting, most = (record[name] for name in ("time_wait_sockets", "time_wait_limit"))
    assert min(record["requests"], most) / 2 <= waiting <= most
    assert 0 <= record["ports_waiting"] < record["requests"] / 2
    assert record["ports"] > 1000


@pytest.mark.alone
def test_idle_crowd(binary: Binary, tmp_path: Path) -> None:
    options = paired_with(binary("reference"))
    record = record_of(binary("server_epoll"), tmp_path, *options, idle_connections=200)
    assert_sound(record)
    assert (record["idle_connections"], record["idle_connections_lost"]) == (200, 0)
    # They are in no figure of the timed run.
    assert record["established_connections"] == len(record["raw_bytes_sent"]) == 4
    assert record["kernel_connections"] == record["server_accepted"] == 1 + 4
    assert record["leftover_connections"] == record["unserved_connections"] == 0
    (counts,) = record["server_counts"]
    assert counts["accepted"] == 200 + 2 * 1 + 2 * (1 + 4)
    assert record["cpu_ratio"] > 0
    assert record["paired"]["connections"] == [4, 4]


@pytest.mark.alone
def test_large_bodies(binary: Binary, tmp_path: Path) -> None:
    options = paired_with(binary("reference"))
    record = record_of(binary("server_epoll"), tmp_path, *options, body_bytes=100_000)
    assert_sound(record)
    assert record["response_size_bytes"] == HEAD_BYTES + len("100000") + 100_000
    assert len(record["response"]) == 4096
    assert record["response_bytes"] >= record["requests"] * record["response_size_bytes"]
    assert record["cpu_ratio"] > 0


@pytest.mark.alone
@pytest.mark.parametrize(("name", "threads"), [("server_epoll", 1), ("server_thread", 4)])
def test_blocking_handler(name: str, threads: int, binary: Binary, tmp_path: Path) -> None:
    """Of four connections one thread serves one at a time, and a thread each all of them."""
    options = paired_with(binary("reference"))
    mine = {"handler_block_us": 5000, "decided_by": "requests_per_second"}
    record = record_of(binary(name), tmp_path, *options, **mine)
    assert_sound(record)
    assert 0.5 < record["requests_per_second"] / (threads / 0.005) <= 1.02
    assert record["latency_p50_us"] >= 5000 * 4 / threads
    row = rows.make_row(record)
    assert row["handler_ceiling_per_second"] == threads / 0.005
    assert "paired" not in record and "cpu_ratio" not in record


@pytest.mark.alone
def test_busy_handler(binary: Binary, tmp_path: Path) -> None:
    options = paired_with(binary("reference"))
    record = record_of(binary("server_epoll"), tmp_path, *options, handler_burn_us=2000)
    assert_sound(record)
    assert 2.0e6 <= record["server_cpu_ns_per_request"] < 2.4e6
    assert record["cpu_ratio"] == pytest.approx(1, abs=0.1)  # what the I/O costs hardly matters


@pytest.mark.alone
def test_pipelined(binary: Binary, tmp_path: Path) -> None:
    options = paired_with(binary("reference"))
    record = record_of(binary("server_epoll"), tmp_path, *options, pipelined=4)
    assert_sound(record)
    assert record["requests_in_flight"] == 16
    assert record["kernel_responses"] >= record["requests"]
    assert record["cpu_ratio"] > 0


def test_a_server_that_does_not_know_an_option_is_unavailable_in_that_workload_alone(
    tmp_path: Path,
) -> None:
    said = "server_old: unknown option '--body-bytes'; see --help"
    old = tmp_path / "server_old"
    make_program(old, f'echo "{said}" >&2\nexit 2')
    record = record_of(str(old), tmp_path, body_bytes=5)
    assert record["status"] == "unavailable"
    assert f"it does not take --body-bytes: status 2 ({said})" in record["reason"]
    assert record_of(str(old), tmp_path, pipelined=2)["status"] == "failed"


def test_select_cannot_keep_more_connections_than_its_sets_hold(
    binary: Binary, tmp_path: Path
) -> None:
    record = record_of(binary("server_select"), tmp_path, idle_connections=1100)
    assert record["status"] == "unavailable"
    assert "it does not serve 1100 idle connections: number 10" in record["reason"]


@pytest.mark.alone
def test_idle_connections_that_a_server_closes_make_its_cell_invalid(tmp_path: Path) -> None:
    server = fake_server("closes_idle", tmp_path)
    record = record_of(server, tmp_path, idle_connections=20)
    assert record["status"] == "invalid"
    assert "idle_connections_lost" in record["flags"]
    assert (record["idle_connections"], record["idle_connections_lost"]) == (20, 20)


def test_fewer_idle_connections_than_asked_for_are_opened_where_files_are_few_and_it_is_said(
    binary: Binary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process needs as many again for the reference."""
    limit = 2 * 7 + proc.SPARE_DESCRIPTORS
    side = LoadSide()
    with started(binary("server_epoll")) as server:
        monkeypatch.setattr(proc, "raise_open_files_limit", lambda: limit)
        assert side.open_idle("::1", server.port, {"idle_connections": 50})[0] == 7
        assert side.open_idle("::1", server.port, {"idle_connections": 5})[0] == 5
        side.close()
    asked = {"idle_connections": 7, "idle_connections_asked": 50}
    (flag,) = flags_of(made_up_record(**asked))
    assert (flag.name, flag.invalidates) == ("fewer_idle_connections", False)


def test_a_server_whose_handler_does_not_wait_has_a_wrong_answer(binary: Binary) -> None:
    asked = {"handler_block_us": 50_000}
    with started(binary("server_epoll")) as server:
        with pytest.raises(server_process.WrongAnswer, match=r"not take its time: .* not 100\.0$"):
            LoadSide().verify("::1", server.port, asked)
        LoadSide().verify("::1", server.port, {**asked, "handler_every": 2})
    with started(binary("server_epoll"), **asked) as server:
        LoadSide().verify("::1", server.port, asked)


# --- The handler, from outside ---


@contextmanager
def started(path: str, **options: int) -> Iterator[server_process.Server]:
    words = [
        word
        for name, value in options.items()
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]
    with server_process.running_server(
        path, host="::1", interface=None, workers=1, prefix=[], options=words
    ) as server:
        yield server


def ask(port: int, requests: int) -> list[float]:
    """Seconds that each of so many requests took, one after another on one connection."""
    seconds = []
    with socket.create_connection(("::1", port), timeout=20) as connection:
        for _ in range(requests):
            started_s = time.monotonic()
            connection.sendall(server_process.REQUEST)
            answer = b""
            while not answer.endswith(b"Hello, World!"):
                received = connection.recv(4096)
                assert received
                answer += received
            seconds.append(time.monotonic() - started_s)
    return seconds


BOTH = pytest.mark.parametrize("name", ["server_epoll", "reference"])


@BOTH
def test_a_lone_request_takes_as_long_as_its_handler_blocks(name: str, binary: Binary) -> None:
    with started(binary(name), handler_block_us=20_000) as server:
        before_ns = proc.cpu_time_ns(server.pids)
        assert min(ask(server.port, 10)) >= 0.02
        assert proc.cpu_time_ns(server.pids) - before_ns < 0.1 * 10 * 20e6  # it waits


@BOTH
def test_cpu_time_of_a_request_rises_by_what_its_handler_burns(name: str, binary: Binary) -> None:
    requests, costs_ns = 40, []
    for burn_us in (0, 5000):
        with started(binary(name), handler_burn_us=burn_us) as server:
            before_ns = proc.cpu_time_ns(server.pids)
            ask(server.port, requests)
            costs_ns.append((proc.cpu_time_ns(server.pids) - before_ns) / requests)
    assert costs_ns[1] - costs_ns[0] == pytest.approx(5e6, rel=0.2)


@BOTH
def test_the_handler_works_for_one_request_in_so_many(name: str, binary: Binary) -> None:
    with started(binary(name), handler_block_us=200_000, handler_every=4) as server:
        slow = [seconds >= 0.2 for seconds in ask(server.port, 8)]
    assert slow == [False, False, False, True] * 2
