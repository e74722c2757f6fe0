"""Latencies over the rate: intervals, the rate at which the target is reached, and the sentence about it."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import summarize_latency
from analysis import latency
from common import terminal
from helpers.made_up_rates import MISSING, at_rates, rated, without_figures, write_latency

Rows = list[dict[str, Any]]
RATES = [1000.0, 2000.0, 3000.0]
FOUR = [*RATES, 4000.0]


def limit_of(rows: Rows, folder: Path) -> "pd.Series[Any]":
    ((_, row),) = write_latency(rows, folder)[2].iterrows()
    return row


NOISY = (1500 * 200 * 300) ** (1 / 3)  # of three rates together
# 99th percentiles at each rate, in µs → highest rate within 1 ms, where it is reached, bound.
LIMITS: dict[str, tuple[list[float | None], float, float, str]] = {
    "half way on a logarithmic scale": ([250, 500, 2000], 2000, 2500, ""),
    "a third of the way": ([250, 500, 4000], 2000, 2000 + 1000 / 3, ""),
    "within at every rate": ([100, 200, 300], 3000, 3000, "at least"),
    "above at every rate": ([1100, 2000, 3000], math.nan, math.nan, "below"),
    "a noisy low rate does not decide": ([1500, 200, 300], 3000, 3000, "at least"),
    "a rate is missing": ([250, None, 4000], 1000, 2000, ""),
    "only one rate": ([None, 500, None], 2000, 2000, "at least"),
}


@pytest.mark.parametrize("name", LIMITS)
def test_limit_lies_between_the_rates_that_it_is_between(name: str, tmp_path: Path) -> None:
    p99s, highest, limit, bound = LIMITS[name]
    row = limit_of(at_rates("server_epoll", RATES, p99s), tmp_path)
    found = [row["highest_rate_per_second"], row["limit_per_second"]]
    assert found == pytest.approx([highest, limit], nan_ok=True)
    assert (row["bound"], row["repeats"], row["target_ms"]) == (bound, 1, 1)
    assert math.isnan(row["limit_per_second_low"])


def test_latencies_that_fall_are_fitted_by_values_that_do_not(tmp_path: Path) -> None:
    row = limit_of(at_rates("server_epoll", FOUR, [1500, 200, 300, 4000]), tmp_path)
    part = math.log(1000 / NOISY) / math.log(4000 / NOISY)
    assert row["limit_per_second"] == pytest.approx(3000 + 1000 * part)


def factor_of(values: list[float]) -> float:
    error = stats.sem(np.log(values))
    return float(np.exp(stats.t.ppf(0.975, len(values) - 1) * error))


def test_interval_of_a_limit_is_students_t_over_the_repeats(tmp_path: Path) -> None:
    repeats = [250, 500, 2000], [200, 250, 2000], [250, 500, 4000]
    row = limit_of(at_rates("server_epoll", RATES, *repeats), tmp_path)
    assert row["limit_per_second"] == pytest.approx(2500)
    factor = factor_of([2500, 2000 + 2000 / 3, 2000 + 1000 / 3])
    assert row["limit_per_second_low"] == pytest.approx(2500 / factor)
    assert row["limit_per_second_high"] == pytest.approx(2500 * factor)


def test_repeat_that_is_above_the_target_everywhere_is_not_left_out(tmp_path: Path) -> None:
    row = limit_of(at_rates("server_epoll", RATES, [100, 200, 2000], [900, 1500, 3000]), tmp_path)
    assert row["limit_per_second_low"] == RATES[0]  # the interval stays on the grid
    assert row["limit_per_second"] < row["limit_per_second_high"] == RATES[-1]


def test_repeat_that_does_not_count_at_every_rate_is_in_no_interval(tmp_path: Path) -> None:
    whole = [[100.0, 200.0, 2000.0], [100.0, 210.0, 2000.0]]
    rows = at_rates("server_epoll", RATES, *whole, [100.0, 200.0, 2000.0])
    rows[-1] |= {
        "status": "invalid",
        "flags": ["errors"],
    }  # it would hold the target at all that is left
    row = limit_of(rows, tmp_path)
    assert row["repeats"] == 2
    assert row["limit_per_second_high"] < RATES[-1]


@pytest.mark.parametrize("status", ["failed", "invalid"])
def test_server_of_which_nothing_counts_at_the_highest_rate_does_not_lead(
    status: str, tmp_path: Path
) -> None:
    rows = at_rates("server_epoll", RATES, [100, 200, 300], [100, 200, 300])
    broken = at_rates("server_mine", RATES, [100, 200, 300], [100, 200, 300])
    for row in broken:
        if row["rate_per_second"] == RATES[-1]:
            row |= {"status": status, "flags": []}
    _, points, limits = write_latency([*broken, *rows], tmp_path)
    assert list(limits["bound"]) == ["unknown above", "at least"]
    assert latency.sentence(limits, points) == (
        "With a 99th percentile of at most 1 ms server_epoll takes the most load: every rate that was measured, up to"
        " 3,000 requests/s. Nothing counts of server_mine above 2,000 requests/s."
    )


def test_limit_is_not_below_the_highest_rate_within_the_target(tmp_path: Path) -> None:
    row = limit_of(at_rates("server_epoll", RATES, [990, 1100, 2000], [50, 60, 1050]), tmp_path)
    assert 2000 == row["highest_rate_per_second"] <= row["limit_per_second"] < 3000


def test_interval_of_a_point_is_students_t_of_the_logarithms(tmp_path: Path) -> None:
    p99s = [200.0, 300.0, 250.0]
    rows = at_rates("server_epoll", [1000.0], *([value] for value in p99s))
    rows[1]["status"], rows[2]["cpu_ratio"] = "overloaded", None
    ((_, point),) = write_latency(rows, tmp_path)[1].iterrows()
    mean = stats.gmean(p99s)
    names = [f"latency_p99_us{end}" for end in ("", "_low", "_high")]
    expected = [mean, mean / factor_of(p99s), mean * factor_of(p99s)]
    assert list(point[names]) == pytest.approx(expected)
    assert (point["repeats"], point["overloaded"]) == (3, 1)
    assert point["cpu_ratio"] == pytest.approx(1.1)


def test_only_valid_and_undisturbed_cells_of_the_main_machine_count(tmp_path: Path) -> None:
    rows = at_rates("server_epoll", RATES, [200, 300, 400])
    rows += at_rates("server_epoll", RATES, [1, 1, 1], status="invalid", flags=["errors"])
    rows += at_rates("server_epoll", RATES[:1], [2], flags=["shared_cpus", "disturbed"])
    rows += at_rates("server_epoll", FOUR[3:], [900], flags=["disturbed"])
    rows += at_rates("server_poll", RATES[:1], [3], machine="another")
    rows.append(without_figures("server"))
    cells, points, limits = write_latency(rows, tmp_path)
    assert list(points["latency_p99_us"]) == pytest.approx([200, 300, 400, 900])
    assert list(points["rate_per_second"]) == FOUR
    assert list(limits["server"]) == ["server_epoll"]
    notes = latency.missing_notes(cells)
    assert notes == [
        "server_epoll is invalid in 3 of 8 cells: errors.",
        f"server is unavailable in 1 of 1 cells: {MISSING['reason']}.",
    ]


TIGHT = [100, 500, 2000], [100, 501, 2000]  # within 1 ms up to about 2,500/s
LOWER = [500, 2000, 4000], [501, 2000, 4000]  # 1,500/s
WIDE = [100, 500, 2000], [900, 1000, 1100]
ABOVE = [1100, 1200, 1300], [1100, 1200, 1300]
ALWAYS = [100, 200, 300], [100, 200, 300]
WITHIN = "With a 99th percentile of at most 1 ms "
SENTENCES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "one leader": (
        {"poll": LOWER, "epoll": TIGHT},
        [WITHIN + "epoll takes the most load: 2,500 requests/s (95 % interval ", "next, poll, 1,5"],
    ),
    "one server": ({"epoll": TIGHT, "poll": ABOVE}, ["epoll takes the most load: 2,500", ")."]),
    "a tie": (
        {"epoll": TIGHT, "poll": WIDE, "uring": LOWER},
        ["epoll", "poll take the most load, and their intervals overlap: "],
    ),
    "every rate": (
        {"epoll": ALWAYS, "poll": TIGHT},
        [WITHIN + "epoll takes the most load: every rate that was measured, up to 3,000 request"],
    ),
    "every rate, and one that may": (
        {"epoll": ALWAYS, "poll": ([100, 200, 990], [100, 500, 2000]), "uring": LOWER},
        ["epoll takes the most load: every rate", "requests/s. Not told apart from that: poll, 2,"],
    ),
    "every rate, and one without an interval": (
        {"epoll": ALWAYS, "poll": TIGHT[:1], "uring": LOWER},
        [
            "epoll takes the most load: every rate",
            "Not told apart from that: poll, 2,500 requests/s.",
        ],
    ),
    "every rate, twice": ({"epoll": ALWAYS, "poll": ALWAYS}, ["epoll and poll take the most"]),
    "none": (
        {"epoll": ABOVE},
        [
            "No server whose cells count keeps its 99th percentile within 1 ms: at 1,000 requests/s, the lowest rate"
        ],
    ),
    "one run at each rate": (
        {"epoll": TIGHT[:1], "poll": LOWER[:1]},
        ["epoll took the most load, 2,500 requests/s; without two repeats that count at every"],
    ),
    "nothing that counts": ({}, ["No cell counts, so nothing is known of any server."]),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_sentence_says_who_takes_the_most_load(name: str, tmp_path: Path) -> None:
    servers, expected = SENTENCES[name]
    rows = [row for it, repeats in servers.items() for row in at_rates(it, RATES, *repeats)]
    rows.append(rated("wrong", status="invalid", flags=["generator_late"]))
    cells, points, limits = write_latency(rows, tmp_path)
    said = latency.sentence(limits, points)
    assert all(part in said for part in expected), said
    assert "nan" not in said and said.endswith(".")
    told = terminal.format_text(summarize_latency.tabulate(cells, points, limits))
    assert f"keepalive: {said}" in told and "nan" not in told
    assert "wrong is invalid in 1 of 1 cells: generator_late." in told


def test_target_below_the_round_trip_is_said(tmp_path: Path) -> None:
    rows = at_rates("epoll", RATES, *TIGHT)
    _, points, limits = write_latency(rows, tmp_path, target_ms=0.01)
    assert latency.sentence(limits, points) == (
        "No server whose cells count keeps its 99th percentile within 0.01 ms: even the median is at least 25 µs."
    )


def test_valid_cells_are_of_one_machine_and_keep_disturbed_ones_that_do_not_count(
    tmp_path: Path,
) -> None:
    rows = at_rates("server_epoll", RATES, [100, 200, 300], [100, 200, 300])
    rows[0]["flags"] = ["disturbed"]
    foreign = [{**row, "machine": "another"} for row in rows[:3]]
    wrong = rated("server_epoll", status="invalid", flags=["errors"])
    cells = write_latency([*rows, *foreign, wrong], tmp_path)[0]
    assert len(latency.valid(cells)) == len(rows)
    assert len(latency.counted(cells)) == len(rows) - 1
