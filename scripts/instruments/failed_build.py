"""The script that stands in for a server that could not be built, and says why."""

import os

from common import files
from common.processes import one_line

MARK = "# not built: "  # begins the second line; the reason is the rest of it
EX_SOFTWARE = 70  # sysexits.h
SCRIPT = """\
#!/bin/sh
{line}
sed -n '2s/^# //p' "$0" >&2
exit {status}
"""
LONGEST_REASON = 300


def write(path: str, reason: str) -> None:
    """Write the script in place of the binary; the reason becomes one line."""
    line = MARK + one_line(reason)[:LONGEST_REASON]
    with files.replacing(path) as temporary:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(SCRIPT.format(line=line, status=EX_SOFTWARE))
        os.chmod(temporary, 0o755)


def reason_of(binary: str) -> str:
    """Why this server could not be built; empty if it was built, or if there is no such file."""
    try:
        with open(binary, "rb") as file:
            lines = file.read(4096).decode(errors="replace").splitlines()
    except OSError:
        return ""
    is_ours = len(lines) > 1 and lines[1].startswith(MARK)
    return lines[1].removeprefix(MARK) if is_ours else ""
