"""What is kept of a source and what makes it stale. tests/whole/test_authors.py has more of toolchain.py."""

from pathlib import Path

import pytest

from common import cache
from workflow import toolchain


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Includes a header beside it and one in a folder of CPATH; nothing is kept yet."""
    monkeypatch.setattr(cache, "PATH", str(tmp_path / "kept/identities.json"))
    cache.load.cache_clear()
    for folder, value in (("one", 1), ("other", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "found.h").write_text(f"int found = {value};\n")
    monkeypatch.setenv("CPATH", str(tmp_path / "one"))
    (tmp_path / "servers").mkdir()
    (tmp_path / "servers/beside.h").write_text("int beside;\n")
    path = tmp_path / "servers/server_mine.c"
    path.write_text('#include "beside.h"\n#include <found.h>\n')
    return path


def identity(source: Path) -> str:
    """As another process finds it."""
    cache.load.cache_clear()
    return toolchain.source_identity("gcc", ["-O2"], str(source), ["gcc 1.0"])


def test_what_is_kept_is_what_the_compiler_says_until_something_that_it_read_changes(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = identity(source)
    assert first == toolchain.source_identity("gcc", ["-O2"], str(source))
    with monkeypatch.context() as patch:
        patch.setattr(toolchain, "_run", pytest.fail)  # no compiler is asked
        assert identity(source) == first
    (source.parent / "beside.h").write_text("int beside; // a comment\n")
    assert identity(source) == first
    seen = {first}
    (source.parent / "beside.h").write_text("long beside;\n")
    seen.add(identity(source))
    monkeypatch.setenv("CPATH", str(source.parents[1] / "other"))
    seen.add(identity(source))
    (source.parent / "found.h").write_text("int found = 3;\n")  # not searched for <found.h>
    assert identity(source) in seen
    (source.parents[1] / "other/found.h").write_text("int found = 4;\n")
    seen.add(identity(source))
    assert len(seen) == 4


def test_damaged_cache_is_none(source: Path) -> None:
    first = identity(source)
    Path(cache.PATH).write_text("{")
    assert identity(source) == first
    Path(cache.PATH).write_text("[]")
    assert identity(source) == first
