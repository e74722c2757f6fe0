"""Records → cells.csv → summary.csv → the table at the end."""

import json
import math
from pathlib import Path
from typing import Any

import merge_tables
import numpy as np
import pandas as pd
import pytest
import records
import tables
import tabulate_results
from flags import flags_of
from scipy import stats
from sockets import fairness_jain, parse_bytes_sent


def record(repeat: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "server": "server_epoll",
        "connections": 10,
        "repeat": repeat,
        "status": "ok",
        "requests": 1000,
        "duration_s": 2.0,
        "requests_per_second": 500.0,
        "latency_mean_us": 20.0,
        "latency_p50_us": 19,
        "latency_p90_us": 25,
        "latency_p99_us": 40,
        "latency_max_us": 90,
        "errors": 0,
        "server_cpu_ns_per_request": 4000.0,
        "client_cpu_share": 0.5,
        "unserved_connections": 0,
        "fairness_jain": 1.0,
        "flags": [],
        "server_cpu_share": 0.9,
        "established_connections": 10,
        "server_memory_peak_kib": 1500,
        "latency_synthetic_share": 0.0,
        "workers": 2,
        "started": "2026-01-01T00:00:00+00:00",
        "cpus_shared": False,
        "leftover_connections": 0,
        **changes,
    }


def unavailable(repeat: int = 1) -> dict[str, Any]:
    fields = ("schema_version", "server", "connections", "repeat")
    return {**{key: record(repeat)[key] for key in fields}, "status": "unavailable", "flags": []}


def summary_of(*rows: dict[str, Any]) -> "pd.Series[Any]":
    table = tables.summary_table(tables.cell_table(rows))
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


def test_every_column_is_explained_in_the_docs() -> None:
    docs = (Path(__file__).parent.parent / "docs/results.md").read_text()
    for column in {*tables.CELL_COLUMNS, *tables.SUMMARY_COLUMNS}:
        if column.endswith(("_low", "_high")):
            continue
        assert f"`{column}`" in docs, column


def test_merging_keeps_one_header() -> None:
    assert merge_tables.merge(["a,b\n1,2\n", "a,b\n3,4\n"]) == "a,b\n1,2\n3,4\n"
    with pytest.raises(ValueError, match="columns differ"):
        merge_tables.merge(["a,b\n1,2\n", "a,c\n3,4\n"])


def test_table_at_the_end_shows_each_server_at_its_best() -> None:
    rows = [
        record(1, connections=1, requests=100, requests_per_second=50.0),
        record(1, connections=10, unserved_connections=9, flags=["unserved_connections"]),
        {**unavailable(), "server": "server_uring"},
    ]
    text = tabulate_results.tabulate(tables.summary_table(tables.cell_table(rows)))
    header, rule, first, second, *notes = text.splitlines()
    assert header.startswith("server")
    assert first.split()[:3] == ["server_epoll", "500", "-"]
    assert first.split()[3] == "10"
    assert first.endswith("9 of 10")
    assert set(second.split()) == {"server_uring", "-"}
    assert len({len(header), len(rule), len(first), len(second)}) == 1
    assert any("unavailable" in note and "server_uring" in note for note in notes)


@pytest.mark.parametrize(
    ("changes", "flag", "invalidates"),
    [
        ({"errors": 1}, "errors", True),
        ({"requests": 0}, "no_requests", True),
        ({"unserved_connections": 1}, "unserved_connections", False),
        ({"established_connections": 9}, "missing_connections", False),
        ({"leftover_connections": 1}, "leftover_connections", False),
        ({"client_cpu_share": 0.99}, "client_saturated", False),
        ({"cpus_shared": True}, "shared_cpus", False),
    ],
)
def test_flags(changes: dict[str, Any], flag: str, invalidates: bool) -> None:
    assert flags_of(record()) == []
    (raised,) = flags_of(record(**changes))
    assert (raised.name, raised.invalidates) == (flag, invalidates)


def test_fairness() -> None:
    assert fairness_jain([5, 5, 5, 5]) == 1
    assert fairness_jain([7, 0, 0, 0]) == 0.25
    assert fairness_jain([0, 0]) == 0


def test_bytes_sent_of_each_connection() -> None:
    text = (
        "0 0 [::1]:8080 [::1]:40000  cubic wscale:7,7 rto:200 cwnd:10 bytes_sent:1560 bytes_acked:1560\n"
        "45 0 [::1]:8080 [::1]:40001  cubic wscale:7,7 rto:200 cwnd:10 bytes_received:45\n"
    )
    assert parse_bytes_sent(text.splitlines()) == [1560, 0]


def test_ss_without_tcp_info_does_not_pass_for_nothing_sent() -> None:
    with pytest.raises(OSError, match="tcp_diag"):
        parse_bytes_sent(["0 0 [::1]:8080 [::1]:40000"])


def test_record_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "folder/record.json"
    records.write(path, record())
    assert records.read(str(path)) == record()
    with pytest.raises(TypeError):
        records.write(str(path), {"impossible": object()})
    assert records.read(str(path)) == record()
    assert [entry.name for entry in path.parent.iterdir()] == ["record.json"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", json.dumps({"schema_version": 0}), json.dumps({"schema_version": 1})],
)
def test_a_file_that_is_no_record_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"record\.json.*delete it"):
        records.read(str(path))
