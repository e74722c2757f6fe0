"""That time stays in proportion to the number of cells. The real figures: make scale, docs/scale.md."""

import subprocess
import sys
import time
from pathlib import Path

import cells
import made_up_cell
import pytest
import records
import scale
from checkouts import ROOT, copy_checkout, jobs_to_run
from test_tables import record

SLACK = 3  # of what docs/scale.md promises, where others use the machine too


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> scale.Sweep:
    """506 cells whose records were not measured, as if the workflow had made them."""
    checkout = copy_checkout(tmp_path_factory.mktemp("scale") / "checkout")
    (checkout / made_up_cell.TEMPLATES).mkdir()
    scale.make_up_cells(checkout)
    made = scale.Sweep(checkout, "made", connections=scale.CONNECTIONS, repeats=5)
    raw = {"raw_histogram": [[number, number] for number in range(1200)]}
    (made.folder / "results/bin").mkdir(parents=True)
    for server in {cell.server for cell in made.order}:
        path = checkout / made_up_cell.TEMPLATES / f"{server}.json"
        records.write(str(path), {**record(server=server, response_bytes=78), **raw})
        (made.folder / "results/bin" / server).touch()
    made.fill()
    return made


def stale(sweep: scale.Sweep) -> tuple[set[tuple[str, ...]], float]:
    """What a run of all cells would do, and how long it takes to find that."""
    targets = map(cells.record_path, sweep.order)
    started_s = time.monotonic()
    jobs = jobs_to_run(sweep.checkout, *sweep.arguments(*targets))
    return jobs, time.monotonic() - started_s


def test_one_stale_of_500_cells_is_found_in_seconds(sweep: scale.Sweep) -> None:
    jobs, seconds = stale(sweep)
    assert jobs == set()
    assert seconds < SLACK * 3
    (sweep.folder / "results/cells/server_epoll/c100_r3.json").unlink()
    jobs, seconds = stale(sweep)
    assert jobs == {("measure_cell", "server_epoll", "100", "3")}
    assert seconds < SLACK * 3


def test_scheduler_sees_few_of_many_ready_cells_and_still_keeps_their_order(
    sweep: scale.Sweep,
) -> None:
    """More cells than rules/console.smk shows it at once."""
    targets = sorted(sweep.order, key=lambda cell: sweep.order[cell])[:130]
    for cell in targets:
        (sweep.folder / cells.record_path(cell)).unlink(missing_ok=True)
    sweep.run(*map(cells.record_path, sweep.order))
    written = {
        cell: (sweep.folder / cells.record_path(cell)).stat().st_mtime_ns for cell in targets
    }
    assert sorted(targets, key=lambda cell: written[cell]) == targets


def test_records_become_rows_without_pandas() -> None:
    """Its import, once for each server, takes as long as reading 5,000 records."""
    script = "import sys, tabulate_server; print('pandas' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        cwd=ROOT / "scripts",
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdout == "False\n"


def test_raw_output_is_not_read_for_tables(tmp_path: Path) -> None:
    raw = {"raw_histogram": [[number, number] for number in range(20_000)]}
    path = str(tmp_path / "record.json")
    records.write(path, {**record(), **raw, "attempts": 1})
    assert records.read(path) == {**record(), **raw, "attempts": 1}
    assert records.read(path, raw=False) == {**record(), "attempts": 1}
