"""What a machine does to a sweep: kills, a full or read-only disk, no ports, no memory, a clock that is set."""

import fcntl
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import kills
from helpers.checkouts import (
    ROOT,
    copy_checkout,
    environment,
    eventually,
    run_program,
    run_snakemake,
)
from helpers.overlays import overlay
from hosts import lock
from instruments import wrk
from sweep import records
from workflow import working_folder

OVERLAY = overlay(connections=[2], repeats=2)
CELLS = "results/cells/server_epoll.csv"
RECORDS = "results/cells/keepalive/server_epoll"
LOCKS = ".snakemake/locks"


def test_sweep_that_is_killed_again_and_again_ends_well(tmp_path: Path) -> None:
    sweep = kills.Sweep(tmp_path / "checkout", kills.TARGETS[:1], seed=1)
    sweep.kill_many(8)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with a finished sweep."""
    checkout = copy_checkout(tmp_path_factory.mktemp("faults") / "checkout")
    (checkout / "tiny.yaml").write_text(OVERLAY)
    run = sweep(checkout)
    assert run.returncode == 0, run.stdout
    return checkout


def sweep(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_snakemake(checkout, CELLS, *arguments, "--configfile", "tiny.yaml")


def in_own_mounts(checkout: Path, *commands: str) -> subprocess.CompletedProcess[str]:
    """Commands of a shell, one after the other whatever becomes of them, whose mounts nobody else sees."""
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["unshare", "--mount", "sh", "-c", "\n".join(commands)]
    return run_program(command, checkout, PATH=programs)


def script(name: str, *arguments: str) -> str:
    return shlex.join([sys.executable, str(ROOT / "scripts" / name), *arguments])


CELL = ("results/bin/server_epoll", "full/r.json", "--duration-s", "0.1", "--warmup-s", "0")
TABLE = ("server_epoll", "full/c.csv", "--points", '{"keepalive": [[2], 2]}')
WRITERS = {
    "record": script("measure_cell.py", *CELL),
    "table": script("collect_cells.py", *TABLE),
    "picture": script("plot_server.py", CELLS, "full/p.png", "full/p.svg"),
}


@pytest.mark.parametrize("what", WRITERS)
def test_full_disk_is_one_line_and_leaves_no_part_of_a_file(what: str, measured: Path) -> None:
    run = in_own_mounts(
        measured,
        "mkdir -p full && mount -t tmpfs -o size=8k none full",
        "head -c 8192 /dev/zero > full/filler",
        f"{WRITERS[what]}; echo status $?",
        "ls -A full",
        "rm full/filler && mount -o remount,size=8m full",
        f"{WRITERS[what]}; echo status $?",
        "ls -A full",
    )
    lines = run.stdout.splitlines()
    outcome = [line for line in lines if "repeat" not in line and "waiting" not in line]
    assert outcome[:3] == ["status 1", "filler", "status 0"]
    assert len(outcome) > 3
    (fault,) = (line for line in run.stderr.splitlines() if not line.startswith("head: "))
    assert "full/" in fault and "No space left on device" in fault


def test_disk_that_is_full_in_the_middle_of_a_sweep_loses_nothing_that_was_measured(
    measured: Path,
) -> None:
    command = shlex.join([sys.executable, "-m", "snakemake", "-j1", CELLS])
    command += " --directory full --configfile tiny.yaml"
    (measured / "tiny.yaml").write_text(OVERLAY)
    # Room for binaries and some records.
    run = in_own_mounts(
        measured,
        "mkdir -p full && mount -t tmpfs -o size=350k none full",
        f"{command} --config repeats=30 > console 2>&1; echo status $?",
        f"ls full/{RECORDS} | wc -l; cp -r full/{RECORDS} first",
        "mount -o remount,size=80m full",
        f"{command} --config repeats=30 > console 2>&1; echo status $?",
        f"cp -r full/{RECORDS} second; du -k full | tail -1",
    )
    print(run.stdout, run.stderr, (measured / "console").read_text())
    first, kept, second, _ = run.stdout.splitlines()
    assert first == "status 1" and second == "status 0"
    assert 2 < int(kept) < 30
    records_of = {
        name: {path.name: path.read_text() for path in (measured / name).glob("c*.json")}
        for name in ("first", "second")
    }
    assert len(records_of["second"]) == 30
    for path in (measured / "first").glob("c*.json"):
        records.read(str(path))
    changed = records_of["first"].items() - records_of["second"].items()
    assert len(changed) <= 1  # of the job whose end could not be noted


@pytest.mark.parametrize("folder", ["results", "."])
def test_folder_that_is_read_only_is_one_line(folder: str, measured: Path) -> None:
    command = shlex.join([sys.executable, "-m", "snakemake", "-j1", CELLS])
    run = in_own_mounts(
        measured,
        f"mount --bind {folder} {folder} && mount -o remount,ro,bind {folder}",
        f"cd {shlex.quote(str(measured))}",
        f"{command} --configfile tiny.yaml --config repeats=3; echo status $?",
    )
    assert run.stdout.splitlines()[-1] == "status 1"
    assert "Traceback" not in run.stderr and " in file " not in run.stderr
    last = run.stderr.splitlines()[-1]
    assert f"in {measured}: " in last
    assert "results/ is not writable" in last or "Read-only file system: " in last


def check_fault(command: list[str], folder: Path, record: Path) -> None:
    """A run that the machine spoilt: a record that is invalid or failed, or one line and none."""
    run = run_program(command, folder)
    if run.returncode == 0:
        seen = records.read(str(record))
        assert seen["status"] == "failed" or "errors" in seen["flags"], seen
    else:
        assert run.returncode == 1
        assert len(run.stderr.splitlines()) == 1, run.stderr
        assert run.stderr.startswith("measure_cell: ")
        assert not record.exists()


def test_no_ports_left_invalidates_the_run(measured: Path, tmp_path: Path) -> None:
    record = tmp_path / "r.json"
    cell = script("measure_cell.py", CELL[0], str(record), *CELL[2:], "--connections", "20")
    few = "ip link set lo up; echo 40000 40007 > /proc/sys/net/ipv4/ip_local_port_range"
    check_fault(["unshare", "--net", "sh", "-c", f"{few}; exec {cell}"], measured, record)


@pytest.mark.parametrize("limit", ["--nofile=24:24", "--as=30000000", "--as=60000000"])
def test_limit_is_one_line_or_an_invalid_run(limit: str, measured: Path, tmp_path: Path) -> None:
    record = tmp_path / "r.json"
    command = ["prlimit", limit, sys.executable, str(ROOT / "scripts/measure_cell.py"), CELL[0]]
    check_fault([*command, str(record), *CELL[2:], "--connections", "100"], measured, record)


@pytest.mark.parametrize("jump_s", ["3600", "-3600"])
def test_clock_that_is_set_during_a_run_invalidates_it(
    jump_s: str, measured: Path, tmp_path: Path
) -> None:
    library, jumped, record = (tmp_path / name for name in ("jump.so", "jumped", "r.json"))
    compile_it = ["gcc", "-shared", "-fPIC", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*compile_it, "-o", library, ROOT / "tests/clock_jump.c"], check=True)
    hurry = "import sys, measure_cell; from instruments import wrk; "
    hurry += "wrk.FINISH_TIMEOUT_S = wrk.TELL_AGAIN_S = 1; sys.exit(measure_cell.main())"
    command = [sys.executable, "-c", hurry, CELL[0], str(record)]
    command += ["--duration-s", "1.5", "--warmup-s", "0", "--disturbed-retries", "0"]
    env = environment(LD_PRELOAD=str(library), JUMPED=str(jumped), JUMP_S=jump_s)
    env["PYTHONPATH"] = str(ROOT / "scripts")
    with subprocess.Popen(
        command, cwd=measured, env=env, stderr=subprocess.PIPE, text=True
    ) as cell:

        def load_runs() -> bool:
            family = kills.family_of(cell.pid)
            return any(kills.kind_of(pid) == "wrk" and wrk.has_begun(pid) for pid in family)

        assert eventually(load_runs, 60) and cell.poll() is None
        jumped.touch()
        said = cell.communicate()[1]
    # wrk waits for its clock to come to where it was: no fault of the server.
    if cell.returncode == 1:
        assert jump_s.startswith("-") and not record.exists()
        assert said.endswith("was set back by 3600 s\n") and said.count("\n") == 1
        return
    seen = records.read(str(record))
    assert seen["status"] == "invalid" and "clock_stepped" in seen["flags"]
    assert abs(seen["wall_clock_step_share"]) > 100


def test_edited_record_is_measured_again_by_the_same_command(measured: Path) -> None:
    (measured / "tiny.yaml").write_text(OVERLAY)
    record = measured / RECORDS / "c2_r1.json"
    honest = records.read(str(record))
    text = record.read_text()
    record.write_text(text.replace(f'"requests": {honest["requests"]}', '"requests": 999999999'))
    refused = sweep(measured)
    assert refused.returncode == 1
    said = f"collect_cells: {RECORDS}/{record.name} has been changed"
    assert said in refused.stdout
    again = sweep(measured)
    assert again.returncode == 0, again.stdout
    assert again.stdout.count("connections, repeat") == 1
    assert records.read(str(record))["started"] > honest["started"]
    assert "999999999" not in (measured / CELLS).read_text()


def test_second_run_in_a_folder_is_refused_and_a_dry_run_is_not(measured: Path) -> None:
    holder = os.open(measured / working_folder.HOLDER, os.O_RDWR)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX)
        refused = sweep(measured, "--forceall")
        assert refused.returncode == 1
        (line,) = (line for line in refused.stdout.splitlines() if "another run" in line)
        assert f"process {os.getpid()} of " in line
        assert sweep(measured, "--dry-run").returncode == 0
    finally:
        os.close(holder)
    assert sweep(measured).returncode == 0


def leave_locks(checkout: Path) -> None:
    (checkout / LOCKS).mkdir(exist_ok=True)
    (checkout / LOCKS / "0.output.lock").write_text(f"{CELLS}\n")


def test_lock_of_another_machine_is_left_to_the_user(measured: Path) -> None:
    (measured / CELLS).unlink(missing_ok=True)
    leave_locks(measured)
    holder = measured / working_folder.HOLDER
    ours = holder.read_text()
    other = json.dumps({"machine": "another", "boot": "another", "host": "another"})
    holder.write_text(other)
    for _ in range(2):  # the first must not make it its own
        refused = sweep(measured)
        assert refused.returncode == 1 and "--unlock" in refused.stdout
    assert holder.read_text() == other
    holder.write_text(ours)
    assert sweep(measured, "--dry-run").returncode == 0
    assert (measured / LOCKS).exists()
    assert sweep(measured).returncode == 0
    assert not (measured / LOCKS).exists()


HERE = {"machine": "m", "boot": "b", "host": "h"}
OURS = {**HERE, "jobs_end_with_it": True}


@pytest.mark.parametrize(
    ("holder", "ended"),
    [
        (OURS, True),
        ({**OURS, "boot": "before"}, True),  # it has booted since
        ({**OURS, "boot": "other", "host": "other"}, False),  # of the same image
        ({**OURS, "machine": "other", "boot": "other", "host": "other"}, False),
        ({**OURS, "machine": "", "boot": ""}, False),
        ({**OURS, "jobs_end_with_it": False}, False),
        (HERE, False),
        (None, False),
        ([], False),
    ],
)
def test_only_a_process_of_this_machine_is_dead_for_certain(holder: Any, ended: bool) -> None:
    assert working_folder.ended_here(holder, HERE) == ended
    assert not working_folder.ended_here(holder, {"machine": "", "boot": "", "host": "h"})


def test_two_that_write_one_file_leave_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    code = "import sys\nfrom common import files\n"
    code += "for _ in range(300): files.write_text(sys.argv[1], sys.argv[2] * 20_000)"
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(path), letter], cwd=ROOT / "scripts")
        for letter in "ab"
    ]
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            text = path.read_text()
            assert len(text) == 20_000 and len(set(text)) == 1
    assert [writer.returncode for writer in writers] == [0, 0]
    assert list(tmp_path.iterdir()) == [path]


def test_who_waits_is_told_who_has_the_machine(measured: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts/measure_cell.py"), CELL[0]]
    command += [str(tmp_path / "r.json"), *CELL[2:]]
    with (
        lock.exclusive_machine(),
        subprocess.Popen(command, cwd=measured, stdout=subprocess.PIPE, text=True) as cell,
    ):
        assert cell.stdout is not None
        told = cell.stdout.readline()
        assert f"process {os.getpid()} of " in told and f" in {os.getcwd()}" in told
        cell.terminate()
    assert not (tmp_path / "r.json").exists()


def test_child_dies_with_a_parent_that_was_killed_before_it_began(tmp_path: Path) -> None:
    """The window between fork and prctl, made wide: the parent that is named is not there any more."""
    touched = tmp_path / "touched"
    code = "import subprocess, sys, os\nfrom common import processes\n"
    code += "command = processes.leash(['touch', sys.argv[1]])\n"
    code += "command[command.index(str(os.getpid()))] = '999999999'\n"
    code += "sys.exit(subprocess.run(command).returncode)"
    for text, expected in ((code, False), (code.replace("'999999999'", "str(os.getpid())"), True)):
        run = run_program([sys.executable, "-c", text, touched], ROOT / "scripts")
        assert (run.returncode == 0) == expected == touched.exists()
