"""What users have in their environment, and bytes that are nobody's text: neither changes results nor stops them."""

import ast
import json
import os
import pwd
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import start_snakemake
from common import environment
from helpers.checkouts import ROOT, records_of, run_program
from helpers.checkouts import environment as of_tests
from helpers.overlays import overlay
from hosts import perf_permission, proc
from instruments import perf_record
from measuring import places

# As scripts/setup.sh makes .venv/bin/snakemake.
START = [sys.executable, "-I", "-X", "utf8", str(ROOT / "scripts/start_snakemake.py")]


OF_OTHERS = ["LANG", "LANGUAGE", "LC_NUMERIC", "BASH_ENV", "SHELLOPTS", "CDPATH", "BASH_FUNC_git%%"]
OF_OTHERS += ["GIT_DIR", "GIT_INDEX_FILE", "DEBUGINFOD_URLS", "MPLBACKEND", "LD_PRELOAD"]
OF_OTHERS += ["MALLOC_PERTURB_", "GLIBC_TUNABLES", "PYTHONPATH", "PYTHONOPTIMIZE"]
NEEDED = ["HOME", "TERM", "COLUMNS", "NO_COLOR", "SSH_AUTH_SOCK", "SLURM_JOB_ID", "LIBRARY_PATH"]
NEEDED += ["LD_LIBRARY_PATH", "GIT_CONFIG_GLOBAL", "XDG_CACHE_HOME", "MY_MALLOC_X", "SNAKEMAKE_X"]


def test_what_a_user_or_a_cluster_needs_is_kept_and_what_is_set_for_other_programs_is_not() -> None:
    cleaned = environment.clean_copy(dict.fromkeys([*OF_OTHERS, *NEEDED], "x"))
    assert [name for name in OF_OTHERS if name in cleaned] == []
    assert [name for name in NEEDED if cleaned.get(name) != "x"] == []


def test_tools_are_read_in_one_language_and_by_no_settings_of_perf() -> None:
    cleaned = environment.clean_copy({"LC_ALL": "de_DE.UTF-8", "PERF_CONFIG": "/x"})
    assert (cleaned["LC_ALL"], cleaned["PERF_CONFIG"]) == ("C.UTF-8", os.devnull)


def test_folder_for_temporary_files_is_kept_where_it_can_be_used(tmp_path: Path) -> None:
    assert "TMPDIR" in environment.clean_copy({"TMPDIR": str(tmp_path)})
    for other in (str(tmp_path / "none"), "build", ""):
        assert "TMPDIR" not in environment.clean_copy({"TMPDIR": other})


def test_cleaning_twice_changes_no_more_than_once() -> None:
    its = {"PATH": "/bin", "LANG": "de_DE", "HOME": "/root"}
    environment.clean(its)
    once = dict(its)
    environment.clean(its)
    assert its == once and its["PATH"].split(":") == [f"{sys.prefix}/bin", "/bin"]


def test_user_is_told_of_what_would_change_measurements() -> None:
    (note,) = environment.notes({"LD_PRELOAD": "/x.so", "PYTHONPATH": "/y"})
    assert note.startswith("LD_PRELOAD=/x.so ")


def foreign_packages(folder: Path) -> Path:
    """As a cluster's module or ROS puts on PYTHONPATH, of another Python."""
    for name in ("yaml", "numpy", "json", "typing_extensions", "sitecustomize"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("raise ImportError('of another Python')\n")
    return folder


def test_sweep_goes_as_ever_in_an_environment_that_is_meant_for_others(tmp_path: Path) -> None:
    """All at once, without a home, in a folder whose name is not ASCII, with standard input closed."""
    folder = tmp_path / "Prüfung"
    profile = {"duration_s": 0.5, "connections": 4}
    small = overlay(connections=[4], duration_s=0.3, warmup_s=0.1, profile=profile)
    (tmp_path / "small.yaml").write_text(small)
    (tmp_path / "noise.sh").write_text("echo noise; cd /; alias python3=false\n")
    (tmp_path / "perfconfig").write_text("[report]\n\tchildren = nonsense\n")
    targets = ["results/summary.txt", "plots/server_epoll_flamegraph.svg"]
    command = [*START, "-j1", *targets, "--directory", str(folder)]
    command += ["--configfile", str(tmp_path / "small.yaml")]
    theirs = {
        "PYTHONPATH": str(foreign_packages(tmp_path / "site")),
        "PYTHONHOME": "/nonexistent",
        "PYTHONSAFEPATH": "1",
        "PYTHONOPTIMIZE": "2",
        "PYTHONWARNINGS": "error",
        "SNAKEMAKE_PROFILE": str(tmp_path / "of_a_cluster"),
        "BASH_ENV": str(tmp_path / "noise.sh"),
        "BASH_FUNC_python3%%": "() { false; }",
        "SHELLOPTS": "xtrace",
        "GIT_DIR": "/nonexistent",
        "MALLOC_PERTURB_": "1",
        "PERF_CONFIG": str(tmp_path / "perfconfig"),
        "MPLBACKEND": "nonsense",
        "TMPDIR": "/nonexistent",
        "LC_ALL": "POSIX",
        "LANGUAGE": "de",
        "HOME": "/proc",
        "XDG_CACHE_HOME": "",
    }
    shell = ["sh", "-c", f"umask 077; exec 2>&1 {shlex.join(command)} <&-"]
    run = run_program(shell, **theirs)
    assert run.returncode == 0, run.stdout
    ignored = [line.split("=")[0] for line in run.stdout.splitlines() if " is ignored" in line]
    assert ignored == ["SNAKEMAKE_PROFILE", "MALLOC_PERTURB_"]
    (record,) = [one for one in records_of(folder) if one["server"] == "server_epoll"]
    assert record["status"] == "ok"
    assert record["facts"]["source"]["reason"] != "no git repository"
    if perf_permission.obstacle_of(perf_record.check_here) == "":
        facts = json.loads((folder / "results/profile/keepalive/server_epoll.json").read_text())
        # A busy machine may have too few samples, but none of them lacks names.
        assert facts["samples"] > 0 and "stacks" not in facts["reason"], facts


def test_config_file_that_snakemake_cannot_read_is_one_line(tmp_path: Path) -> None:
    for name, content, said in (
        ("latin-1", "# größer\nrepeats: 1\n".encode("latin-1"), "line 1: byte 0xf6 is not UTF-8"),
        ("tab", b"seed: 1\nrepeats:\t1\n", "line 2: not YAML"),
        ("empty", b"", "found no keys"),
        ("missing", None, "there is no such file"),
    ):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        run = run_program([*START, "-n", "--configfile", path], ROOT)
        (line,) = run.stderr.splitlines()
        assert run.returncode == 1 and line.startswith(f"{path}: {said}"), run.stderr


PROBE = """
import os
class Probe:
    def seen(self): return dict(os.environ)
    def close(self): pass
"""


def test_other_host_is_cleaned_too() -> None:
    message = {"files": {**places.files_for("host_side"), "probe.py": PROBE}, "module": "probe"}
    message |= {"class": "Probe", "lifetime_s": 60, "environment": {}}
    request = {"method": "seen", "arguments": [], "options": {}}
    with subprocess.Popen(
        [sys.executable, "-I", "-c", places.BOOTSTRAP],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=of_tests(MALLOC_PERTURB_="1", LC_ALL="de_DE"),
    ) as agent:
        assert agent.stdin and agent.stdout
        agent.stdin.write(f"{json.dumps(message)}\n{json.dumps(request)}\n")
        agent.stdin.flush()
        assert agent.stdout.readline() == places.READY
        answer = json.loads(agent.stdout.readline())  # before its input ends, and it with it
    assert "MALLOC_PERTURB_" not in answer["result"]
    assert answer["result"]["LC_ALL"] == "C.UTF-8"


def test_make_hands_no_variables_of_python_on(tmp_path: Path) -> None:
    """To the scripts that it starts with a Python that may be any."""
    (tmp_path / "Makefile").write_text(
        (ROOT / "Makefile").read_text() + "\nshow:\n\t@env | grep -E '^(PYTHON|BASH_ENV)' || true\n"
    )
    theirs = {"PYTHONPATH": "/x", "PYTHONHOME": "/y", "BASH_ENV": "/z"}
    run = run_program(["make", "show"], tmp_path, **theirs)
    assert (run.returncode, run.stdout) == (0, "")


def test_user_may_have_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(pwd, "getpwuid", dict[int, Any]().__getitem__)
    start_snakemake.find_name()
    assert os.environ["LOGNAME"] == str(os.getuid())


def test_streams_may_be_closed() -> None:
    """So that nothing else gets their numbers, nor Python None for them."""
    program = "import sys, start_snakemake as s; s.open_streams(); sys.stderr.flush()"
    program += (
        "; sys.exit(sys.stdin.read(1) or sys.stdout.isatty() or open('/dev/null').fileno() < 3)"
    )
    command = shlex.join([sys.executable, "-c", program])
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        shell = ["sh", "-c", f"exec {command} </dev/null {closed}"]
        run = run_program(shell, PYTHONPATH=str(ROOT / "scripts"))
        assert (run.returncode, run.stderr) == (0, "")


# --- Bytes ---


def test_output_of_other_programs_may_be_any_bytes() -> None:
    """Whoever takes it as text says what becomes of bytes that are none."""
    strict = []
    for path in (ROOT / "scripts").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("subprocess."):
                options = {option.arg for option in node.keywords}
                if options & {"text", "encoding"} and "errors" not in options:
                    strict.append(f"{path.name}:{node.lineno}")
    assert strict == []


@pytest.fixture
def named_in_latin_1(tmp_path: Path) -> Iterator[int]:
    """A process whose name, and whose program's path, is no UTF-8."""
    program = os.fsencode(tmp_path) + b"/sl\xe4fer"
    with open(program, "wb") as file:
        file.write(Path("/bin/sleep").read_bytes())
    os.chmod(program, 0o755)
    with subprocess.Popen([program, "60"], stdout=subprocess.DEVNULL) as process:
        while program not in Path(f"/proc/{process.pid}/maps").read_bytes():
            time.sleep(0.01)  # until it is another program's process
        yield process.pid
        process.kill()


def test_process_may_have_any_name(named_in_latin_1: int) -> None:
    assert proc.memory_peak_kib([named_in_latin_1]) > 0
    assert "sl" in (perf_record.unreadable_path([named_in_latin_1]) or "")
    assert perf_record.unreadable_path([os.getpid()]) is None
