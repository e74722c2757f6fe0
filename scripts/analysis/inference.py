"""Statistics: estimates, variances, tests, corrections for many comparisons, and letter groups."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import nctdtrinc, ndtri, polygamma, psi, stdtr, stdtrit


def interval_factor_95(values: "pd.Series[float]") -> float:
    """The factor to divide and multiply the mean of n positive values by for its 95 % interval; NaN for fewer than two.

    Student's t with n - 1 degrees of freedom on the logarithms, which suits small n: these figures vary by factors, and
    the interval of a positive figure stays positive.
    """
    n = len(values)
    if n < 2:
        return math.nan
    deviation = np.log(values.astype(float)).std(ddof=1)
    return float(np.exp(stdtrit(n - 1, 0.975) * deviation / math.sqrt(n)))


Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]
Pair = tuple[int, int]
ALPHA = 0.05
# For each server at a point. Few repeats suffice, since the variances of the other servers help.
MIN_REPEATS = 2
POWER = 0.9
TINY = np.finfo(float).tiny
# Tables hold nine digits: a smaller difference of logarithms is none.
ROUNDING = 1e-8


class Estimates(NamedTuple):
    """Mean differences of logarithms, arrays [pair, level]; NaN where a sample is too small or does not vary.

    A level is the whole sweep or one of its points. pairs: repeats that both servers have; freedom: degrees of freedom
    of Student's t.
    """

    pairs: Integers
    freedom: Floats
    mean: Floats
    standard_error: Floats
    p_value: Floats


def estimate(logarithms: Floats, pairs: list[Pair], usable: Booleans) -> Estimates:
    """Two-sided tests by Student's t of whether servers differ. logarithms: [server, point, repeat], NaN for cells that
    are left out; usable: [pair, point].

    A level with fewer than MIN_REPEATS repeats, or without variation, is not tested: it has no error and no p-value.
    """
    first, second = np.array(pairs).T
    repeats = np.isfinite(logarithms).sum(axis=-1)
    counts = np.maximum(repeats, 1)
    means = np.nansum(logarithms, axis=-1) / counts
    squares = np.nansum((logarithms - means[..., np.newaxis]) ** 2, axis=-1)
    compared = np.zeros(repeats.shape, bool)
    for pair, points in zip(pairs, usable, strict=True):
        compared[list(pair)] |= points
    freedoms = np.where(compared, counts - 1, 0)
    variances, worth = moderate(np.where(compared, squares, 0), freedoms)
    squared_errors = variances / counts
    # The points of each level: [pair, level, point].
    points = usable.shape[1]
    levels = np.vstack([np.ones(points), np.eye(points)])
    members = levels * usable[:, np.newaxis]
    number = np.maximum(members.sum(axis=-1), 1)

    def total(of_points: Floats) -> Floats:
        return np.asarray(np.einsum("alp,ap->al", members, of_points))

    mean = np.where(members.any(axis=-1), total(means[first] - means[second]) / number, np.nan)
    at_points = squared_errors[first] + squared_errors[second]
    parts = squared_errors**2 / np.maximum(worth, 1)
    # Both variances were shrunk towards one estimate, which must not count twice.
    most = np.minimum(worth[first] + freedoms[second], freedoms.sum(axis=0))
    most = np.maximum(most, 1)
    worth_at_points = np.clip(
        at_points**2 / np.maximum(parts[first] + parts[second], TINY), 1, most
    )
    added = total(at_points)
    error = np.sqrt(added) / number
    few = np.minimum(repeats[first], repeats[second]) < MIN_REPEATS
    error = np.where((error > ROUNDING) & (total(few) == 0), error, np.nan)
    freedom = np.maximum(added**2 / np.maximum(total(at_points**2 / worth_at_points), TINY), 1)
    observations = total(np.minimum(repeats[first], repeats[second])).astype(int)
    p_value = np.asarray(2 * stdtr(freedom, -np.abs(mean) / error))
    return Estimates(observations, freedom, mean, error, p_value)


def moderate(squares: Floats, freedoms: Integers) -> tuple[Floats, Floats]:
    """Sums of squares and their degrees of freedom, [server, point] → variances and their degrees of freedom.

    Entries with 0 degrees are ignored. Each variance is shrunk towards that of all servers at its point, multiplied by
    the factor by which this server varies more or less than others at all points. The weight of this prior follows from
    how much the logarithms of the variances still differ, beyond chance for as many repeats (Smyth, "Linear models and
    empirical Bayes methods", Stat. Appl. Genet. Mol. Biol. 3, 2004).
    """
    together = freedoms.sum(axis=0)
    is_known = (freedoms > 0) & (squares > ROUNDING**2)
    half = np.where(is_known, freedoms / 2, 1)
    own = squares / np.maximum(freedoms, 1)
    # The expected value of each is log(true variance).
    logs = np.log(np.where(is_known, own, 1)) - psi(half) + np.log(half)
    number = is_known.sum(axis=0)
    middle = np.where(is_known, logs, 0).sum(axis=0) / np.maximum(number, 1)
    rest = np.where(is_known, logs - middle, 0)
    by_chance = np.where(is_known, polygamma(1, half), 0)
    noisiness, doubt = noisiness_of_servers(rest, by_chance, is_known)
    factors = np.exp(noisiness)[:, np.newaxis]
    common = factors * (squares / factors).sum(axis=0) / np.maximum(together, 1)
    rest = np.where(is_known, rest - noisiness[:, np.newaxis], 0)
    # One point of one server alone has no degrees of freedom.
    degrees = max((number[number > 0] - 1).sum(), 1)
    left = max(degrees - np.count_nonzero(noisiness), 1)
    expected = (by_chance * (1 - 1 / np.maximum(number, 1))).sum() / degrees
    excess = max(0.0, (rest**2).sum() / left - expected)
    prior = np.array([2 * inverse_trigamma(excess + its) for its in doubt])[:, np.newaxis]
    weight = freedoms / (freedoms + prior)
    return weight * own + (1 - weight) * common, np.minimum(freedoms + prior, together)


def noisiness_of_servers(
    rest: Floats, by_chance: Floats, is_known: Booleans
) -> tuple[Floats, Floats]:
    """How much larger the logarithm of a server's variances is than that of others at all points, and the variance of
    this figure.

    rest: logarithms of variances, [server, point], minus the mean of all servers at the point; by_chance: its variance
    if all servers vary alike. The result is shrunk towards 0 as far as chance explains the differences of servers.
    """
    points = np.maximum(is_known.sum(axis=1), 1)
    mean, variance = rest.sum(axis=1) / points, by_chance.sum(axis=1) / points**2
    measured = is_known.any(axis=1)
    several = max(measured.sum() - 1, 1)
    excess = (mean**2).sum() / several - variance[measured].sum() / max(measured.sum(), 1)
    # With one point, the server's property and chance cannot be distinguished.
    if excess <= 0 or is_known.any(axis=0).sum() < 2:
        return np.zeros(len(rest)), np.zeros(len(rest))
    weight = np.where(measured, excess / (excess + variance), 0)
    return weight * mean, weight * variance


def inverse_trigamma(value: float) -> float:
    """x with trigamma(x) = value, by Newton's method on 1 / trigamma, which is nearly linear (Smyth 2004)."""
    if value < 1e-12:
        return float(np.inf)
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, x))
        x += step
        if abs(step) < 1e-8 * x:
            break
    return x


def holm(p_values: Floats) -> Floats:
    """Adjust the p-values of one family, of any shape (Holm 1979). NaN does not belong to the family and stays NaN."""
    flat = p_values.ravel()
    order = np.argsort(flat)  # NaN last
    members = np.isfinite(flat).sum()
    steps = np.maximum(members - np.arange(flat.size), 1)
    adjusted = np.empty_like(flat)
    adjusted[order] = np.minimum(np.maximum.accumulate(flat[order] * steps), 1)
    return adjusted.reshape(p_values.shape)


def smallest_detectable(freedom: Floats, standard_error: Floats, floor: Floats) -> Floats:
    """The true log-ratio that a sweep with the same noise detects with probability POWER, at Holm's first step.

    freedom and standard_error: of all tests of one family, in any shape. A detected difference is significant at ALPHA
    divided by the number of tests, two-sided, and its estimate lies above the floor.
    """
    tests = np.isfinite(standard_error).sum()
    different, inverse = np.unique(freedom, return_inverse=True)
    t_critical = stdtrit(different, 1 - ALPHA / 2 / max(tests, 1))
    # How many standard errors the truth must differ from 0.
    noncentrality = nctdtrinc(different, 1 - POWER, t_critical)
    significant = noncentrality[inverse].reshape(freedom.shape)
    above_floor = floor / standard_error + ndtri(POWER)
    return np.asarray(standard_error * np.maximum(significant, above_floor))


def letter_groups(names: Sequence[str], different: Iterable[frozenset[str]]) -> list[set[str]]:
    """The largest groups of names in which no two differ significantly, in order of their first members: a letter each.

    Each pair that differs splits the groups that hold both; a group that is part of another is absorbed (Piepho, "An
    algorithm for a letter-based representation of all-pairwise comparisons", J. Comput. Graph. Stat. 13, 2004).
    """
    groups = [set(names)]
    for pair in different:
        split = [part for group in groups for part in _split(group, pair)]
        unique = [group for number, group in enumerate(split) if group not in split[:number]]
        groups = [group for group in unique if not any(group < other for other in unique)]
    return sorted(groups, key=lambda group: [name not in group for name in names])


def _split(group: set[str], pair: frozenset[str]) -> list[set[str]]:
    return [group - {name} for name in sorted(pair)] if pair <= group else [group]
