"""A network interface: its addresses, whether it is ready, what it is, and how much has crossed it."""

import ipaddress
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from hosts.reading import number, read_fact

ADDRESS_KINDS = ("link-local", "global", "ipv4")
Link = dict[str, Any]  # of `ip -j -d address`
# The operstate is UNKNOWN where an interface does not report a carrier: tun, some veth.
WORKS = ("UP", "UNKNOWN")


class NotReady(OSError):
    """An interface cannot be used. As text: one line for the user.

    ip_arguments: the arguments with which `ip` fixes it in the interface's namespace; empty if ip cannot.
    """

    def __init__(self, fault: str, ip_arguments: str = "") -> None:
        super().__init__(fault)
        self.args = (fault, ip_arguments)  # what the other end makes it of again
        self.fault = fault
        self.ip_arguments = ip_arguments

    def __str__(self) -> str:
        return f"{self.fault}: sudo ip {self.ip_arguments}" if self.ip_arguments else self.fault


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True, errors="replace")


def read_links() -> list[Link]:
    """All interfaces of this network namespace. Raises OSError if ip fails."""
    try:
        run = _run(["ip", "-j", "-d", "address"])
    except FileNotFoundError:
        raise OSError("ip is not installed, see make setup") from None
    if run.returncode != 0:
        raise OSError(f"ip failed: {' '.join(run.stderr.split())}")
    try:
        return [link for link in json.loads(run.stdout) if link]
    except ValueError:
        raise OSError("ip did not print JSON: is this the ip of iproute2?") from None


def ready_link(links: Sequence[Link], interface: str) -> Link:
    """The interface's link, which must be up. Raises NotReady."""
    known = {link["ifname"]: link for link in links}
    if interface not in known:
        raise NotReady(f"there is no interface {interface!r}, there are: {', '.join(known)}")
    link = known[interface]
    if "UP" not in link["flags"]:
        raise NotReady(f"{interface} is down", f"link set {interface} up")
    if "NO-CARRIER" in link["flags"] or link["operstate"] not in WORKS:
        raise NotReady(f"{interface} has no carrier: is its other end connected and up?")
    return link


def is_wanted(address: Mapping[str, Any], wanted: str) -> bool:
    """Whether an address is the wanted one, or of the wanted kind: link-local, global or ipv4."""
    local = ipaddress.ip_address(address["local"])
    if wanted == "ipv4":
        return local.version == 4
    if wanted in ADDRESS_KINDS:
        kind = "link" if wanted == "link-local" else "global"
        return local.version == 6 and address["scope"] == kind
    return local == ipaddress.ip_address(wanted.partition("%")[0])


def find_address(links: Sequence[Link], interface: str, wanted: str) -> str:
    """The numeric address of an interface that is ready. Raises NotReady."""
    addresses = [one for one in ready_link(links, interface)["addr_info"] if "local" in one]
    chosen = [address for address in addresses if is_wanted(address, wanted)]
    if not chosen:
        has = ", ".join(address["local"] for address in addresses) or "none"
        kind = f"{wanted} address" if wanted in ADDRESS_KINDS else f"address {wanted}"
        raise NotReady(f"{interface} has no {kind}, it has: {has}")
    for address in chosen:
        if address.get("dadfailed"):
            raise NotReady(
                f"{address['local']} of {interface} is in use by another host (duplicate address detection failed)"
            )
        if not address.get("tentative"):
            return str(address["local"])
    raise NotReady(
        f"{chosen[0]['local']} of {interface} is still tentative (duplicate address detection):"
        " try again in two seconds"
    )


def queueing_of(link: Mapping[str, Any]) -> str | None:
    """The queueing discipline; for netem with its parameters, since another delay is another network."""
    if link.get("qdisc") != "netem":
        return link.get("qdisc")
    try:
        said = _run(["tc", "qdisc", "show", "dev", link["ifname"]]).stdout
    except FileNotFoundError:
        said = ""
    return " ".join(["netem", *said.partition(" root ")[2].split()[2:]])  # after refcnt N


def facts_of(links: Sequence[Link], interface: str, root: str = "/") -> dict[str, Any]:
    """What the interface is, without addresses; None where the kernel does not say."""
    link = next((link for link in links if link["ifname"] == interface), {})
    folder = os.path.join(root, "sys/class/net", interface)
    device = os.path.join(folder, "device")
    driver = link.get("linkinfo", {}).get("info_kind")
    speed = node = None
    # A virtual interface reports a made-up speed; and /sys may show an interface of that name in another namespace.
    is_this = read_fact(folder, "address") == link.get("address", "")
    if is_this and os.path.exists(device):
        driver = os.path.basename(os.path.realpath(os.path.join(device, "driver")))
        speed, node = number(read_fact(folder, "speed")), number(read_fact(device, "numa_node"))
    return {
        "interface": interface,
        "driver": driver,
        "mtu_bytes": link.get("mtu"),
        "speed_mbit_per_second": speed if isinstance(speed, int) and speed > 0 else None,
        "queueing": queueing_of(link),
        "numa_node": node if isinstance(node, int) and node >= 0 else None,
    }


def parse_counters(text: str, interface: str) -> dict[str, int]:
    """/proc/net/dev → bytes and packets that an interface has received and sent. Raises OSError if it is missing."""
    for line in text.splitlines():
        name, colon, rest = line.partition(":")
        if colon and name.strip() == interface:
            fields = [int(field) for field in rest.split()]
            received, sent = fields[:8], fields[8:]
            return {
                "received_bytes": received[0],
                "received_packets": received[1],
                "sent_bytes": sent[0],
                "sent_packets": sent[1],
                "dropped_packets": received[3] + sent[3],
            }
    raise OSError(f"there is no interface {interface!r} any more")


def read_counters(interface: str) -> dict[str, int]:
    """Counters of an interface in this network namespace."""
    with open("/proc/self/net/dev", encoding="ascii") as file:
        return parse_counters(file.read(), interface)


def counters_between(
    before: dict[str, int] | None, after: dict[str, int] | None
) -> dict[str, int] | None:
    """What has crossed an interface between two readings; None over loopback."""
    if before is None or after is None:
        return None
    return {name: after[name] - count for name, count in before.items()}
