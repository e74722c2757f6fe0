"""What the verdicts of a sweep say, in sentences: never more than they carry.

Only verdicts over the whole sweep are told. "The leaders" are the servers to which none was found superior; which of
them comes first is no verdict, so all are named.
"""

import math
from typing import Any, NamedTuple

import comparisons
import pandas as pd
from cells import is_control
from comparisons import COST, THROUGHPUT

DOES_BEST = {
    COST: ("needs", "need", "the least CPU time per request"),
    THROUGHPUT: ("has", "have", "the highest throughput"),
}
MARGIN = {COST: "less", THROUGHPUT: "more"}
FIGURE = {COST: "CPU time per request", THROUGHPUT: "throughput"}


class Finding(NamedTuple):
    """What one metric's verdicts say of one machine's servers.

    leaders: those to which no server was found superior, by mean ratio. behind: the others of those that could be
    compared. runner_up: of those, the closest to which `ahead`, a leader, was found superior, with `ratio`, of
    ahead to runner_up, and its 95 % interval. left_out: servers that could be compared with none. depends: which of
    two leaders is superior was found to depend on the number of connections.
    """

    metric: str
    leaders: list[str]
    behind: list[str]
    left_out: list[str]
    ahead: str = ""
    runner_up: str = ""
    ratio: float = math.nan
    ratio_low: float = math.nan
    ratio_high: float = math.nan
    depends: bool = False


def _both_ways(whole: pd.DataFrame) -> pd.DataFrame:
    """Each pair from either side: `server` is better than `other` where its verdict is "faster"."""
    turned = whole.rename(columns={"server": "other", "other": "server"})
    turned = turned.assign(
        ratio=1.0 / whole["ratio"],
        ratio_low=1 / whole["ratio_high"],
        ratio_high=1 / whole["ratio_low"],
        verdict=whole["verdict"].replace(
            {comparisons.FASTER: comparisons.SLOWER, comparisons.SLOWER: comparisons.FASTER}
        ),
    )
    return pd.concat([whole, turned], ignore_index=True)


def find(verdicts: pd.DataFrame, metric: str, servers: list[str]) -> Finding:
    """From one machine's verdicts; `servers` without the control."""
    rows = verdicts[
        (verdicts["metric"] == metric) & (verdicts["connections"] == comparisons.WHOLE_SWEEP)
    ]
    pairs = _both_ways(rows[rows["server"].isin(servers) & rows["other"].isin(servers)])
    decided = pairs[pairs["verdict"] != comparisons.UNDECIDABLE]
    compared = [name for name in servers if (decided["server"] == name).any()]
    superior = decided[decided["verdict"] == comparisons.FASTER]
    advantage = decided["ratio"].map(math.log) * -comparisons.BETTER_SIGN[metric]
    mean = advantage.groupby(decided["server"]).mean().to_dict()
    by_mean = sorted(compared, key=lambda name: mean[name])
    leaders = [name for name in by_mean if not (superior["other"] == name).any()]
    behind = [name for name in by_mean if name not in leaders]
    left_out = [name for name in servers if name not in compared]
    between = decided[decided["server"].isin(leaders) & decided["other"].isin(leaders)]
    depends = bool((between["verdict"] == comparisons.DEPENDS).any())
    closest = superior[superior["server"].isin(leaders) & superior["other"].isin(behind)]
    if closest.empty:
        return Finding(metric, leaders, behind, left_out, depends=depends)
    # The first leader's own margin, where it has one.
    first = min(leaders, key=lambda name: (name not in set(closest["server"]), leaders.index(name)))
    its = closest[closest["server"] == first]
    nearest = its.assign(distance=its["ratio"].map(math.log).abs()).nsmallest(1, "distance")
    columns = ["other", "ratio", "ratio_low", "ratio_high"]
    ((other, ratio, low, high),) = nearest[columns].itertuples(index=False)
    return Finding(metric, leaders, behind, left_out, first, other, ratio, low, high, depends)


def join(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def percent(finding: Finding) -> tuple[float, float, float]:
    """By how much `ahead` is better than `runner_up`, with the interval's ends, the smaller first."""
    sign = comparisons.BETTER_SIGN[finding.metric]
    ends = sorted(100 * sign * (end - 1) for end in (finding.ratio_low, finding.ratio_high))
    return 100 * sign * (finding.ratio - 1), ends[0], ends[1]


def margin_sentence(finding: Finding) -> str:
    """By how much a leader is ahead of the closest that is told from it; empty if none is."""
    if not finding.runner_up:
        return ""
    middle, low, high = percent(finding)
    subject = (
        "That is"
        if len(finding.leaders) == 1
        else f"{finding.ahead} {DOES_BEST[finding.metric][0]}"
    )
    return (
        f"{subject} {middle:.1f} % {MARGIN[finding.metric]} than {finding.runner_up}, the next "
        f"(95 % interval {low:.1f} to {high:.1f} %)."
    )


def best_sentence(finding: Finding) -> str:
    """Which server is best by one metric; or that this sweep cannot tell, of which, or at all."""
    one, several, what = DOES_BEST[finding.metric]
    figure = FIGURE[finding.metric]
    if not finding.leaders:
        return f"This sweep cannot say which server is best by {figure}."
    no_winner = (
        "which is best depends on the number of connections"
        if finding.depends
        else "this sweep names no winner"
    )
    if not finding.behind:
        return f"By {figure}, between {join(finding.leaders)} {no_winner}."
    if len(finding.leaders) == 1:
        return f"{finding.leaders[0]} {one} {what}."
    if len(finding.leaders) > len(finding.behind):
        are = "is" if len(finding.behind) == 1 else "are"
        return (
            f"By {figure} {join(finding.behind)} {are} behind; between the others "
            f"({join(finding.leaders)}) {no_winner}."
        )
    return f"{join(finding.leaders)} {several} {what}; between these {no_winner}."


def without_control(names: list[str]) -> list[str]:
    return [name for name in names if not is_control(name)]


def workload(cells: pd.DataFrame, asked: dict[str, Any]) -> str:
    counts = sorted(int(count) for count in cells["connections"].unique())
    repeats = int(cells["repeat"].max())
    several = f"{counts[0]:,} to {counts[-1]:,}" if len(counts) > 1 else f"{counts[0]:,}"
    plural = "s" if counts[-1] > 1 else ""
    times = (
        f"{repeats} runs of {asked['duration_s']:g} s each"
        if repeats > 1
        else f"one run of {asked['duration_s']:g} s"
    )
    return f"HTTP/1.1 over loopback, {several} connection{plural} kept open, one request at a time on each, {times}"


def reasons(finding: Finding, syscalls: pd.DataFrame, profiles: list[dict[str, Any]]) -> list[str]:
    """What differs between a leader and the next: system calls, and the functions whose self time differs most."""
    pair = [finding.ahead, finding.runner_up]
    said = []
    calls = [call_count(syscalls, name) for name in pair]
    if finding.runner_up and None not in calls:
        said.append(
            f"{pair[0]} makes {calls[0]:.2f} system calls per request, {pair[1]} {calls[1]:.2f}."
        )
    by_name = {profile["server"]: profile for profile in profiles}
    times = [self_times(by_name.get(name)) for name in pair]
    if finding.runner_up and all(times):
        more = {
            name: times[1].get(name, 0.0) - times[0].get(name, 0.0)
            for name in {*times[0], *times[1]}
        }
        largest = sorted(more, key=lambda name: -more[name])[:3]
        listed = ", ".join(f"{name} (+{more[name]:.2f} µs)" for name in largest if more[name] > 0)
        if listed:
            said.append(f"By their profiles {pair[1]} spends more of each request in {listed}.")
    return said


def call_count(syscalls: pd.DataFrame, server: str) -> float | None:
    """System calls per request; None if they were not counted."""
    rows = syscalls[(syscalls["server"] == server) & (syscalls["name"] == "all")][
        "per_request"
    ].dropna()
    return float(rows.iloc[0]) if len(rows) else None


def self_times(profile: dict[str, Any] | None) -> dict[str, float]:
    """µs of CPU per request by function; empty without a profile, or a measured cost to scale it by."""
    if profile is None or profile["cpu_us_per_request"] is None:
        return {}
    cost = profile["cpu_us_per_request"]
    return {name: share * cost for name, share in profile["self_share"].items()}
