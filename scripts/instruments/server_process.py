"""A server under test: start it for one run, check its answer, and stop it with all that it started."""

import contextlib
import errno
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from common.processes import Process, describe_status, started
from instruments import sockets, supervisor

START_TIMEOUT_S = 10.0  # until it listens, if the config does not say
ANSWER_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 5.0  # ours end within 1 s
READY_POLL_S = 0.005
UNANNOUNCED = "it closed the connection without announcing it by 'Connection: close'"
EX_USAGE = 2  # it does not know an option
EX_UNAVAILABLE = 69  # sysexits.h: the machine refuses what the server needs
SERVED_AT_ONCE = 200  # connections of serve_each()
VERIFY_REQUESTS = 2  # on one connection, if the server keeps it
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST_REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
STATUS_LINE = re.compile(rb"HTTP/1\.[01] \d{3}(?: |\r\n|$)")
COUNTED = ("accepted", "requests")  # the least that a server's counts contain
LISTENING = re.compile(r"listening on \[.*\]:(\d+)\n")
EXTERNAL = (
    b"#!/bin/sh\n# a server that is not ours\n"  # the beginning of a launcher by prepare_external
)


class RunError(Exception):
    """A run that failed; the text is one line for the user."""


class WrongAnswer(RunError):
    """The server answers, but not as it must."""


class Unavailable(Exception):
    """The server cannot run on this machine, or does not know the workload; the text is its own reason."""


def supervised(command: Sequence[str]) -> contextlib.AbstractContextManager[Process]:
    """Start a command that may put processes into the background; afterwards none of them is left.

    The process is the command's supervisor. It passes SIGTERM on, and when all processes have ended it ends as the
    command did.
    """
    python = [sys.executable, "-IS", os.path.abspath(supervisor.__file__)]
    return started(
        [*python, str(os.getpid()), *command], lambda process: process.send_signal(supervisor.KILL)
    )


class Server:
    """A running server: a supervisor's process, and all processes that the supervisor has started and adopted."""

    def __init__(self, process: Process, command: list[str], port: int, is_external: bool) -> None:
        self.process = process
        self.command = command
        self.port = port
        self.is_external = is_external
        self.counts: list[dict[str, int]] = []
        self.is_stopped = False

    @property
    def pids(self) -> list[int]:
        """The living processes, parents before their children, without the supervisor."""
        return supervisor.descendants_of(self.process.pid)

    def check_running(self, within_s: float = 0) -> None:
        """Raises RunError if the server has ended, or ends within some time, but not by stop()."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(within_s)
        if self.process.poll() is not None and not self.is_stopped:
            raise RunError(f"the server ended during the run: {describe_end(self.process)}")

    def check_serving(self) -> None:
        """Raises RunError if other processes listen on its port: they could be neither measured nor ended."""
        listeners = sockets.listeners_on(self.port)
        pids = self.pids
        if not listeners or not sockets.are_of_others(listeners, pids):
            return
        raise RunError(
            f"{sockets.describe_holder(listeners)} listens on port {self.port} (@port), but the server's command did"
            " not start it, so its CPU time cannot be counted: start it without systemctl, docker and the like"
        )

    def ended_well(self) -> bool:
        """Whether it ended with status 0 or by SIGTERM. External servers may have another status: lighttpd ends with 1
        if a connection was left."""
        status = self.process.returncode
        return status in (0, -signal.SIGTERM) or (self.is_external and status > 0)

    def stop(self) -> None:
        """End it with SIGTERM and read its counts. Raises RunError if it had ended before or does not end.

        External servers may take longer, for example to wait for connections; they are killed after a while.
        """
        self.check_running()
        self.is_stopped = True
        self.process.terminate()
        try:
            output, error = self.process.communicate(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            if self.process.poll() is None:  # else this process was late, not the server
                if self.is_external:
                    return
                raise RunError(f"the server did not stop within {STOP_TIMEOUT_S:g} s") from None
            output, error = self.process.communicate()
        if not self.ended_well():
            how = describe_status(self.process.returncode, error)
            raise RunError(f"the server was stopped but ended badly: {how}")
        self.counts = parse_counts(output)


def parse_counts(output: str) -> list[dict[str, int]]:
    """The counts of each worker, from the JSON lines that the server printed at its end; other lines are ignored."""
    counts = []
    for line in output.splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            its = json.loads(line)
            if isinstance(its, dict) and all(type(its.get(name)) is int for name in COUNTED):
                counts.append({name: n for name, n in its.items() if type(n) is int})
    return counts


def describe_end(process: Process) -> str:
    """How a server ended that left no process behind, with what it said last."""
    assert process.stderr is not None
    return describe_status(process.returncode, process.stderr.read())


def _read_line(process: Process, deadline_s: float) -> str:
    """The first line of a process's output, or the part of it that came before the deadline or the process's end."""
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    line = b""
    watched = (
        select.poll()
    )  # select() takes no descriptor above 1023, and a side may have thousands of connections
    watched.register(descriptor, select.POLLIN)
    while not line.endswith(b"\n"):
        ready = watched.poll(1000 * max(0.0, deadline_s - time.monotonic()))
        byte = os.read(descriptor, 1) if ready else b""
        if not byte:
            break
        line += byte
    return line.decode(errors="replace")


def _wait_for_port(
    process: Process, timeout_s: float, is_external: bool, options: Sequence[str]
) -> int:
    """Wait until the server listens and return the port. Raises RunError, or Unavailable for status 69, and for status
    2 if it was given options of a workload."""
    deadline_s = time.monotonic() + timeout_s
    line = _read_line(process, deadline_s)
    if match := LISTENING.fullmatch(line):
        return int(match[1])
    if is_external and line.startswith("{"):
        return _wait_until_ready(process, json.loads(line), timeout_s, deadline_s)
    if not line:  # it has ended, or is about to
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(STOP_TIMEOUT_S, deadline_s - time.monotonic()))
    if process.poll() == EX_UNAVAILABLE:
        raise Unavailable(describe_end(process))
    if process.poll() == EX_USAGE and options:
        raise Unavailable(f"it does not take {options[0]}: {describe_end(process)}")
    if process.poll() is not None:
        raise RunError(f"the server did not start: {describe_end(process)}")
    raise RunError(
        f"within {timeout_s:g} s (start_timeout_s) the server printed {line!r}, not 'listening on [ADDRESS]:PORT'"
    )


def _last_line(path: str) -> str:
    with open(path, errors="replace") as file:
        lines = [line.strip() for line in file if line.strip()]
    return lines[-1] if lines else "it said nothing"


def _holds(path: str, text: str) -> bool:
    with open(path, errors="replace") as file:
        return any(text in line for line in file)


def _wait_until_ready(
    process: Process, launched: dict[str, Any], timeout_s: float, deadline_s: float
) -> int:
    """Wait until an external server listens, or says that it is ready, and return the port. launched: the line of
    external_launcher.py."""
    port, ready, output = launched["port"], launched["ready"], launched["output"]
    while True:
        # Before looking: if this process is late, that is not the server's fault.
        is_late = time.monotonic() > deadline_s
        has_ended = process.poll() is not None
        if has_ended:
            how = describe_status(process.returncode, "")
            raise RunError(f"the server did not start: {how} ({_last_line(output)})")
        if _holds(output, ready) if ready else sockets.listeners_on(port):
            return int(port)
        if is_late:
            listens = f"it did not listen on port {port} (@port)"
            what = f"its output did not contain {ready!r}" if ready else listens
            raise RunError(
                f"the server did not start: within {timeout_s:g} s (start_timeout_s) {what}: {_last_line(output)}"
            )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(READY_POLL_S)


def is_external(binary: str) -> bool:
    with open(binary, "rb") as file:
        return file.read(len(EXTERNAL)) == EXTERNAL


@contextlib.contextmanager
def running_server(
    binary: str,
    *,
    host: str,
    interface: str | None,
    workers: int,
    prefix: Sequence[str],
    options: Sequence[str] = (),
    start_timeout_s: float = START_TIMEOUT_S,
) -> Iterator[Server]:
    """Start a server on a port that the kernel chooses; afterwards no process of it is left.

    interface: of a link-local address; prefix: words before the command, for example to choose CPUs; options: of a
    workload. Raises RunError, or Unavailable if it says so or does not know the options.
    """
    command = [*prefix, os.path.abspath(binary), "--host", host, "--port", "0"]
    command += ["--workers", str(workers), *(["--interface", interface] if interface else [])]
    command += options
    external = is_external(binary)
    with supervised(command) as process:
        server = Server(
            process, command, _wait_for_port(process, start_timeout_s, external, options), external
        )
        if external:
            server.check_serving()
        yield server


# --- Its answers ---


class Answer(NamedTuple):
    """A complete response as received."""

    head: bytes
    body: bytes  # without chunk framing

    @property
    def headers(self) -> dict[bytes, list[bytes]]:
        """Values by name in lower case."""
        headers: dict[bytes, list[bytes]] = {}
        for line in self.head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            headers.setdefault(name.strip().lower(), []).append(value.strip())
        return headers

    def tokens(self, name: bytes) -> list[bytes]:
        """The elements of a header that holds a list."""
        values = b",".join(self.headers.get(name, [])).lower()
        return [token.strip() for token in values.split(b",")]

    @property
    def is_chunked(self) -> bool:
        return self.tokens(b"transfer-encoding")[-1] == b"chunked"

    @property
    def ends_with_connection(self) -> bool:
        """Whether only the connection's end marks its end (RFC 9112, 6.3)."""
        return not self.is_chunked and b"content-length" not in self.headers

    @property
    def closes(self) -> bool:
        """Whether it announces that its connection ends with it (RFC 9112, 9.3)."""
        options = self.tokens(b"connection")
        is_old = self.head.startswith(b"HTTP/1.0") and b"keep-alive" not in options
        return b"close" in options or is_old or self.ends_with_connection


def _unchunk(data: bytes) -> bytes | None:
    """The content of a chunked body; None if its end has not arrived yet."""
    content = b""
    while True:
        size, separator, rest = data.partition(b"\r\n")
        if not separator:
            return None
        try:
            length = int(size.partition(b";")[0], 16)
        except ValueError:
            raise WrongAnswer(f"its chunked body is broken at {data[:40]!r}") from None
        if length == 0:
            return content if b"\r\n\r\n" in b"\r\n" + rest else None
        if len(rest) < length + 2:
            return None
        content, data = content + rest[:length], rest[length + 2 :]


def parse_answer(data: bytes, has_ended: bool = False) -> Answer | None:
    """One response; None if it is not complete yet. has_ended: whether its connection has."""
    head, separator, body = data.partition(b"\r\n\r\n")
    answer = Answer(head, body)
    if not separator:
        return None
    if not STATUS_LINE.match(head):
        raise WrongAnswer(f"it begins with {head[:80]!r}, which is not a status line")
    if answer.is_chunked:
        content = _unchunk(body)
        return None if content is None else Answer(head, content)
    if answer.ends_with_connection:
        return answer if has_ended else None
    length = answer.headers[b"content-length"][0]
    if not length.isdigit():
        raise WrongAnswer(f"its Content-Length is {length!r}")
    return answer if len(body) >= int(length) else None


def _receive_answer(connection: socket.socket) -> tuple[bytes, Answer]:
    """A response as received, and parsed."""
    data = b""
    while True:
        try:
            chunk = connection.recv(65536)
        except TimeoutError:
            if b"\r\n\r\n" in data and Answer(*data.split(b"\r\n\r\n", 1)).ends_with_connection:
                raise WrongAnswer(
                    "it has no Content-Length and is not chunked, so it ends with the connection, which stays open"
                ) from None
            raise
        data += chunk
        answer = parse_answer(data, has_ended=not chunk)
        if answer:
            return data, answer
        if not chunk:
            raise WrongAnswer(f"it closed the connection after {data!r}" if data else UNANNOUNCED)


def closes_connection(response: bytes) -> bool:
    """Whether a response announces that its connection ends with it."""
    return Answer(*response.split(b"\r\n\r\n", 1)).closes


def is_same_answer(one: bytes, other: bytes) -> bool:
    """Whether both have the same status and body; headers may differ, since some count or have the time."""
    answers = [parse_answer(data, has_ended=True) for data in (one, other)]
    essences = [answer and (answer.head.split()[1], answer.body) for answer in answers]
    return essences[0] == essences[1]


def _check_closed(connection: socket.socket) -> None:
    try:
        if connection.recv(1) == b"":
            return
    except TimeoutError:
        pass
    raise WrongAnswer("it announces 'Connection: close' but does not close")


def _ask(host: str, port: int, request: bytes, timeout_s: float) -> list[tuple[bytes, Answer]]:
    """VERIFY_REQUESTS answers on one connection, or on one connection each if the server announces that it closes."""
    answers: list[tuple[bytes, Answer]] = []
    while len(answers) < VERIFY_REQUESTS:
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            while len(answers) < VERIFY_REQUESTS:
                try:
                    connection.sendall(request)
                    answers.append(_receive_answer(connection))
                except ConnectionError:
                    if answers:
                        raise WrongAnswer(UNANNOUNCED) from None
                    raise
                if answers[-1][1].closes:
                    _check_closed(connection)
                    break
    return answers


class Verified(NamedTuple):
    response: bytes  # as received, but with the values of varying headers masked
    varying: list[str]  # headers that differ from answer to answer, and may change its size


def verify(
    host: str,
    port: int,
    body: bytes,
    *,
    is_last: bool = False,
    timeout_s: float = ANSWER_TIMEOUT_S,
) -> Verified:
    """Ask VERIFY_REQUESTS times and return the response, which must be correct and complete and have this body.

    is_last: whether each request asks for the end of its connection.

    Raises WrongAnswer with what is wrong, or RunError if there is no answer.
    """
    try:
        (raw, first), (_, second) = _ask(
            host, port, LAST_REQUEST if is_last else REQUEST, timeout_s
        )
    except OSError as error:
        raise RunError(f"the server does not answer: {error}") from None
    except WrongAnswer as error:
        raise WrongAnswer(f"the server's answer is wrong: {error}") from None
    if not first.head.startswith((b"HTTP/1.1 200 ", b"HTTP/1.0 200 ")):
        raise WrongAnswer(f"the server's answer is not a 200: {first.head[:80]!r}")
    if first.body != body:
        wanted = f"{len(body)} bytes that end in {body[-13:]!r}" if len(body) > 80 else repr(body)
        raise WrongAnswer(
            f"the server's body is not {wanted}: {len(first.body)} bytes, {first.body[-80:]!r}"
        )
    if first.ends_with_connection:
        raise WrongAnswer(
            "the server's answer has no Content-Length and is not chunked, so it ends with its connection: wrk counts"
            " each such answer as an error"
        )
    if second.head.split()[1] != b"200" or second.body != body:
        excerpt = second.head.split(b"\r\n")[0] + b" ... " + second.body[-80:]
        raise WrongAnswer(f"the server's second answer differs: {excerpt!r}")
    of_first, of_second = first.headers, second.headers
    names = [name for name in of_first | of_second if of_first.get(name) != of_second.get(name)]
    head = first.head
    for name in {*names, b"date"}:
        line = re.compile(rb"(?im)^(" + re.escape(name) + rb":[ \t]*)([^\r\n]*)")
        head = line.sub(lambda match: match[1] + b"*" * len(match[2]), head)
    varying = sorted(name.decode("latin-1") for name in names if name != b"date")
    return Verified(head + raw[len(head) :], varying)


def connect_from(
    local_ports: Iterator[int], family: int, address: Any, timeout_s: float
) -> socket.socket:
    """A connection from the first of these ports that is free; each is tried once. Raises OSError."""
    for local_port in local_ports:
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout_s)
            # An earlier connection may hold the port in TIME_WAIT: it was mostly to another port of the server.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            connection.bind(("", local_port))
            connection.connect(address)
        except OSError as error:
            connection.close()
            if error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
                raise
        else:
            return connection
    raise OSError("there is no free port")


def serve_each(
    host: str, port: int, count: int, timeout_s: float, local_ports: Iterable[int]
) -> Iterator[socket.socket]:
    """Connections on each of which the server has answered one request, in the order of their requests.

    Several requests are under way at once, so that server and client do not wait for each other on every one.
    local_ports: of the connections, ascending; those that others use are left out. Raises WrongAnswer or OSError if one
    gets no answer.
    """
    ((family, _, _, _, address), *_) = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    ports = iter(local_ports)
    with contextlib.ExitStack() as unserved:
        for first in range(0, count, SERVED_AT_ONCE):
            batch = []
            for _ in range(min(SERVED_AT_ONCE, count - first)):
                connection = connect_from(ports, family, address, timeout_s)
                batch.append(unserved.enter_context(connection))
                connection.sendall(REQUEST)
            for connection in batch:
                _receive_answer(connection)
                yield connection
            unserved.pop_all()


def requests_until_close(host: str, port: int, most: int, within_s: float) -> int | None:
    """The number of the answer that announces the connection's end; None if none does."""
    deadline_s = time.monotonic() + within_s
    with (
        contextlib.suppress(OSError, WrongAnswer),
        socket.create_connection((host, port), timeout=ANSWER_TIMEOUT_S) as connection,
    ):
        for number in range(1, most + 1):
            connection.sendall(REQUEST)
            if _receive_answer(connection)[1].closes:
                return number
            if time.monotonic() > deadline_s:
                break
    return None
