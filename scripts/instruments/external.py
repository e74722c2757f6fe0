"""Servers of `external` in config.yaml: check their descriptions, and collect what their launchers need."""

import hashlib
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from common.modules import ROOT_VARIABLE
from instruments.external_launcher import ONLY_IN_FILES, PLACEHOLDERS, Template

# Debian installs servers here, outside users' PATH.
SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin"


def _template_faults(where: str, text: str, names: Sequence[str]) -> Iterator[str]:
    known = ", ".join(f"@{name}" for name in names)
    for match in Template.pattern.finditer(text):
        name = match["named"] or match["braced"]
        if match["escaped"] is None and name not in names:
            word = match[0] if name else text[match.start() :].split(maxsplit=1)[0][:20]
            yield f"{where}: found {word!r}, allowed: {known}, and @@ for @"


def description_faults(name: str, description: Mapping[str, Any], root: str) -> Iterator[str]:
    """Faults that the schema cannot see, a line each."""
    where = f"external.{name}"
    for key in ("command", "build"):
        text = description.get(key)
        try:
            if text is not None and not shlex.split(text):
                yield f"{where}.{key}: found {text!r}, allowed: a program and its arguments"
        except ValueError as error:
            yield f"{where}.{key}: found {text!r}, allowed: what a shell could split ({error})"
    yield from _template_faults(f"{where}.command", description["command"], PLACEHOLDERS)
    for file, text in description.get("files", {}).items():
        names = PLACEHOLDERS + ONLY_IN_FILES
        yield from _template_faults(f"{where}.files.{file}", text, names)
    for index, source in enumerate(description.get("sources", [])):
        if not os.path.isfile(os.path.join(root, source)):
            yield f"{where}.sources[{index}]: there is no file {source!r}"


def find_program(word: str, root: str) -> str:
    """The path of a command's program: from PATH, or with a slash from the root; empty if it is not installed."""
    if "/" in word:
        return os.path.join(root, Template(word).safe_substitute(root=root))
    path = shutil.which(word, path=f"{os.environ['PATH']}:{SYSTEM_FOLDERS}") or ""
    # /sbin and /usr/sbin may be one folder: the order of PATH must not matter.
    return path and os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def _seen_from(root: str, path: str) -> str:
    """A path relative to the root if it is in it, so that moving the checkout changes nothing."""
    relative = os.path.relpath(path, root)
    return path if relative.startswith("../") else relative


def _sha256_of(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def describe_launcher(description: Mapping[str, Any], root: str) -> dict[str, Any]:
    """The content of a launcher: the description, and hashes of the files that it names.

    The build's result is not known before the build, so hashes of its program and sources, and its words, stand for it.
    """
    command = shlex.split(description["command"])
    build = shlex.split(description.get("build") or "")
    program = find_program(command[0], root)
    named = [os.path.join(root, source) for source in description.get("sources", [])]
    if build:
        named.append(find_program(build[0], root))
    if not build or "/" not in command[0]:
        named.append(program)
    return {
        "command": command,
        "program": program and _seen_from(root, program),
        "build": build,
        "files": dict(description.get("files", {})),
        "ready": description.get("ready"),
        "package": description.get("package"),
        "root_variable": ROOT_VARIABLE,
        "identity": {_seen_from(root, path): _sha256_of(path) for path in named if path},
    }
