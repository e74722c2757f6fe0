"""What the tests of the servers share: compiling a server, running it, and clients that check every byte."""

import contextlib
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from helpers.checkouts import eventually
from workflow.toolchain import LANGUAGE_FLAGS, LIBRARIES

HERE = Path(__file__).parents[1] / "servers"
SOURCES = HERE.parents[1] / "servers"
# Servers that break the contract on purpose. They have their own tests.
EXHIBITS = ["server_thread_50", "server_uring_naive"]
# The steps of the io_uring ladder share one loop, and have their own tests, too (test_uring_ladder.py).
STEP = "server_uring_one_by_one"
SOURCE_OF = {path.stem: path.read_text() for path in SOURCES.glob("server*.c")}
LADDER = sorted({STEP} | {name for name in SOURCE_OF if f'"{STEP}.c"' in SOURCE_OF[name]})
SERVERS = sorted(SOURCE_OF.keys() - {*EXHIBITS, *LADDER})
MULTITASK = [name for name in SERVERS if name.endswith("_multitask")]
# What the tests know about single models. All else is the contract that all servers share.
SEVERAL_PROCESSES = [*MULTITASK, "server_epoll_exclusive", "server_prefork"]
AT_ONCE = {"server": 1, "server_prefork": 64}  # connections; others wait until one of these closes
LIMITED_TO_FD_SETSIZE = "server_select"

COMPILE = ["gcc", *LANGUAGE_FLAGS, "-g", "-fno-omit-frame-pointer"]
COMPILE += ["-Wall", "-Wextra", "-Werror"]  # our code must compile without warnings
LINK = LIBRARIES
OPTIMIZED = ["-O2"]
SANITIZED = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]

TIMEOUT_S = 20  # for anything that should happen at once; generous, since the machine may be busy
GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
GET_AND_CLOSE = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: test\r\n"  # fields and an empty line must follow
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
COUNTS = {
    "accepted": 0,
    "requests": 0,
    "resets": 0,
    "empty_requests": 0,
    "bad_requests": 0,
    "refused_connections": 0,
}


def response(field: bytes = b"", has_body: bool = True, size: int = 13) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n" % size
    body = (b"Hello, World!" * (size // 13 + 1))[:size] if has_body else b""
    return head + field + b"\r\n" + body


RESPONSE = response()
RESPONSE_AND_CLOSE = response(b"Connection: close\r\n")


def refusal(status: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


def compile_c(source: Path, binary: Path, flags: Sequence[str], link: Sequence[str] = ()) -> Path:
    command = [*COMPILE, *flags, f"-I{SOURCES}", str(source), "-o", str(binary), *link]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return binary


def compile_all(
    names: Sequence[str], folder: Path, flags: Sequence[str], link: Sequence[str] = LINK
) -> Iterator[Callable[[str], Path]]:
    """Compile servers in the background; yields what gives the binary of one."""
    with ThreadPoolExecutor(2) as pool:
        compiled = {
            name: pool.submit(compile_c, SOURCES / f"{name}.c", folder / name, flags, link)
            for name in names
        }
        yield lambda name: compiled[name].result()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    assert eventually(condition, TIMEOUT_S), f"waited {TIMEOUT_S} s for: {what}"


def is_running(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    return False


class Server:
    """A running server. `command` may start with a launcher that ends in exec."""

    def __init__(self, command: Sequence[str | Path]) -> None:
        self.command = command
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], TIMEOUT_S)
        self.announcement = self.process.stdout.readline() if readable else ""
        self.workers: list[int] = []
        found = re.fullmatch(r"listening on \[(.*)\]:(\d+)\n", self.announcement)
        if found is None:
            self.kill()
        assert found is not None, self.announcement
        self.port = int(found[2])
        self.workers = [child.pid for child in psutil.Process(self.process.pid).children()]
        # The processes that serve: the workers, or the only process.
        self.serving = self.workers or [self.process.pid]

    def connect(self, host: str = "::1", receive_buffer: int | None = None) -> socket.socket:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        client = socket.socket(family, socket.SOCK_STREAM)
        client.settimeout(TIMEOUT_S)
        if receive_buffer is not None:
            # Small segments too, or the kernel gives the server megabytes of send buffer.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.connect((host, self.port))
        return client

    def descriptors(self) -> list[str]:
        """What the descriptors of the serving processes refer to."""
        found = []
        for pid in self.serving:
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):  # closed by now
                    found.append(os.readlink(descriptor))
        return found

    def connections(self) -> int:
        """How many connections are open: all sockets, less one listener per process."""
        sockets = [target for target in self.descriptors() if target.startswith("socket:")]
        return len(sockets) - len(self.serving)

    def wait_until_all_closed(self) -> None:
        """Afterwards the counts contain everything that happened before."""
        wait_until(lambda: self.connections() == 0, "all connections closed")

    def cpu_s(self) -> float:
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in self.serving)

    def memory_bytes(self) -> int:
        """Resident memory of the serving processes."""
        return sum(psutil.Process(pid).memory_info().rss for pid in self.serving)

    def stop(self, signal_number: int = signal.SIGTERM, within_s: float = TIMEOUT_S) -> list[dict]:
        """Ask it to end, check that it ends well, and return the counts that it printed: one dict per worker."""
        self.process.send_signal(signal_number)
        output, errors = self.process.communicate(timeout=within_s)
        assert errors == ""
        assert self.process.returncode == 0
        return [json.loads(line) for line in output.splitlines()]

    def stop_and_sum(self) -> dict[str, int]:
        """Stop it, and return the sum of the counts of its processes."""
        counts = self.stop()
        return {key: sum(its[key] for its in counts) for key in COUNTS}

    def kill(self) -> None:
        """Kill what still runs, and show what it printed to standard error."""
        self.process.kill()
        for pid in filter(is_running, self.workers):
            os.kill(pid, signal.SIGKILL)
        _, errors = self.process.communicate(timeout=TIMEOUT_S)
        print(errors, end="", file=sys.stderr)


@contextlib.contextmanager
def running(command: Sequence[str | Path]) -> Iterator[Server]:
    server = Server(command)
    try:
        yield server
    finally:
        server.kill()


def receive(client: socket.socket, size: int) -> bytes:
    """`size` bytes, or fewer if the server ends the connection first."""
    parts = []
    while size > 0 and (part := client.recv(min(size, 1 << 16))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def receive_all(client: socket.socket) -> bytes:
    """Everything until the server ends the connection."""
    return receive(client, 1 << 40)


def ask(client: socket.socket, request: bytes = GET) -> None:
    """Send a request, or the rest of one, and check the answer."""
    client.sendall(request)
    assert receive(client, len(RESPONSE)) == RESPONSE


def is_answered(client: socket.socket) -> bool:
    """Whether the server answers a request. Otherwise it closes or resets the connection."""
    try:
        client.sendall(GET)
        answer = receive(client, len(RESPONSE))
    except (ConnectionResetError, BrokenPipeError):
        return False
    assert answer in (RESPONSE, b"")
    return answer == RESPONSE


def send_in_pieces(client: socket.socket, pieces: Sequence[bytes], pause_s: float = 0.001) -> None:
    for piece in pieces:
        client.sendall(piece)
        time.sleep(pause_s)  # so that the server receives the pieces one by one


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
