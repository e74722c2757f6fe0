"""Before a sweep: are both sides what the config says, and does load reach the server over the interface?"""

import os
from collections.abc import Iterator
from typing import Any

import machine
import network
import runs
import sides
from cpus import CpuSplit
from preflight_side import PreflightSide
from processes import Process

Sides = runs.Sides[PreflightSide, PreflightSide]


def mend_at(place: str, text: str) -> str:
    """A command that mends something, as it works from here or, on another host, there."""
    if place.startswith("netns:"):
        return text.replace("sudo ip link", f"sudo ip -n {place.removeprefix('netns:')} link")
    return text.replace("sudo ", "on that host: sudo ") if network.is_remote(place) else text


def _reach_faults(found: Sides) -> Iterator[str]:
    net = found.network
    load_interface = net.load_interface or net.interface
    try:
        address = found.server.address(net.interface, net.address)
    except OSError as error:
        yield f"network.interface at {net.server}: {mend_at(net.server, str(error))}"
        return
    try:
        if net.load_interface or network.is_link_local(address):
            found.load.check_interface(load_interface)
    except OSError as error:
        yield f"network.load_interface at {net.load}: {mend_at(net.load, str(error))}"
        return
    port = found.server.listen(network.with_scope(address, net.interface))
    before = found.server.interface_counters(net.interface)
    try:
        found.load.reach(network.with_scope(address, load_interface), port)
    except OSError as error:
        yield (
            f"network: the load at {net.load} does not reach [{address}]:{port} of {net.interface} at {net.server}:"
            f" {error}: are both on one link, and does no firewall refuse it?"
        )
        return
    after = found.server.interface_counters(net.interface)
    if after["received_packets"] == before["received_packets"]:
        yield (
            f"network.interface: what the load sends to {address} does not come in over {net.interface}: "
            "both sides are in one network namespace, or there is a shorter way between them"
        )


def _architecture_faults(found: Sides) -> Iterator[str]:
    here, there = os.uname().machine, found.server.architecture()
    if here != there:
        yield f"network.server: {found.network.server} is {there}, but servers are compiled here, for {here}"


def faults(found: Sides) -> list[str]:
    """What would make every cell fail, a line each. Raises SideLost."""
    told = list(_architecture_faults(found))
    return told if found.network.is_loopback else [*told, *_reach_faults(found)]


def share_connections(net: network.Network) -> Iterator[Process]:
    """Connect to the other hosts for the whole sweep; the connections end with this process. Raises SideLost."""
    remote = [place for place in net.places if network.is_remote(place)]
    if remote:
        sides.make_control_folder()
    for place in remote:
        yield sides.share_connection(place, net.ssh_config)


def split_of(found: Sides, setting: dict[str, Any] | None) -> CpuSplit:
    """Which CPUs each side will have. Raises CpuFault."""
    return runs.split_of(found, setting)


def describe_cpus(found: Sides, split: CpuSplit) -> str:
    if found.apart:
        return (
            f"server on CPUs {machine.format_cpu_list(split.server)} of its host, "
            f"load on CPUs {machine.format_cpu_list(split.load)} of its own"
        )
    return str(found.server.describe_split(split))
