"""How a run of the workflow begins and ends: what it checks, prints and writes before its first job, and cleans up.

Nothing here needs Snakemake. What only Snakemake knows comes as arguments (snakemake_internals.py).
"""

import atexit
import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from analysis import result_sets
from common import files, terminal
from common.processes import Process
from hosts import lock, network, source
from hosts.cpus import CpuFault
from hosts.facts import PATH, PATH_VARIABLE, write_facts
from measuring import pairing, places, run_facts, runs
from measuring.preflight_side import PreflightSide
from sweep import records, workloads
from sweep.cells import SWEEP_PATH, Cell, cells_of, points_of
from sweep.workloads import Workload
from workflow import health, leftovers, preflight, progress, resolution

# Rule → the programs that its jobs start.
TOOLS = {
    "measure_cell": ["wrk", "ss", "taskset", "setpriv"],
    "measure_latency": ["ss", "taskset", "setpriv"],
    "profile_server": ["wrk", "taskset", "setpriv"],
    "count_syscalls": ["wrk", "taskset", "setpriv"],
    "draw_flamegraph": ["flamegraph", "rsvg-convert"],
}
IDLE_S = 1e-4  # to open an idle connection
MEASURING = TOOLS.keys() - {"draw_flamegraph"}


@dataclass(frozen=True)
class Session:
    """What is known of a run of the workflow before Snakemake knows its jobs."""

    config: dict[str, Any]
    checkout: str
    compile_flags: list[str]
    folder: str  # the working directory as the user named it; empty if they did not
    revision_notes: list[str]
    environment_notes: list[str]  # told where this host measures
    connections: list[Process] = field(default_factory=list)  # to other hosts, until the end

    @property
    def net(self) -> network.Network:
        return network.Network(**self.config["network"])

    @property
    def measures_here(self) -> bool:
        """Both sides are on this host, and so are the programs that they need."""
        return self.net.places == [network.HERE]

    @property
    def compiler(self) -> str:
        return str(self.config["compile"]["compiler"])


class Jobs(NamedTuple):
    """The jobs that the targets of a run need, by rule."""

    counts: dict[str, int]  # of those to run
    to_make: dict[str, list[str]]  # outputs of those to run
    made: dict[str, list[str]]  # outputs of the others


def tell(text: str) -> None:
    print(terminal.wrap(text), file=sys.stderr, flush=True)


# --- The beginning ---


def begin(session: Session, jobs: Jobs, is_local: bool) -> None:
    """All that comes before the first job. SystemExit, with one line, if no job should run.

    is_local: jobs run on this host, not on a cluster.
    """
    rules = jobs.counts.keys()
    try:
        check_tools(rules, is_local and session.measures_here)
        left = leftovers.describe(jobs.made.get("measure_cell", []), session.folder)
        for note in filter(None, [left, *session.revision_notes]):
            tell(note)
        facts = None
        if is_local and MEASURING & rules:
            for note in session.environment_notes:
                tell(terminal.make_printable(note))
            facts = meet_sides(session, tells_speed="measure_cell" in rules)
        with _one_line_if_not_writable():
            if facts is not None:
                write_facts(PATH, facts)
            if not is_local:
                # A cluster keeps what a block leaves when it fails: records are whole, but must be of this run.
                for path in (path for rule in MEASURING & rules for path in jobs.to_make[rule]):
                    Path(path).unlink(missing_ok=True)
            files.write_text(SWEEP_PATH, json.dumps(_sweep(session, is_local), indent=2) + "\n")
            announce(session.config, jobs.counts, is_local)
    except BaseException:
        end(session)  # Snakemake calls no onerror before the first job
        raise


def begin_block(session: Session, facts_path: str) -> None:
    """What begin() does, for the cells that a node of a cluster measures."""
    check_tools(MEASURING, session.measures_here)
    sweep = files.read_json(SWEEP_PATH, ["build", "source"])
    atexit.register(end, session)
    facts = {**meet_sides(session), "build": sweep["build"], "source": sweep["source"]}
    with _one_line_if_not_writable():
        write_facts(facts_path, facts)
    os.environ[PATH_VARIABLE] = facts_path


def check_tools(rules: Collection[str], measures_here: bool) -> None:
    """Before anything runs, rather than in the middle. Elsewhere the doctor looks, or begin_block()."""
    looked_at = set(rules) - (set() if measures_here else MEASURING)
    needed = {tool for rule in looked_at for tool in TOOLS.get(rule, [])}
    if missing := sorted(tool for tool in needed if shutil.which(tool) is None):
        sys.exit(f"not installed: {', '.join(missing)}: run make setup")


def check_baseline(setting: str | None, path: str | None) -> None:
    """Before anything is measured that could then be compared with nothing. `setting`: as the user named the path."""
    if path is None:
        sys.exit("no baseline: add --config baseline=FOLDER, where FOLDER has results of a sweep")
    try:
        baseline = result_sets.results_folder(path)
    except result_sets.NoComparison as fault:
        sys.exit(f"baseline: {fault}")
    if result_sets.is_same_folder(baseline, Path("results")):
        sys.exit(f"baseline: {setting} is the folder of this result set itself: name another one")


def most_connections(config: Mapping[str, Any]) -> int:
    """Of all that this config runs, without idle ones, of which a cell may have fewer."""
    counts = [max(connections) for connections, _ in points_of(config).values()]
    others = (config["profile"]["connections"], config["latency"]["connections"] or 0)
    return int(max(*counts, *others))


def meet_sides(session: Session, tells_speed: bool = False) -> dict[str, Any]:
    """Check both sides before anything is measured, and return their facts.

    It prints what makes results noisy, and ends the run if something makes them wrong. With tells_speed it also prints
    how much the speed of the CPUs varies.
    """
    config = session.config
    try:
        session.connections.extend(preflight.share_connections(session.net))
        # The checks must not disturb a cell of another checkout.
        with (
            lock.exclusive_machine(),
            runs.connected(session.net, PreflightSide, PreflightSide, health.LIFETIME_S) as found,
        ):
            split = runs.split_of(found, config["cpus"])
            connections = most_connections(config)
            hosts = health.gather(found, connections, session.compiler, config["host"])
            print(health.format_brief(hosts), flush=True)
            if reasons := health.describe_stops(hosts):
                sys.exit("\n".join(f"not measured: {reason}" for reason in reasons))
            print(terminal.wrap(preflight.describe_cpus(found, split)), flush=True)
            if tells_speed:
                sweep = resolution.sweep_of(config)
                told = resolution.describe(found, split, sweep, resolution.SWEEP_S)
                print(terminal.wrap(terminal.make_printable(told)), flush=True)
            return run_facts.read(found, session.checkout, session.compiler, session.compile_flags)
    except (OSError, CpuFault) as error:
        sys.exit(f"not measured: {error}")


@contextlib.contextmanager
def _one_line_if_not_writable() -> Iterator[None]:
    """The disk may be full, or allow reading only."""
    try:
        yield
    except OSError as error:
        sys.exit(f"not measured: cannot write in {os.getcwd()}: {error}")


def _sweep(session: Session, is_local: bool) -> dict[str, Any]:
    """What results/sweep.json says of this run."""
    sweep = {
        "started": records.format_utc(time.time()),
        "config": session.config,
        "revisions": session.revision_notes,
    }
    if not is_local:  # nodes of a cluster do not know it
        checkout, compiler, flags = session.checkout, session.compiler, session.compile_flags
        sweep |= source.read_source(checkout, compiler, flags)
    return sweep


def _seconds_of_cell(config: Mapping[str, Any], cell: Cell, workload: Workload) -> float:
    its_s = config["warmup_s"] + progress.CELL_OVERHEAD_S
    its_s += workloads.setting_of(config, cell.workload, "duration_s")
    its_s += workload.idle_connections * (3 if workload.is_paired else 1) * IDLE_S
    if not config["paired_s"] or not workload.is_paired:
        return float(its_s)
    plan = pairing.plan_of(cell.connections, config["paired_s"], "")
    return float(its_s + plan.longest_s + progress.PAIR_OVERHEAD_S)


def announce(config: Mapping[str, Any], jobs: Mapping[str, int], is_local: bool) -> None:
    """Tell what there is to measure and how long it will take, and write the plan for the lines of progress."""
    cells, profiles = jobs.get("measure_cell", 0), jobs.get("profile_server", 0)
    rated = jobs.get("measure_latency", 0)
    if not cells and not profiles and not rated:
        return
    found = workloads.of_config(config)
    all_s = [_seconds_of_cell(config, cell, found[cell.workload]) for cell in cells_of(config)]
    cell_s = sum(all_s) / len(all_s)
    profile_s = config["warmup_s"] + config["profile"]["duration_s"] + progress.PROFILE_OVERHEAD_S
    other_s = profiles * profile_s
    other_s += progress.OTHER_JOB_S * (sum(jobs.values()) - cells - profiles - rated)
    latency = config["latency"]
    rated_s = latency["duration_s"] + 2 * latency["paired_s"] + progress.PAIR_OVERHEAD_S
    measured_s = cells * cell_s + rated * rated_s
    progress.write_plan(cells + rated, measured_s / max(1, cells + rated), other_s)
    counted = [(cells, "cell"), (rated, "cell at a rate"), (profiles, "profile")]
    parts = [progress.format_count(number, noun) for number, noun in counted if number]
    left = f", about {progress.format_duration(measured_s + other_s)}" if is_local else ""
    *others, last = parts
    counts = f"{', '.join(others)} and {last}" if others else last
    tell(f"{counts} to run{left}")


# --- The end ---


def end(session: Session) -> None:
    """Nothing that was begun for the run is left after it."""
    for connection in session.connections:
        connection.terminate()
        connection.wait()
    if any(network.is_remote(place) for place in session.net.places):
        places.remove_control_folder()
