"""Fixtures of all tests but those of the servers alone."""

import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

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


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="skip tests that start a process")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("quick"):
        sys.addaudithook(skip_if_process_starts)


# Tests that were skipped because they start a process.
NOT_QUICK: set[str] = set()


def skip_if_process_starts(event: str, _: object) -> None:
    """Python calls this at each event (sys.addaudithook)."""
    test = os.environ.get("PYTEST_CURRENT_TEST")
    if event == "subprocess.Popen" and test:
        NOT_QUICK.add(test.rpartition(" (")[0])
        pytest.skip("it starts a process")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A fixture may fail afterwards because there was no process."""
    report = yield
    if report.failed and item.nodeid in NOT_QUICK:
        report.outcome = "skipped"
        report.longrepr = (str(item.path), 0, "it starts a process")
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if terminalreporter.config.getoption("quick"):
        skipped = terminalreporter.stats.get("skipped", [])
        files = Counter(report.nodeid.partition("::")[0] for report in skipped)
        for file, count in files.most_common():
            terminalreporter.write_line(f"{count:5} skipped in {file}")


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
