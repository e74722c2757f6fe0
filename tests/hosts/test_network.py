"""`network` of the config: its faults, a line each, and the commands that it becomes, in which nothing can hide."""

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.checkouts import ROOT
from hosts import network
from workflow.config_check import schema_faults

SCHEMA = yaml.safe_load((ROOT / "schemas/config.schema.yaml").read_text())
DEFAULTS = network.Network()._asdict()
LAB = {"interface": "eth0", "server": "netns:one", "load": "netns:two"}


def faults(**changes: Any) -> list[str]:
    """Those of the schema, else what it cannot see."""
    return schema_faults({"network": changes}, SCHEMA) or list(network.faults(DEFAULTS | changes))


def test_defaults_are_those_of_the_schema() -> None:
    of_schema = SCHEMA["properties"]["network"]["properties"]
    of_schema["load"] = of_schema["server"]
    assert {name: key["default"] for name, key in of_schema.items()} == DEFAULTS


GOOD: list[dict[str, Any]] = [
    {},
    LAB,
    {"server": "ssh:a", "load": "ssh:a"},
    {"server": "netns:a.b-c_d", "load": "netns:a.b-c_d"},
    *(
        {**LAB, "load": f"ssh:{host}"}
        for host in ("lab", "10.0.0.1", "root@host.example", "fe80::1%eth0", "[fe80::1%eth0]")
    ),
    *(
        {**LAB, "address": address}
        for address in ("global", "ipv4", "fe80::1", "fe80::1%eth0", "10.0.0.1")
    ),
]


@pytest.mark.parametrize("changes", GOOD)
def test_what_is_meant_is_no_fault(changes: dict[str, Any]) -> None:
    assert faults(**changes) == []


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "no such address": ({**LAB, "address": "lan"}, "network.address: found 'lan', allowed: link-l"),
    "prefix length": ({**LAB, "address": "10.0.0.1/8"}, "network.address: found '10.0.0.1/8'"),
    "apart over loopback": (
        {"load": "ssh:host"},
        "network.interface: found loopback, but the server runs at here and the load at ssh:host",
    ),
    "together over a link": (
        {**LAB, "load": "netns:one"},
        "network.load: found 'netns:one', where the server runs too",
    ),
    "no such file": ({"ssh_config": "no/such"}, "network.ssh_config: there is no file 'no/such'"),
    "unknown key": ({"servers": "here"}, "network.servers: unknown key (did you mean 'server'?)"),
    "number": ({"interface": 5}, "network.interface: found 5, allowed: loopback, or the name"),
    "nothing": ({"server": None}, "network.server: found nothing, allowed: here, netns:NAME or"),
    "no kind of place": ({"server": "host"}, "network.server: found 'host'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_one_line(fault: str) -> None:
    changes, said = FAULTS[fault]
    (line,) = faults(**changes)
    assert line.startswith(said) and "\n" not in line


HOSTILE = [
    "-oProxyCommand=x",
    "-x",
    "a b",
    "a;b",
    "$(a)",
    "`a`",
    "a\nb",
    "a\n",
    "'",
    '"',
    "../a",
    "a/b",
    "",
]


@pytest.mark.parametrize("word", HOSTILE)
def test_names_hold_nothing_that_becomes_an_option_a_path_or_a_second_word(word: str) -> None:
    for key in ("server", "load"):
        for kind in ("ssh:", "netns:"):
            (line,) = faults(**{key: kind + word})
            assert line.startswith(f"network.{key}: found ")


@pytest.mark.parametrize("word", ["-x", "a b", "a/b", "a:b", "a%b", "a\n", "", "a" * 16])
def test_interface_is_a_name_that_the_kernel_takes(word: str) -> None:
    for key in ("interface", "load_interface"):
        (line,) = faults(**{key: word})
        assert line.startswith(f"network.{key}: found ")


# --- Commands ---

ARGUMENTS = ["python3", "-c", "a 'b' \"c\" $d `e` \\f\n;g", ""]


def test_command_here_is_the_command() -> None:
    assert network.command_at("here", None, ARGUMENTS) == ARGUMENTS


def test_namespace_is_entered_and_the_command_is_no_option_of_that() -> None:
    command = network.command_at("netns:one", None, ["--wall"])
    assert command == ["nsenter", "--net=/run/netns/one", "--", "--wall"]


def test_what_another_hosts_shell_gets_are_the_same_words() -> None:
    *_, separator, host, words = network.command_at(
        "ssh:host", None, ["printf", "%s\\0", *ARGUMENTS]
    )
    assert (separator, host) == ("--", "host")
    said = subprocess.run(["sh", "-c", words], capture_output=True, text=True, check=True).stdout
    assert said.split("\0")[:-1] == ARGUMENTS


@pytest.mark.parametrize("more", [{}, {"master": True}, {"control": "check"}])
def test_ssh_never_asks_and_its_file_is_one_word(more: dict[str, Any], tmp_path: Path) -> None:
    config = tmp_path / "a file of -o options"
    config.write_text("Host *\n  RequestTTY force\n  LocalForward 1 [::1]:2\n  BatchMode no\n")
    command = network.ssh_command("ssh:someone@host", str(config), **more)
    assert command[:3] == ["ssh", "-F", str(config)]
    # -G: the options as ssh takes them, with those of the file.
    shown = subprocess.run(
        [command[0], "-G", *(word for word in command[1:] if word not in ("-O", "check"))],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    options = dict(line.split(" ", 1) for line in shown)
    assert options["batchmode"] == "yes" and options["requesttty"] == "false"
    assert options["user"] == "someone" and options["hostname"] == "host"
    assert options["clearallforwardings"] == "yes"
    assert options["controlmaster"] == ("true" if more.get("master") else "false")


def test_only_ipv6_link_local_addresses_have_a_scope() -> None:
    assert network.with_scope("fe80::1", "eth0") == "fe80::1%eth0"
    for address in ("fd00::1", "2001:db8::1", "169.254.0.1", "10.0.0.1", "::1"):
        assert network.with_scope(address, "eth0") == address


# --- By hand ---


def test_json_is_what_the_config_holds() -> None:
    net = network.from_json(json.dumps(DEFAULTS | LAB))
    assert net.places == ["netns:one", "netns:two"] and not net.is_loopback
    assert network.from_json("{}") == network.Network()


@pytest.mark.parametrize(
    "text", ["", "[1]", "5", '{"host": 1}', '{"server": "host"}', '{"load": null}', '{"server": 5}']
)
def test_json_that_is_no_network_is_an_error_of_the_command_line(text: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        network.from_json(text)


def test_path_of_a_shared_connection_fits_into_a_sockets_address() -> None:
    option = next(word for word in network.ssh_command("ssh:a", None) if "ControlPath" in word)
    path = option.partition("=")[2].replace("%C", "0" * 40)
    assert len(path) + len(".0123456789abcdef") <= 104  # ssh makes it under a longer name first
    assert shlex.quote(path) == path
