"""scripts/run_lab.py: what is up while a command runs in it, and that nothing is left of it however that ends."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.checkouts import ROOT, eventually, make_program, processes_mentioning, run_program
from hosts import lock
from lab.link import (
    LOAD,
    SERVER,
    End,
    inhabitants,
    namespaces,
    netem_commands,
)
from lab.ssh import FOLDER
from run_lab import GRACE_S

LAB = [sys.executable, str(ROOT / "scripts/run_lab.py")]
TIMEOUT_S = 120
OTHERS_S = 60  # somebody else's lab may be up, one at a time is


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """The lab is gone after the test, and no other interface was touched."""
    if os.geteuid():
        pytest.fail("network namespaces need root: run this test with sudo", pytrace=False)
    before = interfaces()
    what_else = "a lab is up already, or one was killed: make lab-down"
    assert eventually(nothing_is_left, OTHERS_S), what_else
    yield
    left = nothing_is_left()
    run_lab("down")
    assert left
    assert interfaces() == before


lab_test = pytest.mark.usefixtures("nothing_left")


def nothing_is_left() -> bool:
    return not namespaces() and not FOLDER.exists() and not processes_mentioning(str(FOLDER))


def interfaces() -> object:
    return json.loads(output_of("ip", "-j", "link"))


def output_of(*command: str) -> str:
    done = run_program(command)
    assert done.returncode == 0, done.stderr
    return done.stdout


def inside(end: End, *command: str) -> list[str]:
    return ["ip", "netns", "exec", end.namespace, *command]


def run_lab(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return run_program([*LAB, *arguments], **changes)


def fails_with_one_line(done: subprocess.CompletedProcess[str], *parts: str) -> bool:
    (line,) = done.stderr.splitlines()
    return done.returncode == 1 and line.startswith("lab: ") and all(part in line for part in parts)


@contextlib.contextmanager
def lab_up(
    *options: str, command: str = "cat", before: str = ":"
) -> Iterator[subprocess.Popen[str]]:
    """A lab with a shell command in it that goes on, by itself until its input ends; leads a group of its own.

    `before`: a command that has ended when the lab is handed over.
    """
    with subprocess.Popen(
        [*LAB, "run", *options, "--", "sh", "-c", f"{before}; echo up; {command}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as lab:
        try:
            assert lab.stdout and lab.stdout.readline() == "up\n"
            yield lab
            if lab.poll() is None:
                lab.communicate(timeout=TIMEOUT_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(lab.pid, signal.SIGKILL)


@lab_test
def test_the_command_finds_the_link_up_and_its_addresses_usable() -> None:
    with lab_up():
        for end in (SERVER, LOAD):
            show = ["ip", "-n", end.namespace, "-j", "-6", "addr", "show", "dev", end.interface]
            (entry,) = json.loads(output_of(*show))
            assert entry["operstate"] == "UP"
            (address,) = entry["addr_info"]
            assert (address["local"], address["scope"]) == (end.address, "link")
            assert "tentative" not in address


@lab_test
@pytest.mark.parametrize(
    ("command", "status"),
    [("exit 7", 7), ("kill -KILL $$", 137)],
)
def test_its_status_is_the_commands(command: str, status: int) -> None:
    assert run_lab("run", "--", "sh", "-c", command).returncode == status


@lab_test
def test_a_command_that_does_not_exist_is_one_line() -> None:
    done = run_lab("run", "--", "nosuchcommand")
    assert done.returncode == 127 and "nosuchcommand" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@lab_test
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_lab_stays_up_until_the_command_has_ended_after_a_signal(number: int) -> None:
    trap = f"trap 'sleep 0.5; ip netns; exit 3' {number}"
    with lab_up(before=trap, command="while :; do sleep 0.1; done") as lab:
        if number == signal.SIGINT:
            os.killpg(lab.pid, number)  # as the terminal does
        else:
            lab.send_signal(number)
        said, _ = lab.communicate(timeout=TIMEOUT_S)
    assert lab.returncode == 3
    assert SERVER.namespace in said and LOAD.namespace in said


@lab_test
def test_a_signal_before_the_command_runs_keeps_it_from_running() -> None:
    with subprocess.Popen(
        [*LAB, "run", "--ssh", "--", "echo", "ran"], stdout=subprocess.PIPE, text=True
    ) as lab:
        assert eventually(namespaces)
        lab.terminate()
        said, _ = lab.communicate(timeout=TIMEOUT_S)
    assert (lab.returncode, said) == (128 + signal.SIGTERM, "")


@lab_test
def test_processes_that_the_command_leaves_in_the_lab_are_ended() -> None:
    stubborn = f"ip netns exec {LOAD.namespace} sh -c 'trap \"\" TERM; exec sleep 4242' &"
    with lab_up(command=f"{stubborn} cat") as lab:
        lab.communicate(timeout=TIMEOUT_S)
    assert lab.returncode == 0
    assert not processes_mentioning("sleep 4242")


@lab_test
def test_after_a_kill_the_next_lab_clears_up_once_nothing_lives_there_any_more() -> None:
    with (
        lab_up("--ssh", command="exec sleep 4243") as lab,
        subprocess.Popen(inside(SERVER, "sleep", "60")) as sleeper,
    ):
        lab.kill()
        lab.wait()
        # It has ended with the lab.
        assert eventually(lambda: not processes_mentioning("sleep 4243"))
        for action in (["run", "--", "true"], ["down"]):
            assert fails_with_one_line(run_lab(*action), f"{sleeper.pid} (sleep)")
        sleeper.kill()
    assert not nothing_is_left()
    assert run_lab("run", "--", "true").returncode == 0


@lab_test
def test_down_clears_up_after_a_kill_and_says_nothing_when_there_is_nothing() -> None:
    with lab_up(command="exec sleep 4245") as lab:
        lab.kill()
        lab.wait()
    assert eventually(lambda: not inhabitants())
    assert not nothing_is_left()
    for _ in range(2):
        done = run_lab("down")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert nothing_is_left()


@lab_test
def test_a_second_lab_is_refused_and_leaves_the_first_alone() -> None:
    with lab_up():
        for action in (["run", "--", "true"], ["down"]):
            assert fails_with_one_line(run_lab(*action), "another lab runs")
        assert len(namespaces()) == 2


@lab_test
def test_ssh_reaches_the_other_host_with_the_labs_key_alone() -> None:
    both = "ip -j link; ssh -F {ssh_config} lab ip -j link; ssh -F $LAB_SSH_CONFIG lab exit 5"
    with lab_up("--ssh", command=f"{both}; echo $?; cat") as lab:
        assert lab.stdout
        here, there = (json.loads(lab.stdout.readline()) for _ in range(2))
        assert SERVER.interface in [link["ifname"] for link in here]
        assert LOAD.interface in [link["ifname"] for link in there]
        assert lab.stdout.readline() == "5\n"

        (listener,) = output_of(*inside(LOAD, "ss", "-Htln")).splitlines()
        assert listener.split()[3].startswith("[fe80:") and "%io-models1:2222" in listener
        other_key = FOLDER / "other_key"
        output_of("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other_key))
        config = FOLDER / "other_config"
        text = (FOLDER / "ssh_config").read_text()
        config.write_text(text.replace(f"{FOLDER}/client_key", str(other_key)))
        ssh = inside(SERVER, "ssh", "-F", str(config), "-o", "BatchMode=yes", "lab", "true")
        refused = run_program(ssh)
        assert refused.returncode == 255 and "Permission denied (publickey)" in refused.stderr


@lab_test
def test_ssh_leaves_the_lock_of_measurements_and_the_machines_files_as_they_are() -> None:
    files = [lock.LOCK_PATH, "/sys/devices/system/cpu", "/etc/passwd", "/etc/shadow", "/run"]
    before = [os.stat(file) for file in files]
    done = run_lab("run", "--ssh", "--", "stat", "--format=%d %i", files[0])
    assert done.stdout == f"{before[0].st_dev} {before[0].st_ino}\n"
    assert [os.stat(file).st_ino for file in files] == [stat.st_ino for stat in before]
    assert [os.stat(file).st_dev for file in files] == [stat.st_dev for stat in before]


@lab_test
@pytest.mark.parametrize(
    ("option", "program", "says", "told"),
    [
        ("--ssh", "sshd", "no entropy", "sshd does not answer: no entropy"),
        ("--loss-percent=1", "tc", "Error: Specified qdisc kind is unknown.", "modprobe sch_netem"),
    ],
)
def test_an_sshd_that_does_not_start_or_a_kernel_that_refuses_netem_is_one_line(
    option: str, program: str, says: str, told: str, tmp_path: Path
) -> None:
    make_program(tmp_path / program, f"echo '{says}' >&2; exit 255")
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = run_lab("run", option, "--", "echo", "ran", PATH=path)
    assert fails_with_one_line(done, told, says)
    assert not done.stdout


@lab_test
def test_a_delay_is_on_both_ends_or_one_line_says_what_is_missing() -> None:
    both = f"tc -n {SERVER.namespace} qdisc; tc -n {LOAD.namespace} qdisc"
    done = run_lab("run", "--delay-ms", "20", "--", "sh", "-c", both)
    if done.returncode == 0:
        assert done.stdout.count("netem") == 2 and done.stdout.count("delay 20ms") == 2
    else:
        assert fails_with_one_line(done, "modprobe sch_netem")


@lab_test
def test_no_right_to_make_namespaces_is_one_line() -> None:
    bounded = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"]
    done = run_program([*bounded, *LAB, "run", "--", "true"])
    assert fails_with_one_line(done, "ip netns add io_models_server: ")


def test_whoever_is_not_root_is_told_in_one_line() -> None:
    # Root of nothing: in a user namespace without any users.
    done = run_program(["unshare", "--user", *LAB, "down"])
    assert fails_with_one_line(done, "need root", "sudo")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "action"),
        (["up"], "'up'"),
        (["run"], "no command"),
        (["run", "--"], "no command"),
        (["run", "true"], "true"),
        (["run", "--delay-ms", "long", "--", "true"], "'long'"),
        (["run", "--delay-ms", "-1", "--", "true"], "'-1'"),
        (["run", "--loss-percent", "101", "--", "true"], "'101'"),
        (["run", "--rate-mbit", "0", "--", "true"], "'0'"),
        (["run", "--rate-mbit", "nan", "--", "true"], "'nan'"),
    ],
)
def test_bad_usage_is_one_line(arguments: list[str], part: str) -> None:
    assert fails_with_one_line(run_lab(*arguments), part)


def test_delay_loss_and_rate_are_those_of_each_direction() -> None:
    assert netem_commands(None, None, None) == []
    netem = "root netem limit 100000 delay 2.5ms loss 0.1% rate 100mbit"
    assert [" ".join(command) for command in netem_commands(2.5, 0.1, 100)] == [
        f"tc -n io_models_server qdisc add dev io-models0 {netem}",
        f"tc -n io_models_load qdisc add dev io-models1 {netem}",
    ]
    assert netem_commands(0, None, None)[0][-2:] == ["delay", "0ms"]


SHARE = """
import os, sys
sys.path.insert(0, "scripts")
from hosts import network
from measuring import places
from measuring.host_side import HostSide
from workflow import preflight
net = network.Network(server="ssh:lab", load="ssh:lab", ssh_config=os.environ["LAB_SSH_CONFIG"])
for _ in "a killed one", "the next":
    (connection,) = preflight.share_connections(net)
    with places.side_at(HostSide, "ssh:lab", net.ssh_config) as side:
        print(side.boot(), flush=True)
    connection.kill()
    connection.wait()
    folder = os.environ[network.CONTROL_FOLDER]
    assert os.listdir(folder), "its socket is left, as after kill -9 of a sweep"
places.remove_control_folder()
"""


def test_shared_connection_that_was_killed_does_not_keep_the_next_from_being_made() -> None:
    done = run_lab("run", "--ssh", "--", sys.executable, "-c", SHARE)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.split()
    assert first == second


def test_a_command_that_does_not_end_when_it_is_told_to_is_ended() -> None:
    with lab_up(command="trap '' TERM; echo deaf; while :; do sleep 0.2; done") as lab:
        assert lab.stdout and lab.stdout.readline() == "deaf\n"
        os.kill(lab.pid, signal.SIGTERM)
        lab.communicate(timeout=GRACE_S + TIMEOUT_S)
        assert lab.returncode == 128 + signal.SIGKILL
    assert namespaces() == []
