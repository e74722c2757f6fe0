"""Which server is faster, and can this sweep decide it? Cells and their summary → a verdict for each pair of servers.

Verdicts compare ratios to the reference. Each cell measures the reference in turns with its server
(docs/precision.md), so the state of the machine cancels out and cells of different runs can be compared. The tests use
logarithms of ratios (Kalibera & Jones, "Rigorous benchmarking in reasonable time", ISMM 2013).

Each variance is shrunk towards that of all servers at the point (moderated t, as in inference.moderate()). The numbers
of connections are fixed, not a sample. Over the whole sweep, the differences at the points are averaged with equal
weights and their variances added, with degrees of freedom by Welch and Satterthwaite. A true difference between numbers
of connections does not count as noise.

Holm's method keeps the probability of any false verdict among the tests of one machine and metric below ALPHA (Holm, "A
simple sequentially rejective multiple test procedure", Scand. J. Statist. 6, 1979): once over all pairs for the whole
sweep, and once over all pairs and points for the points. docs/precision.md says how well this works. "Depends on
connections" is not a test: it follows from verdicts at points.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import stdtrit

from analysis import tables
from analysis.inference import (
    ALPHA,
    MIN_REPEATS,
    Booleans,
    Estimates,
    Floats,
    Integers,
    Pair,
    estimate,
    holm,
    smallest_detectable,
)
from common.files import DamagedFile
from sweep import fields, workloads
from sweep.cells import base_of, is_control

# Ratios to the reference; the report's first answer uses the first.
CPU_RATIO, THROUGHPUT = workloads.CPU_RATIO, "throughput_ratio"
RATE, TAIL = workloads.THROUGHPUT, workloads.TAIL
NAMES = {CPU_RATIO: "CPU time per request", THROUGHPUT: "throughput"}  # in sentences
# Figures of the undivided run, which decide some workloads.
UNDIVIDED = {RATE: "throughput", TAIL: "99th percentile of latency"}
BETTER_SIGN = {CPU_RATIO: -1, THROUGHPUT: 1, RATE: 1, TAIL: -1}

FASTER, SLOWER, EQUAL = "faster", "slower", "no difference"
DEPENDS, UNDECIDABLE = "depends on connections", "not decidable here"
DIFFERENCES = {FASTER, SLOWER, DEPENDS}
VERDICT_OF_SIGN = {1: FASTER, -1: SLOWER, 0: EQUAL}

WHOLE_SWEEP = "all"
CLIENT_LIMITED = "wrk was the limit for both"
LOWER_BOUND = "its throughput is a lower bound"
OTHER_YARDSTICK = "measured with another kernel, compiler, wrk, reference or schema version than most of the sweep"
NO_NOISE = (
    f"fewer than {MIN_REPEATS} repeats, or they do not vary: there is no noise to test against"
)
NO_RATIO = "no ratio to the reference"
BELOW_FLOOR = "smaller than the noise floor"
CONTROL_DIFFERS = "the same server measured twice: at most the layout of its code differs"

OTHER_WORKLOAD = "a connection per request (another workload)"

CELL_COLUMNS = ["machine", "workload", "server", "connections", "repeat", "status", "flags"]
CELL_COLUMNS += ["yardstick", "decided_by", *BETTER_SIGN]
SUMMARY_COLUMNS = ["machine", "workload", "server", "connections", "limiter", "flags"]
VERDICT_COLUMNS = fields.columns_of(fields.VERDICTS)


class Sweep(NamedTuple):
    """One machine's cells of one workload as arrays.

    logarithms: of each metric, [server, point, repeat]; NaN without a valid cell.
    has_valid: whether there are valid cells, [server, point].
    other_yardstick: whether there are valid cells but all have another yardstick, [server, point].
    starving, client_limited, connection_per_request: [server, point].
    """

    servers: list[str]
    connections: list[int]
    logarithms: dict[str, Floats]
    has_valid: Booleans
    other_yardstick: Booleans
    starving: Booleans
    client_limited: Booleans
    connection_per_request: Booleans


def _points_of(rows: pd.DataFrame, servers: list[str], connections: list[int]) -> Booleans:
    """Which points these rows of the summary contain: [server, point]."""
    points = set(zip(rows["server"], rows["connections"], strict=True))
    return np.array([[(name, count) in points for count in connections] for name in servers])


def sweep_of(cells: pd.DataFrame, summary: pd.DataFrame) -> Sweep:
    """One machine's tables → arrays. Raises DamagedFile if a cell occurs twice, ValueError if a figure is no number."""
    if cells.duplicated(["server", "connections", "repeat"]).any():
        raise DamagedFile("a cell is there twice: tables of several sweeps cannot be compared")
    servers = [str(name) for name in cells["server"].unique()]
    connections = sorted(int(count) for count in cells["connections"].unique())
    repeats = sorted(cells["repeat"].unique())
    valid = tables.counted_cells(cells)
    comparable = tables.of_main_yardstick(valid)
    figures = comparable.set_index(["server", "connections", "repeat"])[[*BETTER_SIGN]].astype(
        float
    )
    figures = figures.reindex(pd.MultiIndex.from_product([servers, connections, repeats]))
    logs = figures.where(figures > 0).map(np.log)
    shape = len(servers), len(connections), len(repeats)
    logarithms = {metric: logs[metric].to_numpy(float).reshape(shape) for metric in BETTER_SIGN}
    has_valid = _points_of(valid, servers, connections)
    return Sweep(
        servers,
        connections,
        logarithms,
        has_valid,
        has_valid & ~_points_of(comparable, servers, connections),
        _points_of(summary[summary["limiter"] == "starving"], servers, connections),
        _points_of(summary[summary["limiter"] == "client-bound"], servers, connections),
        _points_of(
            summary[tables.has_flag(summary, "connection_per_request")], servers, connections
        ),
    )


def pairs_of(servers: list[str]) -> list[Pair]:
    """The positions of each pair's servers, in order of appearance; a control has one pair, with its base server."""
    return [
        (first, second)
        for first, second in itertools.combinations(range(len(servers)), 2)
        if not has_control(servers, (first, second))
        or base_of(servers[first]) == base_of(servers[second])
    ]


def has_control(servers: list[str], pair: Pair) -> bool:
    return any(is_control(servers[position]) for position in pair)


def obstacles_of(sweep: Sweep, metric: str, pair: Pair, same_binary: bool) -> list[str]:
    """Why a pair cannot be compared at each point; empty where it can.

    Points with few repeats are left out of the sweep, unless there are no others.
    """
    points = range(len(sweep.connections))
    for least in (MIN_REPEATS, 1):
        obstacles = [_obstacle(sweep, metric, pair, point, same_binary, least) for point in points]
        if "" in obstacles:
            break
    return obstacles


def _obstacle(
    sweep: Sweep, metric: str, pair: Pair, point: int, same_binary: bool, least: int
) -> str:
    """Why a pair's figures at a point are missing or do not show which server is better; empty if they do."""

    def servers_where(is_so: Booleans) -> list[str]:
        return [sweep.servers[server] for server in pair if is_so[server, point]]

    if others := servers_where(sweep.other_yardstick):
        return f"{others[0]} {OTHER_YARDSTICK}"
    if starving := servers_where(sweep.starving):
        return f"{' and '.join(starving)} starving (another workload)"
    short = servers_where(sweep.connection_per_request)
    if len(short) == 1:
        return f"{short[0]}: {OTHER_WORKLOAD}"
    limited = metric in (THROUGHPUT, RATE) and len(servers_where(sweep.client_limited)) == 2
    if limited and not same_binary:  # a server measured twice shows the noise, whatever limits it
        return CLIENT_LIMITED
    lacks = (_lack(sweep, metric, server, point, least) for server in pair)
    return "; ".join(filter(None, lacks))


def _lack(sweep: Sweep, metric: str, server: int, point: int, least: int) -> str:
    repeats = int(np.isfinite(sweep.logarithms[metric][server, point]).sum())
    if repeats >= least:
        return ""
    what = NO_RATIO if sweep.has_valid[server, point] else "no valid cells"
    if repeats:
        what = f"only {repeats} repeat{'' if repeats == 1 else 's'}"
    return f"{what} of {sweep.servers[server]}"


class Tests(NamedTuple):
    """All tests of one metric, arrays [pair, level]; figures: of the numeric columns; sign: 1 faster, -1 slower, 0 no
    difference."""

    figures: dict[str, npt.NDArray[Any]]
    significant: Booleans
    sign: Integers


def _test(estimates: Estimates, decidable: Booleans, floors: Floats, better_sign: int) -> Tests:
    """Test all levels. decidable: whether a level may have a verdict, [pair, level]; others belong to no family.

    floors: the noise floor that a log-ratio must exceed, [pair, level].
    """
    pairs, freedom, mean, standard_error, p_value = estimates
    p_value = np.where(decidable, p_value, np.nan)
    error = np.where(decidable, standard_error, np.nan)
    families = [np.s_[:, :1], np.s_[:, 1:]]
    p_adjusted = np.hstack([holm(p_value[its]) for its in families])
    detectable = [smallest_detectable(freedom[its], error[its], floors[its]) for its in families]
    significant = p_adjusted <= ALPHA
    sign = better_sign * np.sign(np.nan_to_num(mean)).astype(int) * (np.abs(mean) > floors)
    half = stdtrit(freedom, 0.975) * standard_error
    figures = {
        "pairs": pairs,
        "ratio": np.exp(mean),
        "ratio_low": np.exp(mean - half),
        "ratio_high": np.exp(mean + half),
        "p_value": p_value,
        "p_adjusted": p_adjusted,
        "smallest_detectable_percent": 100 * np.expm1(np.hstack(detectable)),
    }
    return Tests(figures, significant, sign * significant)


def _join(counts: Iterable[int]) -> str:
    return ", ".join(map(str, counts))


def has_enough_points(usable: int, points: int) -> bool:
    """Whether so many of its points suffice for a verdict over the whole sweep."""
    return 2 * usable >= points


def _partial_reason(connections: list[int], obstacles: list[str]) -> str:
    """Which points a pair's verdict leaves out, and why; empty if it uses all points."""
    usable, points = obstacles.count(""), len(obstacles)
    if usable == points:
        return ""
    only = "only " if usable and not has_enough_points(usable, points) else ""
    parts = [f"{only}{usable or 'none'} of {points} points comparable"]
    for obstacle in dict.fromkeys(filter(None, obstacles)):
        missing = zip(connections, obstacles, strict=True)
        parts.append(f"{obstacle} at {_join(count for count, why in missing if why == obstacle)}")
    return "; ".join(parts)


def _depends_reason(connections: list[int], signs: Sequence[int]) -> str:
    """The points at which each of the two is faster; empty if one is faster at no point."""
    parts = []
    for sign in (1, -1):
        counts = [count for count, its in zip(connections, signs, strict=True) if its == sign]
        if not counts:
            return ""
        parts.append(f"{VERDICT_OF_SIGN[sign]} at {_join(counts)}")
    return "; ".join(parts)


def _limited_loser(sweep: Sweep, pair: Pair, points: Booleans, sign: int) -> str:
    """The slower server of a pair, if wrk was its limit at one of the points; else empty.

    Its throughput is then a lower bound, so it may not be the slower one.
    """
    loser = pair[1] if sign > 0 else pair[0]
    return sweep.servers[loser] if sign and sweep.client_limited[loser, points].any() else ""


def judge(
    sweep: Sweep,
    metric: str,
    pairs: list[Pair],
    obstacles: list[list[str]],
    floor: float | Floats,
    same_binary: Booleans,
) -> list[list[dict[str, Any]]]:
    """Verdicts of pairs, as [pair][level]: figures, `verdict` and `reason`. The pairs are one family of tests.

    obstacles: [pair][point]; floor: the noise floor as log-ratio, for all pairs or [pair, 1]; same_binary: [pair].
    """
    usable = np.array(obstacles) == ""
    estimates = estimate(sweep.logarithms[metric], pairs, usable)
    floors = np.broadcast_to(floor, estimates.mean.shape)
    enough = [has_enough_points(its_points.sum(), len(its_points)) for its_points in usable]
    decidable = np.column_stack([enough, usable])
    tests = _test(estimates, decidable, floors, BETTER_SIGN[metric])

    def judge_pair(number: int, pair: Pair) -> Iterator[dict[str, Any]]:
        signs = tests.sign[number].tolist()
        losers = [""] * len(signs)
        if (
            metric in (THROUGHPUT, RATE) and not same_binary[number]
        ):  # the same binary shows the noise
            levels = [usable[number], *np.eye(len(sweep.connections), dtype=bool)]
            its = zip(levels, signs, strict=True)
            losers = [_limited_loser(sweep, pair, points, sign) for points, sign in its]
        known = [0 if loser else sign for loser, sign in zip(losers, signs, strict=True)]
        depends = _depends_reason(sweep.connections, known[1:])
        missing = [_partial_reason(sweep.connections, obstacles[number]), *obstacles[number]]
        for level, count in enumerate([WHOLE_SWEEP, *sweep.connections]):
            figures = {name: array[number, level] for name, array in tests.figures.items()}
            verdict, reason = VERDICT_OF_SIGN[signs[level]], ""
            if not decidable[number, level]:
                verdict = UNDECIDABLE
            elif np.isnan(figures["p_value"]):
                verdict, reason = UNDECIDABLE, NO_NOISE
            elif depends and level == 0:
                verdict, reason = DEPENDS, depends
            elif losers[level]:
                reason = f"wrk was the limit of {losers[level]}: {LOWER_BOUND}"
                verdict = UNDECIDABLE
            elif tests.significant[number, level] and not signs[level]:
                reason = BELOW_FLOOR
            reasons = "; ".join(filter(None, (reason, missing[level])))
            yield {"connections": count, "verdict": verdict, **figures, "reason": reasons}

    return [list(judge_pair(*one)) for one in enumerate(pairs)]


def noise_floor(sweep: Sweep, metric: str) -> float:
    """The largest difference of a control from its server over the whole sweep, as log-ratio; NaN if unknown."""
    pairs = [pair for pair in pairs_of(sweep.servers) if has_control(sweep.servers, pair)]
    if not pairs:
        return np.nan
    usable = np.array([obstacles_of(sweep, metric, pair, True) for pair in pairs]) == ""
    estimates = estimate(sweep.logarithms[metric], pairs, usable)
    return float(np.fmax.reduce(np.abs(estimates.mean[:, 0])))


def compare(sweep: Sweep, metric: str) -> list[dict[str, Any]]:
    """Verdicts of one machine, workload and metric, a row for each pair of servers and level; none of one server.

    Keys as VERDICT_COLUMNS, without machine and workload. "faster" means higher throughput, less CPU time per request
    or a lower percentile.
    """
    pairs = pairs_of(sweep.servers)
    if not pairs:
        return []
    control = np.array([has_control(sweep.servers, pair) for pair in pairs])
    obstacles = [
        obstacles_of(sweep, metric, pair, same_binary)
        for pair, same_binary in zip(pairs, control, strict=True)
    ]
    floor = noise_floor(sweep, metric)
    # The floor comes from the control's own pair, so it does not apply to that.
    floors = np.where(control, 0, np.nan_to_num(floor))[:, np.newaxis]
    judged = judge(sweep, metric, pairs, obstacles, floors, control)
    rows = []
    for number, (first, second) in enumerate(pairs):
        names = {"metric": metric, "server": sweep.servers[first], "other": sweep.servers[second]}
        for row in judged[number]:
            surprising = control[number] and row["verdict"] in DIFFERENCES
            reason = "; ".join(filter(None, (row["reason"], CONTROL_DIFFERS if surprising else "")))
            floor_percent = 100 * np.expm1(floor)
            rows.append({**names, **row, "noise_floor_percent": floor_percent, "reason": reason})
    return rows


def verdict_table(cells: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """cells.csv and summary.csv → a row for each machine, workload, metric, pair of servers and level.

    connections is "all" for the whole sweep, else a count. Neither machines nor workloads are ever pooled. Raises
    DamagedFile if a cell occurs twice, ValueError if a figure is not a number.
    """
    rows = []
    keys = ["machine", "workload"]
    for (machine, workload), its_cells in cells.groupby(keys, sort=False, dropna=False):
        is_its = summary["machine"].isin([machine]) & summary["workload"].isin([workload])
        sweep = sweep_of(its_cells, summary[is_its])
        decider = str(its_cells["decided_by"].iloc[0])
        names = {"machine": machine, "workload": workload}
        for metric in NAMES if decider == CPU_RATIO else [decider]:
            rows += [{**names, **row} for row in compare(sweep, metric)]
    return pd.DataFrame(rows, columns=VERDICT_COLUMNS)


def read_verdicts(path: str) -> pd.DataFrame:
    return tables.read_table(path, VERDICT_COLUMNS, {"reason": "str"}).fillna({"reason": ""})


def yardstick_note(cells: pd.DataFrame) -> str:
    """How many cells no verdict uses because of their yardstick; empty if there are none."""
    left_out = len(cells) - len(tables.of_main_yardstick(cells))
    if not left_out:
        return ""
    return (
        f"{left_out} of {len(cells)} cells were {OTHER_YARDSTICK}. No verdict uses them. To measure them again, delete"
        " their records."
    )
