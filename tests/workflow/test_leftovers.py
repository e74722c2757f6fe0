"""What an earlier version has left: a line at the start of a run, that says what to delete."""

import hashlib
from pathlib import Path

from helpers.checkouts import ROOT, snakemake
from helpers.made_up import record
from sweep import records
from workflow import leftovers

CONFIG = "servers: [server_epoll]\ncontrol: null\nconnections: [10]\nrepeats: 5\npaired_s: 0\n"
VERSIONS = [2, 3, 3, 4, records.SCHEMA_VERSION]  # of the records of the repeats


def write(path: Path, version: int, **changes: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    records.write(str(path), record(schema_version=version, **changes))


def test_nothing_is_told_of_what_this_version_made(tmp_path: Path) -> None:
    now = tmp_path / "now.json"
    write(now, records.SCHEMA_VERSION)
    assert list(leftovers.describe([str(now), str(tmp_path / "absent.json")], "")) == []


def test_a_run_over_old_results_tells_them_a_line_each_and_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "my runs"
    binary = folder / "results/bin/server_epoll"
    binary.parent.mkdir(parents=True)
    binary.write_bytes(b"old")
    for name in ("cost", "ceiling"):
        (folder / "results" / name).mkdir()
        (folder / f"results/{name}.csv").touch()
    for repeat, version in enumerate(VERSIONS, 1):
        path = folder / f"results/cells/server_epoll/c10_r{repeat}.json"
        write(path, version, repeat=repeat, binary_sha256=hashlib.sha256(b"old").hexdigest())
    (tmp_path / "small.yaml").write_text(CONFIG)
    arguments = ["--directory", str(folder), "--configfile", str(tmp_path / "small.yaml")]
    said = snakemake(ROOT, "results/cells/server_epoll.csv", *arguments)
    left, old = (line for line in said.splitlines() if "rm -r" in line)
    results = f"{folder}/results"
    assert left.endswith(
        f"rm -r '{results}/cost' '{results}/cost.csv' '{results}/ceiling' '{results}/ceiling.csv'"
    )
    assert "(1 of schema version 2, 2 of schema version 3, 1 of schema version 4)" in old
    assert old.endswith(f"rm -r '{results}/cells'")
    assert (folder / "results/cells/server_epoll.csv").exists()
