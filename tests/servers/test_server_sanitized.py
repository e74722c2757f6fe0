"""Each server as compiled for finding faults: no sanitizer reports one, whatever its clients do."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness import (
    GET,
    GET_AND_CLOSE,
    LINK,
    MULTITASK,
    ONE_AT_A_TIME,
    RESPONSE,
    SANITIZED,
    SOURCES,
    Server,
    ask,
    compile_c,
    receive_all,
    reset,
    running,
    send_in_pieces,
)

POST = b"POST / HTTP/1.1\r\nContent-Length: 20000\r\n\r\n" + 20_000 * b"x"
REFUSED = [
    b"no request\r\n\r\n",
    b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
    9000 * b"x",
]


@pytest.fixture
def binary(name: str, tmp_path: Path) -> Path:
    return compile_c(SOURCES / f"{name}.c", tmp_path / name, SANITIZED, LINK)


def misbehave(server: Server) -> None:
    """Every kind of client, and of end of a connection."""
    with server.connect() as client:
        send_in_pieces(client, [GET[:1], GET[1:20], GET[20:] + GET[:5], GET[5:] + POST[:50]])
        send_in_pieces(client, [POST[50:9000], POST[9000:] + 500 * GET, GET_AND_CLOSE])
        assert receive_all(client) == 504 * RESPONSE
    for request in REFUSED:
        with server.connect() as client:
            send_in_pieces(client, [request[:7], request[7:], request])
            assert receive_all(client).endswith(b"Connection: close\r\n\r\n")
    for start in (b"", GET[:9], GET, POST[:99], 5000 * GET, GET_AND_CLOSE, REFUSED[0]):
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


def test_no_sanitizer_reports_anything(name: str, binary: Path):
    workers = ["--workers", "2"] if name in MULTITASK else []
    # Few descriptors, so that they run out.
    with running(["prlimit", "--nofile=64:64", binary, "--port", "0", *workers]) as server:
        clients_at_once = 1 if name == ONE_AT_A_TIME else 4
        with ThreadPoolExecutor(clients_at_once) as pool:
            for done in [pool.submit(misbehave, server) for _ in range(clients_at_once)]:
                done.result()
        server.wait_until_all_closed()
        clients = [server.connect() for _ in range(100)]
        ask(clients[0])
        assert len(server.stop()) == max(1, len(server.workers))
        for client in clients:
            client.close()
