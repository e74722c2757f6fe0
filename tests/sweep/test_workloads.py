"""Workloads: how a config names them, what a server is told, and which cells they have."""

from typing import Any

import pytest

from sweep.cells import cells_of, measured_servers, order_of, points_of, record_path
from sweep.workloads import (
    BODY,
    BUILT_IN,
    CPU_RATIO,
    DECIDERS,
    Workload,
    of_config,
    picture_suffix,
    profile_connections,
    profiled,
    setting_of,
)

CONFIG: dict[str, Any] = {
    "servers": ["a", "b"],
    "control": "b",
    "workloads": ["keepalive"],
    "connections": [1, 10],
    "repeats": 3,
    "duration_s": 0.5,
    "seed": 1,
}
MINE = {"body_bytes": 1000, "connections": [7], "repeats": 2}


def config_with(workloads: Any) -> dict[str, Any]:
    return {**CONFIG, "workloads": workloads}


def test_list_and_mapping_say_the_same() -> None:
    as_list = of_config(config_with(["keepalive", {"name": "mine", **MINE}]))
    assert as_list == of_config(config_with({"keepalive": {}, "mine": MINE}))
    assert as_list == {"keepalive": Workload(), "mine": Workload(body_bytes=1000)}
    assert list(of_config(config_with({"mine": MINE, "keepalive": {}}))) == ["mine", "keepalive"]


def test_a_name_alone_is_the_built_in_one_and_parameters_change_it() -> None:
    names = [name for name in BUILT_IN if name != "keepalive"]
    found = of_config(config_with(names))
    assert len(set(found.values()) | {Workload()}) == len(BUILT_IN)
    assert {its.decided_by for its in found.values()} == set(DECIDERS)
    crowd = of_config(config_with([{"name": "idle_crowd", "idle_connections": 50}]))
    assert crowd["idle_crowd"] == found["idle_crowd"]._replace(idle_connections=50)
    assert points_of(config_with([{"name": "idle_crowd", "connections": [3]}])) == {
        "idle_crowd": ([3], 2)
    }


def test_keepalive_needs_no_option_of_any_server_and_changes_nothing() -> None:
    assert Workload().server_options == []
    assert Workload().changes == {}
    assert Workload().body == BODY


def test_a_server_is_told_what_it_does_and_not_what_the_load_does() -> None:
    load = {"idle_connections": 9, "pipelined": 4, "connection_per_request": True}
    assert Workload(**load, decided_by="latency_p99_us").server_options == []
    assert Workload(5, 6, 7, 8).server_options == [
        *("--body-bytes", "5", "--handler-block-us", "6"),
        *("--handler-burn-us", "7", "--handler-every", "8"),
    ]


@pytest.mark.parametrize("name", BUILT_IN)
def test_what_is_recorded_of_a_workload_makes_it_again(name: str) -> None:
    workload = of_config(config_with([name]))[name]
    assert Workload(**workload.changes) == workload
    assert workload.is_paired == (workload.decided_by == CPU_RATIO)


@pytest.mark.parametrize("size", [1, 12, 13, 14, 26, 131_072])
def test_body_has_its_size_and_repeats_the_small_one(size: int) -> None:
    body = Workload(body_bytes=size).body
    assert len(body) == size
    assert all(body[at : at + 13] == BODY[: size - at] for at in range(0, size, 13))


def test_a_workload_has_settings_of_its_own_or_those_of_the_sweep() -> None:
    config = config_with(["keepalive", {"name": "mine", **MINE, "duration_s": 2}])
    config["connections"] = [10, 1]  # in whichever order: another makes nothing stale
    assert points_of(config) == {"keepalive": ([1, 10], 3), "mine": ([7], 2)}
    assert setting_of(config, "keepalive", "duration_s") == 0.5
    assert setting_of(config, "mine", "duration_s") == 2


def test_the_first_workload_is_profiled_or_those_that_the_config_names() -> None:
    config = config_with(["body_128k", {"name": "mine", "body_bytes": 5}])
    config["profile"] = {"workloads": None, "connections": 100}
    assert profiled(config) == ["body_128k"]
    config["profile"]["workloads"] = ["mine", "body_128k"]
    assert profiled(config) == ["mine", "body_128k"]
    assert [picture_suffix(name, profiled(config)) for name in profiled(config)] == [
        "",
        "_body_128k",
    ]


def test_a_profile_has_the_most_connections_of_the_workloads_own() -> None:
    config = config_with(["keepalive", {"name": "mine", **MINE, "connections": [9, 7]}])
    config["profile"] = {"connections": 100}
    assert profile_connections(config, "mine") == 9
    assert profile_connections(config, "keepalive") == 100


def test_the_control_has_cells_of_the_first_workload_alone() -> None:
    config = config_with([{"name": "mine", **MINE}, "keepalive"])
    of_control = [cell for cell in cells_of(config) if cell.server == "b_control"]
    assert [cell.workload for cell in of_control] == ["mine"] * 2
    assert of_control == cells_of(config, server="b_control")
    assert len(cells_of(config)) == 3 * 1 * 2 + 2 * 2 * 3


def test_a_block_mixes_workloads_and_has_those_that_still_have_a_repeat() -> None:
    config = config_with(["keepalive", {"name": "mine", **MINE, "connections": [7, 8]}])
    order = list(order_of(config))
    assert order == sorted(order, key=lambda cell: cell.repeat)
    assert len(order) == len(set(order)) == len({record_path(cell) for cell in order})
    second, third = ([c.workload for c in order if c.repeat == repeat] for repeat in (2, 3))
    assert second != sorted(second) and set(second) == {"keepalive", "mine"}
    assert set(third) == {"keepalive"}


def test_records_of_two_workloads_have_folders_of_their_own() -> None:
    config = config_with(["keepalive", {"name": "mine", **MINE, "connections": [1]}])
    paths = {record_path(cell) for cell in cells_of(config, server="a", repeat=1)}
    assert "results/cells/keepalive/a/c1_r1.json" in paths
    assert "results/cells/mine/a/c1_r1.json" in paths


def test_the_points_of_each_server_are_those_of_its_cells() -> None:
    """A table of a server's cells is made of its points: no cell may lack a record."""
    config = config_with(["keepalive", "body_128k"])
    for server in measured_servers(config):
        wanted = {
            (workload, count, repeat)
            for workload, (connections, repeats) in points_of(config, server).items()
            for count in connections
            for repeat in range(1, repeats + 1)
        }
        cells = cells_of(config, server)
        assert {(cell.workload, cell.connections, cell.repeat) for cell in cells} == wanted
        assert ("body_128k" in points_of(config, server)) == (server != "b_control")
