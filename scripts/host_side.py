"""What a side of any kind can be asked: which machine this is, its clock, its interfaces, its lock."""

import base64
import contextlib
import os
import socket
import sys
import time
from typing import Any

import cpus
import interfaces
import machine

REACH_TIMEOUT_S = 3.0


def node_of(interface: str | None) -> int | None:
    """The NUMA node of an interface's card, if there is one and it tells."""
    return None if interface is None else interfaces.facts_of([], interface)["numa_node"]


class HostSide:
    """A host or network namespace."""

    def __init__(self) -> None:
        self.held = contextlib.ExitStack()  # ended, the last first, when the side ends
        self.run = self.held.enter_context(contextlib.ExitStack())  # and this when a run does

    def close(self) -> None:
        self.held.close()

    def end_run(self) -> None:
        """Nothing is left of what was started, watched or set for a run."""
        self.run.close()

    def clock(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def boot(self) -> str:
        """The same for all sides on one running kernel."""
        import machine_facts  # noqa: PLC0415  not needed when both sides are here

        return machine_facts.read_boot() or machine_facts.UNKNOWN

    def split_cpus(
        self, setting: dict[str, Any] | None, interface: str | None, server_cpus: int | None
    ) -> cpus.CpuSplit:
        """CPUs for both sides on this machine: as the config says, or chosen, near an interface's card."""
        if setting:
            return cpus.given_split(setting, server_cpus)
        return cpus.split(cpus.read_topology(), node_of(interface), server_cpus)

    def whole_cpus(
        self, side: str, setting: dict[str, Any] | None, interface: str | None
    ) -> list[int]:
        """CPUs for a side that has this machine to itself."""
        if setting:
            return cpus.given(side, setting[side])
        return cpus.whole(cpus.read_topology(), node_of(interface))

    def confine(self, cpu_list: list[int]) -> None:
        """This process, and what it starts from now on, run on these CPUs until the run ends."""
        self.run.callback(os.sched_setaffinity, 0, os.sched_getaffinity(0))
        os.sched_setaffinity(0, cpu_list)

    def keep_off(self, cpu_list: list[int]) -> None:
        """This process, and what it starts from now on, leave these CPUs alone, if there are others."""
        self.confine(sorted(os.sched_getaffinity(0) - set(cpu_list)) or cpu_list)

    def lock(self, wait: bool) -> bool:
        """Hold this machine alone until the side ends; false if another measurement has it."""
        return machine.take_lock(self.held.enter_context(machine.opened_lock()), wait)

    def checks(self, roles: list[str], connections: int, compiler: str) -> list[list[Any]]:
        """As host_checks.checks."""
        import host_checks  # noqa: PLC0415

        # .venv/bin/python works as if the venv were activated.
        path = f"{sys.prefix}/bin:{os.environ.get('PATH', os.defpath)}"
        found = host_checks.checks(
            roles=roles, connections=connections, compiler=compiler, path=path
        )
        return [list(check) for check in found]

    def label(self) -> str:
        import host_checks  # noqa: PLC0415

        return host_checks.label()

    def describe_split(self, split: list[Any]) -> str:
        return cpus.describe(cpus.CpuSplit(*split), cpus.read_topology())

    def architecture(self) -> str:
        return os.uname().machine

    def host_facts(self) -> dict[str, Any]:
        import machine_facts  # noqa: PLC0415

        return machine_facts.read_host()

    def interface_facts(self, interface: str) -> dict[str, Any]:
        return interfaces.facts_of(interfaces.read_links(), interface)

    def interface_counters(self, interface: str) -> dict[str, int]:
        return interfaces.read_counters(interface)

    def address(self, interface: str, wanted: str) -> str:
        return interfaces.find_address(interfaces.read_links(), interface, wanted)

    def check_interface(self, interface: str) -> None:
        """Raises NotReady."""
        interfaces.ready_link(interfaces.read_links(), interface)

    def deliver(self, name: str, content_base64: str) -> str:
        """Put a program beside the modules that were sent here; its path."""
        folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "results", "bin")
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, name)
        with open(path, "wb") as file:
            file.write(base64.b64decode(content_base64))
        os.chmod(path, 0o755)
        return path

    def listen(self, address: str) -> int:
        """Listen until the side ends; the port."""
        family, kind, _, _, bound = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0]
        listener = self.held.enter_context(socket.socket(family, kind))
        listener.bind(bound)
        listener.listen()
        return int(listener.getsockname()[1])

    def reach(self, address: str, port: int) -> None:
        """Connect; OSError if nobody is reached."""
        socket.create_connection((address, port), timeout=REACH_TIMEOUT_S).close()
