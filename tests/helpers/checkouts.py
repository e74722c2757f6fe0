"""What the tests share: where things are, a copy of the checkout to edit, and running the workflow in it."""

import atexit
import contextlib
import json
import multiprocessing
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
SNAKEMAKE = [sys.executable, "-m", "snakemake"]

# Importing Snakemake takes half of what a dry run does. A process that has done it once is forked for each run.
IMPORTED = multiprocessing.get_context("forkserver")
IMPORTED.set_forkserver_preload(["snakemake.cli"])


def environment(**changes: str) -> dict[str, str]:
    """That of this process, but for what it says of its terminal."""
    of_terminals = {"COLUMNS", "LINES", "NO_COLOR", "TERM"}
    kept = {name: value for name, value in os.environ.items() if name not in of_terminals}
    return {**kept, **changes}


def run_program(
    command: Sequence[object], cwd: Path | None = None, /, **changes: str
) -> subprocess.CompletedProcess[str]:
    """What a command said and how it ended; changes: of its environment."""
    return subprocess.run(
        [str(word) for word in command],
        check=False,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        env=environment(**changes),
    )


def run_script(
    name: str, *arguments: object, cwd: Path | None = None, **changes: str
) -> subprocess.CompletedProcess[str]:
    """One of scripts/."""
    return run_program([sys.executable, ROOT / "scripts" / name, *arguments], cwd, **changes)


def make_program(path: Path, text: str) -> None:
    """Of the shell."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def make_tree(root: Path, files: Mapping[str, str | None]) -> str:
    """A folder of these files; None: it is not there."""
    for name, text in files.items():
        if text is not None:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
    return str(root)


def eventually(condition: Callable[[], object], timeout_s: float = 10) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return bool(condition())


def copy_checkout(target: Path) -> Path:
    """The files of this checkout, without what is ignored or made: a fresh clone with its uncommitted changes."""
    listing = run_program(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], ROOT
    )
    assert listing.returncode == 0, listing.stderr
    for name in filter(None, listing.stdout.split("\0")):
        if (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def _be_snakemake(arguments: list[str], env: dict[str, str], output: str) -> None:
    """In a process that has been forked: what `python -m snakemake` is once Snakemake has been imported."""
    with Path(output).open("wb") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    os.environ.clear()
    os.environ.update(env)
    os.chdir(env["PWD"])
    ours = ("", str(ROOT / "scripts"), str(Path(__file__).parent))
    sys.path[:] = ["", *(folder for folder in sys.path if folder not in ours)]
    sys.argv = ["snakemake", *arguments]
    from snakemake.cli import main  # noqa: PLC0415  only in that process

    try:
        main()
    finally:
        atexit._run_exitfuncs()  # a process that has been forked ends without


def run_snakemake(
    checkout: Path, *arguments: str, timeout_s: float = 300
) -> subprocess.CompletedProcess[str]:
    """`snakemake -j1 ARGUMENTS` in a checkout, with standard error in the output."""
    env = environment(
        PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        PWD=str(checkout),  # as of a shell that is there
    )
    words = ["-j1", *arguments]
    # Python raises this event for programs that it starts. This one is forked, and conftest.py must see it too.
    sys.audit("subprocess.Popen", "snakemake", ["snakemake", *words], checkout, env)
    with tempfile.NamedTemporaryFile() as output:
        process = IMPORTED.Process(target=_be_snakemake, args=(words, env, output.name))
        process.start()
        try:
            process.join(timeout_s)
            if process.exitcode is None:
                raise subprocess.TimeoutExpired(words, timeout_s, Path(output.name).read_bytes())
        finally:
            process.kill()
            process.join()
        return subprocess.CompletedProcess(words, process.exitcode, Path(output.name).read_text())


def snakemake(checkout: Path, *arguments: str) -> str:
    """What a run that must end well says."""
    run = run_snakemake(checkout, *arguments)
    assert run.returncode == 0, run.stdout
    return run.stdout


def jobs_to_run(checkout: Path, *arguments: str) -> set[tuple[str, ...]]:
    """What a dry run would run: (rule, *values of its wildcards) for each job but `all`."""
    said = snakemake(checkout, "--dry-run", *arguments)
    jobs = set()
    for block in re.split(r"\n(?=(?:local)?rule )", said):
        rule = re.match(r"(?:local)?rule (\w+):", block)
        if rule and rule[1] != "all":
            wildcards = re.search(r"^    wildcards: (.*)$", block, re.MULTILINE)
            values = (
                [part.partition("=")[2] for part in wildcards[1].split(", ")] if wildcards else []
            )
            jobs.add((rule[1], *values))
    assert jobs or "Nothing to be done" in said, said
    return jobs


def records_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in folder.glob("results/cells/*/*/*.json")]


def assert_measured_in_order(records: list[dict[str, Any]]) -> None:
    measured = sorted(
        (record["started"], record["position"]) for record in records if "started" in record
    )
    positions = [position for _, position in measured]
    assert positions == sorted(positions)
    assert len(set(positions)) == len(positions)


def processes_mentioning(text: str) -> list[str]:
    """Command lines of living processes that contain a text."""
    found = psutil.process_iter(["cmdline"], ad_value=[])
    commands = [" ".join(process.info["cmdline"]) for process in found]
    return [command for command in commands if text in command]


def run_in_terminal(command: list[str], cwd: Path, columns: int, **changes: str) -> str:
    """What a command shows on a terminal of so many columns; it must end with status 0."""
    shown = b""
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (24, columns))
    env = environment(TERM="xterm") | changes
    with subprocess.Popen(command, cwd=cwd, stdout=its, stderr=its, env=env) as process:
        os.close(its)
        with contextlib.suppress(OSError):  # EIO: nobody has it open any more
            while part := os.read(ours, 4096):
                shown += part
    os.close(ours)
    text = shown.decode().replace("\r\n", "\n")
    assert process.returncode == 0, text
    return text
