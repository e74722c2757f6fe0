"""Check a profile: parse perf's output, and apply the gates that stacks must pass before they are published."""

import collections
import re
from collections.abc import Iterable

# Limits that a profile must meet before it is drawn.
SAMPLES_SHARE_MIN = 0.8  # of frequency × CPU seconds
ROOTED_SHARE_MIN = 0.99  # of samples whose stack reaches main, or the start of a thread
UNKNOWN_SHARE_MAX = 0.01  # of samples with an [unknown] frame
ROOTS = {"main", "start_thread"}
# These gates may pass at the next try; the others depend on the program.
OF_A_BUSY_MACHINE = {"few_samples", "lost_samples"}


def parse_folded(text: str) -> dict[tuple[str, ...], int]:
    """Folded stacks, `process;outer;inner COUNT` a line → samples by stack."""
    stacks: dict[tuple[str, ...], int] = {}
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        stacks[tuple(stack.split(";"))] = int(count)
    return stacks


def parse_event_counts(stats: str) -> dict[str, int]:
    """Events by kind, from `perf report --stats`, whose second part lists them again by event."""
    total = stats.partition("\ncpu-clock stats")[0]
    counts = re.findall(r"^ *(\w+) events: *(\d+)", total, re.MULTILINE)
    return {kind: int(count) for kind, count in counts}


def add_forked(pids: Iterable[int], script: str) -> list[int]:
    """Processes and all their descendants, from `perf script --show-task-events`."""
    known = set(pids)
    for child, parent in re.findall(r"PERF_RECORD_FORK\((\d+):\d+\):\((\d+):", script):
        if int(parent) in known:
            known.add(int(child))
    return sorted(known)


def parse_self_counts(report: str) -> dict[str, int]:
    """Samples by symbol, from `perf report --no-children -F sample,pid,sym`."""
    counts: collections.Counter[str] = collections.Counter()
    pattern = r"^ *(\d+) +\d+:.* \[[^\]]\] (.+?) *$"
    for count, symbol in re.findall(pattern, report, re.MULTILINE):
        counts["[unknown]" if symbol.startswith("0x") else symbol] += int(count)
    return dict(counts)


def self_counts(stacks: dict[tuple[str, ...], int]) -> dict[str, int]:
    """Samples by innermost function, in perf report's names."""
    counts: collections.Counter[str] = collections.Counter()
    for stack, count in stacks.items():
        counts[stack[-1].removesuffix("_[k]")] += count
    return dict(counts)


def failed_gates(
    stacks: dict[tuple[str, ...], int],
    events: dict[str, int],
    reported_self: dict[str, int],
    expected_samples: float,
) -> dict[str, str]:
    """The gates that a profile fails, each with the reason in words."""
    total = sum(stacks.values())
    own = {stack: count for stack, count in stacks.items() if not stack[0].startswith("iou-")}
    own_total = sum(own.values())
    rooted = sum(count for stack, count in own.items() if ROOTS & set(stack))
    unknown = sum(count for stack, count in stacks.items() if "[unknown]" in stack)
    failed = {}
    if total == 0:
        failed["no_samples"] = "no samples: the server's processes used no CPU time"
    if total < SAMPLES_SHARE_MIN * expected_samples:
        failed["few_samples"] = f"{total} samples where {expected_samples:.0f} were expected"
    if rooted < ROOTED_SHARE_MIN * own_total:
        failed["unrooted"] = (
            f"only {rooted} of {own_total} stacks reach main: an interpreter runs the program (use its language's "
            "profiler), or it was compiled without -fno-omit-frame-pointer (compile it with that flag)"
        )
    if unknown > UNKNOWN_SHARE_MAX * total:
        failed["unknown_frames"] = f"{unknown} of {total} stacks have an unknown frame"
    if events.get("LOST", 0) or events.get("LOST_SAMPLES", 0):
        failed["lost_samples"] = "perf lost samples"
    if self_counts(stacks) != reported_self:
        failed["differs_from_report"] = "the folded stacks' self counts differ from perf report's"
    return failed
