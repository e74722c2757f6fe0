#!/usr/bin/env python3
"""How time and memory grow with the number of cells: the tables of docs/scale.md (make scale, about 10 minutes).

The workflow is as it is, in a copy of this checkout, but for the script of a cell: it writes a record that is made up
(made_up_cell.py), so that 10,000 cells take a minute.
"""

import argparse
import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import yaml

from helpers.checkouts import ROOT, SNAKEMAKE, copy_checkout, environment

sys.path.insert(0, str(ROOT / "scripts"))


from helpers import made_up_cell
from sweep import records
from sweep.cells import order_of, record_path

# 9 names with the control: 99, 495, 990 and 9,999 cells.
REPEATS = [1, 5, 10, 101]
CONNECTIONS = [1, 2, 5, 10, 20, 50, 100, 200, 300, 500, 1000]
BOUND_S = 60  # of the sweep of 10,000 cells
PROFILE = {"connections": 100, "duration_s": 0.5, "frequency_hz": 499}
COMMON = {"workloads": ["keepalive"], "warmup_s": 0, "paired_s": 0, "disturbed_retries": 0}
COMMON |= {"profile": PROFILE}
TABLES = [
    "collect_cells",
    "merge_cells",
    "summarize_cells",
    "judge_servers",
    "print_summary",
]
PLOTS = ["plot_server", "plot_over_connections", "plot_map", "plot_ranking", "plot_overview"]
ACCEPT = """\
include: "Snakefile"


# What exists was made by what would make it now. As snakemake --touch, which waits 0.1 s for each job.
onstart:
    for job in workflow.dag.jobs:
        if job.output and all(os.path.exists(path) for path in job.output):
            workflow.persistence.started(job)
            workflow.async_run(workflow.persistence.finished(job))
    sys.exit()
"""


class Usage(NamedTuple):
    seconds: float
    memory_mb: float  # the most that a process had resident: it, or one that it waited for

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s, {self.memory_mb:.0f} MB"


class Sweep:
    """A sweep in a folder of its own, named NAME, in a checkout; `changes` are its overlay of the config."""

    def __init__(self, checkout: Path, name: str, **changes: object) -> None:
        self.checkout, self.name = checkout, name
        self.folder = checkout / "build" / name
        overlay = {**COMMON, **changes}
        (checkout / f"{name}.yaml").write_text(yaml.safe_dump(overlay))
        config = yaml.safe_load((checkout / "config.yaml").read_text())
        self.order = order_of({**config, **overlay})

    def arguments(self, *arguments: str) -> list[str]:
        """Of snakemake; targets come before --configfile, which takes many files."""
        ours = ["--directory", f"build/{self.name}", "--configfile", f"{self.name}.yaml"]
        return [*arguments, *ours]

    def command(self, *arguments: str) -> list[str]:
        return [*SNAKEMAKE, "-j1", *self.arguments(*arguments)]

    def run(self, *arguments: str) -> Usage:
        return run(self.command(*arguments), self.checkout)

    def fill(self, tiny: "Sweep | None" = None) -> None:
        """All records, and what else another sweep has that was measured, as if the workflow had made them."""
        for name in ("results/bin", "results/profile", "results/syscalls", "plots") if tiny else ():
            shutil.copytree(tiny.folder / name, self.folder / name)
        for cell, position in self.order.items():
            template = made_up_cell.template_of(self.checkout, cell.server)
            path = self.folder / record_path(cell)
            records.write(str(path), made_up_cell.made_up(template, cell, position))
        (self.checkout / "accept.smk").write_text(ACCEPT)
        self.run("all", "--snakefile", "accept.smk")

    def finished_s(self) -> list[float]:
        """When each record was written."""
        paths = (self.folder / record_path(cell) for cell in self.order)
        return sorted(path.stat().st_mtime for path in paths if path.exists())

    def job_seconds(self, rules: Iterable[str]) -> float:
        """Of all jobs of some rules in the last run, from start to end, by what Snakemake notes of each."""
        times_s: dict[tuple[str, int], list[float]] = {}
        for path in (self.folder / ".snakemake/metadata").rglob("*"):
            if path.is_file():
                noted = json.loads(path.read_text())
                job = times_s.setdefault((noted["rule"], noted["job_hash"]), [])
                job += noted["starttime"], noted["endtime"]
        return sum(max(its) - min(its) for (rule, _), its in times_s.items() if rule in set(rules))


def start(command: list[str], folder: Path, told: int) -> "subprocess.Popen[bytes]":
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.Popen(
        command, cwd=folder, stdout=told, stderr=told, env=environment(PATH=path)
    )


def run(command: list[str], folder: Path) -> Usage:
    """A command, which must end with status 0, or what it said ends this script."""
    with tempfile.TemporaryFile("w+") as told:
        started_s = time.monotonic()
        process = start(command, folder, told.fileno())
        _, status, usage = os.wait4(process.pid, 0)
        elapsed_s = time.monotonic() - started_s
        process.returncode = os.waitstatus_to_exitcode(status)
        told.seek(0)
        if process.returncode:
            sys.exit(f"{' '.join(command)}:\n{told.read()}")
    return Usage(elapsed_s, usage.ru_maxrss / 1024)


def run_for(sweep: Sweep, bound_s: float, *arguments: str) -> None:
    """As Sweep.run, but interrupted so long after the first cell, if it has not ended by then."""
    with tempfile.TemporaryFile() as told:
        process = start(sweep.command(*arguments), sweep.checkout, told.fileno())
        while process.poll() is None:
            time.sleep(0.5)
            finished_s = sweep.finished_s()
            if finished_s and time.time() > finished_s[0] + bound_s:
                process.send_signal(signal.SIGINT)
                process.wait()


def median(measure: Callable[[], Usage], times: int = 3) -> Usage:
    return Usage(*map(statistics.median, zip(*(measure() for _ in range(times)), strict=True)))


def prepare(checkout: Path) -> Sweep:
    """Make cells up in a copy of the checkout, from the records of a tiny sweep: this one."""
    tiny = Sweep(checkout, "tiny", connections=[100], repeats=1)
    servers = yaml.safe_load((checkout / "config.yaml").read_text())["servers"]
    wanted = [record_path(cell) for cell in tiny.order]
    for server in servers:
        wanted += [f"plots/{server}_flamegraph.svg", f"results/syscalls/keepalive/{server}.csv"]
    tiny.run(*wanted)
    (checkout / made_up_cell.TEMPLATES).mkdir()
    for cell in tiny.order:
        template = checkout / made_up_cell.TEMPLATES / f"{cell.server}.json"
        shutil.copy(tiny.folder / record_path(cell), template)
    make_up_cells(checkout)
    return tiny


def make_up_cells(checkout: Path) -> None:
    shutil.copy(ROOT / "tests/helpers/made_up_cell.py", checkout / "scripts/measure_cell.py")


def rows_of(sweep: Sweep, tiny: Sweep) -> dict[str, str]:
    """What is measured of one sweep: a row's name → what was found."""
    rows = {"first dry run": str(median(lambda: sweep.run("--dry-run")))}
    # Not for their tables and pictures: Snakemake interrupted says nothing of them.
    run_for(sweep, BOUND_S, *map(record_path, sweep.order))
    finished_s = sweep.finished_s()
    each_s = (finished_s[-1] - finished_s[0]) / (len(finished_s) - 1)
    note = f" (of {len(finished_s):,} cells)" if len(finished_s) < len(sweep.order) else ""
    rows["a made-up cell"] = f"{each_s:.3f} s{note}"
    shutil.rmtree(sweep.folder)
    sweep.fill(tiny)
    whole = sweep.run()
    rows["tables"] = f"{sweep.job_seconds(TABLES):.1f} s"
    rows["pictures"] = f"{sweep.job_seconds(PLOTS):.1f} s"
    page = (sweep.folder / "results/report.html").stat().st_size
    rows["report"] = f"{sweep.job_seconds(['make_report']):.1f} s, {page / 1e6:.1f} MB"
    rows["all of these, in a run"] = str(whole)
    rows["nothing to do"] = str(median(sweep.run))
    (sweep.folder / record_path(next(iter(sweep.order)))).unlink()
    rows["one record is missing"] = str(median(lambda: sweep.run("--dry-run")))
    return rows


def overhead_s(folder: Path) -> float:
    """Of a real cell: time from record to record, without that of the load."""
    duration_s, warmup_s = 0.2, 0.1
    sweep = Sweep(
        copy_checkout(folder / "real"),
        "real",
        servers=["server_epoll"],
        control=None,
        connections=[100],
        repeats=20,
        duration_s=duration_s,
        warmup_s=warmup_s,
    )
    sweep.run(*map(record_path, sweep.order))
    finished_s = sweep.finished_s()
    pauses_s = [after - before for before, after in itertools.pairwise(finished_s)]
    return statistics.median(pauses_s) - duration_s - warmup_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, nargs="+", default=REPEATS)
    parser.add_argument(
        "--folder", help="where to work, and to leave all (default: a temporary one)"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scale_") as temporary:
        folder = Path(arguments.folder or temporary).absolute()
        checkout = copy_checkout(folder / "checkout")
        tiny = prepare(checkout)
        columns = {}
        for repeats in arguments.repeats:
            sweep = Sweep(checkout, str(repeats), connections=CONNECTIONS, repeats=repeats)
            print(f"{len(sweep.order):,} cells …", file=sys.stderr, flush=True)
            columns[f"{len(sweep.order):,} cells"] = rows_of(sweep, tiny)
        print(f"| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
        for name in next(iter(columns.values())):
            print(f"| {name} | {' | '.join(column[name] for column in columns.values())} |")
        print(f"\nA real cell: {overhead_s(folder):.3f} s beyond warm-up and load.")


if __name__ == "__main__":
    main()
