"""Servers that perform badly on purpose: what they break, and that they break nothing else."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from helpers.harness import (
    COUNTS,
    EXHIBITS,
    GET,
    POST,
    RESPONSE_AND_CLOSE,
    SANITIZED,
    Server,
    ask,
    compile_all,
    is_answered,
    receive,
    receive_all,
    reset,
    wait_until,
)

NAIVE, THREAD_50 = "server_uring_naive", "server_thread_50"
LONG_POST = POST + b"Content-Length: 40000\r\n\r\n" + 40_000 * b"x"


@pytest.fixture(scope="module")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Compiled with sanitizers. An exhibit has no other tests with them."""
    yield from compile_all(EXHIBITS, tmp_path_factory.mktemp("exhibits"), SANITIZED)


@pytest.mark.parametrize("name", [THREAD_50])
def test_thread_50_serves_50_clients_and_turns_away_the_others_until_one_leaves(server: Server):
    with ExitStack() as open_clients:
        clients = [open_clients.enter_context(server.connect()) for _ in range(50)]
        for client in clients:
            ask(client)
        for _ in range(2):
            with server.connect() as client:
                assert not is_answered(client)
        for client in clients:
            ask(client)  # still
        clients[7].close()
        wait_until(lambda: server.connections() == 49, "one connection closed")
        with server.connect() as client:
            ask(client)
            with server.connect() as one_more:
                assert not is_answered(one_more)
    server.wait_until_all_closed()
    expected = {"accepted": 54, "requests": 101, "refused_connections": 3}
    assert server.stop() == [COUNTS | expected]


@pytest.mark.parametrize("name", [NAIVE])
@pytest.mark.parametrize("request_bytes", [GET, GET + GET, LONG_POST, LONG_POST + GET])
def test_naive_answers_one_request_and_closes(server: Server, request_bytes: bytes):
    with server.connect() as client:
        client.sendall(request_bytes)
        assert receive(client, len(RESPONSE_AND_CLOSE)) == RESPONSE_AND_CLOSE
        try:
            assert client.recv(1) == b""
        except ConnectionResetError:
            assert request_bytes != GET  # because of what the server left unread
    server.wait_until_all_closed()
    assert server.stop() == [COUNTS | {"accepted": 1, "requests": 1}]


@pytest.mark.parametrize("name", [NAIVE])
def test_naive_serves_many_at_once_whatever_the_pieces(server: Server):
    with ExitStack() as open_clients:
        clients = [open_clients.enter_context(server.connect()) for _ in range(500)]
        for piece in (GET[:9], GET[9:]):
            for client in clients:
                client.sendall(piece)
        for client in clients:
            assert receive_all(client) == RESPONSE_AND_CLOSE
    server.wait_until_all_closed()
    assert server.stop() == [COUNTS | {"accepted": 500, "requests": 500}]


@pytest.mark.parametrize("name", [NAIVE])
def test_naive_outlives_clients_that_leave(server: Server):
    before = len(server.descriptors())
    for start in (b"", GET[:9], LONG_POST[:99], GET):
        for end in (socket.socket.close, reset):
            for _ in range(20):
                client = server.connect()
                client.sendall(start)
                end(client)
    with server.connect() as client:
        client.sendall(GET)
        assert receive_all(client) == RESPONSE_AND_CLOSE
    server.wait_until_all_closed()
    assert len(server.descriptors()) == before
    (counts,) = server.stop()
    assert counts["accepted"] == 8 * 20 + 1
