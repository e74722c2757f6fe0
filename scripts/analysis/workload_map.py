"""The map: which server is best in which workload, from the figure that decides each workload."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import findings, ranking, tables
from analysis.verdicts import BETTER_SIGN, CPU_RATIO, NAMES, UNDIVIDED

STARVING = "starving"
FIGURES = {**NAMES, **UNDIVIDED}


class Column(NamedTuple):
    """A workload: the figure that decides it, whether more of that is better, and its numbers of connections."""

    workload: str
    decided_by: str
    connections: list[int]

    @property
    def figure(self) -> str:
        return FIGURES[self.decided_by]

    @property
    def direction(self) -> str:
        return "more is better" if BETTER_SIGN[self.decided_by] > 0 else "less is better"

    @property
    def connections_text(self) -> str:
        few, many = self.connections[0], self.connections[-1]
        if few == many:
            return f"{many:,} connection{'s' if many > 1 else ''}"
        return f"{few:,} to {many:,} connections"


class Field(NamedTuple):
    """One server in one workload.

    ratio: its figure / that of the best, over the points at which both served all connections; NaN if there are none.
    is_first: no verdict finds another server better. letters: it shares one with each server from which it does not
    differ significantly; the best has the first. limiter: as in summary.csv, at most of these points, or at the last of
    them where that is a tie. remark: why there is no ratio, or at how many points there is one.
    """

    workload: str
    server: str
    ratio: float = math.nan
    is_first: bool = False
    letters: str = ""
    limiter: str = ""
    remark: str = ""

    @property
    def text(self) -> str:
        """The ratio, or why there is none."""
        return ratio_text(self.ratio) if self.has_ratio else self.remark

    @property
    def has_ratio(self) -> bool:
        return not math.isnan(self.ratio)


class WorkloadMap(NamedTuple):
    """One machine's map. servers: those near the best of most workloads first. fields: (workload, server) → field."""

    columns: list[Column]
    servers: list[str]
    fields: dict[tuple[str, str], Field]


def ratio_text(ratio: float) -> str:
    if f"{ratio:.2f}" == "1.00":
        return "1.00"
    if ratio >= 10:
        return f"{ratio:,.0f}×"
    return f"{ratio:.2f}×" if ratio >= 0.1 else f"{ratio:#.2g}×"


def metrics_of(decided_by: str) -> list[str]:
    """The metrics of a workload's verdicts, the one that decides it first."""
    return list(NAMES) if decided_by == CPU_RATIO else [decided_by]


def make(summary: pd.DataFrame, verdicts: pd.DataFrame) -> WorkloadMap:
    """The map of the machine with most valid cells, without the control."""
    summary, verdicts = _to_compare(summary, verdicts)
    servers = [str(name) for name in summary["server"].unique()]
    columns, fields = [], []
    for workload in tables.workloads_of(summary):
        points = summary[summary["workload"] == workload]
        judged = verdicts[verdicts["workload"] == workload]
        counts = sorted(int(count) for count in points["connections"].unique())
        columns.append(Column(workload, str(points["decided_by"].iloc[0]), counts))
        fields += _fields_of(columns[-1], servers, points, judged)
    by_place = {(field.workload, field.server): field for field in fields}
    return WorkloadMap(columns, _order(servers, fields), by_place)


def _to_compare(summary: pd.DataFrame, verdicts: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    machine = tables.main_machine(summary)
    its = summary[summary["machine"] == machine]
    return tables.without_control(its), verdicts[verdicts["machine"] == machine]


def _fields_of(
    column: Column, servers: list[str], points: pd.DataFrame, verdicts: pd.DataFrame
) -> list[Field]:
    """The fields of a workload, from its points and verdicts."""
    figure = column.decided_by
    served = points[points["limiter"] != STARVING].dropna(subset=[figure])
    figures = served.pivot(index="server", columns="connections", values=figure).astype(float)
    logs = pd.DataFrame(np.log(figures))
    counts = logs.notna().sum(axis="columns")
    # A server that was compared at fewer points than others may have had the easy ones.
    complete = logs[counts == counts.max()].mean(axis="columns") * -BETTER_SIGN[figure]
    nearest = [str(name) for name in complete.sort_values(kind="stable").index]
    by_point = logs.sub(logs.loc[nearest[0]]) if nearest else logs
    means = by_point.mean(axis="columns").dropna().map(math.exp).to_dict()
    compared = by_point.notna().sum(axis="columns").to_dict()
    most = max(compared.values(), default=0)
    ordered = [*nearest, *(name for name in servers if name not in nearest)]
    its_verdicts = verdicts[verdicts["metric"] == figure]
    letters = ranking.letters_of(ordered, its_verdicts)
    leaders = findings.find(its_verdicts, figure, servers).leaders
    fields = []
    for server in servers:
        its = points[points["server"] == server]
        field = Field(column.workload, server, remark=_why_missing(its))
        if server in means:
            at = list(by_point.T[server].dropna().index)
            limiters = its[its["connections"].isin(at)].sort_values("connections")["limiter"]
            most_common = limiters[limiters.isin(limiters.mode())]
            field = field._replace(
                ratio=means[server],
                is_first=server in leaders,
                letters=letters[server],
                limiter=str(most_common.iloc[-1]),
                remark="" if len(at) == most else f"{len(at)} of {most} points",
            )
        fields.append(field)
    return fields


def _why_missing(points: pd.DataFrame) -> str:
    """Why a server has no ratio in a workload."""
    if points.empty:
        return "not measured"
    limiters = points["limiter"].dropna()
    if limiters.empty:
        return tables.describe_no_result(points)
    return STARVING if (limiters == STARVING).all() else "no ratio"


def _order(servers: list[str], fields: list[Field]) -> list[str]:
    distances: dict[str, list[float]] = {name: [] for name in servers}
    for field in fields:
        distances[field.server].append(abs(math.log(field.ratio)) if field.has_ratio else math.inf)
    return sorted(servers, key=lambda name: (float(np.median(distances[name])), name))


def findings_of(
    summary: pd.DataFrame, verdicts: pd.DataFrame
) -> dict[str, dict[str, findings.Finding]]:
    """Workload → metric → what the verdicts say; workloads without verdicts are left out."""
    summary, verdicts = _to_compare(summary, verdicts)
    found = {}
    for workload in tables.workloads_of(summary):
        judged = verdicts[verdicts["workload"] == workload]
        points = summary[summary["workload"] == workload]
        if len(judged):
            metrics = metrics_of(str(points["decided_by"].iloc[0]))
            found[workload] = findings.find_all(judged, points, metrics)
    return found


def sentences(summary: pd.DataFrame, verdicts: pd.DataFrame) -> dict[str, str]:
    """Workload → which server is best by the figure that decides it, and how far the next one is behind."""
    found = findings_of(summary, verdicts)
    return {name: findings.best_sentence(next(iter(its.values()))) for name, its in found.items()}


def short_sentences(
    its: WorkloadMap, found: dict[str, dict[str, findings.Finding]]
) -> dict[str, str]:
    """Workload → which server is best, to be read beside the map: that shows which servers have no figure at all."""
    said = {}
    for workload, by_metric in found.items():
        finding = next(iter(by_metric.values()))
        left_out = [name for name in finding.left_out if its.fields[workload, name].has_ratio]
        short = finding._replace(left_out=left_out, runner_up="")
        said[workload] = findings.best_sentence(short)
    return said
