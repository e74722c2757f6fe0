"""The caveats of the report: what a reader must know before believing its answer."""

from typing import Any

import pandas as pd

from analysis import ranking, tables
from analysis.findings import join
from analysis.verdicts import WHOLE_SWEEP
from analysis.workload_map import FIGURES
from sweep import flags
from sweep.cells import is_control


def list_flags(cells: pd.DataFrame) -> list[dict[str, Any]]:
    """Each flag that was raised: the number of cells, the servers, its meaning and what helps."""
    return [
        {
            "name": flag.name,
            "effect": "invalid, not counted" if flag.invalidates else "counted",
            "count": len(its),
            "servers": join([str(name) for name in its["server"].unique()]),
            "meaning": flag.meaning,
            "hint": flag.hint,
        }
        for flag in flags.FLAGS
        if len(its := cells[tables.has_flag(cells, flag.name)])
    ]


def caveats(cells: pd.DataFrame, summary: pd.DataFrame, verdicts: pd.DataFrame) -> list[str]:
    """What a reader must know before believing the answer, an item each."""
    said = []
    bound = int((summary["limiter"] == "client-bound").sum())
    if bound:
        said.append(
            f"At {bound} of {len(summary)} points wrk was the limit, not the server. Throughput there is a lower "
            "bound and hardly shows which server is better; compare CPU time per request."
        )
    starving = summary[summary["unserved_connections"] > 0]
    for server, points in starving.groupby("server", sort=False):
        worst = points.sort_values("unserved_connections").iloc[-1]
        said.append(
            f"{server} left up to {worst['unserved_connections']:,.0f} of {worst['connections']:,} connections without "
            "any answer. wrk does not see that. Such points are not compared."
        )
    short = summary[tables.has_flag(summary.fillna({"flags": ""}), "connection_per_request")]
    for server in short["server"].unique():
        said.append(
            f"{server} closes the connection after each response. That is another workload, so it is not compared with "
            "other servers; which connections it served is not known."
        )
    invalid = int((cells["status"] == "invalid").sum())
    if invalid:
        said.append(f"{invalid} of {len(cells)} runs are invalid and not counted: see “Flags”.")
    said += tables.failure_notes(summary)
    disturbed = int((tables.has_flag(cells, "disturbed") & (cells["status"] == "ok")).sum())
    if disturbed:
        said.append(
            f"Something else on the machine disturbed all attempts of {disturbed} of {len(cells)} runs."
        )
    again = int((cells["attempts"] > 1).sum())
    if again:
        said.append(
            f"{again} of {len(cells)} runs were measured again, because something else had disturbed them."
        )
    if verdicts.empty:
        said.append("One server: there is nothing to compare it with.")
    else:
        if cells["repeat"].max() == 1:
            said.append("One repeat: there are no intervals and no verdicts.")
        said.append(ranking.floor_note(verdicts, "Noise floor"))
        said.append(detectable(verdicts))
    said.append(
        "These are micro-benchmarks under wrk's closed loop. They compare ways of doing I/O. They"
        " do not predict the performance of an application, and their latencies are not the response times of users who"
        " arrive at any time."
    )
    return [text for text in said if text]


def detectable(verdicts: pd.DataFrame) -> str:
    """The range of smallest differences that this sweep would detect in the figure that decides a workload."""
    decider = str(verdicts["metric"].iloc[0])
    whole = verdicts[
        (verdicts["connections"] == WHOLE_SWEEP)
        & (verdicts["metric"] == decider)
        & ~verdicts["other"].map(is_control).astype(bool)
    ]
    percents = whole["smallest_detectable_percent"].dropna()
    if percents.empty:
        return ""
    return (
        f"This sweep detects differences in {FIGURES[decider]} from {percents.min():.1f} to {percents.max():.1f} %,"
        " depending on the pair, nine times in ten. If it reports no difference, the true one may be that large."
    )
