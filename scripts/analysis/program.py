"""The main() of a script that makes pictures, or another table, of tables."""

import argparse
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from common import command

PICTURES = "the picture to draw: .png, .svg or both"


def of_tables(
    description: str | None,
    make: Callable[..., Any],
    output: str = PICTURES,
    choose: Callable[..., Iterable[Any]] = lambda *tables: tables,
    **readers: Callable[[str], Any] | Mapping[str, Any],
) -> Callable[[], int]:
    """A main() that calls `make` with an input for each reader and the paths of the output: one or, of pictures,
    several. The command line has a path for each input, a key if its reader is a mapping, or a word if it is `str`.
    choose: makes other inputs of those that were read."""

    def main() -> int:
        parser = argparse.ArgumentParser(description=description)
        for name, reader in readers.items():
            choices = reader if isinstance(reader, Mapping) else None
            told = f"the {name}" if choices or reader is str else f"results/{name}.csv"
            parser.add_argument(name, choices=choices, help=told)
        parser.add_argument("output", nargs=1 if output != PICTURES else "+", help=output)
        inputs = vars(parser.parse_args())
        read = choose(
            *(
                reader[inputs[name]] if isinstance(reader, Mapping) else reader(inputs[name])
                for name, reader in readers.items()
            )
        )
        make(*read, *inputs["output"])
        return 0

    return lambda: command.report(main)
