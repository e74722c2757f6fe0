from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from generator import compile_load

from helpers.harness import OPTIMIZED, Server, compile_all, running

SERVERS = ["server", "server_epoll"]


@pytest.fixture(scope="session")
def load(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generator, compiled as the workflow does it."""
    return compile_load(tmp_path_factory.mktemp("load"), OPTIMIZED)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    yield from compile_all(SERVERS, tmp_path_factory.mktemp("servers"), OPTIMIZED)


@pytest.fixture
def start(servers: Callable[[str], Path]) -> Iterator[Callable[..., Server]]:
    """Starts a server with options, on a CPU if one is given. What still runs after the test is killed."""
    with ExitStack() as stack:

        def start_server(name: str, *options: str, cpu: int | None = None) -> Server:
            launcher = [] if cpu is None else ["taskset", "--cpu-list", str(cpu)]
            return stack.enter_context(running([*launcher, servers(name), "--port", "0", *options]))

        yield start_server
