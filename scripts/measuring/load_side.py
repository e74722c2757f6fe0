"""The side of the load: ask the server for its answer, and load it."""

import contextlib
import time
from typing import Any

from hosts import proc
from instruments import disturbance, open_loop, server_process, sockets
from instruments.wrk import Wrk, running_load
from measuring.host_side import HostSide
from sweep.workloads import Workload

# Within this time a load makes its connections, and the server answers on all of them; then the load is paused.
BEGIN_S, BEGIN_S_PER_CONNECTION = 0.03, 1e-4
# The least time for the server to answer pending requests.
SETTLE_S = 0.02  # after its first requests
BLOCK_SETTLE_S = 0.01
HANDLER_SHARE = 0.95  # of the time that the handlers of the checked answers take at least
SPARE_PORTS = 500  # of a block of ports, for those that other programs use
IDLE_TIMEOUT_S = 1.0  # for the one answer of an idle connection


class LoadSide(HostSide):
    """One load at a time. Raises LoadError, RunError or OSError."""

    wrk: Wrk
    pair: list[Wrk]
    _load: contextlib.ExitStack
    requests_until_close = staticmethod(server_process.requests_until_close)
    waiting_ports = staticmethod(sockets.waiting_ports)

    def verify(self, address: str, port: int, workload: dict[str, Any]) -> dict[str, Any]:
        """Check the server's answer; return it as Latin-1, and the headers that vary: server_process.Verified.

        workload: its changes.
        """
        asked = Workload(**workload)
        started_s = time.monotonic()
        verified = server_process.verify(
            address,
            port,
            asked.body,
            is_last=asked.connection_per_request,
            timeout_s=server_process.ANSWER_TIMEOUT_S + asked.handler_s,
        )
        took_s = time.monotonic() - started_s
        least_s = server_process.VERIFY_REQUESTS * asked.handler_s
        if asked.handler_every == 1 and took_s < HANDLER_SHARE * least_s:
            raise server_process.WrongAnswer(
                f"the server's handler does not take its time: {server_process.VERIFY_REQUESTS} answers came after"
                f" {1000 * took_s:.1f} ms, not {1000 * least_s:.1f}"
            )
        return {"response": verified.response.decode("latin-1"), "varying": verified.varying}

    def open_idle(self, address: str, port: int, workload: dict[str, Any]) -> tuple[int, int, int]:
        """Open the workload's idle connections, each of which gets one answer. They close when the run ends.

        Returns how many are open, and the first and last of their ports, which no load's connection has. There are
        fewer than asked for if this process may not have so many files twice, for server and reference. Raises
        Unavailable if the server does not serve so many.
        """
        asked = Workload(**workload)
        limit = (proc.raise_open_files_limit() - proc.SPARE_DESCRIPTORS) // 2
        wanted = min(asked.idle_connections, limit)
        timeout_s = IDLE_TIMEOUT_S + asked.handler_s
        first = last = sockets.first_port_of_block(wanted + SPARE_PORTS)
        ports, served = range(first, proc.HIGHEST_PORT + 1), 0
        try:
            for connection in server_process.serve_each(address, port, wanted, timeout_s, ports):
                self.run.enter_context(connection)
                last = connection.getsockname()[1]
                served += 1
        except (OSError, server_process.WrongAnswer) as error:
            raise server_process.Unavailable(
                f"it does not serve {wanted} idle connections: number {served + 1} got no answer ({error})"
            ) from None
        return wanted, first, last

    def start_load(self, url: str, **options: Any) -> list[str]:
        """Start a load and return its command. options: of running_load()."""
        proc.raise_open_files_limit()
        self._load = self.run.enter_context(contextlib.ExitStack())
        self.wrk = self._load.enter_context(running_load(url, **options))
        return self.wrk.command

    def read_idle(self, cpus: list[int], tells_pressure: bool) -> disturbance.Reading:
        """Read the counters of these CPUs before a load."""
        return disturbance.read(0, cpus, [], tells_pressure)

    def read_at(
        self, elapsed_s: float, cpus: list[int], tells_waits: bool, tells_pressure: bool
    ) -> dict[str, Any]:
        """Wait until so many seconds have passed since the load's start, then read its counters."""
        self.wrk.wait_until(elapsed_s)
        pids = [self.wrk.process.pid]
        threads = proc.threads_of(pids) if tells_waits else []
        cpu_ns = proc.cpu_time_ns(pids)
        return {
            "elapsed_s": time.monotonic() - self.wrk.started_s,
            "cpu_ns": cpu_ns,
            "disturbance": disturbance.read(cpu_ns, cpus, threads, tells_pressure),
        }

    def wait_until(self, elapsed_s: float) -> None:
        """Wait until so many seconds have passed since the load's start. Raises LoadError if it ends before."""
        self.wrk.wait_until(elapsed_s)

    def finish_load(self) -> dict[str, Any]:
        """Wait for the load's end and return its result."""
        try:
            return self.wrk.finish()
        finally:
            self.end_load()

    def end_load(self) -> None:
        self._load.close()

    def run_at_rate(
        self, command: list[str], duration_s: float, cpus: list[int], tells_pressure: bool
    ) -> dict[str, Any]:
        """Run an open loop to its end: its result, and readings of this side's counters before and after it."""
        proc.raise_open_files_limit()
        before = disturbance.read(proc.own_time_ns(), cpus, [], tells_pressure)
        result = open_loop.run(command, duration_s)
        after = disturbance.read(proc.own_time_ns(), cpus, [], tells_pressure)
        return {**result, "readings": ({"disturbance": before}, {"disturbance": after})}

    # --- Two loads, of which at most one runs ---

    def start_pair(self, urls: list[str], **options: Any) -> None:
        """Start a load for each URL and pause it when the server has answered; options: as of start_load()."""
        proc.raise_open_files_limit()
        self._load = self.run.enter_context(contextlib.ExitStack())
        self.pair = []
        for url in urls:
            self.pair.append(self._load.enter_context(running_load(url, **options)))
            time.sleep(BEGIN_S + BEGIN_S_PER_CONNECTION * options["connections"])
            self.pair[-1].stop()
            time.sleep(SETTLE_S)

    def alternate(self, order: list[int], slice_s: float, pause_s: float) -> list[float]:
        """Let one load run at a time, in this order; return the seconds that each ran."""
        seconds = [0.0] * len(self.pair)
        for side in order:
            wrk = self.pair[side]
            started_s = time.monotonic()
            wrk.go_on()
            time.sleep(slice_s)
            wrk.check_running()
            wrk.stop()
            seconds[side] += time.monotonic() - started_s
            time.sleep(pause_s)
        time.sleep(max(0.0, BLOCK_SETTLE_S - pause_s))
        for wrk in self.pair:
            wrk.check_stopped()
        return seconds

    def read_pair_idle(self, cpus: list[int]) -> dict[str, Any]:
        """Read the CPU time of both loads, and the counters of these CPUs."""
        own_ns = proc.cpu_time_ns([wrk.process.pid for wrk in self.pair])
        return {"disturbance": disturbance.read(own_ns, cpus, [], tells_pressure=False)}

    def finish_pair(self) -> list[dict[str, Any]]:
        """End both loads; return the requests, bytes and errors of each in all."""
        names = ("requests", "response_bytes", "errors_by_kind")
        try:
            for wrk in self.pair:
                wrk.go_on()
            for wrk in self.pair:
                wrk.interrupt()
            results = [wrk.result() for wrk in self.pair]
            return [{name: result[name] for name in names} for result in results]
        finally:
            self.end_load()
