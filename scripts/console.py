"""What a terminal shows of a text: no more than there is room for, and coloured where a colour says something."""

import contextlib
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

# Columns that a narrow terminal goes without, the least important first.
LESS_IMPORTANT = {
    "results/summary.txt": [
        "p99 µs",
        "at connections",
        "95 % interval",
        "CPU µs/request",
        "limited by",
        "CPU / reference",
    ],
    "results/compare.txt": ["p (Holm)", "binary", "95 % interval", "detectable"],
}
# The hues of the pictures. A cell of a table is two spaces away from the one before; the first, a name, has no colour.
CELL = r"(?<=  )(?:{})(?=  |$)"
COLORS = {
    31: CELL.format("slower|starving|failed|invalid|no valid run|[1-9][0-9,]* of [0-9,]+"),
    32: CELL.format("server|faster"),
    33: CELL.format("wrk|≥ [0-9,]+"),
    35: CELL.format("shared CPUs"),
    36: CELL.format("round trip"),
    90: CELL.format("disturbance|disturbed|unavailable|drift|not decidable here"),
}
COLORS_OF_SENTENCES = {
    31: r"failed(?:, not tried again)?: .*|[0-9]+ connections unserved|invalid, not counted"
    r"|invalid: [a-z_]+(?:, [a-z_]+)*(?=,|$)",
    90: r"disturbed(?: in each of [0-9]+ attempts| in the paired phase)?(?=,|$)|unavailable: .*",
}


def width() -> int:
    """By COLUMNS, else the terminal's; without bound where the output goes elsewhere."""
    return shutil.get_terminal_size(fallback=(sys.maxsize, 0)).columns


def has_color() -> bool:
    """On a terminal that can, if nobody objects (https://no-color.org)."""
    return sys.stdout.isatty() and os.getenv("TERM") != "dumb" and not os.getenv("NO_COLOR")


def painted(text: str) -> str:
    """With colours, if they are wanted: of what the words say too."""
    if has_color():
        for code, pattern in [*COLORS.items(), *COLORS_OF_SENTENCES.items()]:
            text = re.sub(pattern, rf"\033[{code}m\g<0>\033[0m", text, flags=re.MULTILINE)
    return text


def colored(text: str, color: int) -> str:
    return f"\033[{color}m{text}\033[0m" if has_color() else text


def wrapped(text: str) -> str:
    """Lines broken between words; a path or an option stays whole."""
    words = textwrap.TextWrapper(width(), break_long_words=False, break_on_hyphens=False)
    return "\n".join(words.fill(line) for line in text.splitlines())


def printable(text: str) -> str:
    """Lines without control characters, which could make a terminal do or show anything."""
    return "\n".join(
        "".join(letter if letter.isprintable() else " " for letter in line)
        for line in text.split("\n")
    )


def cut(line: str) -> str:
    return line if len(line) <= width() else line[: width() - 1] + "…"


def failed_job(rule: str, logs: Sequence[str]) -> str:
    """A line about a job that failed: the last one that its log has."""
    said = [line for path in logs for line in _lines_of(path) if line.strip()]
    line = said[-1] if said else f"{rule} ended without a word, killed perhaps: {', '.join(logs)}"
    return colored(wrapped(printable(line)), 31)


def _lines_of(path: str) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(path).read_text(errors="replace").splitlines()
    return []


def fitted_table(path: str) -> str:
    """A table and its notes from a file, the table with as many columns as the terminal has room for.

    Its second line underlines the columns, each of which ends where its line does.
    """
    table, _, notes = printable(Path(path).read_text()).partition("\n\n")
    header, rule, *_ = lines = table.splitlines()
    ends = [line.end() for line in re.finditer("-+", rule)]
    columns = {
        header[start:end].strip(): slice(start, end)
        for start, end in zip([0, *ends], ends, strict=False)
    }
    left_out = []
    for name in filter(columns.__contains__, LESS_IMPORTANT[path]):  # not each table has all
        if sum(column.stop - column.start for column in columns.values()) <= width():
            break
        del columns[name]
        left_out.append(name)
    lines = ["".join(line[column] for column in columns.values()) for line in lines]
    if left_out:
        notes = f"Left out, for want of width: {', '.join(left_out)}. They are in {path}.\n{notes}"
    return painted("\n".join([*lines, "", wrapped(notes)]))
