"""What an earlier version has left: a line at the start of a run, that says what to delete."""

import hashlib
from pathlib import Path

import pytest

from helpers.checkouts import ROOT, make_tree, run_snakemake
from helpers.made_up import record
from sweep import records
from workflow import leftovers

CONFIG = "servers: [server_epoll]\ncontrol: null\nworkloads: [keepalive]\nconnections: [10]\nrepeats: 2\npaired_s: 0\n"


def write(path: Path, version: int, **changes: object) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    records.write(str(path), record(schema_version=version, **changes))
    return str(path)


def test_nothing_is_told_of_what_this_version_made(tmp_path: Path) -> None:
    now = write(tmp_path / "now.json", records.SCHEMA_VERSION)
    assert leftovers.describe([now, str(tmp_path / "absent.json")], "") == ""


def test_old_records_are_counted_and_old_results_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("cost", "ceiling"):
        (tmp_path / "results" / name).mkdir(parents=True)
        (tmp_path / f"results/{name}.csv").touch()
    versions = [2, 3, 3, 4, records.SCHEMA_VERSION]
    paths = [write(tmp_path / f"{n}.json", version) for n, version in enumerate(versions)]
    old = "rm -r 'my runs/results/cost' 'my runs/results/cost.csv'"
    old += " 'my runs/results/ceiling' 'my runs/results/ceiling.csv'"
    assert leftovers.describe([], "my runs").endswith(f"results. To delete them: {old}")
    told = leftovers.describe(paths, "my runs")
    assert " 4 records," in told and told.endswith(f"{old} 'my runs/results/cells'")


def test_records_without_a_workload_are_counted_and_their_folders_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are where this version looks for none."""
    monkeypatch.chdir(tmp_path)
    cells = Path("results/cells")
    for server in ("server_poll", "server_epoll"):
        for repeat in (1, 2):
            write(cells / server / f"c10_r{repeat}.json", 6, server=server, repeat=repeat)
    now = write(cells / "keepalive/server_epoll/c10_r1.json", records.SCHEMA_VERSION)
    (told,) = leftovers.describe([now], "runs").splitlines()
    assert ", among them 4 records without a workload, which are not shown." in told
    assert told.endswith(" rm -r runs/results/cells/server_epoll runs/results/cells/server_poll")


def test_profiles_and_counts_from_before_these_were_of_several_workloads_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    now = ["results/profile/keepalive/a.json", "results/syscalls/keepalive/a.csv"]
    make_tree(tmp_path, dict.fromkeys(now, ""))
    assert leftovers.describe([], "my runs") == ""
    make_tree(tmp_path, dict.fromkeys(["results/profile/a.json", "results/syscalls/b.csv"], ""))
    told = leftovers.describe([], "my runs")
    assert told.endswith(
        ": rm -r 'my runs'/results/profile/*.json 'my runs'/results/syscalls/*.csv"
    )
    assert leftovers.describe([], "").endswith(" results/profile/*.json results/syscalls/*.csv")


def test_a_run_over_old_results_tells_them_in_a_line_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(CONFIG)
    binary = tmp_path / "results/bin/server_epoll"
    binary.parent.mkdir(parents=True)
    binary.write_bytes(b"old")
    (tmp_path / "results/cost.csv").touch()
    for repeat in (1, 2):
        path = tmp_path / f"results/cells/keepalive/server_epoll/c10_r{repeat}.json"
        write(path, 3, repeat=repeat, binary_sha256=hashlib.sha256(b"old").hexdigest())
    arguments = ["--directory", str(tmp_path), "--configfile", str(tmp_path / "small.yaml")]
    run = run_snakemake(ROOT, "results/cells/server_epoll.csv", *arguments)
    assert run.returncode == 0, run.stdout
    (told,) = [line for line in run.stdout.splitlines() if "rm -r" in line]
    assert told.endswith(f" rm -r {tmp_path}/results/cost.csv {tmp_path}/results/cells")
    assert " 2 records," in told
    assert (tmp_path / "results/cells/server_epoll.csv").exists()
