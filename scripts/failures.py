"""Servers that failed in what a run of the workflow asked of them: what is tried again, and told at the end."""

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

import count_syscalls
import failed_build
import files
import flags
import records
from cells import base_of

CELL = "cell"
# Rule → what it asks of a server, as a noun; in the order in which they are told.
ASKED = {
    "measure_cell": CELL,
    "profile_server": "profile",
    "count_syscalls": "count of system calls",
    "compile_server": "binary",
    "prepare_external": "launcher",
}


class Failure(NamedTuple):
    job: Any  # of Snakemake
    server: str
    what: str  # of ASKED
    reason: str


def find(jobs: Iterable[Any], external: Collection[str]) -> list[Failure]:
    """What servers could not do of these jobs of Snakemake, as far as their outputs are there.

    An external server that is not installed fails: it was asked for. What the machine refuses to a server of ours is no
    failure. That cells are invalid is one where the server has no other.
    """
    found = []
    statuses: dict[str, list[tuple[Any, str]]] = {}
    for job in jobs:
        rule = job.rule.name
        if rule == "measure_cell":
            status = records.read_status(job.output[0])
            statuses.setdefault(str(job.wildcards.server), []).append((job, status))
        elif rule in ASKED and (reason := _reason_of(rule, job.output[-1])):
            found.append(Failure(job, str(job.wildcards.server), ASKED[rule], reason))
    for server, its in statuses.items():
        failed = {"failed"}
        if base_of(server) in external:
            failed.add("unavailable")
        if not {"ok", ""} & {status for _, status in its}:
            failed.add("invalid")
        found += [
            Failure(job, server, CELL, _reason_in_record(job.output[0]))
            for job, status in its
            if status in failed
        ]
    return found


def _reason_in_record(path: str) -> str:
    try:
        record = records.read(path, raw=False)
    except (OSError, ValueError) as error:
        return str(error)
    return str(
        record.get("reason") or f"no valid run: {', '.join(flags.invalidating(record['flags']))}"
    )


def _reason_of(rule: str, path: str) -> str:
    """Why a server failed in what is no cell; empty if it did not, or if nothing was made yet."""
    if rule == "profile_server":
        return _reason_in_facts(path)
    if rule == "count_syscalls":
        row = count_syscalls.first_row(path)
        return row.get("reason", "") if row.get("status") == "failed" else ""
    return failed_build.reason_of(path)


def _reason_in_facts(path: str) -> str:
    try:
        facts = files.read_json(path)
    except (OSError, ValueError):
        return ""
    return str(facts.get("reason")) if facts.get("status") == "failed" else ""


def lines_of(failures: Iterable[Failure], jobs: Iterable[Any]) -> list[str]:
    """A line for each server: in how many of the things asked of it it failed, and its most frequent reason."""
    asked = Counter(
        (str(job.wildcards.server), ASKED[job.rule.name]) for job in jobs if job.rule.name in ASKED
    )
    by_server: dict[str, list[Failure]] = {}
    for failure in failures:
        by_server.setdefault(failure.server, []).append(failure)
    lines = []
    for server, its in sorted(by_server.items()):
        counts = Counter(failure.what for failure in its)
        parts = [
            f"{counts[what]} of {asked[server, what]} {what}s" if what == CELL else what
            for what in dict.fromkeys(ASKED.values())
            if what in counts
        ]
        (reason, _), *others = Counter(failure.reason for failure in its).most_common()
        more = f" (other reasons: {len(others)}, see results/logs)" if others else ""
        lines.append(f"{server} failed ({', '.join(parts)}): {reason}{more}")
    return lines
