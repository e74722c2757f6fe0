"""How much a machine's speed varies, and which differences a sweep on it can be expected to detect.

A cell's ratio to the reference varies between repeats for two reasons: fresh processes differ, and the machine's speed
changes between the neighbouring slices of a paired phase (docs/precision.md). This module measures the second with
instruments/speed_loop.py on the CPUs of both sides at the same time. For the first it uses results of earlier
measurements.
"""

import itertools
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hosts.cpus import CpuSplit
from instruments.speed_loop import WINDOW_S, Window
from measuring import pairing, runs
from workflow import preflight

# Seconds of the loop. It does not see slower changes.
DOCTOR_S = 4.0
SWEEP_S = 1.2
STEP_S = 0.1  # windows over which the speed is compared: longer ones vary hardly less
# Standard deviation of a ratio between fresh pairs of processes, beyond the noise of their slices: the rest of the
# noise of whole cells, except for a server with a thread for each connection (docs/precision.md).
PROCESSES_FEW = 0.01
PROCESSES_MANY = 0.02
# As in scripts/analysis/inference.py, whose own function would bring SciPy into Snakemake's process.
ALPHA = 0.05
POWER = 0.9
LEAST_REPEATS = 2
NOT_MEASURED = "The machine's speed was not measured"


class Sweep(NamedTuple):
    """The settings that decide which differences a sweep can detect."""

    servers: int
    connections: list[int]
    repeats: int
    paired_s: float


def sweep_of(config: Mapping[str, Any]) -> Sweep:
    servers = len(config["servers"])
    return Sweep(servers, config["connections"], config["repeats"], config["paired_s"])


def from_json(text: str) -> Sweep:
    """Raises ValueError or TypeError if the text is not a sweep."""
    return Sweep(**json.loads(text))


# --- Figures ---


def speed_variation(windows: Sequence[Window]) -> float:
    """Coefficient of variation of the work over STEP_S. It includes the CPU time that other processes take."""
    step = round(STEP_S / WINDOW_S)
    steps = _sums([window.work for window in windows], step)[::step]
    return statistics.pstdev(steps) / statistics.fmean(steps)


def slice_noise(windows: Sequence[Window], slice_s: float, pause_s: float) -> float:
    """Standard deviation of the ratio of two neighbouring slices' work per CPU time.

    Without a pause that is the Allan deviation × √2. If there are too few windows for slices of this length, the slices
    are as long as fits.
    """
    width = max(1, min(round(slice_s / WINDOW_S), len(windows) // 4))
    distance = min(width + round(pause_s / WINDOW_S), len(windows) // 2)
    total = sum(window.work for window in windows)
    rate = total / sum(window.cpu_ns for window in windows)
    # Work beyond that expected from its CPU time, since a slice without CPU time has no ratio.
    slices = _sums([window.work - rate * window.cpu_ns for window in windows], width)
    changes = [after - before for before, after in zip(slices, slices[distance:], strict=False)]
    expected = total / len(windows) * width
    return math.sqrt(statistics.fmean(change**2 for change in changes)) / expected


def _sums(figures: Sequence[float], width: int) -> list[float]:
    """Sums of each `width` neighbours."""
    totals = list(itertools.accumulate(figures, initial=0.0))
    return [after - before for before, after in zip(totals, totals[width:], strict=False)]


def noise_of_slices(windows: Sequence[Window], sweep: Sweep) -> list[float]:
    """slice_noise() at each number of connections."""
    plans = [pairing.plan_of(count, sweep.paired_s, "") for count in sweep.connections]
    return [slice_noise(windows, plan.slice_s, plan.pause_s) for plan in plans]


def deviations(noises: Sequence[float], sweep: Sweep) -> list[float]:
    """Standard deviation of one repeat's ratio to the reference; both lists: at each number of connections."""
    of_ratios = []
    for count, noise in zip(sweep.connections, noises, strict=True):
        pairs = pairing.plan_of(count, sweep.paired_s, "").slices
        processes = PROCESSES_FEW if count <= pairing.FEW_CONNECTIONS else PROCESSES_MANY
        of_ratios.append(math.hypot(processes, noise / math.sqrt(pairs)))
    return of_ratios


def t_quantile(probability: float, freedom: float) -> float:
    """Quantile of Student's t, accurate to 2 % from 4 degrees of freedom (Abramowitz & Stegun 26.7.5)."""
    z = statistics.NormalDist().inv_cdf(probability)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))


def detectable(deviation: float, repeats: int, freedom: float, tests: int) -> float:
    """The difference of two servers that a sweep detects with probability POWER, as a share: 0.02 is 2 %.

    deviation: of one repeat's ratio; repeats: of each server in all; freedom: of the deviation; tests: among which
    Holm's method keeps the probability of a false verdict below ALPHA.
    """
    error = math.sqrt(2 / repeats) * deviation
    significant = t_quantile(1 - ALPHA / 2 / tests, freedom)
    return math.expm1(error * (significant + t_quantile(POWER, freedom)))


def detectable_by(noises: Sequence[float], sweep: Sweep) -> tuple[float, list[float]]:
    """detectable() over all numbers of connections, and at each of them; noises: of noise_of_slices()."""
    at_points = deviations(noises, sweep)
    points = len(at_points)
    pairs = math.comb(sweep.servers, 2)
    freedom = (sweep.repeats - 1) * sweep.servers * points
    overall = math.sqrt(statistics.fmean(deviation**2 for deviation in at_points))
    return (
        detectable(overall, sweep.repeats * points, freedom, pairs),
        [detectable(one, sweep.repeats, freedom / points, pairs * points) for one in at_points],
    )


# --- Words ---


def format_span(*shares: float) -> str:
    """`about 4 %`, `3 to 5 %`; bounds where a share is below 1 %."""
    low, high = (round(100 * share) for share in (min(shares), max(shares)))
    if max(shares) < 0.01:
        return "less than 1 %"
    if min(shares) < 0.01:
        return f"up to {high} %"
    return f"about {high} %" if low == high else f"{low} to {high} %"


def describe_speed(windows_of: dict[str, list[Window]], seconds: float) -> str:
    variations = []
    for role, windows in windows_of.items():
        share = speed_variation(windows)
        by = "less than 1 %" if share < 0.01 else f"{100 * share:.0f} %"
        variations.append(f"by {by} on the {role}'s CPUs")
    return f"In {seconds:g} s the machine's speed varied {' and '.join(variations)}."


def describe_sweep(windows: Sequence[Window], sweep: Sweep) -> str:
    """The differences that a sweep can be expected to detect; windows: of the server's CPUs."""
    if sweep.servers < 2:
        return "This sweep has one server: there is nothing to compare."
    if sweep.repeats < LEAST_REPEATS:
        needed = f"that takes {LEAST_REPEATS} or more repeats (repeats: {sweep.repeats})"
        return f"This sweep cannot detect any difference: {needed}."
    if not sweep.paired_s:
        return "This sweep has no paired phase (paired_s: 0): the differences that it can detect are not known."
    noises = noise_of_slices(windows, sweep)
    overall, at_points = detectable_by(noises, sweep)
    points = len(sweep.connections)
    size = f"{sweep.repeats} repeats at {points} number{'s' * (points > 1)} of connections"
    one = f" over all connections, {format_span(*at_points)} at a single number of connections"
    return (
        f"From one slice to the next the work per CPU time changes by {format_span(*noises)}."
        f" This sweep ({size}) can detect differences in CPU time per request of {format_span(overall)}"
        f"{one * (points > 1)}."
    )


# --- The machine ---


def describe(both: preflight.Sides, split: CpuSplit, sweep: Sweep | None, seconds: float) -> str:
    """Run the loop on both sides' CPUs at the same time and describe the result, with a line for each fault.

    The caller must hold this machine's lock.
    """
    try:
        busy = runs.lock_all(both)
    except OSError as error:
        return f"{NOT_MEASURED}: {error}."
    if busy:
        return f"{NOT_MEASURED}: another measurement uses {busy}."
    sides = {"server": (both.server, split.server), "load": (both.load, split.load)}
    if split.shared:  # the two loops would disturb each other
        del sides["load"]
    faults: dict[str, str] = {}
    windows_of: dict[str, list[Window]] = {}
    for role, (side, cpus) in sides.items():
        try:
            side.start_speed_loop(cpus, seconds)
        except OSError as error:
            faults[role] = str(error)
    for role in [role for role in sides if role not in faults]:
        try:
            windows_of[role] = [Window(*window) for window in sides[role][0].end_speed_loop()]
        except OSError as error:
            faults[role] = str(error)
    lines = [
        f"The speed of the {role}'s CPUs was not measured: {why}." for role, why in faults.items()
    ]
    if windows_of:
        lines.append(describe_speed(windows_of, seconds))
    if sweep and "server" in windows_of:
        lines[-1] += " " + describe_sweep(windows_of["server"], sweep)
    return "\n".join(lines)
