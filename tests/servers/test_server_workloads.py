"""The options of a workload: a body of any size, and a handler that takes time."""

import contextlib
import select
import socket
import time
from collections.abc import Callable

import psutil
import pytest

from helpers.exchanges import CLOSE, HEAD, KEEP_ALIVE, get
from helpers.harness import (
    AT_ONCE,
    EXHIBITS,
    GET,
    GET_AND_CLOSE,
    SERVERS,
    TIMEOUT_S,
    Server,
    ask,
    receive,
    receive_all,
    response,
    wait_until,
)

Start = Callable[..., Server]
CONCURRENT = [name for name in SERVERS if AT_ONCE.get(name) != 1]
# Their handlers do not hold each other up; the others' do.
WITH_THREADS = ["server_prefork", "server_thread", "server_thread_pool"]
LOOPS = [name for name in CONCURRENT if name not in WITH_THREADS]
LARGE = 8 << 20  # bytes: more than the buffers of a socket hold
SIZES = [1, 14, 131_072, LARGE]


def expect(client: socket.socket, expected: bytes) -> None:
    """Not `assert a == b`: pytest would take minutes to show how megabytes differ."""
    received = receive(client, len(expected))
    is_same = received == expected
    assert is_same, f"{len(received)} of {len(expected)} bytes, which begin {received[:200]!r}"


@pytest.mark.parametrize("size", SIZES)
def test_a_body_of_any_size_arrives_whole(start: Start, size):
    server = start("--body-bytes", str(size))
    whole, head = response(size=size), response(size=size, has_body=False)
    kept = get(KEEP_ALIVE, version=b"1.0"), response(KEEP_ALIVE, size=size)
    closed = response(CLOSE, size=size)
    with server.connect() as client:
        for request, answer in ((GET, whole), (HEAD, head), kept):
            client.sendall(request)
            expect(client, answer)
        client.sendall(3 * GET + HEAD + kept[0] + GET_AND_CLOSE)
        expect(client, 3 * whole + head + kept[1] + closed)
        assert client.recv(1) == b""
    with server.connect(receive_buffer=4096) as client:
        client.sendall(2 * GET + get(version=b"1.0"))
        time.sleep(0.05)
        expect(client, 2 * whole + closed)
        assert client.recv(1) == b""


@pytest.mark.parametrize("name", EXHIBITS)
def test_an_exhibit_sends_a_large_body_whole(start: Start):
    with start("--body-bytes", str(LARGE)).connect() as client:
        client.sendall(GET_AND_CLOSE)
        expect(client, response(CLOSE, size=LARGE))
        assert receive_all(client) == b""


@pytest.mark.parametrize("name", CONCURRENT)
def test_clients_that_are_slow_to_read_a_large_body_hold_up_nobody(start: Start):
    """They are more than server_thread_pool has threads."""
    server = start("--body-bytes", str(LARGE))
    answer = response(size=LARGE)
    with contextlib.ExitStack() as clients:
        slow = [clients.enter_context(server.connect(receive_buffer=4096)) for _ in range(40)]
        for client in slow:
            client.sendall(GET)
        for client in slow:
            assert select.select([client], [], [], TIMEOUT_S)[0]
        with server.connect() as client:
            client.sendall(GET)
            expect(client, answer)
        before_s = server.cpu_s()
        time.sleep(0.3)
        assert server.cpu_s() - before_s < 0.1  # it waits for them without spinning
        expect(slow[7], answer)


@pytest.mark.parametrize("option", ["--handler-block-us", "--handler-burn-us"])
def test_the_handler_takes_what_the_options_say_for_one_request_in_so_many(start: Start, option):
    server = start(option, "100000", "--handler-every", "3")
    clock = server.cpu_s if "burn" in option else time.monotonic
    spent_s = []
    with server.connect() as client:
        for _ in range(9):
            before_s = clock()
            ask(client)
            spent_s.append(clock() - before_s)
    assert min(spent_s[2::3]) >= 0.1
    assert sum(spent_s) < 0.6


@pytest.mark.parametrize("option", ["--handler-block-us", "--handler-burn-us"])
def test_a_signal_ends_it_within_a_second_while_a_handler_is_at_work(start: Start, option):
    server = start(option, "10000000")
    waiting = [server.connect() for _ in range(2)]
    for client in waiting:
        client.sendall(GET)
    if "burn" in option:
        wait_until(lambda: server.cpu_s() > 0.1, "the handler is at work")
    else:
        assert select.select(waiting, [], [], 0.1)[0] == []
    server.stop(within_s=1)
    for client in waiting:
        client.close()


@pytest.mark.parametrize("name", WITH_THREADS)
def test_handlers_that_wait_in_threads_do_not_hold_up_each_other(start: Start):
    server = start("--handler-block-us", "200000")
    with contextlib.ExitStack() as clients:
        waiting = [clients.enter_context(server.connect()) for _ in range(30)]
        started_s = time.monotonic()
        for client in waiting:
            client.sendall(GET)
        for client in waiting:
            ask(client, b"")
        assert 0.2 <= time.monotonic() - started_s < 30 * 0.2 / 2


@pytest.mark.parametrize("name", LOOPS)
def test_an_answer_does_not_wait_for_the_next_handler(start: Start):
    server = start("--handler-block-us", "500000")
    with server.connect() as one, server.connect() as other:
        for client in (one, other):
            ask(client)
        (pid,) = server.serving
        process = psutil.Process(pid)
        process.suspend()  # so that both requests are ready at once
        wait_until(lambda: process.status() == psutil.STATUS_STOPPED, "a stop")
        for client in (one, other):
            client.sendall(GET)
        process.resume()
        assert len(select.select([one, other], [], [], TIMEOUT_S)[0]) == 1
        for client in (one, other):
            ask(client, b"")
