"""The grid of an open loop, declared before anything is measured: which workloads, at which rates, how often.

A rate is a share of what the slowest of the servers can do, or one that the config names. All servers get the same.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from common.files import DamagedFile, read_json
from sweep import workloads
from sweep.cells import points_of
from sweep.workloads import Workload

USUAL_CONNECTIONS = 50
RECORD = "results/latency/{workload}/{server}/{rate}_r{repeat}.json"
RATES_PATH = "results/latency/rates.json"
SHARE, ABSOLUTE = "s", "q"  # s50: half of the capacity; q5000: 5,000 requests/s


class RatedCell(NamedTuple):
    """One measurement at a rate; `rate` as in the path of its record."""

    server: str
    workload: str
    rate: str
    repeat: int


def rate_names(latency: Mapping[str, Any]) -> list[str]:
    """The rates of the config as paths have them, ascending."""
    if latency["rates"]:
        return [f"{ABSOLUTE}{rate}" for rate in sorted(latency["rates"])]
    return [f"{SHARE}{100 * share:g}" for share in sorted(latency["shares"])]


def share_of(name: str) -> float | None:
    """The share of the capacity that a rate's name says; None for an absolute rate."""
    return float(name[1:]) / 100 if name.startswith(SHARE) else None


def rate_of(name: str, capacity_per_second: float | None) -> float:
    """Requests per second of a rate's name."""
    share = share_of(name)
    if share is None:
        return float(name[1:])
    assert capacity_per_second is not None
    return share * capacity_per_second


def can_be_rated(workload: Workload) -> bool:
    """Whether an open loop can ask for it: over connections that stay, one request at a time on each."""
    return not workload.connection_per_request and workload.pipelined == 1


def workloads_of(config: Mapping[str, Any]) -> list[str]:
    """Those that the config names, or the first that an open loop can ask for; empty if there is none."""
    named = config["latency"]["workloads"]
    if named:
        return list(named)
    able = [name for name, its in workloads.of_config(config).items() if can_be_rated(its)]
    return able[:1]


def connections_of(config: Mapping[str, Any], workload: str) -> int:
    """As the config says, or the workload's number that is nearest to 50; the smaller of two."""
    if config["latency"]["connections"]:
        return int(config["latency"]["connections"])
    counts, _ = points_of(config)[workload]
    return min(counts, key=lambda count: (abs(count - USUAL_CONNECTIONS), count))


def cells_of(config: Mapping[str, Any]) -> list[RatedCell]:
    latency = config["latency"]
    return [
        RatedCell(server, workload, rate, repeat)
        for workload in workloads_of(config)
        for server in config["servers"]
        for rate in rate_names(latency)
        for repeat in range(1, latency["repeats"] + 1)
    ]


def order_of(config: Mapping[str, Any]) -> dict[RatedCell, int]:
    """The position of each, from 0: repeat by repeat, each in a random order from the seed."""
    import random  # noqa: PLC0415  a cell's script needs only the rest of this module

    order: list[RatedCell] = []
    for repeat in range(1, config["latency"]["repeats"] + 1):
        block = sorted(cell for cell in cells_of(config) if cell.repeat == repeat)
        random.Random(f"latency/{config['seed']}/{repeat}").shuffle(block)
        order += block
    return {cell: position for position, cell in enumerate(order)}


def positions_of(config: Mapping[str, Any]) -> dict[str, int]:
    """Path of each record → its position in that order; empty for a config without this grid."""
    if "latency" not in config:
        return {}
    return {record_path(cell): position for cell, position in order_of(config).items()}


def record_path(cell: RatedCell) -> str:
    return RECORD.format(**cell._asdict())


def is_planned(path: str, grid: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the file has a capacity for each workload of the grid, at its connections. Of which servers is not asked:
    to add or remove one must not move the rates of the others."""
    try:
        planned = read_json(path, list(grid))
        return all(planned[name]["connections"] == its["connections"] for name, its in grid.items())
    except (OSError, DamagedFile, KeyError, TypeError):
        return False
