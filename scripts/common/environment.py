"""Clean the user's environment of variables that would change results or the output of tools."""

import os
import re
import sys
from collections.abc import Iterator, Mapping, MutableMapping

# Variables that change a measured program: its C library's behaviour, or code loaded into it. A note names them.
CHANGES_RESULTS = re.compile(
    r"LD_(PRELOAD|AUDIT|BIND_NOW|DEBUG.*|PROFILE.*)|GLIBC_TUNABLES|MALLOC_.*"
)
IGNORED = re.compile(
    # We parse tools' output in one language, whatever the user's is; LANGUAGE overrides even LC_ALL.
    r"LANG|LANGUAGE|LC_.*"
    # What shells run or obey before our commands, including exported functions.
    r"|BASH_ENV|ENV|BASHOPTS|SHELLOPTS|BASH_FUNC_.*|CDPATH|GLOBIGNORE|POSIXLY_CORRECT"
    # A git hook sets these for its own repository. (GIT_CONFIG_* stays: it may permit access.)
    r"|GIT_(?!CONFIG_|TEST_).*"
    # perf would ask servers on the internet for symbols.
    r"|PERF_.*|DEBUGINFOD_URLS"
    r"|MPLBACKEND|MPLCONFIGDIR|MATPLOTLIBRC"
)
SET = {"LC_ALL": "C.UTF-8", "PERF_CONFIG": os.devnull}
# A venv has all packages; a Python without a venv may get them from PYTHONPATH.
IN_VENV = sys.prefix != sys.base_prefix


def _is_ignored(name: str, value: str) -> bool:
    if name == "TMPDIR":  # if it is unusable, most programs choose another folder, but some fail
        return not (os.path.isabs(value) and os.access(value, os.W_OK | os.X_OK))
    if name.startswith("PYTHON"):
        return IN_VENV
    return bool(IGNORED.fullmatch(name) or CHANGES_RESULTS.fullmatch(name))


def clean_copy(environ: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in environ.items() if not _is_ignored(name, value)}
    path = kept.get("PATH", os.defpath)
    programs = os.path.join(sys.prefix, "bin")
    if IN_VENV and path.split(":")[0] != programs:  # as an activated venv does
        path = f"{programs}:{path}"
    return {**kept, **SET, "PATH": path}


def clean(environ: MutableMapping[str, str] = os.environ) -> None:
    """Clean the environment of this process and of all that it starts later."""
    kept = clean_copy(environ)
    for name in [*environ]:
        if name not in kept:
            del environ[name]
    environ.update(kept)


def notes(environ: Mapping[str, str]) -> Iterator[str]:
    """A line for each variable whose effect the user may miss."""
    for name, value in environ.items():
        if value and CHANGES_RESULTS.fullmatch(name):
            yield f"{name}={value} in the environment is ignored: it would change what is measured"
