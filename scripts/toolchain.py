"""What a server's binary depends on: its source as the compiler sees it, the flags, the compiler, and the libraries.

A source is read as bytes: it need not be UTF-8.
"""

import hashlib
import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

# GNU C for all servers, as most authors write it.
LANGUAGE_FLAGS = ["-std=gnu17", "-D_GNU_SOURCE"]
# A source that uses these macros would be another one each time, and all its results stale.
TIMELESS_FLAGS = [
    "-Wno-builtin-macro-redefined",
    '-D__DATE__="Jan  1 1970"',
    '-D__TIME__="00:00:00"',
    '-D__TIMESTAMP__="Thu Jan  1 00:00:00 1970"',
]
# liburing statically, or its frames would be [unknown] in flamegraphs; what a server does not use is left out.
LIBRARIES = ["-pthread", "-l:liburing.a"]

# A comment line of a source, /* link: -lz -lm */, which may follow a byte order mark.
_LINK = re.compile(
    rb"^(?:\xef\xbb\xbf)?[ \t]*(?:/\*|//|\*)[ \t]*link:[ \t]*(-.*?)[ \t]*(?:\*/.*)?\r?$",
    re.MULTILINE,
)
_LIBRARY = re.compile(r"-l(:?)([A-Za-z0-9_][A-Za-z0-9_.+-]*)")


class NoCompiler(Exception):
    """The compiler cannot be run; the text is one line for the user."""


class BadLink(Exception):
    """A source names something to link that is no library; the text is one line for the user."""


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
    """The libraries that a source names beside LIBRARIES, as the linker's options. Raises BadLink."""
    try:
        text = Path(source).read_bytes()
    except OSError:
        return []  # the compile job will say why
    words = b" ".join(_LINK.findall(text)).decode(errors="replace").split()
    for word in words:
        if not _LIBRARY.fullmatch(word):
            name = os.path.relpath(source, os.getenv("PWD"))
            raise BadLink(f"{name}: link: {word!r} is no library: only -lNAME is")
    return words


def _file_names(libraries: Iterable[str]) -> list[str]:
    found = [_LIBRARY.fullmatch(library) for library in libraries]
    return [match[2] if match[1] else f"lib{match[2]}.so" for match in found if match]


def source_identity(compiler: str, flags: Sequence[str], source: str) -> str:
    """A hash of the preprocessed source, its headers included: comments, formatting, paths and times do not change it.

    Libraries that it names are part of it. Of the compiler's complaint if it cannot be preprocessed: the compile job
    will show it. Raises NoCompiler, BadLink.
    """
    libraries = _file_names(libraries_of(source))
    folder = os.path.dirname(source)
    prefix_map = f"-fmacro-prefix-map={folder}=./servers"  # of __FILE__, as when it is compiled
    run = _run(compiler, *LANGUAGE_FLAGS, *flags, *TIMELESS_FLAGS, prefix_map, "-E", "-P", source)
    seen = run.stdout if run.returncode == 0 else run.stderr.replace(os.fsencode(folder), b".")
    parts = [_hash(seen), *(_library_identity(compiler, name) for name in libraries)]
    return parts[0] if len(parts) == 1 else _hash(" ".join(parts).encode())
