"""Checks before a sweep: are both sides as the config says, and does the load reach the server over the interface?"""

import os
from collections.abc import Iterator

from common.processes import Process
from hosts import cpus, network
from hosts.cpus import CpuSplit
from hosts.interfaces import NotReady
from measuring import places, runs
from measuring.preflight_side import PreflightSide

Sides = runs.Sides[PreflightSide, PreflightSide]


def describe_fault(place: str, error: OSError) -> str:
    """The fault of a place with the command that fixes it: from here, or on the other host."""
    if not isinstance(error, NotReady) or not error.ip_arguments:
        return str(error)
    where = "on that host: " if network.is_remote(place) else ""
    namespace = network.namespace_of(place)
    ip = f"ip -n {namespace}" if namespace else "ip"
    return f"{error.fault}: {where}sudo {ip} {error.ip_arguments}"


def _reach_faults(both: Sides) -> Iterator[str]:
    net = both.network
    load_interface = net.load_interface or net.interface
    try:
        address = both.server.address(net.interface, net.address)
    except OSError as error:
        yield f"network.interface at {net.server}: {describe_fault(net.server, error)}"
        return
    try:
        if net.load_interface or network.is_link_local(address):
            both.load.check_interface(load_interface)
    except OSError as error:
        yield f"network.load_interface at {net.load}: {describe_fault(net.load, error)}"
        return
    port = both.server.listen(network.with_scope(address, net.interface))
    before = both.server.interface_counters(net.interface)
    try:
        both.load.reach(network.with_scope(address, load_interface), port)
    except OSError as error:
        yield (
            f"network: the load at {net.load} does not reach [{address}]:{port} of {net.interface} at {net.server}:"
            f" {error}: are both on one link, and does a firewall refuse it?"
        )
        return
    after = both.server.interface_counters(net.interface)
    if after["received_packets"] == before["received_packets"]:
        yield (
            f"network.interface: packets from the load to {address} do not come in over {net.interface}: "
            "both sides are in one network namespace, or there is a shorter way between them"
        )


def _architecture_faults(both: Sides) -> Iterator[str]:
    here, there = os.uname().machine, both.server.architecture()
    if here != there:
        yield f"network.server: {both.network.server} is {there}, but this host compiles the servers for {here}"


def faults(both: Sides) -> list[str]:
    """What would make every cell fail, a line each. Raises SideLost."""
    lines = list(_architecture_faults(both))
    return lines if both.network.is_loopback else [*lines, *_reach_faults(both)]


def share_connections(net: network.Network) -> Iterator[Process]:
    """Connect to the other hosts for the whole sweep; the connections end with this process. Raises SideLost."""
    remote = [place for place in net.places if network.is_remote(place)]
    if remote:
        places.make_control_folder()
    for place in remote:
        yield places.share_connection(place, net.ssh_config)


def describe_cpus(both: Sides, split: CpuSplit) -> str:
    if both.apart:
        return (
            f"server on CPUs {cpus.format_cpu_list(split.server)} of its host, "
            f"load on CPUs {cpus.format_cpu_list(split.load)} of its own"
        )
    return str(both.server.describe_split(split))
