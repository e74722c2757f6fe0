"""What the kernel tells of connections: while they live, and when they are gone."""

import os
import socket
import struct
import threading

import pytest

from instruments import sockets
from instruments.sockets import (
    Closed,
    ClosedConnections,
    fairness_jain,
    parse_bytes_sent,
    parse_closed,
)

pytestmark = pytest.mark.alone


def test_fairness() -> None:
    assert fairness_jain([5, 5, 5, 5]) == 1
    assert fairness_jain([7, 0, 0, 0]) == 0.25
    assert fairness_jain([0, 0]) == 0


def test_bytes_sent_of_each_connection() -> None:
    text = (
        "0 0 [::1]:8080 [::1]:40000  cubic wscale:7,7 rto:200 cwnd:10 bytes_sent:1560 bytes_acked:1560\n"
        "45 0 [::1]:8080 [::1]:40001  cubic wscale:7,7 rto:200 cwnd:10 bytes_received:45\n"
    )
    text += "0 0 [::1]:8080 [::1]:40002  cubic rto:200 cwnd:10 bytes_sent:1560 bytes_retrans:500\n"
    assert parse_bytes_sent(text.splitlines()) == [1560, 0, 1060]


def test_ss_without_tcp_info_does_not_pass_for_nothing_sent() -> None:
    with pytest.raises(OSError, match="tcp_diag"):
        parse_bytes_sent(["0 0 [::1]:8080 [::1]:40000"])


def test_kernel_that_does_not_count_bytes_does_not_pass_for_nothing_sent() -> None:
    line = "0 0 [::1]:8080 [::1]:40000 cubic cwnd:10 bytes_acked:{} bytes_received:45"
    assert parse_bytes_sent([line.format(1)]) == [0]
    with pytest.raises(OSError, match=r"Linux 4\.19"):
        parse_bytes_sent([line.format(1561)])


def message(info: bytes) -> bytes:
    """A netlink message of a socket on port 8080 whose peer's is 40000: another attribute, and `info`."""
    diag = struct.pack("!BBBBHH", 10, 7, 0, 0, 8080, 40000).ljust(72, b"\0")
    attributes = struct.pack("=HHB3x", 5, 8, 0) + struct.pack("=HH", 4 + len(info), 2) + info
    return struct.pack("=IHHII", 16 + 72 + len(attributes), 20, 0, 0, 0) + diag + attributes


def test_message_about_a_closed_socket() -> None:
    """What was sent again counts once: large answers to a client that is late are."""
    for again in (0, 500):
        info = bytes(200) + struct.pack("=QQ", 1560, again) + bytes(22)
        found = Closed(port=8080, peer_port=40000, bytes_sent=1560 - again)
        assert parse_closed(message(info)) == found


@pytest.mark.parametrize("text", [message(bytes(104)), message(b"")[:-4], b"", bytes(40)])
def test_message_without_the_count_is_not_taken_for_nothing_sent(text: bytes) -> None:
    assert parse_closed(text) is None


def exchange(listener: socket.socket, size: int) -> None:
    """A connection on which the listener's side sends so many bytes, opened and closed."""
    with socket.create_connection(listener.getsockname()[:2]) as client:
        server, _ = listener.accept()
        with server:
            server.sendall(bytes(size))
            client.recv(size, socket.MSG_WAITALL)


def test_kernel_counts_every_byte_of_every_connection_of_the_server() -> None:
    with ClosedConnections() as closed:
        with (
            socket.create_server(("::1", 0), family=socket.AF_INET6) as listener,
            socket.create_server(("::1", 0), family=socket.AF_INET6) as other,
        ):
            port = listener.getsockname()[1]
            for size in (3, 5000, 70):
                exchange(listener, size)
            exchange(other, 11)
        connections = closed.take(port, 3)
        assert connections is not None
        # Those that closed first wait for a minute; the kernel tells of them all the same.
        assert sorted(connection.bytes_sent for connection in connections) == [3, 70, 5000]
        assert closed.take(port, 0) == []


def test_fewer_connections_than_there_were_are_not_taken_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sockets, "REPORT_TIMEOUT_S", 0.05)
    with ClosedConnections() as closed:
        assert closed.take(1, 1) is None
        assert closed.take(1, 0) == []


def test_missed_messages_are_not_taken_for_no_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    with ClosedConnections() as closed:
        monkeypatch.setattr(closed, "_overrun", True)
        assert closed.take(1, 0) is None
        assert closed.take(1, 0) == []


def test_a_subscription_that_was_ended_tells_nothing() -> None:
    with ClosedConnections() as closed:
        closed.end()
        assert closed.take(1, 0) is None


def test_kernel_counts_accepted_connections() -> None:
    before = sockets.accepted_connections()
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        for _ in range(3):
            exchange(listener, 1)
    assert sockets.accepted_connections() - before >= 3


@pytest.mark.parametrize("end_early", [False, True])
def test_nothing_is_left_of_a_subscription(end_early: bool) -> None:
    before = (len(os.listdir("/proc/self/fd")), threading.active_count())
    with ClosedConnections() as closed:
        assert threading.active_count() == before[1] + 1
        if end_early:
            closed.end()
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before
