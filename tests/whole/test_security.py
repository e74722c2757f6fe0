"""What docs/security.md claims: who listens where and runs as whom, and that config, records and tables run nothing."""

import contextlib
import ipaddress
import json
import os
import pwd
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from analysis import tables
from common import terminal
from common.modules import ROOT_VARIABLE
from helpers.checkouts import ROOT, SNAKEMAKE, copy_checkout, run_program, run_script
from helpers.external_servers import CONFIG as SHIPPED
from helpers.external_servers import SCHEMA, YARDSTICKS, prepare, started
from helpers.harness import COMPILE, LINK, OPTIMIZED, SERVERS, SOURCES, ask, running
from helpers.made_up import record
from helpers.report_pages import make_report, open_report, sweep, write_sweep
from hosts.network import Network
from instruments import supervisor
from measuring import places, runs
from sweep.cells import Cell
from sweep.rows import check_record
from workflow import progress
from workflow.config_check import schema_faults, sweep_faults

NAMES = [*SERVERS, "reference"]
NOBODY = pwd.getpwnam("nobody")
UNPRIVILEGED = ["setpriv", f"--reuid={NOBODY.pw_uid}", f"--regid={NOBODY.pw_gid}"]
UNPRIVILEGED += ["--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
# The same, but for whatever folders this Python lies in.
READER = [word.replace("-all", "-all,+dac_read_search") for word in UNPRIVILEGED]
READER += ["--ambient-caps=+dac_read_search"]
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="to become nobody takes root")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """One that every user may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as made:
        os.chmod(made, 0o755)
        yield Path(made)


@pytest.fixture(scope="module")
def binaries(folder: Path) -> Path:
    def compiling(name: str) -> "subprocess.Popen[bytes]":
        files = [f"-I{SOURCES}", str(SOURCES / f"{name}.c"), "-o", str(folder / name)]
        return subprocess.Popen([*COMPILE, *OPTIMIZED, *files, *LINK])

    assert [process.wait() for process in map(compiling, NAMES)] == [0] * len(NAMES)
    return folder


# --- What listens ---


def address_of(text: str) -> tuple[str, int]:
    """As the kernel writes it in /proc/net/tcp6: words of 32 bits, each as this machine keeps them."""
    address, port = text.split(":")
    words = [int(address[start : start + 8], 16) for start in range(0, len(address), 8)]
    return str(ipaddress.ip_address(struct.pack(f"={len(words)}I", *words))), int(port, 16)


def sockets_of(pid: int) -> set[tuple[str, Any]]:
    """All that can be reached of a process and its children: (table, local address, or the path in place of one)."""
    inodes = set()
    for one in (pid, *supervisor.descendants_of(pid)):
        for descriptor in Path(f"/proc/{one}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                inodes.add(os.readlink(descriptor))
    found: set[tuple[str, Any]] = set()
    for table in ("tcp", "tcp6", "udp", "udp6", "udplite", "udplite6", "raw", "raw6"):
        with contextlib.suppress(FileNotFoundError):
            for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if f"socket:[{fields[9]}]" in inodes:
                    found.add((table, address_of(fields[1])))
    for line in Path(f"/proc/{pid}/net/unix").read_text(errors="replace").splitlines()[1:]:
        fields = line.split()
        # Others have no name to reach them by.
        if f"socket:[{fields[6]}]" in inodes and len(fields) > 7:
            found.add(("unix", fields[7]))
    return found


def only(address: str, port: int) -> set[tuple[str, Any]]:
    return {("tcp6" if ":" in address else "tcp", (address, port))}


@pytest.mark.parametrize("host", ["::1", "127.0.0.1"])
@pytest.mark.parametrize("name", NAMES)
def test_server_listens_where_it_was_told_and_nowhere_else(
    name: str, host: str, binaries: Path
) -> None:
    command = [binaries / name, "--host", host, "--port", "0", "--workers", "2"]
    with running(command) as server, server.connect(host) as client:
        ask(client)
        assert sockets_of(server.process.pid) == only(host, server.port)


# In a network namespace of its own, which ends with it.
LINK_LOCAL = """\
ip link add here0 type veth peer name there0
for interface in here0 there0; do ip link set $interface up; done
ip address add fe80::1/64 dev here0 nodad
exec "$0" --host fe80::1 --interface here0 --port 0
"""


@AS_ROOT
@pytest.mark.parametrize("name", ["server_epoll", "server_uring_multitask"])
def test_server_of_a_link_listens_at_its_address_alone(name: str, binaries: Path) -> None:
    command = ["unshare", "--net", "sh", "-ec", LINK_LOCAL, binaries / name]
    with running(command) as server:
        assert sockets_of(server.process.pid) == only("fe80::1", server.port)


@pytest.mark.parametrize("name", YARDSTICKS)
def test_external_server_listens_where_it_was_told_and_nowhere_else(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv(ROOT_VARIABLE, str(ROOT))
    launcher = prepare(tmp_path, name, SHIPPED["external"][name])
    with started(launcher) as server:
        assert sockets_of(server.process.pid) == only("::1", server.port)


# --- Who runs as whom ---


@AS_ROOT
@pytest.mark.parametrize("name", NAMES)
def test_server_needs_no_right_and_writes_no_file(
    name: str, binaries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As nobody, without capabilities; the first byte that it wrote into a file would end it with SIGXFSZ."""
    empty = binaries / "empty"
    empty.mkdir(mode=0o777, exist_ok=True)
    empty.chmod(0o777)
    monkeypatch.chdir(empty)
    command = [*UNPRIVILEGED, "prlimit", "--fsize=0", str(binaries / name)]
    with running([*command, "--host", "::1", "--port", "0", "--workers", "2"]) as server:
        with server.connect() as client:
            ask(client)
            opened = server.descriptors()
        server.stop()
    assert list(empty.iterdir()) == []
    assert [path for path in opened if path.startswith("/") and not path.startswith("/dev/")] == []


# --- What config may say ---

TOUCH = [
    "$(touch pwned)",
    "; touch pwned;",
    "`touch pwned`",
    "\ntouch pwned\n",
    "| touch pwned",
    "'\"; touch pwned",
]


def hostile_configs() -> Iterator[dict[str, Any]]:
    """A text in each place of config.yaml where a rule's command could meet it, but flags and commands."""
    for text in TOUCH:
        for name in (text, f"server_epoll{text}"):
            yield {"servers": [name]}
            yield {"control": name}
            yield {"compile": {"compiler": f"gcc{text}"}}
            yield {"cpus": {"server": f"0{text}", "load": "1"}}
            yield {"network": {"interface": f"eth0/{text}"}}
            yield {"network": {"server": f"ssh:{text}"}}
            yield {"network": {"load": f"netns:a{text}"}}
            yield {"external": {name: {"command": "true"}}}
            yield {"external": {"mine": {"command": "true", "files": {name: ""}}}}
            yield {"external": {"mine": {"command": "true", "package": f"a{text}"}}}
        for key in ("repeats", "seed", "duration_s", "warmup_s", "workers"):
            yield {key: text}
        yield {"connections": [text]}
        yield {"profile": {"frequency_hz": text}}
    yield {"servers": ["server_epoll\n"]}
    yield {"compile": {"compiler": "gcc\n"}}
    yield {"compile": {"compiler": "-c"}}  # flock has an option of that name, which starts a shell
    yield {"external": {"mine": {"command": "true", "files": {"../x": ""}}}}


@pytest.mark.parametrize("config", list(hostile_configs()), ids=str)
def test_hostile_config_is_refused(config: dict[str, Any]) -> None:
    assert schema_faults(config, SCHEMA)


@pytest.mark.parametrize("host", [*TOUCH, "localhost", "::1\n", "", "--host"])
def test_host_is_an_address(host: str) -> None:
    network = Network()._asdict()
    for interface in ("loopback", "eth0"):
        config = {**SHIPPED, "host": host, "network": {**network, "interface": interface}}
        assert any(line.startswith("host: ") for line in sweep_faults(config, SOURCES, 1 << 20))


@AS_ROOT
@pytest.mark.alone
def test_nobody_measures_in_a_folder_with_a_hostile_name() -> None:
    """A cell and its table, of a checkout, a result set and flags whose names are shell commands."""
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        checkout = copy_checkout(root / "$(touch pwned);touch pwned #'\"")
        tiny = {"connections": [1], "repeats": 1, "duration_s": 0.1, "warmup_s": 0, "paired_s": 0}
        flags = ["-O2", "-DEVIL=$(touch pwned)", "-DWORSE='; touch pwned; '"]
        (checkout / "mine.json").write_text(json.dumps({**tiny, "compile": {"flags": flags}}))
        for path in [root, *root.rglob("*")]:
            os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
        target = "results/cells/server_epoll.csv"
        command = [*SNAKEMAKE, "-j1", target, "--configfile", "mine.json"]
        command += ["--directory", "`touch pwned`"]
        command = [*READER, "env", f"HOME={root}", *command]
        programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        ended = run_program(command, checkout, PATH=programs)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert (checkout / "`touch pwned`" / target).stat().st_uid == NOBODY.pw_uid
        assert list(root.rglob("pwned")) == []


# --- What results may hold ---

HOSTILE_TEXTS = [
    "</script><script>pwned = 1</script>",
    "\x1b]0;pwned\x07",
    "=HYPERLINK(1)",
    "../../etc/passwd",
]
CELL = Cell("server_epoll", 10, 1)
HOSTILE_FIELDS: list[dict[str, Any]] = [
    *({"server": text} for text in HOSTILE_TEXTS),
    {"connections": 11},
    {"repeat": "1"},
    {"status": "\x1b[2J"},
    {"status": ["ok"]},
    {"machine": {"a": 1}},
    {"sweep": "two\nlines"},
    {"flags": "errors"},
    {"flags": [1]},
    {"requests": 1e300},
    {"requests": 0.5},
    {"requests": float("nan")},
    {"latency_p99_us": float("inf")},
    {"latency_p99_us": "1"},
    {"errors": True},
    {"requests_per_second": []},
    {"reason": "\x1b[2J"},
    {"facts": []},
    {"facts": {"network_label": "\x1b[2J"}},
]


@pytest.mark.parametrize("fields", HOSTILE_FIELDS, ids=str)
def test_record_that_no_run_can_have_given_is_one_line(fields: dict[str, Any]) -> None:
    assert check_record(record(), CELL, "a.json") == record()
    with pytest.raises(ValueError, match=r"^a\.json") as raised:
        check_record(record(**fields), CELL, "a.json")
    assert str(raised.value).isprintable()


HOSTILE_CELLS = [
    *({"server": text} for text in [*HOSTILE_TEXTS, "a b", "1"]),
    *(
        {name: text}
        for name in ("requests", "fairness_jain", "connections")
        for text in ("x", "inf", "1e99", "=1+1")
    ),
    {"connections": "0"},
    {"requests": "0.5"},
    {"flags": "\x1b[2J"},
    {"network": "a" * 10_000},
    {"machine": "two\nlines"},
]


@pytest.mark.parametrize("changed", HOSTILE_CELLS, ids=lambda changed: str(changed)[:40])
def test_table_that_no_run_can_have_given_is_one_line(
    changed: dict[str, Any], tmp_path: Path
) -> None:
    path = str(tmp_path / "cells.csv")
    table = tables.cell_table([record()])
    tables.write_table(table, path)
    tables.read_cell_table(path)
    tables.write_table(table.astype(object).assign(**changed), path)
    with pytest.raises(ValueError, match=f"^{re.escape(path)}") as raised:
        tables.read_cell_table(path)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00", b'a,b\n"', b"a\n" + b"1,2,3\n", b"\x00" * 100]
)
def test_script_meets_a_broken_table_with_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    ended = run_script("plot_server.py", "table.csv", "table.csv", "a.png", cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith("plot_server: table.csv") and ended.stderr.count("\n") == 1


def test_terminal_gets_no_control_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    cells = [terminal.Part("a\x1b[2J"), terminal.Part("1")]
    table = terminal.Table(["server", "x"], [cells], ["note\x9b"], [])
    terminal.write_table(table, "results/summary.txt")
    shown = terminal.format_fitted("results/summary.txt")
    progress.print_cell(Cell("a", 1, 1), {"status": "unavailable", "reason": "no\x1b]0;pwned\x07"})
    told = capsys.readouterr().out
    assert "pwned" in told and "note" in shown
    assert (shown + told).replace("\n", "").isprintable()


def test_report_of_hostile_results_runs_nothing(tmp_path: Path, browser: Browser) -> None:
    """Texts that records and profiles may hold, in every place of the page; and its policy, should one be forgotten."""
    script = "</title></textarea></script><script>window.pwned = 1</script><img src=x onerror='pwned = 1'>"
    texts = dict.fromkeys(["machine_id", "machine_label"], script)
    hostile = {
        **dict.fromkeys(["machine", "sweep"], script),
        **{name: [script] for name in ("server_command", "load_command", "flags")},
        "facts": {**texts, "cpu": {script: script}, "tools": {}},
    }
    rows = [row | hostile for row in sweep(["server_epoll", "server_poll"], [1, 10], 3)]
    write_sweep(tmp_path, rows, stacks=f"main;{script};\x1b[2J" + "{server} {user}\n")
    made = make_report(tmp_path)
    assert (made.communicate()[1], made.returncode) == ("", 0)
    path = tmp_path / "results/report.html"
    page = open_report(browser, path)
    assert page.evaluate("window.pwned") is None
    assert [frame.evaluate("window.pwned") for frame in page.frames] == [None] * 3
    page.context.close()
    text = path.read_text()
    path.write_text(text.replace("<main>", "<main><script>window.pwned = 1</script>"))
    page = browser.new_page()
    page.goto(path.as_uri())
    assert page.evaluate("window.pwned") is None
    path.write_text(path.read_text().replace("Content-Security-Policy", "no-policy"))
    page.goto(path.as_uri())
    assert page.evaluate("window.pwned") == 1
    page.context.close()


# --- What another host may answer ---


class HostileSide:
    """Answers every question with what nobody asked for."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __getattr__(self, _question: str) -> Any:
        return lambda *_, **__: self.answer


@pytest.mark.parametrize("answer", ["x\x1b[2J", None, [], {}, 1e400, {"port": "x"}], ids=repr)
def test_answer_of_the_wrong_type_is_one_line(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def side_at(*_: Any) -> Iterator[HostileSide]:
        yield HostileSide(answer)

    monkeypatch.setattr(places, "side_at", side_at)
    net = Network(interface="eth0", server="ssh:host", load="here")
    unusable = r"^ssh:host: an answer that cannot be used: "
    with (
        pytest.raises(places.SideLost, match=unusable) as raised,
        runs.connected(net, places.Side, places.Side, 1) as found,
    ):
        found.server.start_server()["port"] + 1
    assert str(raised.value).isprintable()


def test_own_mistakes_are_not_blamed_on_another_host() -> None:
    with pytest.raises(TypeError), places.distrusted(["here", "netns:a"]):
        raise TypeError
