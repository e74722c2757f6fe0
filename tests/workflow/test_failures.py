"""What a failing server leaves in place of its binary and its results, what is tried again, and what is told."""

import json
import os
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import compile_server
from common import terminal
from helpers.checkouts import run_program, run_script
from instruments import failed_build
from sweep import records
from workflow import failures

# What gcc says, and what of it is told.
SAID = {
    "warning first": (
        "a.c: In function 'main':\na.c:2:5: warning: unused variable\na.c:3:1: error: no ';'\n",
        "a.c:3:1: error: no ';'",
    ),
    "no header": (
        "a.c:1:10: fatal error: mine.h: No such file or directory\n    1 | #include\n"
        "compilation terminated.\n",
        "a.c:1:10: fatal error: mine.h: No such file or directory",
    ),
    "linker": (
        "/usr/bin/ld: /tmp/ccX.o: in function `main':\na.c:3: undefined reference to `f'\n"
        "collect2: error: ld returned 1 exit status\n",
        "a.c:3: undefined reference to `f'",
    ),
    "library": (
        "/usr/bin/ld: cannot find -lnone: No such file or directory\n"
        "collect2: error: ld returned 1 exit status\n",
        "/usr/bin/ld: cannot find -lnone: No such file or directory",
    ),
    "nothing known": ("oh dear\n", "oh dear"),
    "nothing": ("\n", "it gave no reason"),
}


@pytest.mark.parametrize("name", SAID)
def test_cause_is_found_in_what_the_compiler_said(name: str) -> None:
    said, cause = SAID[name]
    assert compile_server.first_error(said) == cause


def build(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    return run_script("compile_server.py", folder / "server_mine", *command, LC_ALL="de_DE.UTF-8")


def test_server_that_does_not_compile_becomes_a_script_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "mine.c").write_text("int main(void) { return x; }\n")
    run = build(tmp_path, "gcc", str(tmp_path / "mine.c"), "-o", str(tmp_path / "server_mine"))
    reason = failed_build.reason_of(str(tmp_path / "server_mine"))
    assert reason.startswith(f"does not compile: {tmp_path}/mine.c:1:25: error: 'x' undeclared")
    assert (run.returncode, run.stdout) == (0, f"server_mine: {reason}\n")
    assert "In function 'main'" in run.stderr
    started = run_program([tmp_path / "server_mine"])
    assert started.returncode == failed_build.EX_SOFTWARE
    assert started.stderr == f"not built: {reason}\n"


def test_server_that_compiles_is_left_alone_and_a_killed_compiler_is_no_fault_of_it(
    tmp_path: Path,
) -> None:
    made = str(tmp_path / "server_mine")
    assert failed_build.reason_of(made) == ""
    killed = build(tmp_path, "sh", "-c", "kill -KILL $$")
    assert killed.returncode == 128 + signal.SIGKILL and not os.path.exists(made)
    for said in (
        "cc1: fatal error: error writing to x.s: No space left on device",
        "cc1: out of memory",
    ):
        full = build(tmp_path, "sh", "-c", f"echo '{said}' >&2; exit 1")
        assert full.returncode == 1 and not os.path.exists(made)
    assert build(tmp_path, "cp", "/bin/true", made).returncode == 0
    assert failed_build.reason_of(made) == ""


def job(rule: str, server: str, output: Path) -> Any:
    return SimpleNamespace(
        rule=SimpleNamespace(name=rule),
        wildcards=SimpleNamespace(server=server),
        output=[str(output)],
    )


def cell(folder: Path, server: str, number: int, status: str) -> Any:
    path = folder / f"{server}_{number}.json"
    if status:
        record = {"schema_version": 3, "server": server, "connections": 1, "repeat": number}
        record |= {"status": status, "flags": ["errors", "disturbed"], "machine": "m"}
        record |= {"reason": f"{status} {number}"} if status in ("failed", "unavailable") else {}
        records.write(str(path), record)
    return job("measure_cell", server, path)


def test_failures_are_found_and_told_a_line_each(tmp_path: Path) -> None:
    cells = {
        "good": ["ok", "ok"],
        "flaky": ["ok", "failed", "invalid"],
        "server_uring": ["unavailable", "unavailable"],
        "nginx": ["unavailable", "unavailable"],
        "nginx_control": ["unavailable"],
        "h2o": ["ok", "unavailable"],  # in a workload that it does not know
        "wrong": ["invalid", "invalid"],
        "begun": ["invalid", ""],
    }
    jobs = [
        cell(tmp_path, server, number, status)
        for server, statuses in cells.items()
        for number, status in enumerate(statuses)
    ]
    for name, status in (("flaky", "failed"), ("good", "ok"), ("begun", "")):
        profile = tmp_path / f"{name}.profile.json"
        if status:
            profile.write_text(json.dumps({"status": status, "reason": "failed 1"}))
        jobs.append(job("profile_server", name, profile))
    count = tmp_path / "flaky.csv"
    count.write_text("server,status,reason\nflaky,failed,failed 1\n")
    jobs.append(job("count_syscalls", "flaky", count))
    failed_build.write(str(tmp_path / "typo"), "no ;")
    jobs += [job("compile_server", "typo", tmp_path / "typo"), job("merge_cells", "", tmp_path)]
    found = failures.find(jobs, external={"nginx", "h2o"})
    assert failures.lines_of(found, jobs) == [
        "flaky failed (1 of 3 cells, profile, count of system calls): failed 1",
        "nginx failed (2 of 2 cells): unavailable 0 (other reasons: 1, see results/logs)",
        "nginx_control failed (1 of 1 cells): unavailable 0",
        "typo failed (binary): no ;",
        "wrong failed (2 of 2 cells): no valid run: errors",
    ]


def test_failed_job_is_a_line_the_last_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    silent = f"plot_server ended without a message, maybe killed: {log}"
    assert terminal.describe_failed_job("plot_server", [str(log)]) == silent
    log.write_bytes(b"a warning\n\xff plot_server: no space\x07 left\n\n")
    assert (
        terminal.describe_failed_job("plot_server", [str(log)]) == "� plot_server: no space  left"
    )
