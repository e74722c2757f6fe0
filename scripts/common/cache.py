"""Small results that take long to find and can be found again, kept beside Python's own cache of this checkout.

A lost or damaged cache costs time and nothing else. Where the checkout may not be written in, nothing is kept.
"""

import contextlib
import functools
import json
import os
from typing import Any

PATH = os.path.join(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "__pycache__", "identities.json"
)

MOST = 2000  # entries: many states of the code


@functools.cache
def load() -> dict[str, Any]:
    """What was kept, by key; one dictionary for this process."""
    with contextlib.suppress(OSError, ValueError), open(PATH, encoding="utf-8") as file:
        kept = json.load(file)
        if isinstance(kept, dict):
            return kept
    return {}


def keep(key: str, value: Any) -> None:
    """Add a value that JSON can hold."""
    if len(load()) > MOST:
        load().clear()
    load()[key] = value
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(PATH), exist_ok=True)
        temporary = f"{PATH}.{os.getpid()}"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(load(), file)
        os.replace(temporary, PATH)
