"""That time stays near to what Snakemake itself takes for as many jobs. The real figures: make scale, docs/scale.md."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

import scale
from helpers import made_up_cell
from helpers.checkouts import ROOT, copy_checkout, jobs_to_run
from helpers.made_up import record
from sweep import cells, records

# Of our dry run to bare Snakemake's. Seen: 1.6 to 1.7.
MOST = 3
BARE = """\
rule all:
    input:
        [f"made/{{number}}" for number in range({jobs})],


rule make:
    output:
        "made/{{number}}",
    shell:
        "touch {{output}}"
"""


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


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, sweep: scale.Sweep) -> Path:
    """Snakemake alone, with as many jobs that have been done."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "Snakefile").write_text(BARE.format(jobs=len(sweep.order)))
    (folder / "made").mkdir()
    for number in range(len(sweep.order)):
        (folder / f"made/{number}").touch()
    return folder


def test_stale_cell_of_500_is_found_nearly_as_fast_as_bare_snakemake_finds_nothing(
    sweep: scale.Sweep, bare: Path
) -> None:
    """The two take turns, so that what slows the machine slows both; one of the two turns must not be slow."""
    targets = list(map(cells.record_path, sweep.order))

    def ratio(expected: set[tuple[str, ...]]) -> float:
        started_s = time.monotonic()
        assert jobs_to_run(sweep.checkout, *sweep.arguments(*targets)) == expected
        between_s = time.monotonic()
        assert jobs_to_run(bare) == set()
        return (between_s - started_s) / (time.monotonic() - between_s)

    ratios = [ratio(set())]
    (sweep.folder / "results/cells/server_epoll/c100_r3.json").unlink()
    ratios.append(ratio({("measure_cell", "server_epoll", "100", "3")}))
    assert min(ratios) < MOST, ratios


def test_scheduler_sees_few_of_many_ready_cells_and_still_keeps_their_order(
    sweep: scale.Sweep,
) -> None:
    """More cells than scripts/workflow/snakemake_internals.py shows it at once."""
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
    script = "import sys, collect_cells; print('pandas' in sys.modules)"
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
