"""Fixtures of all tests but those of the servers alone."""

from pathlib import Path

import pytest
from checkouts import copy_checkout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return copy_checkout(tmp_path / "checkout")
