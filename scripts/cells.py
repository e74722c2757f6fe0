"""What identifies a cell, where its record is, and in which order cells are measured. Nothing else knows."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Cell(NamedTuple):
    """One measurement: a server under a number of connections, for the repeat-th time (from 1)."""

    server: str
    connections: int
    repeat: int

    def __str__(self) -> str:
        return f"{self.server}, {self.connections} connections, repeat {self.repeat}"


RECORD = "results/cells/{server}/c{connections}_r{repeat}.json"


def record_path(cell: Cell) -> str:
    return RECORD.format(**cell._asdict())


def cells_of(
    config: Mapping[str, Any], server: str | None = None, repeat: int | None = None
) -> list[Cell]:
    """The cells of a sweep, of one server or one repeat if named."""
    return [
        Cell(name, connections, number)
        for number in ([repeat] if repeat else range(1, config["repeats"] + 1))
        for name in ([server] if server else config["servers"])
        for connections in config["connections"]
    ]


def order_of(config: Mapping[str, Any]) -> dict[Cell, int]:
    """Position of each cell, from 0: repeat by repeat, shuffled by the seed within each (M17)."""
    import random  # noqa: PLC0415  here, since a cell's script needs only the rest of this file

    order: list[Cell] = []
    for repeat in range(1, config["repeats"] + 1):
        # Sorted, so that only the seed and what is measured decide, not how config.yaml lists it.
        block = sorted(cells_of(config, repeat=repeat))
        random.Random(f"{config['seed']}/{repeat}").shuffle(block)
        order += block
    return {cell: position for position, cell in enumerate(order)}
