"""What earlier versions of the workflow have left in a folder of results: a line for each kind, with what to delete."""

import os
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator

import records

# The benchmark of cost, and runs of the reference by itself.
REPLACED = ["results/cost", "results/cost.csv", "results/cost.txt"]
REPLACED += ["results/ceiling", "results/ceiling.csv", "results/bin/ceiling"]
VERSION = re.compile(r'"schema_version": (\d+)')


def _version_of(path: str) -> int | None:
    """By the beginning of a record; None if it is not there, or does not say."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            found = VERSION.search(file.read(100))
    except OSError:
        return None
    return int(found[1]) if found else None


def told(paths: Iterable[str], folder: str) -> Iterator[str]:
    """Of the working directory, which is `folder` to the user; `paths`: of records that this run does not replace."""
    if left := [os.path.join(folder, path) for path in REPLACED if os.path.exists(path)]:
        yield f"left by an earlier version, and not used any more: delete it: rm -r {shlex.join(left)}"
    versions = Counter(map(_version_of, paths))
    if old := [version for version in records.READABLE[:-1] if versions[version]]:
        cells = os.path.join(folder, "results/cells")
        counts = ", ".join(f"{versions[version]} of schema version {version}" for version in old)
        yield (
            f"{cells} has records of earlier versions ({counts}): they are shown, but not compared. "
            f"To measure them again: rm -r {shlex.quote(cells)}"
        )
