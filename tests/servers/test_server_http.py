"""One connection's bytes: whatever the pieces they come in, the same answers from every server."""

import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from harness import (
    GET,
    GET_AND_CLOSE,
    RESPONSE,
    ask,
    receive,
    receive_all,
    refusal,
    send_in_pieces,
)

HEAD_MAX = 8192  # bytes


def head_of(size: int, last_field: bytes = b"") -> bytes:
    start, end = b"GET / HTTP/1.1\r\nX: ", b"\r\n" + last_field + b"\r\n"
    return start + b"x" * (size - len(start) - len(end)) + end


def assert_ends_after(client: socket.socket, answers: int) -> None:
    """Ask for the end, and see that so many answers came before it, and no more."""
    client.sendall(GET_AND_CLOSE)
    assert receive_all(client) == (answers + 1) * RESPONSE


WELL_FORMED = {
    "1.1": GET,
    "1.0": b"GET / HTTP/1.0\r\n\r\n",
    "1.9": b"GET / HTTP/1.9\r\n\r\n",
    "another method": b"DELETE /some/where?a=b&c=%20 HTTP/1.1\r\n\r\n",
    "a full target": b"GET http://[::1]:80/ HTTP/1.1\r\n\r\n",
    "no target but *": b"OPTIONS * HTTP/1.1\r\n\r\n",
    "empty lines before it": b"\r\n\r\n" + GET,
    "an empty value": b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "space around a value": b"GET / HTTP/1.1\r\nHost: \t test\t \r\n\r\n",
    "bytes beyond ASCII in a value": b"GET / HTTP/1.1\r\nX: \xff\x80\r\n\r\n",
    "a length of 0": b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "the same length twice": b"POST / HTTP/1.1\r\nContent-Length: 1\r\ncontent-length:1\r\n\r\nx",
    "the longest head": head_of(HEAD_MAX),
}


@pytest.mark.parametrize("request_bytes", WELL_FORMED.values(), ids=WELL_FORMED)
def test_every_well_formed_request_gets_the_same_answer(server, request_bytes):
    with server.connect() as client:
        ask(client, request_bytes)


KEPT = {
    "1.1": GET,
    "1.1, keep-alive": b"GET / HTTP/1.1\r\nConnection: keep-alive\r\n\r\n",
    "1.1, another word": b"GET / HTTP/1.1\r\nConnection: closed, close-not\r\n\r\n",
    "1.0, keep-alive": b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "1.0, Keep-Alive in a list": b"GET / HTTP/1.0\r\nconnection: x ,\tKeep-Alive\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", KEPT.values(), ids=KEPT)
def test_a_connection_is_kept_open(server, request_bytes):
    with server.connect() as client:
        for _ in range(3):
            ask(client, request_bytes)


CLOSED = {
    "1.0": b"GET / HTTP/1.0\r\n\r\n",
    "1.0, another word": b"GET / HTTP/1.0\r\nConnection: keep-alive-not\r\n\r\n",
    "1.0, both": b"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n",
    "1.1, close": GET_AND_CLOSE,
    "1.1, any case": b"GET / HTTP/1.1\r\nCONNECTION: cLOSE\r\n\r\n",
    "1.1, in a list": b"GET / HTTP/1.1\r\nConnection: keep-alive ,, Close\t,x\r\n\r\n",
    "1.1, the second field": b"GET / HTTP/1.1\r\nConnection: x\r\nConnection: close\r\n\r\n",
    "1.1, revoked": b"GET / HTTP/1.1\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n",
    "1.1, after a body": b"POST / HTTP/1.1\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
}


@pytest.mark.parametrize("request_bytes", CLOSED.values(), ids=CLOSED)
def test_a_connection_is_closed_after_the_answer_and_takes_no_further_request(
    server, request_bytes
):
    with server.connect() as client:
        client.sendall(request_bytes + GET)
        assert receive_all(client) == RESPONSE


def test_a_request_may_be_cut_anywhere(server):
    with server.connect() as client:
        for cut in range(1, len(GET)):
            send_in_pieces(client, [GET[:cut], GET[cut:]])
            assert receive(client, len(RESPONSE)) == RESPONSE
        assert_ends_after(client, 0)


def test_a_request_may_come_byte_by_byte(server):
    with server.connect() as client:
        for _ in range(2):
            send_in_pieces(client, [bytes([byte]) for byte in GET])
            assert receive(client, len(RESPONSE)) == RESPONSE
        assert_ends_after(client, 0)


def stop(pid):
    """Stop a process, and wait until it has."""
    os.kill(pid, signal.SIGSTOP)
    while Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "T":
        time.sleep(0.001)


def test_urgent_data_in_a_request_is_passed_over(server):
    """A receive stops short at it, though more has arrived."""
    with server.connect() as client:
        ask(client)
        for pid in server.serving:
            stop(
                pid
            )  # a ring that meets the three parts while they come may wait for one more: the README's limits
        client.sendall(GET[:-2])
        client.send(b"!", socket.MSG_OOB)
        client.sendall(GET[-2:])
        time.sleep(0.01)
        for pid in server.serving:
            os.kill(pid, signal.SIGCONT)
        assert receive(client, len(RESPONSE)) == RESPONSE


@pytest.mark.parametrize("count", [2, 500])
def test_pipelined_requests_are_all_answered(server, count):
    with server.connect() as client:
        client.sendall(count * GET)
        assert receive(client, count * len(RESPONSE)) == count * RESPONSE
        assert_ends_after(client, 0)


def test_pipelined_requests_may_be_cut_in_the_middle_of_one(server):
    whole = 500 * GET
    with server.connect() as client:
        for cut in (1, len(GET) - 1, 250 * len(GET) + 7, len(whole) - 1):
            send_in_pieces(client, [whole[:cut], whole[cut:]])
            assert receive(client, 500 * len(RESPONSE)) == 500 * RESPONSE
        assert_ends_after(client, 0)


BODIES = {
    "short": b"hello",
    "line ends": b"\r\n\r\n\r\n",
    "like a request": GET,
    "like many requests": 1000 * GET,
    "more than one call receives": 100_000 * b"x",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_is_skipped_and_the_request_after_it_answered(server, body):
    head = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    with server.connect() as client:
        ask(client, head + body)
        client.sendall(head + body + GET + head + body + GET)
        assert_ends_after(client, 4)


def test_a_body_may_be_cut_anywhere(server):
    head = b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n"
    whole = head + b"GET " + head + b"GET "
    with server.connect() as client:
        for cut in range(len(head) - 2, len(head) + 6):
            send_in_pieces(client, [whole[:cut], whole[cut:]])
            assert receive(client, 2 * len(RESPONSE)) == 2 * RESPONSE
        assert_ends_after(client, 0)


MALFORMED = {
    "no request": b"hello\r\n\r\n",
    "bare LF": b"GET / HTTP/1.1\n\n",
    "bare LF after a field": b"GET / HTTP/1.1\r\nHost: test\n\r\n",
    "bare LF at the end": b"GET / HTTP/1.1\r\n\n",
    "bare CR in a value": b"GET / HTTP/1.1\r\nX: a\rb\r\n\r\n",
    "CR twice": b"GET / HTTP/1.1\r\r\n\r\n",
    "NUL in the target": b"GET /\0 HTTP/1.1\r\n\r\n",
    "NUL in a name": b"GET / HTTP/1.1\r\nX\0: a\r\n\r\n",
    "NUL in a value": b"GET / HTTP/1.1\r\nX: \0\r\n\r\n",
    "DEL in a value": b"GET / HTTP/1.1\r\nX: \x7f\r\n\r\n",
    "no method": b" / HTTP/1.1\r\n\r\n",
    "bad method": b"G(T / HTTP/1.1\r\n\r\n",
    "no target": b"GET HTTP/1.1\r\n\r\n",
    "empty target": b"GET  HTTP/1.1\r\n\r\n",
    "space in the target": b"GET /a b HTTP/1.1\r\n\r\n",
    "tab for a space": b"GET\t/\tHTTP/1.1\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "version 2.0": b"GET / HTTP/2.0\r\n\r\n",
    "version 1.": b"GET / HTTP/1.\r\n\r\n",
    "version 1.10": b"GET / HTTP/1.10\r\n\r\n",
    "version 1.x": b"GET / HTTP/1.x\r\n\r\n",
    "version in lower case": b"GET / http/1.1\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nHost\r\n\r\n",
    "no name": b"GET / HTTP/1.1\r\n: test\r\n\r\n",
    "space before the colon": b"GET / HTTP/1.1\r\nHost : test\r\n\r\n",
    "space before the name": b"GET / HTTP/1.1\r\n Host: test\r\n\r\n",
    "folded field": b"GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "two lengths in a list": b"POST / HTTP/1.1\r\nContent-Length: 1, 2\r\n\r\nab",
    "negative length": b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    "length with a sign": b"POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\nhello",
    "hexadecimal length": b"POST / HTTP/1.1\r\nContent-Length: 0x5\r\n\r\nhello",
    "empty length": b"POST / HTTP/1.1\r\nContent-Length:\r\n\r\n",
    "two numbers": b"POST / HTTP/1.1\r\nContent-Length: 1 2\r\n\r\n",
    "length of 2 to the 64th": b"POST / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\n",
    "after a good request": GET + b"GET\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_request_gets_400_and_the_end(server, request_bytes):
    answers = RESPONSE if request_bytes.startswith(GET) else b""
    with server.connect() as client:
        client.sendall(request_bytes + GET)
        assert receive_all(client) == answers + refusal("400 Bad Request")
    with server.connect() as client:
        ask(client)


CHUNKED_HEAD = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED_BODIES = {
    "none": b"0\r\n\r\n",
    "one chunk": b"5\r\nhello\r\n0\r\n\r\n",
    "like a request": b"%x\r\n%b\r\n0\r\n\r\n" % (len(GET), GET),
    "like its own end": b"7\r\n0\r\n\r\n\r\n\r\n0\r\n\r\n",
    "many chunks": 3000 * b"1\r\nx\r\n" + b"0\r\n\r\n",
    "a chunk larger than one call receives": b"186A0\r\n" + 100_000 * b"x" + b"\r\n0\r\n\r\n",
    "leading zeros": b"0005\r\nhello\r\n000\r\n\r\n",
    "extensions": b'5;a;b=c;d="e f"\r\nhello\r\n0 \t;last\r\n\r\n',
    "trailers": b"0\r\nX: y\r\nTransfer-Encoding: gzip\r\nContent-Length: 99\r\n\r\n",
}


@pytest.mark.parametrize("body", CHUNKED_BODIES.values(), ids=CHUNKED_BODIES)
def test_a_body_in_chunks_is_skipped_and_the_request_after_it_answered(server, body):
    with server.connect() as client:
        ask(client, CHUNKED_HEAD + body)
        client.sendall(CHUNKED_HEAD + body + GET + CHUNKED_HEAD + body + GET)
        assert_ends_after(client, 4)


def test_a_body_in_chunks_may_be_cut_anywhere(server):
    body = b'6;a="b"\r\nGET / \r\n0\r\nX: y\r\n\r\n'
    with server.connect() as client:
        for cut in range(1, len(body)):
            send_in_pieces(client, [CHUNKED_HEAD + body[:cut], body[cut:] + GET])
            assert receive(client, 2 * len(RESPONSE)) == 2 * RESPONSE
        assert_ends_after(client, 0)


BAD_CHUNKS = {
    "no size": b"\r\nhello\r\n",
    "no hexadecimal size": b"g\r\n",
    "a size with a sign": b"+5\r\nhello\r\n",
    "a size with 0x": b"0x5\r\nhello\r\n",
    "a negative size": b"-1\r\n",
    "space before a size": b" 5\r\nhello\r\n",
    "space after a size": b"5 \r\nhello\r\n",
    "a size of 2 to the 64th": b"10000000000000000\r\n",
    "bare LF after a size": b"5\nhello\r\n",
    "bare CR after a size": b"5\rhello\r\n",
    "bare LF in an extension": b"5;a\nhello\r\n",
    "NUL in an extension": b"5;a\0\r\nhello\r\n",
    "a chunk longer than its size": b"4\r\nhello\r\n",
    "bare LF after a chunk": b"5\r\nhello\n0\r\n\r\n",
    "bare LF after the last chunk": b"0\n\n",
    "a trailer without a colon": b"0\r\nX\r\n\r\n",
    "bare LF after a trailer": b"0\r\nX: y\n\r\n",
    "bare LF at the end": b"0\r\n\n",
    "space before a trailer's name": b"0\r\n X: y\r\n\r\n",
}


@pytest.mark.parametrize("body", BAD_CHUNKS.values(), ids=BAD_CHUNKS)
def test_a_malformed_chunk_gets_400_and_the_end(server, body):
    with server.connect() as client:
        client.sendall(CHUNKED_HEAD + body + GET)
        assert receive_all(client) == refusal("400 Bad Request")


@pytest.mark.parametrize(
    "line", [b"5;" + 9000 * b"x", 9000 * b"0", b"0\r\n" + 999 * b"X: yyyy\r\n"]
)
def test_too_much_between_chunks_gets_431_and_the_end(server, line):
    with server.connect() as client:
        client.sendall(CHUNKED_HEAD + line)
        assert receive_all(client) == refusal("431 Request Header Fields Too Large")


UNCERTAIN = {  # of these another server on the way may have understood another end
    "a length before": b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a length after": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
    "HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
}


@pytest.mark.parametrize("head", UNCERTAIN.values(), ids=UNCERTAIN)
def test_a_body_whose_end_is_uncertain_gets_400_and_the_end(server, head):
    with server.connect() as client:
        client.sendall(head + b"0\r\n\r\n" + GET)
        assert receive_all(client) == refusal("400 Bad Request")


@pytest.mark.parametrize(
    "coding",
    [b"gzip", b"gzip, chunked", b"chunked, chunked", b"chunked\r\nTransfer-Encoding: gzip", b""],
)
def test_another_transfer_coding_gets_501_and_the_end(server, coding):
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: " + coding + b"\r\n\r\n"
    with server.connect() as client:
        client.sendall(head + b"0\r\n\r\n" + GET)
        assert receive_all(client) == refusal("501 Not Implemented")


@pytest.mark.parametrize("cut", [1, HEAD_MAX - 1, HEAD_MAX], ids="cut at {}".format)
def test_the_longest_head_is_8192_bytes_also_in_pieces(server, cut):
    longest, too_long = head_of(HEAD_MAX), head_of(HEAD_MAX + 1)
    with server.connect() as client:
        send_in_pieces(client, [longest[:cut], longest[cut:]])
        assert receive(client, len(RESPONSE)) == RESPONSE
        send_in_pieces(client, [too_long[:cut], too_long[cut:]])
        assert receive_all(client) == refusal("431 Request Header Fields Too Large")


def test_a_client_that_is_still_sending_can_read_why_it_was_refused(server):
    with server.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nX: ")
        for _ in range(100):  # long after the refusal
            client.sendall(100_000 * b"x")
        assert receive_all(client) == refusal("431 Request Header Fields Too Large")


def test_a_client_that_does_not_read_for_a_while_gets_every_byte(server):
    """More answers than the socket buffers hold, so that they are written in parts."""
    count = 10_000
    with server.connect(receive_buffer=4096) as client:
        sender = threading.Thread(target=client.sendall, args=[count * GET])
        sender.start()
        time.sleep(0.1)
        assert receive(client, count * len(RESPONSE)) == count * RESPONSE
        sender.join()
        assert_ends_after(client, 0)


def test_requests_that_come_while_the_answers_to_others_wait_are_answered(server):
    """Each part is taken by one call, and soon one is taken while the socket takes no more answers."""
    part = 900 * b"GET / HTTP/1.1\r\n\r\n"
    with server.connect(receive_buffer=4096) as client:
        send_in_pieces(client, 20 * [part], pause_s=0.005)
        assert receive(client, 20 * 900 * len(RESPONSE)) == 20 * 900 * RESPONSE
        assert_ends_after(client, 0)


@pytest.mark.parametrize("count", [1, 5000])
def test_a_client_that_stops_sending_still_gets_its_answers(server, count):
    with server.connect(receive_buffer=4096) as client:
        client.sendall(count * GET)
        client.shutdown(socket.SHUT_WR)
        time.sleep(0.01)
        assert receive_all(client) == count * RESPONSE
