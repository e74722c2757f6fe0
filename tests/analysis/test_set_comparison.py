"""Two result sets, before and after a change: verdicts, drift, changed facts, and sets that cannot be compared."""

import copy
import csv
import functools
import itertools
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import compare_result_sets
import plot_compare
from analysis import result_sets, set_comparison, verdicts
from analysis.verdicts import (
    CPU_RATIO,
    EQUAL,
    FASTER,
    SLOWER,
    TAIL,
    THROUGHPUT,
    UNDECIDABLE,
    WHOLE_SWEEP,
)
from common import terminal
from helpers.checkouts import run_script, run_snakemake, snakemake
from helpers.made_up import CLIENT_BOUND, SHORT_CONNECTIONS, record
from sweep import records
from sweep.cells import Cell, record_path

pytestmark = pytest.mark.filterwarnings("error")

SERVERS = ["server_epoll", "server_poll", "server_select"]
CHANGED, CONTROL, OTHER = SERVERS
CPU = dict.fromkeys(["vendor", "family", "model", "variant", "stepping", "hypervisor", "governor"])
HOST = {
    "cpu": {**CPU, "model_name": "AMD EPYC", "cpus_allowed": 2, "microcode": "0x1"},
    "memory": {"memory_total_kib": 4000000, "numa_nodes": 1},
    "kernel": {"release": "6.1.0", "mitigations": {"meltdown": "Not affected"}},
    "system": {"libc": "glibc 2.36", "installation": "0123456789ab", "boot": "aa"},
    "limits": {"open_files": {"soft": 1024, "hard": 4096}},
    "sysctls": {"net.core.somaxconn": 4096},
    "tools": {"wrk": "4.1.0", "perf": "6.1"},
}
FACTS = {
    **HOST,
    "machine_id": "m0123abcd",
    "machine_label": "AMD EPYC (family 26), 2 CPUs, KVM, Linux 6.1.0",
    "load": None,
    "network": None,
    "build": {"compiler": "gcc", "flags": ["-O2", "-g"]},
    "source": {"commit": "a" * 40, "dirty": False},
}
ASKED = {"duration_s": 2.0, "warmup_s": 0.5, "host": "::1", "server_cpus": None, "cpus": None}
Factors = dict[str, float]


def facts_with(**changes: Any) -> dict[str, Any]:
    """FACTS with values replaced, by names with __ for dots."""
    facts = copy.deepcopy(FACTS)
    for name, value in changes.items():
        *groups, last = name.split("__")
        group = facts
        for part in groups:
            group = group[part]  # type: ignore[assignment]
        group[last] = value
    return facts


def result_set(
    seed: int,
    factors: Factors | None = None,
    changed: Iterable[str] = (),
    servers: Iterable[str] = SERVERS,
    counts: Iterable[int] = (10, 100),
    repeats: int = 6,
) -> list[dict[str, Any]]:
    """Records of servers whose CPU time is multiplied by factors; changed: those with another binary than usual."""
    random = np.random.default_rng(seed)
    found = []
    for server, count, repeat in itertools.product(servers, counts, range(1, repeats + 1)):
        factor = (factors or {}).get(server, 1) * np.exp(0.01 * random.normal())
        found.append(
            record(
                repeat,
                server=server,
                connections=count,
                cpu_ratio=float(factor),
                throughput_ratio=1 / float(factor),
                started=f"2026-01-01T{seed:02}:00:00.{repeat:03}+00:00",
                sweep=f"2026-01-01T{seed:02}:00:00.000+00:00",
                machine="m0123abcd",
                binary_sha256=f"{server}{seed if server in changed else ''}",
                reference_sha256="0123abcd",
                facts=FACTS,
                asked=ASKED,
            )
        )
    return found


def compared(
    baseline: list[dict[str, Any]], current: list[dict[str, Any]], other_machine: str | None = None
) -> compare_result_sets.Comparison:
    sets = set_comparison.of_one_machine(baseline, current, other_machine)
    return compare_result_sets.compare(set_comparison.in_common(sets))


def row(
    table: pd.DataFrame, server: str, metric: str = CPU_RATIO, connections: Any = WHOLE_SWEEP
) -> "pd.Series[Any]":
    wanted = (table["server"] == server) & (table["metric"] == metric)
    wanted &= table["connections"] == connections
    assert wanted.sum() == 1
    return table[wanted].iloc[0]


@pytest.mark.simulation
def test_equal_servers_that_were_compiled_anew_raise_a_false_alarm_in_few_comparisons() -> None:
    alarms = sum(
        set_comparison.status_of(
            compared(result_set(2 * n), result_set(2 * n + 1, changed=[CHANGED])).table
        )
        == set_comparison.GOT_SLOWER
        for n in range(40)
    )
    # Two metrics that say the same here, at two levels: at most about 10 %.
    assert alarms <= stats.binom.ppf(0.99, 40, 0.1)


# Verdicts, and what they rest on


@pytest.mark.parametrize(
    ("factor", "verdict", "status"), [(1.2, SLOWER, set_comparison.GOT_SLOWER), (0.8, FASTER, 0)]
)
def test_a_changed_server_that_got_slower_or_faster(
    factor: float, verdict: str, status: int
) -> None:
    it = compared(result_set(1), result_set(2, {CHANGED: factor}, [CHANGED]))
    assert row(it.table, CHANGED)["verdict"] == verdict
    assert row(it.table, CHANGED, THROUGHPUT, 100)["verdict"] == verdict
    assert row(it.table, CHANGED)["binary"] == "changed"
    assert set(it.table.loc[it.table["binary"] == "same", "verdict"]) == {EQUAL}
    assert set_comparison.status_of(it.table) == status
    assert f"{verdict}: {CHANGED}, CPU time" in "\n".join(it.notes)


def test_the_same_binary_that_differs_casts_doubt_on_all_others() -> None:
    old = result_set(1)
    it = compared(old, result_set(2, {CHANGED: 1.10, CONTROL: 1.12}, [CHANGED]))
    assert row(it.table, CONTROL)["verdict"] == "drift"
    assert row(it.table, CHANGED)["verdict"] == SLOWER
    doubt = f"{CONTROL} has the same binary in both sets, but its CPU time differs"
    assert doubt in "\n".join(it.notes)
    assert set_comparison.status_of(compared(old, result_set(2, {CONTROL: 1.12})).table) == 0


OTHER_KERNEL = facts_with(kernel__release="6.12.0", machine_id="m99")


@pytest.mark.parametrize(
    ("changes", "fact", "baseline", "current"),
    [
        ({"reference_sha256": "4567cdef"}, "reference", "0123abcd", "4567cdef"),
        ({"facts": OTHER_KERNEL, "machine": "m99"}, "kernel.release", "6.1.0", "6.12.0"),
    ],
)
def test_where_the_environment_changed_the_same_binary_shows_it(
    changes: dict[str, Any], fact: str, baseline: str, current: str
) -> None:
    new = [{**it, **changes} for it in result_set(2, {CONTROL: 1.2, OTHER: 1.4})]
    it = compared(result_set(1), new)
    assert row(it.table, CONTROL)["verdict"] == SLOWER
    assert row(it.table, CONTROL)["binary"] == "same"
    assert it.table["noise_floor_percent"].isna().all()
    assert it.facts.to_numpy().tolist() == [["environment", fact, baseline, current]]
    assert list(it.facts.columns) == ["kind", "fact", "baseline", "current"]
    assert "The environment changed" in "\n".join(it.notes)


def test_a_sets_own_control_is_a_floor_whatever_changed() -> None:
    names = [CHANGED, f"{CHANGED}_control"]
    old = result_set(1, {names[1]: 1.3}, names, names)
    it = compared(old, result_set(2, {CHANGED: 1.2, names[1]: 1.2}, names, names))
    assert set(it.table["server"]) == {CHANGED}
    assert row(it.table, CHANGED)["noise_floor_percent"] == pytest.approx(30, abs=2)
    assert row(it.table, CHANGED)["verdict"] == EQUAL


def test_controls_of_different_servers_are_floors_each_of_its_own_set() -> None:
    old, new = result_set(1, servers=[*SERVERS, f"{CONTROL}_control"]), result_set(2)
    new += result_set(2, {f"{OTHER}_control": 1.3}, servers=[f"{OTHER}_control"])
    it = compared(old, new)
    assert row(it.table, CHANGED)["noise_floor_percent"] == pytest.approx(30, abs=2)
    assert not any("alone" in note for note in it.notes)


def test_measurements_that_are_in_both_sets_are_not_compared_with_themselves() -> None:
    old = result_set(1)
    new = [it for it in old if it["server"] != CHANGED]
    new += result_set(2, {CHANGED: 1.2}, [CHANGED], [CHANGED])
    it = compared(old, new)
    assert row(it.table, CONTROL)["verdict"] == UNDECIDABLE
    assert set_comparison.SAME_RUNS in row(it.table, CONTROL)["reason"]


STARVING = {"unserved_connections": 3}
INVALID = {"status": "invalid", "flags": ["errors"]}


@pytest.mark.parametrize(
    ("changes", "metric", "reason"),
    [
        (STARVING, CPU_RATIO, "starving (another workload)"),
        (SHORT_CONNECTIONS, CPU_RATIO, verdicts.OTHER_WORKLOAD),
        (INVALID, CPU_RATIO, f"no valid cells of {CHANGED}"),
        (CLIENT_BOUND, THROUGHPUT, verdicts.LOWER_BOUND),
    ],
)
def test_what_cannot_be_compared_says_why(
    changes: dict[str, Any], metric: str, reason: str
) -> None:
    slow = result_set(2, {CHANGED: 1.3}, [CHANGED], [CHANGED])
    table = compared(result_set(1), [{**it, **changes} for it in slow]).table
    for connections in (WHOLE_SWEEP, 10):
        it = row(table, CHANGED, metric, connections)
        assert it["verdict"] == UNDECIDABLE
        assert reason in it["reason"]


def test_throughput_is_not_compared_where_wrk_was_the_limit_in_both() -> None:
    old, new = result_set(1), result_set(2, {CHANGED: 1.3}, [CHANGED])
    limited = [[{**it, **CLIENT_BOUND} for it in found] for found in (old, new)]
    table = compared(*limited).table
    assert "wrk was the limit in both" in row(table, CHANGED, THROUGHPUT)["reason"]
    assert row(table, CHANGED, CPU_RATIO)["verdict"] == SLOWER
    assert row(table, CONTROL, THROUGHPUT)["verdict"] == EQUAL  # it shows the drift all the same


def test_one_repeat_decides_nothing_and_the_status_says_so() -> None:
    table = compared(result_set(1, repeats=1), result_set(2, {CHANGED: 2}, [CHANGED])).table
    assert row(table, CHANGED)["reason"] == verdicts.NO_NOISE
    assert set_comparison.status_of(table) == set_comparison.NOTHING_DECIDED


def test_only_what_both_sets_have_is_compared_and_the_rest_is_named() -> None:
    it = compared(
        result_set(1, servers=SERVERS[:2]), result_set(2, counts=(10, 50), servers=SERVERS[1:])
    )
    assert set(it.table["server"]) == {CONTROL}
    assert set(it.table["connections"]) == {WHOLE_SWEEP, 10}
    assert f"Only the baseline set has servers {CHANGED}." in it.notes
    assert "Only the current set has connections 50." in it.notes
    with pytest.raises(
        result_sets.NoComparison, match="no servers in common: the baseline has server_epoll"
    ):
        compared(result_set(1, servers=[CHANGED]), result_set(2, servers=[CONTROL]))


# Machines and facts


OTHER_CPU = facts_with(cpu__model_name="Intel Xeon", machine_id="m77")


def test_another_machine_is_refused_unless_it_is_named() -> None:
    old = [{**it, "facts": OTHER_CPU, "machine": "m77"} for it in result_set(1)]
    with pytest.raises(
        result_sets.NoComparison, match=r"another machine, m77 .* other_machine=m77"
    ):
        compared(old, result_set(2))
    with pytest.raises(result_sets.NoComparison, match="has no machine m1, it has m77"):
        compared(old, result_set(2), "m1")
    it = compared(old, result_set(2, {CHANGED: 1.5}), "m77")
    assert row(it.table, CHANGED)["verdict"] == SLOWER
    assert any(note.startswith("Two machines: m77") for note in it.notes)
    assert "cpu.model_name" in set(it.facts["fact"])


def test_of_several_machines_the_baselines_own_is_compared() -> None:
    elsewhere = [{**it, "facts": OTHER_CPU, "machine": "m77"} for it in result_set(1)]
    it = compared([*elsewhere, *result_set(3, counts=[10])], result_set(2))
    assert set(it.table["machine_baseline"]) == {"m0123abcd"}
    assert "36 cells of other machines in the baseline set are not compared." in it.notes


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        ({"kernel__release": "6.12.0"}, True),
        ({"cpu__microcode": "0x2"}, True),
        ({"memory__memory_total_kib": 4000100}, True),
        ({"system__installation": None}, True),
        ({"system__installation": "ffff"}, False),
        ({"memory__memory_total_kib": 9000000}, False),
        ({"cpu__cpus_allowed": 4}, False),
        ({"load": HOST}, False),
    ],
)
def test_a_machine_is_its_hardware_and_installation(change: dict[str, Any], is_same: bool) -> None:
    assert result_sets.is_same_machine(FACTS, facts_with(**change)) == is_same


def changed_facts(current: dict[str, Any], **changes: Any) -> dict[str, str]:
    new = [{**it, "facts": current, **changes} for it in result_set(2)]
    return {row["fact"]: row["kind"] for row in result_sets.changes(result_set(1), new)}


def test_facts_that_changed_are_of_the_source_or_of_the_environment() -> None:
    facts = facts_with(
        build__flags=["-O3"],
        source__commit="b" * 40,
        cpu__governor="performance",
        sysctls={"net.core.somaxconn": 128},
        tools__wrk="4.2.0",
        network={"interface": "eth0"},
    )
    expected = dict.fromkeys(["build.flags", "source.commit"], "source")
    names = ["cpu.governor", "sysctls.net.core.somaxconn", "tools.wrk", "network.interface"]
    names += ["asked.duration_s", *(f"workers.{server}" for server in SERVERS)]
    expected |= dict.fromkeys(names, "environment")
    asked = {**ASKED, "duration_s": 1.0}
    assert changed_facts(facts, asked=asked, workers=4) == expected


def test_facts_that_change_by_themselves_or_measure_nothing_are_no_change() -> None:
    facts = facts_with(
        system__boot="bb",
        limits={"open_files": {"soft": 99, "hard": 99}},
        memory__memory_total_kib=4000100,
        tools__perf="6.12",
        machine_id="m1",
        machine_label="else",
    )
    assert changed_facts(facts) == {}


def test_long_facts_are_cut_to_where_they_differ() -> None:
    old, new = "-O2 " + "-fno-something " * 9 + "-O1", "-O2 " + "-fno-something " * 9 + "-O3"
    assert result_sets.shorten(old, new) == ("… -O1", "… -O3")
    assert result_sets.shorten("6.1", "6.12") == ("6.1", "6.12")


# Workloads


def in_workload(found: list[dict[str, Any]], name: str, decided_by: str) -> list[dict[str, Any]]:
    """The same records of another workload, whose figure is what cpu_ratio is in the others."""
    asked = {**ASKED, "workload": {"decided_by": decided_by}}
    figures = {"cpu_ratio": None, "throughput_ratio": None}
    return [
        {**it, "workload": name, "asked": asked, **figures, decided_by: 1000 * it["cpu_ratio"]}
        for it in found
    ]


def test_workloads_are_compared_one_by_one() -> None:
    """A server that got slower in one, and in another nothing: at the same numbers of connections."""
    slow = result_set(2, {CHANGED: 1.3}, [CHANGED])
    same = in_workload(result_set(4, changed=[CHANGED]), "mine", TAIL)
    old = result_set(1) + in_workload(result_set(3), "mine", TAIL)
    it = compared(old, slow + same)
    its = it.table[(it.table["server"] == CHANGED) & (it.table["connections"] == WHOLE_SWEEP)]
    verdicts = zip(its["workload"], its["metric"], its["verdict"], strict=True)
    assert list(verdicts) == [
        ("keepalive", CPU_RATIO, "slower"),
        ("keepalive", THROUGHPUT, "slower"),
        ("mine", TAIL, "no difference"),
    ]
    alone = compared(result_set(1), slow).table
    columns = [name for name in alone if name != "reason"]
    mixed = it.table[it.table["workload"] == "keepalive"].reset_index(drop=True)
    pd.testing.assert_frame_equal(mixed[columns], alone[columns])
    told = terminal.format_text(compare_result_sets.tabulate(it))
    assert "99th percentile in mine" in told


def test_a_workload_of_one_set_alone_is_told_and_left_out() -> None:
    new = result_set(2) + in_workload(result_set(4), "mine", TAIL)
    it = compared(result_set(1), new)
    assert set(it.table["workload"]) == {"keepalive"}
    assert "Only the current set has workloads mine." in it.notes
    with pytest.raises(result_sets.NoComparison, match="no workloads in common"):
        compared(result_set(1), in_workload(result_set(4), "mine", TAIL))


# Folders


def write(folder: Path, found: list[dict[str, Any]]) -> Path:
    for it in found:
        cell = Cell(it["server"], it["connections"], it["repeat"], it["workload"])
        path = folder / record_path(cell)
        records.write(str(path), {**it, "schema_version": records.SCHEMA_VERSION})
    return folder


run = functools.partial(run_script, "compare_result_sets.py")


def test_by_hand_status_3_says_that_something_got_slower(tmp_path: Path) -> None:
    old = write(tmp_path / "old", result_set(1))
    new = write(tmp_path / "new", result_set(2, {CHANGED: 1.3}, [CHANGED]))
    outputs = ["--table", tmp_path / "a.csv", "--facts", tmp_path / "b.csv"]
    slower = run(old, new / "results", *outputs)
    assert slower.returncode == 3, slower.stderr
    assert slower.stdout.endswith("Got slower: server_epoll.\n")
    assert run(new, old).returncode == 0
    table = pd.read_csv(tmp_path / "a.csv", dtype={"connections": str})
    assert list(table.columns) == set_comparison.COLUMNS
    assert set_comparison.status_of(table) == 3
    narrowed = run(old, new, "--servers", CONTROL, OTHER, "--points", '{"keepalive": [[10], 9]}')
    assert narrowed.returncode == 0
    assert CHANGED not in narrowed.stdout.partition("\n\n")[0]


def with_key(name: str, value: Any) -> Any:
    return lambda path: records.write(str(path), {**records.read(str(path)), name: value})


def test_sets_of_different_versions_are_not_compared(tmp_path: Path) -> None:
    old, new = (write(tmp_path / name, result_set(1)) for name in ("old", "new"))
    for path in old.glob("results/cells/*/*/*.json"):
        with_key("schema_version", records.SCHEMA_VERSION - 1)(path)
    refused = run(old, new)
    assert refused.returncode == 1
    assert "schema versions 6 and 7, whose ratios do not compare" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


DAMAGES: dict[str, tuple[Any, str]] = {
    "edited": (
        lambda path: path.write_text(path.read_text().replace("ok", "invalid")),
        "has been changed",
    ),
    "a list for a version": (lambda path: path.write_text('{"schema_version": []}'), ""),
    "another version": (with_key("schema_version", 1), "is of schema version 1"),
    "another cell's": (with_key("server", "../../etc/passwd"), "is of another cell"),
    "a text": (with_key("requests_per_second", "9$^{$"), "requests_per_second is"),
    "no facts": (with_key("facts", {"cpu": 3}), "lacks facts of its machine"),
    "flags": (with_key("flags", ["\033[2J"]), "flags is"),
    "too large": (lambda path: path.write_text(" " * 2**25), "is too large"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_record_of_the_baseline_is_one_line(name: str, tmp_path: Path) -> None:
    damage, message = DAMAGES[name]
    old = write(tmp_path / "old", result_set(1, repeats=3, counts=[10]))
    path = old / "results/cells/keepalive/server_poll/c10_r2.json"
    damage(path)
    with pytest.raises(result_sets.NoComparison, match="measure that set again") as fault:
        result_sets.read(result_sets.results_folder(str(old)))
    assert str(path) in str(fault.value) or not message
    assert message in str(fault.value)
    assert "\n" not in str(fault.value)


def test_what_is_no_record_by_its_name_is_not_read(tmp_path: Path) -> None:
    old = write(tmp_path, result_set(1, repeats=3, counts=[10]))
    cells = old / "results/cells/keepalive"
    for name in ("server_poll/c10_r1.json.bak", "server_poll/c1_r0.json", "$x$/c1_r1.json"):
        (cells / name).parent.mkdir(exist_ok=True)
        (cells / name).write_text("{")
    (cells / "server_poll/c9_r9.json").mkdir()
    assert len(result_sets.read(old / "results")) == 9


def test_facts_cannot_write_on_a_terminal_or_in_mathematics(tmp_path: Path) -> None:
    facts = facts_with(kernel__release="\033[2J$\\frac{$\n")
    new = [{**it, "facts": facts} for it in result_set(2)]
    it = compared(result_set(1), new)
    assert "\033" not in terminal.format_text(compare_result_sets.tabulate(it))
    assert "changed: kernel.release: 6.1.0 -> ?[2J$\\frac{$?" in it.notes
    plot_compare.draw(it.table, it.facts, str(tmp_path / "a.svg"))


@pytest.mark.parametrize("kind", ["missing", "empty", "itself"])
def test_a_folder_that_is_no_baseline_is_one_line(kind: str, tmp_path: Path) -> None:
    new = write(tmp_path / "new", result_set(2, repeats=3, counts=[10]))
    (tmp_path / "empty/results/cells").mkdir(parents=True)
    messages = {
        "missing": "no folder with results/cells in it",
        "empty": "no records",
        "itself": "the baseline is the current set itself",
    }
    found = run(new / "results" if kind == "itself" else tmp_path / kind, new)
    assert found.returncode == 1
    assert messages[kind] in found.stderr
    assert found.stderr.count("\n") == 1
    assert not found.stdout


# The picture and the workflow


@pytest.mark.parametrize("case", ["slower", "drift", "nothing comparable"])
def test_every_comparison_has_a_picture(case: str, tmp_path: Path) -> None:
    new = {
        "slower": result_set(2, {CHANGED: 1.3}, [CHANGED]),
        "drift": result_set(2, {CONTROL: 1.3}),
        "nothing comparable": [{**it, **INVALID} for it in result_set(2)],
    }[case]
    control = f"{OTHER}_control"
    it = compared(result_set(1), new + result_set(3, servers=[control, OTHER])[:12])
    plot_compare.draw(it.table, it.facts, str(tmp_path / "a.png"))
    assert (tmp_path / "a.png").stat().st_size > 5000
    notes = "\n".join(plot_compare.notes_of(it.table, it.facts))
    assert ("Grey band" in notes) == (case != "nothing comparable")


OVERLAY = """
servers: [server_epoll, server_poll, server_select]
workloads: [keepalive]
connections: [10, 100]
repeats: 6
control: null
"""


def test_the_target_compares_without_measuring_and_its_status_is_for_ci(checkout: Path) -> None:
    write(checkout / "old", result_set(1))
    slow = result_set(2, {CHANGED: 1.3}, [CHANGED])
    write(checkout / "new", slow)
    shutil.rmtree(checkout / "old/results/cells/keepalive/server_select")
    (checkout / "small.yaml").write_text(OVERLAY)
    options = ["--directory", "new", "--configfile", "small.yaml"]
    found = run_snakemake(checkout, "compare", *options, "--config", "baseline=old")
    assert found.returncode == 3, found.stdout
    assert "Got slower: server_epoll." in found.stdout
    assert "measure_cell" not in found.stdout
    with open(checkout / "new/results/compare.csv") as file:
        assert {it["server"] for it in csv.DictReader(file)} == {CHANGED, CONTROL}
    assert (checkout / "new/plots/compare.svg").exists()


def test_a_server_is_the_same_binary_wherever_it_is_compiled(checkout: Path) -> None:
    binaries = []
    for folder in (".", "build/after"):
        snakemake(checkout, "results/bin/reference", "--directory", folder)
        binaries.append((checkout / folder / "results/bin/reference").read_bytes())
    assert binaries[0] == binaries[1]
    assert str(checkout).encode() not in binaries[0]


def test_changed_server_of_which_nothing_is_known_is_no_success() -> None:
    rows = [("server_epoll", "same", "no difference")]
    rows += [("server_poll", "changed", "not decidable here")]
    table = pd.DataFrame(rows, columns=["server", "binary", "verdict"])
    assert set_comparison.status_of(table) == set_comparison.NOTHING_DECIDED
    assert set_comparison.status_of(table.assign(binary="same")) == 0
    decided = pd.concat([table, table.tail(1).assign(verdict="no difference")], ignore_index=True)
    assert set_comparison.status_of(decided) == 0
