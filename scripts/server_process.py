"""A server under test: started for one run, checked before it, stopped with all that it started."""

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence

import machine
from processes import Process, describe_status, kill_group, running

STARTUP_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 2.0
EX_UNAVAILABLE = 69  # sysexits.h: the machine refuses what the server needs
BODY = b"Hello, World!"
VERIFY_REQUESTS = 2  # on one connection, if the server keeps it
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
LISTENING = re.compile(r"listening on \[.*\]:(\d+)\n")
EXTERNAL = b"#!/bin/sh\n# a server that is not ours\n"  # so begins the launcher that prepare_external makes
DATE = re.compile(rb"(?im)^(date:[ \t]*)([^\r\n]*)")


class RunError(Exception):
    """A run that failed; the text is one line for the user."""


class WrongAnswer(RunError):
    """The server answers, but not as it must."""


class Unavailable(Exception):
    """The server cannot run on this machine; the text is its own reason."""


class Server:
    """A running server process, which may have workers of its own."""

    def __init__(self, process: Process, command: list[str], port: int, is_external: bool) -> None:
        self.process = process
        self.command = command
        self.port = port
        self.is_external = is_external
        self.counts: list[dict[str, int]] = []

    @property
    def pids(self) -> list[int]:
        return machine.processes_of(self.process.pid)

    def check_running(self) -> None:
        """RunError if it has ended."""
        if self.process.poll() is not None:
            raise RunError(f"the server ended during the run: {describe_end(self.process)}")

    def ended_well(self) -> bool:
        """With status 0 or by SIGTERM, others also with a status: lighttpd's is 1 if a connection was left."""
        status = self.process.returncode
        return status in (0, -signal.SIGTERM) or (self.is_external and status > 0)

    def stop(self) -> None:
        """End it with SIGTERM and read its counts; RunError if it had ended before or does not end."""
        self.check_running()
        self.process.terminate()
        try:
            output, error = self.process.communicate(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise RunError(f"the server did not stop within {STOP_TIMEOUT_S:g} s") from None
        if not self.ended_well():
            how = describe_status(self.process.returncode, error)
            raise RunError(f"the server was stopped but ended badly: {how}")
        self.counts = parse_counts(output)


def parse_counts(output: str) -> list[dict[str, int]]:
    """The counts of each worker: the JSON lines of what the server printed at its end."""
    try:
        return [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    except ValueError:
        raise RunError(f"the server's counts are no JSON: {output[:160]!r}") from None


def describe_end(process: Process) -> str:
    """How a process that has ended did so, with its last words."""
    kill_group(process)  # or a child that it left would keep standard error open
    assert process.stderr is not None
    return describe_status(process.returncode, process.stderr.read())


def _read_line(process: Process, timeout_s: float) -> str:
    """The first line of a process's output; what there is of it after the timeout or the process's end."""
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    deadline = time.monotonic() + timeout_s
    line = b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        byte = os.read(descriptor, 1) if ready else b""
        if not byte:
            break
        line += byte
    return line.decode(errors="replace")


def _wait_for_port(process: Process) -> int:
    line = _read_line(process, STARTUP_TIMEOUT_S)
    match = LISTENING.fullmatch(line)
    if match:
        return int(match[1])
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=0.2)
    if process.poll() == EX_UNAVAILABLE:
        raise Unavailable(describe_end(process))
    if process.poll() is not None:
        raise RunError(f"the server did not start: {describe_end(process)}")
    raise RunError(
        f"the server said {line!r} within {STARTUP_TIMEOUT_S:g} s, not 'listening on [ADDRESS]:PORT'"
    )


def is_external(binary: str) -> bool:
    with open(binary, "rb") as file:
        return file.read(len(EXTERNAL)) == EXTERNAL


@contextlib.contextmanager
def running_server(
    binary: str, *, host: str, interface: str | None, workers: int, prefix: Sequence[str]
) -> Iterator[Server]:
    """Start a server on a port that the kernel chooses; nothing of it is left afterwards.

    `interface`: of a link-local address. `prefix` is put before the command (CPUs, say).
    Raises RunError, or Unavailable for status 69.
    """
    command = [*prefix, os.path.abspath(binary), "--host", host, "--port", "0"]
    command += ["--workers", str(workers), *(["--interface", interface] if interface else [])]
    external = is_external(binary)
    with running(command) as process:
        yield Server(process, command, _wait_for_port(process), external)


def _receive_response(connection: socket.socket) -> bytes:
    """One response with a Content-Length, as it came, but with the Date masked: it changes every second."""
    data = b""
    while True:
        head, separator, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?im)^content-length:[ \t]*(\d+)[ \t]*\r?$", head)
        if separator and not length:
            raise WrongAnswer(f"its response has no Content-Length: {head!r}")
        if separator and length and len(body) >= int(length[1]):
            return DATE.sub(lambda date: date[1] + b"*" * len(date[2]), head) + separator + body
        chunk = connection.recv(65536)
        if not chunk:
            raise WrongAnswer(f"it closed the connection after {data!r}")
        data += chunk


def closes_connection(response: bytes) -> bool:
    """Whether a response announces that its connection ends with it."""
    head = response.partition(b"\r\n\r\n")[0]
    return re.search(rb"(?im)^connection:[ \t]*close[ \t]*\r?$", head) is not None


def _check_closed(connection: socket.socket) -> None:
    try:
        if connection.recv(1) == b"":
            return
    except TimeoutError:
        pass
    raise WrongAnswer("it announces 'Connection: close' and does not close")


def _ask(host: str, port: int) -> list[bytes]:
    """VERIFY_REQUESTS answers on one connection, or each on its own if the server announces that it closes."""
    answers: list[bytes] = []
    while len(answers) < VERIFY_REQUESTS:
        with socket.create_connection((host, port), timeout=STARTUP_TIMEOUT_S) as connection:
            while len(answers) < VERIFY_REQUESTS:
                connection.sendall(REQUEST)
                answers.append(_receive_response(connection))
                if closes_connection(answers[-1]):
                    _check_closed(connection)
                    break
    return answers


def verify(host: str, port: int) -> bytes:
    """Ask VERIFY_REQUESTS times; the response, which must be right, whole and the same (M4).

    Raises WrongAnswer with what is wrong, or RunError if there is no answer.
    """
    try:
        answers = _ask(host, port)
    except OSError as error:
        raise RunError(f"the server does not answer: {error}") from None
    except WrongAnswer as error:
        raise WrongAnswer(f"the server's answer is wrong: {error}") from None
    if not answers[0].startswith((b"HTTP/1.1 200 ", b"HTTP/1.0 200 ")):
        raise WrongAnswer(f"the server's answer is no 200: {answers[0][:80]!r}")
    if answers[0].partition(b"\r\n\r\n")[2] != BODY:
        raise WrongAnswer(f"the server's body is not {BODY!r}: {answers[0][-80:]!r}")
    if answers[0] != answers[1]:
        raise WrongAnswer(f"the server's second answer differs: {answers[1][:160]!r}")
    return answers[0]
