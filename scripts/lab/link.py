"""The lab's link: two network namespaces and the veth pair between them.

Both interfaces are made inside the namespaces: the machine's own namespace never has them, and no other interface
changes.
"""

import contextlib
import os
import shlex
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from common.processes import one_line

GRACE_S = 2.0
POLL_S = 0.05
# Packets that netem holds: its default of 1,000 would drop some of the packets that are delayed.
NETEM_LIMIT = 100_000


@dataclass(frozen=True)
class End:
    """One host of the lab."""

    namespace: str
    interface: str
    address: str  # link-local

    @property
    def inside(self) -> list[str]:
        """A prefix that starts a command in the namespace. Unlike `ip netns exec` it keeps /sys, with the machine's
        cgroups."""
        return ["nsenter", f"--net=/run/netns/{self.namespace}", "--"]


SERVER = End("io_models_server", "io-models0", "fe80::ff:fe00:1")
LOAD = End("io_models_load", "io-models1", "fe80::ff:fe00:2")
ENDS = (SERVER, LOAD)


class LabError(Exception):
    """One line that says what is wrong, where, and what to do."""


def run_tool(*command: str) -> str:
    """Run a command and return its output. Raises LabError if it fails."""
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
        *("name", SERVER.interface, "type", "veth", "peer"),
        *("name", LOAD.interface, "netns", LOAD.namespace),
    )
    for end in ENDS:
        link, ip = ["dev", end.interface], ["ip", "-n", end.namespace]
        run_tool(*ip, "link", "set", *link, "addrgenmode", "none", "up")
        # No other host is on the link: the kernel need not look for one with the same address, which takes a second.
        run_tool(*ip, "address", "add", f"{end.address}/64", *link, "nodad")


def netem_commands(
    delay_ms: float | None, loss_percent: float | None, rate_mbit: float | None
) -> list[list[str]]:
    """Commands that set delay, loss and rate in each direction of the link; none if no option is given."""
    given = {"delay": (delay_ms, "ms"), "loss": (loss_percent, "%"), "rate": (rate_mbit, "mbit")}
    rest = ["root", "netem", "limit", str(NETEM_LIMIT)]
    for name, (value, unit) in given.items():
        rest += [] if value is None else [name, f"{value:g}{unit}"]
    ends = [] if {delay_ms, loss_percent, rate_mbit} == {None} else ENDS
    return [
        ["tc", "-n", end.namespace, "qdisc", "add", "dev", end.interface, *rest] for end in ends
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


def namespaces() -> list[str]:
    """The lab's namespaces that exist."""
    return [end.namespace for end in ENDS if Path("/run/netns", end.namespace).exists()]


def inhabitants() -> dict[int, str]:
    """Ids and names of the processes in the lab's namespaces."""
    names = {}
    for namespace in namespaces():
        for pid in map(int, run_tool("ip", "netns", "pids", namespace).split()):
            with contextlib.suppress(OSError):  # it has ended
                names[pid] = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    return names


def end_inhabitants() -> None:
    """End the processes in the lab's namespaces: first ask, then kill."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        signalled: set[int] = set()
        deadline = time.monotonic() + GRACE_S
        while (living := inhabitants()) and time.monotonic() < deadline:
            for pid in living.keys() - signalled:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            signalled |= living.keys()
            time.sleep(POLL_S)
    refuse_inhabitants()


def refuse_inhabitants(patience_s: float = 0.0) -> None:
    """Raise LabError if processes still run in the lab's namespaces after a while."""
    deadline = time.monotonic() + patience_s
    while (living := inhabitants()) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    if living:
        which = ", ".join(f"{pid} ({name})" for pid, name in sorted(living.items()))
        raise LabError(f"processes still run in the lab's namespaces, end them first: {which}")


def remove_link() -> None:
    """Remove the namespaces, and with them the pair, which lies inside."""
    for namespace in namespaces():
        run_tool("ip", "netns", "delete", namespace)
