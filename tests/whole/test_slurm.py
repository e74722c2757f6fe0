"""A sweep by profiles/slurm, on a real Slurm of two nodes, one of which fails in the middle of its block."""

import itertools
import os
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest

from helpers import slurm_cluster
from helpers.checkouts import (
    SNAKEMAKE,
    copy_checkout,
    environment,
    eventually,
    jobs_to_run,
    records_of,
)

TARGETS = ["results/verdicts.csv", "results/summary.csv"]
OVERLAY = ["--configfile", "tests/slurm.yaml"]
# It keeps no accounts.
OPTIONS = ["--profile", "profiles/slurm", "--slurm-no-account", "--slurm-status-command", "squeue"]
TIMEOUT_S = 150


class Swept(NamedTuple):
    checkout: Path
    said: str
    failed_s: float  # when its node failed
    failed_repeat: int
    lost: dict[str, Any]  # the record that was there then
    jobs: list[tuple[str, str]]  # Slurm's: name of the block, and the node that measured it


def block_of(checkout: Path, repeat: int) -> list[dict[str, Any]]:
    """Its records in the order in which they were to be measured."""
    block = [record for record in records_of(checkout) if record["repeat"] == repeat]
    return sorted(block, key=lambda record: float(record["position"]))


def started_s(record: dict[str, Any]) -> float:
    return datetime.fromisoformat(record["started"]).timestamp()


def jobs_of(cluster: slurm_cluster.Cluster) -> list[tuple[str, dict[str, str]]]:
    """With the names of their blocks, which are in the paths of their logs."""
    found = []
    for line in cluster.run("scontrol", "--oneliner", "show", "job").splitlines():
        job = dict(word.split("=", 1) for word in line.split() if "=" in word)
        found.append(("_".join(Path(job["StdOut"]).parent.name.split("_")[1:3]), job))
    return sorted(found, key=lambda one: one[0])


def fail_node_of_first_record(cluster: slurm_cluster.Cluster, checkout: Path) -> tuple[int, dict]:
    assert eventually(lambda: records_of(checkout), TIMEOUT_S), "no cell was measured"
    record = records_of(checkout)[0]
    job = dict(jobs_of(cluster))[f"repeat_{record['repeat']}"]
    node = f"nodename={job['NodeList']}"
    cluster.run("scontrol", "update", node, "state=down", "reason=test")
    # Their end would pass for that of the job's next run.
    assert eventually(lambda: not cluster.processes(job["JobId"]), TIMEOUT_S), "they do not end"
    cluster.run("scontrol", "update", node, "state=resume")
    # Slurm would wait two minutes.
    cluster.run("scontrol", "update", f"jobid={job['JobId']}", "starttime=now")
    return record["repeat"], record


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swept]:
    assert os.geteuid() == 0, "Slurm's daemons need root: run the tests as root, or leave these out"
    checkout = copy_checkout(tmp_path_factory.mktemp("slurm") / "checkout")
    with slurm_cluster.running(tmp_path_factory.mktemp("cluster")) as cluster:
        sweep = subprocess.Popen(
            [*SNAKEMAKE, *OPTIONS, *OVERLAY, "--", *TARGETS],
            cwd=checkout,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(**cluster.environment),
        )
        try:
            repeat, lost = fail_node_of_first_record(cluster, checkout)
            failed_s = time.time()
            said = sweep.communicate(timeout=TIMEOUT_S)[0]
        finally:
            sweep.kill()
            sweep.wait()
        assert sweep.returncode == 0, said
        jobs = [(name, job["NodeList"]) for name, job in jobs_of(cluster)]
        yield Swept(checkout, said, failed_s, repeat, lost, jobs)
    assert cluster.processes() == []


def test_job_is_a_block_of_one_repeat_on_one_node(swept: Swept) -> None:
    assert [name for name, _ in swept.jobs] == ["repeat_1", "repeat_2"]
    for repeat in (1, 2):
        block = block_of(swept.checkout, repeat)
        assert {record["server"] for record in block} == {"server_poll", "server_poll_control"}
        assert len({record["machine"] for record in block}) == 1
        assert len({record["facts"]["system"]["node"] for record in block}) == 1


def test_cells_of_a_block_are_measured_in_order(swept: Swept) -> None:
    for repeat in (1, 2):
        starts = [started_s(record) for record in block_of(swept.checkout, repeat)]
        assert starts == sorted(starts)


def test_cells_on_one_machine_never_overlap(swept: Swept) -> None:
    """Both nodes are one machine, whose lock they share."""
    records = sorted(records_of(swept.checkout), key=started_s)
    for earlier, later in itertools.pairwise(records):
        assert started_s(earlier) + earlier["duration_s"] <= started_s(later)


def test_node_is_in_the_facts_and_wholly_used(swept: Swept) -> None:
    for record in records_of(swept.checkout):
        assert record["status"] in {"ok", "invalid"}, record
        assert record["facts"]["system"]["node"]
        assert record["facts"]["cpu"]["cpus_allowed"] == os.cpu_count()
        assert record["facts"]["build"]["flags"][:1] == ["-std=gnu17"]  # as where it was built


def test_block_of_a_failed_node_is_measured_anew(swept: Swept) -> None:
    block = block_of(swept.checkout, swept.failed_repeat)
    assert swept.lost["server"] in {record["server"] for record in block}
    assert all(started_s(record) > swept.failed_s for record in block)


def test_nodes_are_summarized_apart(swept: Swept) -> None:
    cells = pd.read_csv(swept.checkout / "results/cells.csv")
    summary = pd.read_csv(swept.checkout / "results/summary.csv")
    assert not cells.duplicated(["server", "connections", "repeat"]).any()
    machines = {record["machine"] for record in records_of(swept.checkout)}
    assert len(machines) == len({node for _, node in swept.jobs})
    assert set(summary["machine"]) == machines
    assert len(summary) == 2 * len(machines)


def test_nothing_is_stale_where_cells_are_measured_here(swept: Swept) -> None:
    assert jobs_to_run(swept.checkout, *TARGETS, *OVERLAY) == set()
