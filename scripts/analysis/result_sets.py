"""Read the records of a results folder and their facts. The folder may be damaged, hostile or of another version.

Nothing in it is run, and none of its texts becomes part of a path. Each fault is one line.
"""

import fnmatch
import hashlib
import itertools
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from common.files import DamagedFile
from hosts import identity, reading
from sweep import fields, records
from sweep.cells import Cell
from sweep.rows import CELL_COLUMNS, SERVER_NAME, check_record
from sweep.workloads import KEEPALIVE

Record = dict[str, Any]

# As cells.record_path() names them.
RECORD_NAME = re.compile(r"c([1-9][0-9]{0,6})_r([1-9][0-9]{0,6})\.json")
WORKLOAD_NAME = re.compile("[a-z][a-z0-9_]{0,39}")
MACHINE_NAME = re.compile(r"[A-Za-z0-9]{1,40}")
POSITIVE = ("requests", "duration_s", "requests_per_second")
KEPT = [*CELL_COLUMNS, "facts", "asked", "binary_sha256", "reference_sha256"]
KEPT += ["server_cpus", "load_cpus", "schema_version"]
LONGEST_TEXT = 400
MOST_BYTES = 2**24
NOTHING = "none"

# Facts that are not compared, and why.
NOT_COMPARED = {
    "machine_id": "derived from other facts",
    "machine_label": "derived from other facts",
    "network_label": "derived from other facts",
    "system.boot": "changes with each start; the effect of a restart is drift",
    "limits.*": "belong to the shell; a run that hits one is invalid, or its server unavailable",
    "memory.memory_total_kib": "differs by some KiB from start to start; GiB are compared",
    "sysctls.fs.file-max": "the kernel derives it from the memory",
    "sysctls.kernel.threads-max": "the kernel derives it from the memory",
    "sysctls.kernel.perf_event_paranoid": "does not affect a measured run",
    "sysctls.kernel.kptr_restrict": "does not affect a measured run",
    "tools.perf": "does not affect a measured run",
    "tools.python": "does not affect a measured run",
    "tools.snakemake": "does not affect a measured run",
    "source.reason": "says why there is no commit",
    "asked.network.*": "names hosts; the facts of the network are compared",
}
# Facts about how binaries are built: if these differ and a binary does not, it is the same server.
OF_SOURCE = ("build.", "source.")


class NoComparison(DamagedFile):
    """A set, or a pair of sets, cannot be compared."""


def results_folder(path: str) -> Path:
    """The folder `results`, given by its own path or by its parent's. NoComparison if there is none."""
    for folder in (Path(path, "results"), Path(path)):
        if (folder / "cells").is_dir():
            return folder
    raise NoComparison(
        f"{path}: no folder with results/cells in it", "name one in which a sweep was measured"
    )


def record_paths(results: Path) -> Iterator[tuple[Cell, Path]]:
    """Cell and path of each record, in order; of earlier versions, which knew one workload, too."""
    for folder in [*(results / "cells").glob("*/"), *(results / "cells").glob("*/*/")]:
        workload = KEEPALIVE if folder.parent.name == "cells" else folder.parent.name
        if not SERVER_NAME.fullmatch(folder.name) or not WORKLOAD_NAME.fullmatch(workload):
            continue
        named = [(RECORD_NAME.fullmatch(path.name), path) for path in folder.iterdir()]
        cells = [
            (Cell(folder.name, int(name[1]), int(name[2]), workload), path)
            for name, path in named
            if name
        ]
        for cell, path in sorted(cells):
            if path.is_file():  # opening a pipe would wait for ever
                yield cell, path


def identity_of(path: str) -> str:
    """A hash of the names and contents of all records, independent of the folder; empty if they cannot be read."""
    digest = hashlib.sha256()
    try:
        for cell, record in sorted(record_paths(results_folder(path))):
            digest.update(f"{[*cell]} {hashlib.sha256(record.read_bytes()).hexdigest()}\n".encode())
    except (NoComparison, OSError):
        return ""
    return digest.hexdigest()


def _fault(record: Record) -> str:
    """Why this record cannot be compared, though it may be in a table; empty if it can."""
    texts = [record.get(name) for name in ("binary_sha256", "reference_sha256", "started", "sweep")]
    is_positive = all((record.get(name) or 0) > 0 for name in POSITIVE)
    cpu_ns = record.get("server_cpu_ns_per_request")
    is_known = cpu_ns is not None or "cpu_time_unknown" in record["flags"]
    is_positive &= is_known and (cpu_ns is None or cpu_ns > 0)
    checks = {
        "names no machine": MACHINE_NAME.fullmatch(str(record["machine"])),
        "has no valid status": record["status"] in fields.STATUSES,
        "has no valid checksum, started or sweep": all(
            isinstance(text, str | None) for text in texts
        ),
        "does not say what was asked": isinstance(record.get("asked", {}), dict),
        "lacks facts of its machine": _has_facts(record.get("facts")),
        "lacks figures": record["status"] != "ok" or is_positive,
    }
    return next((fault for fault, is_right in checks.items() if not is_right), "")


def _has_facts(facts: Any) -> bool:
    try:
        machines_of(facts)
        list(flatten(facts))  # all of it can be read
        return facts["machine_label"] is not None and isinstance(facts, dict)
    except (LookupError, TypeError, AttributeError):
        return False


def read(results: Path) -> list[Record]:
    """All records, with the keys in KEPT alone. Raises NoComparison or OSError."""
    read_records = []
    for cell, path in record_paths(results):
        try:
            if path.stat().st_size > MOST_BYTES:
                raise DamagedFile(f"{path} is too large for a record")
            record = check_record(records.read(str(path)), cell, str(path))
            fault = f"{path} {its}" if (its := _fault(record)) else ""
        except RecursionError:
            fault = f"{path} is nested too deeply"
        except DamagedFile as error:
            fault = error.fault  # the advice is for records of the sweep that is measured here
        except (ValueError, TypeError) as error:
            fault = str(error)
        if fault:
            raise NoComparison(fault, "delete it to compare without it, or measure that set again")
        read_records.append({name: record[name] for name in KEPT if name in record})
    if not read_records:
        raise NoComparison(f"{results}: no records", "name a folder in which a sweep was measured")
    return read_records


# --- Facts ---


def machines_of(facts: dict[str, Any]) -> list[Any]:
    """The hardware of the server's machine, and of the load's machine if that is another."""
    load = facts.get("load")
    return [identity.hardware_of(facts), load and identity.hardware_of(load)]


def is_same_machine(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two records come from the same hardware; an unknown installation does not count as a difference."""
    return all(
        _is_same_host(*pair) for pair in zip(machines_of(one), machines_of(other), strict=True)
    )


def _is_same_host(one: dict[str, Any] | None, other: dict[str, Any] | None) -> bool:
    if one is None or other is None:
        return one is other
    installations = {str(host.get("installation")) for host in (one, other)}
    known = installations - {str(name) for name in reading.UNREAD}
    return len(known) < 2 and all(one[name] == other[name] for name in ("cpu", "memory_gib"))


def format_value(value: object) -> str:
    """A value as short text without control characters."""
    if isinstance(value, bool):
        value = str(value).lower()
    text = NOTHING if value is None else str(value)
    return "".join(char if char.isprintable() else "?" for char in text)[:LONGEST_TEXT]


def flatten(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Nested facts → pairs of dotted name and text; a list of simple values becomes one text."""
    if isinstance(value, dict) and value:
        for key, its_value in value.items():
            yield from flatten(its_value, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        yield name, " ".join(map(format_value, value))
    else:
        yield name, format_value(value)


def _is_compared(name: str) -> bool:
    name = name.removeprefix("load.")
    return not any(fnmatch.fnmatchcase(name, pattern) for pattern in NOT_COMPARED)


def facts_of(record: Record) -> Iterator[tuple[str, str]]:
    """The facts of a record's machines, tools and source, and the settings of its cell."""
    facts = record["facts"]
    for name, host in (("", facts), ("load.", facts.get("load"))):
        if host:
            gib = identity.hardware_of(host)["memory_gib"]
            yield f"{name}memory.memory_total_gib", format_value(gib)
    yield from flatten(facts)
    yield from flatten(record.get("asked", {}), "asked")
    for side in ("server_cpus", "load_cpus"):
        if side in record:  # an unavailable server had none
            yield from flatten(record[side], side)
    if record.get("reference_sha256"):
        yield "reference", format_value(str(record["reference_sha256"])[:12])
    if record.get("workers") is not None:
        yield f"workers.{record['server']}", format_value(record["workers"])


def all_facts(set_records: Iterable[Record]) -> dict[str, set[str]]:
    """The values of each compared fact over a set's records."""
    values = defaultdict(set)
    for record in set_records:
        for name, text in facts_of(record):
            values[format_value(name)].add(text)
    return {name: texts for name, texts in values.items() if _is_compared(name)}


def one_of_each_run(set_records: Iterable[Record]) -> list[Record]:
    """A record of each server and status in each run of the workflow, since facts are read once a run."""
    by_run = {(it.get("sweep"), it["server"], it["status"]): it for it in set_records}
    return list(by_run.values())


def changes(baseline: Iterable[Record], current: Iterable[Record]) -> list[dict[str, str]]:
    """The facts that differ: `fact`, its values in both sets, and its `kind`: source, or environment (machine, tools,
    settings)."""
    old, new = (all_facts(one_of_each_run(its)) for its in (baseline, current))
    rows = []
    for name in sorted(old.keys() | new.keys()):
        both = old.get(name, {NOTHING}), new.get(name, {NOTHING})
        if name.startswith("workers.") and {NOTHING} in both:
            continue  # one of the sets has no run of this server
        if both[0] != both[1]:
            before, after = (" or ".join(sorted(its)) for its in both)
            kind = "source" if name.startswith(OF_SOURCE) else "environment"
            rows.append({"kind": kind, "fact": name, "baseline": before, "current": after})
    return rows


def shorten(old: str, new: str, most: int = 60) -> tuple[str, str]:
    """Cut both texts to the part that differs, if they are long."""
    if max(len(old), len(new)) <= most:
        return old, new
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False))
    start = old.rfind(" ", 0, len(list(same))) + 1

    def cut(text: str) -> str:
        text = ("… " if start else "") + text[start:]
        return text if len(text) <= most else text[: most - 1] + "…"

    return cut(old), cut(new)


def is_same_folder(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)
