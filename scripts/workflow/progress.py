"""Progress of a sweep: a line for each cell that ends, with the time that is left.

A run of the workflow writes a plan when it starts. Each cell that ends adds a dot to a log, so the log's size is the
number of cells that have ended. People alone read them: no result depends on them.
"""

import json
import os
import time
from collections.abc import Sequence
from typing import Any

from common import files, terminal
from common.terminal import Color, Part
from sweep import flags
from sweep.cells import Cell
from sweep.workloads import words_before

PLAN = "results/.progress/plan.json"
LOG = "results/.progress/log"

CELL_OVERHEAD_S = 0.15  # starting, checking and stopping a server and wrk
PAIR_OVERHEAD_S = 0.4  # starting and stopping two servers and two wrks, and asking the kernel
PROFILE_OVERHEAD_S = 1.5  # perf's end, and folding
OTHER_JOB_S = 0.8  # a job that does not measure, on average


def format_duration(seconds: float) -> str:
    minutes, seconds = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


def write_plan(cells: int, cell_s: float, other_s: float) -> None:
    """cells: how many will be measured; cell_s: seconds for each; other_s: seconds for everything else."""
    plan = {"cells": cells, "cell_s": cell_s, "other_s": other_s, "started_s": time.time()}
    files.write_text(PLAN, json.dumps(plan))
    files.write_text(LOG, "")


def seconds_left(plan: dict[str, float], done: int, last_s: float, now_s: float) -> float:
    """Expected seconds: cells at the pace so far, and the other jobs, which began at last_s, as planned."""
    pace_s = (now_s - plan["started_s"]) / done if done >= 5 else plan["cell_s"]
    return (plan["cells"] - done) * pace_s + plan["other_s"] - (now_s - last_s)


def format_progress() -> str:
    """How many cells have ended, and the time left; empty without a plan (a script run by hand)."""
    if not os.path.exists(PLAN):
        return ""
    with open(PLAN) as file:
        plan = json.load(file)
    log = os.stat(LOG)
    left = format_duration(seconds_left(plan, log.st_size, log.st_mtime, time.time()))
    return f"[{log.st_size:>{len(str(plan['cells']))}}/{plan['cells']}, {left:>11} left] "


def format_count(number: int, noun: str) -> str:
    first, _, rest = noun.partition(" ")
    return f"{number} {noun}" if number == 1 else f"{number} {first}s {rest}".rstrip()


def describe(record: dict[str, Any]) -> list[Part]:
    """The result of a cell, and then what is wrong with it."""
    if record["status"] in ("failed", "unavailable"):
        color = Color.RED if record["status"] == "failed" else Color.GREY
        return [Part(f"{record['status']}: {record['reason']}", color)]
    parts = [Part(f"{record['requests_per_second']:>9,.0f} requests/s")]
    if record["server_cpu_ns_per_request"] is not None:
        ratio = record.get("cpu_ratio")
        times = f" ({ratio:.2f} × reference)" if ratio else ""
        parts.append(Part(f"{record['server_cpu_ns_per_request'] / 1000:5.2f} µs CPU each{times}"))
    if record["unserved_connections"]:
        parts.append(Part(f"{record['unserved_connections']} connections unserved", Color.RED))
    if "connections_reopened" in record["flags"]:
        limit = record["requests_per_connection"]
        after = format_count(limit, "request") if limit else "a while"
        parts.append(Part(f"connections end after {after}"))
    if flags.is_disturbed({**record, "paired": None}):
        several = f" in each of {record['attempts']} attempts" * (record["attempts"] > 1)
        parts.append(Part(f"disturbed{several}", Color.GREY))
    elif record["attempts"] > 1:
        parts.append(Part(f"attempt {record['attempts']}: disturbed before"))
    if flags.is_disturbed(record.get("paired") or {}):
        parts.append(Part("disturbed in the paired phase", Color.GREY))
    if record["status"] != "ok":
        parts.append(Part(f"{record['status']}: {', '.join(record['flags'])}", Color.RED))
    return parts


def _join(begin: str, parts: Sequence[Part]) -> list[Part]:
    joined = [Part(begin), *(one for part in parts for one in (part, Part(", ")))]
    return joined[:-1]


def print_line(server: str, connections: int, what: str, parts: Sequence[Part]) -> None:
    """Print a line; in a narrow terminal a short one, which begins with what is wrong and is cut at the end."""
    begin = format_progress()
    parts = [Part(terminal.make_printable(text), color) for text, color in parts]
    line = _join(f"{begin}{server:<23}{connections:>5} connections, {what}: ", parts)
    if sum(len(part.text) for part in line) > terminal.width():
        shortened = [Part(text.strip(), color) for text, color in reversed(parts)]
        line = _join(f"{begin}{server} {connections}: ", shortened)
    print(terminal.format_line(line), flush=True)


def count() -> None:
    """One more has ended."""
    if os.path.exists(PLAN):
        with open(LOG, "a") as log:
            log.write(".")


def print_cell(cell: Cell, record: dict[str, Any]) -> None:
    count()
    what = f"{words_before(cell.workload)}repeat {cell.repeat}"
    print_line(cell.server, cell.connections, what, describe(record))
