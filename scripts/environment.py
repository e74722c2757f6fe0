"""The user's environment, without what is set for other programs and would change results here or how they are read."""

import os
import re
import sys
from collections.abc import Iterator, Mapping, MutableMapping

# What changes a measured program: its C library's behaviour, or code loaded into it. The user is told.
CHANGES_RESULTS = re.compile(
    r"LD_(PRELOAD|AUDIT|BIND_NOW|DEBUG.*|PROFILE.*)|GLIBC_TUNABLES|MALLOC_.*"
)
IGNORED = re.compile(
    # Tools are read in one language, whatever the user's is; LANGUAGE comes even before LC_ALL.
    r"LANG|LANGUAGE|LC_.*"
    # What shells run or obey before our commands, exported functions too.
    r"|BASH_ENV|ENV|BASHOPTS|SHELLOPTS|BASH_FUNC_.*|CDPATH|GLOBIGNORE|POSIXLY_CORRECT"
    # A hook's repository is not this one. (What GIT_CONFIG_* may permit is kept.)
    r"|GIT_(?!CONFIG_|TEST_).*"
    # perf would ask servers on the internet for symbols.
    r"|PERF_.*|DEBUGINFOD_URLS"
    r"|MPLBACKEND|MPLCONFIGDIR|MATPLOTLIBRC"
)
SET = {"LC_ALL": "C.UTF-8", "PERF_CONFIG": os.devnull}
# In a venv all that our Python imports is there; a Python without one may have its packages from PYTHONPATH.
IN_VENV = sys.prefix != sys.base_prefix


def _is_ignored(name: str, value: str) -> bool:
    if name == "TMPDIR":  # most programs take another folder then, but some fail
        return not (os.path.isabs(value) and os.access(value, os.W_OK | os.X_OK))
    if name.startswith("PYTHON"):
        return IN_VENV
    return bool(IGNORED.fullmatch(name) or CHANGES_RESULTS.fullmatch(name))


def cleaned(environ: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in environ.items() if not _is_ignored(name, value)}
    path = kept.get("PATH", os.defpath)
    programs = os.path.join(sys.prefix, "bin")
    if IN_VENV and path.split(":")[0] != programs:  # as if the venv were activated
        path = f"{programs}:{path}"
    return {**kept, **SET, "PATH": path}


def clean(environ: MutableMapping[str, str] = os.environ) -> None:
    """For this process and all that it starts from now on."""
    kept = cleaned(environ)
    for name in [*environ]:
        if name not in kept:
            del environ[name]
    environ.update(kept)


def notes(environ: Mapping[str, str]) -> Iterator[str]:
    """What the user may miss in the results, a line each."""
    for name, value in environ.items():
        if value and CHANGES_RESULTS.fullmatch(name):
            yield f"{name}={value} of the environment is ignored: it would change what is measured"
