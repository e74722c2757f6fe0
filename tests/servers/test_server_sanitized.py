"""Each server, once with sanitizers and once optimized. Whatever its clients do, no sanitizer reports anything, no byte
of an answer is wrong, and the server leaks neither memory nor descriptors."""

import mmap
import random
import select
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from helpers.exchanges import CLOSED, CODED, HEAD, HEAD_TOO_LARGE, KEPT, TO_HEAD, URI_TOO_LONG
from helpers.harness import (
    AT_ONCE,
    GET,
    GET_AND_CLOSE,
    HERE,
    LINK,
    POST,
    RESPONSE,
    SANITIZED,
    SERVERS,
    SEVERAL_PROCESSES,
    TIMEOUT_S,
    Server,
    ask,
    compile_all,
    receive,
    receive_all,
    reset,
    running,
    send_in_pieces,
)
from helpers.second_opinion import take_again

LONG_POST = POST + b"Content-Length: 20000\r\n\r\n" + 20_000 * b"x"
CHUNKS = b"5\r\nhello\r\n1e;a=b\r\n" + 30 * b"x" + b"\r\n0\r\nX: y\r\n\r\n"
REFUSED = [
    b"no request\r\n\r\n",
    GET[:-2] + b"Transfer-Encoding: gzip\r\n\r\n",
    9000 * b"x",
]


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    link = [str(HERE / "report_leaks.c"), "-Wl,--wrap=_exit", *LINK]
    yield from compile_all(SERVERS, tmp_path_factory.mktemp("sanitized"), SANITIZED, link)


def misbehave(server: Server) -> None:
    """Clients of every kind, and connections that end in every way."""
    with server.connect() as client:
        send_in_pieces(client, [GET[:1], GET[1:20], GET[20:] + GET[:5], GET[5:] + LONG_POST[:50]])
        send_in_pieces(client, [LONG_POST[50:9000], LONG_POST[9000:] + 500 * GET, GET_AND_CLOSE])
        assert receive_all(client) == 503 * RESPONSE + CLOSED
    for request in REFUSED:
        with server.connect() as client:
            send_in_pieces(client, [request[:7], request[7:], request])
            assert receive_all(client).endswith(b"Connection: close\r\n\r\n")
    starts = (b"", GET[:9], GET, LONG_POST[:99], CODED + CHUNKS[:9], CODED + b"0\r\nX: y\r\n")
    for start in (*starts, 5000 * GET, GET_AND_CLOSE, REFUSED[0]):
        for end in (socket.socket.close, reset):
            client = server.connect(receive_buffer=4096)
            client.setblocking(False)
            client.send(start)
            time.sleep(0.005)
            end(client)
    with server.connect(receive_buffer=4096) as client:
        client.sendall(3000 * GET)
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client) == 3000 * RESPONSE


def send_and_receive(server: Server, pieces: list[bytes]) -> bytes:
    """Send the pieces, shut down the sending side, and return all that comes back."""
    received = b""
    with server.connect() as client:
        for piece in pieces:
            client.sendall(piece)
            while select.select([client], [], [], 0)[0] and (part := client.recv(1 << 16)):
                received += part
        client.shutdown(socket.SHUT_WR)
        while part := client.recv(1 << 16):
            received += part
    return received


def cut_at_every_byte(server: Server, rng: random.Random) -> None:
    request = CODED + CHUNKS
    for cut in range(1, len(request)):
        assert send_and_receive(server, [request[:cut], request[cut:]]) == RESPONSE
        assert send_and_receive(server, [GET + request[:cut]]) == RESPONSE


def head_without_end(server: Server, rng: random.Random) -> None:
    for data, answer in (
        (GET[:-2] + b"X: " + 1_000_000 * b"x", HEAD_TOO_LARGE),
        (b"GET /" + 1_000_000 * b"x", URI_TOO_LONG),
        (GET[:-2] + 50_000 * b"X: yyyyyyyyyyyyyyyy\r\n", HEAD_TOO_LARGE),
    ):
        with server.connect() as client:
            client.sendall(data)
            assert receive_all(client) == answer


def reset_in_mid_response(server: Server, rng: random.Random) -> None:
    for _ in range(10):
        client = server.connect(receive_buffer=4096)
        client.setblocking(False)
        client.send(5_000 * GET)
        select.select([client], [], [], TIMEOUT_S)
        assert RESPONSE.startswith(client.recv(rng.randrange(1, len(RESPONSE))))
        reset(client)


SHORT_POST = POST + b"Content-Length: 36\r\n\r\n" + CHUNKS[:36]
OF_1_0 = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
EXPECTING = POST + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc"
REQUESTS = [GET, HEAD, OF_1_0, GET_AND_CLOSE, SHORT_POST, EXPECTING, CODED + CHUNKS, CODED + CHUNKS]
DAMAGE = [GET, CODED, CHUNKS, b"\r\n", b"\n", b"\0", b"0", b"fffffffffffffff\r\n"]
DAMAGE += [b"Content-Length: 9\r\n", b"Transfer-Encoding: chunked\r\n"]


def noise(server: Server, rng: random.Random) -> None:
    random_bytes = [rng.randbytes(rng.randrange(1, 5000)) for _ in range(20)]
    for data in (*random_bytes, b"\0", 100 * b"\0" + b"\r\n", GET[:-2] + b"X: \0\r\n\r\n"):
        sent = GET + data + b"\n"
        assert send_and_receive(server, [sent]) == take_again(sent).received


def mutated(server: Server, rng: random.Random) -> None:
    """Damaged requests in random pieces get the answers that the second opinion expects."""
    for _ in range(200):
        data = bytearray(b"".join(rng.choices(REQUESTS, k=rng.randrange(1, 5))))
        for _ in range(rng.randrange(4)):
            at = rng.randrange(len(data))
            data[at : at + rng.choice([0, 1, 9])] = rng.choice([*DAMAGE, rng.randbytes(5)])
        cuts = sorted(rng.randrange(len(data)) for _ in range(rng.randrange(5)))
        pieces = [bytes(data[a:b]) for a, b in zip([0, *cuts], [*cuts, None], strict=True)]
        received = send_and_receive(server, [piece for piece in pieces if piece])
        assert received == take_again(bytes(data)).received, bytes(data)


ANSWERS = {GET: RESPONSE, HEAD: TO_HEAD, OF_1_0: KEPT}


def answers_that_nobody_reads(server: Server, rng: random.Random) -> None:
    """Each part has few answers, which fit into an empty socket at once, but soon the socket is full."""
    for reads in (False, True):
        with server.connect(receive_buffer=4096) as client:
            kinds = rng.choices(list(ANSWERS), [98, 1, 1], k=300)
            counts = rng.choices(range(1, 20), k=300)  # in all more answers than the buffers hold
            parts = list(zip(kinds, counts, strict=True))
            send_in_pieces(client, [kind * count for kind, count in parts], pause_s=0.0005)
            if not reads:
                reset(client)
                continue
            expected = b"".join(ANSWERS[kind] * count for kind, count in parts)
            assert receive(client, len(expected)) == expected


ABUSES = [cut_at_every_byte, head_without_end, noise, reset_in_mid_response, mutated]
ABUSES += [answers_that_nobody_reads]


def abuse(server: Server, rng: random.Random) -> None:
    for abuse_it in ABUSES:
        abuse_it(server, rng)
        with server.connect() as client:
            ask(client)
            ask(client, CODED + CHUNKS)
    server.wait_until_all_closed()


def test_nothing_breaks_a_sanitized_server_and_no_descriptor_is_lost(name: str, sanitized):
    workers = ["--workers", "2"] if name in SEVERAL_PROCESSES else []
    # Few descriptors, so that they run out.
    command = ["prlimit", "--nofile=64:64", sanitized(name), "--port", "0", *workers]
    at_once = min(4, AT_ONCE.get(name, 4))
    rng = random.Random(1)
    with running(command) as server, ThreadPoolExecutor(at_once) as pool:
        abuse(server, rng)
        before = server.descriptors()
        abuse(server, rng)
        assert sorted(server.descriptors()) == sorted(before)
        for done in [pool.submit(misbehave, server) for _ in range(at_once)]:
            done.result()
        server.wait_until_all_closed()
        clients = [server.connect() for _ in range(100)]
        ask(clients[0])
        for client in clients:
            client.close()
        server.wait_until_all_closed()
        assert len(server.stop()) == max(1, len(server.workers))  # and check for leaks


def test_memory_does_not_grow_under_abuse(server: Server):
    """The optimized server: sanitizers use much memory themselves, and report only memory that is lost.

    A leak grows in every round. Pages that a process touches for the first time do not, but of many processes each has
    to meet every abuse first.
    """
    rng = random.Random(2)
    allowed = (64 << 10) + len(server.serving) * mmap.PAGESIZE
    grew = allowed + 1
    for _ in range(30):
        before = server.memory_bytes()
        abuse(server, rng)
        grew = server.memory_bytes() - before
        if grew <= allowed:
            break
    assert grew <= allowed
