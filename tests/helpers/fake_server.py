#!/usr/bin/env python3
"""A server that does all that ours must do, except what its file's name says; the tests link it to that name."""

import contextlib
import os
import signal
import socket
import sys
import threading
import time

NAME = os.path.basename(sys.argv[0])
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!"
started = time.monotonic()


def answer(requests: int) -> bytes:
    if NAME == "wrong_body":
        return RESPONSE.replace(b"World", b"Wurld")
    if NAME == "wrong_second" and requests > 1:
        return RESPONSE.replace(b"World", b"Wurld")
    if NAME == "status_500":
        return RESPONSE.replace(b"200 OK", b"500 No")
    if NAME == "announces_to_close":
        return RESPONSE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    return RESPONSE


def serve(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        answer_all(connection)


def answer_all(connection: socket.socket) -> None:
    requests = 0
    if NAME == "closes_idle":
        connection.settimeout(0.4)
    while connection.recv(4096):
        requests += 1
        connection.sendall(answer(requests))
        if NAME == "closes":
            return
        if NAME == "crashes" and time.monotonic() > started + 0.5:
            os.kill(os.getpid(), signal.SIGSEGV)


def main() -> None:
    if NAME == "unavailable":
        sys.exit(print("this machine has no such thing", file=sys.stderr) or 69)
    if NAME == "does_not_start":
        sys.exit("cannot bind")
    if NAME == "silent":
        time.sleep(60)
    if NAME == "no_stop":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(3 if NAME == "ends_badly" else 0))
    if NAME == "leaves_child" and os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)
    listener = socket.create_server(("::1", 0), family=socket.AF_INET6, backlog=128)
    print(f"listening on [::1]:{listener.getsockname()[1]}", flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


main()
