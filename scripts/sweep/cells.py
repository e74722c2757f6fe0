"""What identifies a cell, where its record is, and the order of cells. No other module decides this."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sweep import workloads
from sweep.workloads import KEEPALIVE, words_before

# The control is a server measured again under this name: a difference is noise, or comes from the layout of its code.
CONTROL_SUFFIX = "_control"
# servers/reference.c: each cell compares its server with it in the paired phase. It is not a server of the sweep.
REFERENCE = "reference"
# load/load.c: the load generator of the open loop, compiled as a server is.
LOAD = "load"


class Cell(NamedTuple):
    """One measurement: a server under a number of connections, for the repeat-th time (from 1), in a workload."""

    server: str
    connections: int
    repeat: int
    workload: str = KEEPALIVE

    def __str__(self) -> str:
        load = f"{words_before(self.workload)}{self.connections} connections"
        return f"{self.server}, {load}, repeat {self.repeat}"


# The current run: when it began (`started`), and its whole config (`config`).
SWEEP_PATH = "results/sweep.json"
RECORD = "results/cells/{workload}/{server}/c{connections}_r{repeat}.json"


def record_path(cell: Cell) -> str:
    return RECORD.format(**cell._asdict())


def is_control(server: str) -> bool:
    return server.endswith(CONTROL_SUFFIX)


def base_of(server: str) -> str:
    """The server that is measured under this name: the control's server, or the server itself."""
    return server.removesuffix(CONTROL_SUFFIX)


def file_of(server: str) -> str:
    """The NAME of servers/NAME.c, from which the server is built, whatever its revision."""
    return base_of(server).partition("@")[0]


def measured_servers(config: Mapping[str, Any]) -> list[str]:
    """The servers to compare, and the control, if its server is one of them."""
    servers = list(config["servers"])
    if config["control"] in servers:
        servers.append(config["control"] + CONTROL_SUFFIX)
    return servers


POINTS_HELP = (
    'the sweep, as JSON: {"WORKLOAD": [[NUMBERS OF CONNECTIONS], REPEATS], ...}'  # as points_of()
)


def points_of(config: Mapping[str, Any], server: str = "") -> dict[str, tuple[list[int], int]]:
    """Workload → the numbers of connections at which it is measured, and how often.

    server: a control is measured in the first workload alone.
    """
    names = list(workloads.of_config(config))
    return {
        name: (
            sorted(workloads.setting_of(config, name, "connections")),
            workloads.setting_of(config, name, "repeats"),
        )
        for name in (names[:1] if is_control(server) else names)
    }


def cells_of(
    config: Mapping[str, Any], server: str | None = None, repeat: int | None = None
) -> list[Cell]:
    """The cells of a sweep, or only those of one server or one repeat."""
    return [
        Cell(name, count, number, workload)
        for name in ([server] if server else measured_servers(config))
        for workload, (connections, repeats) in points_of(config, name).items()
        for number in range(1, repeats + 1)
        if repeat in (None, number)
        for count in connections
    ]


def order_of(config: Mapping[str, Any]) -> dict[Cell, int]:
    """The position of each cell, from 0: repeat by repeat, each in a random order from the seed."""
    import random  # noqa: PLC0415  a cell's script needs only the rest of this module

    order: list[Cell] = []
    for repeat in range(1, max(repeats for _, repeats in points_of(config).values()) + 1):
        # Sorted, so that the order depends on the seed and the cells, not on their order in config.yaml.
        block = sorted(cells_of(config, repeat=repeat))
        random.Random(f"{config['seed']}/{repeat}").shuffle(block)
        order += block
    return {cell: position for position, cell in enumerate(order)}


def positions_of(config: Mapping[str, Any]) -> dict[str, int]:
    """Path of each record → its position in the order of the sweep, from 0."""
    return {record_path(cell): position for cell, position in order_of(config).items()}
