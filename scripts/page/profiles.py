"""Profiles for the report: the self time of each function as CPU time per request, to compare two servers."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common import files

# Suffixes that the compiler and glibc append to names; flamegraphs leave them out, too.
APPENDED = re.compile(r"@+GLIBC_[0-9.]*|\.(constprop|isra|part|cold)(\.[0-9]+)?")
# Nobody would read more; the flamegraph has all functions.
FUNCTIONS_MAX = 400


def self_counts(folded: Iterable[str]) -> Counter[str]:
    """Lines of folded stacks → samples by innermost function."""
    counts: Counter[str] = Counter()
    for line in folded:
        stack, _, count = line.rstrip("\n").rpartition(" ")
        name = APPENDED.sub("", stack.rpartition(";")[2])
        counts[name.replace("_[k]", " (kernel)")] += int(count)
    return counts


def profile_of(server: str, cpu_ns_per_request: float | None) -> dict[str, Any]:
    """A server's profile from results/ and plots/: status, reason, flamegraph (SVG text) and self times.

    self_share: function → share of all samples, the largest FUNCTIONS_MAX. cpu_us_per_request: measured without perf at
    the profile's number of connections; None if the sweep does not have that number.
    """
    facts = files.read_json(f"results/profile/{server}.json", ["status"])
    counts: Counter[str] = Counter()
    if facts["status"] == "ok":
        with open(f"results/profile/{server}.folded", encoding="utf-8") as file:
            counts = self_counts(file)
    samples = counts.total()
    return {
        "server": server,
        "status": facts["status"],
        "reason": facts.get("reason", ""),
        "connections": facts.get("connections"),
        "cpu_us_per_request": None if cpu_ns_per_request is None else cpu_ns_per_request / 1000,
        "svg": Path(f"plots/{server}_flamegraph.svg").read_text(encoding="utf-8"),
        "samples": samples,
        "self_share": {
            name: round(count / samples, 5) for name, count in counts.most_common(FUNCTIONS_MAX)
        },
    }
