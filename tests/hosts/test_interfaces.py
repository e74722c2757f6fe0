"""Interfaces: what makes one unfit, which of its addresses is taken, what it is, and what has crossed it."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from helpers.checkouts import make_program, make_tree
from hosts import interfaces
from hosts.interfaces import Link, NotReady


def address(local: str, scope: str = "global", **flags: bool) -> dict[str, Any]:
    return {"family": "inet6" if ":" in local else "inet", "local": local, "scope": scope, **flags}


LINK_LOCAL = address("fe80::1", "link")
GLOBAL = address("2001:db8::1")
IPV4 = address("192.0.2.1")


def link(*addresses: dict[str, Any], **changes: Any) -> Link:
    """As `ip -j -d address` tells it of one end of a veth pair."""
    return {
        "ifindex": 2,
        "link_index": 3,
        "ifname": "veth0",
        "flags": ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"],
        "mtu": 1500,
        "qdisc": "noqueue",
        "operstate": "UP",
        "linkinfo": {"info_kind": "veth"},
        "addr_info": list(addresses),
        **changes,
    }


NONE_SUCH: dict[str, tuple[Link, str]] = {
    "down": (
        link(LINK_LOCAL, flags=["BROADCAST", "MULTICAST"], operstate="DOWN"),
        "veth0 is down: sudo ip link set veth0 up",
    ),
    "no carrier": (
        link(flags=["NO-CARRIER", "BROADCAST", "UP"], operstate="DOWN"),
        "veth0 has no carrier: is its other end connected and up?",
    ),
    "the link below is down": (link(LINK_LOCAL, operstate="LOWERLAYERDOWN"), "has no carrier"),
    "another name": (link(ifname="lo"), "there is no interface 'veth0', there are: lo"),
    "no address": (link(), "veth0 has no link-local address, it has: none"),
    "others": (link(GLOBAL, IPV4), "has no link-local address, it has: 2001:db8::1, 192.0.2.1"),
    # What the other end of a point-to-point link has is no address of this one.
    "peer": (link({"scope": "link", "address": "fe80::2"}), "it has: none"),
    "tentative": (
        link(LINK_LOCAL | {"tentative": True}),
        "fe80::1 of veth0 is still tentative (duplicate address detection): try again",
    ),
    "duplicate": (
        link(LINK_LOCAL | {"dadfailed": True, "tentative": True}),
        "fe80::1 of veth0 is in use by another host (duplicate address detection failed)",
    ),
}


@pytest.mark.parametrize("fault", NONE_SUCH)
def test_interface_that_is_not_ready_is_one_line(fault: str) -> None:
    one, said = NONE_SUCH[fault]
    with pytest.raises(NotReady) as raised:
        interfaces.find_address([one], "veth0", "link-local")
    assert said in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("link-local", "fe80::1"),
        ("global", "2001:db8::1"),
        ("ipv4", "192.0.2.1"),
        ("fe80::2", "fe80::2"),
        ("fe80:0:0::2%veth0", "fe80::2"),
        ("2001:DB8::2", "2001:db8::2"),
        ("192.0.2.2", "192.0.2.2"),
    ],
)
def test_address_is_the_first_of_its_kind_or_the_one_that_is_named(wanted: str, found: str) -> None:
    second = (address("fe80::2", "link"), address("2001:db8::2"), address("192.0.2.2"))
    addresses = (address("169.254.0.1", "link"), IPV4, GLOBAL, LINK_LOCAL, *second)
    others = link(address("fe80::9", "link"), ifname="eth9")
    if wanted == "ipv4":  # which has no kinds here
        addresses = addresses[1:]
    assert interfaces.find_address([others, link(*addresses)], "veth0", wanted) == found


def test_tentative_address_is_passed_over_for_one_that_is_ready() -> None:
    addresses = (GLOBAL | {"tentative": True}, address("2001:db8::2"))
    assert interfaces.find_address([link(*addresses)], "veth0", "global") == "2001:db8::2"


def test_interface_without_a_state_of_its_own_is_ready() -> None:
    assert interfaces.ready_link([link(operstate="UNKNOWN")], "veth0")["mtu"] == 1500


def test_every_interface_of_this_machine_is_read() -> None:
    (loopback,) = [one for one in interfaces.read_links() if one["ifname"] == "lo"]
    assert "127.0.0.1" in [one["local"] for one in loopback["addr_info"]]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            "echo 'Option \"-j\" is unknown,'; echo 'try \"ip -help\".' >&2; exit 255",
            "ip failed: try",
        ),
        ("echo '1: lo: <LOOPBACK>'", "ip did not print JSON"),
        (None, "^ip is not installed, see make setup$"),
    ],
)
def test_ip_that_does_not_do_is_one_line(
    script: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if script:
        make_program(tmp_path / "ip", script)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError, match=said):
        interfaces.read_links()


# --- What it is ---


MAC = "02:00:00:00:00:0a"


def card(root: Path, **files: str) -> None:
    folder = root / "sys/class/net/eth0"
    (root / "sys/bus/pci/drivers/ixgbe").mkdir(parents=True)
    (root / "sys/devices/pci0/net").mkdir(parents=True)
    (root / "sys/devices/pci0/driver").symlink_to(root / "sys/bus/pci/drivers/ixgbe")
    folder.mkdir(parents=True)
    (folder / "device").symlink_to(root / "sys/devices/pci0")
    for name, text in {"address": MAC, **files}.items():
        ((folder / "device" if name == "numa_node" else folder) / name).write_text(f"{text}\n")


@pytest.mark.parametrize(
    ("files", "changes", "told"),
    [
        ({"speed": "10000", "numa_node": "1"}, {"linkinfo": {}}, ("ixgbe", 10000, 1)),
        ({"speed": "-1", "numa_node": "-1"}, {"linkinfo": {}}, ("ixgbe", None, None)),
        # One of another namespace, with the same name.
        (
            {"speed": "10000", "numa_node": "1"},
            {"linkinfo": {}, "address": "02:00:00:00:00:0b"},
            (None,) * 3,
        ),
    ],
)
def test_facts_of_a_card_are_those_of_its_driver_or_null(
    files: dict[str, str], changes: dict[str, Any], told: tuple[object, ...], tmp_path: Path
) -> None:
    card(tmp_path, **files)
    one = link(
        LINK_LOCAL, **{"ifname": "eth0", "address": MAC, "mtu": 9000, "qdisc": "mq", **changes}
    )
    driver, speed, node = told
    assert interfaces.facts_of([one], "eth0", str(tmp_path)) == {
        "interface": "eth0",
        "driver": driver,
        "mtu_bytes": 9000,
        "speed_mbit_per_second": speed,
        "queueing": "mq",
        "numa_node": node,
    }


def test_speed_that_a_veth_makes_up_is_no_fact(tmp_path: Path) -> None:
    make_tree(tmp_path, {"sys/class/net/veth0/speed": "10000\n"})
    facts = interfaces.facts_of([link(LINK_LOCAL)], "veth0", str(tmp_path))
    assert (facts["driver"], facts["speed_mbit_per_second"]) == ("veth", None)


# --- What has crossed it ---

COUNTERS = """\
Inter-|   Receive                        |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier
    lo:    1000       10    0    0    0     0   0   0     1000       10    0    0    0     0    0   0
 veth0:1234567     8901    1    2    3     4    5   6  7654321     1098    7    8    9    10   11  12
veth01:      1        1    1    1    1     1    1   1        1        1    1    1    1     1    1   1
"""


def test_counters_are_those_of_the_interface() -> None:
    assert interfaces.parse_counters(COUNTERS, "veth0") == {
        "received_bytes": 1234567,
        "received_packets": 8901,
        "sent_bytes": 7654321,
        "sent_packets": 1098,
        "dropped_packets": 10,
    }
    with pytest.raises(OSError, match="there is no interface 'veth' any more"):
        interfaces.parse_counters(COUNTERS, "veth")


def test_counters_agree_with_ip() -> None:
    """Whatever else is sent meanwhile."""

    def packets_by_ip() -> int:
        command = ["ip", "-j", "-s", "link", "show", "lo"]
        shown = subprocess.run(command, capture_output=True, text=True, check=True)
        return int(json.loads(shown.stdout)[0]["stats64"]["rx"]["packets"])

    before = packets_by_ip()
    ours = interfaces.read_counters("lo")
    assert before <= ours["received_packets"] <= packets_by_ip()
    assert ours["sent_bytes"] == ours["received_bytes"]


def test_what_has_crossed_is_a_difference_and_nothing_over_loopback() -> None:
    before = interfaces.parse_counters(COUNTERS, "veth0")
    after = before | {"sent_bytes": before["sent_bytes"] + 5}
    assert interfaces.counters_between(before, after) == dict.fromkeys(before, 0) | {
        "sent_bytes": 5
    }
    assert interfaces.counters_between(None, None) is None


def test_netem_is_told_with_what_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another delay is another network."""
    said = "qdisc netem 8001: root refcnt 2 limit 100000 delay 5ms"
    make_program(tmp_path / "tc", f"echo '{said}'")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    told = interfaces.queueing_of({"qdisc": "netem", "ifname": "veth0"})
    assert told == "netem limit 100000 delay 5ms"
    assert interfaces.queueing_of({"qdisc": "noqueue", "ifname": "veth0"}) == "noqueue"
