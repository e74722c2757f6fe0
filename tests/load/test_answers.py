"""Whatever a server answers: the right counts, one line, bounded time. Everything runs with the optimized generator and
with sanitizers."""

import random
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from generator import (
    command,
    compile_load,
    errors,
    fail_load,
    finish,
    run_load,
    start_load,
    toy,
    url_of,
)

from helpers.harness import OPTIMIZED, RESPONSE, SANITIZED, Server, wait_until

BUILDS = {
    "optimized": OPTIMIZED,
    "address": SANITIZED,
    "thread": ["-O1", "-fsanitize=thread", "-fno-sanitize-recover=all"],
}
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = (
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nHello\r\n8;x=y\r\n, World!\r\n0\r\nX: y\r\n\r\n"
)
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + RESPONSE
OTHERS = {
    "404": b"HTTP/1.1 404 Not Found\r\nContent-Length: 13\r\n\r\nHello, World!",
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "short": HEAD + b"Content-Length: 12\r\n\r\nHello, World",
}


@pytest.fixture(scope="module", params=BUILDS)
def build(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def binary(build: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_load(tmp_path_factory.mktemp(f"load_{build}"), BUILDS[build])


@pytest.fixture
def run(build: str, binary: Path) -> Callable[..., dict[str, Any]]:
    threads = 2 if build == "thread" else 1
    return lambda url, **options: run_load(binary, url, threads=threads, **options)


def expect_all_answered(result: dict[str, Any], **counts: int) -> None:
    """Every request has an answer, and nothing else is wrong than what is named."""
    assert result["answered"] == result["requests"] > 50
    assert result["errors"] == errors(**counts)
    assert result["unsent"] == result["censored"] == result["connections_unserved"] == 0


@pytest.mark.parametrize("answer", [RESPONSE, CHUNKED, INTERIM], ids=["length", "chunked", "1xx"])
@pytest.mark.parametrize("is_cut", [False, True], ids=["whole", "cut at every byte"])
def test_every_framing_is_understood(
    run: Callable[..., dict[str, Any]], answer: bytes, is_cut: bool
) -> None:
    def send(client: socket.socket, _: int) -> bool:
        for at in range(len(answer) if is_cut else 0):
            client.sendall(answer[at : at + 1])
        if not is_cut:
            client.sendall(answer)
        return True

    with toy(send) as server:
        result = run(server.url, body_bytes=13)
    expect_all_answered(result)
    assert result["reconnects"] == 0
    assert result["achieved_per_second"] > 0


def test_large_bodies_arrive_whole(run: Callable[..., dict[str, Any]]) -> None:
    size = 300_000
    body = HEAD + b"Content-Length: %d\r\n\r\n" % size + size * b"x"
    with toy(body) as server:
        expect_all_answered(run(server.url, body_bytes=size))


@pytest.mark.parametrize(
    ("name", "kind"), [("404", "status"), ("204", "status"), ("short", "length")]
)
def test_a_wrong_answer_is_an_error_and_not_achieved(
    run: Callable[..., dict[str, Any]], name: str, kind: str
) -> None:
    with toy(OTHERS[name]) as server:
        result = run(server.url, body_bytes=13)
    expect_all_answered(result, **{kind: result["requests"]})
    assert result["achieved_per_second"] == 0


def test_any_length_is_right_where_none_is_asked_for(run: Callable[..., dict[str, Any]]) -> None:
    with toy(OTHERS["short"]) as server:
        expect_all_answered(run(server.url))


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"\r\nHello, World!",
        HEAD + b"Connection: close\r\nContent-Length: 13\r\n\r\nHello, World!",
        b"HTTP/1.0 200 OK\r\nContent-Length: 13\r\n\r\nHello, World!",
        RESPONSE,
    ],
    ids=["close-delimited", "announced", "HTTP/1.0", "unannounced"],
)
def test_a_server_that_closes_after_each_answer_is_connected_to_again(
    run: Callable[..., dict[str, Any]], answer: bytes
) -> None:
    def send(client: socket.socket, _: int) -> bool:
        client.sendall(answer)
        client.shutdown(socket.SHUT_WR)
        client.recv(1)  # until the generator closes, too
        return False

    with toy(send) as server:
        result = run(server.url, body_bytes=13, connections=8)
    expect_all_answered(result)
    assert result["reconnects"] >= result["requests"] - 8


def test_surplus_bytes_are_malformed_and_cost_the_connection(
    run: Callable[..., dict[str, Any]],
) -> None:
    with toy(2 * RESPONSE) as server:
        result = run(server.url)
    assert result["answered"] == result["requests"]
    # Two sends may be seen one by one: then the second answer is found a little later.
    assert result["requests"] - 4 <= result["errors"]["malformed"] <= result["requests"] + 4
    assert result["reconnects"] >= result["requests"] - 8


@pytest.mark.parametrize(
    "garbage",
    [b"garbage\r\n\r\n", 20_000 * b"x", b"\0" * 100 + b"\r\n", CHUNKED.replace(b"5\r\n", b"g\r\n")],
    ids=["no status line", "no end", "NUL", "bad chunk"],
)
def test_garbage_is_malformed_and_no_answer(
    run: Callable[..., dict[str, Any]], garbage: bytes
) -> None:
    def send(client: socket.socket, number: int) -> bool:
        client.sendall(RESPONSE if number == 1 else garbage)
        return number == 1

    with toy(send) as server:
        result = run(server.url)
    assert 0 < result["errors"]["malformed"] <= result["censored"]
    assert result["answered"] + result["censored"] == result["requests"]


def test_an_answer_cut_short_is_a_read_error(run: Callable[..., dict[str, Any]]) -> None:
    def send(client: socket.socket, number: int) -> bool:
        client.sendall(RESPONSE[:-1] if number % 10 == 0 else RESPONSE)
        return number % 10 != 0

    with toy(send) as server:
        result = run(server.url)
    assert result["errors"] == errors(read=result["censored"])
    assert result["censored"] > 0 and result["unsent"] == 0


def test_an_answer_that_never_ends_times_out(run: Callable[..., dict[str, Any]]) -> None:
    """As one to HEAD: it announces a body that does not come. Its latency is at least the timeout."""

    def send(client: socket.socket, number: int) -> bool:
        client.sendall(RESPONSE if number == 1 else RESPONSE[:-13])
        return True

    with toy(send) as server:
        begin_s = time.monotonic()
        result = run(server.url, timeout_s=0.2)
        assert time.monotonic() - begin_s < 20
    assert result["errors"]["timeout"] > 0
    assert result["latency_us"]["p50"] >= 200_000


def test_one_connection_that_is_never_served_takes_no_requests(
    run: Callable[..., dict[str, Any]], build: str, start: Callable[..., Server]
) -> None:
    if build == "thread":
        pytest.skip("one of the two threads has no connection that is served")
    result = run(url_of(start("server").port), timeout_s=0.5, connections=4)
    assert result["connections_unserved"] == 3
    assert result["answered"] == result["requests"]
    assert result["errors"] == errors()


def test_connections_that_are_never_served_stay_open(load: Path) -> None:
    """So that the server has as many as were asked for."""
    served: list[socket.socket] = []
    waited_s: list[float] = []

    def send(client: socket.socket, number: int) -> bool:
        if number == 1:
            served.append(client)
        if client is served[0]:
            client.sendall(RESPONSE)
            return True
        begin_s = time.monotonic()
        assert client.recv(1) == b""
        waited_s.append(time.monotonic() - begin_s)
        return False

    with toy(send) as server:
        result = run_load(load, server.url, timeout_s=0.3, duration_s=0.5)
        wait_until(lambda: len(waited_s) == 3, "the end of the connections")
    assert (result["connections_unserved"], result["answered"]) == (3, result["requests"])
    assert min(waited_s) > 0.75  # opening and run


@pytest.mark.parametrize("answer", [b"", b"garbage\r\n\r\n"], ids=["nothing", "garbage"])
def test_a_server_without_any_valid_answer_is_one_line(binary: Path, answer: bytes) -> None:
    with toy(answer) as server:
        status, line = fail_load(binary, server.url, timeout_s=0.3)
    assert status == 1
    assert line == f"load: {server.url} gave no valid answer within 0.3 s\n"


def test_a_server_that_is_not_there_is_one_line(binary: Path) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as unused:
        port = unused.getsockname()[1]
    status, line = fail_load(binary, url_of(port))
    assert (status, line) == (
        1,
        f"load: cannot connect to {url_of(port)}: Connection refused\n",
    )


def test_a_server_that_dies_in_mid_run_ends_nothing_else(
    build: str, binary: Path, start: Callable[..., Server]
) -> None:
    server = start("server_epoll")
    threads = 2 if build == "thread" else 1
    options = {"rate": 2000, "duration_s": 1, "timeout_s": 0.5, "threads": threads}
    process = start_load(binary, url_of(server.port), **options)
    wait_until(lambda: server.connections() == 4, "all connections")
    time.sleep(0.5)
    server.process.kill()
    result = finish(process)
    assert 0 < result["answered"] < result["requests"]
    assert result["errors"]["connect"] > 0
    assert result["unsent"] > 0
    assert result["latency_us"]["max"] > 500_000  # so long at least have they waited


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once_without_a_line(
    binary: Path, number: signal.Signals, tmp_path: Path
) -> None:
    with toy(RESPONSE) as server:
        process = start_load(binary, server.url, duration_s=30, latencies=tmp_path / "latencies")
        time.sleep(0.3)
        process.send_signal(number)
        assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == -number
    assert list(tmp_path.iterdir()) == []


def mutate(answer: bytes, chance: random.Random) -> bytes:
    mutated = bytearray(answer)
    for _ in range(chance.randrange(4)):
        mutated[chance.randrange(len(mutated))] = chance.choice(b"\r\n\0 :;0129afHTP/\xff")
    cut = chance.randrange(1, len(mutated) + 1) if chance.random() < 0.2 else len(mutated)
    return bytes(mutated[:cut])


def misbehave(
    chance: random.Random, answers: Sequence[bytes]
) -> Callable[[socket.socket, int], bool]:
    def send(client: socket.socket, number: int) -> bool:
        answer = chance.choice(answers) if number == 1 else mutate(chance.choice(answers), chance)
        for at in range(0, len(answer), size := chance.choice([1, 7, 1000])):
            client.sendall(answer[at : at + size])
        if chance.random() < 0.05:  # closing then resets
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        return number == 1 or chance.random() < 0.9

    return send


def test_nothing_breaks_the_generator(run: Callable[..., dict[str, Any]]) -> None:
    """A server that does everything at random, and sanitizers that report nothing."""
    answers = [RESPONSE, CHUNKED, INTERIM, HEAD + b"\r\nto the end", *OTHERS.values()]
    with toy(misbehave(random.Random(1), answers)) as server:
        result = run(server.url, rate=2000, duration_s=1, timeout_s=0.2, connections=32)
    assert result["answered"] > 100
    assert sum(result["errors"].values()) > 100
    assert result["reconnects"] > 10


def test_every_form_of_a_url_reaches_the_server(load: Path, start: Callable[..., Server]) -> None:
    port = start("server_epoll", "--host", "::").port
    for url in (
        f"http://127.0.0.1:{port}",
        f"http://[::1]:{port}/a/b?c=d",
        f"HTTP://[::ffff:127.0.0.1]:{port}/",
        f"http://[::1%251]:{port}/",
        f"http://[::1%1]:{port}?a",
    ):
        result = run_load(load, url, duration_s=0.1)
        assert result["answered"] == result["requests"] > 0, url
    for scope in ("%lo", "%25lo"):  # a link-local address that nobody has
        status, line = fail_load(load, f"http://[fe80::1{scope}]:{port}/", timeout_s=0.1)
        assert status == 1 and line.startswith(f"load: cannot connect to http://[fe80::1{scope}]")


def test_the_request_is_that_of_wrk(load: Path) -> None:
    received: list[bytes] = []
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        listener.settimeout(20)
        url = f"http://[::1%1]:{listener.getsockname()[1]}/a?b"
        process = start_load(load, url, connections=1, timeout_s=0.2)
        client, _ = listener.accept()
        with client:
            received.append(client.recv(4096))
        process.communicate(timeout=20)
    port = url.rpartition(":")[2].partition("/")[0]
    assert received == [f"GET /a?b HTTP/1.1\r\nHost: [::1]:{port}\r\n\r\n".encode()]


def test_results_that_cannot_be_written_are_one_line(load: Path, tmp_path: Path) -> None:
    with toy(RESPONSE) as server:
        status, line = fail_load(load, server.url, latencies=tmp_path / "none/latencies")
        assert status == 1 and "No such file or directory" in line
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                command(load, server.url, duration_s=0.1),
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
    assert done.returncode == 1
    assert done.stderr == "load: cannot write the results: No space left on device\n"
