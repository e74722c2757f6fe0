"""Which edit reruns which jobs, asserted from dry runs after one real run of a tiny sweep."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.checkouts import copy_checkout, jobs_to_run, run_snakemake
from workflow import working_folder

SERVERS = ["server_epoll", "server_poll"]
CONFIG = """\
servers: [server_epoll, server_poll]
control: null
workloads: [keepalive, {name: large, body_bytes: 1000, connections: [1]}]
connections: [1, 2]
repeats: 1
disturbed_retries: 0
duration_s: 0.2
warmup_s: 0
paired_s: 0.1
seed: 1
workers: auto
host: "::1"
profile: {connections: 2, duration_s: 0.5, frequency_hz: 499}
compile: {compiler: ./compiler, flags: [-O1, -g]}
"""
# A compiler whose version can be changed. When it ends, what was compiled before is newer than the clock, as if the
# clock had been set back.
COMPILER = """\
#!/bin/sh
[ "$1" = --version ] && exec cat "$(dirname "$0")/compiler_version"
gcc "$@" || exit
case "$*" in *"-o results/bin/"*) touch -d "1 hour" results/bin/* ;; esac
"""
# More than the megabyte up to which Snakemake compares contents by default.
LARGE = "\nchar padding[1 << 21] = {1};\n"

Jobs = set[tuple[str, ...]]
OVERVIEWS: Jobs = {("plot_over_connections", figure) for figure in ("throughput", "latency", "cpu")}
REPORT: Jobs = {("make_report",)}
COMPARED: Jobs = {("judge_servers",), ("plot_map",), ("plot_ranking",), ("plot_overview",)}
COMPARED |= {("print_summary",)}
COMPARED |= REPORT
MERGED: Jobs = {("merge_cells",), ("summarize_cells",), ("print_summary",)}
MERGED |= COMPARED
COUNTED: Jobs = {("merge_syscalls",), ("plot_syscalls", "")} | REPORT


def summaries(*servers: str) -> Jobs:
    """What follows from new records of these servers."""
    own = {(rule, name) for rule in ("collect_cells", "plot_server") for name in servers}
    return own | MERGED | OVERVIEWS


def cells(
    *servers: str,
    workload: str = "keepalive",
    connections: tuple[int, ...] = (1, 2),
    repeat: int = 1,
) -> Jobs:
    points = [(name, str(count), str(repeat)) for name in servers for count in connections]
    return {("measure_cell", workload, *point) for point in points}


def large(*servers: str, repeat: int = 1) -> Jobs:
    """The cells of the second workload."""
    return cells(*servers, workload="large", connections=(1,), repeat=repeat)


def flamegraphs(*servers: str, suffix: str = "") -> Jobs:
    return {("draw_flamegraph", name, suffix) for name in servers}


def profiles(*servers: str, workload: str = "keepalive", suffix: str = "") -> Jobs:
    made: Jobs = {("profile_server", workload, name) for name in servers}
    return made | flamegraphs(*servers, suffix=suffix)


def counts(*servers: str, workload: str = "keepalive") -> Jobs:
    return COUNTED | {("count_syscalls", workload, name) for name in servers}


def drawn(*servers: str) -> Jobs:
    """What follows from another summary, and these servers' pictures."""
    own = {("plot_server", name) for name in servers}
    return own | (MERGED - {("merge_cells",)}) | OVERVIEWS


def everything_of(*servers: str) -> Jobs:
    made: Jobs = {("compile_server", name) for name in servers}
    made |= counts(*servers) | profiles(*servers)
    return made | cells(*servers) | large(*servers) | summaries(*servers)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with all results of the tiny sweep."""
    checkout = copy_checkout(tmp_path_factory.mktemp("staleness") / "check out")
    (checkout / "config.yaml").write_text(CONFIG)
    (checkout / "compiler").write_text(COMPILER)
    (checkout / "compiler").chmod(0o755)
    (checkout / "compiler_version").write_text("compiler 1.0\n")
    append("servers/common/large.h", LARGE)(checkout)
    append("servers/server_epoll.c", '#include "common/large.h"\n')(checkout)
    run = run_snakemake(checkout, "-j2")
    assert run.returncode == 0, run.stdout
    return checkout


def replace(name: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(checkout: Path) -> None:
        text = (checkout / name).read_text()
        assert old in text, f"{name} has no {old!r} to edit"
        (checkout / name).write_text(text.replace(old, new, 1))

    return edit


def configure(old: str, new: str) -> Callable[[Path], None]:
    return replace("config.yaml", old, new)


def append(name: str, text: str) -> Callable[[Path], None]:
    def edit(checkout: Path) -> None:
        with (checkout / name).open("a") as file:
            file.write(text)

    return edit


def change(script: str) -> Callable[[Path], None]:
    return append(f"scripts/{script}", "CHANGED = 1\n")


def explain_scripts(checkout: Path) -> None:
    """Another docstring and a comment in each module."""
    for path in (checkout / "scripts").rglob("*.py"):
        if text := path.read_text():
            path.write_text(text.replace('"""', '"""Truly: ', 1) + "# a comment\n")


def touch_sources(checkout: Path, ahead_s: float = 0) -> None:
    """As if everything had been changed now, or on a machine whose clock is ahead."""
    times = (time.time() + ahead_s,) * 2
    for folder in ("report", "servers", "scripts", "rules", "schemas"):
        for path in (checkout / folder).rglob("*"):
            os.utime(path, times)
    os.utime(checkout / "config.yaml", times)
    os.utime(checkout / "Snakefile", times)


def touch_binaries(checkout: Path) -> None:
    for path in (checkout / "results/bin").iterdir():
        os.utime(path)


def remove(name: str) -> Callable[[Path], None]:
    return lambda checkout: (checkout / name).unlink()


ALL_CELLS = cells(*SERVERS) | large(*SERVERS) | summaries(*SERVERS)
REFERENCE: Jobs = {("compile_server", "reference")}
CODE = "\nint added(void);\nint added(void) { return 1; }\n"

NO_REASON: dict[str, Callable[[Path], object]] = {
    "no edit": lambda _: None,
    "touch of every source": touch_sources,
    "touch of every binary": touch_binaries,
    "comment in config": append("config.yaml", "# a comment\n"),
    "seed": configure("seed: 1", "seed: 2"),
    "order of connections": configure("connections: [1, 2]", "connections: [2, 1]"),
    "comment in a server": append("servers/server_epoll.c", "/* a comment */\n"),
    "comment in a shared header": append("servers/common/http.h", "// a comment\n"),
    "workers, of which these servers have one": configure("workers: auto", "workers: 3"),
    "how often disturbed cells are measured again": configure(
        "disturbed_retries: 0", "disturbed_retries: 5"
    ),
    "what is looked at before a sweep": change("hosts/checks.py"),
    "comments and docstrings in scripts": explain_scripts,
    "a line of progress": change("workflow/progress.py"),
}

EDITS: dict[str, tuple[Callable[[Path], object], Jobs]] = {
    "one more connection count": (
        configure("connections: [1, 2]", "connections: [1, 2, 3]"),
        cells(*SERVERS, connections=(3,)) | summaries(*SERVERS),
    ),
    "one more repeat": (
        configure("repeats: 1", "repeats: 2"),
        cells(*SERVERS, repeat=2) | large(*SERVERS, repeat=2) | summaries(*SERVERS),
    ),
    "one more workload": (
        configure("{name: large", "{name: mine, pipelined: 4}, {name: large"),
        cells(*SERVERS, workload="mine") | summaries(*SERVERS),
    ),
    "one workload fewer": (
        configure(", {name: large, body_bytes: 1000, connections: [1]}", ""),
        summaries(*SERVERS),
    ),
    "a parameter of a workload": (
        configure("body_bytes: 1000", "body_bytes: 2000"),
        large(*SERVERS) | summaries(*SERVERS),
    ),
    "what decides a workload": (
        configure("body_bytes: 1000", "body_bytes: 1000, decided_by: requests_per_second"),
        large(*SERVERS) | summaries(*SERVERS),
    ),
    "a duration of a workload's own": (
        configure("body_bytes: 1000", "body_bytes: 1000, duration_s: 0.3"),
        large(*SERVERS) | summaries(*SERVERS),
    ),
    "one more server": (
        configure("server_poll]", "server_poll, server_select]"),
        everything_of("server_select"),
    ),
    "one server fewer": (configure(", server_poll]", "]"), MERGED | OVERVIEWS | COUNTED),
    "a control": (
        configure("control: null", "control: server_poll"),
        cells("server_poll_control")
        | {("compile_server", "server_poll_control"), ("collect_cells", "server_poll_control")}
        | MERGED
        | OVERVIEWS,
    ),
    "code of the reference": (append("servers/reference.c", CODE), REFERENCE | ALL_CELLS),
    "duration": (configure("duration_s: 0.2", "duration_s: 0.3"), ALL_CELLS),
    "no paired phase": (configure("paired_s: 0.1", "paired_s: 0"), ALL_CELLS),
    "profile's duration": (
        configure("duration_s: 0.5", "duration_s: 0.6"),
        profiles(*SERVERS) | REPORT,
    ),
    "profiles of one more workload": (
        configure("connections: 2,", "connections: 2, workloads: [keepalive, large],"),
        profiles(*SERVERS, workload="large", suffix="_large")
        | counts(*SERVERS, workload="large")
        | {("plot_syscalls", "_large")},
    ),
    "code of a server": (append("servers/server_epoll.c", CODE), everything_of("server_epoll")),
    "code of a header that all share": (
        append("servers/common/http.h", CODE),
        everything_of(*SERVERS) | REFERENCE,
    ),
    "code of a header that one includes": (
        append("servers/common/large.h", CODE),
        everything_of("server_epoll"),
    ),
    "compiler flags": (configure("-O1", "-O2"), everything_of(*SERVERS) | REFERENCE),
    "compiler version": (
        replace("compiler_version", "1.0", "1.1"),
        everything_of(*SERVERS) | REFERENCE,
    ),
    "how cells are measured": (change("measure_cell.py"), ALL_CELLS),
    "how runs are made": (
        change("measuring/server_side.py"),
        ALL_CELLS | profiles(*SERVERS) | counts(*SERVERS),
    ),
    "where the load runs": (
        configure("seed: 1", "seed: 1\nnetwork: {server: 'ssh:x', load: 'ssh:x'}"),
        ALL_CELLS | profiles(*SERVERS) | counts(*SERVERS),
    ),
    "how verdicts are found": (change("analysis/verdicts.py"), COMPARED),
    "how system calls are counted": (change("count_syscalls.py"), counts(*SERVERS)),
    "how profiles are made": (change("profile_server.py"), profiles(*SERVERS) | REPORT),
    "how flamegraphs are drawn": (
        change("draw_flamegraph.py"),
        flamegraphs(*SERVERS) | REPORT,
    ),
    "the report's page": (append("report/page.css", "/* changed */\n"), REPORT),
    "a plot script": (change("plot_server.py"), {("plot_server", name) for name in SERVERS}),
    "the plots' style": (
        change("drawing/style.py"),
        {("plot_server", name) for name in SERVERS}
        | OVERVIEWS
        | {("plot_map",), ("plot_ranking",), ("plot_overview",), ("plot_syscalls", "")},
    ),
    "how tables are made": (
        change("analysis/tables.py"),
        drawn(*SERVERS) | {("plot_syscalls", "")},
    ),
    "a deleted table": (
        remove("results/cells.csv"),
        {("merge_cells",), ("summarize_cells",), ("print_summary",)} | OVERVIEWS | COMPARED,
    ),
    "a deleted record": (
        remove("results/cells/keepalive/server_poll/c2_r1.json"),
        cells("server_poll", connections=(2,)) | summaries("server_poll"),
    ),
    "the first record deleted": (
        remove("results/cells/keepalive/server_epoll/c1_r1.json"),
        cells("server_epoll", connections=(1,)) | summaries("server_epoll"),
    ),
    "everything of a server deleted but its pictures": (
        lambda checkout: [
            shutil.rmtree(checkout / "results/cells/keepalive/server_epoll"),
            (checkout / "results/cells/server_epoll.csv").unlink(),
        ],
        cells("server_epoll") | summaries("server_epoll"),
    ),
    "a deleted picture": (remove("plots/server_poll.png"), {("plot_server", "server_poll")}),
    "a deleted binary": (remove("results/bin/server_poll"), everything_of("server_poll")),
}


@contextlib.contextmanager
def restored(measured: Path, folder: Path) -> Iterator[None]:
    saved = folder / "saved"
    shutil.copytree(measured, saved, symlinks=True)
    try:
        yield
    finally:
        shutil.rmtree(measured)
        saved.rename(measured)


@pytest.mark.parametrize("name", EDITS)
def test_edit_reruns_exactly_what_depends_on_it(name: str, measured: Path, tmp_path: Path) -> None:
    edit, expected = EDITS[name]
    with restored(measured, tmp_path):
        edit(measured)
        assert jobs_to_run(measured) == expected


def test_edits_that_are_no_reason_rerun_nothing(measured: Path, tmp_path: Path) -> None:
    """All at once; each alone only to name the one that is."""
    with restored(measured, tmp_path):
        for edit in NO_REASON.values():
            edit(measured)
        jobs = jobs_to_run(measured)
    reasons = {}
    for name, edit in NO_REASON.items() if jobs else ():
        with restored(measured, tmp_path):
            edit(measured)
            reasons[name] = jobs_to_run(measured)
    assert not jobs, {name: alone for name, alone in reasons.items() if alone}


def test_checkout_that_was_moved_and_is_newer_than_the_clock_measures_what_is_missing_alone(
    measured: Path, tmp_path: Path
) -> None:
    record = "results/cells/keepalive/server_poll/c2_r1.json"
    with restored(measured, tmp_path):
        before = {path: path.read_bytes() for path in measured.glob("results/cells/*/*/*.json")}
        moved = measured.rename(tmp_path / "moved")
        try:
            touch_sources(moved, ahead_s=3 * 3600)
            assert jobs_to_run(moved) == set()
            (moved / record).unlink()
            run = run_snakemake(moved, record, "results/summary.txt")
            assert run.returncode == 0, run.stdout
            assert jobs_to_run(moved, "results/summary.txt") == set()
            after = {path: (moved / path.relative_to(measured)).read_bytes() for path in before}
        finally:
            moved.rename(measured)
    assert [path for path in before if before[path] != after[path]] == [measured / record]


def test_records_without_history_are_judged_by_the_binary_that_they_name(
    measured: Path, tmp_path: Path
) -> None:
    """As when results/ is copied alone, with other times."""
    with restored(measured, tmp_path):
        shutil.rmtree(measured / ".snakemake")
        touch_binaries(measured)
        assert jobs_to_run(measured, "results/cells.csv") == set()
        append("results/bin/server_epoll", "another")(measured)
        tables: Jobs = {("collect_cells", "server_epoll"), ("merge_cells",)}
        assert (
            jobs_to_run(measured, "results/cells.csv")
            == cells("server_epoll") | large("server_epoll") | tables
        )


def test_times_ahead_of_the_clock_are_brought_back_in_their_order(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "cab"]
    for path, ahead_s in zip(paths, (-60, 60, 3600), strict=True):
        path.touch()
        os.utime(path, (time.time() + ahead_s,) * 2)
    past_ns = paths[0].stat().st_mtime_ns
    working_folder.bring_back([str(tmp_path), "no such folder"])
    times_ns = [path.stat().st_mtime_ns for path in paths]
    assert times_ns[0] == past_ns < times_ns[1] < times_ns[2] <= time.time_ns()


def test_picture_of_one_server_needs_no_other(checkout: Path) -> None:
    jobs = jobs_to_run(checkout, "plots/server_epoll.png")
    rules = {"compile_server", "measure_cell", "collect_cells", "plot_server"}
    assert {job[0] for job in jobs} == rules
    measured = {job[2] for job in jobs if job[0] == "measure_cell"}
    others = {job[1] for job in jobs if job[0] != "measure_cell"}
    assert (measured, others) == ({"server_epoll"}, {"server_epoll", "reference"})


def test_flamegraph_of_one_server_needs_no_cell(checkout: Path) -> None:
    jobs = jobs_to_run(checkout, "plots/server_epoll_flamegraph.svg")
    assert jobs == profiles("server_epoll") | {("compile_server", "server_epoll")}


def test_flamegraph_of_any_workload_is_made_when_its_name_is_asked_for(checkout: Path) -> None:
    jobs = jobs_to_run(checkout, "plots/server_epoll_flamegraph_blocking_handler.png")
    made = profiles("server_epoll", workload="blocking_handler", suffix="_blocking_handler")
    assert jobs == made | {("compile_server", "server_epoll")}
