"""The report's section of latencies at fixed rates, in a browser."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from helpers.made_up_rates import at_rates, without_figures, write_latency
from helpers.report_pages import make_report, open_report, sweep, write_sweep

RATES = [1000.0, 5000.0, 20_000.0]
ROWS = [
    *at_rates("server_epoll", RATES, [100, 300, 800], [110, 280, 700]),
    *at_rates("server_poll", RATES, [100, 400, 3000], [120, 500, 4000]),
    *at_rates("server_thread", RATES, [1100, 1400, 3000], [1120, 1500, 4000]),
    # It counts at no higher rate.
    *at_rates("server_select", RATES[:1], [100], [100]),
    without_figures("server"),
]
SPOILT = {"workload": "body_128k", "status": "invalid", "flags": ["generator_late"]}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rates")
    write_sweep(folder, sweep(["server_epoll", "server_poll"], [10], 3))
    spoilt = at_rates("server_epoll", RATES, [100, 300, 800], **SPOILT)
    write_latency([*ROWS, *spoilt], folder / "results")
    run = make_report(folder)
    assert run.communicate()[1] == "" and run.returncode == 0
    return folder / "results/report.html"


def test_section_has_charts_a_sentence_and_the_limits(report: Path, browser: Browser) -> None:
    page = open_report(browser, report)
    section = page.locator("#rates")
    assert [it.inner_text() for it in section.locator("h3").all()] == [
        "keepalive, 50 connections",
        "body_128k, 50 connections",
    ]
    expect(section.locator("[data-chart] svg")).to_have_count(4)
    words = section.inner_text()
    assert "server_epoll takes the most load: every rate that was measured" in words
    assert "server is unavailable in 1 of 1 cells" in words
    assert "No cell counts" in words and "server_epoll is invalid in 3 of 3 cells" in words
    rows = [row.inner_text().split("\t") for row in section.locator("tbody tr").all()]
    assert rows[0][:3] == ["server_epoll", "20,000", "at no rate measured"]
    assert rows[1][:2] == ["server_poll", "5,000"] and "–" in rows[1][3]
    assert rows[2] == ["server_thread", "above it at every rate"]
    assert rows[3][:3] == ["server_select", "1,000", "not known: nothing counts above"]
    assert "nan" not in words.lower()
    page.context.close()


def test_report_without_the_tables_has_no_section(tmp_path: Path, browser: Browser) -> None:
    write_sweep(tmp_path, sweep(["server_epoll"], [10], 1))
    run = make_report(tmp_path)
    assert run.communicate()[1] == "" and run.returncode == 0
    page = open_report(browser, tmp_path / "results/report.html")
    expect(page.locator("#rates")).to_have_count(0)
    page.context.close()
