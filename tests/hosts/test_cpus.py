"""Which CPUs each side gets, on made-up trees of /sys and on this machine."""

import os
from collections.abc import Collection
from pathlib import Path

import pytest

from helpers.checkouts import make_tree
from hosts import cpus
from hosts.cpus import CpuSplit, format_cpu_list

CPUS = "sys/devices/system/cpu"


def make_machine(
    root: Path, *nodes: list[list[int]], isolated: str = "", slow: str | None = None
) -> str:
    """A machine of these NUMA nodes, each a list of cores, each a list of CPUs."""
    everything = [cpu for node in nodes for core in node for cpu in core]
    files = {
        f"{CPUS}/online": format_cpu_list(everything),
        f"{CPUS}/isolated": f"{isolated}\n",
        "sys/devices/system/node/online": format_cpu_list(range(len(nodes))),
    }
    for number, node in enumerate(nodes):
        of_node = [cpu for core in node for cpu in core]
        files[f"sys/devices/system/node/node{number}/cpulist"] = format_cpu_list(of_node)
        for core in node:
            for cpu in core:
                path = f"{CPUS}/cpu{cpu}/topology/thread_siblings_list"
                files[path] = format_cpu_list(core)
    if slow is not None:
        files["sys/devices/cpu_atom/cpus"] = slow
    return make_tree(root, files)


def topology_of(root: str, allowed: str = "0-63") -> cpus.Topology:
    online = cpus._read_list(root, f"{CPUS}/online")
    return cpus.read_topology(root, {*online} & {*cpus.parse_cpu_list(allowed)})


def singles(first: int, last: int) -> list[list[int]]:
    return [[cpu] for cpu in range(first, last + 1)]


FOUR_PAIRS = [[0, 4], [1, 5], [2, 6], [3, 7]]


EIGHT = singles(0, 7)


@pytest.mark.parametrize(
    ("nodes", "allowed", "load", "server"),
    [
        ([[[0]]], "0-63", [0], [0]),
        ([[[0, 1]]], "0-63", [0, 1], [0, 1]),
        ([singles(0, 1)], "0-63", [0], [1]),
        ([[[0, 2], [1, 3]]], "0-63", [0, 2], [1, 3]),
        ([singles(0, 2)], "0-63", [0], [1, 2]),
        ([singles(0, 3)], "0-63", [1], [2, 3]),
        ([FOUR_PAIRS], "0-63", [1, 5], [2, 3, 6, 7]),
        ([singles(0, 8)], "0-63", [1, 2, 3, 4], [5, 6, 7, 8]),
        # Of two nodes: the last, where CPU 0 is not; the larger; the one of two cores rather than of one.
        ([singles(0, 3), singles(4, 7)], "0-63", [4, 5], [6, 7]),
        ([singles(0, 7), singles(8, 10)], "0-63", [1, 2, 3], [4, 5, 6, 7]),
        ([[[0, 2]], [[1, 3], [4, 5]]], "0-63", [1, 3], [4, 5]),
        # Of those that this process may use.
        ([EIGHT], "4-7", [4, 5], [6, 7]),
        ([EIGHT], "0-1,6", [0], [1, 6]),
        ([EIGHT], "1-4", [1, 2], [3, 4]),
        ([EIGHT], "0,4", [0], [4]),
        ([FOUR_PAIRS], "0-6", [1, 5], [2, 3, 6]),
        # Whoever may not use CPU 0 but the other half of its core does not get a quiet core by that.
        ([FOUR_PAIRS], "1-7", [1, 5], [2, 3, 6, 7]),
    ],
)
def test_both_sides_get_whole_cores_of_one_node_away_from_cpu_0(
    nodes: list[list[list[int]]], allowed: str, load: list[int], server: list[int], tmp_path: Path
) -> None:
    topology = topology_of(make_machine(tmp_path, *nodes), allowed)
    assert cpus.choose_split(topology) == CpuSplit(load, server, shared=load == server)


def test_the_node_of_the_network_card_comes_first_if_it_has_cpus(tmp_path: Path) -> None:
    topology = topology_of(make_machine(tmp_path, singles(0, 3), singles(4, 7)))
    assert cpus.choose_split(topology, node=0) == CpuSplit([1], [2, 3])
    for unknown in (-1, 2):  # the kernel's word for a card of no node, and one without CPUs of ours
        assert cpus.choose_split(topology, node=unknown) == CpuSplit([4, 5], [6, 7])


def test_slow_cores_of_a_hybrid_cpu_are_left_out_where_two_others_are(tmp_path: Path) -> None:
    root = make_machine(tmp_path, [[0, 1], [2, 3], [4], [5], [6], [7]], slow="4-7")
    assert cpus.choose_split(topology_of(root)) == CpuSplit([0, 1], [2, 3])
    assert cpus.choose_whole(topology_of(root)) == [0, 1, 2, 3]
    assert cpus.choose_split(topology_of(root, "2-7")) == CpuSplit([2, 3, 4], [5, 6, 7])


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([singles(0, 0)], [0]),
        ([[[0, 2], [1, 3]]], [0, 1, 2, 3]),
        ([singles(0, 2)], [1, 2]),
        ([FOUR_PAIRS], [1, 2, 3, 5, 6, 7]),
        ([singles(0, 1), singles(2, 4)], [2, 3, 4]),
    ],
)
def test_a_side_alone_on_a_machine_gets_a_node_without_cpu_0_where_two_cores_are_left(
    nodes: list[list[list[int]]], expected: list[int], tmp_path: Path
) -> None:
    topology = topology_of(make_machine(tmp_path, *nodes))
    assert cpus.choose_whole(topology) == expected


def test_a_machine_that_tells_nothing_has_a_core_for_each_cpu(tmp_path: Path) -> None:
    topology = cpus.read_topology(str(tmp_path), {0, 1})
    assert [core.cpus for core in topology.cores] == [[0], [1]]
    assert cpus.choose_split(topology) == CpuSplit([0], [1])
    assert topology.isolated == []


def test_cores_of_this_machine_hold_each_allowed_cpu_once() -> None:
    given = [cpu for core in cpus.read_topology().cores for cpu in core.cpus]
    assert sorted(given) == sorted(os.sched_getaffinity(0))


def test_cpus_of_this_machine_can_be_named() -> None:
    before = os.sched_getaffinity(0)
    named = min(before)
    assert cpus.configured_cpus("server", named) == [named]
    with pytest.raises(cpus.CpuFault, match=r"^cpus\.load: CPU 4321 is not online here \(online: "):
        cpus.configured_cpus("load", f"{named},4321")
    assert os.sched_getaffinity(0) == before


def given_split(root: str, server: str | int, load: str | int, kept: str = "99") -> CpuSplit:
    """As on a machine whose cpuset lacks the CPUs in `kept`."""

    def usable(asked: Collection[int]) -> set[int]:
        online = cpus._read_list(root, f"{CPUS}/online")
        return {*asked} & ({*online} - {*cpus.parse_cpu_list(kept)})

    return cpus.configured_split({"server": server, "load": load}, root=root, usable=usable)


def test_named_cpus_are_taken_as_they_are(tmp_path: Path) -> None:
    root = make_machine(tmp_path, FOUR_PAIRS)
    assert given_split(root, "0,4", "2,1") == CpuSplit([1, 2], [0, 4])
    assert given_split(root, 3, 2) == CpuSplit([2], [3])


@pytest.mark.parametrize(
    ("server", "load", "kept", "said"),
    [
        ("6-9", "0", "99", "cpus.server: CPU 8-9 is not online here (online: 0-7): name others"),
        ("3,9", "0", "3", "cpus.server: CPU 9 is not online here (online: 0-7): name others"),
        ("1", "2-3", "3", "cpus.load: CPU 3 is not in this process's cpuset: name others"),
        ("1-2", "2-3", "99", "cpus: the server's CPU 2 and the load's CPU 2 share a core"),
        ("0-3", "4-7", "99", "cpus: the server's CPU 0 and the load's CPU 4 share a core"),
    ],
)
def test_named_cpus_that_cannot_be_had_are_refused_in_one_line(
    server: str, load: str, kept: str, said: str, tmp_path: Path
) -> None:
    root = make_machine(tmp_path, FOUR_PAIRS)
    with pytest.raises(cpus.CpuFault) as caught:
        given_split(root, server, load, kept)
    assert str(caught.value).startswith(said)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([singles(0, 1)], "server on CPU 1, load on CPU 0 (1 core each, node 0)"),
        (
            [singles(0, 3)],
            "server on CPUs 2-3, load on CPU 1 (2 cores and 1, node 0; CPU 0 idle)",
        ),
        (
            [FOUR_PAIRS, [[8], [9], [10], [11]]],
            "server on CPUs 10-11, load on CPUs 8-9 (2 cores each, node 1; CPUs 0-7 idle)",
        ),
        ([[[0, 1]]], "server and load share CPUs 0-1, the only core"),
    ],
)
def test_split_is_told_in_one_line(nodes: list[list[list[int]]], said: str, tmp_path: Path) -> None:
    topology = topology_of(make_machine(tmp_path, *nodes))
    assert cpus.describe(cpus.choose_split(topology), topology) == said


def test_isolated_cpus_are_told_where_threads_would_pile_up_on_one(tmp_path: Path) -> None:
    root = make_machine(tmp_path, singles(0, 3), isolated="2-3")
    topology = topology_of(root)
    assert topology.isolated == [2, 3]
    text = cpus.describe(given_split(root, "2-3", "0-1"), topology)
    assert text.endswith("CPUs 2-3 isolated: the kernel does not spread threads over them")
    assert "isolated" not in cpus.describe(given_split(root, "3", "0-1"), topology)


def test_auto_workers_are_several() -> None:
    one, four = CpuSplit([0], [1]), CpuSplit([0, 1, 2, 3], [4, 5, 6, 7])
    assert cpus.workers_for("auto", one) == 2
    assert cpus.workers_for("auto", four) == 4
    assert cpus.workers_for("cpus", one) == 1
    assert cpus.workers_for("3", four) == 3
