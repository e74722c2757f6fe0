from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from helpers.harness import EXHIBITS, OPTIMIZED, SERVERS, Server, compile_all, running


@pytest.fixture(scope="session")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """The binary of a server. All servers are compiled once, in the background."""
    folder = tmp_path_factory.mktemp("servers")
    yield from compile_all([*SERVERS, *EXHIBITS], folder, OPTIMIZED)


@pytest.fixture(params=SERVERS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def binary(name: str, binaries: Callable[[str], Path]) -> Path:
    return binaries(name)


@pytest.fixture
def start(binary: Path) -> Iterator[Callable[..., Server]]:
    """Starts the server with the given options. What still runs after the test is killed."""
    with ExitStack() as servers:
        yield lambda *options: servers.enter_context(
            running([binary, "--host", "::1", "--port", "0", *options])
        )


@pytest.fixture
def server(start: Callable[..., Server]) -> Iterator[Server]:
    """A server that must survive the test, and then end well."""
    running_server = start()
    yield running_server
    if running_server.process.returncode != 0:  # None: the test has not stopped it
        running_server.stop()
