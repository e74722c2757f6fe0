"""What the record of every kind of cell begins with, and what is in one whose server failed or cannot run."""

import hashlib
import os
from collections.abc import Callable
from typing import Any

from common.processes import one_line
from instruments import server_process, wrk
from measuring import run_facts, runs
from sweep import records


def sha256_of(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _head(sides: runs.Sides[Any, Any], arguments: runs.CellArguments) -> dict[str, Any]:
    facts = run_facts.of_sweep(sides)
    sweep, config = runs.read_sweep()
    return {
        "schema_version": records.SCHEMA_VERSION,
        "workload": arguments.workload_name,
        "server": arguments.server,
        "connections": arguments.connections,
        "repeat": arguments.repeat,
        "status": None,  # near the beginning, where records.read_status looks for it
        "sweep": sweep,
        "position": None,
        "seed": config.get("seed"),
        "asked": {
            "duration_s": arguments.duration_s,
            "warmup_s": arguments.warmup_s,
            "paired_s": arguments.paired_s,
            "host": arguments.host,
            "cpus": arguments.cpus,
            "network": arguments.network._asdict(),
            "workload": arguments.workload.changes,
        },
        "clocks_ahead_s": sides.clocks_ahead_s,
        "machine": facts["machine_id"],
        "facts": facts,
        "binary_sha256": sha256_of(arguments.binary),
        "reference_sha256": sha256_of(arguments.reference) if arguments.reference else None,
    }


def make(
    sides: runs.Sides[Any, Any],
    arguments: runs.CellArguments,
    positions: Callable[[dict[str, Any]], dict[str, int]],
    measure: Callable[[], dict[str, Any]],
) -> dict[str, Any]:
    """The record of a cell: its head, and what `measure` returns, or why there is nothing.

    positions: config of the sweep → path of each record → its place in the order.
    """
    head = _head(sides, arguments)
    if config := runs.read_sweep()[1]:
        head["position"] = positions(config).get(arguments.output)
    try:
        return {**head, **measure()}
    except (server_process.RunError, wrk.LoadError) as error:
        return {**head, "status": "failed", "reason": one_line(str(error)), "flags": []}
    except server_process.Unavailable as reason:
        again = f"; when that has changed, delete {os.path.dirname(arguments.output)}"
        if server_process.is_external(arguments.binary):
            again = ""  # its launcher names what is installed, so a change makes the cell stale
        return {**head, "status": "unavailable", "reason": f"{reason}{again}", "flags": []}
