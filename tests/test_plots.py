"""Pictures and the console's table of sweeps that lack something."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import plot_overview
import plot_server
import plot_style
import pytest
import tables
import tabulate_results
from checkouts import ROOT
from test_tables import SHORT_CONNECTIONS, record, unavailable


def with_ceiling() -> "pd.DataFrame":
    """A summary of a server that wrk limits at 10 connections, and that leaves some unserved at 100."""
    rows = [
        record(client_cpu_share=0.99, server_cpu_share=0.5, server_busiest_thread_share=0.5),
        record(connections=100, unserved_connections=9),
    ]
    ceiling = tables.summary_table(tables.cell_table([{**rows[0], "server": "ceiling"}]))
    return tables.summary_table(tables.cell_table(rows), ceiling)


def test_ceiling_limiters_and_lower_bounds_are_drawn() -> None:
    summary = with_ceiling()
    _, axes, strip = plot_style.new_figure_with_strip(5, 4, rows=1)
    plot_style.draw_ceiling(axes, summary)
    plot_server.mark_limits(axes, summary)
    plot_style.draw_limiters(strip, summary, ["server_epoll"])
    (line,) = axes.lines
    assert list(line.get_xydata()[0]) == [10, 500]
    assert [(text.get_text(), text.xy[0]) for text in axes.texts] == [("≥", 10)]
    assert [text.get_text() for text in strip.texts] == ["C", "!"]


def test_a_point_without_a_valid_run_is_a_hollow_square_in_the_strip() -> None:
    rows = [record(), record(connections=100, status="invalid", flags=["errors"], errors=2)]
    _, _, strip = plot_style.new_figure_with_strip(5, 4, rows=1)
    summary = tables.summary_table(tables.cell_table(rows))
    plot_style.draw_limiters(strip, summary, ["server_epoll"])
    plot_style.limiter_legend(strip, summary)
    hollow = [squares for squares in strip.collections if not len(squares.get_facecolor())]
    assert [squares.get_offsets().tolist() for squares in hollow] == [[[100, 0]]]
    labels = [text.get_text().strip() for text in strip.get_legend().get_texts()]
    assert labels == ["S  server-bound", "no valid run"]


def test_a_connection_per_request_is_told_beside_the_servers_name() -> None:
    summary = tables.summary_table(tables.cell_table([record(**SHORT_CONNECTIONS)]))
    label = plot_overview.label_of("server_epoll", summary, "requests_per_second")
    assert label == "server_epoll\n(a connection per request)"


FIGURES = ["throughput", "latency", "cpu"]
SWEEPS = {
    "one cell": [record()],
    "one repeat": [record(connections=1), record(connections=10)],
    "all unavailable": [unavailable()],
    "one of two unavailable": [record(), {**unavailable(), "server": "server_mine"}],
    "short connections": [record(1, **SHORT_CONNECTIONS), record(2, **SHORT_CONNECTIONS)],
    "all invalid": [record(status="invalid", flags=["errors"], errors=2)],
    "nothing answered": [
        record(
            status="invalid",
            flags=["no_requests"],
            requests=0,
            requests_per_second=0.0,
            server_cpu_ns_per_request=None,
            latency_p50_us=None,
            latency_p99_us=None,
        )
    ],
}


@pytest.mark.parametrize("name", SWEEPS)
def test_every_picture_and_the_table_are_made(name: str, tmp_path: Path) -> None:
    cells = tables.cell_table(SWEEPS[name])
    summary = tables.summary_table(cells)
    tables.write_table(cells, str(tmp_path / "cells.csv"))
    tables.write_table(summary, str(tmp_path / "summary.csv"))
    commands = [["plot_server.py"], *(["plot_overview.py", figure] for figure in FIGURES)]
    for number, (script, *arguments) in enumerate(commands):
        command = [sys.executable, str(ROOT / "scripts" / script), *arguments]
        command += ["cells.csv", "summary.csv", f"{number}.png"]
        run = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        assert "Warning" not in run.stderr
        assert (tmp_path / f"{number}.png").stat().st_size > 5000
    assert str(cells.loc[0, "server"]) in tabulate_results.tabulate(summary)


def test_same_data_give_the_same_picture(tmp_path: Path) -> None:
    cells = tables.cell_table([record(1), record(2, requests_per_second=510.0)])
    tables.write_table(cells, str(tmp_path / "cells.csv"))
    tables.write_table(tables.summary_table(cells), str(tmp_path / "summary.csv"))
    for name in ("a.png", "b.png"):
        command = [sys.executable, str(ROOT / "scripts/plot_server.py")]
        subprocess.run([*command, "cells.csv", "summary.csv", name], cwd=tmp_path, check=True)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
