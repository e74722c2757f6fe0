"""What the workflow relies on: the command line, the line at the start, the counts at the end."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.harness import (
    COUNTS,
    EXHIBITS,
    GET,
    HERE,
    MULTITASK,
    SERVERS,
    SEVERAL_PROCESSES,
    Server,
    ask,
    is_running,
    reset,
    wait_until,
)

Start = Callable[..., Server]


def finish(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command that should end by itself."""
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


def assert_one_line(text: str) -> None:
    assert re.fullmatch(r"[^\n]+\n", text), text


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_within_a_second_whatever_its_connections_do(server, signal_number):
    stopping = threading.Event()

    def keep_asking(client: socket.socket) -> None:
        while not stopping.is_set():
            try:
                client.sendall(GET)
                if client.recv(1 << 16) == b"":
                    return
            except OSError:
                return

    busy, idle, half, not_reading = (server.connect() for _ in range(4))
    thread = threading.Thread(target=keep_asking, args=[busy])
    thread.start()
    half.sendall(GET[:-3])
    not_reading.setblocking(False)
    not_reading.send(GET * 100_000)
    server.stop(signal_number, within_s=1)
    stopping.set()
    thread.join()
    for client in (busy, idle, half, not_reading):
        client.close()


@pytest.mark.parametrize("name", [*SERVERS, *EXHIBITS])
def test_the_counts_hold_what_clients_did_right_before_the_signal(server):
    """Without a pause: the server may not yet have seen or accepted any of them."""
    clients = [server.connect() for _ in range(40)]
    for client in clients:
        client.sendall(GET[:-3])
    for client in clients[:20]:
        client.close()
    for client in clients[20:]:
        reset(client)
    counts = server.stop_and_sum()
    assert counts == COUNTS | {"accepted": 40, "resets": 20, "bad_requests": 20}


BAD_USAGE = {  # the first word is the wrong option
    "unknown option": ["--colour"],
    "unknown short option": ["-abc"],
    "extra argument": ["now"],
    "missing value": ["--port"],
    "port that is no number": ["--port", "http"],
    "port with a unit": ["--port", "80k"],
    "empty port": ["--port", ""],
    "negative port": ["--port", "-1"],
    "port too large": ["--port", "65536"],
    "no workers": ["--workers", "0"],
    "workers that are no number": ["--workers", "two"],
    "no body": ["--body-bytes", "0"],
    "body larger than 64 MiB": ["--body-bytes", str((64 << 20) + 1)],
    "body with a unit": ["--body-bytes", "128k"],
    "negative wait": ["--handler-block-us", "-1"],
    "wait longer than a minute": ["--handler-block-us", "60000001"],
    "CPU time that is no number": ["--handler-burn-us", "much"],
    "work for no request": ["--handler-every", "0"],
    "host name": ["--host", "localhost"],
    "bad address": ["--host", "1:2:3"],
    "empty address": ["--host", ""],
    "unknown interface": ["--interface", "nosuch0", "--host", "fe80::1"],
    "unknown interface, not needed": ["--interface", "nosuch0", "--host", "::1"],
    "link-local without interface": ["--host", "fe80::1"],
}


@pytest.mark.parametrize("options", BAD_USAGE.values(), ids=BAD_USAGE)
def test_bad_usage_is_one_line_that_names_it_and_status_2(binary, options):
    ended = finish(binary, *options)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert_one_line(ended.stderr)
    assert options[0] in ended.stderr


def test_help_is_shown_on_standard_output(binary):
    ended = finish(binary, "--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    workload = ("--body-bytes", "--handler-block-us", "--handler-burn-us", "--handler-every")
    for option in ("--host", "--port", "--interface", "--workers", *workload):
        assert option in ended.stdout


def test_a_port_in_use_is_one_line_and_status_1(binary, server):
    """Also if the other server is of the same kind, and its workers share the port."""
    ended = finish(binary, "--port", str(server.port))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert_one_line(ended.stderr)


@pytest.mark.parametrize("name", MULTITASK)
def test_each_worker_serves_and_tells_its_own_counts(start: Start):
    server = start("--workers", "3")
    assert len(server.workers) == 3
    clients = [server.connect() for _ in range(60)]
    for client in clients:
        ask(client)
        client.close()
    server.wait_until_all_closed()
    counts = server.stop()
    assert len(counts) == 3
    assert sum(count["requests"] for count in counts) == 60
    assert all(count["accepted"] == count["requests"] > 0 for count in counts)


@pytest.mark.parametrize("name", SEVERAL_PROCESSES)
def test_a_signal_right_after_the_announcement_finds_every_worker_ready(start: Start):
    for _ in range(20):
        server = start("--workers", "3")
        assert server.stop() == [COUNTS] * len(server.workers)


@pytest.mark.parametrize("name", SEVERAL_PROCESSES)
def test_no_worker_outlives_a_killed_master(start: Start):
    server = start("--workers", "3")
    server.process.kill()
    wait_until(lambda: not any(map(is_running, server.workers)), "the workers' end")


@pytest.mark.parametrize("name", SEVERAL_PROCESSES)
def test_a_killed_worker_ends_all_with_a_failure(start: Start):
    server = start("--workers", "3")
    os.kill(server.workers[1], signal.SIGKILL)
    output, errors = server.process.communicate(timeout=20)
    assert server.process.returncode == 1
    assert output == ""
    assert_one_line(errors)
    assert str(server.workers[1]) in errors
    assert not any(map(is_running, server.workers))


@pytest.mark.parametrize("error", ["EPERM", "ENOSYS", "ENOMEM"])
@pytest.mark.parametrize("name", [name for name in SERVERS if "uring" in name])
def test_a_machine_that_refuses_io_uring_is_one_line_and_status_69(binary, error):
    ended = finish(sys.executable, HERE / "deny_io_uring.py", error, binary, "--workers", "3")
    assert (ended.returncode, ended.stdout) == (69, "")
    assert_one_line(ended.stderr)
    assert "io_uring" in ended.stderr


@pytest.mark.parametrize(
    ("host", "reached_at"),
    [("::1", ["::1"]), ("127.0.0.1", ["127.0.0.1"]), ("::", ["::1", "127.0.0.1"])],
    ids=["IPv6", "IPv4", "both"],
)
def test_it_listens_on_the_address_that_it_is_given(start: Start, host, reached_at):
    server = start("--host", host)
    assert server.announcement == f"listening on [{host}]:{server.port}\n"
    for address in reached_at:
        with server.connect(address) as client:
            ask(client)
    server.stop()
