"""The steps of the io_uring ladder, compiled with sanitizers: each keeps the contract.

All steps share one loop with server_uring, which has all tests of a server.
"""

import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from test_server_contract import (  # noqa: F401
    finish,
    test_a_signal_ends_it_within_a_second_whatever_its_connections_do,
    test_it_prints_one_line_at_the_start_and_counts_at_the_end_and_nothing_between,
    test_the_counts_tell_what_happened_to_each_connection,
)

from helpers.harness import HERE, SANITIZED, SOURCES, compile_server

LOOP = "server_uring_one_by_one"
LADDER = [LOOP, *(p.stem for p in SOURCES.glob("server*.c") if f'"{LOOP}.c"' in p.read_text())]


@pytest.fixture(scope="module")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    folder = tmp_path_factory.mktemp("ladder")
    with ThreadPoolExecutor(2) as pool:
        compiled = {name: pool.submit(compile_server, name, folder, SANITIZED) for name in LADDER}
        yield lambda name: compiled[name].result()


@pytest.fixture(params=LADDER)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_a_machine_that_refuses_io_uring_is_one_line_and_status_69(binary: Path):
    ended = finish(sys.executable, HERE / "deny_io_uring.py", "EPERM", binary)
    assert (ended.returncode, ended.stdout) == (69, "")
    assert re.fullmatch(r".*io_uring.*\n", ended.stderr)
