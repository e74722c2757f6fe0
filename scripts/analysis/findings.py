"""Turn the verdicts of a sweep into sentences that claim no more than the verdicts show.

The sentences use only verdicts over the whole sweep. "The leaders" are the servers that no other was found superior to.
No verdict says which leader comes first, so the sentences name all of them.
"""

import math
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

import pandas as pd

from analysis.verdicts import (
    BETTER_SIGN,
    CPU_RATIO,
    DEPENDS,
    FASTER,
    NAMES,
    RATE,
    SLOWER,
    TAIL,
    THROUGHPUT,
    UNDECIDABLE,
    UNDIVIDED,
    WHOLE_SWEEP,
)
from sweep.workloads import Workload

FEWER = "serves {:.1f} % fewer requests"
IS_BEHIND = {CPU_RATIO: "needs {:.1f} % more", THROUGHPUT: FEWER, RATE: FEWER}
IS_BEHIND[TAIL] = "has one that is {:.1f} % higher"
ALIKE_PERCENT = 5.0  # servers that may differ by more are not called equal


class Finding(NamedTuple):
    """What one metric's verdicts say about one machine's servers.

    leaders: servers that no unbeaten server was found superior to, ordered by their mean ratio to those behind.
    behind: the other servers that could be compared. left_out: servers that could not be compared with any.
    ahead, runner_up: a leader, and the closest server behind that it was found superior to, with the `ratio` of ahead
    to runner_up, its 95 % interval and the verdict's reason. is_lower_bound: whether wrk limited `ahead` at some
    points, so that its throughput is a lower bound. within_percent: the largest difference of two leaders that the
    95 % intervals of their pairs allow; NaN if it is not known. depends: whether a verdict between two leaders is that
    it depends on the number of connections.
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
    is_lower_bound: bool = False
    within_percent: float = math.nan
    depends: bool = False


def _both_ways(whole: pd.DataFrame) -> pd.DataFrame:
    """Each pair in both directions: `server` is better than `other` if the verdict is "faster"."""
    turned = whole.rename(columns={"server": "other", "other": "server"})
    turned = turned.assign(
        ratio=1.0 / whole["ratio"],
        ratio_low=1 / whole["ratio_high"],
        ratio_high=1 / whole["ratio_low"],
        verdict=whole["verdict"].replace({FASTER: SLOWER, SLOWER: FASTER}),
    )
    return pd.concat([whole, turned], ignore_index=True)


def find(
    verdicts: pd.DataFrame, metric: str, servers: list[str], client_bound: Collection[str] = ()
) -> Finding:
    """Read one machine's verdicts. servers: without the control; client_bound: those that wrk limited at some point."""
    rows = verdicts[(verdicts["metric"] == metric) & (verdicts["connections"] == WHOLE_SWEEP)]
    pairs = _both_ways(rows[rows["server"].isin(servers) & rows["other"].isin(servers)])
    decided = pairs[pairs["verdict"] != UNDECIDABLE]
    compared = [name for name in servers if (decided["server"] == name).any()]
    superior = decided[decided["verdict"] == FASTER]
    worse = {str(name) for name in superior["other"]}
    unbeaten = [name for name in compared if name not in worse]
    # Beaten by an unbeaten server: verdicts are not transitive.
    beaten = {str(name) for name in superior[superior["server"].isin(unbeaten)]["other"]}
    behind = [name for name in compared if name in beaten]
    # Order the leaders by their results against the same opponents: other servers are compared at fewer points, or not
    # with all leaders.
    against = decided[decided["other"].isin(behind) & ~decided["server"].isin(behind)]
    lead = against["ratio"].map(math.log) * BETTER_SIGN[metric]
    mean = lead.groupby(against["server"]).mean().to_dict()
    leaders = [name for name in compared if name not in beaten]
    leaders.sort(key=lambda name: -mean.get(name, -math.inf))
    left_out = [name for name in servers if name not in compared]
    between = decided[decided["server"].isin(leaders) & decided["other"].isin(leaders)]
    depends = bool((between["verdict"] == DEPENDS).any())
    closest = superior[superior["server"].isin(leaders) & superior["other"].isin(behind)]
    within = within_percent(between, len(leaders))
    finding = Finding(metric, leaders, behind, left_out, within_percent=within, depends=depends)
    if closest.empty:
        return finding
    # Perhaps only some leaders are superior to the runner-up. Its margin is the one to the first of these.
    runner_up = str(closest["other"].iloc[closest["ratio"].map(math.log).abs().argmin()])
    its = closest[closest["other"] == runner_up].to_dict("records")
    pair = min(its, key=lambda row: leaders.index(row["server"]))
    return finding._replace(
        ahead=pair["server"],
        runner_up=runner_up,
        **{name: pair[name] for name in ("ratio", "ratio_low", "ratio_high", "reason")},
        is_lower_bound=metric in (THROUGHPUT, RATE) and pair["server"] in client_bound,
    )


def find_all(
    verdicts: pd.DataFrame, summary: pd.DataFrame, metrics: Iterable[str] = NAMES
) -> dict[str, Finding]:
    """Metric → what one machine's verdicts say about the servers in its summary, which is without the control."""
    servers = [str(name) for name in summary["server"].unique()]
    limited = set(summary[summary["limiter"] == "client-bound"]["server"])
    return {metric: find(verdicts, metric, servers, limited) for metric in metrics}


def within_percent(between: pd.DataFrame, leaders: int) -> float:
    """The largest difference that the intervals allow, from the rows of all pairs in both directions; NaN if a pair has
    no interval."""
    ends = between[["ratio_low", "ratio_high"]]
    if len(ends) < leaders * (leaders - 1) or ends.empty or ends.isna().any(axis=None):
        return math.nan
    return 100 * max(abs(float(end) - 1) for end in ends.to_numpy().flat)


def join(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def best_sentence(finding: Finding) -> str:
    """Which server is best by one metric, or which servers share first place, and how far the next one is behind."""
    figure, leaders = {**NAMES, **UNDIVIDED}[finding.metric], finding.leaders
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
        return "; this sweep does not distinguish them"
    most = f"{math.ceil(10 * finding.within_percent) / 10:g} %"
    if finding.within_percent <= ALIKE_PERCENT:
        return f": equal within {most}"
    return f"; this sweep does not distinguish them, and they differ by at most {most}"


def _next_sentence(finding: Finding) -> str:
    """How far the runner-up is behind; empty if there is none."""
    if not finding.runner_up:
        return ""
    ends = (finding.ratio, finding.ratio_low, finding.ratio_high)
    middle, *interval = (100 * abs(1 / end - 1) for end in ends)
    than = f" than {finding.ahead}" if len(finding.leaders) > 1 else ""
    bound = f"a lower bound, since wrk was the limit of {finding.ahead} at some points"
    remarks = [finding.reason, bound if finding.is_lower_bound else ""]
    reason = "".join(f"; {remark}" for remark in remarks if remark)
    return (
        f"The next, {finding.runner_up}, {IS_BEHIND[finding.metric].format(middle)}{than} "
        f"(95 % interval {min(interval):.1f} to {max(interval):.1f} %{reason})."
    )


def workload(cells: pd.DataFrame, samples: list[dict[str, Any]]) -> str:
    """The load that the servers had in one workload, and on which CPUs, from its cells and a record of each server."""
    counts = sorted(int(count) for count in cells["connections"].unique())
    repeats = int(cells["repeat"].max())
    several = f"{counts[0]:,} to {counts[-1]:,}" if len(counts) > 1 else f"{counts[0]:,}"
    plural = "s" if counts[-1] > 1 else ""
    asked = samples[0]["asked"]
    its = Workload(**asked.get("workload", {}))  # old records have none
    number = f"{its.pipelined} requests" if its.pipelined > 1 else "one request"
    load = f"each with {number} at a time"
    if its.connection_per_request:
        load = "each for one request"
    seconds = asked["duration_s"]
    times = f"{repeats} runs of {seconds:g} s each" if repeats > 1 else f"one run of {seconds:g} s"
    return (
        f"HTTP/1.1 {cells['network'].iloc[0]}: {several} open connection{plural}, {load}"
        f" for {its.body_bytes:,} bytes{_besides(its, samples)}; {times}{placement(samples)}."
    )


def _besides(its: Workload, samples: list[dict[str, Any]]) -> str:
    """What else a workload asks for; empty if nothing."""
    work = [
        f"{verb} {us / 1000:g} ms" if us >= 1000 else f"{verb} {us} µs"
        for verb, us in (("waits", its.handler_block_us), ("computes for", its.handler_burn_us))
        if us
    ]
    who = f"one request in {its.handler_every}" if its.handler_every > 1 else "each request"
    text = f"; the handler of {who} {join(work)}" if work else ""
    if its.idle_connections:
        idle = max(int(record.get("idle_connections") or 0) for record in samples)
        text += f"; beside {idle:,} idle connections"
    return text


def placement(samples: list[dict[str, Any]]) -> str:
    """The CPUs of server and load, and which servers ran several processes."""
    placed = [record for record in samples if "server_cpus" in record]
    if not placed:
        return ""
    server, load = (placed[0][name] for name in ("server_cpus", "load_cpus"))
    text = f"; server on {format_cpus(server)}, wrk on {format_cpus(load)}"
    text += " of another host" if placed[0]["facts"].get("load") else ""
    workers = {record["server"]: record["workers"] for record in placed if record["workers"] > 1}
    return text + "".join(f"; {name}: {count} processes" for name, count in workers.items())


def format_cpus(cpus: list[int]) -> str:
    return f"CPU{'s' if len(cpus) > 1 else ''} {', '.join(map(str, cpus))}"


def reasons(finding: Finding, syscalls: pd.DataFrame, profiles: list[dict[str, Any]]) -> list[str]:
    """What differs between a leader and the runner-up, a sentence each: their system calls and context switches, and
    the self times of functions."""
    if not finding.runner_up:
        return []
    pair = [finding.ahead, finding.runner_up]
    sentences = []
    for kind, noun in (("system_call", "System calls"), ("context_switch", "Context switches")):
        names = dict.fromkeys([*finding.leaders, *pair])
        counts = {name: per_request(syscalls, name, kind) for name in names}
        known = [f"{name} {count:.2f}" for name, count in counts.items() if count is not None]
        if len(known) > 1:
            sentences.append(f"{noun} per request, from a separate run: {join(known)}.")
    by_name = {profile["server"]: profile for profile in profiles}
    first, second = (by_name[name] for name in pair)
    more = {
        name: difference
        for name in second["self_share"]
        # A function that only one program has may be inlined in the other, or have another name.
        if (name in first["self_share"] or name.endswith(" (kernel)"))
        and (difference := self_time_difference(first, second, name)) > 0
    }
    largest = sorted(more, key=lambda name: -more[name])[:3]
    if largest:
        listed = join([f"{name} (+{more[name]:.2f} µs)" for name in largest])
        sentences.append(
            f"Profiles at {first['connections']} connections: compared with {pair[0]}, {pair[1]} spends more of each"
            f" request in {listed}."
        )
    return sentences


def per_request(syscalls: pd.DataFrame, server: str, kind: str) -> float | None:
    """The number of system calls or context switches in all; None if they were not counted."""
    its = syscalls[(syscalls["server"] == server) & (syscalls["kind"] == kind)]
    rows = its[its["name"] == "all"] if (its["name"] == "all").any() else its
    return float(rows["per_request"].sum()) if len(rows) else None


def self_time_difference(first: dict[str, Any], second: dict[str, Any], function: str) -> float:
    """By how many µs per request a function takes longer in the second profile; 0 where that may be chance.

    Numbers of samples follow Poisson's distribution: a difference must exceed three standard deviations. The
    uncertainty of the CPU time per request itself, some percent, is neglected.
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
