"""Servers that are not ours: launchers, the shipped yardsticks, the examples of the docs, and every fault in a line."""

import contextlib
import csv
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import external
import failed_build
import failures
import machine
import prepare_external
import pytest
import records
import server_process
import yaml
from checkouts import ROOT, copy_checkout, jobs_to_run, processes_mentioning, run_snakemake
from config_check import schema_faults, sweep_faults
from modules import ROOT_VARIABLE
from processes import running
from test_measure_cell import OF_THE_MACHINE, measure

CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())
CONFIG["cost"]["servers"] = ["server_epoll"]  # whatever is described
SCHEMA = yaml.safe_load((ROOT / "schemas/config.schema.yaml").read_text())
NGINX = CONFIG["external"]["nginx"]
YARDSTICKS = ["nginx", "h2o", "lighttpd"]
EXAMPLES = {
    name: description
    for block in re.findall(
        r"```yaml\n(.*?)```", (ROOT / "docs/external-servers.md").read_text(), re.DOTALL
    )
    for name, description in yaml.safe_load(block).get("external", {}).items()
}
HOSTS = ["::1", "127.0.0.1"]
# Answers as it must, with a Date that changes each time, but for the faults that it is told to have.
SERVER = """\
import os, signal, socket, sys, time
host, port, how = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
if "silent" in how:
    print("getting ready", flush=True)
    time.sleep(60)
if "broken" in how:
    raise ValueError("no such thing")
if "child" in how and os.fork() == 0:
    while True:
        time.sleep(60)
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
def _path_of_the_venv(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the workflow has it: the yardsticks may lie there. And where the checkout is."""
    monkeypatch.setenv(ROOT_VARIABLE, str(ROOT))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")


def prepare(folder: Path, name: str, description: dict[str, Any]) -> str:
    """A launcher in a folder of results, as the workflow makes it."""
    assert schema_faults({"external": {name: description}}, SCHEMA) == []
    assert list(external.description_faults(name, description, str(ROOT))) == []
    path = folder / "results/bin" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    prepare_external.write_launcher(str(path), external.launched(description, str(ROOT)))
    return str(path)


@contextlib.contextmanager
def started(binary: str, host: str = "::1", workers: int = 1) -> Iterator[server_process.Server]:
    with server_process.running_server(
        binary, host=host, interface=None, workers=workers, prefix=[]
    ) as server:
        yield server


def eventually(condition: Any) -> bool:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(condition())


# --- The launcher ---


def test_files_and_command_are_filled_in(tmp_path: Path) -> None:
    text = "@host @address @port @workers @scratch @root @@host"
    description = describe("@@ @workers", files={"server.py": SERVER, "a.txt": text})
    with started(prepare(tmp_path, "mine", description), workers=3) as server:
        scratch = tmp_path / "results/external/mine"
        filled = (scratch / "a.txt").read_text()
        assert filled == f"::1 [::1] {server.port} 3 {scratch} {ROOT} @host"
        command = Path(f"/proc/{server.process.pid}/cmdline").read_text().split("\0")
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
        found.append(external.launched(described, str(root)))
    assert found[0] == found[1]
    assert list(found[0]["identity"].values()).count(None) == 0
    prepare_external.write_launcher(str(tmp_path / "launcher"), found[0])
    monkeypatch.delenv(ROOT_VARIABLE)
    run = subprocess.run([tmp_path / "launcher"], check=False, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (
        1,
        f"bin/mine is seen from the checkout: set {ROOT_VARIABLE} to it\n",
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
        assert process.stdout.readline() == f"listening on [::1]:{port}\n"


def test_nothing_runs_beside_the_server_that_would_be_counted(tmp_path: Path) -> None:
    with started(prepare(tmp_path, "mine", describe())) as server:
        assert machine.processes_of(server.process.pid) == [server.process.pid]


def test_server_is_ready_when_its_output_says_so(tmp_path: Path) -> None:
    binary = prepare(tmp_path, "mine", describe("late", ready="we are"))
    with started(binary):
        assert "here we are" in (tmp_path / "results/external/mine/.output").read_text()


def test_what_a_killed_server_leaves_is_ended(tmp_path: Path) -> None:
    """As when the measurement is killed, and the server with it."""
    binary = prepare(tmp_path, "mine", describe(f"child '{tmp_path}'"))
    command = [binary, "--host", "::1", "--port", "0"]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    assert len(processes_mentioning(str(tmp_path))) == 3  # itself, its child, the guard
    process.kill()
    process.communicate()
    assert eventually(lambda: not processes_mentioning(str(tmp_path)))


def test_server_that_goes_to_the_background_is_ended(tmp_path: Path) -> None:
    files = {"nginx.conf": NGINX["files"]["nginx.conf"].replace("daemon off;", "")}
    binary = prepare(tmp_path, "mine", {**NGINX, "files": files})
    run = measure(binary, tmp_path / "record.json")
    assert (run.returncode, len(run.stderr.splitlines())) == (0, 1), run.stderr
    assert records.status_of(str(tmp_path / "record.json")) == "failed"
    # Its pid file is there until it ends by itself, which it does not.
    pid = (tmp_path / "results/external/mine/nginx.pid").read_text().strip()
    assert eventually(lambda: not Path(f"/proc/{pid}").exists())


@pytest.mark.parametrize(
    "arguments", [["--prot", "1"], ["--port"], ["--port", "x"], ["--workers", ""], ["more"]]
)
def test_bad_usage_is_one_line_and_status_2(arguments: list[str], tmp_path: Path) -> None:
    run = subprocess.run(
        [prepare(tmp_path, "mine", describe()), *arguments],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stdout, len(run.stderr.splitlines())) == (2, "", 1), run.stderr


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "exits at once": (describe("broken"), "ended before it was ready: ValueError: no such thing"),
    "never ready": (describe("silent"), "(@port): getting ready"),
    "never says so": (describe(ready="nothing"), "its output did not hold 'nothing'"),
    "wrong body": (describe("wrong"), "the server's body is not b'Hello, World!'"),
    "broken template": (
        {**NGINX, "files": {"nginx.conf": "worker_process 1;"}},
        'unknown directive "worker_process" in ./nginx.conf:1',
    ),
    "in the background": (
        {"command": "sh -c 'sleep 9 &'"},
        "the server did not start: status 0 (it ended before it was ready: it said nothing)",
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
    run = measure(prepare(tmp_path, "mine", description), tmp_path / "record.json")
    assert len(run.stderr.splitlines()) == 1, run.stderr
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["status"] == "failed" and said in record["reason"]
    assert processes_mentioning(str(tmp_path)) == []


def test_server_that_is_not_installed_is_unavailable_with_its_package(tmp_path: Path) -> None:
    description = {"package": "caddy-light", "command": "no-such-caddy run"}
    run = measure(prepare(tmp_path, "mine", description), tmp_path / "record.json")
    assert run.returncode == 0, run.stderr
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["status"] == "unavailable"
    said = "no-such-caddy is not installed: sudo apt-get install caddy-light"
    assert said in record["reason"]


# --- What measuring asks of a server ---


def test_date_may_change_and_nothing_else(tmp_path: Path) -> None:
    with started(prepare(tmp_path, "mine", describe())) as server:
        response = server_process.verify("::1", server.port)
    masked = b"\r\nDate: " + b"*" * 29 + b"\r\n"
    assert masked in response
    assert response.replace(masked, b"\r\n").startswith(
        b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n"
    )
    other = SERVER.replace("Date", "Etag")
    binary = prepare(tmp_path, "mine", {**describe(), "files": {"server.py": other}})
    with started(binary) as server, pytest.raises(server_process.WrongAnswer, match="differs"):
        server_process.verify("::1", server.port)


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


# --- The yardsticks ---


def files_open_for_writing(pid: int) -> set[str]:
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            info = Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text()
            flags = int(info.partition("flags:")[2].split()[0], 8)
            if flags & os.O_ACCMODE and entry.is_file():
                found.add(str(entry.readlink()))
    return found


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("name", YARDSTICKS)
def test_yardstick_serves_writes_to_its_scratch_directory_alone_and_stops(
    name: str, host: str, tmp_path: Path
) -> None:
    binary = prepare(tmp_path, name, CONFIG["external"][name])
    of_services = set(Path("/run").glob(f"*{name}*"))
    with started(binary, host) as server:
        response = server_process.verify(host, server.port)
        assert re.search(rb"(?i)\r\ncontent-type: text/plain\r\n", response)
        written = set().union(*(files_open_for_writing(pid) for pid in server.pids))
        assert written
        assert all(path.startswith(f"{tmp_path}/") for path in written), written
        assert set(Path("/run").glob(f"*{name}*")) == of_services
        with socket.create_connection((host, server.port)):
            started_s = time.monotonic()
            server.stop()
            assert time.monotonic() - started_s < server_process.STOP_TIMEOUT_S


@pytest.mark.alone
@pytest.mark.parametrize("name", YARDSTICKS)
def test_yardstick_has_one_worker_and_a_cell_that_counts(name: str, tmp_path: Path) -> None:
    binary = prepare(tmp_path, name, CONFIG["external"][name])
    run = measure(binary, tmp_path / "record.json", "--connections", "20", "--workers", "1")
    assert run.returncode == 0, run.stderr
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["status"] == "ok"
    assert set(record["flags"]) <= OF_THE_MACHINE
    assert record["server_counts"] == []
    assert record["server_accepted"] is None and record["server_requests"] is None
    assert record["kernel_connections"] == 21
    assert 0 <= record["kernel_responses"] - record["requests"] <= 20


@pytest.mark.parametrize("name", YARDSTICKS)
def test_yardstick_keeps_a_connection_for_many_requests(name: str, tmp_path: Path) -> None:
    binary = prepare(tmp_path, name, CONFIG["external"][name])
    with started(binary) as server, socket.create_connection(("::1", server.port)) as connection:
        connection.settimeout(5)
        for _ in range(30):
            connection.sendall(server_process.REQUEST * 100)
            answers = b""
            while answers.count(server_process.BODY) < 100:
                received = connection.recv(1 << 20)
                assert received
                answers += received


# --- The examples of the docs ---


def test_examples_of_the_docs_are_found() -> None:
    assert set(EXAMPLES) == {"python_asyncio", "node", "mine"}


@pytest.mark.alone
@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("name", ["python_asyncio", "node"])
def test_example_of_the_docs_has_a_cell_that_counts(name: str, host: str, tmp_path: Path) -> None:
    if name == "node" and shutil.which("node") is None:
        pytest.skip("node is not installed")
    binary = prepare(tmp_path, name, EXAMPLES[name])
    run = measure(binary, tmp_path / "record.json", "--host", host, "--workers", "1")
    assert run.returncode == 0, run.stderr
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["status"] == "ok"
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
        ("ceiling", ["external.ceiling", "servers/ceiling.c already"]),
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
    assert "other results are named like that" in line


# --- In the workflow ---

OVERLAY = """\
servers: [server_epoll, mine, absent, built]
control: null
connections: [2]
repeats: 1
duration_s: 0.4
warmup_s: 0.1
disturbed_retries: 0
profile: {connections: 2, duration_s: 0.5}
"""


def jobs_of(server: str, jobs: set[tuple[str, ...]]) -> set[str]:
    return {job[0] for job in jobs if server in job}


def test_sweep_with_others_is_whole_and_only_what_changed_is_redone(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "check out")
    (checkout / "mine").mkdir()
    source = EXAMPLES["python_asyncio"]["files"]["server.py"]
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
    facts = json.loads((checkout / "results/profile/mine.json").read_text())
    if facts["status"] != "ok":  # no frame pointers, no symbols
        assert facts["reason"][:30] in (checkout / "plots/mine_flamegraph.svg").read_text()
    with (checkout / "results/syscalls.csv").open() as file:
        counted = {row["server"]: row["status"] for row in csv.DictReader(file)}
    assert counted["mine"] == counted["server_epoll"]
    assert counted["absent"] == "unavailable" or counted["absent"] == counted["mine"]

    again = {job for job in jobs_to_run(checkout, *configfile) if job[0] in failures.ASKED}
    assert {job[:2] for job in again} == {("measure_cell", "absent")}
    (checkout / "mine/server.py").write_text(source + "# changed\n")
    jobs = jobs_to_run(checkout, *configfile)
    everything = {"prepare_external", "measure_cell", "profile_server", "count_syscalls"}
    assert everything <= jobs_of("built", jobs)
    assert not jobs_of("mine", jobs) and not jobs_of("server_epoll", jobs)
    assert not everything - {"measure_cell"} & jobs_of("absent", jobs)
    (checkout / "mine/server.py").write_text(source)

    moved = checkout.rename(tmp_path / "moved")
    jobs = jobs_to_run(moved, *configfile)
    assert {job for job in jobs if job[0] in failures.ASKED} == again
    moved.rename(checkout)

    (checkout / "bin").mkdir()
    (checkout / "bin/absent").write_text(f"#!/bin/sh\nexec '{sys.executable}' \"$@\"\n")
    (checkout / "bin/absent").chmod(0o755)
    jobs = jobs_to_run(checkout, *configfile)
    assert everything <= jobs_of("absent", jobs)
    assert not jobs_of("mine", jobs) and not jobs_of("built", jobs)


def test_failed_build_is_one_line_and_a_missing_builder_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))

    def prepared(build: str) -> subprocess.CompletedProcess[str]:
        description = {"build": build, "command": "build/mine", "package": "golang-go"}
        command = [sys.executable, str(ROOT / "scripts/prepare_external.py")]
        command.append(json.dumps(external.launched(description, str(tmp_path))))
        return subprocess.run(
            [*command, str(tmp_path / "mine")], check=False, capture_output=True, text=True
        )

    for build, said in (("false", "status 1"), ("true", "there is no build/mine")):
        run = prepared(build)
        reason = f"its build failed: '{build}': {said}"
        assert (run.returncode, run.stdout) == (0, f"mine: {reason}\n")
        assert failed_build.reason_of(str(tmp_path / "mine")) == reason
    assert prepared("no-such-go build").returncode == 0
    run = subprocess.run([tmp_path / "mine"], check=False, capture_output=True, text=True)
    assert run.returncode == server_process.EX_UNAVAILABLE
    assert run.stderr == "no-such-go is not installed: sudo apt-get install golang-go\n"
