"""The side of the checks before a sweep: what the host lacks, and whether the sides can reach each other."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from common import processes
from hosts import checks as hosts_checks
from hosts import cpus, inspection, interfaces
from instruments import speed_loop
from measuring.host_side import HostSide

REACH_TIMEOUT_S = 3.0
LOOP_OVERHEAD_S = 10.0  # of starting Python on a busy machine


class PreflightSide(HostSide):
    """A host or network namespace that is checked before anything is measured."""

    label = staticmethod(inspection.label)
    interface_counters = staticmethod(interfaces.read_counters)

    def checks(
        self, roles: list[str], connections: int, compiler: str, address: str | None
    ) -> list[list[Any]]:
        """The results of hosts.checks.checks()."""
        # .venv/bin/python works as if the venv were activated.
        path = f"{sys.prefix}/bin:{os.environ.get('PATH', os.defpath)}"
        results = hosts_checks.checks(
            roles=roles, connections=connections, compiler=compiler, address=address, path=path
        )
        return [list(check) for check in results]

    def describe_split(self, split: Sequence[Any]) -> str:
        return cpus.describe(cpus.CpuSplit(*split), cpus.read_topology())

    def architecture(self) -> str:
        return os.uname().machine

    def check_interface(self, interface: str) -> None:
        """Raises NotReady."""
        interfaces.ready_link(interfaces.read_links(), interface)

    def listen(self, address: str) -> int:
        """Listen until the side ends; return the port."""
        family, kind, _, _, bound = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0]
        listener = self.held.enter_context(socket.socket(family, kind))
        listener.bind(bound)
        listener.listen()
        return int(listener.getsockname()[1])

    def reach(self, address: str, port: int) -> None:
        """Connect. Raises OSError if nobody answers."""
        socket.create_connection((address, port), timeout=REACH_TIMEOUT_S).close()

    def start_speed_loop(self, cpu_list: list[int], seconds: float) -> None:
        loop = [sys.executable, "-B", os.path.abspath(speed_loop.__file__)]
        loop += [*map(str, cpu_list), "--seconds", str(seconds)]
        self._loop = self.run.enter_context(processes.running(loop))
        self._loop_timeout_s = seconds + LOOP_OVERHEAD_S

    def end_speed_loop(self) -> list[list[float]]:
        """The result of speed_loop.windows(). Raises OSError."""
        try:
            output, errors = self._loop.communicate(timeout=self._loop_timeout_s)
        except subprocess.TimeoutExpired:
            raise OSError(f"no answer within {self._loop_timeout_s:g} s") from None
        finally:
            self.end_run()
        if self._loop.returncode:
            raise OSError(processes.describe_status(self._loop.returncode, errors))
        windows: list[list[float]] = json.loads(output)
        return windows
