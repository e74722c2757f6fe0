"""What a side is asked before a sweep alone: what it lacks, and whether the way between the sides is there."""

import os
import socket
import sys
from collections.abc import Sequence
from typing import Any

import cpus
import host_checks
import interfaces
from host_side import HostSide

REACH_TIMEOUT_S = 3.0


class PreflightSide(HostSide):
    """A host or network namespace that is looked at before anything is measured."""

    def checks(
        self, roles: list[str], connections: int, compiler: str, address: str | None
    ) -> list[list[Any]]:
        """As host_checks.checks."""
        # .venv/bin/python works as if the venv were activated.
        path = f"{sys.prefix}/bin:{os.environ.get('PATH', os.defpath)}"
        found = host_checks.checks(
            roles=roles, connections=connections, compiler=compiler, address=address, path=path
        )
        return [list(check) for check in found]

    def label(self) -> str:
        return host_checks.label()

    def describe_split(self, split: Sequence[Any]) -> str:
        return cpus.describe(cpus.CpuSplit(*split), cpus.read_topology())

    def architecture(self) -> str:
        return os.uname().machine

    def check_interface(self, interface: str) -> None:
        """Raises NotReady."""
        interfaces.ready_link(interfaces.read_links(), interface)

    def interface_counters(self, interface: str) -> dict[str, int]:
        return interfaces.read_counters(interface)

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
