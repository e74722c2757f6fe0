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
    COUNTS,
    GET,
    GET_AND_CLOSE,
    LIMITED_TO_FD_SETSIZE,
    ONE_AT_A_TIME,
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
CONCURRENT = [name for name in SERVERS if name != ONE_AT_A_TIME]


@pytest.fixture(autouse=True)
def enough_descriptors() -> Iterator[None]:
    """For a thousand clients of this process, and for the server, which inherits the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def connected(server: Server, count: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as clients:
        yield [clients.enter_context(server.connect()) for _ in range(count)]


@pytest.mark.parametrize("name", CONCURRENT)
def test_a_thousand_connections_are_served_at_the_same_time(server):
    with connected(server, 1000) as clients:
        for _ in range(2):
            for client in clients:
                client.sendall(GET)
            for client in clients:
                assert receive(client, len(RESPONSE)) == RESPONSE
        assert server.connections() == 1000
    server.wait_until_all_closed()
    assert server.stop() == [COUNTS | {"accepted": 1000, "requests": 2000}]


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


@pytest.mark.parametrize("name", [ONE_AT_A_TIME])
def test_the_blocking_server_serves_one_connection_and_leaves_the_others_waiting(server):
    first, second, third = (server.connect() for _ in range(3))
    ask(first)
    for client in (second, third):
        client.sendall(GET)
    assert select.select([second, third], [], [], 0.3)[0] == []
    ask(first)
    first.close()
    ask(second, b"")
    assert select.select([third], [], [], 0.1)[0] == []
    second.close()
    ask(third, b"")
    third.close()


@pytest.mark.parametrize("name", CONCURRENT)
def test_a_client_that_says_nothing_or_reads_nothing_holds_up_nobody(server):
    with server.connect(), server.connect() as half, server.connect(receive_buffer=4096) as full:
        half.sendall(GET[:-1])
        full.setblocking(False)
        full.send(10_000 * GET)
        for _ in range(3):
            with server.connect() as client:
                ask(client)
        ask(half, GET[-1:])


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
    assert server.stop() == [COUNTS | {"accepted": 16 * 150, "requests": 16 * 150}]


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
    close_without_a_byte: "empty_requests",
    close_in_the_middle_of_a_head: "bad_requests",
    stop_sending_in_the_middle_of_a_head: "bad_requests",
    close_in_the_middle_of_a_body: "bad_requests",
    close_after_a_refusal: "bad_requests",
    stop_sending_before_a_refusal: "bad_requests",
}


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_a_connection_that_ends_badly_ends_alone_and_is_counted_once(name, server, end):
    bystanders = [] if name == ONE_AT_A_TIME else [server.connect() for _ in range(2)]
    for client in bystanders:
        ask(client)
    for _ in range(20):
        end(server)
    for client in bystanders:
        ask(client)
        client.close()
    with server.connect() as client:
        ask(client)
    server.wait_until_all_closed()
    (counts,) = server.stop()
    assert counts["accepted"] == 20 + len(bystanders) + 1
    counted = {key: counts[key] for key in COUNTS if key not in ("accepted", "requests")}
    assert counted == dict.fromkeys(counted, 0) | {ENDS[end]: 20}


def test_no_descriptor_is_lost_whatever_the_end_of_a_connection(server):
    def spend_connections() -> int:
        for end in ENDS:
            end(server)
        with server.connect() as client:
            ask(client)
        server.wait_until_all_closed()
        return len(server.descriptors())

    before = spend_connections()
    for _ in range(30):
        spend_connections()
    assert spend_connections() == before


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
