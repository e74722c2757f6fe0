"""The bytes of one connection: every server gives the same answers, in whatever pieces the requests arrive."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from helpers.exchanges import (
    BAD,
    CLOSED,
    CODED,
    EXCHANGES,
    HEAD,
    HEAD_MAX,
    HEAD_TOO_LARGE,
    TO_HEAD,
    closed_at_once,
    ends,
    head_of,
)
from helpers.harness import (
    CONTINUE,
    EXHIBITS,
    GET,
    GET_AND_CLOSE,
    POST,
    RESPONSE,
    SERVERS,
    Server,
    ask,
    receive,
    receive_all,
    running,
    send_in_pieces,
    wait_until,
)

NAIVE = "server_uring_naive"  # closes after one answer, and leaves unread what else has arrived


def run_one(binary: Path) -> Iterator[Server]:
    """One server for all tests of a file. It must survive them, and then end well."""
    with running([binary, "--port", "0"]) as server:
        yield server
        server.stop()


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, binaries: Callable[[str], Path]) -> Iterator[Server]:
    yield from run_one(binaries(request.param))


@pytest.fixture(scope="module", params=SERVERS + EXHIBITS)
def any_server(request: pytest.FixtureRequest, binaries: Callable[[str], Path]) -> Iterator[Server]:
    yield from run_one(binaries(request.param))


def assert_ends_after(client: socket.socket, answers: int) -> None:
    """End the connection, and check that exactly `answers` answers came before the last one."""
    client.sendall(GET_AND_CLOSE)
    assert receive_all(client) == answers * RESPONSE + CLOSED


@pytest.mark.parametrize("request_bytes, answers", EXCHANGES.values(), ids=EXCHANGES)
def test_each_request_gets_its_answer(any_server: Server, request_bytes, answers):
    is_naive = any_server.command[0].name == NAIVE
    if is_naive:
        answers = closed_at_once(answers)
    received = b"".join(answers)
    if not ends(answers):
        with any_server.connect() as client:
            client.sendall(request_bytes)
            assert receive(client, len(received)) == received
            assert_ends_after(client, 0)
        return
    for rest in [b""] if is_naive else [b"", GET]:  # the server takes no more of it
        with any_server.connect() as client:
            client.sendall(request_bytes + rest)
            assert receive_all(client) == received


def test_a_client_that_waits_before_it_sends_a_body_is_told_to_go_on(any_server: Server):
    last = CLOSED if any_server.command[0].name == NAIVE else RESPONSE
    length = POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    chunked = POST + b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
    for head, body in ((length, b"hello"), (chunked, b"0\r\n\r\n")):
        with any_server.connect() as client:
            client.sendall(head)
            assert receive(client, len(CONTINUE)) == CONTINUE
            client.sendall(body)
            assert receive(client, len(last)) == last


BODY = POST + b"Content-Length: 4\r\n\r\n"
CHUNKS = b'6;a="b"\r\nGET / \r\n0\r\nX: y\r\n\r\n'
# Requests, where they are cut, and how many they are.
CUT = {
    "a request": (GET, range(1, len(GET)), 1),
    "pipelined ones": (500 * GET, [1, len(GET) - 1, 250 * len(GET) + 7, 500 * len(GET) - 1], 500),
    "a body": (2 * (BODY + b"GET "), range(len(BODY) - 2, len(BODY) + 6), 2),
    "chunks": (CODED + CHUNKS + GET, range(len(CODED) + 1, len(CODED + CHUNKS)), 2),
}


@pytest.mark.parametrize("whole, cuts, count", CUT.values(), ids=CUT)
def test_requests_may_be_cut_anywhere(server, whole, cuts, count):
    with server.connect() as client:
        for cut in cuts:
            send_in_pieces(client, [whole[:cut], whole[cut:]])
            assert receive(client, count * len(RESPONSE)) == count * RESPONSE
        send_in_pieces(client, [bytes([byte]) for byte in GET])
        assert_ends_after(client, 1)


def test_urgent_data_in_a_request_is_passed_over(server):
    """A receive stops at urgent data, although more has arrived."""
    with server.connect() as client:
        ask(client)
        serving = [psutil.Process(pid) for pid in server.serving]
        for process in serving:
            process.suspend()  # else a ring may wait for a fourth part: the README has this limit
            wait_until(lambda process=process: process.status() == psutil.STATUS_STOPPED, "a stop")
        client.sendall(GET[:-2])
        client.send(b"!", socket.MSG_OOB)
        client.sendall(GET[-2:])
        time.sleep(0.01)
        for process in serving:
            process.resume()
        assert receive(client, len(RESPONSE)) == RESPONSE


@pytest.mark.parametrize("cut", [1, HEAD_MAX - 1, HEAD_MAX], ids="cut at {}".format)
def test_the_longest_head_is_8192_bytes_also_in_pieces(server, cut):
    longest, too_long = head_of(HEAD_MAX), head_of(HEAD_MAX + 1)
    with server.connect() as client:
        send_in_pieces(client, [longest[:cut], longest[cut:]])
        assert receive(client, len(RESPONSE)) == RESPONSE
        send_in_pieces(client, [too_long[:cut], too_long[cut:]])
        assert receive_all(client) == HEAD_TOO_LARGE


STILL_SENDING = {
    "head": (GET[:-2] + b"X: ", HEAD_TOO_LARGE),
    "more requests": (GET_AND_CLOSE, CLOSED),
    "no request": (b"GET\r\n\r\n", BAD),
}


@pytest.mark.parametrize("start, answer", STILL_SENDING.values(), ids=STILL_SENDING)
def test_a_client_that_is_still_sending_can_read_the_last_answer(server, start, answer):
    with server.connect() as client:
        client.sendall(start)
        for _ in range(100):  # long after the error
            client.sendall(100_000 * b"x")
        assert receive_all(client) == answer


UNREAD = {"alike": (GET, RESPONSE), "different": (GET + HEAD, RESPONSE + TO_HEAD)}


@pytest.mark.parametrize("requests, answers", UNREAD.values(), ids=UNREAD)
def test_a_client_that_does_not_read_for_a_while_gets_every_byte(server, requests, answers):
    """More answers than the socket's buffers hold, so that the server sends them in parts."""
    count = 10_000
    with server.connect(receive_buffer=4096) as client:
        sender = threading.Thread(target=client.sendall, args=[count * requests])
        sender.start()
        time.sleep(0.1)
        assert receive(client, count * len(answers)) == count * answers
        sender.join()
        assert_ends_after(client, 0)


def test_requests_that_come_while_the_answers_to_others_wait_are_answered(server):
    """The server receives each part in one call, and soon one while the socket takes no more answers."""
    part = 500 * GET
    with server.connect(receive_buffer=4096) as client:
        send_in_pieces(client, 20 * [part], pause_s=0.005)
        assert receive(client, 20 * 500 * len(RESPONSE)) == 20 * 500 * RESPONSE
        assert_ends_after(client, 0)
