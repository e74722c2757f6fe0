"""Choose CPUs for the server and its load, from the machine's topology or as the config says.

This module needs only the standard library and proc.py, since every cell and every host imports it. root: the folder
with /sys, "/" or a copy.
"""

import os
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from hosts import proc


class CpuFault(ValueError):
    """A side cannot have these CPUs; the text is one line that says why."""


class CpuSplit(NamedTuple):
    """Disjoint sets of CPUs for the server and its load; one shared set if there is only one core."""

    load: list[int]
    server: list[int]
    shared: bool = False


class Core(NamedTuple):
    cpus: list[int]  # SMT siblings that this process may use
    node: int  # NUMA
    has_cpu_0: bool  # CPU 0 does the kernel's housekeeping, and takes interrupts that nobody moved
    slow: bool  # an efficiency core of a hybrid CPU


class Topology(NamedTuple):
    cores: list[Core]  # in ascending order
    isolated: list[
        int
    ]  # isolcpus: the kernel starts nothing there and does not spread threads over them


def _read_list(root: str, path: str) -> list[int]:
    """Read a list of CPUs; empty if the kernel does not have it."""
    try:
        return parse_cpu_list(proc.read_text(os.path.join(root, path)))
    except (OSError, ValueError):
        return []


def read_topology(root: str = "/", allowed: Collection[int] | None = None) -> Topology:
    """The physical cores of some CPUs (default: those that this process may use).

    If the kernel does not say otherwise, each CPU is a core of node 0.
    """
    usable = set(os.sched_getaffinity(0) if allowed is None else allowed)
    node_of = {
        cpu: node
        for node in _read_list(root, "sys/devices/system/node/online")
        for cpu in _read_list(root, f"sys/devices/system/node/node{node}/cpulist")
    }
    slow = _read_list(root, "sys/devices/cpu_atom/cpus")
    cores: dict[int, Core] = {}
    for cpu in sorted(usable):
        path = f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        siblings = {cpu, *_read_list(root, path)}
        core = Core(sorted(usable & siblings), node_of.get(cpu, 0), 0 in siblings, cpu in slow)
        cores.setdefault(core.cpus[0], core)
    return Topology(list(cores.values()), _read_list(root, "sys/devices/system/cpu/isolated"))


def _pool(topology: Topology, node: int | None) -> list[Core]:
    """The cores of one node, CPU 0's first. The node is `node`, else the one with most cores; of equals the last, which
    does not have CPU 0."""
    nodes: dict[int, list[Core]] = {}
    for core in topology.cores:
        nodes.setdefault(core.node, []).append(core)
    chosen = node if node in nodes else max(nodes, key=lambda n: (len(nodes[n]), n))
    fast = [core for core in nodes[chosen] if not core.slow]
    # With two kinds of cores, server and load could get different kinds.
    pool = fast if len(fast) > 1 else nodes[chosen]
    return sorted(pool, key=lambda core: not core.has_cpu_0)


def _cpus_of(cores: Collection[Core]) -> list[int]:
    return sorted(cpu for core in cores for cpu in core.cpus)


def choose_split(topology: Topology, node: int | None = None) -> CpuSplit:
    """Choose CPUs for both sides on one machine: whole cores of one node, the larger half for the server.

    With 4 cores or more, CPU 0's core stays idle for the rest of the system; with 2 or 3 the load gets it.
    node: of the network card, if it is known.
    """
    pool = _pool(topology, node)
    if len(pool) >= 4 and pool[0].has_cpu_0:
        pool = pool[1:]
    half = len(pool) // 2
    load, server = (pool[:half], pool[half:]) if half else (pool, pool)
    return CpuSplit(_cpus_of(load), _cpus_of(server), shared=half == 0)


def choose_whole(topology: Topology, node: int | None = None) -> list[int]:
    """Choose CPUs for a side that has its own machine: all cores of one node.

    With 3 cores or more, CPU 0's core is left out: that costs a third at most. With 2 it would cost half.
    """
    pool = _pool(topology, node)
    if len(pool) >= 3 and pool[0].has_cpu_0:
        pool = pool[1:]
    return _cpus_of(pool)


def usable_cpus(cpus: Collection[int]) -> set[int]:
    """The CPUs among these that this process could run on: online and in its cpuset. Isolated CPUs count, although no
    process gets them by default."""
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, cpus)
        return os.sched_getaffinity(0)
    except (OSError, OverflowError):
        return set()
    finally:
        os.sched_setaffinity(0, before)


def configured_cpus(
    side: str,
    text: str | int,
    root: str = "/",
    usable: Callable[[Collection[int]], set[int]] = usable_cpus,
) -> list[int]:
    """The CPUs that the config names for a side. Raises CpuFault if this machine lacks them, or we may not use them."""
    cpus = {*parse_cpu_list(str(text))}
    missing = sorted(cpus - usable(cpus))
    if missing:
        online = _read_list(root, "sys/devices/system/cpu/online")
        offline = [cpu for cpu in missing if cpu not in online]
        named = format_cpu_list(offline or missing)
        known = format_cpu_list(online)
        why = f"not online here (online: {known})" if offline else "not in this process's cpuset"
        raise CpuFault(f"cpus.{side}: CPU {named} is {why}: name others")
    return sorted(cpus)


def configured_split(
    setting: Mapping[str, str | int],
    root: str = "/",
    usable: Callable[[Collection[int]], set[int]] = usable_cpus,
) -> CpuSplit:
    """The CPUs of both sides on one machine as the config says. Raises CpuFault, also if they would share a core."""
    server = configured_cpus("server", setting["server"], root, usable)
    load = configured_cpus("load", setting["load"], root, usable)
    for core in read_topology(root, {*server, *load}).cores:
        sides = [sorted({*core.cpus}.intersection(side)) for side in (server, load)]
        if all(sides):
            ours, theirs = map(format_cpu_list, sides)
            raise CpuFault(
                f"cpus: the server's CPU {ours} and the load's CPU {theirs} share a core: give it to one of them"
            )
    return CpuSplit(load, server)


def workers_for(workers: str, split: CpuSplit) -> int:
    """The number of a server's processes: `cpus` is one for each of its CPUs, `auto` the same but at least 2."""
    known = {"cpus": len(split.server), "auto": max(2, len(split.server))}
    return known.get(workers) or int(workers)


def _name(noun: str, numbers: Collection[int]) -> str:
    return f"{noun}{'s' if len(numbers) > 1 else ''} {format_cpu_list(numbers)}"


def describe(split: CpuSplit, topology: Topology) -> str:
    """`server on CPUs 2-3, load on CPU 1 (2 cores and 1, node 0; CPU 0 idle)`; topology: of the usable CPUs."""
    sides = split.server, split.load
    if split.shared:
        text = f"server and load share {_name('CPU', split.server)}, the only core"
    else:
        used = {*split.server, *split.load}
        cores = [core for core in topology.cores if used.intersection(core.cpus)]
        server, load = (
            sum(any(cpu in side for cpu in core.cpus) for core in cores) for side in sides
        )
        many = f"{server} core{'s' * (server > 1)} {'each' if server == load else f'and {load}'}"
        where = _name("node", {core.node for core in cores})
        idle = {*_cpus_of(topology.cores)} - used
        rest = f"; {_name('CPU', idle)} idle" if idle else ""
        text = "server on {}, load on {}".format(*(_name("CPU", side) for side in sides))
        text += f" ({many}, {where}{rest})"
    stuck = [side for side in sides if len({*side} & {*topology.isolated}) > 1]
    if stuck:
        text += f"; {_name('CPU', stuck[0])} isolated: the kernel does not spread threads over them"
    return text


def parse_cpu_list(text: str) -> list[int]:
    """`0-2,8` → [0, 1, 2, 8], the format of /sys/devices/system/cpu; ValueError for any other."""
    cpus: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        numbers = range(int(first), int(last or first) + 1)
        if not numbers:
            raise ValueError(f"{part!r} ends before it begins")
        cpus += numbers
    return cpus


def format_cpu_list(cpus: Collection[int]) -> str:
    """[8, 0, 1, 2] → `0-2,8`."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and cpu == runs[-1][-1] + 1:
            runs[-1].append(cpu)
        else:
            runs.append([cpu])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
