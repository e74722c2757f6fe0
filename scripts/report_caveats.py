"""What a reader of the report must know before believing its answer."""

from typing import Any

import comparisons
import flags
import pandas as pd
import plot_ranking
import tables
from cells import is_control
from comparisons import COST
from findings import join


def flagged(cells: pd.DataFrame) -> list[dict[str, Any]]:
    """Each flag that was raised: on how many cells of which servers, what it means, what helps."""
    rows = []
    for flag in flags.FLAGS:
        its = cells[tables.has_flag(cells, flag.name)]
        if len(its):
            rows.append(
                {
                    "name": flag.name,
                    "effect": "invalid: never counted" if flag.invalidates else "counted",
                    "count": len(its),
                    "servers": join([str(name) for name in its["server"].unique()]),
                    "meaning": flag.meaning,
                    "hint": flag.hint,
                }
            )
    return rows


def caveats(cells: pd.DataFrame, summary: pd.DataFrame, verdicts: pd.DataFrame) -> list[str]:
    """What a reader must know before believing the answer, a sentence each."""
    said = []
    bound = int((summary["limiter"] == "client-bound").sum())
    if bound:
        said.append(
            f"At {bound} of {len(summary)} points wrk was the limit, not the server: throughput there is a lower "
            "bound, and says little about which server is better. CPU time per request does."
        )
    starving = summary[summary["unserved_connections"] > 0]
    for server, points in starving.groupby("server", sort=False):
        worst = points.sort_values("unserved_connections").iloc[-1]
        said.append(
            f"{server} left up to {worst['unserved_connections']:,.0f} of {worst['connections']:,} connections without "
            "any answer. wrk does not see that; such points are in no comparison."
        )
    short = summary[tables.has_flag(summary.fillna({"flags": ""}), "connection_per_request")]
    for server in short["server"].unique():
        said.append(
            f"{server} closes the connection after each response: another workload, compared with no other; "
            "who was served is not known."
        )
    invalid = int((cells["status"] == "invalid").sum())
    if invalid:
        said.append(f"{invalid} of {len(cells)} runs are invalid and not counted: see “Flagged”.")
    said += tables.failure_notes(summary)
    disturbed = int((tables.has_flag(cells, "disturbed") & (cells["status"] == "ok")).sum())
    if disturbed:
        said.append(
            f"{disturbed} of {len(cells)} runs were disturbed by something else on the machine in each attempt."
        )
    again = int((cells["attempts"] > 1).sum())
    if again:
        said.append(
            f"{again} of {len(cells)} runs were measured again, since something else had disturbed them."
        )
    if verdicts.empty:
        said.append("One server: there is nothing to compare it with.")
    else:
        if cells["repeat"].max() == 1:
            said.append("One repeat: there are no intervals and no verdicts.")
        said.append(
            plot_ranking.floor_note(verdicts).replace("Grey band: noise floor", "Noise floor")
        )
        said.append(detectable(verdicts))
    said.append(
        "These are micro-benchmarks of one small answer, under wrk's closed loop: they compare ways "
        "of doing I/O. They do not predict an application, and latencies are no response "
        "times of users who come at any time."
    )
    return [text for text in said if text]


def detectable(verdicts: pd.DataFrame) -> str:
    """The range of smallest differences that this sweep would have found in CPU time per request."""
    whole = verdicts[
        (verdicts["connections"] == comparisons.WHOLE_SWEEP)
        & (verdicts["metric"] == COST)
        & ~verdicts["other"].map(is_control).astype(bool)
    ]
    found = whole["smallest_detectable_percent"].dropna()
    if found.empty:
        return ""
    return (
        f"Smallest difference in CPU time per request that would have been found nine times in ten: {found.min():.1f} "
        f"to {found.max():.1f} %, by pair. Where no difference is told, it may be that large."
    )
