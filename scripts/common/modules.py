"""Which files of ours a script is made of: its own, those of the modules that it imports, and the data that they read.

A rule's results depend on the code in these files. They do not depend on comments and docstrings, nor on paths and
times of files, which change when a checkout is moved, copied or cloned.
"""

import contextlib
import functools
import hashlib
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from common import cache

ROOT_VARIABLE = "IO_MODELS_ROOT"  # in the environment of jobs: the checkout's folder
SCRIPTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
REPORT = os.path.join("..", "report")
# It only tells people how far a run is: no result depends on it, nor on what it imports.
FOR_PEOPLE_ONLY = frozenset({"workflow/progress.py"})
FILE_NAME = re.compile(r"[\w/-]+\.\w+")


class Source(NamedTuple):
    """What was found in a module; JSON keeps it as a list."""

    identity: str  # changes with its code, not with comments and docstrings
    imports: list[str]  # names of modules, at its top or later: `a.b` of `from a import b`, too
    strings: list[str]  # constants that could name a file


@functools.cache
def _read(path: str) -> bytes | None:
    """Content of a file, by its path from scripts/; None if we have no such file."""
    try:
        with open(os.path.join(SCRIPTS, path), "rb") as file:
            return file.read()
    except (OSError, ValueError):  # a text with a zero byte names no file
        return None


def _outline(node: Any) -> Iterator[str]:
    """A syntax tree as text, without places and docstrings; the same for all versions of Python that parse it alike."""
    import ast  # noqa: PLC0415  only for files that are not in the cache

    if isinstance(node, list):
        for child in node:
            yield from _outline(child)
            yield ","
    elif isinstance(node, ast.AST):
        yield type(node).__name__
        has_docstring = isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ) and bool(ast.get_docstring(node, clean=False))
        for name, value in ast.iter_fields(node):
            if value is None or value == []:  # versions differ in which of these there are
                continue
            yield f"({name}="
            yield from _outline(value[1:] if has_docstring and name == "body" else value)
            yield ")"
    else:
        yield repr(node)


def parse(text: bytes, path: str) -> Source:
    """What there is to know of a module's source. Raises SyntaxError."""
    import ast  # noqa: PLC0415

    tree = ast.parse(text, path)
    imports, strings = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imports |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
            strings.add(node.value)
    identity = hashlib.sha256("".join(_outline(tree)).encode(errors="backslashreplace"))
    return Source(
        identity.hexdigest(), sorted(imports), sorted(filter(FILE_NAME.fullmatch, strings))
    )


@functools.cache
def _source(path: str) -> Source:
    text = _read(path) or b""
    key = hashlib.sha256(text).hexdigest()
    with contextlib.suppress(KeyError, TypeError):  # a damaged cache is none
        return Source(*cache.load()[key])
    source = parse(text, os.path.join(SCRIPTS, path))  # of all modules it takes 0.4 s
    cache.keep(key, source)
    return source


def _of_module(name: str) -> str:
    return f"{name.replace('.', '/')}.py"


def files_of(*names: str, without: frozenset[str] = frozenset()) -> dict[str, bytes]:
    """Path from scripts/ → content, of modules and of all that they import or read."""
    found: dict[str, bytes] = {}
    left = [_of_module(name) for name in names]
    while left:
        path = left.pop()
        content = _read(path)
        if content is None or path in found or path in without:
            continue
        found[path] = content
        source = _source(path)
        left += map(_of_module, source.imports)
        for folder in (os.path.dirname(path), REPORT):
            for name in source.strings:
                data = os.path.join(folder, name)
                if not name.endswith(".py") and (text := _read(data)) is not None:
                    found[data] = text
    return found


def identity_of(script: str) -> str:
    """A hash that changes with the code that the script is made of, and with the data that it reads."""
    found = files_of(script, without=FOR_PEOPLE_ONLY)
    if not found:
        raise FileNotFoundError(f"there is no scripts/{script}.py")
    parts = {
        path: _source(path).identity if path.endswith(".py") else hashlib.sha256(text).hexdigest()
        for path, text in found.items()
    }
    return hashlib.sha256(repr(sorted(parts.items())).encode()).hexdigest()
