"""What a terminal shows: tables and lines that fit its width, with colours where it can show them.

A text never decides its colour: whoever makes the text passes a Part with the colour.
"""

import contextlib
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import NamedTuple

from common import files


class Color(IntEnum):
    """ANSI codes of the hues that the pictures use."""

    NONE = 0
    RED = 31
    GREEN = 32
    YELLOW = 33
    PURPLE = 35
    BLUE = 36
    GREY = 90


class Part(NamedTuple):
    """A cell of a table or a part of a line, and its colour."""

    text: str
    color: int = Color.NONE


class Table(NamedTuple):
    """A table for a terminal, and the notes below it.

    spare: columns that a narrow terminal goes without, the least important first.
    """

    columns: list[str]
    rows: list[list[Part]]
    notes: list[str]
    spare: list[str]


def width() -> int:
    """The width by COLUMNS, else the terminal's; unlimited where the output goes elsewhere."""
    return shutil.get_terminal_size(fallback=(sys.maxsize, 0)).columns


def has_color() -> bool:
    """Whether the terminal can show colours and nobody objects (https://no-color.org)."""
    return sys.stdout.isatty() and os.getenv("TERM") != "dumb" and not os.getenv("NO_COLOR")


def color(text: str, code: int) -> str:
    return f"\033[{int(code)}m{text}\033[0m" if text and code and has_color() else text


def wrap(text: str, first_indent: str = "", indent: str = "") -> str:
    """Break lines between words; a path or an option stays whole. indent: of a line's continuation."""
    words = textwrap.TextWrapper(
        width(), first_indent, indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(words.fill(line) for line in text.splitlines())


def make_printable(text: str) -> str:
    """Replace control characters, which could make a terminal do or show anything."""
    return "\n".join(
        "".join(letter if letter.isprintable() else " " for letter in line)
        for line in text.split("\n")
    )


def format_line(parts: Sequence[Part]) -> str:
    """One line of coloured parts, cut where the terminal ends."""
    is_cut = sum(len(part.text) for part in parts) > width()
    left = width() - is_cut
    line = ""
    for part in parts:
        line += color(part.text[:left], part.color)
        left = max(0, left - len(part.text))
    return line + "…" * is_cut


def describe_failed_job(rule: str, logs: Sequence[str]) -> str:
    """A line about a job that failed: the last line of its log."""
    said: list[str] = []
    for path in logs:
        with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
            said += filter(str.strip, file.read().splitlines())
    line = said[-1] if said else f"{rule} ended without a message, maybe killed: {', '.join(logs)}"
    return color(wrap(make_printable(line)), Color.RED)


# --- Tables ---


def _widths_of(table: Table) -> dict[str, int]:
    columns = zip(map(Part, table.columns), *table.rows, strict=True)
    return {its[0].text: max(len(part.text) for part in its) for its in columns}


def choose_columns(table: Table) -> list[str]:
    """The columns that the terminal has room for: spare ones go first."""
    widths = _widths_of(table)
    kept = list(table.columns)
    for name in filter(table.columns.__contains__, table.spare):  # not each table has all
        if sum(2 + widths[column] for column in kept) - 2 <= width():
            break
        kept.remove(name)
    return kept


def align(table: Table, columns: Sequence[str], paint: Callable[[Part], str]) -> list[str]:
    """The header, a line under each column, and a line a row; the first column to the left."""
    widths = _widths_of(table)
    header = [Part(name) for name in table.columns]
    underline = [Part("-" * width) for width in widths.values()]
    lines = []
    for row in [header, underline, *table.rows]:
        cells: list[str] = []
        for (name, width), part in zip(widths.items(), row, strict=True):
            if name in columns:
                space = " " * (width - len(part.text))
                cells.append(space + paint(part) if cells else paint(part) + space)
        lines.append("  ".join(cells))
    return lines


def format_text(table: Table) -> str:
    """The whole table and its notes, without colours."""
    lines = align(table, table.columns, lambda part: part.text)
    return "\n".join([*lines, "", *table.notes]) + "\n"


def values_path(text_path: str) -> str:
    """Beside a table's text: the same table as values, for format_fitted()."""
    return f"{text_path.removesuffix('.txt')}_table.json"


def write_table(table: Table, text_path: str) -> None:
    files.write_text(values_path(text_path), json.dumps(table._asdict(), ensure_ascii=False))
    files.write_text(text_path, format_text(table))


def _read_table(text_path: str) -> Table:
    values = files.read_json(values_path(text_path), Table._fields)
    rows = [[Part(make_printable(text), code) for text, code in row] for row in values["rows"]]
    return Table(**{**values, "rows": rows, "notes": list(map(make_printable, values["notes"]))})


def format_fitted(text_path: str) -> str:
    """A table that write_table() wrote, with as many columns as the terminal has room for, and its notes."""
    table = _read_table(text_path)
    columns = choose_columns(table)
    lines = align(table, columns, lambda part: color(part.text, part.color))
    left_out = [name for name in table.spare if name in table.columns and name not in columns]
    notes = list(table.notes)
    if left_out:
        notes.insert(
            0,
            f"The terminal is too narrow for these columns: {', '.join(left_out)}. {text_path} has them.",
        )
    return "\n".join([*lines, "", wrap("\n".join(notes))])


UNAVAILABLE = "-"
