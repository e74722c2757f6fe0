"""The lab's link: two network namespaces and the veth pair between them.

Both interfaces are made inside the namespaces: the machine's own never sees them, and no other interface is touched.
"""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from processes import one_line

ADDRESS_TIMEOUT_S = 10.0  # detecting a duplicate takes one or two
GRACE_S = 2.0
POLL_S = 0.05
# Packets that netem holds: its default of 1,000 would drop some of what is under way in a delay.
NETEM_LIMIT = 100_000


@dataclass(frozen=True)
class End:
    """One host of the lab. Its MAC address is fixed, and with it the link-local one: the next lab is the same."""

    namespace: str
    interface: str
    mac: str

    @property
    def inside(self) -> list[str]:
        """What starts a command in the namespace. Unlike `ip netns exec` it leaves /sys as it is, with the
        machine's cgroups."""
        return ["nsenter", f"--net=/run/netns/{self.namespace}", "--"]


SERVER = End("io_models_server", "io-models0", "02:00:00:00:00:01")
LOAD = End("io_models_load", "io-models1", "02:00:00:00:00:02")
ENDS = (SERVER, LOAD)


class LabError(Exception):
    """What is wrong, where, and what to do, in one line."""


def run_tool(*command: str) -> str:
    """What a command printed. Raises LabError if it failed."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C must not end it half-way
            check=False,
        )
    except FileNotFoundError:
        raise LabError(f"{command[0]} is not installed, see make setup") from None
    if done.returncode:
        said = one_line(done.stderr or done.stdout)
        raise LabError(f"{shlex.join(command)}: {said or f'status {done.returncode}'}")
    return done.stdout


def build_link() -> None:
    """Make the namespaces and the pair, and bring it up."""
    for end in ENDS:
        run_tool("ip", "netns", "add", end.namespace)
        run_tool("ip", "-n", end.namespace, "link", "set", "lo", "up")
    run_tool(
        *("ip", "-n", SERVER.namespace, "link", "add"),
        *("name", SERVER.interface, "address", SERVER.mac, "type", "veth", "peer"),
        *("name", LOAD.interface, "address", LOAD.mac, "netns", LOAD.namespace),
    )
    for end in ENDS:
        run_tool("ip", "-n", end.namespace, "link", "set", end.interface, "up")


def netem_commands(
    delay_ms: float | None, loss_percent: float | None, rate_mbit: float | None
) -> list[list[str]]:
    """What gives each direction of the link this delay, loss and rate; nothing if none is given."""
    options = [
        *([] if delay_ms is None else ["delay", f"{delay_ms:g}ms"]),
        *([] if loss_percent is None else ["loss", f"{loss_percent:g}%"]),
        *([] if rate_mbit is None else ["rate", f"{rate_mbit:g}mbit"]),
    ]
    if not options:
        return []
    rest = ["root", "netem", "limit", str(NETEM_LIMIT), *options]
    return [
        ["tc", "-n", end.namespace, "qdisc", "add", "dev", end.interface, *rest] for end in ENDS
    ]


def shape_link(commands: list[list[str]]) -> None:
    try:
        for command in commands:
            run_tool(*command)
    except LabError as error:
        raise LabError(
            "no delay, loss or rate on this machine: install the kernel's module sch_netem "
            f"(sudo modprobe sch_netem), or do without ({error})"
        ) from None


def link_local_address(end: End) -> str | None:
    """The end's link-local address; None as long as it has none, or may not use it yet."""
    output = run_tool("ip", "-n", end.namespace, "-j", "-6", "addr", "show", "dev", end.interface)
    return usable_address(json.loads(output), end.interface)


def usable_address(listing: list[dict[str, list[dict[str, object]]]], interface: str) -> str | None:
    """From what `ip -j -6 addr` lists. Raises LabError if another host has the address."""
    for address in (info for entry in listing for info in entry.get("addr_info", [])):
        if address.get("dadfailed"):
            raise LabError(f"{interface}: {address['local']} is a duplicate: another host has it")
        if address.get("scope") == "link" and not address.get("tentative"):
            return str(address["local"])
    return None


def namespaces() -> list[str]:
    """Those of the lab that exist."""
    return [end.namespace for end in ENDS if Path("/run/netns", end.namespace).exists()]


def inhabitants() -> dict[int, str]:
    """Process ids and names of what lives in the lab."""
    found = {}
    for namespace in namespaces():
        for pid in map(int, run_tool("ip", "netns", "pids", namespace).split()):
            with contextlib.suppress(OSError):  # it has ended
                found[pid] = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    return found


def end_inhabitants() -> None:
    """End what lives in the lab, with a moment of grace."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        told: set[int] = set()
        deadline = time.monotonic() + GRACE_S
        while (living := inhabitants()) and time.monotonic() < deadline:
            for pid in living.keys() - told:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            told |= living.keys()
            time.sleep(POLL_S)
    refuse_inhabitants()


def refuse_inhabitants(patience_s: float = 0.0) -> None:
    """Raises LabError if something lives in the lab, even after a while."""
    deadline = time.monotonic() + patience_s
    while (living := inhabitants()) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    if living:
        which = ", ".join(f"{pid} ({name})" for pid, name in sorted(living.items()))
        raise LabError(f"processes still live in the lab's namespaces, end them first: {which}")


def remove_link() -> None:
    """Take the namespaces down, and with them the pair, whose ends both lie inside."""
    for namespace in namespaces():
        run_tool("ip", "netns", "delete", namespace)
