"""Read what the kernel knows about a server's connections, which the load generator cannot see."""

import contextlib
import errno
import os
import re
import select
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Collection, Sequence
from typing import NamedTuple

from hosts import proc

_TCP_LISTEN = "0A"  # include/net/tcp_states.h


def _ss(options: str, port: int, *states: str, end: str = "sport", others: str = "") -> list[str]:
    """Lines of `ss`, one for each socket with this port at this end, in one of the states: by default the server's.

    others: a condition for the port at the other end. Raises OSError if ss fails.
    """
    command = ["ss", options, *(word for state in states for word in ("state", state))]
    command.append(f"{end} = :{port}{others}")
    try:
        run = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace")
    except FileNotFoundError:
        raise OSError("ss is not installed, see make setup") from None
    if run.returncode != 0:
        raise OSError(f"ss failed: {' '.join(run.stderr.split())}")
    return [line for line in run.stdout.splitlines() if line.strip()]


def parse_bytes_sent(lines: Sequence[str]) -> list[int]:
    """Bytes sent on each connection, each once, from lines of `ss -i`: one that sent none has no such field.

    Raises OSError if the kernel gives no details of connections, which must not look like nothing sent.
    """
    if not all("cwnd:" in line for line in lines):
        raise OSError("ss has no details about connections: is the kernel's tcp_diag missing?")
    # The connection's SYN counts as one acknowledged byte: only more than one was sent.
    if any(" bytes_sent:" not in line and _field_of(line, "bytes_acked") > 1 for line in lines):
        raise OSError(
            "the kernel does not count the bytes of connections: Linux 4.19 or newer does"
        )
    return [_field_of(line, "bytes_sent") - _field_of(line, "bytes_retrans") for line in lines]


def _field_of(line: str, name: str) -> int:
    """A number from a line of `ss -i`; 0 if it is not there. Regular expressions take 3 × as long, per connection."""
    return int(line.partition(f" {name}:")[2].partition(" ")[0] or 0)


def _but(ports: range) -> str:
    """A condition of _ss(): the port at the other end is none of these."""
    return f" and ( dport lt :{ports.start} or dport ge :{ports.stop} )" if ports else ""


def read_bytes_sent_by_peer(port: int, idle: range = range(0)) -> dict[str, int]:
    """Peer's address and port → bytes that the server on this port has sent on this established connection.

    Connections that wait to be accepted are included: the client sees them as connected. Those from the idle ports are
    not: to list so many takes longer than a slice.
    """
    lines = _ss("-tinHO", port, "established", others=_but(idle))
    return dict(zip((line.split()[3] for line in lines), parse_bytes_sent(lines), strict=True))


def listeners_on(port: int) -> set[str]:
    """Listening sockets of this network namespace, as /proc/PID/fd names them.

    They come from the kernel's list, since the server would count a connection made to find out.
    """
    listeners: set[str] = set()
    pattern = rf"^ *\d+: \S+:{port:04X} \S+ {_TCP_LISTEN} (?:\S+ +){{5}}(\d+)"
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/self/net/{table}") as file:
            listeners |= {f"socket:[{inode}]" for inode in re.findall(pattern, file.read(), re.M)}
    return listeners


def _opened_by(pid: int | str) -> set[str]:
    """The files that a process has open. Raises OSError if it has ended or belongs to another user."""
    folder = f"/proc/{pid}/fd"
    opened = set()
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            opened.add(os.readlink(f"{folder}/{name}"))
    return opened


def are_of_others(listeners: set[str], pids: Sequence[int]) -> bool:
    """Whether none of these processes has one of the sockets; false if it cannot be known."""
    for pid in pids:
        try:
            if listeners & _opened_by(pid):
                return False
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            continue
        except OSError:
            return False
    return True


def describe_holder(listeners: set[str]) -> str:
    """The process that has one of the sockets, as far as this user may see it."""
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if listeners & _opened_by(pid):
                with open(f"/proc/{pid}/comm") as file:
                    return f"process {pid} ({file.read().strip()})"
    return "another process"


def count_established(port: int, peers: range) -> int:
    """Established connections of the server on this port from these ports."""
    block = f" and dport ge :{peers.start} and dport lt :{peers.stop}"
    return len(_ss("-tnHO", port, "established", others=block))


def first_port_of_block(size: int) -> int:
    """Where a block of so many ports begins, if possible below those that the kernel chooses from."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
        lowest = int(file.read().split()[0])
    below = lowest - size
    return below if below > proc.LAST_SYSTEM_PORT else proc.HIGHEST_PORT + 1 - size


def wait_until_closed(port: int, timeout_s: float, idle: range = range(0)) -> int:
    """Wait until the server has closed the connections of clients that have ended; return how many are left. idle: the
    ports of clients that go on."""
    deadline_s = time.monotonic() + timeout_s
    while left := len(_ss("-tnHO", port, "established", "close-wait", others=_but(idle))):
        if time.monotonic() > deadline_s:
            break
        time.sleep(0.01)
    return left


def accepted_connections() -> int:
    """TCP connections made so far to any listener of this network namespace (PassiveOpens)."""
    with open("/proc/net/snmp", encoding="ascii") as file:
        names, values = (line.split() for line in file if line.startswith("Tcp:"))
    return int(values[names.index("PassiveOpens")])


def time_wait() -> tuple[int, int]:
    """Sockets of this network namespace in TIME_WAIT, and how many of them the kernel keeps."""
    with (
        open("/proc/net/sockstat", encoding="ascii") as file,
        open("/proc/sys/net/ipv4/tcp_max_tw_buckets", encoding="ascii") as limit,
    ):
        (words,) = (line.split() for line in file if line.startswith("TCP:"))
        return int(words[words.index("tw") + 1]), int(limit.read())


def waiting_ports(port: int) -> tuple[int, int]:
    """Ports of this side that a closed connection to a server's port still holds, and ports that it has for all.

    Raises OSError if ss fails.
    """
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
        first, last = map(int, file.read().split())
    return len(_ss("-tnHO", port, "time-wait", end="dport")), last - first + 1


class Closed(NamedTuple):
    """A TCP socket that the kernel has destroyed, with its final count."""

    port: int  # the local one
    peer_port: int  # 0: a listener
    bytes_sent: int  # each once, though the kernel sends some again


# linux/sock_diag.h, linux/inet_diag.h, linux/tcp.h
_NETLINK_SOCK_DIAG = 4
_TCP_DESTROY_GROUPS = 1 << 0 | 1 << 2  # IPv4 and IPv6
_SO_RCVBUFFORCE = 33
_NLMSG_HEADER_SIZE, _INET_DIAG_MSG_SIZE = 16, 72
_INET_DIAG_INFO = 2
REPORT_TIMEOUT_S = 3.0
SETTLE_S = 0.05
HAS_MORE_TIMEOUT_S = 0.2
_BYTES_SENT_AT = 200  # in struct tcp_info, since Linux 4.19; then those that were sent again


def parse_closed(message: bytes) -> Closed | None:
    """A netlink message about a destroyed socket, headers included; None if it lacks struct tcp_info."""
    if len(message) < _NLMSG_HEADER_SIZE + _INET_DIAG_MSG_SIZE:
        return None
    port, peer_port = struct.unpack_from("!HH", message, _NLMSG_HEADER_SIZE + 4)
    at = _NLMSG_HEADER_SIZE + _INET_DIAG_MSG_SIZE
    while at + 4 <= len(message):
        size, kind = struct.unpack_from("=HH", message, at)
        if kind == _INET_DIAG_INFO and size >= 4 + _BYTES_SENT_AT + 16:
            sent, again = struct.unpack_from("=QQ", message, at + 4 + _BYTES_SENT_AT)
            return Closed(port, peer_port, sent - again)
        at += max(4, (size + 3) & ~3)
    return None


class ClosedConnections:
    """The kernel's counts of each connection, which it reports when the connection closes (sock_diag multicast, as
    `ss -E`).

    The counts are exact to the byte and cost nothing while a load runs. A context manager; raises OSError if the kernel
    has no such multicast.
    """

    RECEIVE_BUFFER_BYTES = 16 << 20

    def __init__(self) -> None:
        self._stop = os.eventfd(0)
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kind, _NETLINK_SOCK_DIAG)
        self._messages: list[bytes] = []
        self._overrun = False
        self._ended = False
        # A thread reads at once: thousands of sockets that close together would overrun the buffer.
        self._thread = threading.Thread(target=self._receive)

    def __enter__(self) -> "ClosedConnections":
        with contextlib.suppress(
            PermissionError
        ):  # then the buffer is as large as the kernel likes
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, self.RECEIVE_BUFFER_BYTES)
        self._socket.bind((0, _TCP_DESTROY_GROUPS))
        try:
            self._thread.start()
        except RuntimeError as error:  # a limit of memory or of processes
            raise OSError(str(error)) from None
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        os.close(self._stop)

    def end(self) -> None:
        """Stop receiving; take() returns None from now on."""
        self._ended = True
        os.eventfd_write(self._stop, 1)
        if self._thread.ident is not None:
            self._thread.join()
        self._socket.close()

    def _receive(self) -> None:
        watched = select.poll()
        for descriptor in (self._socket.fileno(), self._stop):
            watched.register(descriptor, select.POLLIN)
        try:
            while all(descriptor != self._stop for descriptor, _ in watched.poll()):
                self._drain()
        except OSError:
            self._overrun = True

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    self._messages.append(self._socket.recv(8192))
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    self._overrun = True

    def _of(self, port: int) -> list[Closed]:
        reports = [parse_closed(message) for message in self._messages]
        return [one for one in reports if one and one.port == port and one.peer_port]

    def has_more_than(self, number: int, port: int) -> bool:
        """Whether more than so many connections of the server on this port have closed since the last take()."""
        deadline_s = time.monotonic() + HAS_MORE_TIMEOUT_S
        while not self._ended and len(self._of(port)) <= number:
            if time.monotonic() > deadline_s:
                return False
            time.sleep(0.005)
        return not self._ended

    def take(
        self, port: int, expected: int, ignored: Collection[int] = frozenset()
    ) -> list[Closed] | None:
        """Connections of the server on this port that have closed since the last call, without those of the `ignored`
        ports of clients; None if some were missed.

        The kernel reports them a little later. This waits for the expected number; if there are more, until no more
        come; but no longer than REPORT_TIMEOUT_S.
        """
        if self._ended:
            return None
        deadline_s = time.monotonic() + REPORT_TIMEOUT_S
        reports: list[Closed | None] = []
        while True:
            known = len(reports)
            reports += [parse_closed(message) for message in self._messages[known:]]
            closed = [
                one
                for one in reports
                if one and one.port == port and one.peer_port and one.peer_port not in ignored
            ]
            if self._overrun or time.monotonic() > deadline_s or len(closed) == expected:
                break
            # There are more than expected: wait until no more come.
            if len(closed) > expected and len(reports) == known:
                break
            time.sleep(SETTLE_S if len(closed) > expected else 0.005)
        missed = self._overrun or None in reports or len(closed) < expected
        del self._messages[: len(reports)]
        self._overrun = False
        return None if missed else closed


def fairness_jain(shares: Sequence[float]) -> float:
    """Jain's index over shares: 1 if all are equal, 1/n if one of n has everything, 0 if there is nothing to share.

    Jain, Chiu, Hawe: A quantitative measure of fairness (DEC-TR-301, 1984).
    """
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 0.0
