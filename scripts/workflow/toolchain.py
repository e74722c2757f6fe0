"""The inputs of a server's binary: its preprocessed source, the flags, the compiler and the libraries.

Sources are read as bytes, since they need not be UTF-8.
"""

import contextlib
import hashlib
import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from common import cache

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

# Where gcc looks for headers, in addition to its own folders.
INCLUDE_VARIABLES = ("CPATH", "C_INCLUDE_PATH", "GCC_EXEC_PREFIX", "COMPILER_PATH")

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


def _hash_files(paths: Iterable[str]) -> dict[str, str]:
    return {path: _hash(Path(path).read_bytes()) for path in paths}


def _names_in(folder: str) -> list[str]:
    """A new header may come before another one of its name."""
    return sorted(os.path.join(at, name) for at, _, names in os.walk(folder) for name in names)


def _preprocess(compiler: str, flags: Sequence[str], source: str, toolchain: Sequence[str]) -> str:
    """A hash of what the compiler makes of a source, or of its message. Kept until one of the files that it read, the
    flags, the toolchain or the folders that it searches change. (A new system header that hides one is not noticed.)"""
    folder = os.path.dirname(source)
    searched = [os.getenv(name) for name in INCLUDE_VARIABLES]
    what = [compiler, [*flags], source, [*toolchain], searched, _names_in(folder)]
    key = _hash(repr(what).encode(errors="surrogateescape"))
    with contextlib.suppress(LookupError, TypeError, ValueError, OSError):
        kept = cache.load()[key]
        if kept["files"] == _hash_files(kept["files"]):
            return str(kept["identity"])
    prefix_map = f"-fmacro-prefix-map={folder}=./servers"  # for __FILE__, as in the compile job
    options = [*LANGUAGE_FLAGS, *flags, *TIMELESS_FLAGS, prefix_map, "-E"]
    run = _run(compiler, *options, "-P", source)
    if run.returncode != 0:
        return _hash(run.stderr.replace(os.fsencode(folder), b"."))
    identity = _hash(run.stdout)
    if toolchain:
        files = _run(compiler, *options, "-M", source).stdout.decode(errors="surrogateescape")
        with contextlib.suppress(OSError):  # a name with a space in it: nothing is kept
            names = files.replace("\\\n", " ").partition(":")[2].split()
            cache.keep(key, {"identity": identity, "files": _hash_files(names)})
    return identity


def source_identity(
    compiler: str, flags: Sequence[str], source: str, toolchain: Sequence[str] = ()
) -> str:
    """A hash of the preprocessed source with its headers and the libraries that it names. Comments, blank lines,
    paths and times do not change it.

    If the source cannot be preprocessed, the hash is of the compiler's message, which the compile job will show. Raises
    NoCompiler or BadLink. toolchain: the compiler's identity; without it nothing is taken from the cache.
    """
    libraries = _file_names(libraries_of(source))
    parts = [_preprocess(compiler, flags, source, toolchain)]
    parts += [_library_identity(compiler, name) for name in libraries]
    return parts[0] if len(parts) == 1 else _hash(" ".join(parts).encode())
