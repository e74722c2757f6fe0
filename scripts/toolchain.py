"""What a server's binary depends on: its source as the compiler sees it, the flags, the compiler, and liburing."""

import hashlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

# _GNU_SOURCE: accept4, SO_REUSEPORT and the like are Linux's, not the C standard's.
LANGUAGE_FLAGS = ["-std=c17", "-D_GNU_SOURCE"]
# liburing statically, or its frames would be [unknown] in flamegraphs; what a server does not use is left out.
LIBRARIES = ["-pthread", "-l:liburing.a"]
# What the compiler would fill in from the clock, and from the time of the file.
TIMELESS = [f"-D{name}={name}" for name in ("__DATE__", "__TIME__", "__TIMESTAMP__")]
TIMELESS += ["-Wno-builtin-macro-redefined"]


class NoCompiler(Exception):
    """The compiler cannot be run; the text is one line for the user."""


def _run(compiler: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run([compiler, *arguments], check=False, capture_output=True, text=True)
    except OSError as error:
        raise NoCompiler(
            f"compile.compiler: cannot run {compiler!r} ({error.strerror}): install it, see make setup"
        ) from None


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def toolchain_identity(compiler: str) -> list[str]:
    """The compiler's version and target, and a hash of the library that is linked in. Raises NoCompiler."""
    library = Path(_run(compiler, "-print-file-name=liburing.a").stdout.strip())
    return [
        _run(compiler, "--version").stdout.partition("\n")[0],
        _run(compiler, "-dumpmachine").stdout.strip(),
        _hash(library.read_bytes()) if library.is_file() else "no liburing.a",
    ]


def source_identity(compiler: str, flags: Sequence[str], source: str) -> str:
    """A hash of the preprocessed source, its headers included: comments, formatting, paths and times do not change it.

    Of the compiler's complaint if it cannot be preprocessed: the compile job will show it. Raises NoCompiler.
    """
    folder = os.path.dirname(source)
    run = _run(
        compiler,
        *LANGUAGE_FLAGS,
        *flags,
        f"-ffile-prefix-map={folder}=.",
        *TIMELESS,
        "-E",
        "-P",
        source,
    )
    return _hash((run.stdout if run.returncode == 0 else run.stderr.replace(folder, ".")).encode())
