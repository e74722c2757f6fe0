"""What keeps perf from profiles and counts, as a reason to make them again when it is gone."""

import csv
from collections.abc import Callable

from common import files


def obstacle_to_count(table_path: str, find_obstacle: Callable[[], str]) -> str:
    """What makes a table stale: if an obstacle prevented it, the obstacle's end does; a good one stays good."""
    return "" if first_row(table_path).get("status") == "ok" else find_obstacle()


def first_row(table_path: str) -> dict[str, str]:
    """The first row of a table, which is the only one if there are no counts; empty without a table."""
    try:
        with open(table_path, encoding="utf-8", newline="") as file:
            return next(csv.DictReader(file), {})
    except (OSError, ValueError, csv.Error):
        return {}


def obstacle_to_profile(facts_path: str, find_obstacle: Callable[[], str]) -> str:
    """What makes a profile stale: if an obstacle prevented it, the obstacle's end does. A good one stays good when a
    new obstacle comes, for example after a reboot that reset a sysctl."""
    try:
        facts = files.read_json(facts_path)
    except (OSError, ValueError):
        return find_obstacle()
    return "" if facts.get("status") == "ok" else find_obstacle()
