"""The two sides of a measurement, wherever they run: an object here, or one in a process that a command prefix starts.

A remote side has the same methods; their arguments and results are what JSON can hold.
"""

import contextlib
import fcntl
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeVar, cast

from common import modules, processes
from hosts import network
from measuring import agent

OLDEST_PYTHON = (3, 11)
# What a host's Python runs first: it unpacks the modules and hands over to agent.py.
BOOTSTRAP = (
    "import json,os,sys,tempfile;"
    f"sys.version_info>={OLDEST_PYTHON} or sys.exit('Python '+sys.version.split()[0]+' is older than"
    f" {'.'.join(map(str, OLDEST_PYTHON))}');"
    "m=json.loads(sys.stdin.buffer.readline());"
    "d=tempfile.mkdtemp(prefix='io_models_agent_');"
    # in whatever locale the host is
    "[(os.makedirs(os.path.dirname(os.path.join(d,n)),exist_ok=True),"
    "open(os.path.join(d,n),'w',encoding='utf-8').write(t)) for n,t in m['files'].items()];"
    "sys.path.insert(0,d);from measuring import agent;agent.serve(d,m)"
)
CONTROL_PREFIX = "io_models_ssh_"
START_TIMEOUT_S = 30.0  # also of a host that lets in and then says nothing
STOP_TIMEOUT_S = 5.0
LONGEST_ANSWER = 1 << 26  # of stacks and histograms, megabytes
LIFETIME_S = 900
READY = '{"ready": true}\n'  # of agent.py
# What comes of an answer of the wrong type, wherever it is first used.
WRONG_TYPE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class SideLost(OSError):
    """A side that cannot be reached, or not any more; the text is one line for the user."""


class Side(Protocol):
    def close(self) -> None: ...


S = TypeVar("S", bound=Side)


def files_for(module: str) -> dict[str, str]:
    """Name → text of a module's file, and of all of ours that it imports or reads, at its top or later."""
    found = modules.files_of(module, "measuring.agent")
    return {name: content.decode() for name, content in found.items()}


class Agent:
    """A side in another process. Any method that it is asked for is the side's own."""

    def __init__(self, place: str, ssh_config: str | None, process: processes.Process) -> None:
        self._place = place
        self._ssh_config = ssh_config
        self._process = process

    def __getattr__(self, method: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            request = {"method": method, "arguments": arguments, "options": options}
            return self._ask(request)

        return call

    def _ask(self, request: dict[str, Any]) -> Any:
        self._send(request)
        try:
            answer = self._receive()
        except (KeyboardInterrupt, SystemExit):
            self.end()  # or the next answer would be to this question
            raise
        if "result" in answer:
            return answer["result"]
        try:
            error = self._error(**answer["error"])
        except (KeyError, TypeError):
            raise self._nonsense(str(answer)) from None
        raise error

    def _error(self, **error: Any) -> Exception:
        """Of our modules' classes alone, which this process has imported too: what a host says is data."""
        arguments = [processes.one_line(str(argument)) for argument in error["arguments"]]
        module = sys.modules.get(error["module"])
        ours = (getattr(module, "__file__", None) or "").startswith(
            os.path.join(modules.SCRIPTS, "")
        )
        kind = getattr(module, error["class"], None) if ours else None
        if isinstance(kind, type) and issubclass(kind, Exception):
            return kind(*arguments)
        return OSError(f"{self._place}: {' '.join(arguments)}")

    def _nonsense(self, line: str) -> SideLost:
        processes.kill_group(self._process)
        return SideLost(f"{self._place}: this is no answer of ours: {line[:80]!r}")

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        if self._process.stdin.closed:
            raise SideLost(f"{self._place}: it has been ended")
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._lost() from None

    def _read_line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline(LONGEST_ANSWER)
        if not line:
            raise self._lost()
        return line

    def _receive(self) -> dict[str, Any]:
        line = self._read_line()
        with contextlib.suppress(ValueError, RecursionError):
            answer = json.loads(line)
            if isinstance(answer, dict):
                return answer
        raise self._nonsense(line)

    def _lost(self) -> SideLost:
        """Why there is no answer."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_TIMEOUT_S)
        assert self._process.stderr is not None
        processes.kill_group(self._process)
        said = processes.one_line(self._process.stderr.read())
        return SideLost(f"{self._place}: {explain(self._place, said, self._ssh_config)}")

    def start(self, message: dict[str, Any]) -> None:
        timer = threading.Timer(START_TIMEOUT_S, processes.kill_group, [self._process])
        timer.start()
        try:
            self._send(message)
            while self._read_line() != READY:  # a host's shell may greet first
                pass
        except SideLost:
            if timer.is_alive():
                raise
            raise SideLost(
                f"{self._place}: no answer within {START_TIMEOUT_S:g} s{advice(self._place, self._ssh_config)}"
            ) from None
        finally:
            timer.cancel()

    def end(self) -> None:
        """Let it end what it started; whatever is left of it is ended after a while."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_TIMEOUT_S)


def advice(place: str, ssh_config: str | None) -> str:
    """How to see by hand what is wrong with the way to a host."""
    if not network.is_remote(place):
        return ""
    options = ["-F", ssh_config] if ssh_config else []
    return f": does `{shlex.join(['ssh', *options, place.removeprefix('ssh:'), 'true'])}` work?"


def explain(place: str, said: str, ssh_config: str | None = None) -> str:
    """Why a side cannot be reached, and what to do, from what the prefix's command said."""
    name = place.partition(":")[2]
    target = shlex.join([*(["-F", ssh_config] if ssh_config else []), name])
    for pattern, fix in (
        ("failed to execute|exec: (?!python3)\\S+ not found", "install it: make setup"),
        ("Permission denied \\(", f"it must let you in without a password: ssh-copy-id {target}"),
        # ssh says this one too after the next, with a banner of many lines.
        (
            "(?P<said>REMOTE HOST IDENTIFICATION HAS CHANGED)",
            f"if that is right: ssh-keygen -R {name}",
        ),
        ("Host key verification failed", f"its key is not known: once by hand: ssh {target} true"),
        ("Could not resolve hostname", "give network.server and network.load names that ssh knows"),
        ("cannot open .*netns", f"sudo ip netns add {name}; `ip netns` lists them"),
        ("reassociate to namespace", "to enter a namespace takes root: run it with sudo"),
        ("python3: (command )?not found|is older than", "install Python 3.11 or newer there"),
        ("Traceback.* / (?P<said>.*)", "the agent did not start there"),
    ):
        if found := re.search(pattern, said):
            return f"{found.groupdict().get('said', said)}: {fix}"
    if not re.search("Connection (timed out|refused)|No route|unreachable", said):
        said = f"the connection was lost{f' ({said})' if said else ''}"
    return said + advice(place, ssh_config)


@contextlib.contextmanager
def _agent(side: type[S], place: str, ssh_config: str | None, lifetime_s: int) -> Iterator[S]:
    python = "python3" if network.is_remote(place) else sys.executable
    command = network.command_at(place, ssh_config, [python, "-I", "-c", BOOTSTRAP])
    with processes.running(command, stdin=subprocess.PIPE) as process:
        far = Agent(place, ssh_config, process)
        far.start(
            {
                "files": files_for(side.__module__),
                "module": side.__module__,
                "class": side.__name__,
                "lifetime_s": lifetime_s,
                "environment": {modules.ROOT_VARIABLE: os.environ.get(modules.ROOT_VARIABLE, "")},
            }
        )
        try:
            yield cast("S", far)
        finally:
            far.end()


@contextlib.contextmanager
def side_at(
    side: type[S], place: str, ssh_config: str | None = None, lifetime_s: int = LIFETIME_S
) -> Iterator[S]:
    """A side at a place; nothing of it is left afterwards. Raises SideLost if the place cannot be reached."""
    if place == network.HERE:
        with contextlib.closing(side()) as here:
            yield here
    else:
        with _agent(side, place, ssh_config, lifetime_s) as there:
            yield there


@contextlib.contextmanager
def distrusted(places: Sequence[str]) -> Iterator[None]:
    """SideLost for what comes of answers of the wrong type, which only another host can have given."""
    try:
        yield
    except WRONG_TYPE as error:
        remote = " or ".join(filter(network.is_remote, places))
        if not remote or type(error).__module__ != "builtins":  # ours are for the user as they are
            raise
        what = processes.one_line(f"{type(error).__name__}: {error}")[:160]
        raise SideLost(f"{remote}: an answer that cannot be used: {what}") from None


def make_control_folder() -> None:
    """A folder of this process alone for shared connections, named in the environment of all that it starts.

    Short, since a socket's path may have 104 bytes. What killed processes left is removed.
    """
    folder = tempfile.mkdtemp(prefix=CONTROL_PREFIX)
    # Held until the end of this process.
    fcntl.flock(os.open(folder, os.O_RDONLY | os.O_CLOEXEC), fcntl.LOCK_EX)
    os.environ[network.CONTROL_FOLDER] = folder
    agent.remove_leftovers(CONTROL_PREFIX, folder)


def remove_control_folder() -> None:
    shutil.rmtree(os.environ.pop(network.CONTROL_FOLDER, ""), ignore_errors=True)


def share_connection(place: str, ssh_config: str | None) -> processes.Process:
    """Connect to another host, once for all that follows; it ends with this process. Raises SideLost."""
    command = network.ssh_command(place, ssh_config, master=True)
    master = subprocess.Popen(
        processes.leash(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    check = network.ssh_command(place, ssh_config, control="check")
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while subprocess.run(check, check=False, capture_output=True).returncode != 0:
        with contextlib.suppress(subprocess.TimeoutExpired):
            master.wait(0.05)
            said = processes.one_line(master.communicate()[1])
            raise SideLost(f"{place}: {explain(place, said, ssh_config)}")
        if time.monotonic() > deadline_s:
            processes.kill_group(master)
            master.communicate()
            waited = f"{place}: no answer within {START_TIMEOUT_S:g} s"
            raise SideLost(waited + advice(place, ssh_config))
    return master


def round_trip(side: Any) -> tuple[float, float]:
    """Seconds that a question takes, and by how many the side's clock is ahead of ours (the quickest of 5)."""
    trips = []
    for _ in range(5):
        before_s, started_s = time.monotonic(), time.time()
        theirs_s = side.clock()
        trip_s = time.monotonic() - before_s
        trips.append((trip_s, theirs_s - started_s - trip_s / 2))
    return min(trips)
