"""The state of a checkout and of the tools that build its servers."""

import os
import re
from collections.abc import Sequence
from typing import Any

from hosts.reading import (
    NOT_PERMITTED,
    UNKNOWN,
    UNREAD,
    find,
    finish,
    parse_version,
    read_fact,
    start,
    start_tools,
)


def hide_places(flag: str, checkout: str) -> str:
    """Replace the checkout with `.` and the home directory with `~` in a compiler flag, since both name a user."""
    home = os.path.expanduser("~")
    flag = flag.replace(checkout, ".")
    return flag if home == "/" else flag.replace(home, "~")


def parse_git_status(output: str | None) -> dict[str, str | bool | None]:
    """`commit` and `dirty` (files changed or untracked), or nulls with a `reason`.

    `output`: of `git status --porcelain=v2 --branch`, standard error included; null without git.
    """
    commit = re.search(r"^# branch\.oid ([0-9a-f]+)$", output or "", re.MULTILINE)
    if not commit:
        return {"commit": None, "dirty": None, "reason": _git_reason(output)}
    dirty = re.search(r"^[12u?] ", commit.string, re.MULTILINE) is not None
    return {"commit": commit[1], "dirty": dirty, "reason": None}


def _git_reason(output: str | None) -> str:
    # git's own message would reveal the checkout's path.
    if output is None:
        return "git is not installed"
    for said, reason in {
        "# branch.oid (initial)": "no commit yet",
        "not a git repository": "no git repository",
        "safe.directory": f"{NOT_PERMITTED}: the checkout is another user's (git's safe.directory)",
        "Permission denied": NOT_PERMITTED,
        NOT_PERMITTED: NOT_PERMITTED,
    }.items():
        if said in output:
            return reason
    return UNKNOWN


def build_tools(checkout: str, compiler: str) -> dict[str, list[str]]:
    status = ["status", "--porcelain=v2", "--branch", "--untracked-files=normal"]
    return {
        "git": ["git", "-C", checkout, "--no-optional-locks", *status],
        "compiler": [compiler, "--version"],
        "liburing": [compiler, "-print-file-name=liburing.a"],
    }


def read_liburing(archive: str | None, compiler: str, checkout: str) -> str | None:
    """liburing's version from the pkg-config file next to the linked archive, else from its header.

    archive: where the compiler finds it, or a bare name if it does not. The header has the version since liburing 2.4.
    """
    if archive is None or archive in UNREAD:
        return archive
    folder = os.path.dirname(archive.strip())
    version = (
        find(r"^Version: *(\S+)$", read_fact(folder, "pkgconfig/liburing.pc")) if folder else None
    )
    return version or _header_version(compiler, checkout) or (UNKNOWN if folder else None)


def _header_version(compiler: str, checkout: str) -> str | None:
    header = "liburing/io_uring_version.h"
    macros = finish(start([compiler, "-E", "-dM", "-include", header, "-xc", os.devnull], checkout))
    major, minor = (
        re.findall(rf"^#define IO_URING_VERSION_{part} (\d+)$", macros or "", re.MULTILINE)
        for part in ("MAJOR", "MINOR")
    )
    return ".".join([*major, *minor]) or None


def snakemake_version() -> str | None:
    """The version of Snakemake in this Python; null without Snakemake."""
    # Imported here, since it takes as long as all the rest, unless Snakemake itself has imported it.
    from importlib import metadata  # noqa: PLC0415

    try:
        return metadata.version("snakemake")
    except metadata.PackageNotFoundError:
        return None


def read_source(checkout: str, compiler: str, flags: Sequence[str]) -> dict[str, Any]:
    """`build`, the tools that compile the servers, and `source`, the checkout's commit. Raises nothing."""
    started = start_tools(build_tools(checkout, compiler), checkout)
    return {
        "build": {
            "compiler": os.path.basename(compiler),
            "compiler_version": parse_version("compiler", finish(started["compiler"])),
            "flags": [hide_places(flag, checkout) for flag in flags],
            "liburing": read_liburing(finish(started["liburing"]), compiler, checkout),
        },
        "source": parse_git_status(finish(started["git"])),
    }
