"""Describe what earlier versions of the workflow have left in a results folder, and what to delete."""

import os
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator

from sweep import records

# Files of a former benchmark of cost, and of separate runs of the reference.
REPLACED = ["results/cost", "results/cost.csv", "results/cost.txt"]
REPLACED += ["results/ceiling", "results/ceiling.csv", "results/bin/ceiling"]
VERSION = re.compile(r'"schema_version": (\d+)')


def _version_of(path: str) -> int | None:
    """The schema version at the beginning of a record; None if it is missing."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            match = VERSION.search(file.read(100))
    except OSError:
        return None
    return int(match[1]) if match else None


def describe(paths: Iterable[str], folder: str) -> Iterator[str]:
    """A line for each kind of leftover in the working directory. paths: records that this run does not replace; folder:
    the working directory as the user wrote it."""
    if left := [os.path.join(folder, path) for path in REPLACED if os.path.exists(path)]:
        yield f"An earlier version left files that are not used any more. To delete them: rm -r {shlex.join(left)}"
    versions = Counter(map(_version_of, paths))
    if old := [version for version in records.READABLE[:-1] if versions[version]]:
        cells = os.path.join(folder, "results/cells")
        counts = ", ".join(f"{versions[version]} of schema version {version}" for version in old)
        yield (
            f"{cells} has records of earlier versions ({counts}). They are shown but not compared. "
            f"To measure them again: rm -r {shlex.quote(cells)}"
        )
