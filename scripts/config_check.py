"""config.yaml: one line for each fault, saying where it is, what was found and what is allowed."""

import difflib
import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

SPARE_DESCRIPTORS = 64  # of a server or wrk, beside its connections
RESERVED_PREFIX = "overview"  # of the pictures in plots/ that show all servers


def _where(path: Sequence[str | int]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.lstrip(".") or "the file"


def _suggest(word: object, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(str(word), known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _duplicates(values: Sequence[Any]) -> list[Any]:
    return [value for index, value in enumerate(values) if value in values[:index]]


def _describe(error: ValidationError) -> Iterator[str]:
    assert isinstance(error.schema, dict)
    where = _where(list(error.absolute_path))
    allowed = error.schema.get("description", "")
    if error.validator == "additionalProperties":
        known = list(error.schema["properties"])
        for key in error.instance:
            if key not in known:
                name = _where([*error.absolute_path, key])
                yield f"{name}: unknown key{_suggest(key, known)}, allowed: {', '.join(known)}"
    elif error.validator == "uniqueItems":
        yield f"{where}: found {_duplicates(error.instance)[0]!r} twice, allowed: {allowed}"
    else:
        found = "nothing" if error.instance is None else repr(error.instance)
        yield f"{where}: found {found}, allowed: {allowed}"


def schema_faults(config: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    """What the schema does not allow, one line each, in the order of the file."""
    errors = Draft202012Validator(schema).iter_errors(config)
    ordered = sorted(errors, key=lambda error: [str(part) for part in error.absolute_path])
    return [line for error in ordered for line in _describe(error)]


def _address_faults(host: str) -> Iterator[str]:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        yield f"host: found {host!r}, allowed: a numeric IPv6 or IPv4 address"


def sweep_faults(
    config: Mapping[str, Any], servers_folder: Path, open_files_limit: int
) -> list[str]:
    """What a well-formed config asks for and this checkout or machine does not have, one line each."""
    known = sorted(path.stem for path in servers_folder.glob("*.c"))
    faults = []
    for index, name in enumerate(config["servers"]):
        if name not in known:
            faults.append(
                f"servers[{index}]: there is no servers/{name}.c{_suggest(name, known)}, "
                f"allowed: {', '.join(known)}"
            )
        elif name.startswith(RESERVED_PREFIX):
            faults.append(f"servers[{index}]: found {name!r}, but names of plots start like that")
    most = open_files_limit - SPARE_DESCRIPTORS
    counts = [(f"connections[{i}]", count) for i, count in enumerate(config["connections"])]
    for where, count in [*counts, ("profile.connections", config["profile"]["connections"])]:
        if count > most:
            faults.append(
                f"{where}: found {count}, allowed: at most {most}, since a process may open "
                f"{open_files_limit} files here (ulimit -Hn)"
            )
    return [*faults, *_address_faults(config["host"])]
