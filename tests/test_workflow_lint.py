"""snakemake --lint, with what does not apply here named and explained; and that every script's modules are found."""

import ast
import re
from pathlib import Path

from checkouts import ROOT, run_snakemake
from modules import FOR_PEOPLE_ONLY, files_of

# Lints that are not followed, by how they begin, and why.
NOT_APPLIED = {
    "Specify a conda environment or container": "tools come from the system and .venv",
    "Shell command directly uses variable SHARED": "how a job runs, not what it computes: no parameter",
    "Shell command directly uses variable LEASHED": "the same",
    "Shell command directly uses variable BASELINE": "where it is; what is in it is a parameter",
}
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))


def test_workflow_has_no_lint() -> None:
    lines = run_snakemake(ROOT, "--lint").stdout.splitlines()
    lints = [line.strip(" *") for line in lines if line.startswith("    * ")]
    assert lints, "no lint at all: not even those that are not applied"
    assert [lint for lint in lints if not lint.startswith(tuple(NOT_APPLIED))] == []


def test_rule_is_stale_when_its_script_changes() -> None:
    texts = [path.read_text() for path in (ROOT / "rules").glob("*.smk")]
    rules = [part for text in texts for part in re.split(r"^(?=(?:use )?rule )", text, flags=re.M)]
    checked = 0
    for rule in rules:
        scripts = re.findall(r"/scripts/(\w+)\.py", rule)
        params = re.findall(r"\bcode=identity_of\(\"(\w+)\"\)", rule)
        if rule.startswith("use rule") and "    params:" in rule:  # in place of the other rule's
            assert params, rule
        # The one has no result; of the other's the compiler makes what counts.
        elif scripts not in (["doctor"], ["failed_build"]):
            assert params == scripts, rule
            checked += len(scripts)
    assert checked >= 19


def modules_of(script: Path) -> set[str]:
    """A script and the modules beside it that it imports, directly or not, as Python's own parser finds them."""
    found: set[str] = set()
    waiting = [script]
    while waiting:
        path = waiting.pop()
        if path.name in found or path not in SCRIPTS or path.stem in FOR_PEOPLE_ONLY:
            continue
        found.add(path.name)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                waiting += [script.with_name(f"{alias.name}.py") for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                waiting.append(script.with_name(f"{node.module}.py"))
    return found


def test_script_is_made_of_every_module_that_it_imports() -> None:
    assert {path.name: found(path) for path in SCRIPTS} == {
        path.name: modules_of(path) for path in SCRIPTS
    }


def found(path: Path) -> set[str]:
    return {name for name in files_of(path.stem, without=FOR_PEOPLE_ONLY) if name.endswith(".py")}


def test_script_is_made_of_the_data_that_it_reads() -> None:
    assert "wrk_report.lua" in files_of("measure_cell")
    pages = {f"../report/page.{suffix}" for suffix in ("css", "html", "js")}
    assert pages <= files_of("make_report").keys()
