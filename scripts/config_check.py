"""config.yaml: one line for each fault, saying where it is, what was found and what is allowed."""

import difflib
import ipaddress
import math
import re
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import network
from cells import CEILING, CONTROL_SUFFIX
from external import description_faults
from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError
from machine import SPARE_DESCRIPTORS, format_cpu_list, parse_cpu_list

# Other pictures in plots/, and the control, are named like that.
RESERVED = re.compile(f"overview.*|ranking|syscalls|cost|compare|.*_flamegraph|.*{CONTROL_SUFFIX}")


# JSON takes 5.0 for an integer and YAML knows .nan; neither makes a number of cells or of seconds.
_StrictValidator = validators.extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "integer": lambda _, value: type(value) is int,
            "number": lambda _, value: type(value) in (int, float) and math.isfinite(value),
        }
    ),
)


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
    elif error.validator == "required":
        for key in error.validator_value:
            if key not in error.instance:
                yield f"{where}: found no {key}, allowed: {allowed}"
    elif error.validator == "uniqueItems":
        yield f"{where}: found {_duplicates(error.instance)[0]!r} twice, allowed: {allowed}"
    else:
        found = "nothing" if error.instance is None else repr(error.instance)
        yield f"{where}: found {found}, allowed: {allowed}"


def schema_faults(config: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    """What the schema does not allow, one line each, in the order of the file."""
    errors = _StrictValidator(schema).iter_errors(config)
    ordered = sorted(errors, key=lambda error: [str(part) for part in error.absolute_path])
    return [line for error in ordered for line in _describe(error)]


def _address_faults(host: str, is_here: bool) -> Iterator[str]:
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        yield f"host: found {host!r}, allowed: a numeric IPv6 or IPv4 address"
        return
    if not is_here:  # of another host's addresses nothing is known here
        return
    try:
        address = socket.getaddrinfo(host, 0, family, socket.SOCK_STREAM)[0][4]
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.bind(address)
    except OSError as error:
        yield f"host: found {host!r}, allowed: an address of this machine ({error.strerror})"


def _cpu_faults(setting: str | Mapping[str, str | int], places: Mapping[str, Any]) -> Iterator[str]:
    """What cannot be right on any machine; whether a machine has these CPUs is seen on it."""
    if isinstance(setting, str):
        return
    sides = {}
    for side, text in setting.items():
        try:
            sides[side] = set(parse_cpu_list(str(text)))
        except ValueError as error:
            yield f"cpus.{side}: found {text!r} ({error}), allowed: a list as 0-3,8"
            return
    both = sides["server"] & sides["load"]
    hosts = {side for side in map(places.get, sides) if side and side.startswith("ssh:")}
    if both and not hosts:
        named = format_cpu_list(both)
        yield f"cpus: found CPU {named} for server and load, allowed: each for one of them"


def _external_faults(
    external: Mapping[str, Any], ours: Collection[str], root: Path
) -> Iterator[str]:
    for name, description in external.items():
        if name in ours:
            yield f"external.{name}: there is a servers/{name}.c already, allowed: another name"
        yield from description_faults(name, description, str(root))


def sweep_faults(
    config: Mapping[str, Any], servers_folder: Path, open_files_limit: int
) -> list[str]:
    """What a well-formed config asks for and this checkout or machine does not have, one line each."""
    ours = {path.stem for path in servers_folder.glob("*.c")}
    faults = list(_external_faults(config["external"], ours, servers_folder.parent))
    known = sorted((ours | set(config["external"])) - {CEILING})
    named = [(f"servers[{i}]", name) for i, name in enumerate(config["servers"])]
    named += [(f"cost.servers[{i}]", name) for i, name in enumerate(config["cost"]["servers"])]
    for where, name in [*named, ("control", config["control"])]:
        if name not in [*known, None]:
            faults.append(
                f"{where}: there is no servers/{name}.c and no external.{name}{_suggest(name, known)}, "
                f"allowed: {', '.join(known)}"
            )
        elif RESERVED.fullmatch(name or ""):
            faults.append(f"{where}: found {name!r}, but other results are named like that")
    most = open_files_limit - SPARE_DESCRIPTORS
    counts = [(f"connections[{i}]", count) for i, count in enumerate(config["connections"])]
    counts += [
        (f"cost.connections[{i}]", count) for i, count in enumerate(config["cost"]["connections"])
    ]
    for where, count in [*counts, ("profile.connections", config["profile"]["connections"])]:
        if count > most:
            faults.append(
                f"{where}: found {count}, allowed: at most {most}, since a process may open "
                f"{open_files_limit} files here (ulimit -Hn)"
            )
    faults += _cpu_faults(config["cpus"], config["network"])
    faults += network.faults(config["network"])
    is_here = (
        config["network"]["interface"] == network.LOOPBACK
        and config["network"]["server"] == network.HERE
    )
    return [*faults, *_address_faults(config["host"], is_here)]
