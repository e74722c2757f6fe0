"""Records on disk: one JSON file a cell, whole or not there."""

import contextlib
import json
import os
import time
from typing import Any

SCHEMA_VERSION = 2
REQUIRED = {"server", "connections", "repeat", "status", "flags", "machine"}


def format_utc(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601, to the millisecond."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return time.strftime(f"%Y-%m-%dT%H:%M:%S.{milliseconds:03}+00:00", time.gmtime(whole))


def write_text(path: str, text: str) -> None:
    """Replace a file at once: a reader, or a crash, meets the old one or the new one."""
    folder, name = os.path.split(path)
    os.makedirs(folder or ".", exist_ok=True)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def write(path: str, record: dict[str, Any]) -> None:
    """One key a line, so that people can read it in spite of the long raw ones."""
    lines = (f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in record.items())
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def read(path: str) -> dict[str, Any]:
    """A record; ValueError with one line that names the file if it is none of ours."""
    try:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
    except ValueError as error:
        raise ValueError(
            f"{path} is no record ({error}): delete it, it will be measured again"
        ) from None
    version = record.get("schema_version") if isinstance(record, dict) else None
    if version != SCHEMA_VERSION:
        raise ValueError(
            f"{path} is of schema version {version}, not {SCHEMA_VERSION}: "
            "delete it, it will be measured again"
        )
    if not record.keys() >= REQUIRED:
        lacking = ", ".join(sorted(REQUIRED - record.keys()))
        raise ValueError(f"{path} lacks {lacking}: delete it, it will be measured again")
    return dict(record)
