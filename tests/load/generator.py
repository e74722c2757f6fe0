"""What the tests of the load generator share: compiling and running it, reading what it writes, and toy servers."""

import contextlib
import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from helpers.harness import SOURCES, compile_c

SOURCE = SOURCES.parent / "load/load.c"
LINK = ["-pthread", "-lm"]
TIMEOUT_S = 60  # for a run of a few seconds; generous, since the machine may be busy
REQUEST_END = b"\r\n\r\n"
Answer = Callable[[socket.socket, int], bool]


def compile_load(folder: Path, flags: Sequence[str]) -> Path:
    return compile_c(SOURCE, folder / "load", flags, LINK)


def command(binary: Path, *urls: str, **options: Any) -> list[str]:
    # A busy machine may take seconds for a first answer.
    defaults = {"connections": 4, "rate": 200, "duration_s": 0.5, "seed": 1, "timeout_s": 10}
    words = [str(binary)]
    for url in urls:
        words += ["--url", url]
    for name, value in (defaults | options).items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    return words


def url_of(port: int, host: str = "[::1]") -> str:
    return f"http://{host}:{port}/"


def finish(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """The result of a run that must succeed: one line of JSON, and nothing on standard error."""
    output, errors = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, errors) == (0, "")
    assert output.count("\n") == 1 and output.endswith("\n")
    return check(json.loads(output))


def check(result: dict[str, Any]) -> dict[str, Any]:
    """What must hold in every result."""
    assert result["requests"] == result["answered"] + result["censored"]
    assert result["unsent"] <= result["censored"]
    assert sum(result["histogram"]["count"]) == result["requests"]
    assert result["errors"].keys() == {*KINDS}
    if result["requests"]:
        latency = result["latency_us"]
        names = ["p50", "p90", "p99", "p999", "max"]
        assert sorted(latency[name] for name in names) == [latency[name] for name in names]
        lows = result["histogram"]["us_low"]
        assert lows == sorted(set(lows))
        assert lows[-1] <= latency["max"] <= lows[-1] * 1.01 + 0.001
    for target in result.get("targets", []):
        check(target)
    return result


KINDS = ["connect", "read", "write", "timeout", "status", "length", "malformed"]


def errors(**counts: int) -> dict[str, int]:
    return dict.fromkeys(KINDS, 0) | counts


def start_load(binary: Path, *urls: str, cpu: int | None = None, **options: Any) -> Any:
    launcher = [] if cpu is None else ["taskset", "--cpu-list", str(cpu)]
    return subprocess.Popen(
        [*launcher, *command(binary, *urls, **options)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_load(binary: Path, *urls: str, cpu: int | None = None, **options: Any) -> dict[str, Any]:
    process = start_load(binary, *urls, cpu=cpu, **options)
    try:
        return finish(process)
    finally:
        process.kill()


def fail_load(binary: Path, *urls: str, **options: Any) -> tuple[int, str]:
    """The status and the only line of a run that must fail."""
    done = subprocess.run(
        command(binary, *urls, **options),
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert done.stdout == "" and done.stderr.count("\n") == 1, done
    return done.returncode, done.stderr


def read_latencies(path: Path) -> np.ndarray:
    """Columns: intended start, actual start, end; in ns."""
    return np.frombuffer(path.read_bytes(), dtype="<i8").reshape(-1, 3)


def two_cpus() -> tuple[int, int]:
    """One for the load and one for the server; the same where there is only one."""
    cpus = sorted(os.sched_getaffinity(0))
    return cpus[0], cpus[-1]


class Toy:
    """A server of threads that gives each request of a connection to `answer`: with its number, from 1 on. Where that
    returns False, it closes the connection."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.listener = socket.create_server(("::1", 0), family=socket.AF_INET6, backlog=128)
        self.port = self.listener.getsockname()[1]
        self.url = url_of(self.port)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self.listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self.serve, args=[client], daemon=True).start()

    def serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            received, number = b"", 0
            while data := client.recv(4096):
                received += data
                while REQUEST_END in received:
                    received = received.partition(REQUEST_END)[2]
                    number += 1
                    if not self.answer(client, number):
                        return

    def close(self) -> None:
        self.listener.close()


@contextlib.contextmanager
def toy(answer: Answer | bytes) -> Iterator[Toy]:
    def send(client: socket.socket, _: int) -> bool:
        client.sendall(answer)
        return True

    server = Toy(send if isinstance(answer, bytes) else answer)
    try:
        yield server
    finally:
        server.close()
