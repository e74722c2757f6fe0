"""What makes a cell at a rate overloaded or invalid, and its columns; docs/latency.md has the same lists."""

import re
from typing import Any

import pytest

from helpers.checkouts import ROOT
from helpers.made_up_rates import rated
from sweep import flags, rated_fields, rated_flags
from sweep.fields import Column

SLOW = {"latency_p99_us": 2000.0}
# Flag → changes of a good record that raise it, and changes that only just do not.
RAISED: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("no_requests", {"requests": 0}, {"requests": 1}),
    ("errors", {"errors": 1}, {"errors": 0}),
    ("wrong_responses", {"response_unchanged": False}, {"response_unchanged": True}),
    ("idle_connections_lost", {"idle_connections_lost": 1}, {"idle_connections_lost": 0}),
    (
        "generator_late",
        {"generator_lateness_p99_us": 50.1},
        {"generator_lateness_p99_us": 50.0},
    ),
    (
        "generator_late",
        {"generator_lateness_p99_us": 200.1, **SLOW},
        {"generator_lateness_p99_us": 200.0, **SLOW},
    ),
    (
        "generator_late",
        {"generator_lateness_p99_us": 1000.1, "latency_p99_us": 1e6},
        {"generator_lateness_p99_us": 1000.0, "latency_p99_us": 1e6},
    ),
    (
        "fewer_idle_connections",
        {"idle_connections_asked": 200, "idle_connections": 199},
        {"idle_connections_asked": 200, "idle_connections": 200},
    ),
    ("connections_reopened", {"reconnects": 1}, {"reconnects": 0}),
    ("disturbed", {"server_wait_share": 0.0081}, {"server_wait_share": 0.008}),
    ("disturbed", {"client_wait_share": 0.034}, {"client_wait_share": flags.WAIT_SHARE}),
    ("disturbed", {"steal_share": 0.021}, {"steal_share": flags.STEAL_SHARE}),
    ("shared_cpus", {"cpus_shared": True}, {"cpus_shared": False}),
]


def flags_of(**changes: Any) -> list[str]:
    return list(rated_flags.judge(rated(**changes))["flags"])


@pytest.mark.parametrize(("name", "raised", "not_raised"), RAISED)
def test_flag_is_raised_at_its_limit_alone(
    name: str, raised: dict[str, Any], not_raised: dict[str, Any]
) -> None:
    assert flags_of(**raised) == [name]
    assert flags_of(**not_raised) == []
    (flag,) = (flag for flag in rated_flags.FLAGS if flag.name == name)
    expected = "invalid" if flag.invalidates else "ok"
    assert rated_flags.judge(rated(**raised))["status"] == expected


def test_every_flag_has_a_record_that_raises_it() -> None:
    assert {name for name, _, _ in RAISED} == {flag.name for flag in rated_flags.FLAGS}


NOTHING = dict.fromkeys(["latency_p99_us", "latency_min_us", "generator_lateness_p99_us"])
JUDGED = {
    "as many as were offered": ({}, "ok"),
    "0.99 of them": ({"achieved_per_second": 990.0}, "ok"),
    "fewer": ({"achieved_per_second": 989.0}, "overloaded"),
    "fewer, with errors": ({"achieved_per_second": 500.0, "errors": 1}, "invalid"),
    "fewer, since the generator was late": (
        {"achieved_per_second": 500.0, "generator_lateness_p99_us": 60.0},
        "invalid",
    ),
    "fewer, of a machine that was disturbed": (
        {"achieved_per_second": 500.0, "server_wait_share": 0.1},
        "overloaded",
    ),
    # A handler that waits 10 ms has 10 of 1,000 requests under way when a run of 1 s ends.
    "all but those under way": (
        {"achieved_per_second": 975.0, "latency_min_us": 10_000.0},
        "ok",
    ),
    "fewer than those under way": (
        {"achieved_per_second": 969.0, "latency_min_us": 10_000.0},
        "overloaded",
    ),
    "of none": (
        {"requests": 0, "offered_per_second": 0.0, "achieved_per_second": 0.0, **NOTHING},
        "invalid",
    ),
    "none was sent": (
        {"achieved_per_second": 0.0, "generator_lateness_p99_us": None},
        "overloaded",
    ),
}


@pytest.mark.parametrize("name", JUDGED)
def test_server_that_falls_behind_is_overloaded_unless_the_run_is_invalid(name: str) -> None:
    changes, status = JUDGED[name]
    assert rated_flags.judge(rated(**changes))["status"] == status


def test_only_what_is_not_the_servers_doing_is_worth_repeating() -> None:
    for changes in ({"errors": 1}, {"achieved_per_second": 1.0}, {"reconnects": 1}, SLOW):
        assert not rated_flags.is_worth_repeating(rated(**changes))
    late = {"generator_lateness_p99_us": 60.0}
    for changes in (late, late | {"latency_p99_us": 9000.0}, {"server_wait_share": 0.01}):
        assert rated_flags.is_worth_repeating(rated(**changes))


# --- docs/latency.md ---


def rows_in_docs(heading: str) -> list[str]:
    """The rows of the first table under a heading."""
    section = (ROOT / "docs/latency.md").read_text().partition(f"\n{heading}\n")[2]
    table = section[section.index("|---") :].partition("\n\n")[0]
    return table.splitlines()[1:]


@pytest.mark.parametrize(
    ("heading", "table"),
    [
        ("## results/latency.csv", rated_fields.LATENCY),
        ("## results/latency_summary.csv", rated_fields.SUMMARY),
        ("## results/latency_limits.csv", rated_fields.LIMITS),
    ],
)
def test_docs_have_a_row_for_each_column_and_no_other(
    heading: str, table: tuple[Column, ...]
) -> None:
    ends = {False: "", True: ", `_low`, `_high`"}
    rows = [f"| `{it.name}`{ends[it.has_interval]} | {it.unit} | {it.meaning} |" for it in table]
    assert rows_in_docs(heading) == rows


def test_docs_have_the_flags_with_their_thresholds() -> None:
    rows = [row.strip("| ").split(" | ") for row in rows_in_docs("### Flags of a cell at a rate")]
    assert [[row[0].strip("`"), row[1], row[3]] for row in rows] == [
        [flag.name, "invalid" if flag.invalidates else "counted", flag.meaning]
        for flag in rated_flags.FLAGS
    ]
    said = {row[0].strip("`"): row[2] for row in rows}
    late = [rated_flags.LATENESS_US, rated_flags.LATENESS_SHARE, rated_flags.MOST_LATENESS_US]
    assert [float(word) for word in re.findall(r"> ([\d.]+)", said["generator_late"])] == late
    assert said["disturbed"].endswith(f"> {rated_flags.WAIT_SHARE}")
    overloaded = f"fewer than {rated_flags.ACHIEVED_SHARE} of the requests"
    assert overloaded in (ROOT / "docs/latency.md").read_text()
