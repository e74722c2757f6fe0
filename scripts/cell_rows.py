"""How a record becomes a row of results/cells.csv (docs/results.md).

Without pandas, whose import takes as long as reading 5,000 records.
"""

import hashlib
import re
from typing import Any

from files import DamagedFile

CELL_COLUMNS = [
    "server",
    "connections",
    "repeat",
    "status",
    "requests",
    "duration_s",
    "requests_per_second",
    "latency_mean_us",
    "latency_p50_us",
    "latency_p90_us",
    "latency_p99_us",
    "latency_max_us",
    "errors",
    "server_cpu_ns_per_request",
    "client_cpu_share",
    "unserved_connections",
    "fairness_jain",
    "flags",
    "server_cpu_share",
    "established_connections",
    "server_memory_peak_kib",
    "latency_synthetic_share",
    "workers",
    "worker_fairness_jain",
    "started",
    "machine",
    "sweep",
    "position",
    "seed",
    "attempts",
    "server_busiest_thread_share",
    "littles_law_ratio",
    "kernel_connections",
    "kernel_responses",
    "server_accepted",
    "server_requests",
    "steal_share",
    "foreign_cpu_share",
    "cpu_pressure_share",
    "client_wait_share",
    "server_wait_share",
    "cpu_ratio",
    "throughput_ratio",
    "reference_requests_per_second",
    "yardstick",
    "network",
    "reason",
]
COUNTS = ["requests", "errors", "unserved_connections", "established_connections"]
COUNTS += ["server_memory_peak_kib", "workers", "position", "seed", "attempts"]
COUNTS += ["kernel_connections", "kernel_responses", "server_accepted", "server_requests"]
STATUSES = ("ok", "invalid", "failed", "unavailable")

# What columns of tables hold, and the fields of records that become them; all others hold numbers.
NAMES = {"server", "other"}
TEXTS = {"machine", "status", "flags", "started", "sweep", "network", "yardstick"}
TEXTS |= {"limiter", "metric", "verdict", "reason", "kind", "name"}
TEXTS |= {"binary", "machine_baseline", "fact", "baseline", "current"}
SERVER_NAME = re.compile(
    "[a-z][a-z0-9_-]*(@[A-Za-z0-9][A-Za-z0-9._~^-]*)?"
)  # as in config.schema.yaml
LONGEST_TEXT = 4000
LARGEST_NUMBER = 1e18  # more than any figure, less than what 64 bits hold

LOOPBACK = "over loopback"
DELETE_IT = "delete it, it will be measured again"


def _network_of(record: dict[str, Any]) -> str:
    """In words; records of before there was a choice do not say."""
    return str(record.get("facts", {}).get("network_label", LOOPBACK))


def yardstick_of(record: dict[str, Any]) -> str:
    """What two cells must share for their ratios to compare, as a short name: kernel, wrk, compiler, reference, and how
    it was measured, for which the version of the schema stands."""
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
    """Harmless on a terminal, and in a picture."""
    return isinstance(value, str) and len(value) <= LONGEST_TEXT and value.isprintable()


def _is_number(value: Any) -> bool:
    # Not a NaN, either.
    return type(value) in (int, float) and abs(value) < LARGEST_NUMBER


def _lacks_sense(name: str, value: Any) -> bool:
    """Of a record's field, which may be null where a run has no such figure."""
    if name == "flags":
        return not (isinstance(value, list) and all(map(is_text, value)))
    if name in TEXTS:
        return not (value is None or is_text(value))
    return value is not None and not (_is_number(value) and (name not in COUNTS or value % 1 == 0))


def checked(record: dict[str, Any], cell: tuple[str, int, int], path: str) -> dict[str, Any]:
    """A record, which may come from anywhere. Raises DamagedFile if it is not of this cell, or holds what no run can
    have given."""
    if (record["server"], record["connections"], record["repeat"]) != cell:
        raise DamagedFile(f"{path} is of another cell", DELETE_IT)
    for name in [name for name in CELL_COLUMNS[3:] if name not in ("network", "yardstick")]:
        if _lacks_sense(name, record.get(name)):
            value = repr(record[name])[:80]
            raise DamagedFile(f"{path}: {name} is {value}", DELETE_IT)
    if not isinstance(record.get("facts", {}), dict) or not is_text(_network_of(record)):
        raise DamagedFile(f"{path}: facts are none of ours", DELETE_IT)
    return record


def row_of(record: dict[str, Any]) -> dict[str, Any]:
    """Column → value; what a record does not have is None, flags are joined with semicolons."""
    row = {**record, "flags": ";".join(record["flags"]), "network": _network_of(record)}
    row["yardstick"] = yardstick_of(record)
    row["reason"] = record.get("reason") or ""
    return {name: row.get(name) for name in CELL_COLUMNS}


def text_of(value: Any) -> Any:
    """As all tables have it: to a precision far beyond what any figure has."""
    return format(value, ".9g") if isinstance(value, float) else value
