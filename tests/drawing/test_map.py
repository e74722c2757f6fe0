"""The map: fields from made-up cells, and the picture of them."""

import math
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

import plot_map
from analysis import tables, verdicts, workload_map
from analysis.summary import summary_table
from drawing import style
from helpers.made_up import CLIENT_BOUND, failed, record, unavailable

DECIDERS = {"plain": "cpu_ratio", "waits": "requests_per_second", "tail": "latency_p99_us"}
# Costs: ratios to the best of each workload, where less is better.
COSTS = {"server_epoll": (1.0, 5.0, 4.0), "server_thread": (2.0, 1.0, 1.0)}


def cells_of(server: str, workload: str, cost: float, counts: list[int]) -> list[dict[str, Any]]:
    """Four repeats that vary by some permille."""
    asked = {"workload": {"decided_by": DECIDERS[workload]}}
    return [
        record(
            repeat,
            server=server,
            workload=workload,
            connections=count,
            asked=asked,
            cpu_ratio=cost * noise,
            requests_per_second=800 / cost * noise,
            requests=round(100_000 / cost * noise),
            duration_s=125.0,
            latency_p99_us=100 * cost * noise,
        )
        for count in counts
        for repeat, noise in enumerate((1.001, 0.999, 1.002, 0.998), 1)
    ]


ROWS = [
    row
    for server, costs in COSTS.items()
    for workload, cost in zip(DECIDERS, costs, strict=True)
    for row in cells_of(server, workload, cost, [1, 10] if workload == "plain" else [50])
]


def table_of(rows: list[dict[str, Any]]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    cells = tables.cell_table(rows)
    summary = summary_table(cells)
    return cells, summary, verdicts.verdict_table(cells, summary)


def map_of(rows: list[dict[str, Any]]) -> workload_map.WorkloadMap:
    _, *its = table_of(rows)
    return workload_map.make(*its)


def test_a_field_has_the_ratio_to_the_best_by_the_figure_that_decides() -> None:
    its = map_of(ROWS)
    assert [column.workload for column in its.columns] == list(DECIDERS)
    texts = {place: field.text for place, field in its.fields.items()}
    assert texts == {
        ("plain", "server_epoll"): "1.00",
        ("plain", "server_thread"): "2.00×",
        ("waits", "server_epoll"): "0.20×",
        ("waits", "server_thread"): "1.00",
        ("tail", "server_epoll"): "4.00×",
        ("tail", "server_thread"): "1.00",
    }
    for (_, _), field in its.fields.items():
        assert (field.letters, field.is_first) == (
            "a" if field.text == "1.00" else "b",
            field.text == "1.00",
        )
    assert its.servers == ["server_thread", "server_epoll"]
    assert [column.direction for column in its.columns] == [
        "less is better",
        "more is better",
        "less is better",
    ]
    assert its.columns[0].connections_text == "1 to 10 connections"


def test_a_server_with_fewer_points_is_compared_at_these_alone_and_never_the_best() -> None:
    """At 1 connection all cost half as much: server_poll has no other point."""
    rows = [
        row
        for server, cost in (("server_epoll", 1.0), ("server_thread", 2.0))
        for count, factor in ((1, 0.5), (10, 1.0))
        for row in cells_of(server, "plain", cost * factor, [count])
    ]
    poll = cells_of("server_poll", "plain", 0.6, [1])
    starving = [
        row | {"unserved_connections": 5} for row in cells_of("server_poll", "plain", 0.1, [10])
    ]
    field = map_of([*rows, *poll, *starving]).fields["plain", "server_poll"]
    assert field.text == "1.20×"
    assert field.remark == "1 of 2 points"
    assert field.limiter == "server-bound"


NOTHING = {
    "failed": failed(),
    "unavailable": unavailable(),
    "no valid run": record(status="invalid", flags=["errors"], errors=2),
    "starving": record(unserved_connections=9),
    "no ratio": record(cpu_ratio=None),
}


@pytest.mark.parametrize("word", NOTHING)
def test_a_field_without_a_ratio_says_why(word: str) -> None:
    row = NOTHING[word] | {"server": "server_poll", "workload": "plain", "connections": 1}
    its = map_of([*ROWS, row])
    field = its.fields["plain", "server_poll"]
    assert math.isnan(field.ratio) and field.text == word
    assert its.fields["waits", "server_poll"].text == "not measured"
    assert its.servers[-1] == "server_poll"


def test_the_limiter_is_that_of_most_points_and_of_the_last_ones_if_there_is_a_tie() -> None:
    rows = cells_of("server_epoll", "plain", 1.0, [1, 10, 100])
    limited = [row | CLIENT_BOUND if row["connections"] > 1 else row for row in rows]
    assert map_of(rows).fields["plain", "server_epoll"].limiter == "server-bound"
    assert map_of(limited).fields["plain", "server_epoll"].limiter == "client-bound"
    two = [row for row in limited if row["connections"] < 100]
    assert map_of(two).fields["plain", "server_epoll"].limiter == "client-bound"
    turned = [row | {"connections": 11 - row["connections"]} for row in two]
    assert map_of(turned).fields["plain", "server_epoll"].limiter == "server-bound"


def test_a_machine_is_never_mixed_with_another() -> None:
    other = [row | {"machine": "another"} for row in cells_of("server_poll", "plain", 0.1, [1])]
    assert map_of([*ROWS, *other]).fields.keys() == map_of(ROWS).fields.keys()


def test_sentences_are_of_every_workload_and_say_how_far_the_next_one_is_behind() -> None:
    _, summary, judged = table_of(ROWS)
    said = workload_map.sentences(summary, judged)
    assert list(said) == list(DECIDERS)
    assert said["waits"].startswith("server_thread is first by throughput. The next, server_epoll,")
    assert "serves 80.0 % fewer requests" in said["waits"]
    assert "has one that is 300.0 % higher" in said["tail"]
    found = workload_map.findings_of(summary, judged)
    short = workload_map.short_sentences(map_of(ROWS), found)
    assert short["tail"] == "server_thread is first by 99th percentile of latency."


def picture_of(rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Figure:
    figures: list[Figure] = []
    monkeypatch.setattr(style, "save", lambda figure, _paths: figures.append(figure))
    plot_map.draw(*table_of(rows))
    return figures[0]


def test_the_picture_has_every_field_its_letters_limiter_and_remark(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = failed() | {"server": "server_poll", "workload": "plain", "connections": 1}
    figure = picture_of([*ROWS, broken], monkeypatch)
    (axes,) = figure.axes
    words = [text.get_text() for text in axes.texts]
    for word in ("0.20×", "2.00×", "4.00×", "a", "b", "S", "failed", "not measured", "waits"):
        assert word in words
    assert any("throughput, more\nis better" in word for word in words)
    bold = [text.get_text() for text in axes.texts if text.get_fontweight() == "bold"]
    assert bold.count("1.00") == 3 and "2.00×" not in bold
    hatched = [box for box in axes.patches if isinstance(box, Rectangle) and box.get_hatch()]
    assert [box.get_xy() for box in hatched] == [(0, 2)]  # not where nothing was asked for
    assert "S server-bound" in " ".join(figure.get_supxlabel().split())


@pytest.mark.parametrize("workload", [*DECIDERS, None])
@pytest.mark.parametrize("server", [*COSTS, "h2o@a-very-long-revision-of-somebody", None])
def test_one_workload_one_server_or_all_fit_into_the_picture(
    workload: str | None, server: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row for row in ROWS if workload in (None, row["workload"])]
    if server:
        rows = [row | {"server": server} for row in rows if row["server"] == "server_epoll"]
    figure = picture_of(rows, monkeypatch)
    figure.draw_without_rendering()
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text():
            box = text.get_window_extent()
            inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1
            assert inside and box.y1 <= figure.bbox.y1, text
