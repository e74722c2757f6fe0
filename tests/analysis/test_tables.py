"""Records → cells.csv → summary.csv → the table at the end."""

import errno
import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import merge_tables
import print_summary
from analysis import tables
from analysis.summary import (
    SUMMARY_COLUMNS,
    limiter_of,
    read_summary,
    reference_rates,
    summary_table,
)
from common import files, terminal
from common.files import DamagedFile
from helpers.checkouts import ROOT, make_tree, run_script
from helpers.made_up import ENDING, SHORT_CONNECTIONS, failed, record, unavailable, write_tables
from sweep import flags, records
from sweep.cells import Cell
from sweep.flags import FLAGS, Flag, flags_of
from sweep.rows import check_record, make_row


def summary_of(*rows: dict[str, Any]) -> "pd.Series[Any]":
    table = summary_table(tables.cell_table(rows))
    assert len(table) == 1
    return table.iloc[0]


def test_rate_is_total_work_over_total_time() -> None:
    short = record(1, requests=100, duration_s=1.0, requests_per_second=100.0)
    long = record(2, requests=900, duration_s=3.0, requests_per_second=300.0)
    assert summary_of(short, long)["requests_per_second"] == 250


def test_interval_is_students_t_of_the_logarithms() -> None:
    latencies = [40.0, 44.0, 39.0, 60.0, 41.0]
    logarithms = np.log(latencies)
    low, high = stats.t.interval(0.95, 4, logarithms.mean(), stats.sem(logarithms))
    row = summary_of(*(record(n, latency_p99_us=value) for n, value in enumerate(latencies)))
    assert row["latency_p99_us"] == pytest.approx(stats.gmean(latencies))
    assert row["latency_p99_us_low"] == pytest.approx(np.exp(low))
    assert row["latency_p99_us_high"] == pytest.approx(np.exp(high))


def test_interval_of_a_rate_is_around_total_work_over_total_time() -> None:
    rates = [480.0, 500.0, 530.0]
    row = summary_of(*(record(n, requests_per_second=rate) for n, rate in enumerate(rates)))
    low, middle, high = (row[f"requests_per_second{end}"] for end in ("_low", "", "_high"))
    assert middle == 500  # by requests and duration_s
    assert high / middle == pytest.approx(middle / low)
    assert high / middle == pytest.approx(np.exp(stats.t.ppf(0.975, 2) * stats.sem(np.log(rates))))


def test_one_repeat_has_no_interval() -> None:
    assert math.isnan(summary_of(record())["requests_per_second_low"])


def test_invalid_cells_are_counted_and_not_averaged_in() -> None:
    wrong = record(2, status="invalid", flags=["errors"], errors=3, requests_per_second=9e9)
    row = summary_of(record(1), wrong)
    assert (row["repeats_ok"], row["repeats_invalid"]) == (1, 1)
    assert row["requests_per_second"] == 500
    assert row["flags"] == "errors"


def test_unavailable_server_has_rows_without_figures() -> None:
    cells = tables.cell_table([unavailable()])
    assert cells.loc[0, "status"] == "unavailable"
    assert pd.isna(cells.loc[0, "requests"])
    row = summary_of(unavailable())
    assert row["repeats_unavailable"] == 1
    assert pd.isna(row["requests_per_second"])


def test_failed_cells_are_counted_and_told_with_their_reasons() -> None:
    row = summary_of(record(1), failed(2), failed(3))
    assert (row["repeats_ok"], row["repeats_failed"], row["reason"]) == (1, 2, "it crashed")
    assert row["requests_per_second"] == 500
    rows = [record(1), failed(2), {**failed(1, "it hung"), "connections": 100}]
    rows.append({**unavailable(), "server": "absent", "reason": "not installed"})
    rows += [{**record(n, status="invalid", flags=["errors"]), "server": "wrong"} for n in (1, 2)]
    summary = summary_table(tables.cell_table(rows))
    assert tables.failure_notes(summary) == [
        "server_epoll failed in 2 of 3 cells: it crashed (other reasons: 1, in summary.csv).",
        "absent is unavailable in 1 of 1 cells: not installed.",
        "wrong has no valid cell of 2: errors.",
    ]
    told = terminal.format_text(print_summary.tabulate(summary))
    assert all(note in told for note in tables.failure_notes(summary))
    words = {name: tables.describe_no_result(its) for name, its in summary.groupby("server")}
    assert words == {"server_epoll": "failed", "absent": "unavailable", "wrong": "no valid run"}


def test_balance_over_workers_is_that_of_the_worst_repeat_and_empty_where_there_are_none() -> None:
    assert summary_of(record(1), record(2, worker_fairness_jain=0.5))["worker_fairness_jain"] == 0.5
    assert pd.isna(summary_of(record(1, worker_fairness_jain=None))["worker_fairness_jain"])


def test_first_columns_are_those_of_the_contract() -> None:
    contract = """
        server connections repeat status requests duration_s requests_per_second latency_mean_us
        latency_p50_us latency_p90_us latency_p99_us latency_max_us errors
        server_cpu_ns_per_request client_cpu_share unserved_connections fairness_jain flags
    """
    assert tables.CELL_COLUMNS[:18] == contract.split()


def test_cell_table_survives_the_file(tmp_path: Path) -> None:
    cells = tables.cell_table([record(1, flags=["errors", "shared_cpus"]), unavailable(2)])
    tables.write_table(cells, str(tmp_path / "cells.csv"))
    again = tables.read_cell_table(str(tmp_path / "cells.csv"))
    assert list(again["flags"]) == ["errors;shared_cpus", ""]
    assert again.loc[0, "requests"] == 1000
    pd.testing.assert_frame_equal(again.iloc[:1], cells.iloc[:1], check_dtype=False)


def test_ratios_of_cells_that_have_one_are_summarized() -> None:
    """As of records of before the paired phase, or of a server whose CPU time is not known."""
    cells = [record(1, cpu_ratio=1.0), record(2, cpu_ratio=1.21), record(3, cpu_ratio=None)]
    row = summary_table(tables.cell_table(cells)).iloc[0]
    assert row["cpu_ratio"] == pytest.approx(1.1)
    assert row["cpu_ratio_low"] < 1.1 < row["cpu_ratio_high"]
    cells = [record(1, cpu_ratio=None, throughput_ratio=None, paired={})]
    assert summary_table(tables.cell_table(cells))["cpu_ratio"].isna().all()


def cells_with_ratios(ratios: dict[int, list[float]]) -> pd.DataFrame:
    """By number of connections."""
    return tables.cell_table(
        record(number, connections=count, cpu_ratio=ratio)
        for count, its in ratios.items()
        for number, ratio in enumerate(its, 1)
    )


def test_what_differs_between_numbers_of_connections_is_no_noise_of_their_mean() -> None:
    near = cells_with_ratios({1: [1.0, 1.01, 1.02], 10: [1.1, 1.11, 1.12]})
    far = cells_with_ratios({1: [1.0, 1.01, 1.02], 10: [3.3, 3.33, 3.36]})
    spreads = []
    for cells in (near, far):
        mean, low, high = tables.mean_over_points(cells, "cpu_ratio")
        assert low < mean < high
        spreads.append(high / low)
    assert spreads[0] == pytest.approx(spreads[1])
    assert mean == pytest.approx(np.sqrt(1.01 * 3.33), rel=1e-3)


@pytest.mark.simulation
def test_mean_over_points_covers_the_truth_in_95_of_100_sweeps() -> None:
    """Of points with noise as unlike as 1 connection and 1,000 have it."""
    random = np.random.default_rng(1)
    missed, sweeps = 0, 400
    for _ in range(sweeps):
        ratios = {
            count: list(np.exp(random.normal(0, sd, 5))) for count, sd in ((1, 0.01), (1000, 0.05))
        }
        _, low, high = tables.mean_over_points(cells_with_ratios(ratios), "cpu_ratio")
        missed += not low < 1 < high
    assert missed <= stats.binom.ppf(0.999, sweeps, 0.05)
    assert missed >= stats.binom.ppf(0.001, sweeps, 0.05)


def test_interval_of_a_mean_over_points_needs_two_values_at_each() -> None:
    mean, low, high = tables.mean_over_points(
        cells_with_ratios({1: [1.0], 10: [1.1, 1.2]}), "cpu_ratio"
    )
    assert mean > 1 and np.isnan(low) and np.isnan(high)
    nothing = tables.cell_table([record(1, cpu_ratio=None)])
    assert all(map(np.isnan, tables.mean_over_points(nothing, "cpu_ratio")))


def test_table_at_the_end_shows_ratios_where_there_are_some() -> None:
    cells = cells_with_ratios({10: [1.0, 1.1, 1.2]})
    summary = summary_table(cells)
    table = print_summary.tabulate(summary, print_summary.ratios_of(cells))
    told = terminal.format_text(table)
    assert "1.10 (0.87–1.38)" in told and "turns with the server" in told
    without = terminal.format_text(print_summary.tabulate(summary, {}))
    assert print_summary.RATIO not in without


def test_a_server_that_lacks_a_point_has_no_ratio_over_all() -> None:
    """Nor has one that starved connections there: a mean over other points is of other things."""
    whole = cells_with_ratios({1: [1.0, 1.1], 500: [1.2, 1.3]})
    lacking = whole.assign(server="server_poll")
    lacking = lacking[lacking["connections"] == 1]
    starving = whole.assign(server="server", unserved_connections=[0, 0, 499, 499])
    ratios = print_summary.ratios_of(pd.concat([whole, lacking, starving]))
    assert set(ratios) == {"server_epoll"}


def test_merging_keeps_one_header() -> None:
    assert merge_tables.merge(["a,b\n1,2\n", "a,b\n3,4\n"]) == "a,b\n1,2\n3,4\n"
    with pytest.raises(ValueError, match="columns of the tables differ"):
        merge_tables.merge(["a,b\n1,2\n", "a,c\n3,4\n"])


def test_table_at_the_end_shows_each_server_at_its_best() -> None:
    rows = [
        record(1, connections=1, requests=100, requests_per_second=50.0),
        record(2, connections=10, requests_per_second=9.0, requests=18),
        record(
            1,
            connections=20,
            requests_per_second=900.0,
            requests=1800,
            unserved_connections=9,
            flags=["unserved_connections"],
        ),
        {**unavailable(), "server": "server_uring"},
    ]
    summary = summary_table(tables.cell_table(rows))
    text = terminal.format_text(print_summary.tabulate(summary))
    header, rule, first, second, *notes = text.splitlines()
    assert header.startswith("server")
    assert first.split()[:3] == ["server_epoll", "50", "-"]
    assert first.split()[3] == "1"
    assert first.endswith("9 of 20")
    assert set(second.split()) == {"server_uring", "unavailable", "-"}
    assert len({len(header), len(rule), len(first), len(second)}) == 1
    assert any("unavailable" in note and "server_uring" in note for note in notes)


def test_scripts_make_the_verdicts_and_the_table_at_the_end_has_the_answer(tmp_path: Path) -> None:
    ratios = {"server_epoll": 1.0, "server_poll": 1.2}
    rows = [
        record(repeat, server=server, cpu_ratio=ratio + repeat / 1000, throughput_ratio=None)
        for server, ratio in ratios.items()
        for repeat in (1, 2, 3)
    ]
    write_tables(rows, tmp_path)
    names = ["cells.csv", "summary.csv", "new.csv", "summary.txt"]
    for script, its_names in (("judge_servers.py", names[:3]), ("print_summary.py", names)):
        run = run_script(script, *its_names, cwd=tmp_path, PYTHONWARNINGS="always")
        assert (run.returncode, run.stderr) == (0, "")
    assert (tmp_path / "new.csv").read_text() == (tmp_path / "verdicts.csv").read_text()
    said = (tmp_path / "summary.txt").read_text()
    assert (
        "server_epoll is first by CPU time per request. The next, server_poll, needs 20.0 %" in said
    )
    assert "cannot say which server is best by throughput" in said


@pytest.mark.parametrize(
    ("script", "table", "text", "fault"),
    [
        *(("print_summary", "summary", text, "summary.csv ") for text in ("", "a,b\n1,2\n")),
        ("print_summary", "summary", ",".join(SUMMARY_COLUMNS) + "\n", "summary.csv "),
        ("judge_servers", "cells", None, "cells.csv"),
        ("judge_servers", "cells", "server,connections\n", "no column machine"),
        ("judge_servers", "cells", "", "No columns"),
    ],
)
def test_faults_of_a_table_are_told_in_one_line(
    script: str, table: str, text: str | None, fault: str, tmp_path: Path
) -> None:
    write_tables([record()], tmp_path)
    (tmp_path / f"{table}.csv").unlink()
    make_tree(tmp_path, {f"{table}.csv": text})
    names = ["cells.csv", "summary.csv", "verdicts.csv", "summary.txt"]
    names = names if script == "print_summary" else [*names[:2], "new.csv"]
    run = run_script(f"{script}.py", *names, cwd=tmp_path)
    assert run.returncode == 1
    assert run.stderr.startswith(f"{script}: ")
    assert fault in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert not (tmp_path / names[-1]).exists()


# One that ends a connection after 100 answers and says so: the last answer is shorter, and some are just being opened.
REOPENED = {
    **ENDING,
    "reopened_connections": 10,
    "requests_per_connection": 100,
    "established_connections": 9,
    "response_bytes": 1000 * 20 - 10 * 5,
    "kernel_connections": 21,
    "kernel_responses": None,
    "server_accepted": 21,
    "server_requests": None,
}
NO_ERRORS = {"connect": 0, "read": 0, "write": 0, "status": 0, "timeout": 0}
# What raises each flag, and what is just not enough to.
RAISED = {
    "errors": ({"errors": 1, "errors_by_kind": {**NO_ERRORS, "read": 1}}, {}),
    "error_responses": ({"errors": 1, "errors_by_kind": {**NO_ERRORS, "status": 1}}, {}),
    "wrong_responses": ({"warmup_wrong_responses": 1}, {"response_bytes": 1010 * 20}),
    "no_requests": (
        {"requests": 0, "response_bytes": 0, "kernel_responses": 0, "server_requests": 0},
        {},
    ),
    "connections_differ": ({"established_connections": 9}, {}),
    "connections_disagree": ({"server_accepted": 22}, {"server_accepted": 21}),
    "requests_disagree": ({"kernel_responses": 989}, {"kernel_responses": 990}),
    "clock_stepped": ({"wall_clock_step_share": -0.006}, {"wall_clock_step_share": 0.005}),
    "no_cpu_time": ({"server_cpu_ns_per_request": 0.0}, {"server_cpu_ns_per_request": 0.1}),
    "handler_skipped": (
        {"handler_cpu_ns_per_request": 5000.0, "server_cpu_ns_per_request": 4499.0},
        {"handler_cpu_ns_per_request": 5000.0, "server_cpu_ns_per_request": 4500.0},
    ),
    "cpu_time_unknown": ({"server_cpu_ns_per_request": None}, {}),
    "processes_changed": ({"processes_changed": True}, {}),
    "unpaired": ({"cpu_ratio": None}, {"cpu_ratio": None, "paired": {}}),
    "idle_connections_lost": ({"idle_connections_lost": 1}, {"idle_connections_lost": 0}),
    "fewer_idle_connections": (
        {"idle_connections_asked": 200, "idle_connections": 199},
        {"idle_connections_asked": 200, "idle_connections": 200},
    ),
    "unserved_connections": ({"unserved_connections": 1}, {}),
    "connection_per_request": (SHORT_CONNECTIONS, {}),
    "time_wait_full": (
        {"time_wait_sockets": 100, "time_wait_limit": 100},
        {"time_wait_sockets": 99, "time_wait_limit": 100},
    ),
    "ports_short": ({"ports_waiting": 81, "ports": 100}, {"ports_waiting": 80, "ports": 100}),
    "connections_reopened": (REOPENED, {}),
    "leftover_connections": ({"leftover_connections": 1}, {}),
    "bypassed_interface": (
        {"interface": {"sent_bytes": 19_999}},
        {"interface": {"sent_bytes": 20_000}},
    ),
    "client_saturated": ({"client_cpu_share": 0.95}, {"client_cpu_share": 0.94}),
    "server_not_saturated": (
        {"server_busiest_thread_share": 0.9},
        {"server_busiest_thread_share": None, "server_cpu_share": 0.95},
    ),
    "synthetic_latency": (
        {"latency_synthetic_share": 0.06},
        {"latency_synthetic_share": 0.05},
    ),
    "littles_law": ({"littles_law_ratio": 0.89}, {"littles_law_ratio": 1.09}),
    "disturbed": ({"foreign_cpu_share": 0.11}, {"foreign_cpu_share": 0.1}),
    "shared_cpus": ({"cpus_shared": True, "server_busiest_thread_share": 0.5}, {}),
}


VARYING = {"varying_headers": ["keep-alive"]}
UNKNOWN = ["kernel_connections", "kernel_responses", "server_accepted", "server_requests"]
UNKNOWN += ["cpu_pressure_share", "client_wait_share", "server_wait_share"]


@pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: flag.name)
def test_flag_is_raised_at_its_threshold_and_not_before(flag: Flag) -> None:
    enough, not_enough = RAISED[flag.name]
    assert flags_of(record(**enough)) == [flag]
    assert flags_of(record(**not_enough)) == []


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"response_unchanged": False}, ["wrong_responses"]),
        ({"response_bytes": 999 * 20}, ["wrong_responses"]),
        ({"response_bytes": 1011 * 20}, ["wrong_responses"]),
        # Headers that vary may change the size; this is as if the bodies were missing.
        (VARYING | {"response_bytes": 1000 * 7}, ["wrong_responses"]),
        *((VARYING | {"response_bytes": 1000 * size}, []) for size in (18, 20, 22)),
        ({"established_connections": 11}, ["connections_differ"]),
        ({"kernel_connections": 0}, ["connections_disagree"]),
        ({"server_requests": 1011}, ["requests_disagree"]),
        ({"littles_law_ratio": 1.2}, ["littles_law"]),
        ({"steal_share": 0.03}, ["disturbed"]),
        ({"cpu_pressure_share": 0.26}, ["disturbed"]),
        ({"client_wait_share": 0.04}, ["disturbed"]),
        ({"server_wait_share": 0.04}, ["disturbed"]),
        # What can be checked of short connections is checked; the kernel's are of other programs, too.
        (SHORT_CONNECTIONS | {"kernel_connections": 5000}, ["connection_per_request"]),
        *(
            (SHORT_CONNECTIONS | changes, [name, "connection_per_request"])
            for changes, name in (
                ({"kernel_connections": 999}, "connections_disagree"),
                ({"server_accepted": 1012}, "connections_disagree"),
                ({"server_accepted": 990}, "connections_disagree"),
                ({"server_requests": 1011}, "requests_disagree"),
            )
        ),
        (REOPENED | {"server_accepted": 32}, ["connections_disagree", "connections_reopened"]),
        # What is not known raises none.
        (dict.fromkeys(UNKNOWN), []),
    ],
)
def test_flag_has_other_causes_too_and_some_have_none(
    changes: dict[str, Any], names: list[str]
) -> None:
    assert [flag.name for flag in flags_of(record(**changes))] == names


def test_cpu_time_that_is_not_known_is_in_no_average(tmp_path: Path) -> None:
    unknown = {"server_cpu_ns_per_request": None, "server_cpu_share": None}
    row = summary_of(record(1), record(2, **unknown))
    assert row["server_cpu_ns_per_request"] == 4000
    assert row["requests_per_second"] == 500
    _, words = shown([record(1, **unknown)], tmp_path)
    assert words[-5:] == ["-", "server", "0", "of", "10"]


def shown(rows: list[dict[str, Any]], folder: Path) -> tuple[Any, list[str]]:
    """Of one point, by way of the files: its summary, and its line in the table at the end."""
    summary = write_tables(rows, folder)
    table = print_summary.tabulate(read_summary(str(folder / "summary.csv")))
    text = terminal.format_text(table)
    (point,) = summary.to_dict("records")
    return point, text.splitlines()[2].split()


def test_who_was_served_on_short_connections_stays_unknown(tmp_path: Path) -> None:
    point, words = shown([record(n, **SHORT_CONNECTIONS) for n in (1, 2)], tmp_path)
    assert pd.isna(point["unserved_connections"])
    assert pd.isna(point["fairness_jain"])
    assert point["limiter"] == "server-bound"
    assert words[-2:] == ["server", "-"]


THRESHOLDS = {
    "clock_stepped": [flags.CLOCK_STEP_SHARE],
    "handler_skipped": [flags.HANDLER_SHARE],
    "ports_short": [flags.PORTS_SHARE],
    "client_saturated": [flags.SATURATED_SHARE],
    "server_not_saturated": [flags.SATURATED_SHARE],
    "synthetic_latency": [flags.SYNTHETIC_SHARE],
    "littles_law": [flags.LITTLE_TOLERANCE],
    "disturbed": [
        *(flags.STEAL_SHARE, flags.PRESSURE_SHARE),
        *(flags.WAIT_SHARE, flags.FOREIGN_SHARE),
    ],
}


def test_flags_are_those_of_the_docs_with_their_thresholds() -> None:
    docs = (ROOT / "docs/results.md").read_text()
    table = docs.partition("### Flags\n")[2].partition("\n\n## ")[0]
    lines = [line.strip("| ") for line in table.splitlines() if line.startswith("| `")]
    rows = [line.replace("`", "").split(" | ") for line in lines]
    expected = [
        [flag.name, "invalid" if flag.invalidates else "counted", flag.meaning, flag.hint]
        for flag in FLAGS
    ]
    assert [[*row[:2], *row[3:]] for row in rows] == [
        [text.replace("`", "") for text in row] for row in expected
    ]
    in_words = {row[0]: re.findall(r"(?<!HTTP/)\b\d\.\d+", row[2]) for row in rows}
    assert {
        name: list(map(float, found)) for name, found in in_words.items() if found
    } == THRESHOLDS


POINT = {
    "unserved_connections": 0,
    "client_cpu_share": 0.5,
    "server_cpu_share": 0.5,
    "server_busiest_thread_share": math.nan,
    "disturbed_share": 0.8,
    "cpus_shared": False,
}


@pytest.mark.parametrize(
    ("changes", "limiter"),
    [
        ({}, "latency-bound"),
        ({"disturbed_share": 1.0}, "disturbed"),
        ({"server_cpu_share": 0.95, "disturbed_share": 1.0}, "server-bound"),
        ({"server_cpu_share": 0.3, "server_busiest_thread_share": 0.96}, "server-bound"),
        ({"client_cpu_share": 0.95}, "client-bound"),
        ({"client_cpu_share": 0.95, "server_cpu_share": 0.95}, "server-bound"),
        ({"cpus_shared": True}, "shared-cpus"),
        ({"cpus_shared": True, "client_cpu_share": 0.4}, "latency-bound"),
        ({"unserved_connections": 1, "client_cpu_share": 0.99}, "starving"),
    ],
)
def test_limiter(changes: dict[str, Any], limiter: str) -> None:
    assert limiter_of({**POINT, **changes}) == limiter


def test_rate_of_the_reference_is_a_geometric_mean_of_counted_cells_and_then_of_servers() -> None:
    def rows(server: str, *rates: float | None) -> list[dict[str, Any]]:
        return [
            record(n, server=server, reference_requests_per_second=rate)
            for n, rate in enumerate(rates, 1)
        ]

    invalid = record(3, status="invalid", flags=["errors"], reference_requests_per_second=1.0)
    cells = [*rows("server_epoll", 100.0, 400.0), invalid, *rows("server_poll", 800.0, None)]
    cells += [record(server="server", connections=100, reference_requests_per_second=None)]
    summary = summary_table(tables.cell_table(cells))
    assert list(summary["reference_requests_per_second"].fillna(0)) == pytest.approx([200, 800, 0])
    rates = reference_rates(summary)
    assert list(rates.index) == [10] and list(rates) == pytest.approx([400])


def test_one_disturbed_repeat_does_not_hide_what_limited_the_others() -> None:
    rows = [record(n, client_cpu_share=0.99, server_busiest_thread_share=0.5) for n in (1, 2)]
    rows.append(record(3, client_cpu_share=0.4, server_busiest_thread_share=0.5))
    assert summary_of(*rows)["limiter"] == "client-bound"


def test_disturbed_cells_count_only_where_a_point_has_no_others() -> None:
    rows = [record(n, requests_per_second=500.0) for n in (1, 2)]
    spoilt = [record(n, flags=["disturbed"], requests=10, requests_per_second=5.0) for n in (3, 4)]
    row = summary_of(*rows, *spoilt)
    assert row["requests_per_second"] == 500
    assert (row["repeats_ok"], row["disturbed_share"]) == (4, 0.5)
    assert summary_of(*spoilt)["requests_per_second"] == 5


def test_machines_are_never_pooled() -> None:
    rows = [record(1), record(2, machine="another"), record(3, machine="another")]
    rows[0]["requests"], rows[0]["requests_per_second"] = 9000, 4500.0
    cells = tables.cell_table(rows)
    summary = summary_table(cells)
    assert list(summary["machine"]) == ["0123abcd", "another"]
    assert list(summary["requests_per_second"]) == [4500, 500]
    assert tables.main_machine(summary) == "another"
    text = terminal.format_text(print_summary.tabulate(summary))
    assert "4,500" not in text
    assert "leaves out 1 points of other machines" in text


def test_record_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "folder/record.json"
    records.write(path, record())
    assert records.read(str(path)) == record()
    with pytest.raises(TypeError):
        records.write(str(path), {"impossible": object()})
    assert records.read(str(path)) == record()
    assert [entry.name for entry in path.parent.iterdir()] == ["record.json"]


def write_records(folder: Path, count: int) -> list[str]:
    paths = [str(folder / f"r{number}.json") for number in range(count)]
    for path in paths:
        records.write(path, record())
    return paths


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"requests": 1000', '"requests": 2000'),
        lambda text: text + " ",
        lambda text: "\0" * len(text),
        lambda text: "[" * 100_000,
        lambda text: text.replace(text.rpartition('"sha256"')[2], ' "0"\n}\n'),
    ],
)
def test_damaged_record_is_set_aside_and_said(damage: Callable[[str], str], tmp_path: Path) -> None:
    first, second, third = (Path(path) for path in write_records(tmp_path, 3))
    for path in (first, third):
        text = path.read_text()
        path.write_text(damage(text))
        assert path.read_text() != text
    with pytest.raises(DamagedFile, match=r"r0\.json .*1 more like it.*run again"):
        records.read_all(map(str, (first, second, third)))
    assert not first.exists() and not third.exists()
    assert Path(f"{first}.damaged").exists()
    assert records.read_all([str(second)]) == [record()]


@pytest.mark.parametrize("version", [0, 1, records.SCHEMA_VERSION + 1, None, "3", [3]])
def test_record_of_another_version_stays_and_is_named(version: object, tmp_path: Path) -> None:
    (path,) = write_records(tmp_path, 1)
    Path(path).write_text(json.dumps({**record(), "schema_version": version}))
    with pytest.raises(DamagedFile, match=r"r0\.json is of schema version .*delete"):
        records.read_all([path])
    assert Path(path).exists()


def test_record_of_before_checksums_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "r1.json"
    path.write_text(json.dumps({**record(), "schema_version": 2}))
    assert records.read_all([str(path)]) == [{**record(), "schema_version": 2}]


def test_full_disk_names_the_file_and_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        files.write_text(str(path), "new")
    assert caught.value.filename == str(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_record_without_figures_is_one_of_an_unavailable_server() -> None:
    cell = Cell("server_epoll", 10, 1)
    found = check_record(unavailable(1), cell, "r.json")
    assert make_row(found)["requests"] is None
