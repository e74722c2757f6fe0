"""The methods of every side: its machine, clock, CPUs, interface and lock."""

import base64
import contextlib
import os
import time
from typing import Any

from common import modules
from hosts import cpus, identity, interfaces, reading
from hosts.lock import opened_lock, take_lock


def node_of(interface: str | None) -> int | None:
    """The NUMA node of an interface's card, if it is known."""
    if interface is None:
        return None
    node: int | None = interfaces.facts_of(interfaces.read_links(), interface)["numa_node"]
    return node


class HostSide:
    """A host or network namespace."""

    def __init__(self) -> None:
        self.held = contextlib.ExitStack()  # closed when the side ends
        self.run = self.held.enter_context(contextlib.ExitStack())  # closed when a run ends

    def close(self) -> None:
        self.held.close()

    def end_run(self) -> None:
        """End all that was started, watched or set for a run."""
        self.run.close()

    def clock(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def boot(self) -> str:
        """A value that all sides on one running kernel share."""
        return identity.read_boot() or f"{reading.UNKNOWN} of {os.uname().nodename}"

    def split_cpus(self, setting: dict[str, Any] | None, interface: str | None) -> cpus.CpuSplit:
        """Choose CPUs for both sides on this machine, as the config says or near an interface's card."""
        if setting:
            return cpus.configured_split(setting)
        return cpus.choose_split(cpus.read_topology(), node_of(interface))

    def whole_cpus(
        self, side: str, setting: dict[str, Any] | None, interface: str | None
    ) -> list[int]:
        """Choose CPUs for a side that has this machine alone."""
        if setting:
            return cpus.configured_cpus(side, setting[side])
        return cpus.choose_whole(cpus.read_topology(), node_of(interface))

    def confine(self, cpu_list: list[int]) -> None:
        """Confine this process, and all that it starts later, to these CPUs until the run ends."""
        self.run.callback(os.sched_setaffinity, 0, os.sched_getaffinity(0))
        os.sched_setaffinity(0, cpu_list)

    def keep_off(self, cpu_list: list[int]) -> None:
        """Keep this process, and all that it starts later, off these CPUs, if there are others."""
        self.confine(sorted(os.sched_getaffinity(0) - set(cpu_list)) or cpu_list)

    def lock(self) -> bool:
        """Lock this machine until the side ends; false if another measurement uses it."""
        return take_lock(self.held.enter_context(opened_lock()), wait=False)

    def host_facts(self) -> dict[str, Any]:
        from hosts import facts  # noqa: PLC0415

        return facts.read_host()

    def interface_facts(self, interface: str) -> dict[str, Any]:
        return interfaces.facts_of(interfaces.read_links(), interface)

    def address(self, interface: str, wanted: str) -> str:
        return interfaces.find_address(interfaces.read_links(), interface, wanted)

    def deliver(self, name: str, content_base64: str) -> str:
        """Write a program into the folder of the modules that were sent here; return its path."""
        folder = os.path.join(modules.SCRIPTS, "results", "bin")
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, name)
        with open(path, "wb") as file:
            file.write(base64.b64decode(content_base64))
        os.chmod(path, 0o755)
        return path
