"""What a user can get wrong is one line on standard error, and status 2."""

import subprocess
from pathlib import Path

import pytest

URL = "http://[::1]:8080/"
GOOD = {"url": URL, "connections": "4", "rate": "100", "duration-s": "1", "seed": "1"}
NUMBERS = ["connections", "rate", "duration-s", "warmup-s", "threads", "body-bytes"]
NUMBERS += ["timeout-s", "spin-us", "slice-ms"]
NOT_NUMBERS = [
    "",
    " ",
    "x",
    "-1",
    "nan",
    "inf",
    "1e999",
    "1e-999",
    "0x10",
    "1 ",
    "1,5",
    "1e9e",
    "٣",
]
WHOLE = ["connections", "threads", "body-bytes"]
MAY_BE_ZERO = ["warmup-s", "body-bytes", "spin-us"]


def words(options: dict[str, str]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def refused(load: Path, arguments: list[str]) -> str:
    done = subprocess.run(
        [load, *arguments], capture_output=True, text=True, check=False, timeout=20
    )
    assert (done.returncode, done.stdout) == (2, ""), arguments
    assert done.stderr.startswith("load: ") and done.stderr.count("\n") == 1, arguments
    return done.stderr


def test_what_is_no_number_is_refused_by_name(load: Path) -> None:
    cases = [(name, text) for name in NUMBERS for text in NOT_NUMBERS]
    cases += [(name, "1.5") for name in WHOLE]
    cases += [(name, "0") for name in NUMBERS if name not in MAY_BE_ZERO]
    cases += [("seed", text) for text in ["", "x", "-1", "1.5", "18446744073709551616", "1 "]]
    cases += [("rate", "1e9"), ("rate", "10000001"), ("connections", "1000001")]
    cases += [("duration-s", "1e6"), ("threads", "257"), ("gaps", "uniform"), ("gaps", "")]
    for name, text in cases:
        assert refused(load, words(GOOD | {name: text})).startswith(f"load: --{name}: '{text}' is ")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "::1",
        "https://[::1]:1/",
        "http:/[::1]/",
        "http://",
        "http://:80/",
        "http:///path",
        "http://[::1:80/",
        "http://[::1]80/",
        "http://[::1]:/",
        "http://[::1]:0/",
        "http://[::1]:65536/",
        "http://[::1]:080808/",
        "http://[::1]:-1/",
        "http://[::1]:8 0/",
        "http://[::1]:8x/",
        "http://[127.0.0.1]:80/",
        "http://[localhost]:80/",
        "http://::1:80/",
        "http://user@[::1]:80/",
        "http://[::1]:80/#fragment",
        "http://[::1]:80/a b",
        "http://[::1]:80/\r\nX: y",
        "http://[::1]:80/é",
        "http://[::1%nothing0]:80/",
        "http://nobody.invalid/",
        "http://[::1]:80/" + 5000 * "x",
        "http://" + 300 * "x" + "/",
    ],
)
def test_a_url_that_is_none_is_refused(load: Path, url: str) -> None:
    assert refused(load, words(GOOD | {"url": url})).startswith("load: --url: ")


@pytest.mark.parametrize("name", GOOD)
def test_what_is_missing_is_named(load: Path, name: str) -> None:
    options = {key: value for key, value in GOOD.items() if key != name}
    assert refused(load, words(options)) == f"load: --{name} is missing; see --help\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--rat", "1", "--frobnicate"], "unknown option '--frobnicate'; see --help"),
        (["-x"], "unknown option '-x'; see --help"),
        (["--rate"], "--rate needs a value; see --help"),
        ([*words(GOOD), "more"], "unexpected argument 'more'; see --help"),
        (3 * ["--url", URL], "--url: at most 2 targets"),
        (words(GOOD | {"threads": "5"}), "--threads: each needs a connection"),
        (
            words(GOOD | {"rate": "1e6", "duration-s": "30"}),
            "--rate: 30000000 requests in a run, at most 20000000 fit",
        ),
        (
            ["--url", URL, *words(GOOD | {"slice-ms": "501"})],
            "--slice-ms: the duration has no slice for each target",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(load: Path, arguments: list[str], line: str) -> None:
    assert refused(load, arguments) == f"load: {line}\n"


def test_more_connections_than_descriptors_are_refused(load: Path) -> None:
    """The soft limit does not matter: it is raised to the hard one."""
    done = subprocess.run(
        ["prlimit", "--nofile=16:64", load, *words(GOOD | {"connections": "40"})],
        capture_output=True,
        text=True,
        check=False,
    )
    limit = "load: --connections: they need 73 descriptors, the limit is 64 (ulimit -Hn)\n"
    assert (done.returncode, done.stderr) == (2, limit)


def test_help_is_no_error(load: Path) -> None:
    done = subprocess.run([load, "--help"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    for name in (*GOOD, *NUMBERS, "gaps", "latencies"):
        assert f"--{name} " in done.stdout
