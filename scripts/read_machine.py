#!/usr/bin/env python3
"""Print the facts of this machine and of this checkout, as a sweep records them, or write them to a file."""

import argparse
import sys

from common import command
from hosts.facts import CHECKOUT, format_facts, read_facts, write_facts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", nargs="?", help="where the JSON goes (default: standard output)")
    parser.add_argument("--compiler", default="gcc", help="it compiles the servers")
    parser.add_argument(
        "--flags", nargs=argparse.REMAINDER, default=[], help="its flags: all following words"
    )
    arguments = parser.parse_args()
    facts = read_facts(CHECKOUT, arguments.compiler, arguments.flags)
    if arguments.output is None:
        print(format_facts(facts), end="")
    else:
        write_facts(arguments.output, facts)
    return 0


if __name__ == "__main__":
    sys.exit(command.report(main))
