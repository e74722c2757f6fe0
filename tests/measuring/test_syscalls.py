"""System calls per request: reading perf's counts, what is said where there are none, real runs, and the picture."""

import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

import count_syscalls
import plot_syscalls
from drawing import style
from helpers.checkouts import ROOT, make_program, run_program, run_script
from helpers.measured import compile_faulty, compile_server, fake_server
from helpers.tools import tools_in
from hosts import perf_permission
from instruments import perf_stat, server_process

Rows = list[dict[str, str]]

EVENTS = ["context-switches", "page-faults", "raw_syscalls:sys_enter"]
EVENTS += [f"syscalls:sys_enter_{name}" for name in ("recvfrom", "write", "epoll_wait")]
PERF_OUTPUT = """\
Events enabled
1059,,context-switches,698517843,100.00,,
2,,page-faults,698517843,100.00,,
136855,,raw_syscalls:sys_enter,698517843,100.00,,
60813,,syscalls:sys_enter_recvfrom,698517843,100.00,,
0,,syscalls:sys_enter_write,698517843,100.00,,
15011,,syscalls:sys_enter_epoll_wait,698517843,100.00,,
"""
COUNTS = dict(zip(EVENTS, [1059, 2, 136855, 60813, 0, 15011], strict=True))
# What perf 6.1 says when it is asked to count page-faults, and may not.
USER_SPACE_ALONE = "45,,page-faults:u,754936,100.00,,\n"
FORBIDDEN = "Error:\nNo permission to enable page-faults event.\n\n\n"
LIMITED = (
    "Error:\nAccess to performance monitoring and observability operations is limited.\n"
    "Consider adjusting /proc/sys/kernel/perf_event_paranoid setting to open\naccess ...\n"
)
FIX = "sudo sysctl kernel.perf_event_paranoid=1"


@pytest.mark.parametrize("percent", ["100.00", "100,00"])
def test_counts_are_read_and_a_decimal_comma_does_not_matter(percent: str) -> None:
    assert perf_stat.parse_counts(PERF_OUTPUT.replace("100.00", percent), EVENTS) == COUNTS


def test_what_a_machine_does_not_support_is_told_by_name() -> None:
    output = PERF_OUTPUT.replace("\n2,,page", "\n<not supported>,,page")
    with pytest.raises(perf_permission.PerfObstacle, match="page-faults") as told:
        perf_stat.parse_counts(output, EVENTS)
    assert told.value.status == "unavailable"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (("\n2,,page", "\n<not counted>,,page"), r"page-faults \(<not counted>\)"),
        (("2,,page-faults,698517843,100.00,,\n", ""), r"page-faults \(no line\)"),
        (("page-faults,", "page-faults:u,"), r"page-faults \(no line\)"),
    ],
)
def test_what_was_not_counted_is_a_fault(changed: tuple[str, str], said: str) -> None:
    with pytest.raises(server_process.RunError, match=said):
        perf_stat.parse_counts(PERF_OUTPUT.replace(*changed), EVENTS)


def test_calls_without_a_name_are_the_rest_of_all() -> None:
    calls = count_syscalls.system_calls(COUNTS)
    assert calls == {"recvfrom": 60813, "epoll_wait": 15011, "other": 61031, "all": 136855}


def test_calls_by_name_may_exceed_all_by_a_few_only() -> None:
    few = {**COUNTS, "raw_syscalls:sys_enter": 60813 + 15011 - 9}
    calls = count_syscalls.system_calls(few)
    assert (calls["other"], calls["all"]) == (0, 60813 + 15011)
    with pytest.raises(server_process.RunError, match="75824 calls by name, but 70000 in all"):
        count_syscalls.system_calls({**COUNTS, "raw_syscalls:sys_enter": 70000})


def test_a_count_is_divided_by_the_requests_and_memory_is_not() -> None:
    rows = {(row["kind"], row["name"]): row for row in count_syscalls.rows_of(60712, COUNTS, 1604)}
    assert rows["system_call", "all"]["per_request"] == "2.25417"
    assert rows["context_switch", "all"]["count"] == 1059
    assert rows["page_fault", "all"]["count"] == 2
    assert rows["memory", "peak_kib"]["count"] == 1604
    assert "per_request" not in rows["memory", "peak_kib"]


@pytest.mark.parametrize(
    ("said", "ends"),
    [
        ("48,,page-faults,548648,100.00,,\n", ""),
        (USER_SPACE_ALONE, FIX),
        (LIMITED, FIX),
        (FORBIDDEN, "No permission to enable page-faults event."),
    ],
)
def test_what_keeps_perf_from_the_kernel_is_named_with_its_fix(said: str, ends: str) -> None:
    obstacle = perf_stat.kernel_obstacle(said)
    assert (obstacle is None) == (ends == "")
    assert str(obstacle or "").endswith(ends)


def test_tracefs_that_is_mounted_unreadable_is_named_with_its_fix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where it is not mounted, and where it is readable: test_checks.py."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getgid", lambda: 1001)
    monkeypatch.setattr(os.path, "ismount", lambda _path: True)
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    how = "sudo mount -o remount,mode=750,gid=1001 "
    assert how in (perf_stat.tracefs_obstacle() or perf_permission.Obstacle("")).command


def test_all_that_has_to_be_mended_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = subprocess.CompletedProcess([], 0, "", USER_SPACE_ALONE)
    monkeypatch.setattr(perf_stat.shutil, "which", lambda _name: "/usr/bin/perf")
    monkeypatch.setattr(perf_stat, "try_perf", lambda _event: refused)
    unreadable = perf_permission.Obstacle("unreadable", "sudo mount")
    monkeypatch.setattr(perf_stat, "tracefs_obstacle", lambda: unreadable)
    said = perf_permission.obstacle_of(perf_stat.check_permission)
    assert said.endswith(f"{FIX}; unreadable: sudo mount")


def count(
    binary: str, folder: Path, *prefix: str, options: Sequence[str] = (), **changes: str
) -> Rows:
    command = [*prefix, sys.executable, ROOT / "scripts/count_syscalls.py", binary, "x.csv"]
    run = run_program([*command, "--connections", "10", *options], folder, **changes)
    assert run.returncode == 0, run.stderr
    with (folder / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == count_syscalls.COLUMNS
    assert {row["server"] for row in rows} == {Path(binary).name}
    return rows


@pytest.fixture(scope="module")
def perf() -> None:
    """Tests with real counts; asked of perf itself, not of the script."""
    command = ["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "true"]
    run = run_program(command)
    if run.returncode != 0 or ",raw_syscalls:sys_enter," not in run.stderr:
        pytest.skip(f"perf may not count system calls here: {run.stderr.strip()}")


def calls_of(rows: Rows) -> dict[str, float]:
    """System calls per request."""
    assert {row["status"] for row in rows} == {"ok"}, rows[0]["reason"]
    return {row["name"]: float(row["per_request"]) for row in rows if row["kind"] == "system_call"}


@pytest.fixture(scope="module")
def epoll(perf: None, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    folder = tmp_path_factory.mktemp("epoll")
    return count(compile_server("server_epoll", folder), folder)


@pytest.mark.alone
def test_epoll_receives_and_sends_once_a_request(epoll: Rows) -> None:
    calls = calls_of(epoll)
    assert calls["recvfrom"] == pytest.approx(1, abs=0.05)
    assert calls["sendto"] == pytest.approx(1, abs=0.05)
    assert 0 < calls["epoll_wait"] < 1.1
    assert calls["other"] < 0.01


@pytest.mark.alone
def test_counts_of_a_real_run_agree_with_each_other(epoll: Rows) -> None:
    counts = {(row["kind"], row["name"]): int(row["count"]) for row in epoll}
    calls = {name: number for (kind, name), number in counts.items() if kind == "system_call"}
    assert calls.pop("all") == sum(calls.values())
    assert 0 < counts["context_switch", "all"] < sum(calls.values())
    assert counts["page_fault", "all"] < 1000
    assert 500 < counts["memory", "peak_kib"] < 20_000
    assert len({row["requests"] for row in epoll}) == 1
    for row in epoll:
        if row["per_request"]:
            expected = int(row["count"]) / int(row["requests"])
            assert float(row["per_request"]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.alone
def test_calls_are_counted_in_a_workload_without_the_opening_of_its_idle_connections(
    perf: None, tmp_path: Path
) -> None:
    """Of more of these than select() could wait for, in the server and in the script."""
    options = ["--workload-name", "mine", "--workload", '{"idle_connections": 1100}']
    rows = count(compile_server("server_epoll", tmp_path), tmp_path, options=options)
    assert {row["workload"] for row in rows} == {"mine"}
    counts = {row["name"]: int(row["count"]) for row in rows}
    assert calls_of(rows)["recvfrom"] == pytest.approx(1, abs=0.05)
    assert counts["accept4"] < 100
    (row,) = count(compile_server("server_select", tmp_path), tmp_path, options=options)
    assert (row["workload"], row["status"]) == ("mine", "unavailable")
    assert "it does not serve 1100 idle connections" in row["reason"]


@pytest.mark.alone
def test_uring_needs_less_than_half_of_epolls_calls(epoll: Rows, tmp_path: Path) -> None:
    rows = count(compile_server("server_uring", tmp_path), tmp_path)
    if rows[0]["status"] == "unavailable":
        pytest.skip(rows[0]["reason"])
    calls = calls_of(rows)
    assert calls["all"] < calls_of(epoll)["all"] / 2
    assert calls["io_uring_enter"] == pytest.approx(calls["all"], abs=0.02)


@pytest.mark.alone
def test_calls_of_threads_and_processes_that_the_server_starts_are_counted(
    perf: None, tmp_path: Path
) -> None:
    for name in ("server_thread", "server_epoll_multitask"):
        calls = calls_of(count(compile_server(name, tmp_path), tmp_path))
        assert calls["recvfrom"] == pytest.approx(1, abs=0.05)
        assert calls["sendto"] == pytest.approx(1, abs=0.05)


def test_a_crash_gives_a_row_that_says_so(perf: None, tmp_path: Path) -> None:
    (row,) = count(fake_server("crashes", tmp_path), tmp_path)
    said = "the server ended during the run: SIGSEGV"
    assert (row["status"], row["reason"], row["count"]) == ("failed", said, "")


def test_errors_in_the_load_are_told_instead_of_counts(perf: None, tmp_path: Path) -> None:
    (row,) = count(compile_faulty("errors", tmp_path), tmp_path)
    assert row["status"] == "invalid"
    assert row["reason"].startswith("wrk saw errors: ")
    assert row["reason"].endswith("; to try again, delete x.csv")
    assert row["count"] == row["per_request"] == ""


def test_a_load_without_an_answer_is_no_divisor() -> None:
    with pytest.raises(perf_permission.PerfObstacle, match="not one request"):
        count_syscalls.check_load({"read": 0, "timeout": 0}, 0)
    count_syscalls.check_load({"read": 0, "timeout": 0}, 1)


def test_a_server_that_cannot_run_here_says_so(perf: None, tmp_path: Path) -> None:
    (row,) = count(fake_server("unavailable", tmp_path), tmp_path)
    assert row["status"] == "unavailable"
    assert "this machine has no such thing" in row["reason"]


def test_counting_without_the_right_says_what_mends_it(tmp_path: Path) -> None:
    if int(Path("/proc/sys/kernel/perf_event_paranoid").read_text()) <= 1:
        pytest.skip("kernel.perf_event_paranoid lets everybody count in the kernel")
    binary = fake_server("unavailable", tmp_path)  # it is not even started
    (row,) = count(binary, tmp_path, "setpriv", "--bounding-set=-all", "--inh-caps=-all")
    assert row["status"] == "not_permitted"
    assert FIX in row["reason"]


def test_counting_without_perf_says_so(tmp_path: Path) -> None:
    tools = tools_in(tmp_path, "sh", "setpriv", "taskset", "wrk")
    (row,) = count(fake_server("unavailable", tmp_path), tmp_path, PATH=str(tools))
    assert row["status"] == "unavailable"
    assert "perf is not installed" in row["reason"]


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("No permissions to read /sys/kernel/tracing/events/raw_syscalls", "not_permitted"),
        ("Unable to find debugfs/tracefs", "unavailable"),
    ],
)
def test_what_perf_says_when_it_refuses_is_handed_on(
    said: str, status: str, tmp_path: Path
) -> None:
    if obstacle := perf_stat.tracefs_obstacle():
        pytest.skip(str(obstacle))  # then perf is not even asked
    tools = tools_in(tmp_path, "sh", "setpriv", "taskset", "wrk")
    refused = f"event syntax error\nError:\t{said}\nRun 'perf list' for a list of valid events"
    refuses = f'case "$*" in *" -p "*) echo "{refused}" >&2; exit 129;; esac'
    make_program(tools / "perf", f"{refuses}\necho 48,,page-faults,1,100.00,, >&2")
    path = f"{tools}:{Path(sys.executable).parent}"
    (row,) = count(fake_server("good", tmp_path), tmp_path, PATH=path)
    assert row["status"] == status
    assert row["reason"] == f"perf stat failed: {said}; to try again, delete x.csv"


def ok_rows(server: str, calls: dict[str, float]) -> Rows:
    run = {"server": server, "connections": "100", "status": "ok", "requests": "1000"}
    run["workload"] = "keepalive"
    seen = [("system_call", name, number) for name, number in calls.items()]
    seen += [("system_call", "all", sum(calls.values()))]
    seen += [("context_switch", "all", 0.014), ("page_fault", "all", 0.0)]
    rows = [
        {**run, "kind": kind, "name": name, "count": f"{each * 1000:.0f}", "per_request": f"{each}"}
        for kind, name, each in seen
    ]
    return [*rows, {**run, "kind": "memory", "name": "peak_kib", "count": "10240"}]


def no_rows(server: str, status: str, reason: str) -> Rows:
    asked = {"server": server, "connections": "100", "workload": "keepalive"}
    return [{**asked, "status": status, "reason": reason}]


EPOLL_CALLS = {"recvfrom": 1.0, "sendto": 1.0, "epoll_wait": 0.25, "close": 0.01, "other": 0.01}
EPOLL = ok_rows("server_epoll", EPOLL_CALLS)
URING = ok_rows("server_uring", {"io_uring_enter": 0.3})
FORBIDDEN_ROW = no_rows(
    "server_mine",
    "not_permitted",
    f"perf may not count in the kernel: {FIX}; /sys/kernel/tracing is not readable: "
    "sudo mount -o remount,mode=750,gid=1000 /sys/kernel/tracing",
)
TABLES = {
    "all counted": [*EPOLL, *URING],
    "some": [*EPOLL, *FORBIDDEN_ROW, *no_rows("server_uring", "invalid", "wrk saw errors: 2 read")],
    "none": [*FORBIDDEN_ROW, *no_rows("server_uring", "unavailable", "io_uring is forbidden")],
}


def write_table(folder: Path, name: str) -> Path:
    table = folder / "syscalls.csv"
    others = [{**row, "workload": "mine", "connections": "50"} for row in EPOLL]
    table.write_text(count_syscalls.format_table([*TABLES[name], *others]))
    return table


def table_of(folder: Path, name: str) -> pd.DataFrame:
    table = pd.read_csv(write_table(folder, name))
    return table[table["workload"] == "keepalive"]


@pytest.mark.parametrize("name", TABLES)
def test_picture_is_made_and_is_the_same_each_time(name: str, tmp_path: Path) -> None:
    table = write_table(tmp_path, name)
    asked = ("keepalive", table, "a.png")
    run = run_script("plot_syscalls.py", *asked, cwd=tmp_path, PYTHONWARNINGS="error")
    assert run.returncode == 0, run.stderr
    plot_syscalls.draw(table_of(tmp_path, name), str(tmp_path / "b.png"))
    assert (tmp_path / "a.png").stat().st_size > 5000
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def drawn(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Figure:
    figures: list[Figure] = []
    monkeypatch.setattr(style, "save", lambda figure, _path: figures.append(figure))
    plot_syscalls.draw(table_of(folder, name), "")
    figures[0].canvas.draw()
    return figures[0]


def test_picture_shows_calls_and_totals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = drawn("all counted", tmp_path, monkeypatch)
    calls, switches, memory = ([text.get_text() for text in panel.texts] for panel in figure.axes)
    assert (calls, switches, memory) == (["2.27", "0.30"], ["0.014"] * 2, ["10.0"] * 2)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    # Rare calls, as close here, are among the others.
    assert legend == ["recvfrom", "sendto", "epoll_wait", "io_uring_enter", "other"]


def test_bars_of_a_server_add_up_to_its_total(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = drawn("all counted", tmp_path, monkeypatch).axes[0]
    ends: dict[float, float] = {}
    for bar in panel.patches:
        x, y = bar.get_xy()
        assert x == pytest.approx(ends.get(y, 0.0))
        ends[y] = x + bar.get_width()
    assert sorted(ends.values()) == pytest.approx([0.3, 2.27])


@pytest.mark.parametrize("name", ["some", "none"])
def test_server_without_counts_says_why_in_its_row(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = drawn(name, tmp_path, monkeypatch).axes[0]
    said = {" ".join(text.get_text().split()): text for text in panel.texts}
    reasons = [
        f"{plot_syscalls.TITLES[row['status']]}: {row['reason']}"
        for row in TABLES[name]
        if row["status"] != "ok"
    ]
    assert len(reasons) == 2
    for reason in reasons:
        box = said[reason].get_window_extent()
        assert box.x1 < panel.bbox.x1  # within its panel
