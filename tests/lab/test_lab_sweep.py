"""make lab and make lab-ssh for real, in small: plots at the end, of traffic that crossed the link. They need root."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.checkouts import ROOT, processes_mentioning, run_program
from hosts import interfaces

pytestmark = pytest.mark.alone
TARGETS = "plots/server_epoll.png plots/server_epoll_flamegraph.svg results/syscalls.csv"
# By ssh the server's side too, on the other host.
REVERSED = 'network={interface: io-models1, load_interface: io-models0, server: "ssh:lab", load: here, ssh_config: '


def loopback_bytes() -> int:
    return interfaces.read_counters("lo")["sent_bytes"]


def run(*command: str) -> str:
    done = run_program(command, ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def records_of(folder: Path) -> list[dict[str, Any]]:
    paths = sorted(folder.glob("results/c*/**/c*_r*.json"))
    return [json.loads(path.read_text()) for path in paths]


@pytest.fixture(scope="module", params=["lab", "lab-ssh"])
def lab(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path, int]]:
    """Which of the two, its folder, and what crossed this machine's own loopback meanwhile."""
    assert os.geteuid() == 0, (
        "the lab needs root: run the tests as root, or leave these out (-k 'not lab')"
    )
    folder = tmp_path_factory.mktemp(request.param)
    before = loopback_bytes()
    run("make", request.param, f"FOLDER={folder}", "OVERLAY=tests/lab.yaml", f"TARGETS={TARGETS}")
    yield request.param, folder, loopback_bytes() - before


def test_sweep_ends_with_pictures(lab: tuple[str, Path, int]) -> None:
    _, folder, _ = lab
    assert (folder / "plots/server_epoll.png").stat().st_size > 10_000
    flamegraph = (folder / "plots/server_epoll_flamegraph.svg").read_text()
    assert "tcp_sendmsg" in flamegraph, flamegraph[:2000]
    counts = (folder / "results/syscalls.csv").read_text()
    assert "server_epoll,10,ok," in counts


def test_traffic_of_every_run_crossed_the_link(lab: tuple[str, Path, int]) -> None:
    """By the counters of io-models0: every byte that wrk received was sent there, and nearly none on loopback."""
    _, folder, loopback = lab
    records = records_of(folder)
    assert len(records) == 2
    for record in records:
        assert record["status"] == "ok", record["flags"]
        crossed = record["interface"]
        assert crossed["sent_bytes"] > record["response_bytes"] > 100_000
        assert crossed["sent_packets"] >= record["requests"] / record["connections"]
        assert crossed["received_bytes"] > record["requests"] * len("GET / HTTP/1.1\r\n\r\n")
        assert "%io-models1]:" in record["load_command"][-1]
        assert record["server_command"][-2:] == ["--interface", "io-models0"]
    assert loopback < sum(record["response_bytes"] for record in records) / 10


def test_all_that_is_recorded_here_is_recorded_there(lab: tuple[str, Path, int]) -> None:
    name, folder, _ = lab
    for record in records_of(folder):
        for key in (
            *("server_cpu_ns_per_request", "client_cpu_share", "server_memory_peak_kib"),
            *("fairness_jain", "kernel_connections", "kernel_responses", "server_accepted"),
            "cpu_ratio",
            *("steal_share", "foreign_cpu_share", "client_wait_share", "server_wait_share"),
        ):
            assert record[key] is not None, key
        assert record["established_connections"] == record["connections"]
        ahead = {"lab": {"server", "load"}, "lab-ssh": {"load"}}[name]
        assert record["clocks_ahead_s"].keys() == ahead
        assert all(abs(seconds) < 0.2 for seconds in record["clocks_ahead_s"].values())
        assert record["facts"]["network"]["driver"] == "veth"
        assert "over io-models0 (veth)" in record["facts"]["network_label"]
        assert (
            record["asked"]["network"]["load"]
            == {"lab": "netns:io_models_load", "lab-ssh": "ssh:lab"}[name]
        )


def test_nothing_is_left(lab: tuple[str, Path, int]) -> None:
    _, folder, _ = lab
    assert "io_models" not in run("ip", "netns", "list")
    assert processes_mentioning(str(folder)) == []
    assert processes_mentioning("/run/io_models_lab") == []
    assert not Path("/run/io_models_lab").exists()


def test_server_on_the_other_host(tmp_path: Path) -> None:
    """Its program, and perf, run there: nothing but Python and the tools is expected of that host."""
    command = [
        ".venv/bin/python",
        "scripts/run_lab.py",
        "run",
        "--ssh",
        "--",
        ".venv/bin/snakemake",
        "-j1",
    ]
    path = "results/cells/keepalive/server_epoll/c10_r1.json"
    command += [path, "plots/server_epoll_flamegraph.svg"]
    command += ["--directory", str(tmp_path), "--configfile", "demo/lab.yaml", "tests/lab.yaml"]
    run(*command, "--config", REVERSED + "{ssh_config}}")
    (record,) = records_of(tmp_path)
    assert record["status"] == "ok", record["flags"]
    assert record["server_command"][-2:] == ["--interface", "io-models1"]
    assert str(tmp_path) not in " ".join(record["server_command"])  # it was sent there
    assert record["interface"]["sent_bytes"] > record["response_bytes"]
    assert "tcp_sendmsg" in (tmp_path / "plots/server_epoll_flamegraph.svg").read_text()
