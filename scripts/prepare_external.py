#!/usr/bin/env python3
"""Make the launcher of an external server, which then starts like ours; first run its build, if it has one."""

import argparse
import json
import os
import shlex
import subprocess
import sys
from typing import Any

from common import command, modules
from common.processes import NOT_FOUND
from instruments import external, external_launcher, failed_build, server_process

# A command for sh, a string for Python, because a #! line allows no spaces in a path. -IS: Python's own library alone.
FIRST_LINES = f"""\
{server_process.EXTERNAL.decode()}\
'''':; p={{python}}; [ -x "$p" ] || p=python3; exec "$p" -IS "$0" "$@"
'''
"""


def build(words: list[str], root: str) -> int:
    """Run the build and return its exit status."""
    program = external.find_program(words[0], root)
    if not os.access(program, os.X_OK):
        return NOT_FOUND
    return subprocess.run(
        [program, *words[1:]], cwd=root, check=False, stdout=sys.stderr
    ).returncode


def write_launcher(path: str, description: dict[str, Any]) -> None:
    with open(external_launcher.__file__, encoding="utf-8") as file:
        source = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(FIRST_LINES.format(python=shlex.quote(os.path.realpath(sys.executable))))
        file.write(f"{source}\n\nmain({description!r})\n")
    os.chmod(path, 0o755)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("description", help="what external.describe_launcher() returned, as JSON")
    parser.add_argument("output", help="where the launcher goes")
    arguments = parser.parse_args()
    description = json.loads(arguments.description)
    name = os.path.basename(arguments.output)
    root = os.environ[modules.ROOT_VARIABLE]
    if words := description["build"]:
        status = build(words, root)
        made = os.access(os.path.join(root, description["program"]), os.X_OK)
        if status == NOT_FOUND:  # the launcher will say what to install
            description.update(program="", command=words)
        elif status != 0 or not made:
            why = f"status {status}" if status else f"there is no {description['command'][0]}"
            reason = f"its build failed: '{shlex.join(words)}': {why}"
            failed_build.write(arguments.output, reason)
            print(f"{name}: {reason}", flush=True)
            return 0
    write_launcher(arguments.output, description)
    return 0


if __name__ == "__main__":
    sys.exit(command.report(main))
