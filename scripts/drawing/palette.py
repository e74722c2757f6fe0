"""Colours and markers of servers and limiters, and the notes that explain them."""

import math
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from analysis import tables
from sweep.cells import REFERENCE

# A search found these colours, which readers with each kind of colour blindness can distinguish
# (tests/drawing/test_plots.py).
# Each kind of I/O has its own hues: yellow and orange scan all connections, blue is epoll, green is io_uring.
COLORS = {
    "server": "#484848",
    "server_thread": "#bc00b2",
    "server_select": "#c6af00",
    "server_poll": "#cb7948",
    "server_epoll": "#3d50ff",
    "server_epoll_multitask": "#3fb8ff",
    "server_uring": "#006e0e",
    "server_uring_multitask": "#23a098",
    "server_thread_50": "#971050",
    "server_uring_naive": "#7841db",
    "nginx": "#661100",
    "h2o": "#7b7b7b",
    "lighttpd": "#8d4471",
    "server_sigio": "#7c5e42",
}
OTHER_COLORS = ["#999933", "#cc6677", "#000000"]
MARKERS = "osD^vP*X<>"
REFERENCE_COLOR = "#555555"
REFERENCE_DASHES = (0, (4, 2))


class Limiter(NamedTuple):
    """What limits a point: its colour, a letter for readers who do not see colours, and a word."""

    color: str
    letter: str
    word: str


LIMITERS = {
    "server-bound": Limiter("#228833", "S", "server"),
    "client-bound": Limiter("#946708", "C", "wrk"),
    "latency-bound": Limiter("#3f74b3", "L", "round trip"),
    "shared-cpus": Limiter("#aa4499", "=", "shared CPUs"),
    "disturbed": Limiter("#707070", "?", "disturbance"),
    "starving": Limiter("#bb4455", "!", "starving"),
}


def color_of(server: str) -> str:
    """A server's colour, the same in all plots; other servers get one derived from their name."""
    return COLORS.get(server) or OTHER_COLORS[zlib.crc32(server.encode()) % len(OTHER_COLORS)]


def marker_of(server: str) -> str:
    known = list(COLORS)
    index = known.index(server) if server in known else zlib.crc32(server.encode())
    return MARKERS[index % len(MARKERS)]


LIMITER_NOTES = {
    "server-bound": "server-bound: the server had no CPU time left; wrk may have had none either.",
    "client-bound": "client-bound: wrk had no CPU time left, the server had some.",
    "latency-bound": "latency-bound: neither was busy: each waited for the other's packets, or for the handler.",
    "shared-cpus": "shared-cpus: server and wrk took turns on the same CPUs.",
    "disturbed": "disturbed: something else on the machine used the CPUs.",
    "starving": "starving: connections never got a response; wrk's figures are those of the others.",
}


def limiter_notes(summary: pd.DataFrame) -> list[str]:
    """A line that explains each limiter that occurs."""
    return [note for name, note in LIMITER_NOTES.items() if (summary["limiter"] == name).any()]


def throughput_notes(summary: pd.DataFrame) -> list[str]:
    """A note on the line of draw_reference(), if there is one, and limiter_notes()."""
    drawn = summary[tables.REFERENCE_RATE].notna().any()
    note = (
        f"Dashed line: {REFERENCE} (servers/{REFERENCE}.c) in the paired phases of the same cells."
    )
    return [*([note] if drawn else []), *limiter_notes(summary)]


def interval_note(summary: pd.DataFrame) -> str:
    if summary["requests_per_second_low"].isna().all():
        return "One repeat: no intervals."
    return "Bands: 95 % intervals (Student's t)."


def saturation_note(summary: pd.DataFrame) -> str:
    """A warning for readers of latencies; empty if the client was never the limit."""
    bound = summary["limiter"] == "client-bound"
    if not bound.any():
        return ""
    return (
        f"At {bound.sum()} of {len(summary)} points wrk was the limit; "
        "its latencies there leave out the time that requests waited in wrk."
    )


# Of the map's fields: the darker, the nearer to the best of the workload; lightness alone tells them apart.
NEAREST, FARTHEST = (0x0B, 0x45, 0x84), (0xE9, 0xF2, 0xFA)
FARTHEST_RATIO = 4.0  # and beyond, in either direction
LUMINANCE_OF_EQUAL_CONTRAST = 0.179  # black and white text are equally readable on it (WCAG 2.2)
DARK_TEXT, LIGHT_TEXT = "#000000", "#ffffff"


def distance_colors(ratio: float) -> tuple[str, str]:
    """The colours of a field of the map and of its text, by the logarithm of its ratio to the best."""
    share = min(abs(math.log(ratio)) / math.log(FARTHEST_RATIO), 1.0)
    ends = zip(NEAREST, FARTHEST, strict=True)
    field = [round(near + share * (far - near)) for near, far in ends]
    is_light = _luminance(field) > LUMINANCE_OF_EQUAL_CONTRAST
    return "#" + bytes(field).hex(), DARK_TEXT if is_light else LIGHT_TEXT


def _luminance(color: Sequence[int]) -> float:
    shares = [part / 255 for part in color]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
