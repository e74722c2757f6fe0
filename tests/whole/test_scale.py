"""That time stays near to what Snakemake itself takes for as many jobs. The real figures: make scale, docs/scale.md."""

import resource
import shutil
import statistics
import sys
from pathlib import Path

import pytest
import yaml

import scale
from helpers import made_up_cell
from helpers.checkouts import ROOT, SNAKEMAKE, copy_checkout, run_program
from helpers.made_up import record
from sweep import cells, records

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


def make_bare(folder: Path, jobs: int) -> Path:
    """Snakemake alone, with so many jobs that have been done."""
    (folder / "made").mkdir(parents=True)
    (folder / "Snakefile").write_text(BARE.format(jobs=jobs))
    for number in range(jobs):
        (folder / f"made/{number}").touch()
    return folder


def cpu_s(command: list[str], folder: Path) -> float:
    """CPU time of a run in which nothing is to be done, whatever else the machine does."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = run_program(command, folder, PWD=str(folder))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "Nothing to be done" in run.stdout + run.stderr, run.stderr
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_no_op_run_of_the_default_sweep_takes_little_more_than_bare_snakemake(
    sweep: scale.Sweep, tmp_path: Path
) -> None:
    workloads = yaml.safe_load((ROOT / "config.yaml").read_text())["workloads"]
    default = scale.Sweep(sweep.checkout, "default", paired_s=0.6, workloads=workloads)
    shutil.copytree(sweep.folder / "results/bin", default.folder / "results/bin")
    (default.folder / "results/bin/reference").touch()
    default.fill()
    command = default.command(*map(cells.record_path, default.order))
    bare = make_bare(tmp_path / "bare", len(default.order))
    cpu_s(command, sweep.checkout)  # the compiler runs once
    ratios = [cpu_s(command, sweep.checkout) / cpu_s([*SNAKEMAKE, "-j1"], bare) for _ in range(3)]
    assert statistics.median(ratios) <= 1.5, ratios


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
    run = run_program([sys.executable, "-c", script], ROOT / "scripts")
    assert run.stdout == "False\n", run.stderr


def test_raw_output_is_not_read_for_tables(tmp_path: Path) -> None:
    raw = {"raw_histogram": [[number, number] for number in range(20_000)]}
    path = str(tmp_path / "record.json")
    records.write(path, {**record(), **raw, "attempts": 1})
    assert records.read(path) == {**record(), **raw, "attempts": 1}
    assert records.read(path, raw=False) == {**record(), "attempts": 1}
