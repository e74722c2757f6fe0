"""Servers that are not ours: launchers, the shipped yardsticks, the examples of the docs, and every fault in a line."""

import contextlib
import csv
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

import prepare_external
from common.modules import ROOT_VARIABLE
from common.processes import running
from helpers.checkouts import (
    ROOT,
    copy_checkout,
    jobs_to_run,
    make_program,
    processes_mentioning,
    run_program,
    run_script,
    run_snakemake,
)
from helpers.external_servers import CONFIG, EXAMPLES, SCHEMA, YARDSTICKS, prepare, started
from helpers.measured import OF_THE_MACHINE, measure
from hosts import proc
from instruments import external, external_launcher, failed_build, server_process, sockets
from sweep.workloads import BODY
from workflow import failures
from workflow.config_check import schema_faults, sweep_faults

NGINX = CONFIG["external"]["nginx"]
HOSTS = ["::1", "127.0.0.1"]
# Answers as it must, with a Date that changes each time, but for the faults that it is told to have.
SERVER = """\
import socket, sys, time
host, port, how = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
if "silent" in how:
    print("getting ready", flush=True)
    time.sleep(60)
if "broken" in how:
    raise ValueError("no such thing")
family = socket.AF_INET6 if ":" in host else socket.AF_INET
listener = socket.create_server((host, port), family=family)
if "late" in how:
    time.sleep(0.5)
    print("here we are", flush=True)
body = b"Hello, Wurld!" if "wrong" in how else b"Hello, World!"
number = 0
while True:
    connection, _ = listener.accept()
    while connection.recv(4096):
        number += 1
        head = b"HTTP/1.1 200 OK\\r\\nDate: %029d\\r\\nContent-Length: 13\\r\\n\\r\\n" % number
        connection.sendall(head + body)
"""
PYTHON = sys.executable.replace("@", "@@")


def describe(how: str = "", **more: Any) -> dict[str, Any]:
    command = f"'{PYTHON}' server.py @host @port {how}"
    return {"command": command, "files": {"server.py": SERVER}, **more}


@pytest.fixture(autouse=True)
def _environment_of_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the workflow has it: the yardsticks may lie in the venv, and so does this Python."""
    monkeypatch.setenv(ROOT_VARIABLE, str(ROOT))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")


def cell_of(binary: str, *arguments: str, status: str = "ok") -> tuple[dict[str, Any], str]:
    """The record of a cell for real, and what was said on the way."""
    output = Path(binary).parents[2] / "record.json"
    run = measure(binary, output, *arguments)
    assert run.returncode == 0, run.stderr
    record = json.loads(output.read_text())
    assert record["status"] == status, record.get("reason") or record["flags"]
    return record, run.stdout


# --- The launcher ---


def test_files_and_command_are_filled_in(tmp_path: Path) -> None:
    text = "@host @address @port @workers @scratch @root @@host @body @body_bytes"
    description = describe("@@ @workers", files={"server.py": SERVER, "a.txt": text})
    with started(prepare(tmp_path, "mine", description), workers=3) as server:
        scratch = tmp_path / "results/external/mine"
        filled = (scratch / "a.txt").read_text()
        assert filled == f"::1 [::1] {server.port} 3 {scratch} {ROOT} @host Hello, World! 13"
        (pid,) = server.pids  # nothing runs beside the server that would be counted
        command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        assert command[1:-1] == ["server.py", "::1", str(server.port), "@", "3"]


def test_launcher_names_no_path_of_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = {"command": "@root/bin/mine @host", "build": "./make it", "sources": ["mine.c"]}
    found = []
    for name in ("here", "moved"):
        root = tmp_path / name
        (root / "bin").mkdir(parents=True)
        for file in ("make", "mine.c", "bin/mine"):
            (root / file).write_text("content")
        found.append(external.describe_launcher(described, str(root)))
    assert found[0] == found[1]
    assert list(found[0]["identity"].values()).count(None) == 0
    prepare_external.write_launcher(str(tmp_path / "launcher"), found[0])
    monkeypatch.delenv(ROOT_VARIABLE)
    run = run_program([tmp_path / "launcher"])
    assert (run.returncode, run.stderr) == (
        1,
        f"bin/mine is relative to the checkout: set {ROOT_VARIABLE} to its path\n",
    )


def test_scratch_directory_is_made_anew_at_each_start(tmp_path: Path) -> None:
    binary = prepare(tmp_path, "mine", describe())
    old = tmp_path / "results/external/mine/old/file"
    old.parent.mkdir(parents=True)
    old.touch()
    with started(binary):
        assert not old.exists()


def test_port_that_is_asked_for_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        port = listener.getsockname()[1]
    command = [prepare(tmp_path, "mine", describe()), "--host", "::1", "--port", str(port)]
    with running(command) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert told == {
            "port": port,
            "ready": None,
            "output": str(tmp_path / "results/external/mine/.output"),
        }


def test_server_is_ready_when_its_output_says_so(tmp_path: Path) -> None:
    binary = prepare(tmp_path, "mine", describe("late", ready="we are"))
    with started(binary):
        assert "here we are" in (tmp_path / "results/external/mine/.output").read_text()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--prot", "1"],
        ["--port"],
        ["--port", "x"],
        ["--workers", ""],
        ["more"],
        ["--body-bytes", "1k"],
        ["--body-bytes", "14"],  # no word of the description is for a body
        ["--handler-block-us", "10000"],
    ],
)
def test_bad_usage_is_one_line_and_status_2(arguments: list[str], tmp_path: Path) -> None:
    run = run_program([prepare(tmp_path, "mine", describe()), *arguments])
    assert (run.returncode, run.stdout, len(run.stderr.splitlines())) == (2, "", 1), run.stderr
    assert not (tmp_path / "results/external").exists()


def test_workload_that_a_description_is_not_made_for_is_unavailable(tmp_path: Path) -> None:
    binary = prepare(tmp_path, "mine", describe())
    for asked, option in (({"body_bytes": 14}, "body-bytes"), ({"handler_burn_us": 9}, "handler")):
        workload = ("--workload", json.dumps(asked))
        record, _ = cell_of(binary, *workload, status="unavailable")
        assert option in record["reason"] and "\n" not in record["reason"]


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "exits at once": (describe("broken"), "not start: status 1 (ValueError: no such thing)"),
    "never ready": (
        describe("silent"),
        "within 1.5 s (start_timeout_s) it did not listen on port",
    ),
    "never says so": (describe(ready="nothing"), "its output did not contain 'nothing'"),
    "wrong body": (describe("wrong"), "the server's body is not b'Hello, World!'"),
    "broken template": (
        {**NGINX, "files": {"nginx.conf": "worker_process 1;"}},
        'unknown directive "worker_process" in ./nginx.conf:1',
    ),
    "ends well and leaves nothing": (
        {"command": "true"},
        "the server did not start: status 0 (it said nothing)",
    ),
    "in the background, and never ready": (
        {"command": "sh -c 'sleep 60 &'"},
        "it did not listen on port",
    ),
    "no program": (describe(command="./results"), "cannot run"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_of_a_description_is_one_line(fault: str, tmp_path: Path) -> None:
    description, said = FAULTS[fault]
    if fault == "no program":
        (tmp_path / "text").write_text("no program\n\0")
        (tmp_path / "text").chmod(0o755)
        description = {"command": f"'{tmp_path}/text'"}
    binary, limit = prepare(tmp_path, "mine", description), ("--start-timeout-s", "1.5")
    # One that must have said something by then may be slow to say it.
    limit = () if fault in ("exits at once", "wrong body", "broken template") else limit
    run = measure(binary, tmp_path / "record.json", *limit)
    assert len(run.stderr.splitlines()) == 1, run.stderr
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["status"] == "failed" and said in record["reason"]
    assert processes_mentioning(str(tmp_path)) == []


def test_server_that_is_not_installed_is_unavailable_with_its_package(tmp_path: Path) -> None:
    description = {"package": "caddy-light", "command": "no-such-caddy run"}
    record, _ = cell_of(prepare(tmp_path, "mine", description), status="unavailable")
    said = "no-such-caddy is not installed: sudo apt-get install caddy-light"
    assert said in record["reason"]


# --- What measuring asks of a server ---


def answer(text: str) -> bytes:
    """An answer with the body that it must have, from its status line and headers."""
    return (text.replace("\n", "\r\n") + "\r\n\r\nHello, World!").encode()


@contextlib.contextmanager
def serve(answers: list[bytes], closes_after: int = 10**9) -> Iterator[int]:
    """A server that gives these answers in turn, and closes connections after so many; its port."""

    def run() -> None:
        given = itertools.chain(answers, itertools.repeat(answers[-1]))
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    for _ in range(closes_after):
                        if not connection.recv(4096):
                            break
                        connection.sendall(next(given))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=run, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


CLOSING = [
    "HTTP/1.0 200 OK\nContent-Length: 13",  # announced by the version
    "HTTP/1.1 200 OK\nContent-Length: 13\nConnection: close",
    "HTTP/1.1 200 OK\nContent-Length: 13\nConnection: foo, Close",
]
KEEPING = [
    "HTTP/1.0 200 OK\nContent-Length: 13\nConnection: Keep-Alive",
    "HTTP/1.1 200 OK\ncontent-length:13",
]


@pytest.mark.parametrize("text", CLOSING + KEEPING)
def test_answers_say_whether_their_connection_ends(text: str) -> None:
    closes = text in CLOSING
    with serve([answer(text)], closes_after=1 if closes else 10**9) as port:
        verified = server_process.verify("127.0.0.1", port, BODY)
    assert server_process.closes_connection(verified.response) == closes
    assert verified == (answer(text), [])


def test_chunked_answers_are_read() -> None:
    text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nHello\r\n8\r\n, World!\r\n0\r\n\r\n"
    assert [server_process.parse_answer(text[:size]) for size in range(len(text))] == [None] * len(
        text
    )
    with serve([text]) as port:
        assert server_process.verify("127.0.0.1", port, BODY).response == text


@pytest.mark.parametrize(
    ("first", "second", "varying", "masked"),
    [
        ("Date: 1", "Date: 2", [], "Date: *"),
        ("Keep-Alive: max=100", "Keep-Alive: max=99", ["keep-alive"], "Keep-Alive: *******"),
        ("A: 1\nB: 1", "B: 2\nC: 3", ["a", "b", "c"], "A: *\nB: *"),
    ],
)
def test_headers_may_vary_and_are_named(
    first: str, second: str, varying: list[str], masked: str
) -> None:
    head = "HTTP/1.1 200 OK\nContent-Length: 13\n"
    with serve([answer(head + first), answer(head + second)]) as port:
        verified = server_process.verify("127.0.0.1", port, BODY)
    assert verified == (answer(head + masked), varying)
    assert server_process.is_same_answer(verified.response, answer(head + second))
    assert not server_process.is_same_answer(
        verified.response, answer(head + second).replace(b"W", b"w")
    )


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (["HTTP/1.1 200 OK\nContent-Length: 13", "HTTP/1.1 503 No\nContent-Length: 13"], "second"),
        (["HTTP/1.1 200 OK\nContent-Length: x"], "Content-Length is b'x'"),
        (["HTTP/1.1 200 OK\nTransfer-Encoding: chunked"], "chunked body is broken"),
        (["HTTP/1.1 200 OK"], "ends with the connection, which stays open"),
        (["HTTP/1.0 200 OK"], "wrk counts each such answer as an error"),
        (["HTTP/1.1 200 OK\nContent-Length: 13"], "without announcing it"),
    ],
)
def test_answer_that_no_client_understands_is_said(
    answers: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_process, "ANSWER_TIMEOUT_S", 0.5)
    texts = [answer(text).replace(b"Hello", b"x\r\n") for text in answers]
    texts = [answer(text) for text in answers] if "chunked body" not in said else texts
    closes_after = 1 if "HTTP/1.0" in answers[0] or "announcing" in said else 9
    with serve(texts, closes_after) as port, pytest.raises(server_process.WrongAnswer, match=said):
        server_process.verify("127.0.0.1", port, BODY)


def test_answer_that_ends_a_connection_is_found() -> None:
    keeps = "HTTP/1.1 200 OK\nContent-Length: 13"
    answers = [answer(keeps)] * 6 + [answer(keeps + "\nConnection: close")]
    with serve(answers) as port:
        assert server_process.requests_until_close("127.0.0.1", port, 6, 60) is None
    with serve(answers) as port:
        assert server_process.requests_until_close("127.0.0.1", port, 9, 60) == 7
    with serve(answers, closes_after=3) as port:  # without saying so
        assert server_process.requests_until_close("127.0.0.1", port, 9, 60) is None


@pytest.mark.parametrize(
    ("command", "said_of_ours", "said_of_others"),
    [
        (["sleep", "60"], "", ""),
        (
            ["sh", "-c", "trap 'exit 1' TERM; echo; sleep 9 >/dev/null 2>&1 & wait"],
            "badly: status 1",
            "",
        ),
        (
            ["sh", "-c", "trap 'kill -SEGV $$' TERM; echo; sleep 9 >/dev/null 2>&1 & wait"],
            "SIGSEGV",
            "SIGSEGV",
        ),
    ],
)
def test_others_may_end_as_they_like_but_for_a_crash(
    command: list[str], said_of_ours: str, said_of_others: str
) -> None:
    for is_external, said in ((False, said_of_ours), (True, said_of_others)):
        with running(command) as process:
            assert process.stdout is not None
            if command[0] == "sh":
                process.stdout.readline()  # now it traps
            else:
                time.sleep(0.2)
            server = server_process.Server(process, command, 0, is_external)
            if said:
                with pytest.raises(server_process.RunError, match=said):
                    server.stop()
            else:
                server.stop()


# --- Who serves ---

FORKING = """\
import os, signal, socket, sys

def reap(*_):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass

signal.signal(signal.SIGCHLD, signal.SIG_IGN if "drops" in sys.argv else reap)
listener = socket.create_server((sys.argv[1], int(sys.argv[2])), family=socket.AF_INET6, backlog=64)
while True:
    connection, _ = listener.accept()
    if os.fork() == 0:
        while connection.recv(4096):
            connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 13\\r\\n\\r\\nHello, World!")
        os._exit(0)
    connection.close()
"""
LIMITED = """\
import asyncio, sys

class Connection(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.left = transport, 100

    def data_received(self, data):
        self.left -= 1
        more = b"Keep-Alive: max=%d" % self.left if self.left else b"Connection: close"
        head = b"HTTP/1.1 200 OK\\r\\nContent-Length: 13\\r\\n" + more
        self.transport.write(head + b"\\r\\n\\r\\nHello, World!")
        if not self.left:
            self.transport.close()

async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, sys.argv[1], sys.argv[2], backlog=64)
    await server.serve_forever()

asyncio.run(main())
"""
ASYNCIO = EXAMPLES["python_asyncio"]["files"]["server.py"]
BACKEND = ASYNCIO.replace(
    "create_server(Connection, sys.argv[1], sys.argv[2],",
    'create_unix_server(Connection, "backend",',
)
# Of root nginx would make another user, who may not open the backend's socket.
PROXY = "user root;\n" + NGINX["files"]["nginx.conf"].replace(
    "try_files /index.txt =404", "proxy_pass http://unix:@scratch/backend"
)
# What runs in the background, and what in front of it: the latter alone is the command's own process.
BEHIND = {
    "command": f"sh -c \"setsid -f '{PYTHON}' server.py @host @port; exec sleep 1000\"",
    "files": {"server.py": ASYNCIO},
}
PROXIED = {
    "command": f"sh -c \"setsid -f '{PYTHON}' server.py; until [ -S backend ]; do sleep 0.01; done;"
    f' exec {NGINX["command"]}"',
    "files": {"server.py": BACKEND, "nginx.conf": PROXY},
}


FORKS = f"'{PYTHON}' server.py @host @port"
HTTP10 = f"'{PYTHON}' -m http.server @port --bind @host"
SERVING: dict[str, tuple[dict[str, Any], set[str]]] = {
    "in the background": (BEHIND, set()),
    "behind a proxy": (PROXIED, set()),
    "a process for each connection": (
        {"command": FORKS, "files": {"server.py": FORKING}},
        {"processes_changed"},
    ),
    "and nobody waits for it": (
        {"command": f"{FORKS} drops", "files": {"server.py": FORKING}},
        {"processes_changed"},
    ),
    "HTTP/1.0": (
        {"command": HTTP10, "files": {"index.html": "Hello, World!"}},
        {"connection_per_request"},
    ),
    "100 requests a connection": (
        {"command": FORKS, "files": {"server.py": LIMITED}},
        {"connections_reopened"},
    ),
}


@pytest.mark.parametrize("name", SERVING)
def test_server_as_people_start_it_has_a_cell_that_counts(name: str, tmp_path: Path) -> None:
    description, expected = SERVING[name]
    record, said = cell_of(prepare(tmp_path, "mine", description), "--duration-s", "0.5")
    cpu_ns = record["server_cpu_ns_per_request"]
    if cpu_ns is None:  # there is no cgroup here
        assert name == "and nobody waits for it"
        expected = expected | {"cpu_time_unknown"}
    else:
        assert cpu_ns > 1000
    assert set(record["flags"]) - OF_THE_MACHINE == expected
    if name == "behind a proxy":  # its own time, and that of what it asks
        assert record["server_cpu_share"] > record["server_busiest_thread_share"] * 1.2
    if "connections_reopened" in expected:
        assert record["requests_per_connection"] == 100
        assert record["varying_headers"] == ["keep-alive"]
        assert "connections end after 100 requests" in said
    scratch = str(tmp_path / "results/external/mine")
    assert [seen.pid for seen in psutil.process_iter(["cwd"]) if seen.info["cwd"] == scratch] == []


def test_port_of_somebody_else_is_no_server(tmp_path: Path) -> None:
    """As of systemctl and docker, whose servers are started by others."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        port = listener.getsockname()[1]
        with running(["sleep", "60"]) as process:
            server = server_process.Server(process, [], port, is_external=True)
            with pytest.raises(server_process.RunError, match=f"process {os.getpid()} .*did not"):
                server.check_serving()


# --- The yardsticks ---


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("name", YARDSTICKS)
def test_yardstick_keeps_connections_writes_to_its_scratch_directory_alone_and_stops(
    name: str, host: str, tmp_path: Path
) -> None:
    binary = prepare(tmp_path, name, CONFIG["external"][name])
    of_services = set(Path("/run").glob(f"*{name}*"))
    with started(binary, host) as server:
        response = server_process.verify(host, server.port, BODY).response
        assert re.search(rb"(?i)\r\ncontent-type: text/plain\r\n", response)
        files = [file for pid in server.pids for file in psutil.Process(pid).open_files()]
        written = {file.path for file in files if file.flags & os.O_ACCMODE}
        assert written
        assert all(path.startswith(f"{tmp_path}/") for path in written), written
        assert set(Path("/run").glob(f"*{name}*")) == of_services
        with socket.create_connection((host, server.port), 5) as connection:
            for _ in range(30):
                connection.sendall(server_process.REQUEST * 100)
                answers = b""
                while answers.count(BODY) < 100:
                    received = connection.recv(1 << 20)
                    assert received
                    answers += received
        with socket.create_connection((host, server.port)):
            started_s = time.monotonic()
            server.stop()
            assert time.monotonic() - started_s < server_process.STOP_TIMEOUT_S


@pytest.mark.parametrize("name", YARDSTICKS)
def test_yardstick_has_one_worker_and_a_cell_that_counts(name: str, tmp_path: Path) -> None:
    binary = prepare(tmp_path, name, CONFIG["external"][name])
    record, _ = cell_of(binary, "--connections", "20", "--workers", "1")
    assert set(record["flags"]) <= OF_THE_MACHINE
    assert record["server_counts"] == []
    assert record["server_accepted"] is None and record["server_requests"] is None
    assert record["kernel_connections"] == 21
    assert 0 <= record["kernel_responses"] - record["requests"] <= 20


def flags_in(binary: str, workload: dict[str, Any], connections: int) -> set[str]:
    """The flags of a cell of another workload."""
    arguments = ("--workload", json.dumps(workload), "--connections", str(connections))
    record, _ = cell_of(binary, *arguments, "--workers", "1", "--duration-s", "0.5")
    return set(record["flags"]) - OF_THE_MACHINE


@pytest.mark.parametrize("name", YARDSTICKS)
def test_yardstick_serves_what_other_workloads_ask_for(name: str, tmp_path: Path) -> None:
    binary = prepare(tmp_path, name, CONFIG["external"][name])
    assert flags_in(binary, {"connection_per_request": True}, 20) == {"connection_per_request"}
    for size in (1, 14, 131_072, 8 << 20):
        assert flags_in(binary, {"body_bytes": size}, 4) == set()


@pytest.mark.parametrize("name", YARDSTICKS)
def test_yardstick_keeps_an_idle_crowd(name: str, tmp_path: Path) -> None:
    count = min(10_000, proc.raise_open_files_limit() - 200)
    binary = prepare(tmp_path, name, CONFIG["external"][name])
    with started(binary) as server, contextlib.ExitStack() as idle:
        crowd = [
            idle.enter_context(connection)
            for connection in server_process.serve_each(
                "::1", server.port, count, 5, range(sockets.first_port_of_block(count), 65_536)
            )
        ]
        for connection in (crowd[0], crowd[-1]):
            connection.sendall(server_process.REQUEST)
            assert BODY in connection.recv(1000)


@pytest.mark.parametrize("size", [13, 14])
def test_nginx_answers_keep_alive_without_a_file(size: int, tmp_path: Path) -> None:
    with started(prepare(tmp_path, "nginx", NGINX), options=["--body-bytes", str(size)]) as server:
        (tmp_path / "results/external/nginx/index.txt").unlink()
        with socket.create_connection(("::1", server.port), 5) as connection:
            connection.sendall(server_process.REQUEST)
            assert (b" 200 OK" in connection.recv(1000)) == (size == 13)


# --- The examples of the docs ---


def test_examples_of_the_docs_are_found() -> None:
    assert set(EXAMPLES) == {"python_asyncio", "node", "mine"}


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("name", ["python_asyncio", "node"])
def test_example_of_the_docs_has_a_cell_that_counts(name: str, host: str, tmp_path: Path) -> None:
    if name == "node" and shutil.which("node") is None:
        pytest.skip("node is not installed")
    binary = prepare(tmp_path, name, EXAMPLES[name])
    record, _ = cell_of(binary, "--host", host, "--workers", "1")
    assert set(record["flags"]) <= OF_THE_MACHINE


# --- What config may say ---

WRONG: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no command": ({"package": "x"}, ["external.mine", "no command"]),
    "unknown key": ({"command": "x", "file": {}}, ["external.mine.file", "did you mean 'files'"]),
    "unknown placeholder": (
        {"command": "x", "files": {"a.conf": "listen @prot;"}},
        ["external.mine.files.a.conf", "'@prot'", "@port", "@@"],
    ),
    "lonely @": ({"command": "x a@1.b c"}, ["external.mine.command", "'@1.b'", "@@ for @"]),
    "a body where none fits": ({"command": "x @body"}, ["external.mine.command", "'@body'"]),
    "open quotation": ({"command": "x 'y"}, ["external.mine.command", "No closing quotation"]),
    "empty build": ({"command": "x", "build": " "}, ["external.mine.build", "' '"]),
    "missing source": (
        {"command": "x", "sources": ["no/such.go"]},
        ["external.mine.sources[0]", "'no/such.go'"],
    ),
    "file outside": (
        {"command": "x", "files": {"../evil": ""}},
        ["external.mine.files", "'../evil'", "without folders"],
    ),
    "option as package": ({"command": "x", "package": "--yes"}, ["external.mine.package", "--yes"]),
}


def faults_of(config: dict[str, Any]) -> list[str]:
    return schema_faults(config, SCHEMA) or sweep_faults(config, ROOT / "servers", 20000)


@pytest.mark.parametrize("fault", WRONG)
def test_wrong_description_is_one_line(fault: str) -> None:
    description, parts = WRONG[fault]
    (line,) = faults_of({**CONFIG, "external": {"mine": description}})
    assert all(part in line for part in parts), line


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("server_epoll", ["external.server_epoll", "servers/server_epoll.c already"]),
        ("reference", ["external.reference", "servers/reference.c already"]),
        ("Mine", ["external", "'Mine'", "lower-case"]),
    ],
)
def test_names_of_our_servers_are_taken(name: str, parts: list[str]) -> None:
    (line,) = faults_of({**CONFIG, "external": {name: {"command": "x"}}})
    assert all(part in line for part in parts), line


def test_servers_may_be_ours_or_described() -> None:
    described = {"mine": {"command": "x"}, "ranking": {"command": "x"}}
    config = {**CONFIG, "external": described, "control": "mine"}
    assert faults_of({**config, "servers": ["mine", "server_epoll"]}) == []
    (line,) = faults_of({**config, "servers": ["minne"]})
    assert "servers/minne.c and no external.minne (did you mean 'mine'?)" in line
    (line,) = faults_of({**config, "servers": ["ranking"]})
    assert "other results have names like that" in line


# --- In the workflow ---

OVERLAY = """\
servers: [server_epoll, mine, absent, built]
control: null
workloads: [keepalive]
connections: [2]
repeats: 1
duration_s: 0.4
warmup_s: 0.1
paired_s: 0
disturbed_retries: 0
profile: {connections: 2, duration_s: 0.5}
"""


def jobs_of(server: str, jobs: set[tuple[str, ...]]) -> set[str]:
    return {job[0] for job in jobs if server in job}


def test_sweep_with_others_is_whole_and_only_what_changed_is_redone(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "check out")
    (checkout / "mine").mkdir()
    source = external_launcher.Template(ASYNCIO).substitute(body="Hello, World!", body_bytes=13)
    (checkout / "mine/server.py").write_text(source)
    described = {
        "mine": EXAMPLES["python_asyncio"],
        "absent": {"command": "bin/absent server.py @host @port", "package": "absentee"},
        "built": {
            "build": "cp mine/server.py mine/copy.py",
            "command": f"'{PYTHON}' @root/mine/copy.py @host @port",
            "sources": ["mine/server.py"],
        },
    }
    overlay = checkout / "overlay.yaml"
    overlay.write_text(OVERLAY + yaml.safe_dump({"external": described}))
    configfile = ("--configfile", "overlay.yaml")
    run = run_snakemake(checkout, "-j2", *configfile, timeout_s=600)
    # Who asks for one that is not installed is told so.
    assert run.returncode == 1, run.stdout
    (line,) = (line for line in run.stdout.splitlines() if line.startswith("absent failed"))
    assert line.endswith("bin/absent is not installed: sudo apt-get install absentee)")

    with (checkout / "results/cells.csv").open() as file:
        statuses = {cell["server"]: cell["status"] for cell in csv.DictReader(file)}
    assert statuses == {"server_epoll": "ok", "mine": "ok", "absent": "unavailable", "built": "ok"}
    svg = (checkout / "plots/absent_flamegraph.svg").read_text()
    assert "bin/absent is not installed: sudo apt-get install absentee" in svg
    facts = json.loads((checkout / "results/profile/keepalive/mine.json").read_text())
    if facts["status"] != "ok":  # no frame pointers, no symbols
        assert facts["reason"][:30] in (checkout / "plots/mine_flamegraph.svg").read_text()
    with (checkout / "results/syscalls.csv").open() as file:
        counted = {row["server"]: row["status"] for row in csv.DictReader(file)}
    assert counted["mine"] == counted["server_epoll"]
    assert counted["absent"] == "unavailable" or counted["absent"] == counted["mine"]

    again = {job for job in jobs_to_run(checkout, *configfile) if job[0] in failures.PRODUCTS}
    assert again == {("measure_cell", "keepalive", "absent", "2", "1")}
    (checkout / "mine/server.py").write_text(source + "# changed\n")
    jobs = jobs_to_run(checkout, *configfile)
    everything = {"prepare_external", "measure_cell", "profile_server", "count_syscalls"}
    assert everything <= jobs_of("built", jobs)
    assert not jobs_of("mine", jobs) and not jobs_of("server_epoll", jobs)
    assert not everything - {"measure_cell"} & jobs_of("absent", jobs)
    (checkout / "mine/server.py").write_text(source)

    moved = checkout.rename(tmp_path / "moved")
    jobs = jobs_to_run(moved, *configfile)
    assert {job for job in jobs if job[0] in failures.PRODUCTS} == again
    moved.rename(checkout)

    (checkout / "bin").mkdir()
    make_program(checkout / "bin/absent", f"exec '{sys.executable}' \"$@\"")
    jobs = jobs_to_run(checkout, *configfile)
    assert everything <= jobs_of("absent", jobs)
    assert not jobs_of("mine", jobs) and not jobs_of("built", jobs)


def test_failed_build_is_one_line_and_a_missing_builder_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))

    def prepared(build: str) -> subprocess.CompletedProcess[str]:
        description = {"build": build, "command": "build/mine", "package": "golang-go"}
        launched = json.dumps(external.describe_launcher(description, str(tmp_path)))
        return run_script("prepare_external.py", launched, tmp_path / "mine")

    for build, said in (("false", "status 1"), ("true", "there is no build/mine")):
        run = prepared(build)
        reason = f"its build failed: '{build}': {said}"
        assert (run.returncode, run.stdout) == (0, f"mine: {reason}\n")
        assert failed_build.reason_of(str(tmp_path / "mine")) == reason
    assert prepared("no-such-go build").returncode == 0
    run = run_program([tmp_path / "mine"])
    assert run.returncode == server_process.EX_UNAVAILABLE
    assert run.stderr == "no-such-go is not installed: sudo apt-get install golang-go\n"
