"""Profiles: reading perf's output, the gates, permission, and pictures that do not pretend."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import draw_flamegraph
from helpers.checkouts import ROOT
from hosts import perf_permission
from instruments import failed_build, perf_record, profile_gates
from workflow import obstacles

FOLDED = "server;_start;main;send;tcp_sendmsg_[k] 60\nserver;_start;main;recv 40\n"
SELF = {"tcp_sendmsg": 60, "recv": 40}
EVENTS = {"SAMPLE": 100}
ADMIN, PERFMON, SYSLOG = 1 << 21, 1 << 38, 1 << 34


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
    ("capabilities", "paranoid", "kptr_restrict", "fixes"),
    [
        (0, 2, 0, "kernel.perf_event_paranoid=1"),
        (0, 1, 0, None),
        (0, 1, 1, "kernel.kptr_restrict=0"),
        (PERFMON, 4, 0, None),
        (ADMIN, 4, 1, "kernel.kptr_restrict=0"),
        (ADMIN | SYSLOG, 4, 1, None),
        (ADMIN | SYSLOG, 4, 2, "kernel.kptr_restrict=0"),
    ],
)
def test_what_would_hide_kernel_frames_is_named_with_its_fix(
    capabilities: int, paranoid: int, kptr_restrict: int, fixes: str | None
) -> None:
    obstacle = perf_record.permission_obstacle(capabilities, paranoid, kptr_restrict)
    assert (fixes is None) == (obstacle is None)
    assert fixes is None or str(obstacle).endswith(fixes)


def test_a_new_obstacle_keeps_a_good_profile_and_a_mended_one_makes_the_others(
    tmp_path: Path,
) -> None:
    facts = tmp_path / "facts.json"
    assert obstacles.obstacle_to(str(facts), lambda: "forbidden") == "forbidden"
    facts.write_text('{"status": "ok"}')
    assert obstacles.obstacle_to(str(facts), lambda: "forbidden") == ""
    facts.write_text('{"status": "not_permitted"}')
    assert obstacles.obstacle_to(str(facts), lambda: "forbidden") == "forbidden"
    assert obstacles.obstacle_to(str(facts), str) == ""


def test_whole_cpus_are_sampled_where_that_is_allowed() -> None:
    assert perf_record.scope_of(ADMIN, 2, [1, 3], [70, 71])[:2] == ["--cpu", "1,3"]
    assert perf_record.scope_of(PERFMON, 4, [1, 3], [70, 71])[:2] == ["--cpu", "1,3"]
    assert perf_record.scope_of(0, 0, [1, 3], [70, 71]) == ["--cpu", "1,3"]
    assert perf_record.scope_of(0, 1, [1, 3], [70, 71]) == ["--pid", "70,71"]


def draw(folder: Path, folded: str, facts: dict) -> argparse.Namespace:
    names = argparse.Namespace(folded="x.folded", facts="x.json", svg="x.svg", png="x.png")
    (folder / names.folded).write_text(folded)
    (folder / names.facts).write_text(json.dumps({"server": "server", "connections": 100, **facts}))
    command = [sys.executable, str(ROOT / "scripts/draw_flamegraph.py"), *vars(names).values()]
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    subprocess.run(command, cwd=folder, check=True, env={"PATH": path})
    return argparse.Namespace(**{key: folder / name for key, name in vars(names).items()})


def test_flamegraph_shows_the_stacks_and_can_be_searched(tmp_path: Path) -> None:
    drawn = draw(tmp_path, FOLDED, {"status": "ok", "reason": ""})
    svg = drawn.svg.read_text()
    assert "tcp_sendmsg" in svg
    assert "<script" in svg
    assert "60 samples" in svg or "60.00%" in svg
    assert drawn.png.read_bytes().startswith(b"\x89PNG")


def test_same_stacks_give_the_same_picture(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = draw(tmp_path / "a", FOLDED, {"status": "ok", "reason": ""})
    second = draw(tmp_path / "b", FOLDED, {"status": "ok", "reason": ""})
    assert first.svg.read_bytes() == second.svg.read_bytes()
    assert first.png.read_bytes() == second.png.read_bytes()


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
    drawn = draw(tmp_path, "", {"status": status, "reason": "x < 2: sudo sysctl a=1"})
    assert title + "x &lt; 2: sudo sysctl a=1" in drawn.svg.read_text()
    assert drawn.png.read_bytes().startswith(b"\x89PNG")


def test_notice_escapes_what_perf_said() -> None:
    facts = {"server": "server", "connections": 1, "status": "invalid", "reason": "<b>&"}
    assert "&lt;b&gt;&amp;" in draw_flamegraph.notice_svg(facts)


def test_profile_of_a_server_that_fails_says_why(tmp_path: Path) -> None:
    if obstacle := perf_permission.obstacle_of(perf_record.check_here):
        pytest.skip(obstacle)
    binary = tmp_path / "server_typo"
    failed_build.write(str(binary), "does not compile: a.c:1: error: no")
    facts = profile_of(binary, tmp_path)
    assert facts["status"] == "failed"
    assert facts["reason"] == "does not compile: a.c:1: error: no"
    assert (tmp_path / "x.folded").read_text() == ""


def profile(folder: Path, *prefix: str, path: str | None = None) -> dict:
    """Run the script on a compiled server; the facts that it wrote."""
    binary = folder / "server_epoll"
    source = ROOT / "servers/server_epoll.c"
    command = ["gcc", "-std=c17", "-D_GNU_SOURCE", "-O2", "-g", str(source), "-o", str(binary)]
    subprocess.run([*command, "-pthread", "-l:liburing.a"], check=True)
    return profile_of(binary, folder, *prefix, path=path)


def profile_of(binary: Path, folder: Path, *prefix: str, path: str | None = None) -> dict:
    script = [sys.executable, str(ROOT / "scripts/profile_server.py")]
    arguments = [str(binary), "x.folded", "x.json", "--connections", "2", "--duration-s", "0.5"]
    environment = {**os.environ, "PATH": path or os.environ["PATH"]}
    subprocess.run(
        [*prefix, *script, *arguments], cwd=folder, check=True, env=environment, timeout=300
    )
    return dict(json.loads((folder / "x.json").read_text()))


def test_profile_without_the_right_says_what_mends_it(tmp_path: Path) -> None:
    facts = profile(tmp_path, "setpriv", "--bounding-set=-all", "--inh-caps=-all")
    paranoid = int(Path("/proc/sys/kernel/perf_event_paranoid").read_text())
    if paranoid > 1:
        assert facts["status"] == "not_permitted"
        assert facts["reason"].endswith("sudo sysctl kernel.perf_event_paranoid=1")
        assert (tmp_path / "x.folded").read_text() == ""
    else:
        assert facts["status"] in ("ok", "invalid")


def test_profile_without_perf_says_so(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("gcc", "setpriv", "sh", "taskset", "ss", "wrk"):
        (tools / tool).symlink_to(f"/usr/bin/{tool}")
    facts = profile(tmp_path, path=str(tools))
    assert facts["status"] == "unavailable"
    assert "perf is not installed" in facts["reason"]
