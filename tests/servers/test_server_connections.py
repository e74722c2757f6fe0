"""Many connections, and what ends them. A connection that fails disturbs no other, and is counted."""

import contextlib
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from helpers.harness import (
    AT_ONCE,
    COUNTS,
    GET,
    GET_AND_CLOSE,
    LIMITED_TO_FD_SETSIZE,
    POST,
    RESPONSE,
    RESPONSE_AND_CLOSE,
    SERVERS,
    Server,
    ask,
    is_answered,
    receive,
    receive_all,
    refusal,
    reset,
    running,
    send_in_pieces,
    wait_until,
)

FD_SETSIZE = 1024
HOG = """
import socket, sys
client = socket.create_connection(("::1", int(sys.argv[1])))
client.sendall(b"POST / HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 999999999999999\\r\\n\\r\\n")
while True:
    client.sendall(bytes(1 << 20))
"""
CONCURRENT = [name for name in SERVERS if name not in AT_ONCE]
EVENT_DRIVEN = [name for name in CONCURRENT if name not in ("server_thread", LIMITED_TO_FD_SETSIZE)]
IDLE, FEWER_IDLE, ACTIVE, ROUNDS = 10_000, 900, 100, 50
ENOUGH = IDLE + ACTIVE + 100  # open files
MEMORY_PER_IDLE_CONNECTION = 256  # bytes in the server; a buffer per connection would need far more


@pytest.fixture(autouse=True)
def enough_descriptors() -> Iterator[None]:
    """For the clients of this process, and for the server, which inherits the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, ENOUGH), hard))
    with contextlib.suppress(ValueError, PermissionError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (ENOUGH, max(hard, ENOUGH)))
    yield
    with contextlib.suppress(ValueError, PermissionError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def connected(server: Server, count: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as clients:
        yield [clients.enter_context(server.connect()) for _ in range(count)]


def ask_all(clients: list[socket.socket]) -> None:
    for client in clients:
        client.sendall(GET)
    for client in clients:
        assert receive(client, len(RESPONSE)) == RESPONSE


@pytest.mark.parametrize("name", CONCURRENT)
def test_thousands_of_idle_connections_hold_up_nobody_and_are_served(name, server):
    has_enough = resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= ENOUGH
    count = IDLE if name in EVENT_DRIVEN and has_enough else FEWER_IDLE
    idle: list[socket.socket] = []
    with contextlib.ExitStack() as clients:
        active = clients.enter_context(connected(server, ACTIVE))
        for _ in range(ROUNDS):
            ask_all(active)  # afterwards all memory that connections share is in use
        before = server.memory_bytes()
        while len(idle) < count:  # a full accept queue drops clients for a second
            idle += clients.enter_context(connected(server, 100))
            ask_all(idle[-100:])
        per_connection = (server.memory_bytes() - before) / count
        assert server.connections() == count + ACTIVE
        for _ in range(ROUNDS):
            ask_all(active)
        ask_all(idle)
    server.wait_until_all_closed()
    expected = {"accepted": count + ACTIVE, "requests": 2 * (count + ROUNDS * ACTIVE)}
    assert server.stop() == [COUNTS | expected]
    assert per_connection <= MEMORY_PER_IDLE_CONNECTION or count < IDLE
    if not has_enough:
        pytest.skip(f"10,000 connections need {ENOUGH} open files, and ulimit -Hn is smaller")


@pytest.mark.parametrize("name", [LIMITED_TO_FD_SETSIZE])
def test_select_refuses_the_connections_that_its_sets_cannot_hold(server):
    with connected(server, FD_SETSIZE + 100) as clients:
        answered = [is_answered(client) for client in clients]
        served = answered.index(False)
        assert FD_SETSIZE - 10 < served < FD_SETSIZE
        assert not any(answered[served:])
        clients[100].close()
        ask(clients[served - 1])
    server.wait_until_all_closed()
    with server.connect() as client:
        ask(client)
    server.wait_until_all_closed()
    (counts,) = server.stop()
    assert counts["accepted"] == FD_SETSIZE + 101
    assert counts["requests"] == served + 2
    assert counts["refused_connections"] == FD_SETSIZE + 100 - served


@pytest.mark.parametrize("name", AT_ONCE)
def test_a_blocking_server_serves_some_connections_and_leaves_the_others_waiting(name, server):
    first, *others = served = [server.connect() for _ in range(AT_ONCE[name])]
    for client in served:
        ask(client)
    second, third = server.connect(), server.connect()
    for client in (second, third):
        client.sendall(GET)
    send_in_pieces(first, [GET[:9], GET[9:-1]])
    assert select.select([second, third], [], [], 0.3)[0] == []
    ask(first, GET[-1:])
    first.close()
    ask(second, b"")
    assert select.select([third], [], [], 0.1)[0] == []
    second.close()
    ask(third, b"")
    for client in (third, *others):
        client.close()


@pytest.mark.parametrize("name", CONCURRENT)
def test_clients_that_say_little_or_nothing_or_read_nothing_hold_up_nobody(server):
    with connected(server, 300) as (_silent, *slow), server.connect(receive_buffer=4096) as full:
        full.setblocking(False)
        full.send(10_000 * GET)
        for position in range(len(GET) - 1):
            for client in slow:
                client.send(GET[position : position + 1])
            with server.connect() as client:
                ask(client)
        for client in slow:
            ask(client, GET[-1:])


def test_short_connections_never_disturb_each_other(server):
    """Both sides close each connection at once, and the next one gets its descriptor right away."""
    failures = []

    def connect_again_and_again() -> None:
        for _ in range(150):
            with server.connect() as client:
                client.sendall(GET_AND_CLOSE)
                answer = receive(client, len(RESPONSE_AND_CLOSE))
                if answer != RESPONSE_AND_CLOSE:
                    failures.append(answer)

    threads = [threading.Thread(target=connect_again_and_again) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.wait_until_all_closed()
    assert failures == []
    assert server.stop_and_sum() == COUNTS | {"accepted": 16 * 150, "requests": 16 * 150}


def reset_before_the_answer(server: Server) -> None:
    client = server.connect(receive_buffer=4096)
    client.setblocking(False)
    client.send(10_000 * GET)  # more answers than the buffers hold
    select.select([client], [], [], 1)
    reset(client)


def stop_sending_and_reset_before_the_answer(server: Server) -> None:
    client = server.connect(receive_buffer=4096)
    client.sendall(2000 * GET + GET[:-2])  # more answers than the buffers hold, and half a request
    client.shutdown(socket.SHUT_WR)
    time.sleep(0.005)
    reset(client)


def reset_between_requests(server: Server) -> None:
    client = server.connect()
    ask(client)
    reset(client)


def close_without_a_byte(server: Server) -> None:
    server.connect().close()


def close_in_the_middle_of_a_head(server: Server) -> None:
    with server.connect() as client:
        client.sendall(GET[:-2])


def stop_sending_in_the_middle_of_a_head(server: Server) -> None:
    with server.connect() as client:
        client.sendall(GET + GET[:-2])
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client) == RESPONSE


def close_in_the_middle_of_a_body(server: Server) -> None:
    with server.connect() as client:
        client.sendall(POST + b"Content-Length: 1000000\r\n\r\nx")


def close_after_a_refusal(server: Server) -> None:
    with server.connect() as client:
        client.sendall(b"GET\r\n\r\n")
        assert receive_all(client) == refusal("400 Bad Request")


def stop_sending_before_a_refusal(server: Server) -> None:
    with server.connect() as client:
        client.sendall(b"GET\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client) == refusal("400 Bad Request")


ENDS = {
    reset_before_the_answer: "resets",
    stop_sending_and_reset_before_the_answer: "resets",
    reset_between_requests: "resets",
    close_without_a_byte: "empty_requests",
    close_in_the_middle_of_a_head: "bad_requests",
    stop_sending_in_the_middle_of_a_head: "bad_requests",
    close_in_the_middle_of_a_body: "bad_requests",
    close_after_a_refusal: "bad_requests",
    stop_sending_before_a_refusal: "bad_requests",
}


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_a_connection_that_ends_badly_ends_alone_and_is_counted_once(name, server, end):
    with server.connect() as client:
        ask(client)
    server.wait_until_all_closed()
    before = sorted(server.descriptors())
    bystanders = [server.connect() for _ in range(min(2, AT_ONCE.get(name, 3) - 1))]
    for client in bystanders:
        ask(client)
    for _ in range(20):
        end(server)
    for client in bystanders:
        ask(client)
        client.close()
    with server.connect() as client:
        ask(client)
        client.sendall(b"\r\n")  # some clients send that after a request
    server.wait_until_all_closed()
    assert sorted(server.descriptors()) == before
    counts = server.stop_and_sum()
    assert counts["accepted"] == 1 + 20 + len(bystanders) + 1
    counted = {key: counts[key] for key in COUNTS if key not in ("accepted", "requests")}
    assert counted == dict.fromkeys(counted, 0) | {ENDS[end]: 20}


@pytest.fixture
def short_of_descriptors(binary) -> Iterator[Server]:
    with running(["prlimit", "--nofile=64:64", binary, "--port", "0"]) as server:
        yield server
        server.stop()


@pytest.mark.parametrize("name", CONCURRENT)
def test_running_out_of_descriptors_refuses_connections_without_spinning(
    short_of_descriptors: Server,
):
    server = short_of_descriptors
    with connected(server, 100) as clients:
        answered = [is_answered(client) for client in clients]
        assert 50 < sum(answered) < 64
        before_s = server.cpu_s()
        time.sleep(0.5)
        assert server.cpu_s() - before_s < 0.1
        served = [client for client, is_served in zip(clients, answered, strict=True) if is_served]
        for client in served:
            ask(client)  # still

        for client in served[:10]:
            client.close()
        wait_until(lambda: server.connections() == len(served) - 10, "10 connections closed")
        with connected(server, 10) as more:
            assert all(is_answered(client) for client in more)
    server.wait_until_all_closed()
    (counts,) = server.stop()
    assert counts["accepted"] == 110
    assert counts["refused_connections"] == 100 - len(served)


@pytest.mark.parametrize("name", CONCURRENT)
def test_clients_that_never_pause_do_not_hold_up_others(server):
    """They send a body without end, so the server never answers."""
    hogs = [subprocess.Popen([sys.executable, "-c", HOG, str(server.port)]) for _ in range(4)]
    try:
        wait_until(lambda: server.cpu_s() > 0.3, "the server is busy with them")
        waited_s = []  # in the server's CPU time, which a busy machine does not make longer
        for _ in range(20):
            before_s = server.cpu_s()
            with server.connect() as client:
                ask(client)
            waited_s.append(server.cpu_s() - before_s)
        assert max(waited_s) < 2
        assert sum(waited_s) < 5
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
    server.wait_until_all_closed()


@pytest.mark.parametrize("name", ["server_sigio"])
def test_signals_that_did_not_fit_into_the_queue_lose_no_request(binary):
    with (
        running(["prlimit", "--sigpending=8:8", binary, "--port", "0"]) as server,
        connected(server, 50) as clients,
    ):
        for client in clients:
            ask(client)
        server.process.send_signal(signal.SIGSTOP)
        for client in clients:
            client.sendall(GET)
        server.process.send_signal(signal.SIGCONT)
        for client in clients:
            ask(client, b"")
        server.stop()
