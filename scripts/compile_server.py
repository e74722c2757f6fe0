#!/usr/bin/env python3
"""Build a server. If that fails, write a script in its place that gives the reason, so that only this server fails.

Every later stage starts that script like any server, or calls reason_of(), and so fails for this server alone.
"""

import argparse
import os
import re
import signal
import subprocess
import sys

from common import command
from common.processes import leash
from instruments.failed_build import write
from sweep.cells import LOAD

CHECKOUT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
# Messages of gcc, ld or the kernel that blame the machine, not the source.
OF_THE_MACHINE = re.compile(
    "No space left on device|Cannot allocate memory|out of memory|memory exhausted|Killed signal"
)
# Lines that name the cause, the best first; collect2 only says that the linker has failed.
CAUSES = (
    re.compile(r"^(?!collect2: ).*\berror: .*", re.MULTILINE),
    re.compile(r"^.*(?:undefined reference|multiple definition|cannot find) .*", re.MULTILINE),
    re.compile(r"^.*\S.*", re.MULTILINE),
)


def first_error(said: str) -> str:
    """The line of a compiler's output that names the cause."""
    matches = (cause.search(said) for cause in CAUSES)
    return next((match[0].strip() for match in matches if match), "it gave no reason")


def give_up(output: str, why: str) -> int:
    """Write the script and return 0: for Snakemake the job has succeeded. Not so for the load generator: one line, not
    one for each cell."""
    reason = f"does not compile: {why}"
    if os.path.basename(output) == LOAD:
        print(f"the load generator {LOAD}: {reason}", file=sys.stderr)
        return 1
    write(output, reason)
    print(f"{os.path.basename(output)}: {reason}", flush=True)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reason", help="why it cannot be built, if that is known")
    parser.add_argument("output", help="the binary")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the command that makes it")
    arguments = parser.parse_args()
    if arguments.reason:
        return give_up(arguments.output, arguments.reason)
    # Ctrl-C ends this and the compiler silently.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    environment = {**os.environ, "LC_ALL": "C"}  # for messages in English
    run = subprocess.run(
        leash(arguments.command),
        check=False,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    sys.stderr.write(run.stderr)
    if run.returncode < 0:  # killed: not a fault of the source
        return 128 - run.returncode
    if OF_THE_MACHINE.search(run.stderr):
        return run.returncode
    if run.returncode != 0:
        return give_up(arguments.output, first_error(run.stderr.replace(CHECKOUT, "")))
    return 0


if __name__ == "__main__":
    sys.exit(command.report(main))
