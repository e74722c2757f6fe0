"""The steps of the io_uring ladder, compiled with sanitizers: each keeps the contract.

All steps share one loop; server_uring has all tests of a server.
"""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from helpers.harness import (
    COUNTS,
    GET,
    GET_AND_CLOSE,
    HERE,
    LADDER,
    RESPONSE,
    SANITIZED,
    Server,
    ask,
    compile_all,
    receive,
    reset,
    response,
    wait_until,
)


@pytest.fixture(scope="module")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    yield from compile_all(LADDER, tmp_path_factory.mktemp("ladder"), SANITIZED)


@pytest.fixture(params=LADDER)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_each_step_serves_all_that_clients_do_and_counts_it(server: Server):
    with ExitStack() as open_clients:
        clients = [open_clients.enter_context(server.connect()) for _ in range(100)]
        for client in clients:
            ask(client)
        clients[0].sendall(500 * GET)
        assert receive(clients[0], 500 * len(RESPONSE)) == 500 * RESPONSE
        clients[1].sendall(b"GET /\r\n\r\n")
        assert receive(clients[1], 12) == b"HTTP/1.1 400"
        clients[2].sendall(GET_AND_CLOSE)
        assert receive(clients[2], 15) == b"HTTP/1.1 200 OK"
        clients[3].sendall(GET[:20])
        reset(clients[3])
        wait_until(lambda: server.connections() <= 99, "the reset is seen")
        counts = server.stop()  # while the others stay open
    expected = {"accepted": 100, "requests": 601, "bad_requests": 1, "resets": 1}
    assert counts == [COUNTS | expected]


def test_each_step_sends_large_bodies_whole(start: Callable[..., Server]):
    server = start("--body-bytes", "1000000")
    wanted = response(size=1_000_000)
    with server.connect() as client:
        client.sendall(3 * GET)
        assert receive(client, 3 * len(wanted)) == 3 * wanted
    server.wait_until_all_closed()
    assert server.stop() == [COUNTS | {"accepted": 1, "requests": 3}]


def test_a_machine_that_refuses_io_uring_is_one_line_and_status_69(binary: Path):
    command = [sys.executable, HERE / "deny_io_uring.py", "EPERM", binary]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (ended.returncode, ended.stdout) == (69, "")
    assert re.fullmatch(r".*io_uring.*\n", ended.stderr)
