"""Profiles: reading perf's output, the gates, permission, and pictures that do not pretend."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import count_syscalls
from helpers.checkouts import ROOT, make_tree, run_program, run_script
from helpers.measured import compile_server, fake_server
from helpers.tools import tools_in
from hosts import perf_permission
from instruments import failed_build, perf_record, profile_gates
from workflow import obstacles

FOLDED = "server;_start;main;send;tcp_sendmsg_[k] 60\nserver;_start;main;recv 40\n"
SELF = {"tcp_sendmsg": 60, "recv": 40}
EVENTS = {"SAMPLE": 100}
ADMIN, PERFMON = 1 << 21, 1 << 38


def gates(
    folded: str = FOLDED,
    events: dict[str, int] = EVENTS,
    reported: dict[str, int] = SELF,
    expected: float = 100.0,
) -> dict[str, str]:
    return profile_gates.failed_gates(
        profile_gates.parse_folded(folded), events, reported, expected
    )


def test_good_profile_passes() -> None:
    assert gates() == {}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"expected": 130.0}, "samples where 130 were expected"),
        ({"folded": FOLDED.replace("_start;main;recv", "recv")}, "reach main"),
        ({"folded": FOLDED.replace("main;send", "main;[unknown];send")}, "unknown frame"),
        ({"events": {"SAMPLE": 100, "LOST": 1}}, "lost samples"),
        ({"reported": {"tcp_sendmsg": 60, "recv": 41}}, "self counts differ"),
        ({"folded": ""}, "0 samples"),
    ],
)
def test_gate_fails(changes: dict, said: str) -> None:
    assert said in "; ".join(gates(**changes).values())


def test_kernel_threads_of_io_uring_need_not_reach_main() -> None:
    folded = FOLDED + "iou-wrk-12;ret_from_fork_[k];io_wq_worker_[k] 50\n"
    assert gates(folded, reported={**SELF, "io_wq_worker": 50}) == {}


def test_threads_start_below_no_main() -> None:
    folded = FOLDED.replace("_start;main", "clone3;start_thread")
    assert gates(folded) == {}


def test_counts_of_perf_report_are_read() -> None:
    stats = (
        "\nAggregated stats:\n           TOTAL events:        377\n          SAMPLE events:        332  (88.1%)\n"
        "    LOST events:          2  ( 0.3%)\ncpu-clock stats:\n          SAMPLE events:        999\n"
    )
    assert profile_gates.parse_event_counts(stats) == {"TOTAL": 377, "SAMPLE": 332, "LOST": 2}
    report = (
        "# Samples: 3\n#\n"
        "            13  2717:server_epoll    [k] tcp_ack\n"
        "             2  2718:server epoll    [k] tcp_ack\n"
        "             1  2717:server_epoll    [.] operator new\n"
        "             4  2717:server_epoll    [.] 0x00007f12\n"
    )
    expected = {"tcp_ack": 15, "operator new": 1, "[unknown]": 4}
    assert profile_gates.parse_self_counts(report) == expected


@pytest.mark.parametrize(
    ("name", "format_status"),
    [
        ("facts.json", '{{"status": "{}"}}'.format),
        ("table.csv", lambda status: count_syscalls.format_table([{"status": status}])),
    ],
)
def test_a_new_obstacle_keeps_what_is_good_and_a_mended_one_makes_the_others(
    name: str, format_status: Callable[[str], str], tmp_path: Path
) -> None:
    made = tmp_path / name
    assert obstacles.obstacle_to(str(made), lambda: "forbidden") == "forbidden"
    for status, met in (("ok", ""), ("not_permitted", "forbidden")):
        made.write_text(format_status(status))
        assert obstacles.obstacle_to(str(made), lambda: "forbidden") == met
        assert obstacles.obstacle_to(str(made), str) == ""


def test_whole_cpus_are_sampled_where_that_is_allowed() -> None:
    assert perf_record.scope_of(ADMIN, 2, [1, 3], [70, 71])[:2] == ["--cpu", "1,3"]
    assert perf_record.scope_of(PERFMON, 4, [1, 3], [70, 71])[:2] == ["--cpu", "1,3"]
    assert perf_record.scope_of(0, 0, [1, 3], [70, 71]) == ["--cpu", "1,3"]
    assert perf_record.scope_of(0, 1, [1, 3], [70, 71]) == ["--pid", "70,71"]


def draw(folder: Path, folded: str, status: str, reason: str = "") -> tuple[str, bytes]:
    """The picture as SVG and as PNG."""
    facts = {"server": "server", "workload": "mine", "connections": 100}
    facts |= {"status": status, "reason": reason, "idle_connections": 9000, "samples": 100}
    make_tree(folder, {"x.folded": folded, "x.json": json.dumps(facts)})
    files = ("x.folded", "x.json", "x.svg", "x.png")
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    run = run_script("draw_flamegraph.py", *files, cwd=folder, PATH=path)
    assert run.returncode == 0, run.stderr
    return (folder / "x.svg").read_text(), (folder / "x.png").read_bytes()


def test_flamegraph_shows_the_stacks_can_be_searched_and_is_the_same_each_time(
    tmp_path: Path,
) -> None:
    svg, png = draw(tmp_path / "a", FOLDED, "ok")
    assert "tcp_sendmsg" in svg
    assert "<script" in svg
    assert "60 samples" in svg or "60.00%" in svg
    assert "share of 100 samples" in svg
    assert "server: where its CPU time goes, mine, 100 connections and 9,000 idle ones" in svg
    assert png.startswith(b"\x89PNG")
    assert draw(tmp_path / "b", FOLDED, "ok") == (svg, png)


@pytest.mark.parametrize(
    ("status", "title"),
    [
        ("not_permitted", "not permitted: "),
        ("unavailable", "not available: "),
        ("invalid", "not published: "),
        ("failed", "failed: "),
    ],
)
def test_picture_without_a_profile_says_why(status: str, title: str, tmp_path: Path) -> None:
    svg, png = draw(tmp_path, "", status, "<b>& < 2: sudo sysctl a=1")
    assert title + "&lt;b&gt;&amp; &lt; 2: sudo sysctl a=1" in svg
    assert png.startswith(b"\x89PNG")


def test_profile_of_a_server_that_fails_says_why(tmp_path: Path) -> None:
    if obstacle := perf_permission.obstacle_of(perf_record.check_here):
        pytest.skip(obstacle)
    binary = tmp_path / "server_typo"
    failed_build.write(str(binary), "does not compile: a.c:1: error: no")
    facts = profile_of(str(binary), tmp_path)
    assert (facts["status"], facts["reason"]) == ("failed", "does not compile: a.c:1: error: no")
    assert (tmp_path / "x.folded").read_text() == ""


def profile_of(
    binary: str, folder: Path, *prefix: str, workload: dict | None = None, **changes: str
) -> dict:
    """Run the script on a server; the facts that it wrote."""
    command = [*prefix, sys.executable, ROOT / "scripts/profile_server.py", binary]
    options = ["--connections", "2", "--duration-s", "0.5"]
    if workload:
        options += ["--workload-name", "mine", "--workload", json.dumps(workload)]
    run = run_program([*command, "x.folded", "x.json", *options], folder, **changes)
    assert run.returncode == 0, run.stderr
    return dict(json.loads((folder / "x.json").read_text()))


@pytest.mark.alone
def test_profile_is_of_its_workload_and_not_of_the_opening_of_idle_connections(
    tmp_path: Path,
) -> None:
    """Of more of these than select() could wait for, in the server and in the script."""
    if obstacle := perf_permission.obstacle_of(perf_record.check_here):
        pytest.skip(obstacle)
    workload = {"idle_connections": 1100, "body_bytes": 100_000}
    facts = profile_of(compile_server("server_epoll", tmp_path), tmp_path, workload=workload)
    assert facts["status"] == "ok", facts
    assert (facts["workload"], facts["idle_connections"]) == ("mine", 1100)
    assert "--body-bytes 100000" in " ".join(facts["server_command"])
    folded = (tmp_path / "x.folded").read_text()
    assert "tcp_sendmsg" in folded and "accept" not in folded
    facts = profile_of(compile_server("server_select", tmp_path), tmp_path, workload=workload)
    assert facts["status"] == "unavailable"
    assert "it does not serve 1100 idle connections" in facts["reason"]


@pytest.mark.alone
def test_stacks_of_a_handler_that_computes_are_known(tmp_path: Path) -> None:
    """It reads the clock all the time, in the vDSO."""
    if obstacle := perf_permission.obstacle_of(perf_record.check_here):
        pytest.skip(obstacle)
    workload = {"handler_burn_us": 100}
    facts = profile_of(compile_server("server_epoll", tmp_path), tmp_path, workload=workload)
    assert facts["status"] == "ok", facts
    assert "main" in (tmp_path / "x.folded").read_text()


def test_profile_without_the_right_says_what_mends_it(tmp_path: Path) -> None:
    binary = compile_server("server_epoll", tmp_path)
    facts = profile_of(binary, tmp_path, "setpriv", "--bounding-set=-all", "--inh-caps=-all")
    paranoid = int(Path("/proc/sys/kernel/perf_event_paranoid").read_text())
    if paranoid > 1:
        assert facts["status"] == "not_permitted"
        assert facts["reason"].endswith("sudo sysctl kernel.perf_event_paranoid=1")
        assert (tmp_path / "x.folded").read_text() == ""
    else:
        assert facts["status"] in ("ok", "invalid")


def test_profile_without_perf_says_so(tmp_path: Path) -> None:
    tools = tools_in(tmp_path, "setpriv", "sh", "taskset", "ss", "wrk")
    facts = profile_of(fake_server("ok", tmp_path), tmp_path, PATH=str(tools))
    assert facts["status"] == "unavailable"
    assert "perf is not installed" in facts["reason"]
