"""Records on disk: one JSON file for each cell, whole or not there. fields.py defines what is in one."""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterable
from typing import Any

from common import files
from common.files import DamagedFile

# 3 added the checksum, 4 the paired phase, 5 the reference's requests per second. In 6 the paired phase has processes
# of its own and runs in blocks. 7 added workloads. Nothing can read version 1.
SCHEMA_VERSION = 7
READABLE = (2, 3, 4, 5, 6, 7)
CHECKED_SINCE = 3
# Begins the last line of a record. It is no proof against forgers, who can compute it too.
CHECKSUM = ',\n  "sha256": "'
RAW_LINES = re.compile('^  "raw_.*\n', re.MULTILINE)
SET_ASIDE = ".damaged"


class OldRecord(DamagedFile):
    """A record of a schema version that this workflow cannot read, older or newer."""


def format_utc(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601, to the millisecond."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return time.strftime(f"%Y-%m-%dT%H:%M:%S.{milliseconds:03}+00:00", time.gmtime(whole))


def write(path: str, record: dict[str, Any]) -> None:
    """Write one key a line, so that people can read it in spite of the long raw ones, and a checksum of these lines."""
    lines = (f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in record.items())
    text = "{\n" + ",\n".join(lines)
    files.write_text(path, f'{text}{CHECKSUM}{_sha256_of(text)}"\n}}\n')


def read_status(path: str) -> str:
    """Read a record's status from its beginning; empty if it is not there, or another version wrote it."""
    return _find_in_beginning('"status": "([a-z]+)"', path)


def read_version(path: str) -> str:
    """Read a record's schema version from its beginning; empty if it is not there."""
    return _find_in_beginning('"schema_version": ([0-9]+)', path)


def _find_in_beginning(pattern: str, path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            found = re.search(f"^  {pattern},$", file.read(500), re.MULTILINE)
    except OSError:
        return ""
    return found[1] if found else ""


def _sha256_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def read(path: str, raw: bool = True) -> dict[str, Any]:
    """Read a record; without `raw`, without wrk's raw output, which is most of it. Raises OldRecord or DamagedFile.

    A record that may come from anywhere needs rows.check_record() too.
    """
    try:
        text = files.read_text(path)
        record = json.loads(text if raw else RAW_LINES.sub("", text))
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path} is no record ({error})") from None
    version = record.get("schema_version") if isinstance(record, dict) else None
    if version not in READABLE:
        raise OldRecord(f"{path} is of schema version {version!r}, not {SCHEMA_VERSION}")
    if version >= CHECKED_SINCE:
        content, _, rest = text.rpartition(CHECKSUM)
        if rest != f'{_sha256_of(content)}"\n}}\n':
            raise DamagedFile(f"{path} has been changed since it was measured")
    record.pop("sha256", None)
    return dict(record)


def read_all(paths: Iterable[str]) -> list[dict[str, Any]]:
    """Read a sweep's records without their raw output. Raises DamagedFile, or OSError if one is missing.

    A damaged record is set aside, so that the next run measures its cell again. A record of another version stays: its
    user decides whether to delete it.
    """
    found, old, damaged = [], [], []
    for path in paths:
        try:
            found.append(read(path, raw=False))
        except OldRecord as error:
            old.append(str(error))
        except DamagedFile as error:
            os.replace(path, path + SET_ASIDE)
            damaged.append(str(error))
    if old:
        raise DamagedFile(
            f"{_name_first(old)}: delete the records that you no longer need; the next run measures their cells"
        )
    if damaged:
        raise DamagedFile(
            f"{_name_first(damaged)}; set aside as *{SET_ASIDE}: run again to measure those cells again"
        )
    return found


def _name_first(faults: list[str]) -> str:
    return faults[0] + (f" (and {len(faults) - 1} more like it)" if len(faults) > 1 else "")
