"""Latency at fixed rates by the workflow: from nothing, a second time, and after edits."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml

from helpers.checkouts import ROOT, copy_checkout, jobs_to_run, run_snakemake, snakemake
from helpers.overlays import overlay
from sweep import rates, records
from sweep.rates import RatedCell

PICTURE = "plots/latency.png"
# The second is much slower, so that rates are shares of what it can do.
SERVERS = ["server_poll", "server_spins"]
GRID = {"shares": [0.2, 0.5], "repeats": 1, "duration_s": 0.3, "paired_s": 0.1}
CHANGES: dict[str, object] = {
    "connections": [4],
    "paired_s": 0.1,
    "compile": {"flags": ["-O2", "-DSPIN_NS=50000"]},
    "profile": {"connections": 4, "duration_s": 0.5},
}
OVERLAY = ("--configfile", "overlay.yaml")
Jobs = set[tuple[str, ...]]
TABLES: Jobs = {("collect_latency",), ("summarize_latency",), ("plot_latency",)}
REDRAWN: Jobs = {("summarize_latency",), ("plot_latency",)}
OF_RATES = {"plan_rates", "measure_latency", "collect_latency", "summarize_latency", "plot_latency"}
pytestmark = pytest.mark.alone


def configure(checkout: Path, servers: Sequence[str] = SERVERS, **latency: object) -> None:
    changes = {**CHANGES, "servers": [*servers], "latency": {**GRID, **latency}}
    (checkout / "overlay.yaml").write_text(overlay(**changes))


def make_checkout(folder: Path) -> Path:
    checkout = copy_checkout(folder / "checkout")
    source = (ROOT / "tests/faulty/server_spins.c").read_text()
    (checkout / "servers/server_spins.c").write_text(source)
    configure(checkout)
    return checkout


def rated(*servers: str, names: tuple[str, ...] = ("s20", "s50")) -> Jobs:
    return {("measure_latency", "keepalive", it, name, "1") for it in servers for name in names}


def cells(*servers: str) -> Jobs:
    return {("measure_cell", "keepalive", server, "4", "1") for server in servers}


def compiled(*names: str) -> Jobs:
    return {("compile_server", name) for name in names}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A checkout in which the picture was made from nothing, and what the console showed."""
    checkout = make_checkout(tmp_path_factory.mktemp("latency"))
    expected = rated(*SERVERS) | cells(*SERVERS) | compiled(*SERVERS, "reference", "load")
    assert jobs_to_run(checkout, PICTURE, *OVERLAY) == expected | TABLES | {("plan_rates",)}
    assert not {job[0] for job in jobs_to_run(checkout, *OVERLAY)} & OF_RATES
    run = run_snakemake(checkout, PICTURE, *OVERLAY)
    assert run.returncode == 0, run.stdout
    return checkout, run.stdout


def test_picture_is_made_from_nothing_and_not_again(measured: tuple[Path, str]) -> None:
    checkout, console = measured
    with (checkout / "results/latency.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["server"], float(row["share"])) for row in rows} == {
        (server, share) for server in SERVERS for share in (0.2, 0.5)
    }
    assert len({row["rate_per_second"] for row in rows}) == 2  # all servers get the same
    assert (checkout / PICTURE).stat().st_size > 20_000
    assert "2 cells and 4 cells at a rate to run, about " in console
    assert "[6/6, " in console
    assert (checkout / "results/latency.txt").read_text() in console
    assert jobs_to_run(checkout, PICTURE, *OVERLAY) == set()


def test_cells_are_measured_in_the_order_that_their_records_say(measured: tuple[Path, str]) -> None:
    checkout, _ = measured
    paths = [*checkout.glob("results/latency/keepalive/*/*.json")]
    by_time = sorted(paths, key=lambda path: path.stat().st_mtime_ns)
    assert [records.read(str(path))["position"] for path in by_time] == [0, 1, 2, 3]
    cell = RatedCell("server_poll", "keepalive", "s50", 1)
    assert checkout / rates.record_path(cell) in paths


def append(name: str, text: str) -> Callable[[Path], None]:
    def edit(checkout: Path) -> None:
        with (checkout / name).open("a") as file:
            file.write(text)

    return edit


RECORD = rates.record_path(RatedCell("server_poll", "keepalive", "s20", 1))
EDITS: dict[str, tuple[Callable[[Path], object], Jobs]] = {
    "nothing": (lambda _: None, set()),
    "another seed": (append("overlay.yaml", "seed: 2\n"), rated(*SERVERS) | TABLES),
    "a comment in the generator": (append("load/load.c", "// a comment\n"), set()),
    "another target": (lambda checkout: configure(checkout, target_ms=0.2), REDRAWN),
    "one more share": (
        lambda checkout: configure(checkout, shares=[0.2, 0.3, 0.5]),
        rated(*SERVERS, names=("s30",)) | TABLES,
    ),
    "one server's code": (
        append("servers/server_poll.c", "\nint added(void);\nint added(void) { return 1; }\n"),
        compiled("server_poll") | rated("server_poll") | TABLES,
    ),
    "one more server": (
        lambda checkout: configure(checkout, servers=[*SERVERS, "server_thread"]),
        compiled("server_thread") | rated("server_thread") | TABLES,
    ),
    "the generator's code": (
        append("load/load.c", "\nint added(void);\nint added(void) { return 1; }\n"),
        compiled("load") | rated(*SERVERS) | TABLES,
    ),
    "a deleted record": (
        lambda checkout: (checkout / RECORD).unlink(),
        rated("server_poll", names=("s20",)) | TABLES,
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_edit_reruns_exactly_what_depends_on_it(name: str, measured: tuple[Path, str]) -> None:
    checkout, _ = measured
    edit, expected = EDITS[name]
    touched = ["overlay.yaml", "load/load.c", "servers/server_poll.c", RECORD]
    before = {path: (checkout / path).read_bytes() for path in touched}
    try:
        edit(checkout)
        # A record in the middle is noticed by whoever asks for everything.
        targets = ["results/latency.csv", PICTURE, RECORD]
        assert jobs_to_run(checkout, *targets, *OVERLAY) == expected
    finally:
        for path, content in before.items():
            if not (checkout / path).exists() or (checkout / path).read_bytes() != content:
                (checkout / path).write_bytes(content)
    assert jobs_to_run(checkout, PICTURE, *OVERLAY) == set()


def test_server_that_was_changed_is_measured_again_at_the_same_rates(
    measured: tuple[Path, str],
) -> None:
    checkout, _ = measured
    paths = {path: path.read_bytes() for path in checkout.glob("results/latency/*/*/*.json")}
    plan = (checkout / rates.RATES_PATH).read_bytes()
    append("servers/server_spins.c", "\nint added(void);\nint added(void) { return 1; }\n")(
        checkout
    )
    snakemake(checkout, PICTURE, *OVERLAY)
    changed = {path.parent.name for path, content in paths.items() if path.read_bytes() != content}
    assert changed == {"server_spins"}
    assert (checkout / rates.RATES_PATH).read_bytes() == plan
    assert jobs_to_run(checkout, PICTURE, *OVERLAY) == set()


def test_report_has_the_section_from_then_on(measured: tuple[Path, str]) -> None:
    checkout, _ = measured
    (checkout / RECORD).unlink()  # `all` notices it
    assert rated("server_poll", names=("s20",)) | TABLES < jobs_to_run(checkout, *OVERLAY)
    run = run_snakemake(checkout, "-j2", *OVERLAY)
    assert run.returncode == 0, run.stdout
    page = (checkout / "results/report.html").read_text()
    assert 'id="rates"' in page and "<h3>keepalive, 4 connections</h3>" in page
    assert jobs_to_run(checkout, *OVERLAY) == set()
    configure(checkout, target_ms=0.3)
    assert jobs_to_run(checkout, *OVERLAY) == REDRAWN | {("make_report",)}


def test_rates_of_ones_own_need_no_cells_of_the_sweep(checkout: Path) -> None:
    own = {**GRID, "rates": [1000, 500], "paired_s": 0}
    (checkout / "overlay.yaml").write_text(overlay(connections=[4, 60], latency=own))
    expected = rated("server_epoll", names=("q500", "q1000")) | compiled("server_epoll", "load")
    assert jobs_to_run(checkout, PICTURE, *OVERLAY) == expected | TABLES


def test_generator_that_does_not_compile_is_one_line_and_costs_nothing_else(checkout: Path) -> None:
    own = {**GRID, "rates": [1000], "paired_s": 0}
    (checkout / "overlay.yaml").write_text(overlay(connections=[4], latency=own))
    (checkout / "load/load.c").write_text("int main(void) { return x; }\n")
    cell = "results/cells/keepalive/server_epoll/c4_r1.json"
    run = run_snakemake(checkout, PICTURE, cell, *OVERLAY)
    assert run.returncode == 1
    told = [line for line in run.stdout.splitlines() if "load generator" in line]
    assert len(told) == 1, run.stdout
    assert told[0].startswith("the load generator load: does not compile: load/load.c:1:25: error:")
    assert "Traceback" not in run.stdout
    assert records.read_status(str(checkout / cell)) == "ok"
    assert ("compile_server", "load") not in jobs_to_run(checkout, *OVERLAY)


def test_workloads_of_which_none_can_be_rated_are_one_line(checkout: Path) -> None:
    its = {"workloads": ["connection_per_request"], "latency": GRID}
    (checkout / "overlay.yaml").write_text(yaml.safe_dump(its))
    run = run_snakemake(checkout, PICTURE, *OVERLAY)
    assert run.returncode == 1 and "Traceback" not in run.stdout
    told = [line for line in run.stdout.splitlines() if line.startswith("collect_latency: ")]
    assert len(told) == 1 and "none can be measured at a rate" in told[0], run.stdout
