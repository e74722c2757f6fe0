"""Wrong configs: one line that names the key, what was found and what is allowed; nothing is run."""

import copy
import resource
from pathlib import Path

import pytest
import yaml
from snakemake.common.configfile import load_configfile
from snakemake.utils import update_config

from helpers.checkouts import ROOT, run_snakemake
from workflow.config_check import file_faults, schema_faults, sweep_faults

SCHEMA = yaml.safe_load((ROOT / "schemas/config.schema.yaml").read_text())
DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text())

# What the overlay says, and what the one line must contain.
WRONG = {
    "unknown server": ("servers: [server_epol]", ["servers[0]", "server_epol", "'server_epoll'"]),
    "a name with capitals": (
        "servers: [Epoll]",
        ["servers[0]", "'Epoll'", "lower-case", "_ and -"],
    ),
    "a path as server": ("servers: [../evil]", ["servers[0]", "'../evil'", "servers/NAME.c"]),
    "no servers": ("servers: []", ["servers", "[]", "one or more"]),
    "duplicate servers": (
        "servers: [server, server_poll, server]",
        ["servers", "'server' twice"],
    ),
    "no connections at all": ("connections: [1, 0]", ["connections[1]", "found 0", "1 or more"]),
    "duplicate connections": ("connections: [10, 10]", ["connections", "10 twice"]),
    "fractional connections": ("connections: [1.5]", ["connections[0]", "1.5", "whole number"]),
    "a number where a list belongs": ("connections: 10", ["connections", "found 10", "a list"]),
    "a list where a number belongs": ("repeats: [5]", ["repeats", "[5]", "whole number"]),
    "negative duration": ("duration_s: -2", ["duration_s", "-2", "0.1 to 3600"]),
    "text as duration": ("duration_s: 2 s", ["duration_s", "'2 s'", "number of seconds"]),
    "true as repeats": ("repeats: true", ["repeats", "True", "whole number"]),
    "nothing as repeats": ("repeats:", ["repeats", "found nothing", "whole number"]),
    "a float as repeats": ("repeats: 5.0", ["repeats", "5.0", "whole number"]),
    "floats as connections": ("connections: [10.0]", ["connections[0]", "10.0", "whole number"]),
    "not a number as duration": ("duration_s: .nan", ["duration_s", "nan", "0.1 to 3600"]),
    "too short a warm-up": ("warmup_s: 0.01", ["warmup_s", "0.01", "from 0.1"]),
    "misspelt key": ("conections: [1]", ["conections", "unknown key", "'connections'"]),
    "misspelt key of profile": (
        "profile: {conections: 1}",
        ["profile.conections", "unknown key", "'connections'"],
    ),
    "more connections than files may be open": (
        "connections: [100000000]",
        ["connections[0]", "100000000", "ulimit -Hn"],
    ),
    "more profile connections than files may be open": (
        "profile: {connections: 100000000}",
        ["profile.connections", "100000000", "ulimit -Hn"],
    ),
    "a profile of a workload that is not measured": (
        "workloads: [keepalive, body_128k]\nprofile: {workloads: [body_128k, body_128]}",
        ["profile.workloads[1]", "'body_128'", "'body_128k'", "keepalive, body_128k"],
    ),
    "no profiles": ("profile: {workloads: []}", ["profile.workloads", "[]", "one or more"]),
    "a host's name": ("host: localhost", ["host", "'localhost'", "numeric IPv6 or IPv4"]),
    "a shell command as compiler": (
        "compile: {compiler: gcc; true}",
        ["compile.compiler", "'gcc; true'"],
    ),
    "unknown control": ("control: server_pol", ["control", "server_pol", "'server_poll'"]),
    "the reference as a server": (
        "servers: [reference]",
        ["servers[0]", "'reference'", "have names"],
    ),
    "repeats of the ceiling, which is no more": (
        "ceiling_repeats: 1",
        ["ceiling_repeats", "no longer exists", "paired_s"],
    ),
    "the benchmark of cost, which is no more": (
        "cost: {servers: [nginx]}",
        ["cost:", "no longer exists", "cpu_ratio", "demo/yardsticks.yaml"],
    ),
    "settings of the machine, which another tool makes": (
        "isolate: {governor: performance}",
        ["isolate:", "no longer exists", "sudo pipx run pyperf system tune", "docs/doctor.md"],
    ),
    "settings of the machine as they were by default": (
        "isolate: {governor: null, turbo: null, transparent_huge_pages: null, swap: null,"
        " irq_affinity: null}",
        ["isolate:", "no longer exists", "sudo pipx run pyperf system tune", "docs/doctor.md"],
    ),
    "many retries": ("disturbed_retries: 99", ["disturbed_retries", "99", "0 to 20"]),
    "CPUs in words": ("cpus: all of them", ["cpus", "'all of them'", "0-3,8"]),
    "CPUs that are no list": (
        "cpus: {server: 0-, load: 1}",
        ["cpus", "'0-'", "0-3,8"],
    ),
    "CPUs of one side": ("cpus: {server: 0-1}", ["cpus", "{'server': '0-1'}", "load: CPUS"]),
    "CPUs backwards": (
        "cpus: {server: 3-1, load: 0}",
        ["cpus.server", "'3-1'", "ends before it begins"],
    ),
    "CPUs for both sides": (
        "cpus: {server: 1-3, load: '0,2-3'}",
        ["cpus", "CPU 2-3", "one of them"],
    ),
    "an unknown workload": (
        "workloads: [keepalive, idle_crowds]",
        ["workloads.idle_crowds", "no parameters", "'idle_crowd'", "connection_per_request"],
    ),
    "a workload twice": ("workloads: [keepalive, {name: keepalive}]", ["keepalive twice", "once"]),
    "no workloads": ("workloads: []", ["workloads", "[]", "one or more"]),
    "an unknown parameter": (
        "workloads: [{name: mine, body_byte: 5}]",
        ["workloads[0].body_byte", "unknown key", "'body_bytes'"],
    ),
    "an unknown parameter in a mapping": (
        "workloads: {mine: {body_byte: 5}}",
        ["workloads.mine.body_byte", "unknown key", "'body_bytes'"],
    ),
    "a workload without a name": (
        "workloads: [{body_bytes: 5}]",
        ["workloads[0]", "no name", "docs/workloads.md"],
    ),
    "a workload's name with capitals": (
        "workloads: [Mine]",
        ["workloads[0]", "'Mine'", "lower-case"],
    ),
    "an empty body": (
        "workloads: [{name: mine, body_bytes: 0}]",
        ["workloads[0].body_bytes", "found 0", "from 1 to 67108864"],
    ),
    "a body of 10 GB": (
        "workloads: [{name: mine, body_bytes: 10000000000}]",
        ["workloads[0].body_bytes", "10000000000", "from 1 to 67108864"],
    ),
    "bodies that take too much memory together": (
        "workloads: [{name: mine, body_bytes: 50000000, connections: [100]}]",
        ["workloads.mine.body_bytes", "50000000", "4 GiB"],
    ),
    "a wait longer than the run": (
        "workloads: [{name: mine, handler_block_us: 2000000, duration_s: 1}]",
        ["workloads.mine", "takes 2 s", "lasts 1 s", "duration_s"],
    ),
    "one of some without a handler": (
        "workloads: [{name: mine, handler_every: 10}]",
        ["workloads.mine.handler_every", "found 10", "handler_block_us or handler_burn_us"],
    ),
    "pipelined on connections of one request": (
        "workloads: [{name: mine, pipelined: 4, connection_per_request: true}]",
        ["workloads.mine", "pipelined and connection_per_request", "one of them"],
    ),
    "an idle crowd that takes too long to serve": (
        "workloads: [{name: mine, idle_connections: 10000, handler_burn_us: 10000}]",
        ["workloads.mine", "100 s", "idle connections", "10 s"],
    ),
    "more connections of a workload than files may be open": (
        "workloads: [{name: mine, body_bytes: 1, connections: [100000000]}]",
        ["workloads.mine.connections[0]", "100000000", "ulimit -Hn"],
    ),
    "a rate of an unknown workload": (
        "latency: {workloads: [keepalve]}",
        ["latency.workloads", "'keepalve'", "'keepalive'"],
    ),
    "a rate of connections that do not stay": (
        "latency: {workloads: [keepalive, connection_per_request]}",
        ["latency.workloads", "'connection_per_request'", "do not stay"],
    ),
    "a capacity at connections without cells": (
        "latency: {connections: 7}",
        ["latency.connections", "found 7", "keepalive", "1, 10, 50, 100, 500, 1000, or rates"],
    ),
    "more connections at a rate than files may be open": (
        "latency: {connections: 100000000, rates: [1000]}",
        ["latency.connections", "100000000", "ulimit -Hn"],
    ),
    "a share of nothing": ("latency: {shares: [0]}", ["latency.shares[0]", "found 0", "0.01"]),
    "no shares": ("latency: {shares: []}", ["latency.shares", "[]", "one or more"]),
    "no rate": ("latency: {rates: [0]}", ["latency.rates[0]", "found 0", "1 to 10000000"]),
    "a rate that nothing sends": (
        "latency: {rates: [1000000000]}",
        ["latency.rates[0]", "1000000000", "1 to 10000000"],
    ),
    "a rate that a run may have no request of": (
        "latency: {rates: [1, 1000], duration_s: 0.5}",
        ["latency.rates", "found 1 ", "0.5 s", "latency.duration_s"],
    ),
    "no time for an answer": (
        "latency: {target_ms: 0}",
        ["latency.target_ms", "found 0", "from 0.01 to 60000"],
    ),
    "many workers": ("workers: 9999", ["workers", "9999", "1 to 1024"]),
}
# Against the schema, against the servers that there are, and what is found only by trying.
STOPPED = {name: WRONG[name] for name in ("not a number as duration", "unknown server")}
STOPPED["a missing compiler"] = (
    "compile: {compiler: no-such-cc}",
    ["compile.compiler", "no-such-cc"],
)
STOPPED["a key twice"] = ("repeats: 1\nrepeats: 2", ["repeats", "twice", "lines 1 and 2"])


def faults_of(text: str, folder: Path) -> list[str]:
    """What config_check.complete() says of the defaults with this overlay."""
    (folder / "overlay.yaml").write_text(text + "\n")
    config = copy.deepcopy(DEFAULT)
    update_config(config, load_configfile(str(folder / "overlay.yaml")))
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return schema_faults(config, SCHEMA) or sweep_faults(config, ROOT / "servers", limit)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_config_gives_one_line(name: str, tmp_path: Path) -> None:
    text, expected = WRONG[name]
    (fault,) = faults_of(text, tmp_path)
    assert len(fault.splitlines()) == 1
    assert all(part in fault for part in expected), fault


@pytest.mark.parametrize("name", STOPPED)
def test_wrong_config_runs_nothing(name: str, tmp_path: Path) -> None:
    text, expected = STOPPED[name]
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(text + "\n")
    folder = tmp_path / "results here"
    run = run_snakemake(ROOT, "--directory", str(folder), "--configfile", str(overlay))
    assert run.returncode != 0
    lines = [line for line in run.stdout.splitlines() if any(part in line for part in expected)]
    assert len(lines) == 1, run.stdout
    assert all(part in lines[0] for part in expected), lines[0]
    assert "Traceback" not in run.stdout
    assert not (folder / "results").exists()


REPEATED = """\
repeats: 1
external:
  my-server: &mine {command: "true"}
  other:
    <<: *mine
    files: {a: x, a: y}
    <<: *mine
    command: "false"
repeats: 2
"""


def test_key_that_is_there_twice_is_named_with_its_lines(tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(REPEATED)
    assert file_faults({"overlay.yaml": str(overlay)}) == [
        "overlay.yaml: external.other.files.a: found twice, in line 6, allowed: once",
        "overlay.yaml: external.other.<<: found twice, in lines 5 and 7, allowed: once",
        "overlay.yaml: repeats: found twice, in lines 1 and 9, allowed: once",
    ]
    overlay.write_text('{"repeats": 1, "repeats": 1}')  # JSON too
    assert len(file_faults({"overlay.yaml": str(overlay)})) == 1
    assert file_faults({"config.yaml": str(ROOT / "config.yaml")}) == []


@pytest.mark.parametrize(
    "text",
    [
        "workloads: [keepalive, {name: mine, body_bytes: 1000, connections: [10]}]",
        "workloads: {keepalive: {}, mine: {handler_burn_us: 50, handler_every: 3}}",
        "workloads: [{name: slow_one_percent, handler_every: 1000}]",
        "workloads: [{name: mine, connection_per_request: true, idle_connections: 100}]",
        "workloads: [{name: mine, body_bytes: 5}]\nprofile: {workloads: [mine]}",
        "workloads: [{name: mine, body_bytes: 5}]\nlatency: {workloads: [mine], rates: [10]}",
        "workloads: [connection_per_request]",  # nothing can be rated; only who asks is told
    ],
)
def test_workloads_may_be_a_list_or_a_mapping_and_change_those_of_the_file(
    text: str, tmp_path: Path
) -> None:
    assert faults_of(text, tmp_path) == []


def test_names_may_have_hyphens(tmp_path: Path) -> None:
    (tmp_path / "my-server.c").touch()
    config = {**DEFAULT, "servers": ["my-server"], "control": "my-server"}
    assert schema_faults(config, SCHEMA) == []
    assert sweep_faults({**config, "external": {}}, tmp_path, open_files_limit=20000) == []


def test_every_fault_has_a_line() -> None:
    faults = schema_faults({"repeats": 0, "seed": "x", "wrong": 1}, SCHEMA)
    assert len(faults) == 3


def test_default_config_is_right_and_states_every_key() -> None:
    assert schema_faults(DEFAULT, SCHEMA) == []
    assert sweep_faults(DEFAULT, ROOT / "servers", open_files_limit=20000) == []
    assert set(DEFAULT) == set(SCHEMA["properties"])


@pytest.mark.parametrize("overlay", sorted(ROOT.glob("demo/*.yaml")), ids=lambda path: path.stem)
def test_overlay_that_the_docs_name_is_right(overlay: Path, tmp_path: Path) -> None:
    assert faults_of(overlay.read_text(), tmp_path) == []


def test_defaults_of_schema_are_those_of_the_file() -> None:
    # Descriptions of external servers are in the file alone: whoever deletes one wants none.
    ours = {key: value for key, value in DEFAULT.items() if key != "external"}

    def defaults(schema: dict) -> dict:
        return {
            key: defaults(part) if part.get("type") == "object" else part["default"]
            for key, part in schema["properties"].items()
            if key != "external"
        }

    # Whoever has a config of their own, from before there were workloads, measures what they did.
    assert defaults(SCHEMA) == {**ours, "workloads": ["keepalive"]}


def test_names_of_other_plots_are_reserved(tmp_path: Path) -> None:
    names = [
        "overview_cpu",
        "map",
        "server_flamegraph",
        "server_flamegraph_body_128k",
        "ranking",
        "syscalls",
        "syscalls_body_128k",
        "reference",
        "server_control",
    ]
    for name in names:
        (tmp_path / f"{name}.c").touch()
    config = {**DEFAULT, "servers": names, "control": None}
    assert len(sweep_faults(config, tmp_path, open_files_limit=20000)) == len(names)


def test_limit_of_open_files_leaves_room_for_other_files() -> None:
    def faults(connections: int) -> list[str]:
        config = {**DEFAULT, "connections": [connections]}
        return sweep_faults(config, ROOT / "servers", open_files_limit=1024)

    assert faults(960) == []
    assert len(faults(961)) == 1


def test_sides_on_two_hosts_may_have_cpus_of_the_same_numbers() -> None:
    config = {**DEFAULT, "cpus": {"server": "0-3", "load": "0-3"}}
    network = {**DEFAULT["network"], "interface": "lab0", "server": "ssh:far"}
    assert len(sweep_faults(config, ROOT / "servers", open_files_limit=20000)) == 1
    config["network"] = network
    assert sweep_faults(config, ROOT / "servers", open_files_limit=20000) == []
