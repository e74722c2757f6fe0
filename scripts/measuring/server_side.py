"""The side of the server: start it, and read what the kernel there knows about it."""

from typing import Any

from hosts import interfaces, proc
from hosts.cpus import format_cpu_list
from instruments import disturbance, server_process, sockets, supervisor
from measuring.host_side import HostSide

CLOSE_TIMEOUT_S = 2.0  # for a server to close connections after their clients have ended


class ServerSide(HostSide):
    """One server at a time. Raises RunError, Unavailable or OSError."""

    server: server_process.Server
    reference: "ServerSide"

    accepted_connections = staticmethod(sockets.accepted_connections)
    time_wait = staticmethod(sockets.time_wait)

    _closed: sockets.ClosedConnections | None = None
    _interface: str | None = None
    _group: str | None = None
    _idle = range(0)  # ports of the idle connections
    _idle_count = 0

    def start_server(
        self,
        binary: str,
        *,
        address: str,
        interface: str | None,
        scope: str | None,
        workers: int,
        options: list[str],
        cpus: list[int],
        shares_cpus: bool,
        watch_closed: bool = False,
        start_timeout_s: float,
    ) -> dict[str, Any]:
        """Start the server on these CPUs; return its `port` and `command`.

        interface: the one over which the load comes, None for loopback; scope: the same, if the address is link-local;
        watch_closed: whether the kernel shall report the server's connections when they close.
        """
        proc.raise_open_files_limit()
        self.set_cpus(cpus, shares_cpus)
        self._interface = interface
        if watch_closed:
            self._closed = self.run.enter_context(sockets.ClosedConnections())
        self.server = self.run.enter_context(
            server_process.running_server(
                binary,
                host=address,
                interface=scope,
                workers=workers,
                options=options,
                prefix=["taskset", "--cpu-list", format_cpu_list(cpus)],
                start_timeout_s=start_timeout_s,
            )
        )
        self._group = supervisor.server_group(self.server.process.pid)
        return {"port": self.server.port, "command": self.server.command}

    def set_cpus(self, cpus: list[int], shares_cpus: bool) -> None:
        """Set the server's CPUs, and whether the load has them too."""
        self._cpus, self._shares_cpus = cpus, shares_cpus

    def check_running(self, within_s: float = 0) -> None:
        self.server.check_running(within_s)

    def read(self, tells_pressure: bool) -> dict[str, Any]:
        """Read counters: CPU time and waiting of the server's processes, and of their CPUs.

        tells_pressure: whether to read the machine's figure for tasks that wait for CPUs. The threads of a server with
        more threads than CPUs wait for each other, which cannot be distinguished from waiting for other processes.
        """
        self.server.check_running()
        cpu = self.read_cpu()
        threads = proc.threads_of(cpu.pids)
        waits_for_itself = len(threads) > len(self._cpus) or self._shares_cpus
        return {
            "threads_ns": proc.thread_times_ns(threads),
            "cpu": cpu,
            "memory_peak_kib": proc.memory_peak_kib(cpu.pids),
            "disturbance": disturbance.read(
                0,  # the readings of `cpu` have it
                self._cpus,
                [] if waits_for_itself else threads,
                tells_pressure and not waits_for_itself,
            ),
            "interface": interfaces.read_counters(self._interface) if self._interface else None,
        }

    def read_cpu(self) -> proc.CpuReading:
        return proc.read_cpu(self.server.process.pid, lambda: self.server.pids, self._group)

    def note_idle(self, count: int, first_port: int, last_port: int) -> None:
        """Remember the idle connections: so many from these ports must be established. Raises Unavailable."""
        self._idle, self._idle_count = range(first_port, last_port + 1), count
        if lost := self.lost_idle():
            raise server_process.Unavailable(
                f"it does not keep {count} idle connections: {count - lost} are established"
            )

    def lost_idle(self) -> int:
        """How many of these are no longer established."""
        return max(0, self._idle_count - sockets.count_established(self.server.port, self._idle))

    def read_bytes_sent(self) -> dict[str, int]:
        """Bytes sent on each established connection that is not idle, by its peer."""
        return sockets.read_bytes_sent_by_peer(self.server.port, self._idle)

    def read_connections(self) -> list[int]:
        return list(self.read_bytes_sent().values())

    def memory_peak_kib(self) -> int:
        return proc.memory_peak_kib(self.server.pids)

    def wait_until_closed(self) -> int:
        return sockets.wait_until_closed(self.server.port, CLOSE_TIMEOUT_S, self._idle)

    def end_watching(self) -> None:
        if self._closed:
            self._closed.end()

    def has_closed_more_than(self, number: int) -> bool:
        """Whether more than so many connections have closed since the last call of take_closed()."""
        return self._closed is not None and self._closed.has_more_than(number, self.server.port)

    def take_closed(self, expected: int) -> list[int] | None:
        """Bytes sent on each connection that has closed since the last call; None if some were missed."""
        if self._closed is None:
            return None
        # Some servers close idle connections when they stop.
        closed = self._closed.take(self.server.port, expected, self._idle)
        return None if closed is None else [connection.bytes_sent for connection in closed]

    def stop_server(self) -> list[dict[str, int]]:
        """Stop the server and return the counts of each worker."""
        self.server.stop()
        return self.server.counts

    # --- The paired phase ---

    def start_reference(self, binary: str, **options: Any) -> dict[str, Any]:
        """Start a second server while the first runs; as start_server()."""
        self.reference = ServerSide()
        self.run.callback(self.reference.close)
        return self.reference.start_server(binary, **options)

    def read_pair_cpu(self) -> list[proc.CpuReading]:
        return [side.read_cpu() for side in (self, self.reference)]

    def read_pair(self) -> dict[str, Any]:
        """Read CPU times and bytes sent by peer of server and reference, and the counters of their CPUs."""
        self.check_running()
        self.reference.check_running()
        return {
            "cpu": self.read_pair_cpu(),
            "bytes_sent": [side.read_bytes_sent() for side in (self, self.reference)],
            # What these readings cost, of which thousands of connections make much, is not other work.
            "disturbance": disturbance.read(
                proc.own_time_ns(), self._cpus, [], tells_pressure=False
            ),
        }

    def note_reference_idle(self, count: int, first_port: int, last_port: int) -> None:
        self.reference.note_idle(count, first_port, last_port)

    def check_reference(self) -> None:
        self.reference.check_running()
