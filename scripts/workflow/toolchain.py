"""The inputs of a server's binary: its preprocessed source, the flags, the compiler and the libraries.

Sources are read as bytes, since they need not be UTF-8.
"""

import hashlib
import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

# GNU C for all servers, as most authors write it.
LANGUAGE_FLAGS = ["-std=gnu17", "-D_GNU_SOURCE"]
# A source that uses these macros would change with each compilation, and all its results would be stale.
TIMELESS_FLAGS = [
    "-Wno-builtin-macro-redefined",
    '-D__DATE__="Jan  1 1970"',
    '-D__TIME__="00:00:00"',
    '-D__TIMESTAMP__="Thu Jan  1 00:00:00 1970"',
]
# liburing is linked statically, or its frames would be [unknown] in flamegraphs. The linker omits unused parts.
LIBRARIES = ["-pthread", "-l:liburing.a"]

# A comment line in a source, as /* link: -lz -lm */; it may follow a byte order mark.
_LINK = re.compile(
    rb"^(?:\xef\xbb\xbf)?[ \t]*(?:/\*|//|\*)[ \t]*link:[ \t]*(-.*?)[ \t]*(?:\*/.*)?\r?$",
    re.MULTILINE,
)
_LIBRARY = re.compile(r"-l(:?)([A-Za-z0-9_][A-Za-z0-9_.+-]*)")


class NoCompiler(Exception):
    """The compiler cannot be run; the text is one line for the user."""


class BadLink(Exception):
    """A source names something to link that is not a library; the text is one line for the user."""


def _run(compiler: str, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    try:
        return subprocess.run([compiler, *arguments], check=False, capture_output=True)
    except OSError as error:
        raise NoCompiler(
            f"compile.compiler: cannot run {compiler!r} ({error.strerror}): install it, see make setup"
        ) from None


def _first_line(output: bytes) -> str:
    return output.decode(errors="replace").partition("\n")[0].strip()


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _library_identity(compiler: str, name: str) -> str:
    """A hash of the file that the linker finds."""
    path = Path(os.fsdecode(_run(compiler, f"-print-file-name={name}").stdout.strip()))
    return _hash(path.read_bytes()) if path.is_file() else f"no {name}"


def toolchain_identity(compiler: str) -> list[str]:
    """The compiler's version and target, and a hash of the library that is linked in. Raises NoCompiler."""
    return [
        _first_line(_run(compiler, "--version").stdout),
        _first_line(_run(compiler, "-dumpmachine").stdout),
        _library_identity(compiler, "liburing.a"),
    ]


def libraries_of(source: str) -> list[str]:
    """The libraries that a source names in addition to LIBRARIES, as the linker's options. Raises BadLink."""
    try:
        text = Path(source).read_bytes()
    except OSError:
        return []  # the compile job will say why
    words = b" ".join(_LINK.findall(text)).decode(errors="replace").split()
    for word in words:
        if not _LIBRARY.fullmatch(word):
            name = os.path.relpath(source, os.getenv("PWD"))
            raise BadLink(f"{name}: link: {word!r} is not a library: write -lNAME")
    return words


def _file_names(libraries: Iterable[str]) -> list[str]:
    matches = [_LIBRARY.fullmatch(library) for library in libraries]
    return [match[2] if match[1] else f"lib{match[2]}.so" for match in matches if match]


def source_identity(compiler: str, flags: Sequence[str], source: str) -> str:
    """A hash of the preprocessed source with its headers and the libraries that it names. Comments, formatting, paths
    and times do not change it.

    If the source cannot be preprocessed, the hash is of the compiler's message, which the compile job will show. Raises
    NoCompiler or BadLink.
    """
    libraries = _file_names(libraries_of(source))
    folder = os.path.dirname(source)
    prefix_map = f"-fmacro-prefix-map={folder}=./servers"  # for __FILE__, as in the compile job
    run = _run(compiler, *LANGUAGE_FLAGS, *flags, *TIMELESS_FLAGS, prefix_map, "-E", "-P", source)
    seen = run.stdout if run.returncode == 0 else run.stderr.replace(os.fsencode(folder), b".")
    parts = [_hash(seen), *(_library_identity(compiler, name) for name in libraries)]
    return parts[0] if len(parts) == 1 else _hash(" ".join(parts).encode())
