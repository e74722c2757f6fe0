"""Records on disk: one JSON file a cell, whole or not there."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1


def write_text(path: str | Path, text: str) -> None:
    """Replace a file at once: a reader, or a crash, meets the old one or the new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write(path: str | Path, record: dict[str, Any]) -> None:
    """One key a line, so that people can read it in spite of the long raw ones."""
    lines = (f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in record.items())
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def read(path: str | Path) -> dict[str, Any]:
    """A record; ValueError with one line that names the file if it is none of ours."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
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
    return dict(record)
