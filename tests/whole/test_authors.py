"""Servers as their authors write them (tests/authors): each compiles by the workflow's own rule, and serves."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.checkouts import ROOT, copy_checkout, run_program, run_snakemake
from instruments import server_process
from sweep.workloads import BODY
from workflow import toolchain

AUTHORS = sorted((ROOT / "tests" / "authors").glob("*.c"))
NAMES = [path.stem for path in AUTHORS]
SOURCE = 'int main(void) { return sizeof "Hello"; }\n'


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with these files among its servers, which the rule has compiled."""
    checkout = copy_checkout(tmp_path_factory.mktemp("authors") / "checkout")
    for path in AUTHORS:
        shutil.copy(path, checkout / "servers")
    (checkout / "mine.yaml").write_text(f"servers: [{', '.join(NAMES)}]\ncontrol: null\n")
    binaries = [f"results/bin/{name}" for name in NAMES]
    run = run_snakemake(checkout, "-k", *binaries, "--configfile", "mine.yaml")
    assert run.returncode == 0, run.stdout
    return checkout


@pytest.mark.parametrize("name", NAMES)
def test_server_of_any_style_compiles_and_serves(built: Path, name: str) -> None:
    with server_process.running_server(
        str(built / "results" / "bin" / name), host="::1", interface=None, workers=1, prefix=[]
    ) as server:
        assert server_process.verify("::1", server.port, BODY).response.endswith(BODY)
        server.stop()


def test_binary_is_the_same_whenever_and_wherever_it_is_compiled(built: Path) -> None:
    binary = (built / "results/bin/server_careless").read_bytes()
    assert b"./servers/server_careless.c, built on Jan  1 1970\0" in binary
    assert os.fsencode(built) not in binary


def test_warnings_are_in_the_log(built: Path) -> None:
    said = (built / "results/logs/compile_server_careless.log").read_text()
    assert len(re.findall(r"warning: .*\[-W(?:unused-parameter|sign-compare)\]", said)) >= 2


@pytest.mark.parametrize("define", ["", "#define _GNU_SOURCE\n", "#define _GNU_SOURCE 1\n"])
def test_gnu_source_may_be_defined(tmp_path: Path, define: str) -> None:
    source = tmp_path / "mine.c"
    source.write_text(define + "#include <sys/socket.h>\nint (*f)() = (int (*)())accept4;\n")
    command = ["gcc", *toolchain.LANGUAGE_FLAGS, *toolchain.TIMELESS_FLAGS, "-c", str(source)]
    run = run_program([*command, "-o", tmp_path / "mine.o"])
    assert run.returncode == 0, run.stderr


def test_sources_are_told_apart_whatever_their_bytes_are(tmp_path: Path) -> None:
    source = tmp_path / "mine.c"
    seen = set()
    for word in (b"\xe9", b"\xff", "é".encode()):
        source.write_bytes(SOURCE.encode().replace(b"Hello", word))
        seen.add(toolchain.source_identity("gcc", [], str(source)))
    assert len(seen) == 3


@pytest.mark.parametrize(
    "uses",
    ["__FILE__", "__DATE__ __TIME__ __TIMESTAMP__", '"";\n#error not today'],
)
def test_neither_the_folder_nor_the_time_is_part_of_a_source(tmp_path: Path, uses: str) -> None:
    seen = set()
    for folder, time_s in (("here", 1), ("there", 10**9)):
        source = tmp_path / folder / "mine.c"
        source.parent.mkdir()
        source.write_text(f"const char *told = {uses};\n")
        os.utime(source, (time_s, time_s))
        seen.add(toolchain.source_identity("gcc", [], str(source)))
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("text", "libraries"),
    [
        ("/* link: -lm */", ["-lm"]),
        ("// link: -lz -l:libstdc++.a", ["-lz", "-l:libstdc++.a"]),
        ("/* A server.\n *\n * link: -lm\n * link: -lz */", ["-lm", "-lz"]),
        ("  // link:\t-lm  \r", ["-lm"]),
        ("/* link: -lm */ int x; /* y */", ["-lm"]),
        ("\ufeff/* link: -lm */", ["-lm"]),
        ("// link: see https://example.org, -lm is not needed", []),
        ('char *head = "Link: -lm";', []),
        ("link: -lm", []),
    ],
)
def test_source_names_its_libraries(tmp_path: Path, text: str, libraries: list[str]) -> None:
    source = tmp_path / "mine.c"
    source.write_bytes(text.encode() + b"\n// \xe9\n" + SOURCE.encode())
    assert toolchain.libraries_of(str(source)) == libraries


@pytest.mark.parametrize("word", ["-Wl,-z,now", "-lz;true", "-l", "-l/tmp/x", "m", "-l\xe9"])
def test_only_libraries_are_linked(tmp_path: Path, word: str) -> None:
    source = tmp_path / "mine.c"
    source.write_bytes(f"/* link: -lm {word} */\n{SOURCE}".encode("latin-1"))
    with pytest.raises(toolchain.BadLink, match=r"mine.c: link: .* is not a library"):
        toolchain.libraries_of(str(source))


BINARIES = ("results/bin/server_epoll", "results/bin/server_mine")


def test_what_is_no_library_costs_only_its_server(checkout: Path) -> None:
    (checkout / "servers/server_mine.c").write_text(f"/* link: -O3 */\n{SOURCE}")
    servers = ("--config", "servers=['server_epoll', 'server_mine']")
    run = run_snakemake(checkout, *BINARIES, *servers)
    assert run.returncode == 1
    said = "servers/server_mine.c: link: '-O3' is not a library: write -lNAME"
    last = run.stdout.splitlines()[-1]
    assert last == f"server_mine failed (binary): does not compile: {said}"
    assert (checkout / BINARIES[0]).stat().st_size > 10_000
    # Mended, it is compiled.
    (checkout / "servers/server_mine.c").write_text(SOURCE)
    assert run_snakemake(checkout, *BINARIES, *servers).returncode == 0


@pytest.mark.parametrize(
    "edit",
    [
        lambda source, library: library.write_bytes(b"another version"),
        lambda source, library: library.unlink(),
        lambda source, library: source.write_text("// link: -lother\n" + SOURCE),
    ],
    ids=["another version", "gone", "another library"],
)
def test_library_is_part_of_a_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edit: Callable[[Path, Path], object]
) -> None:
    monkeypatch.setenv("LIBRARY_PATH", str(tmp_path))
    source, library = tmp_path / "mine.c", tmp_path / "libmine.so"
    source.write_text("// link: -lmine\n" + SOURCE)
    library.write_bytes(b"a version")
    before = toolchain.source_identity("gcc", [], str(source))
    assert toolchain.source_identity("gcc", [], str(source)) == before
    edit(source, library)
    assert toolchain.source_identity("gcc", [], str(source)) != before
