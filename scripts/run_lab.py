"""Run a command in a lab on one machine: two network namespaces stand for two hosts with a link between them.

run_lab.py run [--ssh] [--delay-ms N] [--loss-percent N] [--rate-mbit N] -- COMMAND…
run_lab.py down        removes what a killed lab has left

Its exit status is COMMAND's. With --ssh COMMAND runs on the server's host, and `ssh -F CONFIG lab` reaches the load's
host; the environment has CONFIG as LAB_SSH_CONFIG, and {ssh_config} in COMMAND's words is replaced with it.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from common.processes import leash
from hosts.lock import opened_lock, take_lock
from lab import ssh
from lab.link import (
    SERVER,
    LabError,
    build_link,
    end_inhabitants,
    netem_commands,
    refuse_inhabitants,
    remove_link,
    shape_link,
)

ENDING_S = 6.0  # processes of a killed lab end by themselves within this time
GRACE_S = 10  # for the running cell
LOCK_PATH = "/sys/class/net"  # any path that every user has and nobody else locks


class Parser(argparse.ArgumentParser):
    """A parser that reports a fault in one line."""

    def error(self, message: str) -> NoReturn:
        raise LabError(f"{message} (see run_lab.py --help)")


def number(lowest: float, highest: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            if lowest <= float(text) <= highest:
                return float(text)
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {lowest:g} to {highest:g}")

    return parse


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(
        "run_lab.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("down", help="remove what a killed lab has left")
    run = actions.add_parser("run", help="run a command in a lab")
    run.add_argument("--ssh", action="store_true", help="reach the load's host by ssh")
    run.add_argument("--delay-ms", type=number(0, 60_000), help="of each direction")
    run.add_argument("--loss-percent", type=number(0, 100), help="of each direction")
    run.add_argument("--rate-mbit", type=number(0.001, 1e6), help="Mbit/s of each direction")
    # argparse treats a second -- differently in different versions of Python.
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser.parse_args(arguments[:cut])
    options.command = arguments[cut + 1 :]
    if options.action == "run" and not options.command:
        parser.error("no command to run: run_lab.py run [options] -- COMMAND…")
    return options


class Stop:
    """Handle signals that ask for the end: note them while the lab is built, pass them on once COMMAND runs.

    In any case COMMAND ends first; then the lab is removed.
    """

    def __init__(self) -> None:
        self.number = 0
        self.command: subprocess.Popen[bytes] | None = None
        signal.signal(signal.SIGALRM, self.insist)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                signal.signal(number, self.note)

    def note(self, number: int, _frame: FrameType | None) -> None:
        self.number = number
        if self.command is not None and number != signal.SIGINT:  # a terminal sends SIGINT to both
            self.command.send_signal(number)
            signal.alarm(GRACE_S)

    def insist(self, _number: int, _frame: FrameType | None) -> None:
        """Kill COMMAND: Snakemake can deadlock on its own lock if SIGTERM comes while it handles ended jobs."""
        if self.command is not None:
            self.command.kill()

    def check(self) -> None:
        if self.number:
            sys.exit(128 + self.number)

    def run(self, command: list[str], environment: dict[str, str]) -> int:
        """Run a command to its end, with the terminal; return its exit status as a shell does."""
        self.check()
        process = subprocess.Popen(leash(command), env=environment)
        self.command = process
        if self.number:  # a signal came during the start
            process.send_signal(self.number)
            signal.alarm(GRACE_S)
        status = process.wait()
        signal.alarm(0)
        return status if status >= 0 else 128 - status


def run_in_lab(options: argparse.Namespace) -> int:
    stop = Stop()
    with contextlib.ExitStack() as lab:
        lab.callback(remove_link)
        lab.callback(end_inhabitants)
        build_link()
        shape_link(netem_commands(options.delay_ms, options.loss_percent, options.rate_mbit))
        command, environment = options.command, dict(os.environ)
        if options.ssh:
            lab.callback(ssh.remove_folder)
            lab.enter_context(ssh.ssh_server())
            config = str(ssh.CONFIG)
            environment["LAB_SSH_CONFIG"] = config
            command = [*SERVER.inside, *(word.replace("{ssh_config}", config) for word in command)]
        return stop.run(command, environment)


def main() -> int:
    try:
        options = parse_arguments(sys.argv[1:])
        if os.geteuid():
            raise LabError("network namespaces need root: run this with sudo")
        with opened_lock(LOCK_PATH) as lock:
            if not take_lock(lock, wait=False):
                raise LabError("another lab runs on this machine: wait for its end")
            # Remove what a killed lab has left.
            refuse_inhabitants(ENDING_S)
            remove_link()
            ssh.remove_folder()
            return run_in_lab(options) if options.action == "run" else 0
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
