"""The picture of latencies over the rate: of result sets that lack something, and what it says."""

import sys
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

import plot_latency
from drawing import style
from helpers.made_up_rates import at_rates, rated, without_figures, write_latency

RATES = [1000.0, 5000.0, 20_000.0]
BOTH = [
    *at_rates("server_epoll", RATES, [100, 300, 900], [110, 280, 2000]),
    *at_rates("server_poll", RATES, [100, 400, 3000], [120, 500, 4000]),
]
UNRATIOED = {"cpu_ratio": None}
OTHER = {"workload": "body_128k", "connections": 10}
INVALID = {"status": "invalid", "flags": ["generator_late"]}
# Name → rows, and the target.
SETS: dict[str, tuple[list[dict[str, Any]], float]] = {
    "two servers": (BOTH, 1),
    "one cell": ([rated()], 1),
    "one repeat": (at_rates("server_epoll", RATES, [100, 300, 900]), 1),
    "overloaded and disturbed": (
        [
            *BOTH[:6],
            rated(rate=40_000, p99_us=9e5, status="overloaded", flags=["disturbed"]),
            rated(rate=30_000, flags=["disturbed"]),
        ],
        1,
    ),
    "without a reference": ([{**row, **UNRATIOED} for row in BOTH], 1),
    "one without figures": ([*BOTH, without_figures("server")], 1),
    "nothing that counts": ([{**row, **INVALID} for row in BOTH] + [without_figures("server")], 1),
    "two workloads": ([*BOTH, *({**row, **OTHER} for row in BOTH)], 1),
    "two workloads, one without a cell that counts": (
        [*({**row, **OTHER, **INVALID} for row in BOTH), *BOTH, without_figures("server")],
        1,
    ),
    "a target far above": (BOTH, 60_000),
    "a target below all": (BOTH, 0.01),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", SETS)
def test_picture_is_made_of_every_kind_of_results(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, target_ms = SETS[name]
    write_latency(rows, tmp_path, target_ms)
    tables = [str(tmp_path / f"latency{end}.csv") for end in ("", "_summary", "_limits")]
    monkeypatch.setattr(sys, "argv", ["plot_latency.py", *tables, str(tmp_path / "a.png")])
    assert plot_latency.main() == 0
    assert (tmp_path / "a.png").stat().st_size > 5000


def drawn(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Figure:
    figures: list[Figure] = []
    monkeypatch.setattr(style, "save", lambda figure, _paths: figures.append(figure))
    rows, target_ms = SETS[name]
    plot_latency.draw(*write_latency(rows, folder, target_ms))
    figures[0].draw_without_rendering()
    return figures[0]


def words_of(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text) if text.get_visible())


@pytest.mark.parametrize("name", SETS)
def test_no_text_leaves_the_picture_or_lies_on_a_title(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = drawn(name, tmp_path, monkeypatch)
    titles = [text for part in figure.subfigs for text in part.texts]
    for part in (*figure.axes, *figure.texts, *titles):
        box = part.get_tightbbox()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 + 1, part
        assert box.y0 >= 0 and box.y1 <= figure.bbox.y1 + 1, part
    for axes in figure.axes:
        targets = [text for text in axes.texts if text.get_text().startswith("target")]
        assert all(text.get_window_extent().y1 <= axes.bbox.y1 + 12 for text in targets)


def test_picture_has_a_chart_a_figure_and_says_who_takes_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = drawn("two servers", tmp_path, monkeypatch)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [*plot_latency.PERCENTILES.values(), "CPU time per request / the reference's"]
    words = words_of(figure)
    assert "keepalive, 50 connections" in words and "target 1 ms" in words
    assert "With a 99th percentile of at most 1 ms" in words
    assert words.count("server_poll") >= 2
    assert "not measured" in words_of(drawn("without a reference", tmp_path, monkeypatch))


def test_picture_says_why_nothing_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = words_of(drawn("nothing that counts", tmp_path, monkeypatch))
    assert "server_epoll is invalid in 6 of 6 cells: generator_late." in words
    assert "server is unavailable in 1 of 1 cells" in words
    both = words_of(drawn("two workloads, one without a cell that counts", tmp_path, monkeypatch))
    assert "body_128k: server_epoll is invalid in 6 of 6 cells: generator_late." in both
    assert "body_128k: No cell counts" in both and "keepalive: With a 99th" in both
