"""Fixtures of all tests but those of the servers alone."""

import os
import signal
from pathlib import Path

import pytest
from checkouts import copy_checkout

# Importing readline, as pytest's processes do, sets these, and output that goes to no terminal has no width.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)

# Files whose tests take longest. They come first, so that no process is left alone with one at the end.
LONGEST = ["staleness", "external", "plots", "faults", "lab", "comparisons", "report", "slurm"]
LONGEST += ["compare", "setup", "scale", "server_sanitized"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return copy_checkout(tmp_path / "checkout")


# A shell that starts the tests in the background, or nohup, has one ignored, and so would all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
