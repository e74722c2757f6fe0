"""scripts/sweep/fields.py against records that were measured, the tables, and docs/results.md."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

import count_syscalls
from analysis import summary, verdicts
from common.files import DamagedFile
from helpers.checkouts import ROOT
from helpers.measured import compile_server, fake_server, measure
from sweep import fields, rows
from sweep.cells import Cell
from sweep.fields import Column, Field

ALL = (fields.CELLS, fields.RECORD, fields.PAIRED, fields.SUMMARY, fields.VERDICTS)
OF_RECORDS = [field for field in (*fields.CELLS, *fields.RECORD) if field.records != fields.DERIVED]
EVERY = {fields.REQUIRED, fields.ALWAYS}
TYPES: dict[str, tuple[type, ...]] = {
    fields.NAME: (str,),
    fields.TEXT: (str,),
    fields.FLAGS: (list,),
    fields.WHOLE: (int,),
    fields.COUNT: (int,),
    fields.NUMBER: (int, float),
    fields.BOOLEAN: (bool,),
    fields.RAW: (str,),
    fields.LIST: (list,),
    fields.OBJECT: (dict,),
}


def names_of(*records: str) -> set[str]:
    """The fields that these records have."""
    return {field.name for field in OF_RECORDS if field.records in records}


def assert_kinds(values: dict[str, Any], expected: list[Field] | tuple[Field, ...]) -> None:
    for field in expected:
        value = values.get(field.name)
        if value is None:
            assert field.kind not in (fields.NAME, fields.WHOLE), field.name
        else:
            assert type(value) in TYPES[field.kind], field.name
            assert field.kind != fields.TEXT or rows.is_text(value), field.name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fields")


@pytest.fixture(scope="module")
def record(folder: Path) -> dict[str, Any]:
    """A record with a paired phase."""
    server, reference = (compile_server(name, folder) for name in ("server_epoll", "reference"))
    options = ("--reference", reference, "--paired-s", "0.2", "--duration-s", "0.3")
    run = measure(server, folder / "record.json", *options)
    assert run.returncode == 0, run.stderr
    return dict(json.loads((folder / "record.json").read_text()))


def test_measured_record_has_exactly_the_fields_of_the_table(record: dict[str, Any]) -> None:
    assert record.keys() == names_of(*EVERY, fields.MEASURED, fields.PAIRED_PHASE)
    assert_kinds(record, OF_RECORDS)
    assert record["paired"].keys() == {field.name for field in fields.PAIRED}
    assert_kinds(record["paired"], fields.PAIRED)


def test_record_without_a_paired_phase_lacks_its_fields_alone(folder: Path) -> None:
    server = compile_server("server_epoll", folder)
    run = measure(server, folder / "alone.json", "--duration-s", "0.3")
    assert run.returncode == 0, run.stderr
    alone = json.loads((folder / "alone.json").read_text())
    assert alone.keys() == names_of(*EVERY, fields.MEASURED)


@pytest.mark.parametrize("name", ["unavailable", "wrong_body"])
def test_record_without_figures_has_a_reason_and_what_each_record_has(
    name: str, tmp_path: Path
) -> None:
    run = measure(fake_server(name, tmp_path), tmp_path / "record.json")
    assert run.returncode == 0, run.stderr
    seen = json.loads((tmp_path / "record.json").read_text())
    assert seen.keys() == names_of(*EVERY, fields.UNMEASURED)
    assert_kinds(seen, [field for field in OF_RECORDS if field.name in seen])


@pytest.mark.parametrize("name", sorted(names_of(fields.REQUIRED)))
def test_record_that_lacks_what_tables_need_is_refused(name: str, record: dict[str, Any]) -> None:
    cell = Cell(record["server"], record["connections"], record["repeat"])
    assert rows.check_record(record, cell, "r.json") == record
    lacking = {key: value for key, value in record.items() if key != name}
    with pytest.raises(DamagedFile, match=f"r.json lacks {name}"):
        rows.check_record(lacking, cell, "r.json")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("status", value) for value in (None, "nonsense")),
        *(("requests", value) for value in (10**400, "9$^{$")),
        *(("cpu_ratio", value) for value in (-1.0, float("nan"))),
        ("latency_p50_us", 0),
    ],
)
def test_record_with_a_value_that_no_run_gives_is_refused(
    name: str, value: object, record: dict[str, Any]
) -> None:
    cell = Cell(record["server"], record["connections"], record["repeat"])
    with pytest.raises(DamagedFile, match=f"r.json: {name} is "):
        rows.check_record({**record, name: value}, cell, "r.json")


def test_names_are_unique_and_columns_of_one_name_are_of_one_kind() -> None:
    for table in (fields.CELLS + fields.RECORD, *ALL):
        names = [field.name for field in table]
        assert len(set(names)) == len(names)
    kinds: dict[str, str] = {}
    for column in fields.COLUMNS:
        assert kinds.setdefault(column.name, column.kind) == column.kind, column.name


# What users' programs read: no name and no place may change, and new columns come last.
SUMMARY_COLUMNS = """
    machine server connections repeats_ok repeats_invalid repeats_failed repeats_unavailable
    requests_per_second requests_per_second_low requests_per_second_high
    latency_p50_us latency_p50_us_low latency_p50_us_high
    latency_p99_us latency_p99_us_low latency_p99_us_high
    server_cpu_ns_per_request server_cpu_ns_per_request_low server_cpu_ns_per_request_high
    cpu_ratio cpu_ratio_low cpu_ratio_high throughput_ratio throughput_ratio_low throughput_ratio_high
    latency_max_us server_cpu_share server_busiest_thread_share client_cpu_share disturbed_share limiter
    reference_requests_per_second unserved_connections fairness_jain worker_fairness_jain
    server_memory_peak_kib flags reason workload decided_by
"""
VERDICT_COLUMNS = """
    machine metric server other connections pairs ratio ratio_low ratio_high p_value p_adjusted verdict
    smallest_detectable_percent noise_floor_percent reason workload
"""


def test_columns_of_summaries_stay_as_users_know_them() -> None:
    assert SUMMARY_COLUMNS.split() == summary.SUMMARY_COLUMNS
    assert VERDICT_COLUMNS.split() == verdicts.VERDICT_COLUMNS


# docs/results.md


def rows_in_docs(heading: str) -> list[str]:
    """The rows of the first table under a heading."""
    docs = (ROOT / "docs/results.md").read_text()
    section = docs.partition(f"\n{heading}\n")[2]
    table = section[section.index("|---") :].partition("\n\n")[0]
    return table.splitlines()[1:]


def row_of(field: Field | Column, oldest: int) -> str:
    """As the docs show it; `oldest`: the schema version that goes without saying."""
    ends = ", `_low`, `_high`" if isinstance(field, Column) and field.has_interval else ""
    is_newer = isinstance(field, Field) and field.since > oldest
    since = f" (since version {field.since})" if is_newer else ""
    row = f"| `{field.name}`{ends} | {field.unit} | {field.meaning}{since} |"
    return row.replace("|  |", "| |")


HEADINGS = [
    "## cells.csv",
    "## Records",
    "### The paired phase",
    "## summary.csv",
    "## verdicts.csv",
]


@pytest.mark.parametrize(("heading", "table"), [*zip(HEADINGS, ALL, strict=True)])
def test_docs_have_a_row_for_each_field_and_no_other(
    heading: str, table: tuple[Field | Column, ...]
) -> None:
    versions = [field.since for field in table if isinstance(field, Field) and field.since]
    oldest = min(versions, default=0)
    assert rows_in_docs(heading) == [row_of(field, oldest) for field in table]


def test_docs_have_the_columns_of_counts() -> None:
    names = [re.match(r"\| `(\w+)` \|", row) for row in rows_in_docs("## syscalls.csv")]
    assert [name and name[1] for name in names] == count_syscalls.COLUMNS
