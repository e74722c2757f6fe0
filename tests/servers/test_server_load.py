"""Very many clients: 10,000 that are idle, hundreds that send a byte now and then."""

import contextlib
import resource
import select
import socket
from collections.abc import Iterator

import pytest

from helpers.harness import (
    GET,
    LIMITED_TO_FD_SETSIZE,
    ONE_AT_A_TIME,
    RESPONSE,
    SERVERS,
    Server,
    ask,
    is_answered,
    receive,
)

EVENT_DRIVEN = [name for name in SERVERS if name not in (ONE_AT_A_TIME, "server_thread")]
IDLE, ACTIVE, ROUNDS = 10_000, 100, 50
MEMORY_PER_IDLE_CONNECTION = 256  # bytes in the server; a buffer per connection would need far more
SLOW = 300
FD_SETSIZE = 1024


@pytest.fixture(autouse=True)
def enough_descriptors() -> Iterator[None]:
    """For the clients of this process, and for the server, which inherits the limit."""
    needed = IDLE + ACTIVE + 100
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), max(hard, needed)))
    except (ValueError, PermissionError):
        pytest.skip(f"needs {needed} open files, and ulimit -Hn is {hard}")
    yield
    with contextlib.suppress(ValueError, PermissionError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connect(server: Server, clients: contextlib.ExitStack, count: int) -> list[socket.socket]:
    """Connect a hundred clients at a time: one that a full accept queue drops retries only after a second."""
    connected: list[socket.socket] = []
    while len(connected) < count:
        hundred = [clients.enter_context(server.connect()) for _ in range(100)]
        ask_all(hundred)
        connected += hundred
    return connected


def ask_all(clients: list[socket.socket]) -> None:
    for client in clients:
        client.sendall(GET)
    for client in clients:
        assert receive(client, len(RESPONSE)) == RESPONSE


@pytest.mark.parametrize("name", [name for name in EVENT_DRIVEN if name != LIMITED_TO_FD_SETSIZE])
def test_ten_thousand_idle_connections_hold_up_nobody(server: Server):
    with contextlib.ExitStack() as clients:
        active = connect(server, clients, ACTIVE)
        for _ in range(ROUNDS):
            ask_all(active)  # afterwards all memory that connections share is in use
        before = server.memory_bytes()
        idle = connect(server, clients, IDLE)
        per_connection = (server.memory_bytes() - before) / IDLE
        print(f"{per_connection:.0f} bytes per idle connection")
        assert server.connections() == IDLE + ACTIVE
        for _ in range(ROUNDS):
            ask_all(active)
        ask_all(idle)
        assert per_connection <= MEMORY_PER_IDLE_CONNECTION
    server.wait_until_all_closed()
    counts = server.stop()
    assert sum(count["accepted"] for count in counts) == IDLE + ACTIVE
    assert sum(count["requests"] for count in counts) == 2 * IDLE + (1 + 2 * ROUNDS) * ACTIVE
    assert sum(count["refused_connections"] for count in counts) == 0


@pytest.mark.parametrize("name", [LIMITED_TO_FD_SETSIZE])
def test_select_refuses_what_is_beyond_its_sets_and_serves_the_others(server: Server):
    served = 0
    with contextlib.ExitStack() as clients:
        active = connect(server, clients, ACTIVE)
        for _ in range(0, IDLE, 100):
            hundred = [clients.enter_context(server.connect()) for _ in range(100)]
            served += sum(map(is_answered, hundred))
        for _ in range(ROUNDS):
            ask_all(active)
        assert FD_SETSIZE - 10 < ACTIVE + served < FD_SETSIZE
    server.wait_until_all_closed()
    (counts,) = server.stop()
    assert counts["accepted"] == ACTIVE + IDLE
    assert counts["refused_connections"] == IDLE - served


@pytest.mark.parametrize("name", [name for name in SERVERS if name != ONE_AT_A_TIME])
def test_clients_that_send_a_byte_at_a_time_hold_up_nobody(server: Server):
    with contextlib.ExitStack() as clients:
        slow = [clients.enter_context(server.connect()) for _ in range(SLOW)]
        good = clients.enter_context(server.connect())
        for position in range(len(GET)):
            for client in slow:
                client.send(GET[position : position + 1])
            ask(good)
        for client in slow:
            assert receive(client, len(RESPONSE)) == RESPONSE


@pytest.mark.parametrize("name", [ONE_AT_A_TIME])
def test_a_client_that_sends_a_byte_at_a_time_stops_the_blocking_server(server: Server):
    with server.connect() as slow, server.connect() as good:
        good.sendall(GET)
        for position in range(len(GET)):
            slow.send(GET[position : position + 1])
            assert select.select([good], [], [], 0.01)[0] == []
        assert receive(slow, len(RESPONSE)) == RESPONSE
        slow.close()
        assert receive(good, len(RESPONSE)) == RESPONSE
