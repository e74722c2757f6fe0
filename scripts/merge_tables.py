#!/usr/bin/env python3
"""Join tables with the same columns; the first line of each is its header."""

import argparse
import sys
from pathlib import Path

from common import command, files


def merge(texts: list[str]) -> str:
    """Raises DamagedFile if the headers differ."""
    headers = {text.partition("\n")[0] for text in texts}
    if len(headers) != 1:
        raise files.DamagedFile(
            "the columns of the tables differ", "delete the tables, they are made again"
        )
    return headers.pop() + "\n" + "".join(text.partition("\n")[2] for text in texts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="+")
    parser.add_argument("--output", required=True)
    arguments = parser.parse_args()
    files.write_text(arguments.output, merge([Path(path).read_text() for path in arguments.tables]))
    return 0


if __name__ == "__main__":
    sys.exit(command.report(main))
