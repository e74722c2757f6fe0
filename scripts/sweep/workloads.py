"""Workloads: what a server is asked to do in a cell, from `workloads` in the config. Only the check of the config reads
that key besides."""

from collections.abc import Mapping, Sequence
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
    def handler_mean_s(self) -> float:
        """How long the handler takes on average."""
        return self.handler_s / self.handler_every

    @property
    def handler_cpu_ns_per_request(self) -> float:
        """CPU time that the handler takes, on average."""
        return 1000 * self.handler_burn_us / self.handler_every

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


# By name, what a workload has besides the defaults. A config needs only their names. All but keep-alive have one number
# of connections: enough for every model to show what it does, few enough for one that serves one request at a time.
CONNECTIONS = {"connections": [50], "repeats": 2}
BUILT_IN: dict[str, dict[str, Any]] = {
    KEEPALIVE: {},
    "connection_per_request": {"connection_per_request": True, **CONNECTIONS},
    "idle_crowd": {"idle_connections": 10_000, **CONNECTIONS},
    "body_128k": {"body_bytes": 131_072, **CONNECTIONS},
    "busy_handler": {"handler_burn_us": 100, **CONNECTIONS},
    "blocking_handler": {
        "handler_block_us": 10_000,
        "decided_by": THROUGHPUT,
        "duration_s": 1.0,
        **CONNECTIONS,
    },
    "slow_one_percent": {
        "handler_burn_us": 5_000,
        "handler_every": 100,
        "decided_by": TAIL,
        **CONNECTIONS,
    },
    "pipelined": {"pipelined": 16, **CONNECTIONS},
}


def parameters_of(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Name → parameters of each workload of the config, in its order. It may have a list, or a mapping by name."""
    entries = config["workloads"]
    if isinstance(entries, Mapping):
        entries = [{"name": name, **its} for name, its in entries.items()]
    named = [{"name": its} if isinstance(its, str) else its for its in entries]
    return {its["name"]: {**BUILT_IN.get(its["name"], {}), **its} for its in named}


def of_config(config: Mapping[str, Any]) -> dict[str, Workload]:
    """Workload by name, in the order of the config."""
    return {
        name: Workload(**{key: value for key, value in its.items() if key in Workload._fields})
        for name, its in parameters_of(config).items()
    }


def setting_of(config: Mapping[str, Any], workload: str, name: str) -> Any:
    """A setting of the sweep that a workload may have of its own: connections, repeats, duration_s."""
    return parameters_of(config)[workload].get(name, config[name])


def words_before(workload: str) -> str:
    """A workload's name as the beginning of a longer text; empty for keep-alive."""
    return "" if workload == KEEPALIVE else f"{workload}, "


# --- Profiles and counts of system calls ---


def profiled(config: Mapping[str, Any]) -> list[str]:
    """The workloads that are profiled and whose system calls are counted: those that the config names, or the first."""
    return config["profile"]["workloads"] or list(parameters_of(config))[:1]


def profile_connections(config: Mapping[str, Any], workload: str) -> int:
    """Connections of its profiles: those of `profile`, or the most of its own."""
    own = parameters_of(config)[workload].get("connections")
    return int(max(own) if own else config["profile"]["connections"])


def picture_suffix(workload: str, names: Sequence[str]) -> str:
    """What the names of its flamegraphs end with. names: as profiled(), whose first has pictures without its name."""
    return "" if workload == names[0] else f"_{workload}"
