"""Fixtures of all tests but those of the servers alone."""

import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from helpers.checkouts import copy_checkout

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Importing readline, as pytest's processes do, sets these, and output that goes to no terminal has no width.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)

# Files whose tests take longest. They come first, so that no process is left alone with one at the end.
LONGEST = ["staleness", "external", "plots", "faults", "lab", "verdicts", "report", "slurm"]
LONGEST += ["set_comparison", "setup", "scale", "server_sanitized"]

# `pytest --quick` skips a test when it starts one of these.
SLOW_PROGRAMS = {"snakemake", "make", "gcc", "clang", "wrk", "chromium", "nix-instantiate"}


def pytest_addoption(parser: pytest.Parser) -> None:
    programs = ", ".join(sorted(SLOW_PROGRAMS))
    parser.addoption("--quick", action="store_true", help=f"skip tests that start {programs}")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("quick"):
        sys.addaudithook(skip_if_slow)


def skip_if_slow(event: str, details: Sequence[Any]) -> None:
    """Python calls this at each event, with `details` that depend on the event (sys.addaudithook)."""
    if event == "subprocess.Popen":
        command = details[1]
        words = [command] if isinstance(command, (str, bytes, os.PathLike)) else command
        names = {os.path.basename(os.fsdecode(word)) for word in words}
        for name in sorted(names & SLOW_PROGRAMS):
            pytest.skip(f"starts {name}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return copy_checkout(tmp_path / "checkout")


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  few tests need it

    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    assert path is not None, "chromium is missing: scripts/setup.sh dev"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


# A shell that starts the tests in the background, or nohup, has one ignored, and so would all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
