"""Fixtures of all tests but those of the servers alone."""

import os
import signal
from pathlib import Path

import pytest
from checkouts import copy_checkout

# Importing readline, as pytest's processes do, sets these, and output that goes to no terminal has no width.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return copy_checkout(tmp_path / "checkout")


# A shell that starts the tests in the background has it ignored, and so would all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
