"""snakemake --lint, with what does not apply here named and explained; and that no script's module is forgotten."""

import ast
import re
from pathlib import Path

import pytest
from checkouts import ROOT, run_snakemake

# Lints that are not followed, by how they begin, and why.
NOT_APPLIED = {
    "Specify a conda environment or container": "tools come from the system and .venv",
    "Shell command directly uses variable SHARED": "how a job runs, not what it computes: no parameter",
    "Shell command directly uses variable LEASHED": "the same",
}
# What no result depends on need not make results stale.
FOR_PEOPLE_ONLY = {"console.py", "progress.py"}

# sides.py reads it, and sends it to other hosts.
READ_AS_TEXT = {"sides.py": "agent.py"}


def quoted(text: str) -> list[str]:
    return re.findall(r'"([^"]+)"', text)


RULES = {path.stem: path.read_text() for path in (ROOT / "rules").glob("*.smk")}
(RUN_SCRIPTS,) = re.findall(r"^RUN_SCRIPTS = \(([^)]*)\)", RULES["common"], re.MULTILINE)
SCRIPT_LISTS = [
    quoted(call.replace("*RUN_SCRIPTS", RUN_SCRIPTS))
    for text in RULES.values()
    for call in re.findall(r"\bscripts\(([^)]*)\)", text)
    if '"' in call
]


def test_workflow_has_no_lint() -> None:
    lines = run_snakemake(ROOT, "--lint").stdout.splitlines()
    lints = [line.strip(" *") for line in lines if line.startswith("    * ")]
    assert lints, "no lint at all: not even those that are not applied"
    assert [lint for lint in lints if not lint.startswith(tuple(NOT_APPLIED))] == []


def modules_of(script: Path) -> set[str]:
    """A script and the modules beside it that it imports, directly or not."""
    found, waiting = set(), [script]
    while waiting:
        path = waiting.pop()
        if path.name in found or not path.exists():
            continue
        found.add(path.name)
        if path.name in READ_AS_TEXT:
            waiting.append(path.with_name(READ_AS_TEXT[path.name]))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                waiting += [script.with_name(f"{alias.name}.py") for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                waiting.append(script.with_name(f"{node.module}.py"))
    return found


def test_every_rule_with_a_script_is_looked_at() -> None:
    assert len(SCRIPT_LISTS) >= 8


@pytest.mark.parametrize("names", SCRIPT_LISTS, ids=lambda names: names[0])
def test_rule_depends_on_every_module_of_its_script(names: list[str]) -> None:
    modules = modules_of(ROOT / "scripts" / names[0]) - FOR_PEOPLE_ONLY
    assert {name for name in names if name.endswith(".py")} == modules
