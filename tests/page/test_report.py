"""The report in a browser without a network: sweeps of every kind, what a reader does with it, what axe says."""

import contextlib
import json
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from analysis import findings, summary, tables
from analysis.verdicts import (
    CPU_RATIO,
    DEPENDS,
    EQUAL,
    FASTER,
    THROUGHPUT,
    UNDECIDABLE,
    WHOLE_SWEEP,
)
from drawing import palette
from helpers.made_up import record, unavailable
from helpers.report_pages import (
    cell_record,
    make_report,
    open_report,
    sweep,
    write_sweep,
)
from page.charts import over_connections
from page.profiles import self_counts

SERVERS = ["server_thread", "server_epoll", "server_uring"]
WIDTHS_PX = [360, 1280, 2560]
SECTIONS = [
    "answer",
    "ranking",
    "connections",
    "fairness",
    "syscalls",
    "profiles",
    "tables",
    "flagged",
    "machine",
]


def with_faults() -> list[dict[str, Any]]:
    """One server unavailable, one invalid, one failed, one that starves, and one without any fault."""
    rows = sweep(["server_epoll", "server"], [1, 10], 3)
    for row in rows:
        if row["server"] == "server" and row["connections"] == 10:
            row |= {
                "unserved_connections": 9,
                "fairness_jain": 0.1,
                "flags": ["unserved_connections"],
            }
    broken = [
        {**row, "server": "server_poll", "status": "invalid", "flags": ["errors"], "errors": 2}
        for row in sweep(["server_poll"], [1, 10], 3)
    ]
    known = ("server", "connections", "facts", "asked")
    absent = [
        unavailable(row["repeat"]) | {name: row[name] for name in known}
        for row in sweep(["server_uring"], [1, 10], 3)
    ]
    crashed = [
        {**row, "server": "server_select", "status": "failed", "reason": "it crashed"}
        for row in absent
    ]
    return [*rows, *broken, *absent, *crashed]


WORKLOADS = ["keepalive", "idle_crowd", "blocking_handler", "slow_one_percent"]
SWEEPS = {
    "whole": sweep([*SERVERS, "server_poll", "server_poll_control"], [1, 10, 100], 5),
    "faults": with_faults(),
    "one connection count": sweep(SERVERS, [10], 5),
    "workloads": [
        row
        for name in WORKLOADS
        for row in sweep(SERVERS, [1, 10] if name == "keepalive" else [10], 3, name)
    ],
    "one workload, of throughput": sweep(SERVERS, [10], 3, "blocking_handler"),
    "one server": sweep(["server_epoll"], [1, 10], 3),
    "one repeat": sweep(SERVERS, [1, 10], 1),
    "one cell": sweep(["server_epoll"], [10], 1),
    "nothing valid": [
        {**row, "status": "invalid", "flags": ["errors"], "errors": 1}
        for row in sweep(SERVERS, [1, 10], 2)
    ],
}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each kind of sweep → its report."""
    runs = {}
    for name, rows in SWEEPS.items():
        folder = tmp_path_factory.mktemp("report")
        write_sweep(folder, rows, profiled=name != "faults", workloads_profiled=2)
        runs[name] = (folder, make_report(folder))
    for name, (_, run) in runs.items():
        assert run.communicate()[1] == "", name
        assert run.returncode == 0, name
    return {name: folder / "results/report.html" for name, (folder, _) in runs.items()}


@pytest.fixture
def opened(reports: dict[str, Path], browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens the report of a kind of sweep, until the test is over."""
    with contextlib.ExitStack() as after:

        def opening(name: str = "whole", width_px: int = 1280, **options: Any) -> Page:
            page = open_report(browser, reports[name], width_px, **options)
            after.callback(page.context.close)
            return page

        yield opening


@pytest.mark.parametrize("name", SWEEPS)
def test_every_section_is_there_and_not_empty(name: str, opened: Callable[..., Page]) -> None:
    page = opened(name)
    for section in SECTIONS:
        place = page.locator(f"#{section}")
        assert place.locator("h2").inner_text()
        assert len(place.inner_text()) > len(place.locator("h2").first.inner_text()) + 10
        if name == "whole":
            assert place.locator("svg, table, iframe").count() > 0 or section in (
                "answer",
                "flagged",
            )
    assert re.search(r"\bnan\b", page.locator("body").inner_text(), re.IGNORECASE) is None
    for chart in page.locator("[data-chart] svg").all():  # of what is shown
        assert chart.bounding_box()["height"] > 50  # type: ignore[index]


@pytest.mark.parametrize("width_px", WIDTHS_PX)
@pytest.mark.parametrize("name", ["whole", "faults", "workloads"])
def test_nothing_overflows(name: str, width_px: int, opened: Callable[..., Page]) -> None:
    page = opened(name, width_px)
    assert page.evaluate("document.documentElement.scrollWidth") <= width_px
    for chart in page.locator("[data-chart] svg").all():
        box = chart.bounding_box()
        assert box is not None
        assert box["x"] >= 0 and box["x"] + box["width"] <= width_px + 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["whole", "faults", "workloads"])
def test_axe_finds_no_serious_fault(name: str, scheme: str, opened: Callable[..., Page]) -> None:
    page = opened(name, color_scheme=scheme)
    found = Axe().run(page).response["violations"]
    serious = [fault for fault in found if fault["impact"] in ("serious", "critical")]
    told = [(fault["id"], [node["html"][:200] for node in fault["nodes"]][:3]) for fault in serious]
    assert told == []


def marks_of(page: Page, chart: str, server: str) -> int:
    color = palette.color_of(server)
    marks = f".mark-symbol path[stroke='{color}']"
    return page.locator(f"[data-chart='keepalive/{chart}'] {marks}").count()


def test_a_server_can_be_hidden_and_shown(opened: Callable[..., Page]) -> None:
    page = opened()
    for chart in ("throughput", "cpu", "latency", "fairness"):
        assert marks_of(page, chart, "server_thread") > 0
    marks = f".mark-symbol path[stroke='{palette.color_of('server_thread')}']"
    box = page.locator("#servers input[value=server_thread]")
    box.focus()
    page.keyboard.press("Space")
    for chart in ("throughput", "cpu", "latency", "fairness"):
        expect(page.locator(f"[data-chart='keepalive/{chart}'] {marks}")).to_have_count(0)
        assert marks_of(page, chart, "server_epoll") > 0
    box.check()
    page.locator(f"[data-chart='keepalive/cpu'] {marks}").first.wait_for(state="attached")


def test_the_first_view_is_the_map_and_a_sentence_for_each_workload(
    opened: Callable[..., Page],
) -> None:
    page = opened("workloads")
    answers = page.locator(".answer li").all_inner_texts()
    assert [text.partition(":")[0] for text in answers] == WORKLOADS
    assert answers[0] == "keepalive: server_uring is first by CPU time per request."
    assert answers[2].endswith("by throughput.")
    heads = page.locator("#map thead th").all_inner_texts()
    assert "throughput, more is better" in heads[2] and "10 connections" in heads[2]
    assert "1 to 10 connections" in heads[0]
    row = page.locator("#map tbody tr", has_text="server_thread").locator("td")
    ratios = [float(text.split()[0].removesuffix("×")) for text in row.all_inner_texts()]
    assert ratios == pytest.approx([1.41, 1.41, 0.71, 1.41], abs=0.011)
    box = page.locator("#map").bounding_box()
    assert box is not None and box["y"] + box["height"] < 900


def test_what_has_no_ratio_is_told_in_the_map(opened: Callable[..., Page]) -> None:
    rows = opened("faults").locator("#map tbody tr").all_inner_texts()
    fields = {row.split()[0]: " ".join(row.split()[1:]) for row in rows}
    words = ("no valid run", "unavailable", "failed")
    names = ("server_poll", "server_uring", "server_select")
    assert {name: fields[name] for name in names} == dict(zip(names, words, strict=True))
    assert "1 of 2 points" in fields["server"]


def test_a_reader_chooses_a_workload_with_the_keyboard(opened: Callable[..., Page]) -> None:
    page = opened("workloads")
    assert not page.locator("[data-chart='idle_crowd/cpu']").is_visible()
    page.locator("#servers input[value=server_thread]").uncheck()
    page.get_by_role("combobox", name="Workload").focus()
    page.keyboard.press("ArrowDown")
    for chart in ("throughput", "limiters", "cpu", "latency", "fairness", "ranking_cpu_ratio"):
        expect(page.locator(f"[data-chart='idle_crowd/{chart}'] svg")).to_be_visible()
    marks = page.locator("[data-chart='idle_crowd/cpu'] .mark-symbol path")
    expect(
        marks.and_(page.locator(f"[stroke='{palette.color_of('server_uring')}']"))
    ).not_to_have_count(0)
    expect(
        marks.and_(page.locator(f"[stroke='{palette.color_of('server_thread')}']"))
    ).to_have_count(0)
    assert not page.locator("[data-chart='keepalive/cpu']").is_visible()
    told = page.locator("#answer").inner_text()
    assert "beside 10,000 idle connections" in told
    for table, count in (("points", 3), ("runs", 9)):
        rows = page.locator(f"#table_{table} tbody tr")
        expect(rows).to_have_count(count)
        assert set(rows.locator("td:nth-child(2)").all_inner_texts()) == {"idle_crowd"}
    serious = [
        fault["id"]
        for fault in Axe().run(page).response["violations"]
        if fault["impact"] in ("serious", "critical")
    ]
    assert serious == []


def test_a_heading_of_the_map_chooses_its_workload(opened: Callable[..., Page]) -> None:
    page = opened("workloads")
    page.locator("#map").get_by_role("button", name="blocking").click()
    expect(page.get_by_role("combobox", name="Workload")).to_have_value("blocking_handler")
    expect(
        page.locator("[data-chart='blocking_handler/ranking_requests_per_second'] svg")
    ).to_be_visible()
    strokes = page.locator("[data-chart='blocking_handler/throughput'] path[aria-label*='ceiling']")
    expect(strokes).to_have_count(3)
    told = page.locator("main").inner_text()
    assert "Strokes: the ceiling of each server" in told
    assert "the handler of each request waits 10 ms" in told
    assert "no paired phase" in told and "throughput decides it" in told


def test_profiles_and_system_calls_are_those_of_the_chosen_workload(
    opened: Callable[..., Page],
) -> None:
    page = opened("workloads")
    choice = page.get_by_role("combobox", name="Workload")
    page.get_by_label("Server A", exact=True).select_option("server_epoll")
    title = page.frame_locator("#flamegraph_left").locator("#title")
    for workload in ("idle_crowd", "keepalive", "idle_crowd"):
        choice.select_option(workload)
        expect(page.locator(f"[data-chart='{workload}/syscalls'] svg")).to_be_visible()
        said = f"server_epoll: where its CPU time goes, {workload}, 10 connections"
        expect(title).to_have_text(said)
        expect(page.locator("#self_times tbody tr")).to_have_count(2)
        assert "profile.workloads" not in page.locator("main").inner_text()
    choice.select_option("blocking_handler")
    assert page.locator("iframe:visible, [data-chart$='/syscalls']:visible").count() == 0
    for section, what in (("syscalls", "counted"), ("profiles", "profiled")):
        said = f"This workload was not {what}: profile.workloads in the config names"
        assert said in page.locator(f"#{section}").inner_text()
        assert "(keepalive and idle_crowd)" in page.locator(f"#{section}").inner_text()


def test_one_workload_leaves_nothing_to_choose(opened: Callable[..., Page]) -> None:
    page = opened("one workload, of throughput")
    assert page.locator("#workload, [data-choose]").count() == 0
    assert "server_uring" in page.locator("#map tbody tr").first.inner_text()
    assert page.locator("#map tbody tr").count() == 3


def test_tables_sort_filter_and_save(reports: dict[str, Path], opened: Callable[..., Page]) -> None:
    page = opened()
    heading = page.locator("#table_points th", has_text="server_cpu_ns").first
    first = page.locator("#table_points tbody tr:first-child td:first-child")
    heading.click()
    expect(first).to_have_text("server_uring")
    heading.click()
    expect(first).to_have_text("server_thread")
    page.locator("#tables input[type=search]").nth(1).fill("server_poll_control")
    names = page.locator("#table_runs tbody tr td:first-child")
    expect(names.first).to_have_text("server_poll_control")
    assert set(names.all_inner_texts()) == {"server_poll_control"}
    with page.expect_download() as started:
        page.get_by_role("button", name="Save shown rows as CSV").nth(1).click()
    saved = pd.read_csv(started.value.path())
    assert list(saved["server"]) == ["server_poll_control"] * 15
    exact = pd.read_csv(reports["whole"].with_name("cells.csv"))
    exact = exact[exact["server"] == "server_poll_control"]["server_cpu_ns_per_request"]
    assert sorted(saved["server_cpu_ns_per_request"]) == pytest.approx(sorted(exact))
    with page.expect_download() as started:
        page.get_by_role("link", name="cells.csv").click()
    whole = reports["whole"].with_name("cells.csv").read_bytes()
    assert started.value.path().read_bytes() == whole


def test_two_servers_flamegraphs_and_self_times_are_compared(opened: Callable[..., Page]) -> None:
    page = opened()
    page.get_by_label("Server A", exact=True).select_option("server_epoll")
    page.get_by_label("Server B", exact=True).select_option("server_thread")
    for side, server in (("left", "server_epoll"), ("right", "server_thread")):
        title = page.frame_locator(f"#flamegraph_{side}").locator("#title")
        assert (title.text_content() or "").startswith(f"{server}:")
    rows = page.locator("#self_times tbody tr").all_inner_texts()
    assert len(rows) == 2
    costs = {server: cost_at_ten(server) for server in ("server_epoll", "server_thread")}
    kernel = [90 / (90 + 30) * costs["server_epoll"], 90 / (90 + 10) * costs["server_thread"]]
    assert rows[0].split() == [
        "tcp_sendmsg",
        "(kernel)",
        f"{kernel[0]:.3f}",
        f"{kernel[1]:.3f}",
        f"+{kernel[1] - kernel[0]:.3f}",
    ]


def test_flamegraph_zooms_and_searches(opened: Callable[..., Page]) -> None:
    page = opened()
    frame = page.frame_locator("#flamegraph_left")
    frame.locator("#frames g", has_text="send").first.click()
    assert frame.locator("#unzoom").is_visible()
    page.get_by_label("Search in both").fill("tcp_")
    page.keyboard.press("Enter")
    for side in ("left", "right"):
        matched = page.frame_locator(f"#flamegraph_{side}").locator("#matched")
        assert (matched.text_content() or "").startswith("Matched: ")
        assert not (matched.text_content() or "").endswith(" 0%")


def cost_at_ten(server: str) -> float:
    """µs of CPU per request, as the summary has it: total CPU time over total requests."""
    rows = [cell_record(server, 10, repeat) for repeat in range(1, 6)]
    total = sum(row["server_cpu_ns_per_request"] * row["requests"] for row in rows)
    return float(total / sum(row["requests"] for row in rows) / 1000)


def test_points_that_were_disturbed_in_all_runs_are_hollow() -> None:
    cells = tables.cell_table([record(flags=["disturbed"]), record(connections=1)])
    spec = over_connections("cpu", cells, summary.summary_table(cells))
    values = [row for layer in spec["layer"] for row in layer["data"]["values"]]
    points = [row for row in values if "low" in row]
    assert {row["connections"]: row["disturbed"] for row in points} == {10: True, 1: False}
    assert "datum.disturbed" in json.dumps(spec)


def test_what_is_wrong_or_missing_is_told(opened: Callable[..., Page]) -> None:
    page = opened("faults")
    assert page.locator("#missing_left").inner_text() == "No flamegraph: perf may not: sysctl <x>"
    assert ": no profile" in page.locator("#self_times_note").inner_text()
    assert not page.locator("#flamegraph_left").is_visible()
    assert "perf may not: sysctl <x>" in page.locator("#syscalls").inner_text()
    told = page.locator("main").inner_text()
    assert "server left up to 9 of 10 connections without any answer" in told
    assert "6 of 30 runs are invalid" in told
    assert "server_uring is unavailable in 6 of 6 cells: see results/cells." in told
    assert "server_select failed in 6 of 6 cells: it crashed." in told
    assert "server_poll has no valid cell of 6: errors." in told


def test_content_is_shown_soon(reports: dict[str, Path], opened: Callable[..., Page]) -> None:
    page = opened()
    script = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
    assert page.evaluate(script) <= 1500
    assert reports["whole"].stat().st_size < 4e6


def test_page_names_no_folder_of_this_machine(reports: dict[str, Path]) -> None:
    text = reports["whole"].read_text()
    assert "/home/somebody" not in text
    assert str(reports["whole"].parent.parent) not in text
    assert "&lt;b&gt;Some &amp; Sons" in text


def test_same_data_give_the_same_page(reports: dict[str, Path]) -> None:
    before = reports["whole"].read_bytes()
    again = make_report(reports["whole"].parent.parent)
    assert again.communicate()[1] == ""
    assert reports["whole"].read_bytes() == before


Pairs = dict[str, tuple[str, float]]


def finding_of(
    pairs: Pairs, metric: str = CPU_RATIO, reason: str = "", limited: Collection[str] = ()
) -> findings.Finding:
    """Of servers with names of one letter: pair → its verdict and ratio."""
    known = {"metric": metric, "connections": WHOLE_SWEEP, "p_adjusted": 0.01, "reason": reason}
    rows = [
        {**known, "server": server, "other": other, "verdict": word, "ratio": ratio}
        | {"ratio_low": ratio * 0.98, "ratio_high": ratio * 1.02}
        for (server, other), (word, ratio) in pairs.items()
    ]
    return findings.find(pd.DataFrame(rows), metric, list(dict.fromkeys("".join(pairs))), limited)


SHARED = "a and b share first place by CPU time per request"
ANSWERS: dict[str, tuple[str, Pairs, str]] = {
    "a winner only if it beats all": (
        CPU_RATIO,
        {"ab": (FASTER, 0.9), "ac": (FASTER, 0.8), "bc": (EQUAL, 0.99)},
        "a is first by CPU time per request. The next, b, needs 11.1 % more (95 % interval 8.9 to 13.4 %).",
    ),
    "all that are not told apart": (
        CPU_RATIO,
        {"ab": (EQUAL, 0.99), "ac": (FASTER, 0.8), "bc": (FASTER, 0.81), "cd": (EQUAL, 0.99)}
        | {"ad": (FASTER, 0.79), "bd": (FASTER, 0.80)},
        f"{SHARED}: equal within 3.1 %. The next, c, needs 25.0 % more than a (95 % interval 22.5 to 27.6 %).",
    ),
    "who is behind where few are": (
        THROUGHPUT,
        {"ab": (UNDECIDABLE, 1.1), "ac": (FASTER, 1.25), "bc": (FASTER, 1.2)},
        "a and b share first place by throughput; this sweep does not distinguish them. "
        "The next, c, serves 20.0 % fewer requests than a (95 % interval 18.4 to 21.6 %).",
    ),
    "that they are equal only within their interval": (
        CPU_RATIO,
        {"ab": (EQUAL, 1.2)},
        f"{SHARED}; this sweep does not distinguish them, and they differ by at most 22.4 %.",
    ),
    "that there is none": (
        CPU_RATIO,
        {"ab": (UNDECIDABLE, 0.5)},
        "This sweep cannot say which server is best by CPU time per request.",
    ),
    "that it depends": (
        CPU_RATIO,
        {"ab": (DEPENDS, 0.9)},
        f"{SHARED}; which of them is ahead depends on the number of connections.",
    ),
}


@pytest.mark.parametrize("said", ANSWERS)
def test_the_answer_says(said: str) -> None:
    metric, pairs, answer = ANSWERS[said]
    assert findings.best_sentence(finding_of(pairs, metric)) == answer


def test_the_next_may_be_told_from_some_of_the_leaders_alone() -> None:
    finding = finding_of(
        {"ab": (EQUAL, 1.0), "ac": (DEPENDS, 0.97), "bc": (FASTER, 0.95)}
        | {"ad": (FASTER, 0.7), "bd": (FASTER, 0.8), "cd": (FASTER, 0.84)}
    )
    assert finding.leaders == ["a", "b"] and finding.behind == ["c", "d"]
    assert "The next, c, needs 5.3 % more than b" in findings.best_sentence(finding)


def test_a_server_that_only_a_beaten_one_beats_is_not_behind() -> None:
    finding = finding_of({"ab": (FASTER, 0.9), "bc": (FASTER, 0.95), "ac": (EQUAL, 0.97)})
    assert (sorted(finding.leaders), finding.behind) == (["a", "c"], ["b"])


def test_a_margin_says_what_its_verdict_rests_on_and_whether_it_is_a_lower_bound() -> None:
    finding = finding_of({"ab": (FASTER, 1.3)}, THROUGHPUT, "2 of 4 points comparable", {"a"})
    told = findings.best_sentence(finding)
    assert "; 2 of 4 points comparable; a lower bound, since wrk was the limit of a" in told


def profile(server: str, samples: int, **self_share: float) -> dict[str, Any]:
    share = {name.replace("_kernel", " (kernel)"): part for name, part in self_share.items()}
    known = {"connections": 10, "cpu_us_per_request": 5.0}
    return {"server": server, "samples": samples, "self_share": share, **known}


def test_the_reason_names_functions_that_take_longer_by_more_than_chance() -> None:
    finding = finding_of({"ab": (FASTER, 0.9)})
    profiles = [
        profile("a", 1000, send_kernel=0.1, ack_kernel=0.1, main=0.2),
        profile("b", 1000, send_kernel=0.3, ack_kernel=0.12, main=0.0, serve=0.2),
    ]
    columns = ["server", "kind", "name", "per_request"]
    counts = [("a", "system_call", "all", 2.0), ("b", "system_call", "all", 0.5)]
    calls, functions = findings.reasons(finding, pd.DataFrame(counts, columns=columns), profiles)
    assert calls.endswith(": a 2.00 and b 0.50.")
    assert functions.endswith("b spends more of each request in send (kernel) (+1.00 µs).")


def test_self_time_is_of_the_innermost_function() -> None:
    lines = [
        "server;main;serve 3\n",
        "server;main;serve;tcp_ack.isra.0_[k] 5\n",
        "server;start;serve 1\n",
    ]
    assert self_counts(lines) == {"serve": 4, "tcp_ack (kernel)": 5}
