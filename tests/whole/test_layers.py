"""scripts/: each package imports what docs/architecture.md allows, and nobody imports a command."""

import ast
from collections.abc import Iterator
from pathlib import Path

from helpers.checkouts import ROOT

SCRIPTS = ROOT / "scripts"


def allowed() -> dict[str, set[str]]:
    """Package → the others that it may import, by the table."""
    text = (ROOT / "docs/architecture.md").read_text()
    head, _, *rows = text[text.index("| package |") :].partition("\n\n")[0].splitlines()
    columns = [cell.strip() for cell in head.split("|")[3:-1]]
    found = {}
    for row in rows:
        name, _, *marks = (cell.strip() for cell in row.split("|")[1:-1])
        marked = zip(columns, marks, strict=True)
        found[name.strip("`")] = {column for column, mark in marked if mark == "×"}
    return found


def imported(path: Path) -> Iterator[str]:
    """First parts of the names of modules that a file imports, at its top or later."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def test_packages_import_only_from_those_below_that_the_docs_name() -> None:
    table = allowed()
    assert {path.parent.name for path in SCRIPTS.glob("*/__init__.py")} == table.keys()
    order = list(table)
    assert all(order.index(name) < order.index(its) for name in table for its in table[name])
    seen: dict[str, set[str]] = {name: set() for name in table}
    commands = {path.stem for path in SCRIPTS.glob("*.py")}
    for path in SCRIPTS.rglob("*.py"):
        names = set(imported(path))
        assert not names & commands, path
        if path.parent != SCRIPTS:
            seen[path.parent.name] |= names & table.keys() - {path.parent.name}
    assert seen == table
