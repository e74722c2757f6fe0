"""What the verdicts of a sweep say, in sentences: never more than they carry.

Only verdicts over the whole sweep are told. "The leaders" are the servers to which none was found superior; which of
them comes first is no verdict, so all are named.
"""

import math
from collections.abc import Collection
from typing import Any, NamedTuple

import comparisons
import pandas as pd
from comparisons import COST, THROUGHPUT

IS_BEHIND = {COST: "needs {:.1f} % more", THROUGHPUT: "serves {:.1f} % fewer requests"}
ALIKE_PERCENT = 5.0  # servers that may differ by more are not called equal


class Finding(NamedTuple):
    """What one metric's verdicts say of one machine's servers.

    leaders: those to which no unbeaten server was found superior, by their mean ratio to those behind. behind: the
    others of those that could be compared. runner_up: of those, the nearest to which `ahead`, a leader, was found
    superior, with `ratio`, of ahead to runner_up, its 95 % interval, and what else is to be said of it. left_out:
    servers that could be compared with none. within_percent: by how much two leaders differ at most, by the 95 %
    intervals of all their pairs; NaN if that is not known. depends: which of two leaders is superior was found to
    depend on the number of connections.
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
    reason: str = ""
    within_percent: float = math.nan
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


def find(
    verdicts: pd.DataFrame, metric: str, servers: list[str], client_bound: Collection[str] = ()
) -> Finding:
    """From one machine's verdicts; servers: without the control; client_bound: those that wrk limited at some point."""
    rows = verdicts[
        (verdicts["metric"] == metric) & (verdicts["connections"] == comparisons.WHOLE_SWEEP)
    ]
    pairs = _both_ways(rows[rows["server"].isin(servers) & rows["other"].isin(servers)])
    decided = pairs[pairs["verdict"] != comparisons.UNDECIDABLE]
    compared = [name for name in servers if (decided["server"] == name).any()]
    superior = decided[decided["verdict"] == comparisons.FASTER]
    worse = {str(name) for name in superior["other"]}
    unbeaten = [name for name in compared if name not in worse]
    # By one of these itself: verdicts are not transitive.
    beaten = {str(name) for name in superior[superior["server"].isin(unbeaten)]["other"]}
    behind = [name for name in compared if name in beaten]
    # Against the same opponents: of the others some are compared at few points, or with none.
    against = decided[decided["other"].isin(behind) & ~decided["server"].isin(behind)]
    lead = against["ratio"].map(math.log) * comparisons.BETTER_SIGN[metric]
    mean = lead.groupby(against["server"]).mean().to_dict()
    leaders = [name for name in compared if name not in beaten]
    leaders.sort(key=lambda name: -mean.get(name, -math.inf))
    left_out = [name for name in servers if name not in compared]
    between = decided[decided["server"].isin(leaders) & decided["other"].isin(leaders)]
    depends = bool((between["verdict"] == comparisons.DEPENDS).any())
    closest = superior[superior["server"].isin(leaders) & superior["other"].isin(behind)]
    within = within_percent(between, len(leaders))
    found = Finding(metric, leaders, behind, left_out, within_percent=within, depends=depends)
    if closest.empty:
        return found
    # Who is next may be told from some of the leaders alone. Its margin is the first leader's own, where that has one.
    by_distance = closest.iloc[closest["ratio"].map(math.log).abs().argsort(kind="stable")]
    runner_up = by_distance["other"].iloc[0]
    its = by_distance[by_distance["other"] == runner_up].to_dict("records")
    pair = min(its, key=lambda row: leaders.index(row["server"]))
    first = pair["server"]
    remarks = [pair["reason"]] if pair["reason"] else []
    if metric == THROUGHPUT and first in client_bound:
        remarks.append(f"a lower bound, since wrk was the limit of {first} at some points")
    return found._replace(
        ahead=first,
        runner_up=pair["other"],
        ratio=pair["ratio"],
        ratio_low=pair["ratio_low"],
        ratio_high=pair["ratio_high"],
        reason="; ".join(remarks),
    )


def within_percent(between: pd.DataFrame, leaders: int) -> float:
    """By how much servers differ at most, of the rows of their pairs from either side; NaN if a pair has none."""
    ends = between[["ratio_low", "ratio_high"]]
    if len(ends) < leaders * (leaders - 1) or ends.empty or ends.isna().any(axis=None):
        return math.nan
    return 100 * max(abs(float(end) - 1) for end in ends.to_numpy().flat)


def join(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def best_sentence(finding: Finding) -> str:
    """Which server is best by one metric, or which share first place, and by how much the next is behind."""
    figure, leaders = comparisons.NAMES[finding.metric], finding.leaders
    if not leaders:
        return f"This sweep cannot say which server is best by {figure}."
    among = "Of the servers that can be compared, " if finding.left_out else ""
    if len(leaders) == 1:
        first = f"{leaders[0]} is first by {figure}."
    else:
        first = f"{join(leaders)} share first place by {figure}{_how_alike(finding)}."
    return f"{among}{first} {_next_sentence(finding)}".strip()


def _how_alike(finding: Finding) -> str:
    if finding.depends:
        return "; which of them is ahead depends on the number of connections"
    if math.isnan(finding.within_percent):
        return "; they are not told apart"
    most = f"{math.ceil(10 * finding.within_percent) / 10:g} %"
    if finding.within_percent <= ALIKE_PERCENT:
        return f": equal within {most}"
    return f"; they are not told apart, and differ by {most} at most"


def _next_sentence(finding: Finding) -> str:
    """By how much the nearest that is told from a leader is behind it; empty if none is."""
    if not finding.runner_up:
        return ""
    ends = (finding.ratio, finding.ratio_low, finding.ratio_high)
    middle, *interval = (100 * abs(1 / end - 1) for end in ends)
    than = f" than {finding.ahead}" if len(finding.leaders) > 1 else ""
    reason = f"; {finding.reason}" if finding.reason else ""
    return (
        f"The next, {finding.runner_up}, {IS_BEHIND[finding.metric].format(middle)}{than} "
        f"(95 % interval {min(interval):.1f} to {max(interval):.1f} %{reason})."
    )


def workload(cells: pd.DataFrame, samples: list[dict[str, Any]]) -> str:
    """What was asked of the servers, and on which CPUs, from the cells and one record of each server."""
    counts = sorted(int(count) for count in cells["connections"].unique())
    repeats = int(cells["repeat"].max())
    several = f"{counts[0]:,} to {counts[-1]:,}" if len(counts) > 1 else f"{counts[0]:,}"
    plural = "s" if counts[-1] > 1 else ""
    seconds = samples[0]["asked"]["duration_s"]
    times = f"{repeats} runs of {seconds:g} s each" if repeats > 1 else f"one run of {seconds:g} s"
    return (
        f"HTTP/1.1 {cells['network'].iloc[0]}, {several} connection{plural} kept open, one request for 13 bytes"
        f" at a time on each, {times}{placement(samples)}."
    )


def placement(samples: list[dict[str, Any]]) -> str:
    """Which CPUs server and load had, and which servers had several processes on them."""
    placed = [record for record in samples if "server_cpus" in record]
    if not placed:
        return ""
    server, load = (placed[0][name] for name in ("server_cpus", "load_cpus"))
    text = f"; server on {cpu_list(server)}, wrk on {cpu_list(load)}"
    text += " of another host" if placed[0]["facts"].get("load") else ""
    workers = {record["server"]: record["workers"] for record in placed if record["workers"] > 1}
    return text + "".join(f"; {name}: {count} processes" for name, count in workers.items())


def cpu_list(cpus: list[int]) -> str:
    return f"CPU{'s' if len(cpus) > 1 else ''} {', '.join(map(str, cpus))}"


def reasons(finding: Finding, syscalls: pd.DataFrame, profiles: list[dict[str, Any]]) -> list[str]:
    """What differs between a leader and the nearest told from it: what they ask of the kernel, and self times."""
    if not finding.runner_up:
        return []
    pair = [finding.ahead, finding.runner_up]
    said = []
    for kind, noun in (("system_call", "System calls"), ("context_switch", "Context switches")):
        names = dict.fromkeys([*finding.leaders, *pair])
        counts = {name: per_request(syscalls, name, kind) for name in names}
        known = [f"{name} {count:.2f}" for name, count in counts.items() if count is not None]
        if len(known) > 1:
            said.append(f"{noun} per request, in a run of their own: {join(known)}.")
    by_name = {profile["server"]: profile for profile in profiles}
    first, second = (by_name[name] for name in pair)
    more = {
        name: difference
        for name in second["self_share"]
        # A function of one program alone may be the other's under another name, or inlined.
        if (name in first["self_share"] or name.endswith(" (kernel)"))
        and (difference := self_time_difference(first, second, name)) > 0
    }
    largest = sorted(more, key=lambda name: -more[name])[:3]
    if largest:
        listed = join([f"{name} (+{more[name]:.2f} µs)" for name in largest])
        said.append(
            f"By their profiles, at {first['connections']} connections, {pair[1]} spends more of each request "
            f"in {listed}."
        )
    return said


def per_request(syscalls: pd.DataFrame, server: str, kind: str) -> float | None:
    """How many system calls or context switches in all; None if they were not counted."""
    its = syscalls[(syscalls["server"] == server) & (syscalls["kind"] == kind)]
    rows = its[its["name"] == "all"] if (its["name"] == "all").any() else its
    return float(rows["per_request"].sum()) if len(rows) else None


def self_time_difference(first: dict[str, Any], second: dict[str, Any], function: str) -> float:
    """By how many µs per request a function's self time is more in the second profile; 0 where that may be chance.

    Counts of samples vary like Poisson's: what is told is more than three standard deviations. That the cost per
    request is itself known to some percent is left out.
    """
    difference = variance = 0.0
    for profile, sign in ((first, -1), (second, 1)):
        if not profile["samples"] or profile["cpu_us_per_request"] is None:
            return 0.0
        scale = profile["cpu_us_per_request"] / profile["samples"]
        count = profile["self_share"].get(function, 0.0) * profile["samples"]
        difference += sign * count * scale
        variance += max(count, 1.0) * scale**2
    return difference if difference > 3 * math.sqrt(variance) else 0.0
