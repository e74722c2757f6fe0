"""Kills parts of a running sweep at random moments, and starts it again by the same command: what must hold after each.

By hand, for long: python3 tests/kills.py FOLDER --kills 200
"""

import argparse
import base64
import collections
import contextlib
import csv
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from helpers.checkouts import ROOT, SNAKEMAKE, copy_checkout, environment, eventually
from helpers.overlays import overlay

sys.path.insert(0, str(ROOT / "scripts"))

from sweep import records

OVERLAY = overlay(
    servers=["server_epoll", "server_epoll_multitask"],
    connections=[2, 4],
    repeats=3,
    duration_s=0.6,
    warmup_s=0.1,
    profile={"duration_s": 0.5, "connections": 2},
)
# All that is measured, and a picture; without what takes long and writes no other way.
TARGETS = ("results/verdicts.csv", "results/syscalls.csv", "plots/server_epoll.png")
TARGETS += ("plots/server_epoll_flamegraph.svg",)

# Victim → signals that it gets. A group's is that of Ctrl-C in a terminal.
SIGNALS = {
    "snakemake": (signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGKILL, signal.SIGHUP),
    "group": (signal.SIGINT, signal.SIGTERM),
    "script": (signal.SIGINT, signal.SIGTERM, signal.SIGKILL),
    "server": (signal.SIGTERM, signal.SIGKILL),
    "wrk": (signal.SIGINT, signal.SIGTERM, signal.SIGKILL),
    "perf": (signal.SIGTERM, signal.SIGKILL),
}
END_TIMEOUT_S = 60  # finishing a cell, while others use the machine
GONE_TIMEOUT_S = 0.5  # less than a cell takes, or a leak would pass
VICTIM_TIMEOUT_S = 4


def family_of(ancestor: int) -> list[int]:
    """A process's descendants; their sessions differ, their parents do not."""
    return [child.pid for child in psutil.Process(ancestor).children(recursive=True)]


def kind_of(pid: int) -> str:
    command = [""]
    with contextlib.suppress(psutil.Error):
        command = psutil.Process(pid).cmdline() or command
    program = os.path.basename(command[0])
    if program in ("wrk", "perf"):
        return program
    if "/results/bin/" in command[0]:
        return "server"
    if program.startswith("python") and any("/scripts/" in word for word in command):
        return "script"
    return ""


def living_in(folder: Path) -> list[str]:
    """Processes with the folder in their command, or as their working directory; not this one and its ancestors."""
    found = []
    this = psutil.Process()
    for process in set(psutil.process_iter()) - {this, *this.parents()}:
        with contextlib.suppress(psutil.Error):
            command = " ".join(process.cmdline())
            if str(folder) in command or process.cwd().startswith(str(folder)):
                found.append(f"{process.pid} {command}")
    return found


def finished_records(folder: Path) -> dict[Path, str]:
    """Records that Snakemake has taken note of and that are not measured again, with checksums of their content."""
    marked = {
        folder / base64.b64decode(path.name).decode()
        for path in folder.glob(".snakemake/incomplete/*")
        if path.is_file()
    }
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.glob("results/c*/**/c*_r*.json")
        if path not in marked and records.read_status(str(path)) != "failed"
    }


def check_aftermath(folder: Path, before: dict[Path, str]) -> None:
    """No process, no half a file, and nothing lost that was finished."""
    assert eventually(lambda: not living_in(folder), GONE_TIMEOUT_S), living_in(folder)
    for path in folder.glob("results/c*/**/c*_r*.json"):
        record = records.read(str(path))
        assert record["status"] in ("ok", "invalid", "failed"), path
    for path in [*folder.glob("results/*.csv"), *folder.glob("results/*/*.csv")]:
        text = path.read_text()
        assert text.endswith("\n"), path
        assert len({len(row) for row in csv.reader(text.splitlines())}) == 1, path
    for path in folder.glob("results/**/*.json"):
        json.loads(path.read_text())
    after = finished_records(folder)
    assert {path: after.get(path) for path in before} == before


class Sweep:
    """A checkout whose sweep is started again and again."""

    def __init__(self, folder: Path, targets: tuple[str, ...], seed: int) -> None:
        self.folder = copy_checkout(folder)
        (self.folder / "kills.yaml").write_text(OVERLAY)
        self.command = [*SNAKEMAKE, "-j1", *targets, "--configfile", "kills.yaml"]
        self.random = random.Random(seed)
        self.kills: collections.Counter[str] = collections.Counter()
        self.runs: collections.Counter[int] = collections.Counter()

    @contextlib.contextmanager
    def started(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run the command, in a session of its own; nothing must be left of it, whatever was killed."""
        before = finished_records(self.folder)
        with (self.folder / "console").open("ab") as console:
            run = subprocess.Popen(
                self.command,
                cwd=self.folder,
                stdout=console,
                stderr=console,
                start_new_session=True,
                env=environment(PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}"),
            )
        try:
            yield run
            self.runs[run.wait(END_TIMEOUT_S)] += 1
        finally:
            if run.poll() is None:
                run.kill()
                run.wait()
        check_aftermath(self.folder, before)

    def kill_one(self, run: "subprocess.Popen[bytes]") -> None:
        """Choose a kind of victim, wait until there is one and some time more, and kill it.

        Snakemake and its group at any time, or while something is measured.
        """
        kind = self.random.choice(list(SIGNALS))
        number = self.random.choice(SIGNALS[kind])
        awaited = kind
        if kind in ("snakemake", "group"):
            awaited = self.random.choice(["", "script", "server", "wrk"])
        time.sleep(self.random.uniform(0, 1.0 if awaited else 5.0))
        deadline = time.monotonic() + VICTIM_TIMEOUT_S
        while run.poll() is None and time.monotonic() < deadline:
            pids = [run.pid]
            if awaited:
                pids = [pid for pid in family_of(run.pid) if kind_of(pid) == awaited]
            if not pids:
                time.sleep(0.005)
                continue
            time.sleep(self.random.uniform(0, 0.4))  # at any time of its life
            with contextlib.suppress(ProcessLookupError):
                if kind == "group":
                    os.killpg(run.pid, number)
                else:
                    os.kill(pids[0] if awaited == kind else run.pid, number)
                self.kills[f"{kind} {number.name}"] += 1
                return

    def kill_many(self, kills: int) -> None:
        while self.kills.total() < kills:
            with self.started() as run:
                while run.poll() is None and self.kills.total() < kills:
                    self.kill_one(run)
            if run.returncode == 0:  # all is done: again
                shutil.rmtree(self.folder / "results")
        # The same command, once, does all that is left.
        with self.started() as run:
            run.wait(600)
        assert run.returncode == 0, (self.folder / "console").read_text()[-4000:]
        assert list(self.folder.glob("**/.part.*")) == []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to make a checkout; it must not exist")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--targets", nargs="+", default=TARGETS)
    arguments = parser.parse_args()
    # What a shell runs in the background ignores it, and so would all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sweep = Sweep(arguments.folder, tuple(arguments.targets), arguments.seed)
    started_s = time.monotonic()
    try:
        sweep.kill_many(arguments.kills)
    finally:
        print(f"{sweep.kills.total()} kills in {time.monotonic() - started_s:.0f} s:")
        for name, count in sorted(sweep.kills.items()):
            print(f"{count:>5} {name}")
        print("exit statuses of Snakemake:", dict(sorted(sweep.runs.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
