"""How a record becomes a row of results/cells.csv (docs/results.md).

Without pandas, whose import takes as long as reading 5,000 records.
"""

import hashlib
import re
from typing import Any

from common.files import DamagedFile
from sweep import fields
from sweep.cells import Cell
from sweep.workloads import CPU_RATIO, DECIDERS, KEEPALIVE

CELL_COLUMNS = [field.name for field in fields.CELLS]
REQUIRED = {field.name for field in fields.CELLS if field.records == fields.REQUIRED}

SERVER_NAME = re.compile(
    "[a-z][a-z0-9_-]*(@[A-Za-z0-9][A-Za-z0-9._~^-]*)?"
)  # as in config.schema.yaml
LONGEST_TEXT = 4000
LARGEST_NUMBER = 1e18  # more than any figure, less than what 64 bits hold

LOOPBACK = "over loopback"
DELETE_IT = "delete it to measure its cell again"


def _network_of(record: dict[str, Any]) -> str:
    """How load reached the server, in words; old records, from before there was a choice, do not say."""
    return str(record.get("facts", {}).get("network_label", LOOPBACK))


def _workload_of(record: dict[str, Any]) -> dict[str, Any]:
    """The parameters of its workload; old records have none."""
    asked = record.get("asked")
    its = asked.get("workload") if isinstance(asked, dict) else None
    return its if isinstance(its, dict) else {}


def _handler_ceiling(record: dict[str, Any]) -> float | None:
    """Requests per second if each of the server's threads did nothing but wait; None if no handler waits.

    Of a server with so many threads that nobody counts them, each connection may have one.
    """
    its, connections = _workload_of(record), record["connections"]
    wait_us, every = its.get("handler_block_us"), its.get("handler_every", 1)
    threads = record.get("server_threads") or connections
    known: tuple[Any, ...] = (wait_us, every, threads)
    if not all(_is_number(value) and value > 0 for value in known):
        return None
    return float(min(threads, connections) * every * 1e6 / wait_us)


def _hash_yardstick(record: dict[str, Any]) -> str:
    """A short hash of what two cells must share for their ratios to compare.

    This is the kernel, wrk, the compiler, the reference, and the schema version, which changes with the method.
    """
    facts = record.get("facts") or {}
    kernel, tools, build = (
        its if isinstance(its := facts.get(name), dict) else {}
        for name in ("kernel", "tools", "build")
    )
    shared = [kernel.get("release"), kernel.get("version"), tools.get("wrk")]
    shared += [build.get("compiler"), build.get("compiler_version")]
    text = repr([*shared, record.get("reference_sha256"), record.get("schema_version")])
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]


def is_text(value: Any) -> bool:
    """Whether a value is harmless on a terminal and in a picture."""
    return isinstance(value, str) and len(value) <= LONGEST_TEXT and value.isprintable()


def _is_number(value: Any) -> bool:
    # NaN is none: it fails the comparison.
    return type(value) in (int, float) and abs(value) < LARGEST_NUMBER


def _is_sensible(kind: str, value: Any) -> bool:
    """Whether a record's field of this kind may hold a value; null stands for what a run does not know."""
    if kind == fields.FLAGS:
        return isinstance(value, list) and all(map(is_text, value))
    if value is None:
        return True
    if kind in (fields.NAME, fields.TEXT):
        return is_text(value)
    return _is_number(value) and (kind == fields.NUMBER or value % 1 == 0)


# Means of these are geometric.
POSITIVE = {"cpu_ratio", "throughput_ratio", "latency_p50_us", "latency_p99_us"}


def check_record(record: dict[str, Any], cell: Cell, path: str) -> dict[str, Any]:
    """Return a record, which may come from anywhere, if a run of this cell can have given it.

    Raises DamagedFile.
    """
    if lacking := REQUIRED - record.keys():
        raise DamagedFile(f"{path} lacks {', '.join(sorted(lacking))}", DELETE_IT)
    if cell != tuple(record.get(name, KEEPALIVE) for name in Cell._fields):
        raise DamagedFile(f"{path} is of another cell", DELETE_IT)
    for field in fields.CELLS:
        value = record.get(field.name)
        if field.records != fields.DERIVED and not _is_sensible(field.kind, value):
            raise DamagedFile(f"{path}: {field.name} is {repr(value)[:80]}", DELETE_IT)
    for name in POSITIVE:
        if record.get(name) is not None and record[name] <= 0:
            raise DamagedFile(f"{path}: {name} is {record[name]}", DELETE_IT)
    if _workload_of(record).get("decided_by", CPU_RATIO) not in DECIDERS:
        raise DamagedFile(f"{path}: its workload is not one of ours", DELETE_IT)
    if record["status"] not in fields.STATUSES:
        raise DamagedFile(f"{path}: status is {repr(record['status'])[:80]}", DELETE_IT)
    if not isinstance(record.get("facts", {}), dict) or not is_text(_network_of(record)):
        raise DamagedFile(f"{path}: its facts are not those of a record", DELETE_IT)
    return record


def make_row(record: dict[str, Any]) -> dict[str, Any]:
    """Column → value; None for what the record lacks. Semicolons join flags."""
    row = {**record, "flags": ";".join(record["flags"]), "network": _network_of(record)}
    row["yardstick"] = _hash_yardstick(record)
    row["reason"] = record.get("reason") or ""
    row["workload"] = record.get("workload", KEEPALIVE)
    row["decided_by"] = _workload_of(record).get("decided_by", CPU_RATIO)
    row["handler_ceiling_per_second"] = _handler_ceiling(record)
    return {name: row.get(name) for name in CELL_COLUMNS}


def format_value(value: Any) -> Any:
    """A value as tables have it: with more digits than any figure needs."""
    return format(value, ".9g") if isinstance(value, float) else value
