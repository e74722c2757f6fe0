"""What keeps perf from profiles and counts, as a reason to make them again when it is gone."""

import csv
from collections.abc import Callable
from typing import Any

from common import files


def obstacle_to(path: str, find_obstacle: Callable[[], str]) -> str:
    """What makes a profile or a table of counts stale: if an obstacle prevented it, the obstacle's end does. A good one
    stays good when a new obstacle comes, for example after a reboot that reset a sysctl. path: as in read_outcome()."""
    return "" if read_outcome(path).get("status") == "ok" else find_obstacle()


def read_outcome(path: str) -> dict[str, Any]:
    """The facts of a profile (JSON), or a table's first row, the only one without counts; empty if there is no file."""
    try:
        if path.endswith(".json"):
            return files.read_json(path)
        with open(path, encoding="utf-8", newline="") as file:
            return next(csv.DictReader(file), {})
    except (OSError, ValueError, csv.Error):
        return {}
