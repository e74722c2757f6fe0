"""servers/common/http.h alone, sanitized: made-up and damaged heads against a second opinion."""

import random
import re
import struct
import subprocess
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
from harness import HERE, SANITIZED, compile_c

COMPLETE, INCOMPLETE, MALFORMED, UNSUPPORTED = range(4)


class Parsed(NamedTuple):
    result: int
    head_size: int = 0
    content_length: int = 0
    keep_alive: bool = False


Parse = Callable[[Sequence[bytes]], list[Parsed]]


@pytest.fixture(scope="module")
def parse(tmp_path_factory: pytest.TempPathFactory) -> Parse:
    folder = tmp_path_factory.mktemp("framing")
    program = compile_c(HERE / "parse_heads.c", folder / "parse_heads", SANITIZED)

    def parse_all(heads: Sequence[bytes]) -> list[Parsed]:
        records = b"".join(struct.pack("I", len(head)) + head for head in heads)
        done = subprocess.run([program], input=records, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        lines = [[int(word) for word in line.split()] for line in done.stdout.splitlines()]
        assert len(lines) == len(heads)
        # Only a complete head has a size, a length and an end.
        return [
            Parsed(line[0], line[1], line[2], bool(line[3]))
            if line[0] == COMPLETE
            else Parsed(line[0])
            for line in lines
        ]

    return parse_all


# The second opinion: RFC 9112 as regular expressions, with what the servers leave out.
TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
REQUEST_LINE = re.compile(rb"%s [^\x00-\x20\x7f]+ HTTP/1\.([0-9])\r" % TOKEN)
FIELD = re.compile(rb"(%s):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*\r" % TOKEN)


def agree(lengths: list[bytes]) -> bool:
    are_numbers = all(re.fullmatch(rb"[0-9]{1,18}", length) for length in lengths)
    return are_numbers and len({int(length) for length in lengths}) <= 1


def parse_fields_again(lines: list[bytes], keep_alive: bool) -> Parsed:
    """Parse the lines after the request line; head_size counts these alone."""
    lengths: list[bytes] = []
    options: list[bytes] = []
    for i, line in enumerate(lines):
        if line == b"\r":
            kept = (keep_alive or b"keep-alive" in options) and b"close" not in options
            size = sum(len(line) + 1 for line in lines[: i + 1])
            return Parsed(COMPLETE, size, int((lengths or [b"0"])[0]), kept)
        field = FIELD.fullmatch(line)
        name, value = (field[1].lower(), field[2]) if field else (b"", b"")
        if name == b"transfer-encoding":
            return Parsed(UNSUPPORTED)
        if name == b"connection":
            options += [option.strip(b" \t").lower() for option in value.split(b",")]
        if name == b"content-length":
            lengths.append(value)
        if field is None or not agree(lengths):
            return Parsed(MALFORMED)
    return Parsed(INCOMPLETE)


def parse_again(data: bytes) -> Parsed:
    lines = data.split(b"\n")[:-1]  # without the last, whose end has not come
    empty = next((i for i, line in enumerate(lines) if line != b"\r"), len(lines))
    if empty == len(lines):
        return Parsed(INCOMPLETE)
    start = REQUEST_LINE.fullmatch(lines[empty])
    if start is None:
        return Parsed(MALFORMED)
    parsed = parse_fields_again(lines[empty + 1 :], keep_alive=start[1] != b"0")
    size_before = sum(len(line) + 1 for line in lines[: empty + 1])
    return parsed._replace(
        head_size=parsed.head_size + size_before if parsed.result == COMPLETE else 0
    )


METHODS = [b"GET", b"POST", b"M-SEARCH", b"x"]
TARGETS = [b"/", b"*", b"/a/b?c=d", b"http://[::1]/", b"/\xc3\xa9"]
FIELDS = [
    b"Host: test",
    b"X:",
    b"X-Long: " + 300 * b"x",
    b"Accept: a,\tb ; c",
    b"connection: close",
    b"Connection: Keep-Alive",
    b"Connection: , x ,keep-alive\t,",
    b"Connection:keep-alive, CLOSE",
    b"Content-Length: 12",
    b"Content-Length: 0012 ",
    b"Content-Length: 999999999999999999",
    b"Content-Lengths: x",
    b"Connections: close",
    b"Transfer-Encoding: chunked",
]
DAMAGE = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b"\x7f",
    b"\xff",
    b"5",
]
DAMAGE += [b"Content-Length: 13\r\n", b"Connection: close\r\n"]


def make_head(rng: random.Random) -> bytes:
    """Most of them are complete, but two lengths may meet, or a coding come."""
    start = b"%s %s HTTP/1.%d" % (rng.choice(METHODS), rng.choice(TARGETS), rng.randrange(3))
    fields = rng.choices(FIELDS, k=rng.randrange(5))
    return rng.randrange(3) * b"\r\n" + b"\r\n".join([start, *fields, b"", b""])


def damage(rng: random.Random, head: bytes) -> bytes:
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(head) + 1)
        removed = rng.choice([0, 0, 1, 2, 20])
        head = head[:at] + rng.choice([b"", *DAMAGE]) + head[at + removed :]
    return head


@pytest.fixture
def rng() -> random.Random:
    return random.Random(1)


def test_a_part_of_a_well_formed_head_is_incomplete_and_never_malformed(parse: Parse, rng):
    made = [make_head(rng) for _ in range(300)]
    heads = [
        head for head, parsed in zip(made, parse(made), strict=True) if parsed.result == COMPLETE
    ]
    assert len(heads) > 150
    parts = [head[:size] for head in heads for size in range(len(head))]
    assert set(parse(parts)) == {Parsed(INCOMPLETE)}


def test_made_up_and_damaged_heads_are_understood_as_by_the_second_opinion(parse: Parse, rng):
    heads = [make_head(rng) for _ in range(2000)]
    heads += [damage(rng, head) for head in heads for _ in range(10)]
    parsed = parse(heads)
    for head, first in zip(heads, parsed, strict=True):
        assert first == parse_again(head), head
    counts = [sum(one.result == result for one in parsed) for result in range(4)]
    assert min(counts) > 500, "each result should be tried often"


def test_what_follows_a_head_makes_no_difference(parse: Parse, rng):
    heads = [make_head(rng) for _ in range(500)]
    alone = parse(heads)
    for rest in (b"x", b"\n", b"\r\n", b"\0", make_head(rng), 20_000 * b"\r"):
        assert parse([head + rest for head in heads]) == alone


def test_noise_does_no_harm(parse: Parse, rng):
    noise = [rng.randbytes(rng.randrange(300)) for _ in range(2000)]
    lines = [b"".join(rng.choices(DAMAGE, k=rng.randrange(40))) for _ in range(2000)]
    for data, parsed in zip(noise + lines, parse(noise + lines), strict=True):
        assert parsed == parse_again(data), data
