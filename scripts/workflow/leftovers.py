"""Describe what earlier versions of the workflow have left in a results folder, and what to delete."""

import glob
import os
import shlex
from collections.abc import Iterable

from sweep import records

# Files of a former benchmark of cost, and of separate runs of the reference.
REPLACED = ["results/cost", "results/cost.csv", "results/cost.txt"]
REPLACED += ["results/ceiling", "results/ceiling.csv", "results/bin/ceiling"]
# From before there were workloads: records, and profiles and counts, which are not where this version looks for any.
WITHOUT_WORKLOAD = "results/cells/*/c*_r*.json"
PROFILES_WITHOUT_WORKLOAD = ["results/profile/*.json", "results/profile/*.folded"]
PROFILES_WITHOUT_WORKLOAD += ["results/syscalls/*.csv"]


def describe(paths: Iterable[str], folder: str) -> str:
    """A line on the leftovers in the working directory; empty without any. paths: records that this run does not
    replace; folder: the working directory as the user wrote it."""
    left = [path for path in REPLACED if os.path.exists(path)]
    unread = glob.glob(WITHOUT_WORKLOAD)
    shown = (
        f", among them {len(unread)} records without a workload, which are not shown"
        if unread
        else ""
    )
    old = {str(version) for version in records.READABLE[:-1]}
    if count := sum(records.read_version(path) in old for path in paths):
        left.append("results/cells")
        shown += f", among them {count} records, which are shown but not compared"
    else:
        left += sorted({os.path.dirname(path) for path in unread})
    patterns = [pattern for pattern in PROFILES_WITHOUT_WORKLOAD if glob.glob(pattern)]
    if not left and not patterns:
        return ""
    named = [shlex.quote(os.path.join(folder, path)) for path in left]
    named += [os.path.join(folder and shlex.quote(folder), pattern) for pattern in patterns]
    return f"Earlier versions left results{shown}. To delete them: rm -r {' '.join(named)}"
