"""Sides elsewhere: real agents, behind a made-up ssh and in network namespaces, and all that can go wrong with them."""

import contextlib
import fcntl
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from helpers.checkouts import ROOT, eventually, make_program, run_program, run_script
from helpers.external_servers import EXAMPLES, prepare
from helpers.measured import OF_THE_MACHINE, compile_load, compile_server
from hosts import interfaces, lock, network
from hosts.cpus import CpuFault
from hosts.lock import take_lock
from hosts.network import Network
from instruments import supervisor
from measuring import places, runs
from measuring.host_side import HostSide
from measuring.places import SideLost
from measuring.preflight_side import PreflightSide
from sweep import flags
from workflow import health
from workflow.preflight import faults, share_connections

# As ssh and sshd do: the words go to a shell on the other host, in an environment of its own, over a connection whose
# end is the end of its standard input.
SSH = """\
while :; do
    case $1 in
        -F|-o) shift 2 ;;
        --) shift; break ;;
        *) echo "unexpected $1" >&2; exit 255 ;;
    esac
done
shift
{delayed} | {{
    setsid --wait env -i HOME=/ TMPDIR='{tmp}' PATH='{path}' {greeting}sh -c "$*" | {delayed}
    kill -KILL 0
}}
"""
# Of each line, there and back.
DELAY = """import sys, time
for line in sys.stdin.buffer:
    time.sleep(float(sys.argv[1]))
    sys.stdout.buffer.write(line)
    sys.stdout.flush()
"""
PLACE = "ssh:someone@host"
READY = "read -r _; echo '{\"ready\": true}'\n"  # once what the agent is made of was sent
SHORT = ["--connections", "4", "--duration-s", "0.6", "--warmup-s", "0.2"]


class Ssh:
    """A made-up ssh, and the host behind it."""

    def __init__(self, folder: Path) -> None:
        self.tmp = folder / "tmp of the host"
        self.bin = folder / "bin"
        self.tmp.mkdir()
        self.bin.mkdir()

    def script(self, name: str, text: str) -> None:
        make_program(self.bin / name, text)

    def works(self, path: str | None = None, greeting: str = "", delay_s: float = 0) -> None:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}" if path is None else path
        delayed = f"{sys.executable} -c '{DELAY}' {delay_s}" if delay_s else "cat"
        self.script("ssh", SSH.format(tmp=self.tmp, path=path, greeting=greeting, delayed=delayed))

    def pids(self) -> list[int]:
        """Processes of the host."""
        seen = psutil.process_iter(["environ"])
        return [it.pid for it in seen if (it.info["environ"] or {}).get("TMPDIR") == str(self.tmp)]

    def agent_pid(self) -> int:
        """Of the agent itself: what it starts has its command line too, until that has begun another program."""
        found = [pid for pid in self.pids() if b"\0-I\0-c\0" in command_of(pid)]
        (pid,) = set(found) - {child for pid in found for child in supervisor.descendants_of(pid)}
        return pid

    def folders(self) -> list[Path]:
        return list(self.tmp.iterdir())


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ssh]:
    """It works; after the test nothing of an agent is left, here or there."""
    made = Ssh(tmp_path)
    made.works()
    monkeypatch.setenv("PATH", f"{made.bin}:{os.environ['PATH']}")
    yield made
    assert eventually(lambda: not made.pids())
    assert made.folders() == []


def line_of(raised: pytest.ExceptionInfo[Exception]) -> str:
    line = str(raised.value)
    assert line and "\n" not in line
    return line


def refused(place: str = PLACE) -> str:
    """Why there is no side at a place."""
    with pytest.raises(SideLost) as raised, places.side_at(HostSide, place):
        pass
    return line_of(raised)


# --- A host that cannot be reached, or does not do ---

SAID = {
    "password": (
        "someone@host: Permission denied (publickey,password).",
        "let you in without a password: ssh-copy-id someone@host",
    ),
    "unknown key": (
        "No ED25519 host key is known for host and you have requested strict checking.\n"
        "Host key verification failed.",
        "its key is not known: once by hand: ssh someone@host true",
    ),
    "changed key": (
        "@@@@@@@@@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n@@@@@@@@@@@\n"
        "IT IS POSSIBLE THAT\nHost key verification failed.",
        "REMOTE HOST IDENTIFICATION HAS CHANGED: if that is right: ssh-keygen -R someone@host",
    ),
    "no such name": (
        "ssh: Could not resolve hostname host: Name or service not known",
        "give network.server and network.load names that ssh knows",
    ),
    "silent": (
        "ssh: connect to host host port 22: Connection timed out",
        "does `ssh someone@host true` work?",
    ),
    "refused": (
        "ssh: connect to host host port 22: Connection refused",
        "does `ssh someone@host true` work?",
    ),
    "nothing said": ("", "the connection was lost: does `ssh someone@host true` work?"),
}


@pytest.mark.parametrize("fault", SAID)
def test_host_that_lets_nobody_in_is_one_line_with_what_to_do(fault: str, ssh: Ssh) -> None:
    said, fix = SAID[fault]
    ssh.script("ssh", f"cat >&2 <<'EOF'\n{said}\nEOF\nexit 255\n")
    line = refused()
    assert line.startswith(f"{PLACE}: ") and line.endswith(fix)


def test_advice_names_the_file_that_the_config_names() -> None:
    line = places.explain(PLACE, "Permission denied (publickey).", "my config")
    assert line.endswith("ssh-copy-id -F 'my config' someone@host")


@pytest.mark.parametrize(
    ("python", "said"),
    [
        ("", "python3: not found: install Python 3.11 or newer there"),
        ("echo Python 3.9.2 is older than 3.11 >&2; exit 1", "install Python 3.11 or newer there"),
    ],
)
def test_host_without_our_python_is_one_line(python: str, said: str, ssh: Ssh) -> None:
    path = ssh.bin / "of the host"
    path.mkdir()
    (path / "sh").symlink_to("/bin/sh")
    if python:
        ssh.script("of the host/python3", python)
    ssh.works(path=str(path), greeting="/usr/bin/env ")
    assert refused().endswith(said)


def test_python_that_is_too_old_says_so_itself() -> None:
    older = places.BOOTSTRAP.replace("(3, 11)", "(9, 9)")
    run = run_program([sys.executable, "-I", "-c", older])
    version = sys.version.split()[0]
    assert (run.returncode, run.stderr) == (1, f"Python {version} is older than 3.11\n")


def test_ssh_that_is_not_installed_is_one_line(ssh: Ssh, monkeypatch: pytest.MonkeyPatch) -> None:
    (ssh.bin / "ssh").unlink()
    for tool in ("setpriv", "sh"):
        (ssh.bin / tool).symlink_to(f"/usr/bin/{tool}")
    monkeypatch.setenv("PATH", str(ssh.bin))
    assert refused().endswith("exec: ssh: not found: install it: make setup")


def test_host_that_lets_in_and_says_nothing_is_given_up(
    ssh: Ssh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "START_TIMEOUT_S", 0.3)
    ssh.script("ssh", f"exec env TMPDIR='{ssh.tmp}' sleep 60\n")
    assert "no answer within 0.3 s: does `ssh someone@host true` work?" in refused()


def test_greeting_of_the_hosts_shell_is_no_answer(ssh: Ssh) -> None:
    ssh.works(greeting='sh -c \'echo Welcome; echo {}; echo "[1]"; exec "$@"\' greeting ')
    with places.side_at(HostSide, PLACE) as side:
        assert abs(side.clock() - time.time()) < 5


def test_modules_arrive_whole_in_any_locale(ssh: Ssh) -> None:
    ssh.script("python3", f"LC_ALL=C exec '{sys.executable}' -X utf8=0 \"$@\"\n")
    ssh.works(path=f"{ssh.bin}:/usr/bin:/bin")
    with places.side_at(PreflightSide, PLACE) as side:
        side.clock()
        for text in ssh.folders()[0].glob("*.py"):
            assert text.read_bytes() == (ROOT / "scripts" / text.name).read_bytes()


def test_our_errors_come_back_as_themselves_and_others_as_one_of_the_system(ssh: Ssh) -> None:
    with places.side_at(HostSide, PLACE) as side:
        with pytest.raises(interfaces.NotReady, match=r"^there is no interface 'none', there are:"):
            side.address("none", "ipv4")
        with pytest.raises(CpuFault, match=r"^cpus.server: CPU 9999 is not online here"):
            side.whole_cpus("server", {"server": "9999"}, None)
        with pytest.raises(OSError, match=r"^ssh:someone@host: TypeError in agent.py:\d+: .*clock"):
            side.clock(1)
        with pytest.raises(OSError, match="No such file or directory"):
            side.deliver("no/folder", "")
        with pytest.raises(OSError, match=r"^ssh:someone@host: "):  # binascii's
            side.deliver("name", "a")
        with pytest.raises(OSError, match="TypeError in "):  # bytes are no JSON
            side.deliver("name", {})
        assert side.clock() > 0  # it goes on


def test_more_than_a_pipe_holds_goes_both_ways(ssh: Ssh) -> None:
    with places.side_at(HostSide, PLACE) as side:
        path = Path(side.deliver("program", "QUJD" * 1_000_000))
        assert path.stat().st_size == 3_000_000 and os.access(path, os.X_OK)
    ssh.script(
        "ssh",
        READY
        + f'exec \'{sys.executable}\' -c \'print("{{\\"result\\": \\"" + "a" * 5000000 + "\\"}}")\'\n',
    )
    with places.side_at(HostSide, PLACE) as side:
        assert len(str(side.clock())) == 5_000_000


def error(module: str, name: str, *arguments: str) -> str:
    return json.dumps({"error": {"module": module, "class": name, "arguments": arguments}})


HOSTILE = [
    error("builtins", "SystemExit", "0"),
    error("builtins", "KeyboardInterrupt"),
    error("builtins", "exec", "open('ran', 'w')"),
    error("os", "system", "touch ran"),
    error("sides", "subprocess.run", "touch ran"),
    error("sides", "Agent", "touch ran"),
    error("processes", "one_line", "returned, not raised"),
    error("subprocess", "CalledProcessError", "1", "touch ran"),
    error("sides", "SideLost", "two\nlines"),
    error("perf_permission", "PerfObstacle", "too few"),
    error("", ""),
    '{"error": {"module": [], "class": 5, "arguments": 7}}',
    '{"error": {"self": 1}}',
    '{"error": 5}',
    "{}",
    "[]",
    "5",
    "no JSON",
    '{"result": ',
    "[" * 100_000,
]


@pytest.mark.parametrize("answer", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_answer_is_one_line_and_runs_nothing(
    answer: str, ssh: Ssh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ssh.bin)
    (ssh.bin / "answer").write_text(f"{answer}\n")
    ssh.script("ssh", f"{READY}read -r _\ncat '{ssh.bin}/answer'\n")
    with places.side_at(HostSide, PLACE) as side, pytest.raises(OSError) as raised:
        side.clock()
    line_of(raised)
    assert not (ssh.bin / "ran").exists()


def test_answer_without_an_end_is_one_line(ssh: Ssh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "LONGEST_ANSWER", 100_000)
    ssh.script("ssh", f"{READY}export TMPDIR='{ssh.tmp}'\ntr '\\0' '[' < /dev/zero\n")
    with places.side_at(HostSide, PLACE) as side, pytest.raises(SideLost) as raised:
        side.clock()
    assert "this is no answer of ours: '[[[" in line_of(raised)


def test_question_that_is_interrupted_ends_the_side(
    ssh: Ssh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the answer to it would be taken for that to the next one."""
    monkeypatch.setattr(places, "STOP_TIMEOUT_S", 0.1)
    ssh.script("ssh", f"{READY}exec env TMPDIR='{ssh.tmp}' sleep 60\n")
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with places.side_at(HostSide, PLACE) as side:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(KeyboardInterrupt):
                side.clock()
            with pytest.raises(SideLost, match="has been ended"):
                side.clock()
    finally:
        signal.signal(signal.SIGALRM, before)


# --- Ends ---


@pytest.mark.parametrize("who", ["agent", "ssh"])
def test_connection_that_dies_in_the_middle_is_one_line(who: str, ssh: Ssh) -> None:
    with places.side_at(HostSide, PLACE) as side:
        side.clock()
        agent: Any = side
        if who == "agent":
            os.kill(ssh.agent_pid(), signal.SIGTERM)
        else:
            os.killpg(agent._process.pid, signal.SIGKILL)
        with pytest.raises(SideLost) as raised:
            for _ in range(3):
                side.clock()
        assert "the connection was lost" in line_of(raised)
        with pytest.raises(SideLost):
            side.end_run()


def test_agent_ends_by_itself_when_its_time_is_over(ssh: Ssh) -> None:
    with places.side_at(HostSide, PLACE, lifetime_s=1) as side:
        side.clock()
        assert eventually(lambda: not ssh.pids()) and ssh.folders() == []
        with pytest.raises(SideLost, match="the connection was lost"):
            side.clock()


def test_next_agent_removes_what_a_killed_one_left_and_nothing_else(ssh: Ssh) -> None:
    old, fresh, other = (
        ssh.tmp / name for name in ("io_models_agent_1", "io_models_agent_2", "other")
    )
    for folder in (old, fresh, other):
        folder.mkdir()
        (folder / "file").touch()
        if folder != fresh:
            os.utime(folder, (0, 0))
    with places.side_at(HostSide, PLACE) as side:
        side.clock()
        assert not old.exists() and len(ssh.folders()) == 3
    for folder in (fresh, other):
        (folder / "file").unlink()
        folder.rmdir()


def test_living_agent_keeps_its_folder_from_the_next(ssh: Ssh) -> None:
    with places.side_at(HostSide, PLACE) as first:
        first.clock()
        (folder,) = ssh.folders()
        os.utime(folder, (0, 0))
        with places.side_at(HostSide, PLACE) as second:
            second.clock()
            assert folder.exists() and len(ssh.folders()) == 2


# --- Connections for a whole sweep ---

MASTER = """\
for word; do
    [ "$word" = -O ] && exec test -e '{bin}/up'
    [ "$word" = -N ] && {{ {master} }}
done
"""


@pytest.fixture
def control_folders(ssh: Ssh, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where they are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(ssh.bin))
    monkeypatch.setattr(places, "START_TIMEOUT_S", 0.5)
    monkeypatch.setenv(network.CONTROL_FOLDER, "")  # and as it was in the end
    return ssh.bin


def test_connection_is_shared_once_it_is_there_and_ends(ssh: Ssh, control_folders: Path) -> None:
    master = f"touch '{ssh.bin}/up'; exec env TMPDIR='{ssh.tmp}' sleep 60;"
    ssh.script("ssh", MASTER.format(bin=ssh.bin, master=master))
    (connection,) = share_connections(Network(server=PLACE, load=PLACE))
    (folder,) = control_folders.glob("io_models_ssh_*")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert f"ControlPath={folder}/%C" in network.ssh_command(PLACE, None)
    assert eventually(lambda: len(ssh.pids()) == 1) and connection.poll() is None
    connection.terminate()
    connection.communicate()
    places.remove_control_folder()
    assert not folder.exists()
    assert "ControlPath=none" in network.ssh_command(PLACE, None)


@pytest.mark.parametrize(
    ("master", "said"),
    [
        ("echo 'x: Permission denied (publickey).' >&2; exit 255;", "ssh-copy-id someone@host"),
        ("exec env TMPDIR='{tmp}' sleep 60;", "no answer within 0.5 s: does `ssh someone@host"),
    ],
)
def test_connection_that_is_not_made_is_one_line(
    master: str, said: str, ssh: Ssh, control_folders: Path
) -> None:
    ssh.script("ssh", MASTER.format(bin=ssh.bin, master=master.format(tmp=ssh.tmp)))
    with pytest.raises(SideLost) as raised:
        list(share_connections(Network(server=PLACE, load=PLACE)))
    assert said in line_of(raised)


def test_connections_that_were_made_before_one_fails_can_be_ended(
    ssh: Ssh, control_folders: Path
) -> None:
    master = f"""
        case $* in *other) exit 255 ;; esac
        touch '{ssh.bin}/up'; exec env TMPDIR='{ssh.tmp}' sleep 60;"""
    text = MASTER.format(bin=ssh.bin, master=master)
    ssh.script("ssh", text.replace("-O ]", "-O ] && case $* in *other) exit 1 ;; esac && [ 1 ]"))
    made: list[Any] = []
    with pytest.raises(SideLost):
        made.extend(share_connections(Network(server=PLACE, load="ssh:other")))
    (connection,) = made
    connection.terminate()
    connection.communicate()


def test_folder_of_a_killed_sweep_is_removed_and_one_in_use_is_not(control_folders: Path) -> None:
    dead, living = (control_folders / f"io_models_ssh_{name}" for name in ("dead", "living"))
    for folder in (dead, living):
        folder.mkdir()
        os.utime(folder, (0, 0))
    lock = os.open(living, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        places.make_control_folder()
    finally:
        os.close(lock)
    assert not dead.exists() and living.exists()


# --- Two sweeps that each have a machine of the other's ---


class OtherMachine:
    def __init__(self, lock: str) -> None:
        self._lock = os.open(lock, os.O_RDONLY | os.O_CREAT)

    def boot(self) -> str:
        return "other"

    def lock(self) -> bool:
        return take_lock(self._lock, wait=False)


def control(own: str, others: str, meet: Any, done: Any) -> None:
    """A sweep on one machine whose server is on another."""
    first = True

    @contextlib.contextmanager
    def connected(net: Network, *_: object) -> Iterator[Any]:
        nonlocal first
        if first:
            meet.wait(10)  # each holds its own machine now
            first = False
        other = OtherMachine(others)
        try:
            yield runs.Sides(net, other, HostSide(), True, {}, {})
        finally:
            os.close(other._lock)

    Path(own).touch()
    lock.LOCK_PATH = own
    runs.connected = connected
    arguments: Any = SimpleNamespace(network=Network(server=PLACE), load_s=0, start_timeout_s=0)
    with runs.exclusive_sides(arguments, HostSide):
        time.sleep(0.1)
    done.put(own)


def test_two_sweeps_with_a_machine_of_each_others_do_not_wait_for_ever(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    one, two, meet, done = str(tmp_path / "1"), str(tmp_path / "2"), fork.Barrier(2), fork.Queue()
    both = [
        fork.Process(target=control, args=[own, others, meet, done])
        for own, others in ((one, two), (two, one))
    ]
    try:
        for process in both:
            process.start()
        for process in both:
            process.join(20)
        assert [process.exitcode for process in both] == [0, 0]
    finally:
        for process in both:
            process.kill()


# --- Measuring by hand ---


@pytest.fixture(scope="module")
def server_epoll(tmp_path_factory: pytest.TempPathFactory) -> str:
    return compile_server("server_epoll", tmp_path_factory.mktemp("bin"))


def run_over(net: dict[str, str], name: str, *arguments: object, cwd: Path) -> None:
    """A script."""
    run = run_script(name, *arguments, *SHORT, "--network", json.dumps(net), cwd=cwd)
    assert run.returncode == 0, run.stderr


def measured(binary: str, net: dict[str, str], folder: Path, status: str = "ok") -> dict[str, Any]:
    output = folder / "record.json"
    run_over(net, "measure_cell.py", binary, output, "--disturbed-retries", "0", cwd=folder)
    record = json.loads(output.read_text())
    assert record["status"] == status, record["flags"]
    assert set(record["flags"]) <= OF_THE_MACHINE or status == "invalid"
    return dict(record)


@pytest.mark.alone
@pytest.mark.parametrize("remote", [("server",), ("load",), ("server", "load")])
def test_cell_over_ssh_counts_as_one_here(
    remote: tuple[str, ...], server_epoll: str, ssh: Ssh, tmp_path: Path
) -> None:
    record = measured(server_epoll, dict.fromkeys(remote, PLACE), tmp_path)
    assert record["kernel_connections"] == record["server_accepted"] == 1 + 4
    assert record["kernel_responses"] == record["server_requests"]
    assert 0 <= record["kernel_responses"] - record["requests"] <= 4
    assert record["asked"]["network"] == network.Network(**dict.fromkeys(remote, PLACE))._asdict()
    assert set(record["clocks_ahead_s"]) == set(remote)
    assert record["interface"] is None
    program = record["server_command"][3]
    assert program.startswith(f"{ssh.tmp}/" if "server" in remote else server_epoll)


@pytest.mark.alone
def test_server_that_is_far_away_has_its_share_of_its_own_time(
    server_epoll: str, ssh: Ssh, tmp_path: Path
) -> None:
    """It is read later than the load by the way there: half as long as the load had run."""
    ssh.works(delay_s=0.15)
    record = measured(server_epoll, {"server": PLACE}, tmp_path)
    share = record["requests_per_second"] * record["server_cpu_ns_per_request"] / 1e9
    assert record["server_cpu_share"] == pytest.approx(share / len(record["server_cpus"]), rel=0.2)


@pytest.mark.alone
def test_external_server_over_ssh_has_a_cell_that_counts(ssh: Ssh, tmp_path: Path) -> None:
    binary = prepare(tmp_path, "mine", EXAMPLES["python_asyncio"])
    record = measured(binary, {"server": PLACE}, tmp_path)
    assert record["kernel_connections"] == 1 + 4 and record["server_counts"] == []
    assert not (tmp_path / "results/external").exists()  # it ran there


@pytest.mark.alone
def test_profile_and_system_calls_are_counted_over_ssh(
    server_epoll: str, ssh: Ssh, tmp_path: Path
) -> None:
    net = {"server": PLACE, "load": PLACE}
    folded, facts, table = (tmp_path / name for name in ("folded", "facts.json", "table.csv"))
    run_over(net, "profile_server.py", server_epoll, folded, facts, cwd=tmp_path)
    seen = json.loads(facts.read_text())
    if seen["status"] != "not_permitted":
        assert seen["samples"] > 0, seen
    run_over(net, "count_syscalls.py", server_epoll, table, cwd=tmp_path)
    assert ",epoll_wait," in table.read_text() or ",not_permitted," in table.read_text()


@contextlib.contextmanager
def measuring(
    binary: str, net: dict[str, str], folder: Path, duration_s: int
) -> Iterator["subprocess.Popen[str]"]:
    """A controller that measures a cell by hand."""
    script = [sys.executable, str(ROOT / "scripts/measure_cell.py"), binary, "record.json"]
    options = ["--connections", "4", "--duration-s", str(duration_s), "--warmup-s", "0"]
    command = [*script, *options, "--network", json.dumps(net)]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as controller:
        try:
            yield controller
        finally:
            controller.kill()


def wrk_is_among(pids: Iterable[int]) -> bool:
    return any(command_of(pid).startswith(b"wrk\0-t\0") for pid in pids)


@pytest.mark.alone
def test_nothing_outlives_a_controller_that_is_killed(
    server_epoll: str, ssh: Ssh, tmp_path: Path
) -> None:
    with measuring(server_epoll, {"server": PLACE, "load": PLACE}, tmp_path, 20):
        assert eventually(lambda: wrk_is_among(ssh.pids()), 120)
        assert any(b"--port" in command_of(pid) for pid in ssh.pids())
    assert eventually(lambda: not ssh.pids())
    assert ssh.folders() == []


@pytest.mark.alone
def test_side_that_is_lost_while_it_measures_is_one_line(
    server_epoll: str, ssh: Ssh, tmp_path: Path
) -> None:
    with measuring(server_epoll, {"server": PLACE}, tmp_path, 2) as controller:

        def wrk_runs() -> bool:
            with contextlib.suppress(OSError):  # one ends while they are listed
                return wrk_is_among(supervisor.descendants_of(controller.pid))
            return False

        assert eventually(wrk_runs, 120)
        os.kill(ssh.agent_pid(), signal.SIGKILL)
        _, said = controller.communicate(timeout=120)
    assert controller.returncode == 1
    (line,) = said.splitlines()
    assert (
        line.startswith("measure_cell: server_epoll")
        and f"{PLACE}: the connection was lost" in line
    )
    assert not (tmp_path / "record.json").exists()
    for folder in ssh.folders():  # it could not; the next agent does
        os.utime(folder, (0, 0))
    with places.side_at(HostSide, PLACE) as side:
        side.clock()


# --- Network namespaces ---

SERVER, LOAD, TWIN = "iotest_server", "iotest_load", "iotest_twin"
LINK = Network(
    interface="iotest0", load_interface="iotest1", server=f"netns:{SERVER}", load=f"netns:{LOAD}"
)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def remove_namespaces() -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{network.NAMESPACES}/{TWIN}")
    for name in (SERVER, LOAD):
        with contextlib.suppress(subprocess.CalledProcessError):
            ip("netns", "delete", name)


@pytest.fixture(scope="module")
def link() -> Iterator[Network]:
    """Two namespaces with a link between them, and a second name for the server's."""
    if os.geteuid():
        pytest.fail("network namespaces need root: run this test with sudo", pytrace=False)
    remove_namespaces()
    try:
        for name in (SERVER, LOAD):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ends = ["iotest0", "type", "veth", "peer", "iotest1", "netns", LOAD]
        ip("-n", SERVER, "link", "add", *ends)
        ip("-n", SERVER, "link", "add", "idle0", "type", "veth", "peer", "idle1")
        for name, interface, number in ((SERVER, "iotest0", 1), (LOAD, "iotest1", 2)):
            ip("-n", name, "link", "set", interface, "addrgenmode", "none")
            ip("-n", name, "link", "set", interface, "up")
            address = f"fe80::{number}/64"
            ip("-n", name, "address", "add", address, "dev", interface, "nodad")
        ip("-n", SERVER, "address", "add", "2001:db8::1/128", "dev", "iotest0", "nodad")
        os.symlink(f"{network.NAMESPACES}/{SERVER}", f"{network.NAMESPACES}/{TWIN}")
        assert eventually(lambda: not link_faults(LINK))
        yield LINK
    finally:
        remove_namespaces()


def link_faults(net: Network, prepare: Callable[[], None] | None = None) -> list[str]:
    with runs.connected(net, PreflightSide, PreflightSide, 60) as found:
        if prepare:
            prepare()
        return faults(found)


@pytest.mark.alone
def test_what_a_cell_measures_over_a_link_has_crossed_it(
    link: Network, server_epoll: str, tmp_path: Path
) -> None:
    record = measured(server_epoll, link._asdict(), tmp_path)
    crossed = record["interface"]
    assert crossed["sent_bytes"] > record["response_bytes"] > 0
    assert crossed["received_packets"] >= record["requests"] / 4
    assert crossed["dropped_packets"] == 0
    assert record["kernel_connections"] == record["server_accepted"] == 1 + 4
    assert "http://[fe80::1%iotest1]:" in record["load_command"][-1]
    assert record["server_command"][-2:] == ["--interface", "iotest0"]
    assert not flags.bypasses_interface(record)
    past = record | {"interface": crossed | {"sent_bytes": record["response_bytes"] - 1}}
    assert [flag.name for flag in flags.flags_of(past) if flag.invalidates] == [
        "bypassed_interface"
    ]


@pytest.mark.alone
def test_cell_at_a_rate_crosses_a_link(link: Network, server_epoll: str, tmp_path: Path) -> None:
    output = tmp_path / "record.json"
    options = ("--load", compile_load(tmp_path), "--rate", "q500", "--paired-s", "0.3")
    pair = ("--reference", compile_server("reference", tmp_path))
    run_over(
        link._asdict(), "measure_latency.py", server_epoll, output, *options, *pair, cwd=tmp_path
    )
    record = json.loads(output.read_text())
    assert set(record["flags"]) <= OF_THE_MACHINE | {"generator_late"}
    assert record["achieved_per_second"] >= 0.99 * record["offered_per_second"] > 0
    assert record["errors"] == record["reconnects"] == 0 < record["cpu_ratio"]
    assert "http://[fe80::1%iotest1]:" in record["load_command"][2]


@pytest.mark.alone
def test_cell_whose_answers_went_another_way_is_invalid(
    link: Network, server_epoll: str, tmp_path: Path
) -> None:
    net = link._replace(load=f"netns:{TWIN}", load_interface=None)
    record = measured(server_epoll, net._asdict(), tmp_path, status="invalid")
    assert "bypassed_interface" in record["flags"]


def wrong_neighbour() -> None:
    """What is sent to the server arrives at nobody."""
    where = ["dev", "iotest1", "lladdr", "02:00:00:00:00:99", "nud", "permanent"]
    ip("-n", LOAD, "neighbour", "replace", "fe80::1", *where)


def tentative() -> None:
    ip("-n", SERVER, "address", "add", "fe80::5/64", "dev", "iotest0")


WAYS: dict[str, tuple[dict[str, str], Callable[[], None] | None, str]] = {
    "none such": (
        {"interface": "none0"},
        None,
        "network.interface at netns:iotest_server: there is no interface 'none0'",
    ),
    "none such at the load": (
        {"load_interface": "none1"},
        None,
        "network.load_interface at netns:iotest_load: there is no interface 'none1', there are: ",
    ),
    "down": ({"interface": "idle0"}, None, "idle0 is down: sudo ip -n iotest_server link set"),
    "no carrier": (
        {"interface": "idle0"},
        lambda: ip("-n", SERVER, "link", "set", "idle0", "up"),
        "idle0 has no carrier",
    ),
    "no address": ({"address": "ipv4"}, None, "iotest0 has no ipv4 address, it"),
    "tentative": ({"address": "fe80::5"}, tentative, "fe80::5 of iotest0 is still tentative"),
    "no route": ({"address": "global"}, None, "Network is unreachable"),
    "nothing arrives": ({}, wrong_neighbour, "timed out: are both on one link"),
    "shorter way": (
        {"load": f"netns:{TWIN}", "load_interface": "iotest0"},
        None,
        "do not come in over iotest0: both sides are in one network namespace",
    ),
}


@pytest.mark.parametrize("fault", WAYS)
def test_way_that_is_not_there_is_one_line(fault: str, link: Network) -> None:
    changes, prepare, said = WAYS[fault]
    try:
        (line,) = link_faults(link._replace(**changes), prepare)
    finally:
        for undo in (
            ["-n", LOAD, "neighbour", "delete", "fe80::1", "dev", "iotest1"],
            ["-n", SERVER, "address", "delete", "fe80::5/64", "dev", "iotest0"],
            ["-n", SERVER, "link", "set", "idle0", "down"],
        ):
            with contextlib.suppress(subprocess.CalledProcessError):
                ip(*undo)
    assert said in line and "\n" not in line
    assert line.startswith("network")


def test_namespace_that_does_not_exist_is_one_line() -> None:
    line = refused("netns:iotest_none")
    assert line.startswith("netns:iotest_none: ")
    assert line.endswith("sudo ip netns add iotest_none; `ip netns` lists them")


def test_namespace_that_is_not_ours_to_enter_is_one_line() -> None:
    said = "nsenter: reassociate to namespace 'ns/net' failed: Operation not permitted"
    assert (
        places.explain("netns:x", said)
        == f"{said}: to enter a namespace takes root: run it with sudo"
    )


# --- Doctor ---


def two_hosts(**ahead_s: float) -> Any:
    return runs.Sides(Network(load=PLACE), PreflightSide(), PreflightSide(), True, 0.01, ahead_s)


def test_clock_that_is_wrong_is_told_with_its_fix() -> None:
    checks = list(health.clock_checks(two_hosts(server=3.0, load=-3.0)))
    assert [check.status for check in checks] == ["warn", "warn"]
    assert [check.name for check in checks] == ["clock of server", "clock of load"]
    assert "3.000 s ahead of" in checks[0].found and "3.000 s behind" in checks[1].found
    assert all("chronyc" in check.fix and not check.stops for check in checks)
    (check,) = health.clock_checks(two_hosts(load=0.5))
    assert (check.status, check.fix) == ("ok", "")


def test_clock_is_compared_at_the_middle_of_the_quickest_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 1000.0
    monkeypatch.setattr(
        places, "time", SimpleNamespace(monotonic=lambda: now_s, time=lambda: now_s + 5)
    )

    class Ahead:
        after_s: tuple[float, ...] = (0.5, 0.1, 0.5, 0.5, 0.5)

        def clock(self) -> float:
            nonlocal now_s
            after_s, *self.after_s = self.after_s  # type: ignore[assignment]
            theirs_s = now_s + 0.1 + 5 + 3
            now_s += 0.1 + after_s
            return theirs_s

    trip_s, ahead_s = places.round_trip(Ahead())
    assert (trip_s, ahead_s) == (pytest.approx(0.2), pytest.approx(3))


def test_way_over_loopback_is_not_asked_and_over_a_link_is_told(link: Network) -> None:
    assert health.network_checks(two_hosts()) == []
    for net, status in ((link, "ok"), (link._replace(interface="none0"), "bad")):
        with runs.connected(net, PreflightSide, PreflightSide, 60) as found:
            (check,) = health.network_checks(found)
        assert (check.status, check.stops) == (status, status == "bad")
        stops = health.describe_stops([health.HostChecks("between", [check])])
        assert len(stops) == (status == "bad")


def test_doctor_looks_at_both_hosts_or_says_in_one_line_why_not(ssh: Ssh, tmp_path: Path) -> None:
    net = json.dumps({"server": PLACE, "load": PLACE})
    seen = run_script("doctor.py", "--brief", "--network", net, cwd=tmp_path)
    assert seen.stderr == ""
    assert f"server, load ({PLACE}): " in seen.stdout and "between the two sides" in seen.stdout
    # By which the speed wandered on the load's.
    assert "on the server's CPUs and by " in seen.stdout
    ssh.script("ssh", "echo 'ssh: connect to host host port 22: Connection refused' >&2; exit 255")
    seen = run_script("doctor.py", "--brief", "--network", net, cwd=tmp_path)
    assert (seen.returncode, seen.stderr) == (1, "")
    (line,) = seen.stdout.splitlines()
    assert line.startswith(f"doctor: {PLACE}: ssh: connect to") and line.endswith("true` work?")


def test_side_listens_where_it_is_reached() -> None:
    side = PreflightSide()
    with contextlib.closing(side):
        port = side.listen("::1")
        PreflightSide().reach("::1", port)
    with pytest.raises(OSError), socket.create_connection(("::1", port), 1):
        pass
