"""`network` of the config: the interface over which the load reaches the server, and where each of the two sides runs.

A command prefix reaches a side: none for this host and namespace, `nsenter` for a network namespace of this host, `ssh`
for another host.
"""

import ipaddress
import json
import os
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from hosts.interfaces import ADDRESS_KINDS

LOOPBACK = "loopback"
HERE = "here"
CONTROL_FOLDER = "IO_MODELS_SSH"  # environment variable
NETNS = "netns:"
NAMESPACES = "/run/netns"  # of ip-netns(8)
CONNECT_TIMEOUT_S = 10
# After so many questions without an answer, one a second, ssh gives a host up.
ALIVE_QUESTIONS = 15


class Network(NamedTuple):
    """The keys of `network`, with the defaults of the schema."""

    interface: str = LOOPBACK
    address: str = "link-local"
    load_interface: str | None = None
    server: str = HERE
    load: str = HERE
    ssh_config: str | None = None

    @property
    def is_loopback(self) -> bool:
        return self.interface == LOOPBACK

    @property
    def places(self) -> list[str]:
        """The places where something runs, each once."""
        return list(dict.fromkeys([self.server, self.load]))


def from_json(text: str) -> Network:
    """Raises ValueError or TypeError if the text is not a valid `network`."""
    network = Network(**json.loads(text))
    for place in network.places:
        if place != HERE and not str(place).startswith((NETNS, "ssh:")):
            raise ValueError(f"a side runs at here, netns:NAME or ssh:HOST, not at {place!r}")
    return network


def is_link_local(address: str) -> bool:
    """Whether an address means nothing without an interface: only in IPv6."""
    return ":" in address and ipaddress.ip_address(address).is_link_local


def with_scope(address: str, interface: str) -> str:
    """An address as programs in the interface's namespace need it."""
    return f"{address}%{interface}" if is_link_local(address) else address


def is_remote(place: str) -> bool:
    return place.startswith("ssh:")


def namespace_of(place: str) -> str:
    """The name of a network namespace; empty for other places."""
    return place.removeprefix(NETNS) if place.startswith(NETNS) else ""


def ssh_command(
    place: str, ssh_config: str | None, *, master: bool = False, control: str | None = None
) -> list[str]:
    """An ssh command to another host that never asks the user anything.

    It uses the connection that a `master` holds open (places.share_connection), if there is one, by a socket in a
    folder that a script run by hand does not have; `control` is a command for the master.
    """
    folder = os.environ.get(CONTROL_FOLDER)
    command = ["ssh", *(["-F", os.path.expanduser(ssh_config)] if ssh_config else [])]
    command += ["-N"] if master else []
    command += ["-O", control] if control else []
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": str(CONNECT_TIMEOUT_S),
        "ServerAliveInterval": "1",
        "ServerAliveCountMax": str(ALIVE_QUESTIONS),
        "ControlPath": os.path.join(folder, "%C") if folder else "none",
        "ControlMaster": "yes" if master else "no",
        "ControlPersist": "no",  # nor what else a user's configuration may say and would break it
        "RemoteCommand": "none",
        "PermitLocalCommand": "no",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "ClearAllForwardings": "yes",
        "RequestTTY": "no",  # which would echo
        "LogLevel": "ERROR",
    }
    for name, value in options.items():
        command += ["-o", f"{name}={value}"]
    return [*command, "--", place.removeprefix("ssh:")]


def command_at(place: str, ssh_config: str | None, command: list[str]) -> list[str]:
    """The command that runs a command at a place."""
    if is_remote(place):
        return [*ssh_command(place, ssh_config), shlex.join(command)]
    if namespace := namespace_of(place):
        # Not `ip netns exec`: that mounts another /sys, in which cgroups are missing.
        return ["nsenter", f"--net={NAMESPACES}/{namespace}", "--", *command]
    return command


def faults(network: Mapping[str, Any]) -> Iterator[str]:
    """Faults that the schema cannot see, a line each."""
    wanted = network["address"]
    if wanted not in ADDRESS_KINDS:
        try:
            ipaddress.ip_address(wanted)
        except ValueError:
            yield f"network.address: found {wanted!r}, allowed: {', '.join(ADDRESS_KINDS)} or a numeric address"
    apart = network["server"] != network["load"]
    if network["interface"] == LOOPBACK and apart:
        yield (
            f"network.interface: found loopback, but the server runs at {network['server']} and the load at "
            f"{network['load']}, allowed: the name of the server's interface that leads to the load"
        )
    if network["interface"] != LOOPBACK and not apart:
        yield (
            f"network.load: found {network['load']!r}, where the server runs too, so the kernel would use loopback,"
            " allowed: another network namespace or host"
        )
    path = network["ssh_config"]
    if path and not os.path.isfile(os.path.expanduser(path)):
        yield f"network.ssh_config: there is no file {path!r}"
