"""How far a sweep is: a line for each cell that ends, with the time that is left.

The plan is written when a run starts; a cell that ends adds a dot to a log, whose size is their number. Both are for
people only: no result depends on them.
"""

import json
import os
import time
from typing import Any

import console
import files
import flags

PLAN = "results/.progress/plan.json"
LOG = "results/.progress/log"

CELL_OVERHEAD_S = 0.15  # starting, checking and stopping a server and wrk
PAIR_OVERHEAD_S = 0.4  # starting and stopping two servers and two wrks, and asking the kernel
PROFILE_OVERHEAD_S = 1.5  # perf's end, and folding
# Jobs that do not measure, in seconds each.
JOBS_S = {
    "compile_server": 0.5,
    "count_syscalls": 1.5,
    "draw_flamegraph": 0.4,
    "tabulate_server": 0.1,
    "merge_cells": 0.1,
    "summarize_cells": 0.9,
    "merge_syscalls": 0.1,
    "compare_servers": 0.9,
    "tabulate_results": 0.6,
    "make_report": 3.0,
    "plot_server": 1.2,
    "plot_overview": 1.3,
    "plot_ranking": 1.3,
    "plot_story": 1.5,
    "plot_syscalls": 1.3,
}


def format_duration(seconds: float) -> str:
    minutes, seconds = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


def write_plan(cells: int, cell_s: float, other_s: float) -> None:
    """How many cells will be measured, the seconds that each takes, and those of everything else."""
    plan = {"cells": cells, "cell_s": cell_s, "other_s": other_s, "started_s": time.time()}
    files.write_text(PLAN, json.dumps(plan))
    files.write_text(LOG, "")


def seconds_left(plan: dict[str, float], done: int, last_s: float, now_s: float) -> float:
    """Expected seconds: of cells at the pace so far, and of what is not cells, begun at last_s, as planned."""
    pace_s = (now_s - plan["started_s"]) / done if done >= 5 else plan["cell_s"]
    return (plan["cells"] - done) * pace_s + plan["other_s"] - (now_s - last_s)


def so_far() -> str:
    """How many cells have ended, and the time left; nothing without a plan (a script run by hand)."""
    if not os.path.exists(PLAN):
        return ""
    with open(PLAN) as file:
        plan = json.load(file)
    log = os.stat(LOG)
    left = format_duration(seconds_left(plan, log.st_size, log.st_mtime, time.time()))
    return f"[{log.st_size:>{len(str(plan['cells']))}}/{plan['cells']}, {left:>11} left] "


def count_of(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def describe(record: dict[str, Any]) -> list[str]:
    """What came of a cell, and then what to know of it."""
    if record["status"] in ("failed", "unavailable"):
        tried = ", not tried again" if record.get("attempts") == 0 else ""
        return [f"{record['status']}{tried}: {record['reason']}"]
    parts = [f"{record['requests_per_second']:>9,.0f} requests/s"]
    if record["server_cpu_ns_per_request"] is not None:
        ratio = record.get("cpu_ratio")
        told = f" ({ratio:.2f} × reference)" if ratio else ""
        parts.append(f"{record['server_cpu_ns_per_request'] / 1000:5.2f} µs CPU each{told}")
    if record["unserved_connections"]:
        parts.append(f"{record['unserved_connections']} connections unserved")
    if "connections_reopened" in record["flags"]:
        limit = record["requests_per_connection"]
        parts.append(f"connections end after {count_of(limit, 'request') if limit else 'a while'}")
    if flags.is_disturbed({**record, "paired": None}):
        several = f" in each of {record['attempts']} attempts" * (record["attempts"] > 1)
        parts.append(f"disturbed{several}")
    elif record["attempts"] > 1:
        parts.append(f"attempt {record['attempts']}: disturbed before")
    if flags.is_disturbed(record.get("paired") or {}):
        parts.append("disturbed in the paired phase")
    if record["status"] != "ok":
        parts.append(f"{record['status']}: {', '.join(record['flags'])}")
    return parts


def tell(server: str, connections: int, what: str, parts: list[str]) -> None:
    """Print a line; in a narrow terminal the short form, which begins with what is wrong, and is cut at the end."""
    begin = so_far()
    parts = [console.printable(part) for part in parts]
    line = f"{begin}{server:<23}{connections:>5} connections, {what}: {', '.join(parts)}"
    if len(line) > console.width():
        parts = [part.strip() for part in reversed(parts)]
        line = f"{begin}{server} {connections}: {', '.join(parts)}"
    print(console.painted(console.cut(line)), flush=True)


def tell_cell(server: str, connections: int, repeat: int, record: dict[str, Any]) -> None:
    if os.path.exists(PLAN):
        with open(LOG, "a") as log:
            log.write(".")  # one more has ended
    tell(server, connections, f"repeat {repeat}", describe(record))
