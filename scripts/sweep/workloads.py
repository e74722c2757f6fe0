"""Workloads: what a server is asked to do in a cell, from `workloads` in the config. No other module reads that key."""

from collections.abc import Mapping
from typing import Any, NamedTuple

# What each cell asks for unless its workload says otherwise: many requests on each connection, for a small answer.
KEEPALIVE = "keepalive"
BODY = b"Hello, World!"
# Figures that can decide which server is better. The first compares with the reference in the paired phase; the others
# are of the undivided run, since there connections wait, or since a tail is the question.
CPU_RATIO, THROUGHPUT, TAIL = "cpu_ratio", "requests_per_second", "latency_p99_us"
DECIDERS = (CPU_RATIO, THROUGHPUT, TAIL)


class Workload(NamedTuple):
    """The parameters that change what is measured; a cell is stale if one of its workload's changes."""

    body_bytes: int = len(BODY)
    handler_block_us: int = 0
    handler_burn_us: int = 0  # of CPU time
    handler_every: int = 1  # the handler does this for one request in so many
    idle_connections: int = 0
    pipelined: int = 1  # requests under way on each connection
    connection_per_request: bool = False
    decided_by: str = CPU_RATIO

    @property
    def is_paired(self) -> bool:
        """Whether the paired phase makes sense: CPU time per request decides."""
        return self.decided_by == CPU_RATIO

    @property
    def body(self) -> bytes:
        """The body of an answer."""
        return (BODY * (self.body_bytes // len(BODY) + 1))[: self.body_bytes]

    @property
    def handler_s(self) -> float:
        """How long the handler of one request takes at most."""
        return (self.handler_block_us + self.handler_burn_us) / 1e6

    @property
    def server_options(self) -> list[str]:
        """What a server is told. Nothing for what it does anyway, so that keep-alive needs no option of any server."""
        default = Workload()
        names = ("body_bytes", "handler_block_us", "handler_burn_us", "handler_every")
        return [
            word
            for name in names
            if getattr(self, name) != getattr(default, name)
            for word in (f"--{name.replace('_', '-')}", str(getattr(self, name)))
        ]

    @property
    def changes(self) -> dict[str, Any]:
        """The parameters that are not the default's."""
        return {
            name: value
            for name, value in self._asdict().items()
            if value != Workload._field_defaults[name]
        }


def of_config(config: Mapping[str, Any]) -> dict[str, Workload]:
    """Workload by name, in the order of the config; null turns one off."""
    return {
        name: Workload(**{key: value for key, value in its.items() if key in Workload._fields})
        for name, its in config["workloads"].items()
        if its is not None
    }


def setting_of(config: Mapping[str, Any], workload: str, name: str) -> Any:
    """A setting of the sweep that a workload may have of its own: connections, repeats, duration_s."""
    return config["workloads"][workload].get(name, config[name])
