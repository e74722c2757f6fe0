"""What every run of a server begins with, measured or profiled: two sides, CPUs, a fresh process, a checked answer."""

import argparse
import base64
import contextlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, NoReturn, TypeVar

import cells
import cpus
import load
import machine
import network
import server_process
import sides
import start_failures
from host_side import HostSide
from load_side import LoadSide
from server_side import ServerSide

# What a user or a machine can cause: one line each.
FAULTS = (server_process.RunError, load.LoadError, cpus.CpuFault, OSError)
ENDING_S = 1.0  # a server that crashes is gone for some of us before it is for others
# Beyond warm-up and load: what a run takes at most, with the answers to wait for.
OVERHEAD_S = 120
MOST_UNSTOPPED = 2  # attempts that wrk spoilt

ServerS = TypeVar("ServerS", bound=HostSide)
LoadS = TypeVar("LoadS", bound=HostSide)
ResultT = TypeVar("ResultT")


class Sides(NamedTuple, Generic[ServerS, LoadS]):
    """Where server and load run."""

    network: network.Network
    server: ServerS
    load: LoadS
    apart: bool  # on different machines
    round_trips_s: dict[str, float]  # of a question to server and load, where they are elsewhere
    clocks_ahead_s: dict[str, float]  # of server and load, by how much, where they are elsewhere

    @property
    def are_here(self) -> bool:
        return self.network.places == [network.HERE]


class Run(NamedTuple):
    sides: Sides[Any, LoadSide]
    port: int
    command: list[str]
    address: str  # as the load takes it
    split: cpus.CpuSplit
    connections: int
    threads: int  # of the load
    workers: int
    verified: server_process.Verified

    @property
    def response(self) -> bytes:
        return self.verified.response

    @property
    def url(self) -> str:
        return load.url_of(self.address, self.port)

    def verify(self) -> server_process.Verified:
        """The server's answer, which was checked, or RunError."""
        told = self.sides.load.verify(self.address, self.port)
        return server_process.Verified(told["response"].encode("latin-1"), told["varying"])

    def answers_as_before(self) -> bool:
        """Whether the server's answer is still the one that was checked. Raises RunError if there is none."""
        try:
            return server_process.is_same_answer(self.verify().response, self.response)
        except server_process.WrongAnswer:
            return False
        except server_process.RunError as error:
            self.sides.server.check_running()
            raise server_process.RunError(f"after the run {error}") from None

    def requests_until_close(self, most: int, within_s: float) -> int | None:
        return self.sides.load.requests_until_close(self.address, self.port, most, within_s)

    def start_load(self, duration_s: float, expected_body: str | None = None) -> list[str]:
        """Start a load; its command."""
        return self.sides.load.start_load(
            self.url,
            connections=self.connections,
            threads=self.threads,
            duration_s=duration_s,
            expected_body=expected_body,
        )

    @property
    def connection_per_request(self) -> bool:
        return server_process.closes_connection(self.response)


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What every script that runs a server is asked: which server, how much load, and where."""

    binary: str
    connections: int
    duration_s: float
    warmup_s: float
    host: str
    network: network.Network
    cpus: dict[str, Any] | str | None
    workers: str
    start_timeout_s: float

    @property
    def load_s(self) -> float:
        """Seconds of load in an attempt."""
        return self.warmup_s + self.duration_s


@dataclass(frozen=True, kw_only=True)
class CellArguments(Arguments):
    """What the script that measures a cell is asked besides."""

    output: str
    server: str
    repeat: int
    disturbed_retries: int
    reference: str  # empty: no paired phase
    paired_s: float

    @property
    def load_s(self) -> float:
        return super().load_s + 4 * self.paired_s


def add_arguments(parser: argparse.ArgumentParser, *, duration_s: float) -> None:
    parser.add_argument("--connections", type=int, default=100, help="(default: %(default)s)")
    parser.add_argument("--duration-s", type=float, default=duration_s, help="(%(default)s)")
    parser.add_argument("--warmup-s", type=float, default=0.5, help="(default: %(default)s)")
    parser.add_argument(
        "--host", default="::1", help="numeric address, over loopback (%(default)s)"
    )
    parser.add_argument(
        "--network",
        type=network.from_json,
        default=network.Network(),
        help="where the sides run, as in the config, as JSON (default: here, over loopback)",
    )
    parser.add_argument("--cpus", type=json.loads, help="as in the config, as JSON (default: auto)")
    parser.add_argument("--workers", default="auto", help="processes: auto, cpus or a number")
    parser.add_argument(
        "--start-timeout-s",
        type=float,
        help="within which the server must listen (as in the sweep, or"
        f" {server_process.START_TIMEOUT_S:g})",
    )


def parse_options(parser: argparse.ArgumentParser) -> dict[str, Any]:
    """The options by name. The sweep decides the time limit of a start if no option does.

    It is no parameter of the rules, so a result stays good when the limit changes.
    """
    options = vars(parser.parse_args())
    if options["start_timeout_s"] is None:
        _, config = read_sweep()
        described = config.get("external", {}).get(os.path.basename(options["binary"]), {})
        default_s = config.get("start_timeout_s", server_process.START_TIMEOUT_S)
        options["start_timeout_s"] = float(described.get("start_timeout_s", default_s))
    return options


def read_sweep() -> tuple[str | None, dict[str, Any]]:
    """When the sweep began that runs here, and its config; None and an empty one if a script runs by hand."""
    with contextlib.suppress(OSError, ValueError, KeyError), open(cells.SWEEP_PATH) as file:
        sweep = json.load(file)
        return sweep["started"], sweep["config"]
    return None, {}


def acquainted(net: network.Network, server: ServerS, load_side: LoadS) -> Sides[ServerS, LoadS]:
    """Both sides, and what has to be known of where they are."""
    if net.places == [network.HERE]:
        return Sides(net, server, load_side, False, {}, {})
    trips = {
        name: sides.round_trip(side)
        for name, place, side in (("server", net.server, server), ("load", net.load, load_side))
        if place != network.HERE
    }
    return Sides(
        net,
        server,
        load_side,
        apart=server.boot() != load_side.boot(),
        round_trips_s={name: trip_s for name, (trip_s, _) in trips.items()},
        clocks_ahead_s={name: ahead_s for name, (_, ahead_s) in trips.items()},
    )


def lock_all(found: Sides[Any, Any]) -> str | None:
    """Hold the other machines that take part too; where another measurement runs, if there is one."""
    if found.are_here:
        return None
    boots = {sides.here_boot()}
    for place, side in ((found.network.server, found.server), (found.network.load, found.load)):
        boot = side.boot()
        if boot not in boots and not side.lock():
            return place
        boots.add(boot)
    return None


@contextlib.contextmanager
def connected(
    net: network.Network, server: type[ServerS], load_kind: type[LoadS], lifetime_s: int
) -> Iterator[Sides[ServerS, LoadS]]:
    """Both sides, of which nothing is left afterwards. Raises SideLost."""
    with (
        sides.side_at(server, net.server, net.ssh_config, lifetime_s) as server_side,
        sides.side_at(load_kind, net.load, net.ssh_config, lifetime_s) as load_side,
        sides.distrusted(net.places),
    ):
        yield acquainted(net, server_side, load_side)


@contextlib.contextmanager
def exclusive_sides(
    arguments: Arguments, server: type[ServerS]
) -> Iterator[Sides[ServerS, LoadSide]]:
    """Both sides, and every machine that takes part to oneself. Raises SideLost or OSError."""
    net = arguments.network
    starts_s = arguments.start_timeout_s * 4  # of the timed run, and of the paired phase
    lifetime_s = OVERHEAD_S + int((starts_s + arguments.load_s) * 22)
    told = False
    while True:
        # Without what is held nobody waits: two sweeps that each have a machine of the other's would for ever.
        with contextlib.ExitStack() as held:
            held.enter_context(machine.exclusive_machine())
            found = held.enter_context(connected(net, server, LoadSide, lifetime_s))
            busy = lock_all(found)
            if busy is None:
                yield found
                return
        if not told:
            print(f"waiting: another measurement has {busy}", flush=True)
            told = True
        time.sleep(random.uniform(0.5, 1.5))


def split_of(found: Sides[Any, Any], setting: dict[str, Any] | str | None) -> cpus.CpuSplit:
    """Which CPUs server and load run on; `setting`: `cpus` of the config. Raises CpuFault."""
    net = found.network
    setting = None if setting == "auto" else setting
    if not found.apart:
        interface = None if net.is_loopback else net.interface
        return cpus.CpuSplit(*found.server.split_cpus(setting, interface))
    server = found.server.whole_cpus("server", setting, net.interface)
    load_cpus = found.load.whole_cpus("load", setting, net.load_interface or net.interface)
    return cpus.CpuSplit(load_cpus, server)


def binary_at(found: Sides[Any, LoadSide], path: str) -> str:
    """The server's program as the server's side finds it."""
    if not network.is_remote(found.network.server):
        return os.path.abspath(path)
    with open(path, "rb") as file:
        content = base64.b64encode(file.read()).decode()
    return str(found.server.deliver(os.path.basename(path), content))


def addresses(net: network.Network, host: str, server: ServerSide) -> tuple[str, str, str | None]:
    """The address as the server takes it, as the load takes it, and the server's scope. Raises NotReady."""
    if net.is_loopback:
        return host, host, None
    address = server.address(net.interface, net.address)
    target = network.with_scope(address, net.load_interface or net.interface)
    return address, target, net.interface if target != address else None


@contextlib.contextmanager
def started(
    found: Sides[Any, LoadSide], arguments: Arguments, watch_closed: bool = False
) -> Iterator[Run]:
    """A server that answers rightly, on CPUs of its own; all else, here and there, on those of the load.

    Raises NotStarted or, later, RunError; Unavailable if the server's machine cannot run it.
    """
    net = found.network
    split = split_of(found, arguments.cpus)
    workers = cpus.workers_for(arguments.workers, split)
    threads = load.threads_for(arguments.connections, len(split.load))
    address, target, scope = addresses(net, arguments.host, found.server)
    allowed = os.sched_getaffinity(0)
    confine(found, split)
    try:
        with start_failures.noted(arguments.binary):
            told = found.server.start_server(
                binary_at(found, arguments.binary),
                address=address,
                interface=None if net.is_loopback else net.interface,
                scope=scope,
                workers=workers,
                cpus=split.server,
                shares_cpus=split.shared,
                watch_closed=watch_closed,
                start_timeout_s=arguments.start_timeout_s,
            )
            run = Run(
                found,
                told["port"],
                told["command"],
                target,
                split,
                arguments.connections,
                threads,
                workers,
                server_process.Verified(b"", []),
            )
            try:
                verified = run.verify()
            except server_process.RunError:
                found.server.check_running()  # if it has ended, or its host is lost, that explains it
                raise
        try:
            yield run._replace(verified=verified)
        except sides.SideLost:
            raise
        except (OSError, load.LoadError):
            found.server.check_running(ENDING_S)  # if it has ended, that explains it
            raise
    finally:
        for side in (found.load, found.server):
            with contextlib.suppress(sides.SideLost):  # then it has ended all by itself
                side.end_run()
        os.sched_setaffinity(0, allowed)  # another run may follow


def tried_twice(attempt: Callable[[], ResultT]) -> ResultT:
    """The result of a run under perf, which may fail by itself. Never of a cell: who fails sometimes shall show."""
    try:
        return attempt()
    except start_failures.NotStarted:
        raise
    except (server_process.RunError, load.LoadError):
        return attempt()


def undisturbed(
    attempt: Callable[[], dict[str, Any]],
    is_worth_repeating: Callable[[dict[str, Any]], bool],
    retries: int,
) -> list[dict[str, Any]]:
    """Attempts up to the first that nothing disturbed, or the last, with what came of each.

    What decides is is_worth_repeating alone, which must see nothing of the result: measuring until it looks good would
    be possible otherwise.
    """
    attempts: list[dict[str, Any]] = []
    unstopped = 0
    while True:
        try:
            attempts.append(attempt())
        except load.Unstopped:
            unstopped += 1
            if unstopped > MOST_UNSTOPPED:
                raise
            continue
        if len(attempts) > retries or not is_worth_repeating(attempts[-1]):
            return attempts


def confine(found: Sides[Any, LoadSide], split: cpus.CpuSplit) -> None:
    """Keep what is not the server away from its CPUs."""
    if found.are_here:
        os.sched_setaffinity(0, split.load)
        return
    found.load.confine(split.load)
    if found.apart:
        found.server.keep_off(split.server)
    else:
        found.server.confine(split.load)
        if sides.here_boot() == found.server.boot():
            os.sched_setaffinity(0, split.load)


def _exit(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def end_cleanly_on_sigterm() -> None:
    """SIGTERM becomes an exception, so that what was started is ended on the way out."""
    signal.signal(signal.SIGTERM, _exit)
