"""The map: which server is best in which workload, from the figure that decides each workload."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import findings, ranking, tables
from analysis.verdicts import BETTER_SIGN

STARVING = "starving"


class Field(NamedTuple):
    """One server in one workload.

    ratio: its figure / that of the best, over the points at which all connections were served; NaN if it has none.
    letters: it shares one with each server from which it does not differ significantly. limiter: as in summary.csv, at
    most of the points. remark: why it has no ratio, or at how many points it has one.
    """

    workload: str
    server: str
    decided_by: str
    ratio: float
    letters: str
    limiter: str
    remark: str


def _mean(points: pd.DataFrame, figure: str) -> float:
    return tables.geometric_mean(points[figure]) if len(points) else math.nan


def fields_of(summary: pd.DataFrame, verdicts: pd.DataFrame) -> list[Field]:
    """All fields of one machine's map; summary: without the control."""
    return [
        field
        for workload in tables.workloads_of(summary)
        for field in _fields_of_workload(
            summary[summary["workload"] == workload], verdicts[verdicts["workload"] == workload]
        )
    ]


def _fields_of_workload(summary: pd.DataFrame, verdicts: pd.DataFrame) -> list[Field]:
    workload, figure = summary[["workload", "decided_by"]].iloc[0]
    served = summary[summary["limiter"] != STARVING].dropna(subset=[figure])
    counts = served["server"].value_counts()
    most = counts.max() if len(counts) else 0
    means = {str(name): _mean(its, figure) for name, its in served.groupby("server")}
    # A server that was compared at fewer points than others may have had the easy ones.
    complete = [means[str(name)] for name, count in counts.items() if count == most]
    best = (min if BETTER_SIGN[figure] < 0 else max)(complete, default=math.nan)
    servers = [str(name) for name in summary["server"].unique()]
    letters = ranking.letters_of(servers, verdicts[verdicts["metric"] == figure])
    fields = []
    for server in servers:
        its = summary[summary["server"] == server]
        limiters = its["limiter"].dropna()
        limiter = str(limiters.mode().iloc[0]) if len(limiters) else ""
        remark = ""
        if server not in means:
            remark = STARVING if limiter == STARVING else tables.describe_no_result(its)
            if limiter not in ("", STARVING):
                remark = "no ratio"
        elif counts[server] < most:
            remark = f"{counts[server]} of {most}"
        ratio = means.get(server, math.nan) / best
        fields.append(
            Field(workload, server, figure, ratio, letters.get(server, ""), limiter, remark)
        )
    return fields


def servers_in_order(fields: list[Field]) -> list[str]:
    """The servers, those that are near the best of most workloads first."""
    distances: dict[str, list[float]] = {}
    for field in fields:
        known = not math.isnan(field.ratio)
        distances.setdefault(field.server, []).append(
            abs(math.log(field.ratio)) if known else math.inf
        )
    return sorted(distances, key=lambda name: (float(np.median(distances[name])), name))


def sentences(summary: pd.DataFrame, verdicts: pd.DataFrame) -> list[str]:
    """For each workload but the first, which server is best."""
    machine = tables.main_machine(summary)
    compared = tables.without_control(summary[summary["machine"] == machine])
    told = []
    for workload in tables.workloads_of(summary)[1:]:
        its = compared[compared["workload"] == workload]
        figure = str(its["decided_by"].iloc[0]) if len(its) else ""
        judged = verdicts[(verdicts["workload"] == workload) & (verdicts["machine"] == machine)]
        if len(its) and len(judged):
            servers = [str(name) for name in its["server"].unique()]
            found = findings.find(judged, figure, servers)
            told.append(f"{workload}: {findings.best_sentence(found)}")
    return told
