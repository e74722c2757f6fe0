"""Pages of results that tests make up, and a browser that opens them."""

import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

import count_syscalls
from helpers.checkouts import ROOT, environment, make_tree
from helpers.made_up import record, write_tables
from sweep import records, workloads
from sweep.cells import Cell, record_path
from sweep.workloads import KEEPALIVE

# Factors of CPU time per request.
TRUTH = {"server_thread": 1.4, "server_epoll": 1.0, "server_uring": 0.99, "server_poll": 1.1}
FACTS = {
    "machine_id": "0123abcd",
    "machine_label": "2 CPUs of a test",
    "cpu": {"vendor": "<b>Some & Sons</b>", "cpus_allowed": [0, 1]},
    "tools": {"wrk": "4.1.0"},
}

STACKS = "{server};main;serve {user}\n{server};main;serve;send;tcp_sendmsg_[k] {kernel}\n"


def cell_record(
    server: str, connections: int, repeat: int, workload: str = KEEPALIVE
) -> dict[str, Any]:
    """A valid record whose figures vary a little, by where it stands. Of a built-in workload."""
    noise = 1 + 0.004 * math.sin(7 * repeat + connections + len(server))
    cost = 5000.0 * TRUTH.get(server, 1.0) * noise
    its = workloads.of_config({"workloads": [workload]})[workload]
    ratios = (cost / 5000, 5000 / cost) if its.is_paired else (None, None)
    return record(
        repeat,
        workload=workload,
        server=server,
        connections=connections,
        requests_per_second=1e9 / cost,
        requests=round(2e9 / cost),
        latency_p99_us=cost / 10,
        server_cpu_ns_per_request=cost,
        cpu_ratio=ratios[0],
        throughput_ratio=ratios[1],
        fairness_jain=0.999,
        facts=FACTS,
        asked={"duration_s": 2, "warmup_s": 0.5, "host": "::1", "workload": its.changes},
        idle_connections=its.idle_connections,
        server_command=f"taskset --cpu-list 1 /home/somebody/results/bin/{server} --port 0".split(),
        load_command=[
            "wrk",
            "-s",
            "/home/somebody/scripts/instruments/wrk_report.lua",
            "http://[::1]:4711/",
        ],
    )


def write_sweep(
    folder: Path,
    rows: list[dict[str, Any]],
    profiled: bool = True,
    stacks: str = STACKS,
    workloads_profiled: int = 1,
) -> None:
    """What make_report reads, in `folder`, by the workflow's own functions. workloads_profiled: how many of them."""
    servers = list(dict.fromkeys(row["server"] for row in rows))
    for row in rows:
        path = record_path(Cell(*(row.get(name, KEEPALIVE) for name in Cell._fields)))
        records.write(str(folder / path), row)
    write_tables(rows, folder / "results")
    (folder / "plots").mkdir()
    counts = []
    drawn = []
    named = dict.fromkeys(row.get("workload", KEEPALIVE) for row in rows)
    names = list(named)[:workloads_profiled]
    for workload, (number, server) in itertools.product(names, enumerate(servers)):
        facts: dict[str, Any] = {"server": server, "workload": workload, "connections": 10}
        facts["status"] = "ok"
        if not profiled:
            facts |= {"status": "not_permitted", "reason": "perf may not: sysctl <x>"}
        row = facts | {"kind": "system_call"}
        folded = stacks.format(server=server, user=10 + 20 * number, kernel=90) if profiled else ""
        files = [f"results/profile/{workload}/{server}.{suffix}" for suffix in ("folded", "json")]
        make_tree(
            folder, dict(zip(files, (folded, json.dumps(facts | {"samples": 100})), strict=True))
        )
        picture = f"plots/{server}_flamegraph{workloads.picture_suffix(workload, names)}"
        files += [f"{picture}.{suffix}" for suffix in ("svg", "png")]
        draw = [sys.executable, str(ROOT / "scripts/draw_flamegraph.py"), *files]
        # `flamegraph` is beside this Python.
        programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        drawn.append(subprocess.Popen(draw, cwd=folder, env=environment(PATH=programs)))
        calls = [("recvfrom", 1.0), ("sendto", 1.0), ("all", 2.0)] if profiled else [(None, None)]
        counts += [{**row, "name": name, "per_request": value} for name, value in calls]
    (folder / "results/syscalls.csv").write_text(count_syscalls.format_table(counts))
    assert [process.wait() for process in drawn] == [0] * len(drawn)


def make_report(folder: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, str(ROOT / "scripts/make_report.py"), "results/report.html"]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)


def sweep(
    servers: list[str], counts: list[int], repeats: int, workload: str = KEEPALIVE
) -> list[dict[str, Any]]:
    cells = itertools.product(range(1, repeats + 1), servers, counts)
    return [cell_record(server, count, repeat, workload) for repeat, server, count in cells]


def open_report(browser: Browser, path: Path, width_px: int = 1280, **options: Any) -> Page:
    """The page when all is drawn; fails if it said an error or asked for anything that is not in the file."""
    context = browser.new_context(
        viewport={"width": width_px, "height": 900}, offline=True, **options
    )
    page = context.new_page()
    faults: list[str] = []
    page.on(
        "console",
        lambda said: faults.append(said.text) if said.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "request",
        lambda asked: (
            faults.append(asked.url)
            if not asked.url.startswith(("blob:", "data:")) and asked.url != path.as_uri()
            else None
        ),
    )
    page.goto(path.as_uri())
    charts = page.locator("[data-chart]:visible").count()
    # No function of ours to wait for: the page's policy forbids eval.
    drawn = f"[data-charts='{charts}']" if charts else ""
    page.wait_for_selector(f"body[data-tables=ready]{drawn}", timeout=20_000)
    assert faults == []
    return page
