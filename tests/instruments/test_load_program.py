"""The load generator as a program: how it is asked, and every way in which it may end."""

from pathlib import Path
from typing import Any

import pytest

from helpers.checkouts import make_program
from instruments import failed_build, open_loop
from instruments.wrk import LoadError

OPTIONS: dict[str, Any] = {
    "connections": 4,
    "threads": 2,
    "rate_per_second": 1234.5678,
    "duration_s": 0.5,
}
URL = "http://[::1]:1/"


def test_command_names_each_target_and_all_that_decides_the_run() -> None:
    words = open_loop.command_of("load", [URL, "b"], **OPTIONS, seed=7, body_bytes=13)
    said = "load --url http://[::1]:1/ --url b --connections 4 --threads 2 --rate 1234.5678"
    said += " --duration-s 0.5 --seed 7 --body-bytes 13 --timeout-s 1"
    assert words == said.split()


# What it does → the error, and what that says. Only what a server can cause is a LoadError.
ENDS: dict[str, tuple[str, type[Exception], str]] = {
    "no connection got an answer": ("echo 'load: nobody' >&2; exit 1", LoadError, "nobody"),
    "the command line is wrong": ("echo 'load: --rate' >&2; exit 2", OSError, "status 2 .*--rate"),
    "killed": ("kill -KILL $$", OSError, "failed: SIGKILL"),
    "no JSON": ("echo Hello", OSError, r"printed no JSON, but 'Hello\\n'"),
    "nothing": ("exit 0", OSError, "printed no JSON, but ''"),
}


@pytest.mark.parametrize("name", ENDS)
def test_generator_that_fails_is_one_line(name: str, tmp_path: Path) -> None:
    does, error, said = ENDS[name]
    make_program(tmp_path / "load", does)
    with pytest.raises((LoadError, OSError), match=said) as caught:
        open_loop.run([str(tmp_path / "load")], 0.1)
    assert isinstance(caught.value, LoadError) == (error is LoadError)
    assert "\n" not in str(caught.value)


def test_generator_that_is_missing_or_was_not_built_is_said(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=f"there is no load generator {tmp_path}/load"):
        open_loop.run([str(tmp_path / "load")], 0.1)
    failed_build.write(str(tmp_path / "load"), "does not compile: load.c:1: error: no")
    with pytest.raises(OSError, match=r"the load generator load: does not compile: load\.c:1"):
        open_loop.run([str(tmp_path / "load")], 0.1)


def test_generator_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_loop, "END_TIMEOUT_S", 0.2)
    make_program(tmp_path / "load", "sleep 60")
    with pytest.raises(OSError, match=r"did not end within 0\.2 s"):
        open_loop.run([str(tmp_path / "load")], 0.1)


def test_what_it_printed_is_returned(tmp_path: Path) -> None:
    make_program(tmp_path / "load", "echo '{\"requests\": 5}'")
    assert open_loop.run([str(tmp_path / "load")], 0.1) == {"requests": 5}
