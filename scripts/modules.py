"""Which files of ours a script is made of: its own, those of the modules that it imports, and the data that they read.

A rule's results depend on the content of these files. They do not depend on paths and times of files, which change
when a checkout is moved, copied or cloned.
"""

import functools
import hashlib
import os
import re

ROOT_VARIABLE = "IO_MODELS_ROOT"  # in the environment of jobs: the checkout's folder
SCRIPTS = os.path.dirname(os.path.abspath(__file__))
# Of what they import no result depends on these, which only tell people how far a run is.
FOR_PEOPLE_ONLY = frozenset({"console", "progress"})
DATA_FOLDERS = (".", "../report")
IMPORT = re.compile(rb"^ *(?:from (\w+) import|import (\w+))", re.MULTILINE)
QUOTED_FILE = re.compile(rb'"(\w+\.(?!py")\w+)"')


@functools.cache
def _read(name: str) -> bytes | None:
    """Content of a file, by its path from scripts/; None if we have no such file."""
    try:
        with open(os.path.join(SCRIPTS, name), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


@functools.cache
def _named_in(name: str) -> tuple[list[str], list[str]]:
    """Modules that a module imports, at its top or later; and files of ours that it has a quoted name of."""
    text = _read(f"{name}.py") or b""
    imported = [(first or second).decode() for first, second in IMPORT.findall(text)]
    quoted = {match.decode() for match in QUOTED_FILE.findall(text)}
    data = [os.path.join(folder, file) for folder in DATA_FOLDERS for file in sorted(quoted)]
    return imported, [path for path in data if _read(path) is not None]


def files_of(*names: str, without: frozenset[str] = frozenset()) -> dict[str, bytes]:
    """Path from scripts/ → content, of modules and of all that they import or read."""
    found: dict[str, bytes] = {}
    left = list(names)
    while left:
        name = left.pop()
        content = _read(f"{name}.py")
        if content is None or f"{name}.py" in found or name in without:
            continue
        found[f"{name}.py"] = content
        imported, data = _named_in(name)
        left += imported
        found |= {os.path.normpath(path): _read(path) or b"" for path in data}
    return found


def identity_of(script: str) -> str:
    """A hash that changes with any file that the script is made of."""
    found = files_of(script, without=FOR_PEOPLE_ONLY)
    if not found:
        raise FileNotFoundError(f"there is no scripts/{script}.py")
    hashes = ((name, hashlib.sha256(found[name]).hexdigest()) for name in sorted(found))
    return hashlib.sha256(repr(list(hashes)).encode()).hexdigest()
