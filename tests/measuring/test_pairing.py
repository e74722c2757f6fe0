"""The paired phase: its slices, what its counts give, and a real one whose answer is known."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

import measure_cell
from helpers.checkouts import ROOT, eventually, make_program, processes_mentioning
from helpers.measured import compile_server, fake_server, measure
from measuring import pairing
from measuring.pairing import REFERENCE, SERVER
from sweep import flags
from sweep.workloads import Workload

NO_ERRORS = dict.fromkeys(("connect", "read", "write", "status", "timeout"), 0)


@pytest.mark.parametrize("connections", [1, 10, 11, 64, 500, 1000, 5000])
def test_each_pair_of_slices_has_one_of_both_sides_and_each_side_its_load(connections: int) -> None:
    plan = pairing.plan_of(connections, 0.5, "seed")
    for block in plan.blocks:
        pairs = list(zip(block[::2], block[1::2], strict=True))
        assert all(set(pair) == {SERVER, REFERENCE} for pair in pairs)
        assert len(pairs) >= pairing.LEAST_PAIRS
    assert plan.slices * plan.slice_s >= 0.5 - 1e-9
    assert plan.slice_s >= 10 * connections * 10e-6  # several rounds of all connections


def test_which_side_comes_first_is_random_but_the_same_each_time() -> None:
    plans = [pairing.plan_of(1, 1.0, f"seed {number}") for number in range(20)]
    orders = [list(itertools.chain(*plan.blocks)) for plan in plans]
    assert plans[0] == pairing.plan_of(1, 1.0, "seed 0")
    assert len(set(map(tuple, orders))) == 20
    first = [order[place] for order in orders for place in range(0, len(order), 2)]
    assert 0.4 < first.count(SERVER) / len(first) < 0.6


def test_ratios_are_of_work_for_a_request_and_of_requests_in_a_sides_own_time() -> None:
    found = pairing.figures_of(
        [1.0, 2.0], [100.0, 300.0], [1000, 2000], 1, is_sound=True, is_counted=True
    )
    assert found["cpu_ratio"] == pytest.approx((1000 / 100) / (2000 / 300))
    assert found["throughput_ratio"] == pytest.approx(100 / 150)
    assert found["reference_requests_per_second"] == pytest.approx(150)


def test_what_a_busy_server_answers_after_its_slices_takes_its_time() -> None:
    """One is busy all the time, and has 0.2 s more to do after its slices; the other one rests."""
    found = pairing.figures_of(
        [1.0, 1.0], [120.0, 100.0], [1_200_000_000, 500_000_000], 1, is_sound=True, is_counted=True
    )
    assert found["throughput_ratio"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("changes", "known"),
    [
        ({"requests": [0.0, 5.0]}, set()),
        ({"requests": [5.0, 0.0]}, set()),
        ({"is_sound": False}, set()),
        ({"cpu_ns": [None, 5]}, {"throughput_ratio", "reference_requests_per_second"}),
        ({"cpu_ns": [5, 0]}, {"throughput_ratio", "reference_requests_per_second"}),
    ],
)
def test_what_is_not_known_is_empty_and_flagged(changes: dict[str, Any], known: set[str]) -> None:
    asked = {"seconds": [1.0, 1.0], "requests": [5.0, 5.0], "cpu_ns": [5, 5], "cpus": 1}
    asked |= {"is_sound": True, "is_counted": True}
    found = pairing.figures_of(**{**asked, **changes})
    assert {name for name, ratio in found.items() if ratio is not None} == known
    assert flags.is_unpaired({**found, "paired": {"seconds": [1.0, 1.0]}})
    assert not flags.is_unpaired({"cpu_ratio": 1.0, "throughput_ratio": None, "paired": asked})


def test_throughput_is_not_told_where_answers_after_the_slices_may_count() -> None:
    found = pairing.figures_of([1.0, 1.0], [5.0, 5.0], [5, 5], 1, is_sound=True, is_counted=False)
    assert found["throughput_ratio"] is None
    assert found["cpu_ratio"] == 1 and found["reference_requests_per_second"] == 5


def test_a_pause_is_long_enough_for_what_is_under_way_and_no_longer() -> None:
    assert pairing.plan_of(10, 0.5, "").pause_s == 0
    assert pairing.plan_of(64, 0.5, "", round_s=0.001).pause_s == 0
    assert pairing.plan_of(64, 0.5, "", round_s=0.02).pause_s == pytest.approx(0.03)
    assert pairing.plan_of(1000, 0.5, "", round_s=0.5).pause_s == pairing.MOST_PAUSE_S
    assert 0 < pairing.plan_of(1000, 0.5, "").pause_s < pairing.MOST_PAUSE_S


def test_a_server_that_still_works_in_the_others_slices_has_no_ratio() -> None:
    for connections, round_s, longest_s in ((10, None, 2e-4), (500, 1.0, 1e-4)):
        plan = pairing.plan_of(connections, 0.5, "", round_s)
        for factor, is_drained in ((0.9, True), (1.1, False)):
            cost_ns = int(factor * longest_s * 1e9 * 1000)
            found = pairing.is_drained_in_time(plan, connections, 1000, 1.0, cost_ns, 1)
            assert found == is_drained
    # Of four CPUs that were busy for 0.4 s each: a round of all connections takes 3 ms, not 12 ms.
    plan = pairing.plan_of(500, 0.4, "", round_s=0.003)
    for cpus, is_drained in ((4, True), (1, False)):
        found = pairing.is_drained_in_time(plan, 500, 66_667, 0.4, 1_600_000_000, cpus)
        assert found == is_drained


def test_a_late_answer_is_no_error_of_the_paired_phase_and_all_others_are() -> None:
    """A wrk that rests takes the time for latency."""
    assert not pairing.has_errors([{**NO_ERRORS, "timeout": 9}, NO_ERRORS])
    for kind in NO_ERRORS.keys() - {"timeout"}:
        assert pairing.has_errors([NO_ERRORS, {**NO_ERRORS, kind: 1}])


def test_a_cells_ratio_is_the_median_of_its_blocks_or_not_known() -> None:
    def ratio(*requests: float | None) -> float | None:
        blocks = [pairing.Work([1.0, 1.0], [done, 100.0], [10, 10]) for done in requests]
        found = pairing.figures_of_blocks(blocks, 1, is_sound=True, is_counted=True)
        assert (found["cpu_ratio"] is None) == (found["throughput_ratio"] is None)
        return found["cpu_ratio"]

    assert ratio(100.0, 80.0, 5.0) == pytest.approx(100 / 80)  # something has hit the last
    assert ratio(100.0, 50.0, 80.0, 5.0) == pytest.approx((100 / 80 + 100 / 50) / 2)
    assert ratio(100.0, None, 5.0) is None
    assert ratio(100.0, 0.0, 100.0) is None


def test_requests_are_counted_by_the_kernel_on_connections_that_stay() -> None:
    assert pairing.requests_of({"a": 100, "b": 0}, {"a": 300, "b": 50}, 10.0) == 25
    assert pairing.requests_of({"a": 100}, {"b": 300}, 10.0) is None
    assert pairing.requests_of({}, {}, 10.0) is None
    assert pairing.requests_of({"a": 100}, {"a": 300}, None) is None


def test_a_disturbed_phase_disturbs_its_cell() -> None:
    still = dict.fromkeys(
        (
            "steal_share",
            "cpu_pressure_share",
            "client_wait_share",
            "server_wait_share",
            "foreign_cpu_share",
        )
    )
    assert not flags.is_disturbed({**still, "paired": still})
    assert flags.is_disturbed({**still, "paired": {**still, "steal_share": 0.5}})


# --- Real ones ---


def compile_text(text: str, folder: Path) -> str:
    """A server that is the reference but for what the text says."""
    (folder / "changed.c").write_text(
        f'#include "common/connection.h"\n{text}#include "reference.c"\n'
    )
    command = ["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-O2", f"-I{ROOT / 'servers'}", "-pthread"]
    subprocess.run([*command, "changed.c", "-o", "changed"], check=True, cwd=folder)
    return str(folder / "changed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("pairing")
    for name in ("reference", "server_epoll"):
        compile_server(name, found)
    return found


SHORT = ["--connections", "8", "--duration-s", "0.3", "--warmup-s", "0.1"]


def measured(server: str, folder: Path, output: Path, *arguments: str) -> dict[str, Any]:
    """Beside the reference, whose folder it is."""
    reference = ["--reference", str(folder / "reference")]
    run = measure(server, output / "r.json", *reference, *SHORT, *arguments)
    assert run.returncode == 0, run.stderr
    return dict(json.loads((output / "r.json").read_text()))


# A server that does the reference's work, and a loop of some µs for each request besides.
LOOP = """\
static inline void busy(void) { for (volatile int i = 0; i < 20000; i++) { } }
#define send(...) (busy(), send(__VA_ARGS__))
"""


@pytest.mark.alone
@pytest.mark.parametrize("connections", ["8", "80"])
def test_needless_work_shows_in_the_ratio_and_the_counts_leave_the_phase_out(
    connections: str, folder: Path, tmp_path: Path
) -> None:
    busy = compile_text(LOOP, tmp_path)
    record = measured(busy, folder, tmp_path, "--connections", connections)
    assert record["cpu_ratio"] > 1.5
    assert record["throughput_ratio"] is None or record["throughput_ratio"] < 1
    paired = record["paired"]
    assert paired["counted_by"] == ["kernel", "kernel"]
    assert paired["connections"] == [int(connections)] * 2
    assert len(paired["blocks"]) == 4
    assert sum(block["requests"][0] for block in paired["blocks"]) == paired["requests"][0] > 0
    assert record["status"] == "ok" and "unpaired" not in record["flags"]
    assert record["kernel_connections"] == record["server_accepted"] == 1 + int(connections)
    assert record["kernel_responses"] == record["server_requests"]


# From its 51st answer on the last byte is wrong, but not when it is started for the first time.
WRONG_LATER = """\
#include <fcntl.h>
#include <unistd.h>
static int is_second, sent;
static __attribute__((constructor)) void note(void)
{
    is_second = access("started", F_OK) == 0;
    close(open("started", O_CREAT | O_WRONLY, 0600));
}
static ssize_t send_later(int fd, const char *data, size_t size, int flags)
{
    char copy[1024];
    memcpy(copy, data, size);
    copy[size - 1] ^= is_second && ++sent > 50;
    return send(fd, copy, size, flags);
}
#define send send_later
"""


def test_a_server_that_answers_wrongly_in_the_phase_alone_is_invalid(
    folder: Path, tmp_path: Path
) -> None:
    record = measured(compile_text(WRONG_LATER, tmp_path), folder, tmp_path)
    assert record["response_unchanged"] and not record["paired"]["response_unchanged"]
    assert record["status"] == "invalid" and "wrong_responses" in record["flags"]


def test_a_server_that_fails_in_the_phase_alone_is_told_to_fail_there(
    folder: Path, tmp_path: Path
) -> None:
    """At its second start."""
    make_program(tmp_path / "once", f'mkdir started && exec {folder}/server_epoll "$@"')
    record = measured(str(tmp_path / "once"), folder, tmp_path)
    assert record["status"] == "failed"
    assert record["reason"].startswith("in the paired phase: the server did not start")


@pytest.mark.alone
@pytest.mark.parametrize("connections", ["8", "80"])
def test_the_reference_against_itself_is_near_1(
    connections: str, folder: Path, tmp_path: Path
) -> None:
    """Wide, for a busy machine: what it would find is a side that counts what the other does."""
    copy = shutil.copy(folder / "reference", tmp_path / "copy")
    alike = ["--connections", connections, "--workers", "cpus"]  # as the reference is started
    record = measured(str(copy), folder, tmp_path, *alike)
    assert 1 / 1.5 < record["cpu_ratio"] < 1.5, record["paired"]
    # It is not known where a busy machine leaves few requests for a slice.
    if record["throughput_ratio"] is not None:
        assert 1 / 1.5 < record["throughput_ratio"] < 1.5, record["paired"]


@pytest.mark.alone
def test_a_server_that_closes_after_each_request_is_counted_by_wrk(
    folder: Path, tmp_path: Path
) -> None:
    record = measured(compile_server("server_uring_naive", tmp_path), folder, tmp_path)
    if record["status"] == "unavailable":
        pytest.skip(record["reason"])
    assert record["paired"]["counted_by"] == ["wrk", "kernel"]
    assert record["cpu_ratio"] > 1
    # Of wrk's whole life, in which both loads once run at a time.
    assert record["throughput_ratio"] is None
    assert not {"connections_disagree", "unpaired"} & set(record["flags"])


FAULTY = {
    "missing": (None, "No such file or directory"),
    "not compiled": (
        "# not built: does not compile: x.c:1: error",
        "the reference not compiled: does not compile: x.c:1: error",
    ),
    "does not start": (
        "echo no >&2; exit 3",
        "the reference does not start: the server did not start: status 3 (no)",
    ),
    "wrong_body": (None, "the reference wrong_body: the server's body is not"),
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_bad_reference_is_one_line_and_no_record(name: str, folder: Path, tmp_path: Path) -> None:
    text, said = FAULTY[name]
    if name == "wrong_body":
        fake_server(name, tmp_path)
    if text:
        make_program(tmp_path / name, text)
    reference = ["--reference", str(tmp_path / name), *SHORT]
    run = measure(str(folder / "server_epoll"), tmp_path / "r.json", *reference)
    assert run.returncode == 1
    assert said in run.stderr and len(run.stderr.splitlines()) == 1
    assert not (tmp_path / "r.json").exists()
    assert processes_mentioning(str(tmp_path)) == []


def test_a_reference_that_was_not_built_costs_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairing.failed_build, "reason_of", lambda _: "does not compile")
    monkeypatch.setattr(measure_cell, "measure", lambda *_: pytest.fail("measured"))
    asked = Namespace(reference="r", paired_s=1.0, disturbed_retries=0, workload=Workload())
    with pytest.raises(pairing.ReferenceFault, match="the reference r: does not compile"):
        measure_cell.measure_undisturbed(cast("Any", None), asked)


def wait_for_rest(folder: Path) -> dict[str, int]:
    """Until the paired phase runs: process ids of both servers and of a wrk that rests, by name."""
    found: dict[str, int] = {}

    def rests() -> bool:
        found.clear()
        for process in psutil.process_iter(["name", "cwd", "status"]):
            is_at_rest = process.info["status"] == psutil.STATUS_STOPPED
            if process.info["cwd"] == str(folder) and (process.info["name"] != "wrk" or is_at_rest):
                found[process.info["name"]] = process.pid
        return {"wrk", "server_epoll", "reference"} <= found.keys()

    assert eventually(rests, 60), "no paired phase"
    return found


def start_long(folder: Path, own: Path) -> "subprocess.Popen[str]":
    """A cell with a paired phase of 10 s, of copies that processes_mentioning() finds by their folder."""
    server, reference = (
        str(shutil.copy(folder / name, own)) for name in ("server_epoll", "reference")
    )
    command = [sys.executable, str(ROOT / "scripts/measure_cell.py"), server, "r.json", *SHORT]
    command += ["--reference", reference, "--disturbed-retries", "0", "--paired-s", "5"]
    return subprocess.Popen(command, cwd=own, stderr=subprocess.PIPE, text=True)


ENDS = {
    "server_epoll": (0, "the server ended during the run: SIGKILL"),
    "reference": (
        1,
        "the reference, in the paired phase: the server ended during the run",
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_side_that_is_killed_in_the_phase_is_one_line_and_nothing_is_left(
    name: str, folder: Path, tmp_path: Path
) -> None:
    process = start_long(folder, tmp_path)
    os.kill(wait_for_rest(tmp_path)[name], signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    status, said = ENDS[name]
    assert process.returncode == status
    assert said in errors and len(errors.splitlines()) == 1
    assert processes_mentioning(str(tmp_path)) == []


def test_nothing_rests_after_a_kill(folder: Path, tmp_path: Path) -> None:
    process = start_long(folder, tmp_path)
    wrk = wait_for_rest(tmp_path)["wrk"]
    process.kill()
    process.communicate()
    assert eventually(
        lambda: not processes_mentioning(str(tmp_path)) and not Path(f"/proc/{wrk}").exists()
    )
