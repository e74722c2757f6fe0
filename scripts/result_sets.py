"""A folder of results as data, which may be damaged, hostile or of another version: its records, and their facts.

Nothing in it is run, and no path is made of what it says. What is wrong is one line.
"""

import fnmatch
import hashlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cell_rows
import fields
import machine_facts
import records
from cell_rows import CELL_COLUMNS, SERVER_NAME
from files import DamagedFile

Record = dict[str, Any]

# How scripts/cells.py names them.
RECORD_NAME = re.compile(r"c([1-9][0-9]{0,6})_r([1-9][0-9]{0,6})\.json")
MACHINE_NAME = re.compile(r"[A-Za-z0-9]{1,40}")
POSITIVE = ("requests", "duration_s", "requests_per_second")
KEPT = [*CELL_COLUMNS, "facts", "asked", "binary_sha256", "reference_sha256"]
KEPT += ["server_cpus", "load_cpus", "schema_version"]
LONGEST_TEXT = 400
MOST_BYTES = 2**24
NOTHING = "none"

# Facts that are not compared, and why.
NOT_COMPARED = {
    "machine_id": "made of others",
    "machine_label": "made of others",
    "network_label": "made of others",
    "system.boot": "another after each start; what a restart does is drift",
    "limits.*": "of the shell; a run that meets one is invalid, or its server unavailable",
    "memory.memory_total_kib": "differs by some KiB from start to start; GiB are compared",
    "sysctls.fs.file-max": "made by the kernel of the memory that it found",
    "sysctls.kernel.threads-max": "made by the kernel of the memory that it found",
    "sysctls.kernel.perf_event_paranoid": "no part of a measured run",
    "sysctls.kernel.kptr_restrict": "no part of a measured run",
    "tools.perf": "no part of a measured run",
    "tools.python": "no part of a measured run",
    "tools.snakemake": "no part of a measured run",
    "source.reason": "says why there is no commit",
    "asked.network.*": "names hosts; the facts of the network are compared",
}
# Of what binaries are made of: where these differ and a binary does not, it is the same server.
OF_SOURCE = ("build.", "source.")


class NoComparison(DamagedFile):
    """A set, or a pair of them, that cannot be compared; the text is one line that says why, and what to do."""


def results_folder(path: str) -> Path:
    """The folder `results` that is meant by itself or by the folder that it is in. NoComparison if there is none."""
    for folder in (Path(path, "results"), Path(path)):
        if (folder / "cells").is_dir():
            return folder
    raise NoComparison(
        f"{path}: no folder with results/cells in it: name one in which a sweep was measured"
    )


def record_paths(results: Path) -> Iterator[tuple[str, int, int, Path]]:
    """Server, connections, repeat and path of each record, in order."""
    for folder in sorted((results / "cells").iterdir()):
        if not SERVER_NAME.fullmatch(folder.name) or not folder.is_dir():
            continue
        named = [(RECORD_NAME.fullmatch(path.name), path) for path in folder.iterdir()]
        found = [(int(name[1]), int(name[2]), path) for name, path in named if name]
        for connections, repeat, path in sorted(found):
            if path.is_file():  # opening a pipe would wait for ever
                yield folder.name, connections, repeat, path


def identity_of(path: str) -> str:
    """A hash of the names and contents of all records, wherever the folder is; empty if they cannot be read."""
    found = hashlib.sha256()
    try:
        for *cell, record in record_paths(results_folder(path)):
            found.update(f"{cell} {hashlib.sha256(record.read_bytes()).hexdigest()}\n".encode())
    except (NoComparison, OSError):
        return ""
    return found.hexdigest()


def _fault(record: Record) -> str:
    """What a record of any table's may be, and one that is compared may not; empty if nothing."""
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
        list(flat(facts))  # all of it can be read
        return facts["machine_label"] is not None and isinstance(facts, dict)
    except (LookupError, TypeError, AttributeError):
        return False


def read(results: Path) -> list[Record]:
    """All records, but only the keys in KEPT. NoComparison or OSError."""
    found = []
    for *cell, path in record_paths(results):
        try:
            if path.stat().st_size > MOST_BYTES:
                raise DamagedFile(f"{path} is too large for a record")
            record = cell_rows.check_record(records.read(str(path)), tuple(cell), str(path))  # type: ignore[arg-type]
            fault = f"{path} {its}" if (its := _fault(record)) else ""
        except RecursionError:
            fault = f"{path} is nested too deeply"
        except DamagedFile as error:
            fault = error.fault  # the advice is for records of the sweep that is measured here
        except (ValueError, TypeError) as error:
            fault = str(error)
        if fault:
            raise NoComparison(
                f"{fault}: delete it to compare without it, or measure that set again"
            )
        found.append({name: record[name] for name in KEPT if name in record})
    if not found:
        raise NoComparison(f"{results}: no records: name a folder in which a sweep was measured")
    return found


# --- Facts ---


def machines_of(facts: dict[str, Any]) -> list[Any]:
    """The hardware of the server's machine, and of the load's if that is another."""
    load = facts.get("load")
    return [machine_facts.hardware_of(facts), load and machine_facts.hardware_of(load)]


def is_same_machine(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two records' facts are of the same hardware; an installation that is not known is no difference."""
    return all(
        _is_same_host(*pair) for pair in zip(machines_of(one), machines_of(other), strict=True)
    )


def _is_same_host(one: dict[str, Any] | None, other: dict[str, Any] | None) -> bool:
    if one is None or other is None:
        return one is other
    installations = {str(host.get("installation")) for host in (one, other)}
    known = installations - {str(name) for name in machine_facts.UNREAD}
    return len(known) < 2 and all(one[name] == other[name] for name in ("cpu", "memory_gib"))


def printable(value: object) -> str:
    """As text that a terminal or a picture cannot take for anything else."""
    if isinstance(value, bool):
        value = str(value).lower()
    text = NOTHING if value is None else str(value)
    return "".join(char if char.isprintable() else "?" for char in text)[:LONGEST_TEXT]


def flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Nested facts as names with dots and texts; a list of simple values is one text."""
    if isinstance(value, dict) and value:
        for key, its_value in value.items():
            yield from flat(its_value, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        yield name, " ".join(map(printable, value))
    else:
        yield name, printable(value)


def _is_compared(name: str) -> bool:
    name = name.removeprefix("load.")
    return not any(fnmatch.fnmatchcase(name, pattern) for pattern in NOT_COMPARED)


def facts_of(record: Record) -> Iterator[tuple[str, str]]:
    """What is known of a record's machines, tools and source, and what was asked of it."""
    facts = record["facts"]
    for name, host in (("", facts), ("load.", facts.get("load"))):
        if host:
            gib = machine_facts.hardware_of(host)["memory_gib"]
            yield f"{name}memory.memory_total_gib", printable(gib)
    yield from flat(facts)
    yield from flat(record.get("asked", {}), "asked")
    for side in ("server_cpus", "load_cpus"):
        if side in record:  # an unavailable server had none
            yield from flat(record[side], side)
    if record.get("reference_sha256"):
        yield "reference", printable(str(record["reference_sha256"])[:12])
    if record.get("workers") is not None:
        yield f"workers.{record['server']}", printable(record["workers"])


def all_facts(found: Iterable[Record]) -> dict[str, set[str]]:
    """The values of each fact that is compared, over a set's records."""
    values: dict[str, set[str]] = {}
    for record in found:
        for name, text in facts_of(record):
            values.setdefault(printable(name), set()).add(text)
    return {name: texts for name, texts in values.items() if _is_compared(name)}


def one_of_each_run(found: Iterable[Record]) -> list[Record]:
    """A record of each server and status in each run of the workflow: facts are read once a run."""
    by_run = {(it.get("sweep"), it["server"], it["status"]): it for it in found}
    return list(by_run.values())


def changes(baseline: Iterable[Record], current: Iterable[Record]) -> list[dict[str, str]]:
    """What differs: `fact`, its values in both sets, and its `kind`: source, or environment (machine, tools, asked)."""
    old, new = (all_facts(one_of_each_run(found)) for found in (baseline, current))
    rows = []
    for name in sorted(old.keys() | new.keys()):
        both = old.get(name, {NOTHING}), new.get(name, {NOTHING})
        if name.startswith("workers.") and {NOTHING} in both:
            continue  # a server that has no run in one of the sets
        if both[0] != both[1]:
            values = (" or ".join(sorted(its)) for its in both)
            kind = "source" if name.startswith(OF_SOURCE) else "environment"
            rows.append(
                {
                    "kind": kind,
                    "fact": name,
                    **dict(zip(("baseline", "current"), values, strict=True)),
                }
            )
    return rows


def shortened(old: str, new: str, most: int = 60) -> tuple[str, str]:
    """Both texts, cut to what differs if they are long."""
    if max(len(old), len(new)) <= most:
        return old, new
    same = sum(
        1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False))
    )
    start = max(old.rfind(" ", 0, same) + 1, 0)

    def cut(text: str) -> str:
        text = ("… " if start else "") + text[start:]
        return text if len(text) <= most else text[: most - 1] + "…"

    return cut(old), cut(new)


def is_same_folder(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)
