"""System calls of servers: the table that is drawn, and its colours."""

import pandas as pd

# The hue shows the purpose of a call: blue receives, orange sends, green waits, purple (io_uring) does all of these.
CALL_COLORS = {
    "recvfrom": "#4477aa",
    "read": "#88bbdd",
    "sendto": "#ee8866",
    "write": "#ffbb88",
    "writev": "#cc5533",
    "epoll_wait": "#117733",
    "epoll_pwait": "#44aa88",
    "poll": "#66aa55",
    "ppoll": "#99cc99",
    "pselect6": "#bbcc33",
    "io_uring_enter": "#aa3377",
    "futex": "#ddaacc",
    "accept4": "#333333",
    "close": "#888888",
    "epoll_ctl": "#997700",
}
OTHER_CALL_COLOR = "#cccccc"
LEAST = 0.02  # calls a request; rarer ones would be invisible


def calls_by_server(table: pd.DataFrame) -> pd.DataFrame:
    """System calls per request: a row for each server, a column for each call; rare calls are in `other`."""
    calls = table[(table["kind"] == "system_call") & (table["name"] != "all")]
    wide = calls.pivot(index="server", columns="name", values="per_request").fillna(0.0)
    common = [name for name in CALL_COLORS if name in wide and wide[name].max() >= LEAST]
    shown = wide[common].copy()
    shown["other"] = wide.drop(columns=common).sum(axis="columns")
    return shown
