"""Begin a run, measured or profiled: connect to both sides, choose CPUs, start a fresh server, check its answer."""

import argparse
import base64
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, NoReturn, TypeVar

from hosts import lock
from hosts.cpus import CpuFault, CpuSplit, workers_for
from hosts.network import HERE, Network, from_json, is_remote, with_scope
from instruments import failed_build, server_process, wrk
from measuring import places
from measuring.host_side import HostSide
from measuring.load_side import LoadSide
from sweep import cells
from sweep.workloads import KEEPALIVE, Workload

# Faults of a user or a machine: one line each.
FAULTS = (server_process.RunError, wrk.LoadError, CpuFault, OSError)
ENDING_S = 1.0  # not all parts of this program see a crash of the server at the same time
# The most that a run takes in addition to warm-up and load, including waiting for answers.
OVERHEAD_S = 120
MOST_UNSTOPPED = 2  # attempts that wrk spoilt

ServerS = TypeVar("ServerS", bound=HostSide)
LoadS = TypeVar("LoadS", bound=HostSide)
ResultT = TypeVar("ResultT")


class Sides(NamedTuple, Generic[ServerS, LoadS]):
    """Where server and load run."""

    network: Network
    server: ServerS
    load: LoadS
    apart: bool  # on different machines
    round_trips_s: dict[str, float]  # of a question to server and load, if they are elsewhere
    clocks_ahead_s: dict[str, float]  # of server and load, if they are elsewhere

    @property
    def are_here(self) -> bool:
        return self.network.places == [HERE]


class Run(NamedTuple):
    sides: Sides[Any, LoadSide]
    port: int
    command: list[str]
    address: str  # for the load
    split: CpuSplit
    connections: int
    threads: int  # of the load
    workers: int
    workload: Workload
    idle_connections: int
    verified: server_process.Verified

    @property
    def response(self) -> bytes:
        return self.verified.response

    @property
    def url(self) -> str:
        return wrk.url_of(self.address, self.port)

    def verify(self) -> server_process.Verified:
        """Check the server's answer and return it. Raises RunError."""
        verified = self.sides.load.verify(self.address, self.port, self.workload.changes)
        return server_process.Verified(verified["response"].encode("latin-1"), verified["varying"])

    def answers_as_before(self) -> bool:
        """Whether the server still gives the checked answer. Raises RunError if there is no answer."""
        try:
            return server_process.is_same_answer(self.verify().response, self.response)
        except server_process.WrongAnswer:
            return False
        except server_process.RunError as error:
            self.sides.server.check_running()
            raise server_process.RunError(f"after the run {error}") from None

    def requests_until_close(self, most: int, within_s: float) -> int | None:
        return self.sides.load.requests_until_close(self.address, self.port, most, within_s)

    def start_load(self, duration_s: float, **options: Any) -> list[str]:
        """Start a load and return its command."""
        return self.sides.load.start_load(
            self.url, duration_s=duration_s, **self.load_options, **options
        )

    @property
    def load_options(self) -> dict[str, Any]:
        """Options of wrk.running_load() for any load of this run."""
        return {
            "connections": self.connections,
            "threads": self.threads,
            "pipelined": self.workload.pipelined,
            "connection_per_request": self.workload.connection_per_request,
        }

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
    network: Network
    cpus: dict[str, Any] | str | None
    workers: str
    start_timeout_s: float
    workload: Workload
    workload_name: str

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
        type=from_json,
        default=Network(),
        help="where the sides run, as in the config, as JSON (default: here, over loopback)",
    )
    parser.add_argument("--cpus", type=json.loads, help="as in the config, as JSON (default: auto)")
    parser.add_argument("--workers", default="auto", help="processes: auto, cpus or a number")
    parser.add_argument("--workload-name", default=KEEPALIVE, help="(default: %(default)s)")
    parser.add_argument(
        "--workload",
        type=lambda text: Workload(**json.loads(text)),
        default=Workload(),
        help="parameters of a workload, as in the config, as JSON (default: keep-alive)",
    )
    parser.add_argument(
        "--start-timeout-s",
        type=float,
        help="the server must listen within this time (default: as in the sweep, or"
        f" {server_process.START_TIMEOUT_S:g})",
    )


def add_cell_arguments(parser: argparse.ArgumentParser, *, duration_s: float) -> None:
    """Of what measures a server in a workload, for a record."""
    parser.add_argument("binary", help="the compiled server")
    parser.add_argument("output", help="where the record goes")
    parser.add_argument("--server", help="its name in the record (default: the binary's)")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument(
        "--disturbed-retries",
        type=int,
        help="attempts after disturbed ones (as in the sweep, or 1)",
    )
    parser.add_argument(
        "--reference",
        default="",
        help="the compiled server to pair it with (default: no paired phase)",
    )
    parser.add_argument(
        "--paired-s", type=float, default=0.5, help="of load on each of the two (%(default)s)"
    )
    add_arguments(parser, duration_s=duration_s)


def parse_cell_options(parser: argparse.ArgumentParser) -> dict[str, Any]:
    """As parse_options(), with what the sweep decides."""
    options = parse_options(parser)
    options["server"] = options["server"] or os.path.basename(options["binary"])
    if options["disturbed_retries"] is None:
        options["disturbed_retries"] = read_sweep()[1].get("disturbed_retries", 1)
    return options


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


def describe_sides(net: Network, server: ServerS, load_side: LoadS) -> Sides[ServerS, LoadS]:
    """Both sides, with what a run must know about their places."""
    if net.places == [HERE]:
        return Sides(net, server, load_side, False, {}, {})
    trips = {
        name: places.round_trip(side)
        for name, place, side in (("server", net.server, server), ("load", net.load, load_side))
        if place != HERE
    }
    return Sides(
        net,
        server,
        load_side,
        apart=server.boot() != load_side.boot(),
        round_trips_s={name: trip_s for name, (trip_s, _) in trips.items()},
        clocks_ahead_s={name: ahead_s for name, (_, ahead_s) in trips.items()},
    )


def lock_all(both: Sides[Any, Any]) -> str | None:
    """Lock the other machines that take part. If another measurement uses one of them, return its place."""
    if both.are_here:
        return None
    boots = {HostSide().boot()}
    for place, side in ((both.network.server, both.server), (both.network.load, both.load)):
        boot = side.boot()
        if boot not in boots and not side.lock():
            return place
        boots.add(boot)
    return None


@contextlib.contextmanager
def connected(
    net: Network, server: type[ServerS], load_kind: type[LoadS], lifetime_s: int
) -> Iterator[Sides[ServerS, LoadS]]:
    """Connect to both sides; afterwards nothing of them is left. Raises SideLost."""
    with (
        places.side_at(server, net.server, net.ssh_config, lifetime_s) as server_side,
        places.side_at(load_kind, net.load, net.ssh_config, lifetime_s) as load_side,
        places.distrusted(net.places),
    ):
        yield describe_sides(net, server_side, load_side)


@contextlib.contextmanager
def exclusive_sides(
    arguments: Arguments, server: type[ServerS]
) -> Iterator[Sides[ServerS, LoadSide]]:
    """Connect to both sides and lock every machine that takes part. Raises SideLost or OSError."""
    net = arguments.network
    starts_s = arguments.start_timeout_s * 4  # of the timed run, and of the paired phase
    lifetime_s = OVERHEAD_S + int((starts_s + arguments.load_s) * 22)
    is_announced = False
    while True:
        # Release everything before waiting; otherwise two sweeps can deadlock.
        with contextlib.ExitStack() as held:
            held.enter_context(lock.exclusive_machine())
            both = held.enter_context(connected(net, server, LoadSide, lifetime_s))
            busy = lock_all(both)
            if busy is None:
                yield both
                return
        if not is_announced:
            print(f"waiting: another measurement uses {busy}", flush=True)
            is_announced = True
        time.sleep(random.uniform(0.5, 1.5))


def split_of(both: Sides[Any, Any], setting: dict[str, Any] | str | None) -> CpuSplit:
    """Which CPUs server and load run on; `setting`: `cpus` of the config. Raises CpuFault."""
    net = both.network
    setting = None if setting == "auto" else setting
    if not both.apart:
        interface = None if net.is_loopback else net.interface
        return CpuSplit(*both.server.split_cpus(setting, interface))
    server = both.server.whole_cpus("server", setting, net.interface)
    load_cpus = both.load.whole_cpus("load", setting, net.load_interface or net.interface)
    return CpuSplit(load_cpus, server)


def binary_at(both: Sides[Any, LoadSide], path: str) -> str:
    """The path of the server's program on the server's side."""
    return program_at(both.server, both.network.server, path)


def program_at(side: HostSide, place: str, path: str) -> str:
    """The path of a program of ours on a side, which gets it if it is elsewhere."""
    if not is_remote(place):
        return os.path.abspath(path)
    with open(path, "rb") as file:
        content = base64.b64encode(file.read()).decode()
    return str(side.deliver(os.path.basename(path), content))


def start_options(
    both: Sides[Any, Any], arguments: Arguments, split: CpuSplit
) -> tuple[str, dict[str, Any]]:
    """The server's address for the load, and options of ServerSide.start_server(). Raises NotReady."""
    net, address, target = both.network, arguments.host, arguments.host
    if not net.is_loopback:
        address = both.server.address(net.interface, net.address)
        target = with_scope(address, net.load_interface or net.interface)
    return target, {
        "address": address,
        "interface": None if net.is_loopback else net.interface,
        "scope": net.interface if target != address else None,
        "cpus": split.server,
        "shares_cpus": split.shared,
        "options": arguments.workload.server_options,
        "start_timeout_s": arguments.start_timeout_s,
    }


def open_idle(run: Run) -> int:
    """Open the workload's idle connections; returns how many. Raises Unavailable if the server does not keep them."""
    if run.workload.idle_connections == 0:
        return 0
    opened = run.sides.load.open_idle(run.address, run.port, run.workload.changes)
    run.sides.server.note_idle(*opened)
    return int(opened[0])


@contextlib.contextmanager
def started(
    both: Sides[Any, LoadSide], arguments: Arguments, watch_closed: bool = False
) -> Iterator[Run]:
    """Start a server on its own CPUs and check its answer; everything else runs on the load's CPUs.

    Raises RunError; Unavailable if the server's machine cannot run it.
    """
    if reason := failed_build.reason_of(arguments.binary):
        raise server_process.RunError(reason)
    split = split_of(both, arguments.cpus)
    workers = workers_for(arguments.workers, split)
    threads = wrk.threads_for(arguments.connections, len(split.load))
    target, options = start_options(both, arguments, split)
    allowed = os.sched_getaffinity(0)
    confine(both, split)
    try:
        listening = both.server.start_server(
            binary_at(both, arguments.binary),
            workers=workers,
            watch_closed=watch_closed,
            **options,
        )
        run = Run(
            both,
            listening["port"],
            listening["command"],
            target,
            split,
            arguments.connections,
            threads,
            workers,
            arguments.workload,
            0,
            server_process.Verified(b"", []),
        )
        try:
            run = run._replace(verified=run.verify(), idle_connections=open_idle(run))
        except (server_process.RunError, server_process.Unavailable):
            both.server.check_running()  # if it has ended, or its host is lost, say that instead
            raise
        try:
            yield run
        except places.SideLost:
            raise
        except (OSError, wrk.LoadError):
            both.server.check_running(ENDING_S)  # if it has ended, say that instead
            raise
    finally:
        for side in (both.load, both.server):
            with contextlib.suppress(places.SideLost):  # then the side has ended everything itself
                side.end_run()
        os.sched_setaffinity(0, allowed)  # another run may follow


def try_twice(attempt: Callable[[], ResultT]) -> ResultT:
    """Try a run under perf twice, since perf may fail. Never use this for a cell: a server's failures must show."""
    try:
        return attempt()
    except (server_process.RunError, wrk.LoadError):
        return attempt()


def repeat_while_disturbed(
    attempt: Callable[[], dict[str, Any]],
    is_worth_repeating: Callable[[dict[str, Any]], bool],
    retries: int,
) -> list[dict[str, Any]]:
    """Attempts up to the first that nothing disturbed, or the last, with what came of each.

    Only is_worth_repeating decides. It must not depend on the result; otherwise one could measure until it looks good.
    """
    attempts: list[dict[str, Any]] = []
    unstopped = 0
    while True:
        try:
            attempts.append(attempt())
        except wrk.Unstopped:
            unstopped += 1
            if unstopped > MOST_UNSTOPPED:
                raise
            continue
        if len(attempts) > retries or not is_worth_repeating(attempts[-1]):
            return attempts


def confine(both: Sides[Any, LoadSide], split: CpuSplit) -> None:
    """Keep all processes but the server off its CPUs."""
    if both.are_here:
        os.sched_setaffinity(0, split.load)
        return
    both.load.confine(split.load)
    if both.apart:
        both.server.keep_off(split.server)
    else:
        both.server.confine(split.load)
        if HostSide().boot() == both.server.boot():
            os.sched_setaffinity(0, split.load)


def _exit(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


@contextlib.contextmanager
def reported(who: str) -> Iterator[None]:
    """Wrap what a script does with a server: a fault of user or machine ends it with one line and status 1.

    SIGTERM becomes an exception, so that everything that was started is ended.
    """
    signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    except (*FAULTS, subprocess.TimeoutExpired) as error:
        sys.exit(f"{who}: {error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
