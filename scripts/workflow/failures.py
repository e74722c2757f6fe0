"""Servers that failed in a run of the workflow: which jobs to try again, and the lines that report them at the end."""

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from instruments import failed_build
from sweep import flags, records
from sweep.cells import base_of
from workflow import obstacles

CELL = "cell"
# Rule → what it makes of a server, as a noun, in the order of the report.
PRODUCTS = {
    "measure_cell": CELL,
    "measure_latency": "cell at a rate",
    "profile_server": "profile",
    "count_syscalls": "count of system calls",
    "compile_server": "binary",
    "prepare_external": "launcher",
}


class Failure(NamedTuple):
    job: Any  # of Snakemake
    server: str
    product: str  # of PRODUCTS
    reason: str


def find(jobs: Iterable[Any], external: Collection[str]) -> list[Failure]:
    """The failures in the outputs of these Snakemake jobs; jobs without output are skipped.

    An external server that is not installed has failed, since the config asks for it. One that does not know a workload
    has not, nor has a server of ours that the machine cannot run. Invalid cells are a failure if the server has no
    other cells.
    """
    failures = []
    statuses: dict[str, list[tuple[Any, str]]] = {}
    for job in jobs:
        rule = job.rule.name
        if rule == "measure_cell":
            status = records.read_status(job.output[0])
            statuses.setdefault(str(job.wildcards.server), []).append((job, status))
        elif rule == "measure_latency":
            if records.read_status(job.output[0]) == "failed":
                reason = _reason_in_record(job.output[0])
                failures.append(Failure(job, str(job.wildcards.server), PRODUCTS[rule], reason))
        elif rule in PRODUCTS and (reason := _reason_of(rule, job.output[-1])):
            failures.append(Failure(job, str(job.wildcards.server), PRODUCTS[rule], reason))
    for server, its in statuses.items():
        failed, seen = {"failed"}, {status for _, status in its}
        if base_of(server) in external and seen <= {"unavailable", ""}:
            failed.add("unavailable")
        if not {"ok", ""} & seen:
            failed.add("invalid")
        failures += [
            Failure(job, server, CELL, _reason_in_record(job.output[0]))
            for job, status in its
            if status in failed
        ]
    return failures


def _reason_in_record(path: str) -> str:
    try:
        record = records.read(path, raw=False)
    except (OSError, ValueError) as error:
        return str(error)
    return str(
        record.get("reason") or f"no valid run: {', '.join(flags.invalidating(record['flags']))}"
    )


def _reason_of(rule: str, path: str) -> str:
    """Why a server failed in a job that is not a cell; empty if it did not fail, or has no output yet."""
    if rule in ("profile_server", "count_syscalls"):
        its = obstacles.read_outcome(path)
        return str(its.get("reason")) if its.get("status") == "failed" else ""
    return failed_build.reason_of(path)


def lines_of(failures: Iterable[Failure], jobs: Iterable[Any]) -> list[str]:
    """A line for each server: what failed, for cells how many, and the most frequent reason."""
    asked = Counter(
        (str(job.wildcards.server), PRODUCTS[job.rule.name])
        for job in jobs
        if job.rule.name in PRODUCTS
    )
    by_server: dict[str, list[Failure]] = {}
    for failure in failures:
        by_server.setdefault(failure.server, []).append(failure)
    lines = []
    for server, its in sorted(by_server.items()):
        counts = Counter(failure.product for failure in its)
        parts = [
            f"{counts[product]} of {asked[server, product]} {product}s"
            if product == CELL
            else product
            for product in dict.fromkeys(PRODUCTS.values())
            if product in counts
        ]
        (reason, _), *others = Counter(failure.reason for failure in its).most_common()
        more = f" (other reasons: {len(others)}, see results/logs)" if others else ""
        lines.append(f"{server} failed ({', '.join(parts)}): {reason}{more}")
    return lines
