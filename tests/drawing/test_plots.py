"""Pictures and the console's table of sweeps that lack something."""

import importlib
import itertools
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text

import plot_overview
import plot_server
import print_summary
from analysis import ranking, tables, verdicts
from analysis.summary import summary_table
from common import terminal
from drawing import marks, over_connections, palette, style
from drawing.axes import End, choose_labels, label_ends
from helpers.checkouts import ROOT, run_script, snakemake
from helpers.made_up import (
    CLIENT_BOUND,
    SHORT_CONNECTIONS,
    failed,
    record,
    unavailable,
    write_tables,
)


def test_reference_limiters_and_lower_bounds_are_drawn() -> None:
    """Of a server that wrk limits at 10 connections, and that leaves some unserved at 100."""
    limited = record(reference_requests_per_second=700.0, **CLIENT_BOUND)
    rows = [limited, record(connections=100, unserved_connections=9)]
    summary = summary_table(tables.cell_table(rows))
    _, axes, strip = style.new_figure_with_strip(5, 4, rows=1)
    marks.draw_reference(axes, summary)
    plot_server.mark_limits(axes, summary)
    marks.draw_limiters(strip, summary, ["server_epoll"])
    (line,) = axes.lines
    assert line.get_xydata() == pytest.approx(np.array([[10, 700], [100, 600]]))
    assert "servers/reference.c" in palette.throughput_notes(summary)[0]
    assert [(text.get_text(), text.xy[0]) for text in axes.texts] == [("≥", 10)]
    assert [text.get_text() for text in strip.texts] == ["C", "!"]


def test_a_point_without_a_valid_run_is_a_hollow_square_in_the_strip() -> None:
    rows = [record(), record(connections=100, status="invalid", flags=["errors"], errors=2)]
    _, _, strip = style.new_figure_with_strip(5, 4, rows=1)
    summary = summary_table(tables.cell_table(rows))
    marks.draw_limiters(strip, summary, ["server_epoll"])
    marks.limiter_legend(strip, summary)
    hollow = [squares for squares in strip.collections if not len(squares.get_facecolor())]
    assert [squares.get_offsets().tolist() for squares in hollow] == [[[100, 0]]]
    labels = [text.get_text().strip() for text in strip.get_legend().get_texts()]
    assert labels == ["S  server-bound", "no valid run"]


def test_a_connection_per_request_is_told_beside_the_servers_name() -> None:
    summary = summary_table(tables.cell_table([record(**SHORT_CONNECTIONS)]))
    label = over_connections.label_of("server_epoll", summary, "requests_per_second")
    assert label == "server_epoll\n(a connection per request)"


FIGURES = ["throughput", "latency", "cpu"]
POLL, CONTROL = {"server": "server_poll"}, {"server": "server_epoll_control"}
SWEEPS = {
    "one cell": [record()],
    "one repeat": [record(connections=1), record(connections=10)],
    "one repeat of a control too": [record(**who) for who in (POLL, {}, CONTROL)],
    "two servers": [record(repeat, **who) for who in (POLL, {}) for repeat in (1, 2)],
    "all unavailable": [unavailable()],
    "all failed": [failed(), failed(2)],
    "one of two failed, the other at times": [record(), failed(2), {**failed(), **POLL}],
    "one of two unavailable": [record(), {**unavailable(), "server": "server_mine"}],
    "short connections": [record(1, **SHORT_CONNECTIONS), record(2, **SHORT_CONNECTIONS)],
    "all invalid": [record(status="invalid", flags=["errors"], errors=2)],
    "nothing answered": [
        record(status="invalid", flags=["no_requests"], requests=0, requests_per_second=0.0)
        | dict.fromkeys(["server_cpu_ns_per_request", "latency_p50_us", "latency_p99_us"])
    ],
    "a control": [record(repeat, **who) for who in (POLL, {}, CONTROL) for repeat in (1, 2, 3)],
    "noise": [
        record(
            repeat, **who, server_cpu_ns_per_request=4000 + noise, requests_per_second=500 - noise
        )
        for who, noises in ((POLL, (40, 90, 10)), ({}, (5, 0, 20)), (CONTROL, (0, 33, 8)))
        for repeat, noise in enumerate(noises, 1)
    ],
    "some connections unserved, a server missing at one count": [
        *(record(repeat, connections=count) for repeat in (1, 2) for count in (10, 100)),
        record(1, unserved_connections=9, **POLL),
    ],
    "workloads": [
        record(repeat, workload=name, asked={"workload": {"decided_by": decider}}, **who)
        for name, decider in (("first", "cpu_ratio"), ("waits", "requests_per_second"))
        for who in (POLL, {})
        for repeat in (1, 2)
    ],
    "a workload of throughput alone": [
        record(repeat, asked={"workload": {"decided_by": "requests_per_second"}}, **who)
        for who in (POLL, {})
        for repeat in (1, 2)
    ],
    "two machines": [record(), record(connections=100), record(machine="another")],
}
SCRIPTS = {
    "server": ["plot_server.py", "cells.csv"],
    **{
        figure: ["plot_over_connections.py", figure, "cells.csv", "summary.csv"]
        for figure in FIGURES
    },
    "ranking": ["plot_ranking.py", "cells.csv", "summary.csv", "verdicts.csv"],
    "map": ["plot_map.py", "cells.csv", "summary.csv", "verdicts.csv"],
    "story": ["plot_overview.py", "cells.csv", "summary.csv", "verdicts.csv"],
}


def draw(picture: str, folder: Path, *outputs: str) -> None:
    """In a process of its own; no warnings."""
    run = run_script(*SCRIPTS[picture], *outputs, cwd=folder)
    assert run.returncode == 0, run.stderr
    assert "Warning" not in run.stderr


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", SWEEPS)
def test_every_picture_and_the_table_are_made(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = write_tables(SWEEPS[name], tmp_path)
    monkeypatch.chdir(tmp_path)
    for picture, command in SCRIPTS.items():
        monkeypatch.setattr(sys, "argv", [*command, f"{picture}.png"])
        assert importlib.import_module(Path(command[0]).stem).main() == 0
        assert (tmp_path / f"{picture}.png").stat().st_size > 5000
    assert str(summary.loc[0, "server"]) in terminal.format_text(print_summary.tabulate(summary))


@pytest.mark.parametrize("picture", ["server", "throughput", "ranking", "map", "story"])
def test_same_data_give_the_same_bytes_whatever_process_draws_them(
    picture: str, tmp_path: Path
) -> None:
    write_tables(SWEEPS["a control"], tmp_path)
    for name in ("a", "b"):
        draw(picture, tmp_path, f"{name}.png", f"{name}.svg")
    for suffix in ("png", "svg"):
        first, second = (tmp_path / f"{name}.{suffix}" for name in ("a", "b"))
        assert first.read_bytes() == second.read_bytes(), suffix


def test_a_picture_has_200_pixels_an_inch_and_no_text_that_needs_a_font(tmp_path: Path) -> None:
    write_tables(SWEEPS["one repeat"], tmp_path)
    draw("latency", tmp_path, "a.png", "a.svg")
    png, svg = (tmp_path / "a.png").read_bytes(), (tmp_path / "a.svg").read_text()
    assert int.from_bytes(png[16:20], "big") == 200 * style.WIDTH_INCHES
    assert "<text" not in svg


def story_of(name: str, monkeypatch: pytest.MonkeyPatch) -> Figure:
    """The picture of one of SWEEPS, drawn but not saved."""
    figures: list[Figure] = []
    monkeypatch.setattr(style, "save", lambda figure, _paths: figures.append(figure))
    cells = tables.cell_table(SWEEPS[name])
    summary = summary_table(cells)
    plot_overview.draw(cells, summary, verdicts.verdict_table(cells, summary))
    return figures[0]


def words_of(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text) if text.get_visible())


def test_one_picture_has_figures_limiters_and_ranking(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = story_of("a control", monkeypatch)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    lines = [over_connections.FIGURES[name].title for name in FIGURES]
    assert titles == [*lines, "Limited by", *ranking.TITLES.values()]
    words = words_of(figure)
    assert "2 HTTP servers, 10 connections, 3 repeats\nThis sweep cannot say" in words
    assert "Grey band: noise floor" in words
    assert "control: server_epoll again" in words
    assert "server_epoll_control" not in words


def test_one_picture_of_one_server_has_no_ranking(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = story_of("one cell", monkeypatch)
    assert len(figure.axes) == 4
    assert len(figure.subfigs) == 1
    words = words_of(figure)
    assert "1 HTTP server, 10 connections, 1 repeat" in words
    assert "nothing to compare it with" in words


def test_one_picture_says_what_is_missing_and_what_is_unserved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = words_of(story_of("one of two failed, the other at times", monkeypatch))
    assert "server_poll failed in 1 of 1 cells: it crashed." in broken
    assert "server_epoll failed in 1 of 2 cells: it crashed." in broken
    assert broken.count("server_poll\n(failed)") == 3 and "server_poll (failed)" in broken
    missing = words_of(story_of("one of two unavailable", monkeypatch))
    assert missing.count("server_mine\n(unavailable)") == 3
    assert "starving: connections never got a response" in words_of(
        story_of("some connections unserved, a server missing at one count", monkeypatch)
    )


@pytest.mark.parametrize("name", ["all unavailable", "all failed"])
def test_where_nothing_was_measured_there_is_no_scale(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = story_of(name, monkeypatch)
    figure.draw_without_rendering()
    for axes in figure.axes[:3]:
        assert len(axes.get_yticks()) == 0
        assert "no valid run" in [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("name", SWEEPS)
def test_no_text_leaves_the_picture(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = story_of(name, monkeypatch)
    figure.draw_without_rendering()
    legends = figure.findobj(Legend)
    assert len(figure.texts) == 2
    assert legends
    for part in (*figure.axes, *figure.texts, *legends):
        box = part.get_tightbbox()
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1
        assert inside and box.y1 <= figure.bbox.y1, part


def test_labels_of_lines_that_end_together_do_not_overlap() -> None:
    figure = style.new_canvas(9, 4)
    axes = figure.add_subplot()
    axes.set_ylim(0, 10)
    values = [9.9, 5.0, 5.0, 5.01, 0.1, math.nan, 4.99]
    ends = [
        End(1, value, f"server {number}\nremark" if number % 2 else str(number), "k", "o")
        for number, value in enumerate(values)
    ]
    label_ends(axes, ends)
    figure.draw_without_rendering()
    boxes = {text.get_text(): text.get_window_extent() for text in axes.texts if text.get_text()}
    assert len(boxes) == len(values)
    for one, other in itertools.combinations(boxes.values(), 2):
        assert not one.overlaps(other)
    for box in boxes.values():
        assert axes.bbox.y0 - 2 <= box.y0
        assert box.y1 <= axes.bbox.y1 + 2
        assert box.x1 <= figure.bbox.x1
    # Of two lines the one that ends higher has the higher label.
    assert boxes["0"].y0 > boxes["server 3\nremark"].y0 > boxes["6"].y0 > boxes["4"].y0


def test_lines_that_end_together_are_labelled_in_order_whatever_the_last_digits() -> None:
    # These come from the layout, and differ from process to process.
    for noise in (-1e-13, 0, 1e-13):
        axes = style.new_canvas(9, 4).add_subplot()
        axes.set_ylim(0, 10)
        ends = [End(1, 5 + sign * noise, str(sign), "k", "o") for sign in (-1, 1)]
        label_ends(axes, ends)
        heights = {text.get_text(): text.xy[1] for text in axes.texts if text.get_text()}
        assert heights["-1"] < heights["1"]


def test_layout_is_final_and_has_no_digits_that_differ_from_process_to_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    figure = story_of("noise", monkeypatch)
    style.fix_layout(figure)
    for _ in range(2):
        for part in (*figure.axes, *figure.subfigs):
            box = part.get_position() if isinstance(part, Axes) else part.bbox_relative
            assert box.extents == pytest.approx(np.round(box.extents, 6), abs=1e-14, rel=0)
        figure.draw_without_rendering()


def test_ends_and_powers_of_ten_are_labelled_first() -> None:
    counts = [1, 10, 50, 90, 100, 500, 1000]
    assert sorted(choose_labels(counts, 10)) == [1, 10, 50, 100, 500, 1000]
    assert sorted(choose_labels(counts, 4)) == [1, 10, 100, 1000]
    assert choose_labels([70], 7) == [70]


# Severity 1.0 of Machado, Oliveira & Fernandes, "A physiologically-based model for simulation of color vision
# deficiency", IEEE TVCG 15 (2009), on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def seen(color: str, vision: str) -> Any:
    """Oklab coordinates (Ottosson 2020) of a colour as somebody sees it."""
    red_green_blue = np.array(to_rgb(color))
    linear = np.where(
        red_green_blue <= 0.04045, red_green_blue / 12.92, ((red_green_blue + 0.055) / 1.055) ** 2.4
    )
    cones = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    opponents = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    light = np.clip(np.array(VISION[vision]) @ linear, 0, 1)
    return np.array(opponents) @ np.cbrt(np.array(cones) @ light)


@pytest.mark.parametrize("vision", VISION)
def test_servers_are_told_apart_by_colour_or_marker_and_the_default_ones_by_colour(
    vision: str,
) -> None:
    """By 0.08 in Oklab, where 0.02 is a just noticeable difference."""
    default = set(yaml.safe_load((ROOT / "config.yaml").read_text())["servers"])
    colors = {name: seen(color, vision) for name, color in palette.COLORS.items()}
    assert default <= set(colors)
    for one, other in itertools.combinations(colors, 2):
        if {one, other} <= default or palette.marker_of(one) == palette.marker_of(other):
            assert np.linalg.norm(colors[one] - colors[other]) > 0.08, (one, other)


@pytest.mark.parametrize("vision", VISION)
def test_fields_of_the_map_differ_in_lightness_alone_and_their_text_is_readable(
    vision: str,
) -> None:
    ratios = [1, 1.2, 1.5, 2, 3, 4]
    lightness = [seen(palette.distance_colors(ratio)[0], vision)[0] for ratio in ratios]
    assert min(np.diff(lightness)) > 0.03
    for ratio in [*np.geomspace(1, 5, 50), 0.01, 0.5]:
        field, text = (
            [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
            for color in palette.distance_colors(ratio)
        )
        light = sorted(float(np.dot(it, [0.2126, 0.7152, 0.0722])) + 0.05 for it in (field, text))
        assert light[1] / light[0] >= 4.5
    assert palette.distance_colors(2) == palette.distance_colors(0.5)


# What `snakemake --report` shows of a sweep


TABLES = ["cells", "summary", "verdicts", "syscalls"]
REPORTED = ["map", "overview", *(f"overview_{figure}" for figure in FIGURES), "ranking", "syscalls"]
REPORTED += ["server_epoll", "server_epoll_flamegraph"]
CONFIG = "servers: [server_epoll]\ncontrol: null\nconnections: [2]\nrepeats: 1\n"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Snakemake's report of a sweep whose pictures and tables are there, if only as empty files."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "plots").mkdir()
    (folder / "results").mkdir()
    for name in REPORTED:
        (folder / f"plots/{name}.svg").touch()
    for table in TABLES:
        (folder / f"results/{table}.csv").touch()
    arguments = ["--directory", str(folder), "--configfile", str(folder / "config.yaml")]
    report = ["--report", str(folder / "report.html")]
    snakemake(ROOT, *report, *arguments)
    return (folder / "report.html").read_text()


def test_snakemakes_report_has_every_picture_and_table_with_caption_and_label(page: str) -> None:
    results = json.loads(re.search(r"^\s*var results = (\{.*\})", page, re.MULTILINE)[1])
    expected = {f"plots/{name}.svg" for name in REPORTED}
    expected |= {f"results/{table}.csv" for table in TABLES}
    assert set(results) >= expected
    for path, result in results.items():
        assert "<p>" in result["caption"], path
        assert "system-message" not in result["caption"], path
        assert result["labels"], path


def test_more_repeats_than_can_be_told_apart_are_not_all_drawn() -> None:
    cells = pd.DataFrame({"repeat": [1, 20, 21, 101], "requests_per_second": 1.0})
    shown, note = tables.choose_single_runs(cells)
    assert list(shown["repeat"]) == [1, 20]
    assert "101" in note and "20" in note
    assert tables.choose_single_runs(shown)[1] == ""
    assert len(tables.choose_single_runs(shown)[0]) == 2
