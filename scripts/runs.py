"""What every run of a server begins with, measured or profiled: CPUs, a fresh process, an answer that was checked."""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

import cpus
import load
import machine
import server_process


class Run(NamedTuple):
    server: server_process.Server
    url: str
    split: cpus.CpuSplit
    threads: int  # of the load
    workers: int
    response: bytes

    @property
    def connection_per_request(self) -> bool:
        return server_process.closes_connection(self.response)


def add_arguments(parser: argparse.ArgumentParser, *, duration_s: float) -> None:
    parser.add_argument("--connections", type=int, default=100, help="(default: %(default)s)")
    parser.add_argument("--duration-s", type=float, default=duration_s, help="(%(default)s)")
    parser.add_argument("--warmup-s", type=float, default=0.5, help="(default: %(default)s)")
    parser.add_argument("--host", default="::1", help="numeric address (default: %(default)s)")
    parser.add_argument("--server-cpus", type=int, help="at most so many (default: half of all)")
    parser.add_argument("--workers", default="auto", help="processes: auto, cpus or a number")


@contextlib.contextmanager
def started(arguments: argparse.Namespace) -> Iterator[Run]:
    """A server that answers rightly, on CPUs of its own; this script, and what it starts, on those of the load.

    Raises RunError, or Unavailable if this machine cannot run the server.
    """
    machine.raise_open_files_limit()
    allowed = os.sched_getaffinity(0)
    split = cpus.split(cpus.read_topology(), server_cpus=arguments.server_cpus)
    workers = cpus.workers_for(arguments.workers, split)
    threads = load.threads_for(arguments.connections, len(split.load))
    os.sched_setaffinity(0, split.load)
    try:
        with server_process.running_server(
            arguments.binary,
            host=arguments.host,
            workers=workers,
            prefix=["taskset", "--cpu-list", machine.format_cpu_list(split.server)],
        ) as server:
            response = server_process.verify(arguments.host, server.port)
            url = load.url_of(arguments.host, server.port)
            yield Run(server, url, split, threads, workers, response)
    finally:
        os.sched_setaffinity(0, allowed)  # another run may follow


def _exit(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def end_cleanly_on_sigterm() -> None:
    """SIGTERM becomes an exception, so that what was started is ended on the way out."""
    signal.signal(signal.SIGTERM, _exit)
