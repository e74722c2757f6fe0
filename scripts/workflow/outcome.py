"""What the person at the terminal reads when a run of the workflow has ended, and its exit status."""

import os
import shlex
import sys
from collections.abc import Collection, Sequence
from typing import Any

from common import terminal
from workflow import failures

PAGE = "results/report.html"
SUMMARY = "results/summary.txt"
LATENCY = "results/latency.txt"
COMPARISON = "results/compare.txt"


def page_command(arguments: Sequence[str], targets: Collection[str]) -> str:
    """The command that makes the page of this result set. `arguments`: those of Snakemake now, with the targets."""
    options = [argument for argument in arguments if argument not in targets]
    return "make report" if options == ["-j1"] else shlex.join(["snakemake", PAGE, *options])


def where_to_look(folder: str, makes_page: str = "") -> str:
    """folder: the working directory as the user named it, or empty. makes_page: a command, if there is no page yet."""
    page, plots, cells, summary = (
        os.path.join(folder, path)
        for path in (PAGE, "plots/", "results/cells.csv", "results/summary.csv")
    )
    made = f", made by: {makes_page}" if makes_page else ""
    return (
        f"Open first: {page}{made}\n"
        f"Pictures: {plots}. Tables: {cells}, {summary}; docs/results.md explains them."
    )


def tell_results(
    folder: str, outputs: Collection[str], targets: Collection[str], arguments: Sequence[str]
) -> None:
    """folder: the working directory, as where_to_look(). outputs: of all jobs that the targets need."""
    if COMPARISON in outputs:
        print(f"\n{terminal.format_fitted(COMPARISON)}")
        tables = [COMPARISON.replace(".txt", end) for end in (".csv", "_facts.csv")]
        paths = ", ".join(os.path.join(folder, table) for table in tables)
        print(f"Tables: {paths}; docs/compare.md explains them.")
    if LATENCY in outputs:
        print(f"\n{terminal.format_fitted(LATENCY)}")
        picture = os.path.join(folder, "plots/latency.png")
        print(f"Picture: {picture}; docs/latency.md explains it.")
    if SUMMARY in outputs:
        print(f"\n{terminal.format_fitted(SUMMARY)}\n")
        makes_page = "" if PAGE in outputs else page_command(arguments, targets)
        print(terminal.wrap(where_to_look(folder, makes_page)))


def tell_failures(jobs: Collection[Any], external: Collection[str]) -> bool:
    """Print a line for each server that failed in one of these jobs of Snakemake's; return whether there is one."""
    lines = failures.lines_of(failures.find(jobs, external), jobs)
    for line in lines:
        print(terminal.color(terminal.wrap(terminal.make_printable(line)), 31), file=sys.stderr)
    return bool(lines)


def status_of_comparison(path: str) -> int:
    """The exit status that a comparison's table asks for."""
    import pandas  # noqa: PLC0415  this and the next take longer than all else here

    from analysis import set_comparison  # noqa: PLC0415

    return set_comparison.status_of(pandas.read_csv(path))
