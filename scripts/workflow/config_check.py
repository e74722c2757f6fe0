"""Check config.yaml: a line for each fault says where it is, what was found and what is allowed."""

import difflib
import ipaddress
import math
import re
import resource
import sys
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError

from hosts import network
from hosts.cpus import format_cpu_list, parse_cpu_list
from hosts.proc import SPARE_DESCRIPTORS
from instruments.external import description_faults
from sweep import rates, workloads
from sweep.cells import CONTROL_SUFFIX, LOAD, REFERENCE, points_of

# Names of other pictures in plots/, of the control and of the reference.
RESERVED = re.compile(
    f"overview.*|map|ranking|latency|syscalls(_.*)?|compare|.*_flamegraph(_.*)?|.*{CONTROL_SUFFIX}|{REFERENCE}|{LOAD}"
)
MOST_IDLE_S = 10
# Of a run at a rate: what the generator takes, and what has a 99th percentile at all.
MOST_REQUESTS, LEAST_REQUESTS = 20_000_000, 10
MOST_BYTES = 4 << 30
# Keys of earlier versions → what to use instead.
REPLACED = {
    "ceiling_repeats": "the paired phase of each cell measures the reference (paired_s)",
    "cost": "each cell has a ratio to the reference (cpu_ratio in results/summary.csv); nginx, h2o and lighttpd:"
    " demo/yardsticks.yaml",
    "isolate": "before a sweep run `sudo pipx run pyperf system tune` (what it sets, and what it does not:"
    " docs/doctor.md)",
}


# JSON accepts 5.0 as an integer and YAML accepts .nan; neither is a valid number of cells or seconds.
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


def _describe(error: ValidationError) -> Iterator[str]:
    assert isinstance(error.schema, dict)
    where = _where(list(error.absolute_path))
    allowed = error.schema.get("description", "")
    if error.validator == "additionalProperties":
        known = list(error.schema["properties"])
        for key in error.instance:
            if key in REPLACED and not error.absolute_path:
                yield f"{key}: this key no longer exists, delete it: {REPLACED[key]}"
            elif key not in known:
                name = _where([*error.absolute_path, key])
                yield f"{name}: unknown key{_suggest(key, known)}, allowed: {', '.join(known)}"
    elif error.validator == "required":
        for key in error.validator_value:
            if key not in error.instance:
                yield f"{where}: found no {key}, allowed: {allowed}"
    elif error.validator == "uniqueItems":
        values = error.instance
        twice = next(value for index, value in enumerate(values) if value in values[:index])
        yield f"{where}: found {twice!r} twice, allowed: {allowed}"
    else:
        found = "nothing" if error.instance is None else repr(error.instance)
        yield f"{where}: found {found}, allowed: {allowed}"


def _repeated_keys(node: yaml.Node, path: Sequence[str | int] = ()) -> Iterator[str]:
    """A line for each key that occurs twice: YAML and Snakemake silently use the last."""
    if isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _repeated_keys(value, [*path, index])
    elif isinstance(node, yaml.MappingNode):
        lines: dict[Hashable, int] = {}
        for key, value in node.value:
            place = [*path, str(key.value)]
            line = key.start_mark.line + 1
            name = (key.tag, str(key.value))
            if name in lines:
                both = f"lines {lines[name]} and {line}" if line != lines[name] else f"line {line}"
                yield f"{_where(place)}: found twice, in {both}, allowed: once"
            lines[name] = line
            yield from _repeated_keys(value, place)


def _faults_of_file(path: str) -> Iterator[str]:
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
        node = yaml.compose(text, yaml.SafeLoader)
    except FileNotFoundError:
        yield "there is no such file (all words after --configfile are files: put targets before it)"
    except OSError as error:
        yield str(error.strerror)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start]
        yield f"line {line}: byte 0x{byte:02x} is not UTF-8: save the file as UTF-8"
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}: " if mark else ""
        yield f"{place}not YAML: {error.problem or error.context}"
    except yaml.YAMLError as error:
        yield f"not YAML: {' '.join(str(error).split())}"
    else:
        if not isinstance(node, yaml.MappingNode):
            yield "found no keys, allowed: those of config.yaml"
        else:
            yield from _repeated_keys(node)


def file_faults(paths: Mapping[str, str]) -> list[str]:
    """Faults because of which Snakemake would not read a file, or misread it. paths: by the names to show."""
    return [f"{name}: {fault}" for name, path in paths.items() for fault in _faults_of_file(path)]


def schema_faults(config: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    """A line for each value that the schema does not allow, in the order of the file."""
    errors = _StrictValidator(schema).iter_errors(config)
    ordered = sorted(errors, key=lambda error: [str(part) for part in error.absolute_path])
    return [line for error in ordered for line in _describe(error)]


def _cpu_faults(setting: str | Mapping[str, str | int], places: Mapping[str, Any]) -> Iterator[str]:
    """Faults on every machine; only the machine itself knows whether it has these CPUs."""
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


def _workload_faults(config: Mapping[str, Any]) -> Iterator[str]:
    """What a workload's parameters contradict."""
    entries = config["workloads"]
    names = [
        its if isinstance(its, str) else its["name"] for its in entries if isinstance(entries, list)
    ]
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        yield f"workloads: found {name} twice, allowed: once"
    known = list(workloads.of_config(config))
    for i, name in enumerate(config["profile"]["workloads"] or []):
        if name not in known:
            yield (
                f"profile.workloads[{i}]: found {name!r}, which is not in workloads{_suggest(name, known)},"
                f" allowed: {', '.join(known)}"
            )
    for name, its in workloads.of_config(config).items():
        where, run_s = f"workloads.{name}", workloads.setting_of(config, name, "duration_s")
        if name not in workloads.BUILT_IN and its == workloads.Workload():
            known = list(workloads.BUILT_IN)
            yield (
                f"{where}: found no parameters{_suggest(name, known)}, allowed: with parameters, or one of"
                f" {', '.join(known)}"
            )
        if its.handler_every > 1 and not its.handler_s:
            yield (
                f"{where}.handler_every: found {its.handler_every} without handler_block_us or handler_burn_us,"
                " allowed: with one of them"
            )
        if its.handler_s * 2 > run_s:
            yield (
                f"{where}: its handler takes {its.handler_s:g} s for one request, and a run lasts {run_s:g} s,"
                " allowed: at most half of it (duration_s)"
            )
        if its.pipelined > 1 and its.connection_per_request:
            yield f"{where}: found pipelined and connection_per_request, allowed: one of them"
        idle_s = its.idle_connections * its.handler_s / its.handler_every
        if idle_s > MOST_IDLE_S:
            yield (
                f"{where}: the handler would take {idle_s:g} s to serve all idle connections,"
                f" allowed: at most {MOST_IDLE_S} s"
            )
        if its.body_bytes * max(workloads.setting_of(config, name, "connections")) > MOST_BYTES:
            yield (
                f"{where}.body_bytes: found {its.body_bytes}, which times its connections is more than"
                f" {MOST_BYTES >> 30} GiB under way, allowed: fewer"
            )


def _latency_faults(config: Mapping[str, Any], open_files_limit: int) -> Iterator[str]:
    """What an open loop cannot do, or has no cells to take a capacity from."""
    latency, found = config["latency"], workloads.of_config(config)
    able = [name for name, its in found.items() if rates.can_be_rated(its)]
    for name in latency["workloads"] or []:
        if name not in found:
            known = list(found)
            yield (
                f"latency.workloads: found {name!r}, which is not in workloads{_suggest(name, known)}, allowed:"
                f" {', '.join(known)}"
            )
        elif not rates.can_be_rated(found[name]):
            yield (
                f"latency.workloads: found {name!r}, whose connections do not stay or have several requests at once,"
                f" allowed: {', '.join(able) or 'none of workloads'}"
            )
    connections = latency["connections"]
    for name in rates.workloads_of(config) if connections and not latency["rates"] else []:
        counts = points_of(config)[name][0] if name in found else [connections]
        if connections not in counts:
            yield (
                f"latency.connections: found {connections}, at which {name} has no cells that tell its capacity,"
                f" allowed: {', '.join(map(str, counts))}, or rates"
            )
    # The generator holds connections to the reference too.
    files = (2 if latency["paired_s"] else 1) * (connections or 0) + SPARE_DESCRIPTORS
    if connections and files > open_files_limit:
        yield (
            f"latency.connections: found {connections}, which takes {files} open files, allowed: {open_files_limit}"
            " (ulimit -Hn)"
        )
    names = rates.rate_names(latency)
    if len(set(names)) < len(names):
        yield "latency.shares: found two that are the same to six digits, allowed: different ones"
    most = max(latency["rates"] or [0]) * latency["duration_s"]
    if most > MOST_REQUESTS:
        yield (
            f"latency.rates: found {max(latency['rates'])}, which makes {most:,.0f} requests in a run, allowed: at most"
            f" {MOST_REQUESTS:,}"
        )
    fewest = min(latency["rates"] or [math.inf])
    if fewest * latency["duration_s"] < LEAST_REQUESTS:
        yield (
            f"latency.rates: found {fewest} in a run of {latency['duration_s']:g} s, which is fewer than"
            f" {LEAST_REQUESTS} requests, allowed: more, or a longer latency.duration_s"
        )


def sweep_faults(
    config: Mapping[str, Any], servers_folder: Path, open_files_limit: int
) -> list[str]:
    """A line for each thing that a well-formed config names and this checkout or machine lacks."""
    ours = {path.stem for path in servers_folder.glob("*.c")}
    faults = []
    for name, description in config["external"].items():
        if name in ours:
            faults.append(
                f"external.{name}: there is a servers/{name}.c already, allowed: another name"
            )
        faults += description_faults(name, description, str(servers_folder.parent))
    known = sorted((ours | set(config["external"])) - {REFERENCE})
    named = [(f"servers[{i}]", name) for i, name in enumerate(config["servers"])]
    for where, name in [*named, ("control", config["control"])]:
        # A tag may have a control's name, too.
        if any(map(RESERVED.fullmatch, [name or "", (name or "").partition("@")[0]])):
            faults.append(f"{where}: found {name!r}, but other results have names like that")
        elif "@" in (name or ""):  # git checks later whether that revision has the server
            if name.partition("@")[0] in config["external"]:
                faults.append(f"{where}: found {name!r}, but an external server has no revisions")
        elif name not in [*known, None]:
            faults.append(
                f"{where}: there is no servers/{name}.c and no external.{name}{_suggest(name, known)}, "
                f"allowed: {', '.join(known)}"
            )
    faults += _workload_faults(config)
    faults += _latency_faults(config, open_files_limit)
    most = open_files_limit - SPARE_DESCRIPTORS
    counts = [(f"connections[{i}]", count) for i, count in enumerate(config["connections"])]
    counts += [
        (f"workloads.{name}.connections[{i}]", count)
        for name, its in workloads.parameters_of(config).items()
        for i, count in enumerate(its.get("connections", []))
    ]
    counts.append(("profile.connections", config["profile"]["connections"]))
    for where, count in counts:
        if count > most:
            faults.append(
                f"{where}: found {count}, which takes {count + SPARE_DESCRIPTORS} open files, "
                f"allowed: {open_files_limit} (ulimit -Hn)"
            )
    faults += _cpu_faults(config["cpus"], config["network"])
    faults += network.faults(config["network"])
    try:
        ipaddress.ip_address(config["host"])
    except ValueError:
        faults.append(f"host: found {config['host']!r}, allowed: a numeric IPv6 or IPv4 address")
    return faults


def complete(
    config: dict[str, Any], files: Mapping[str, str], has_words: bool, checkout: Path
) -> None:
    """Fill in what the config leaves out, or stop with one line for each fault before anything runs.

    It was read from `files`, as in file_faults, and where has_words also from the command line.
    """
    # Snakemake is not imported with this file, which is there to look at what Snakemake would fail on.
    from snakemake.utils import validate  # noqa: PLC0415

    if faults := file_faults(files):
        sys.exit("\n".join(faults))
    schema = checkout / "schemas/config.schema.yaml"
    faults = schema_faults(config, yaml.safe_load(schema.read_text(encoding="utf-8")))
    if not faults:
        validate(config, str(schema))
        hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        faults = sweep_faults(config, checkout / "servers", hard_limit)
    if faults:
        where = ", ".join([*files, *(["--config"] if has_words else [])])
        sys.exit("\n".join(f"{where}: {fault}" for fault in faults))
