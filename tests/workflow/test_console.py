"""What terminals show: tables and lines no wider than they are, colours where wanted, and nothing by colour alone."""

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import compare_result_sets
import print_summary
from analysis import tables
from analysis.summary import summary_table
from analysis.verdicts import VERDICT_COLUMNS
from common import terminal
from helpers.checkouts import ROOT, run_in_terminal, run_program
from helpers.made_up import failed, record, unavailable
from workflow import progress

SHOW = "import sys; from common import terminal; print(terminal.format_fitted(sys.argv[1]))"
SPARE = {
    "results/summary.txt": print_summary.SPARE,
    "results/compare.txt": compare_result_sets.SPARE,
}
COMPARED = compare_result_sets.Comparison(
    pd.DataFrame(
        [
            ["cpu_ratio", "server_epoll", "changed", 3.228, 2.898, 3.595, 7e-8, 22, "slower"],
            ["throughput_ratio", "server_poll", "same", 1.2, 0.8, 1.6, 0.28, 81, "no difference"],
        ],
        columns=[
            *("metric", "server", "binary", "ratio", "ratio_low", "ratio_high", "p_adjusted"),
            *("smallest_detectable_percent", "verdict"),
        ],
    ).assign(connections="all", workload="keepalive"),
    pd.DataFrame(),
    ["Got slower: server_epoll."],
)


def point(server: str, **changes: Any) -> dict[str, Any]:
    busy = {"server_cpu_share": 0.5, "server_busiest_thread_share": 0.5}
    return {**record(connections=1000), "server": server, **busy, **changes}


RECORDS = [
    point("server", unserved_connections=999, server_cpu_share=0.99),
    point("server_uring_multitask", server_cpu_share=0.99, requests=3_000_000),
    point("server_epoll", client_cpu_share=0.99, requests=2_000_000),
    point("server_poll"),
    point("server_select", flags=["disturbed"]),
    point("server_errs", status="invalid", flags=["errors"], errors=1),
    {**unavailable(), "server": "server_absent"},
    {**failed(), "server": "server_crash"},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the tables of a finished sweep."""
    summary = summary_table(tables.cell_table(RECORDS))
    (tmp_path / "results").mkdir()
    ratios = print_summary.ratios_of(tables.cell_table(RECORDS))
    shown = print_summary.tabulate(summary, ratios=ratios)
    terminal.write_table(shown, str(tmp_path / "results/summary.txt"))
    compared = compare_result_sets.tabulate(COMPARED)
    terminal.write_table(compared, str(tmp_path / "results/compare.txt"))
    return tmp_path


def python(folder: Path, columns: int, program: str, *arguments: str, **changes: str) -> str:
    """What a program with our modules shows on a terminal."""
    command = [sys.executable, "-c", program, *arguments]
    changes["PYTHONPATH"] = str(ROOT / "scripts")
    return run_in_terminal(command, folder, columns, **changes)


def show(folder: Path, columns: int, path: str = "results/summary.txt", **changes: str) -> str:
    return python(folder, columns, SHOW, path, **changes)


def plain(text: str) -> str:
    return re.sub(r"\033\[\d+m", "", text)


def cells_of(text: str) -> list[list[str]]:
    return [re.split(r"  +", line) for line in plain(text).partition("\n\n")[0].splitlines()]


@pytest.mark.parametrize("path", SPARE)
@pytest.mark.parametrize("columns", [60, 100, 200])
def test_table_is_no_wider_than_the_terminal_and_says_what_it_left_out(
    columns: int, path: str, folder: Path
) -> None:
    shown = plain(show(folder, columns, path))
    assert max(map(len, shown.splitlines())) <= columns
    whole = cells_of((folder / path).read_text())
    # By name, since the order stays and each figure must be below its own heading.
    kept = [whole[0].index(name) for name in cells_of(shown)[0]]
    assert cells_of(shown) == [[row[column] for column in kept] for row in whole]
    there = [name for name in SPARE[path] if name in whole[0]]
    dropped = [name for name in there if name not in cells_of(shown)[0]]
    assert len(kept) + len(dropped) == len(whole[0])
    said = f"The terminal is too narrow for these columns: {', '.join(dropped)}. {path} has them."
    assert (said in shown.replace("\n", " ")) == bool(dropped)
    assert bool(dropped) == (max(map(len, (folder / path).read_text().splitlines()[:3])) > columns)


@pytest.mark.parametrize("path", SPARE)
def test_server_and_result_are_kept_in_the_narrowest_terminal(path: str, folder: Path) -> None:
    names = cells_of(show(folder, 10, path))[0]
    assert names in (
        ["server", "requests/s", "unserved"],
        ["server", "figure", "current/baseline", "verdict"],
    )


def test_ratio_to_the_reference_is_kept_where_there_is_room(folder: Path) -> None:
    summary = summary_table(tables.cell_table(RECORDS))
    table = print_summary.tabulate(summary, ratios={"server_poll": "1.10 (1.02–1.18)"})
    terminal.write_table(table, str(folder / "results/summary.txt"))
    for columns, is_kept in ((200, True), (80, True), (10, False)):
        names = cells_of(show(folder, columns))[0]
        assert (print_summary.RATIO in names) == is_kept, names


COLORED = {
    "999 of 1,000": 31,
    "no valid run": 31,
    "failed": 31,
    "starving": 31,
    "server": 32,
    "wrk": 33,
    "≥ 1,000,000": 33,
    "round trip": 36,
    "disturbance": 90,
    "unavailable": 90,
}


def test_colors_say_what_the_words_say_and_are_the_only_difference(folder: Path) -> None:
    colored, without = show(folder, 200), show(folder, 200, NO_COLOR="1")
    table = colored.partition("\n\n")[0]
    found = {text: int(code) for code, text in re.findall(r"\033\[(\d+)m([^\033]*)\033\[0m", table)}
    assert found == COLORED
    assert not re.search(r"^\033", colored, re.MULTILINE), "the name of a server is coloured"
    assert plain(colored) == without
    assert "0 of 1,000" in without


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"NO_COLOR": ""}, True),
        ({"NO_COLOR": "0"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_colors_are_for_terminals_that_want_them(
    changes: dict[str, str], expected: bool, folder: Path
) -> None:
    assert ("\033" in show(folder, 100, **changes)) == expected


@pytest.mark.parametrize("path", SPARE)
def test_what_goes_elsewhere_is_the_file_as_it_is(path: str, folder: Path) -> None:
    def shown(**changes: str) -> str:
        changes["PYTHONPATH"] = str(ROOT / "scripts")
        return run_program([sys.executable, "-c", SHOW, path], folder, **changes).stdout

    assert shown() == (folder / path).read_text()
    narrow = shown(COLUMNS="60")
    assert max(map(len, narrow.splitlines())) <= 60
    assert "\033" not in narrow


def test_columns_of_the_environment_come_before_those_of_the_terminal(folder: Path) -> None:
    assert show(folder, 200, COLUMNS="60") == show(folder, 60)


def test_file_is_plain_text_wherever_it_is_made(folder: Path) -> None:
    cells = tables.cell_table(RECORDS)
    tables.write_table(cells, str(folder / "cells.csv"))
    tables.write_table(summary_table(cells), str(folder / "summary.csv"))
    command = [sys.executable, str(ROOT / "scripts/print_summary.py")]
    verdicts = pd.DataFrame(columns=VERDICT_COLUMNS)
    tables.write_table(verdicts, str(folder / "verdicts.csv"))
    run_in_terminal([*command, "cells.csv", "summary.csv", "verdicts.csv", "out.txt"], folder, 60)
    assert (folder / "out.txt").read_text() == (folder / "results/summary.txt").read_text()
    assert "\033" not in (folder / "out.txt").read_text()


# --- The lines of progress ---

LINE = """\
import json, sys
from sweep.cells import Cell
from workflow import progress
progress.print_cell(Cell(*json.loads(sys.argv[1])), json.loads(sys.argv[2]))
"""


def tell(folder: Path, columns: int, record: dict[str, Any], **changes: str) -> str:
    cell = (record["server"], record["connections"], record["repeat"])
    return python(folder, columns, LINE, json.dumps(cell), json.dumps(record), **changes)


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a run has begun: 276 cells of 3 s, and 30 s of other work."""
    monkeypatch.chdir(tmp_path)
    progress.write_plan(276, 3, 30)
    return tmp_path


def test_line_of_a_cell_says_all_where_there_is_room(planned: Path) -> None:
    assert plain(tell(planned, 200, RECORDS[1])) == (
        "[  1/276, 14 min 15 s left] server_uring_multitask  1000 connections, repeat 1:"
        "       500 requests/s,  4.00 µs CPU each (1.10 × reference)\n"
    )


@pytest.mark.parametrize("columns", [60, 100])
@pytest.mark.parametrize("one", RECORDS, ids=lambda one: one["server"])
def test_line_of_a_cell_is_one_line_with_the_time_left_and_what_is_wrong(
    columns: int, one: dict[str, Any], planned: Path
) -> None:
    (line,) = plain(tell(planned, columns, {"reason": "no io_uring here", **one})).splitlines()
    assert len(line) <= columns
    assert line.startswith(f"[  1/276, 14 min 15 s left] {one['server']}")
    for name, said in (("server", "999 conn"), ("server_errs", "invalid: err")):
        assert (said in line) == (one["server"] == name)


def test_what_is_wrong_with_a_cell_is_colored(planned: Path) -> None:
    assert "\033[31m999 connections unserved\033[0m" in tell(planned, 200, RECORDS[0])
    assert "\033[31minvalid: errors\033[0m" in tell(planned, 200, RECORDS[5])
    assert "\033" not in tell(planned, 200, RECORDS[1])
    assert "\033" not in tell(planned, 200, RECORDS[0], NO_COLOR="1")


def test_line_of_a_cell_says_which_of_its_phases_was_disturbed(planned: Path) -> None:
    stolen = {"steal_share": 0.5}
    for changes, said in (
        ({**stolen, "attempts": 2}, "disturbed in each of 2 attempts"),
        ({"attempts": 2}, "attempt 2: disturbed before"),
        ({"attempts": 1, "paired": stolen}, "disturbed in the paired phase"),
    ):
        assert said in plain(tell(planned, 200, {**RECORDS[1], **changes}))


def test_time_left_is_by_the_pace_so_far_once_there_is_one() -> None:
    plan = {"cells": 100, "cell_s": 3.0, "other_s": 20.0, "started_s": 1000.0}
    assert progress.seconds_left(plan, 4, 1040, 1040) == pytest.approx(96 * 3 + 20)
    assert progress.seconds_left(plan, 10, 1040, 1040) == pytest.approx(90 * 4 + 20)
    assert progress.seconds_left(plan, 100, 1040, 1040) == pytest.approx(20)
    assert progress.seconds_left(plan, 100, 1040, 1045) == pytest.approx(15)


def test_line_of_a_profile_says_what_is_left_after_the_cells(
    planned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(progress.LOG).write_text("." * 276)
    began = time.time() - 12
    os.utime(progress.LOG, (began, began))
    progress.print_line("server_epoll", 100, "profile", [terminal.Part("1997 samples")])
    assert capsys.readouterr().out == (
        "[276/276,        18 s left] server_epoll             100 connections, profile: 1997 samples\n"
    )
