"""Profiles for the report: the self time of each function as CPU time per request, to compare two servers."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
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


def profile_of(
    server: str, workload: str, suffix: str, cpu_ns: Mapping[Any, float]
) -> dict[str, Any]:
    """A server's profile from results/ and plots/: status, reason, flamegraph (SVG text) and self times.

    suffix: of the flamegraph's name. cpu_ns: (server, connections) → CPU time per request in this workload, measured
    without perf. In the profile, cpu_us_per_request is the one at its number of connections; None if the sweep does not
    have that number. self_share: function → share of all samples, the largest FUNCTIONS_MAX.
    """
    path = f"results/profile/{workload}/{server}"
    facts = files.read_json(f"{path}.json", ["status", "connections"])
    counts: Counter[str] = Counter()
    if facts["status"] == "ok":
        with open(f"{path}.folded", encoding="utf-8") as file:
            counts = self_counts(file)
    samples = counts.total()
    cpu_ns_per_request = cpu_ns.get((server, facts["connections"]))
    return {
        "server": server,
        "workload": workload,
        "status": facts["status"],
        "reason": facts.get("reason", ""),
        "connections": facts["connections"],
        "cpu_us_per_request": None if cpu_ns_per_request is None else cpu_ns_per_request / 1000,
        "svg": Path(f"plots/{server}_flamegraph{suffix}.svg").read_text(encoding="utf-8"),
        "samples": samples,
        "self_share": {
            name: round(count / samples, 5) for name, count in counts.most_common(FUNCTIONS_MAX)
        },
    }
