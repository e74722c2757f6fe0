"""The framing of requests without sockets, sanitized: made-up and damaged heads, and whole streams of requests with
their bodies, against a second opinion."""

import random
import struct
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from harness import HERE, SANITIZED, compile_c
from second_opinion import COMPLETE, INCOMPLETE, Outcome, Parsed, is_right, take_again

Parse = Callable[[Sequence[bytes]], list[Parsed]]
Take = Callable[[Sequence[bytes], int], list[Outcome]]


def run(command: Sequence[str | Path], inputs: Sequence[bytes]) -> list[list[int]]:
    """The numbers that a program prints for each input."""
    records = b"".join(struct.pack("I", len(one)) + one for one in inputs)
    done = subprocess.run(command, input=records, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = [[int(word) for word in line.split()] for line in done.stdout.splitlines()]
    assert len(lines) == len(inputs)
    return lines


@pytest.fixture(scope="module")
def parse(tmp_path_factory: pytest.TempPathFactory) -> Parse:
    folder = tmp_path_factory.mktemp("framing")
    program = compile_c(HERE / "parse_heads.c", folder / "parse_heads", SANITIZED)

    def parse_all(heads: Sequence[bytes]) -> list[Parsed]:
        # Only a complete head has a size, a length and an end.
        return [
            Parsed(line[0], line[1], line[2], bool(line[3]))
            if line[0] == COMPLETE
            else Parsed(line[0])
            for line in run([program], heads)
        ]

    return parse_all


@pytest.fixture(scope="module")
def take(tmp_path_factory: pytest.TempPathFactory) -> Take:
    folder = tmp_path_factory.mktemp("framing")
    program = compile_c(HERE / "take_streams.c", folder / "take_streams", SANITIZED)

    def take_all(streams: Sequence[bytes], piece_size: int) -> list[Outcome]:
        lines = run([program, str(piece_size)], streams)
        return [Outcome(answers, refused, bool(ended)) for answers, refused, ended in lines]

    return take_all


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
    b"transfer-encoding:\tCHUNKED ",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, identity",
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
        assert is_right(first, head), head
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
        assert is_right(parsed, data), data


# Each with what must come of it: the answers, the refusal, and whether the connection ends.
GET = b"GET / HTTP/1.1\r\n\r\n"
CODED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
OVERFLOW = b"10000000000000005\r\nhello\r\n0\r\n\r\n"
STREAMS = {
    "a length": (b"POST / HTTP/1.1\r\nContent-Length: 18\r\n\r\n" + GET + GET, (2, 0, False)),
    "no chunks": (CODED + b"0\r\n\r\n" + GET, (2, 0, False)),
    "chunks": (CODED + b"5\r\nhello\r\n2\r\n\r\n\r\n0\r\n\r\n" + GET, (2, 0, False)),
    "a request in a chunk": (CODED + b"12\r\n" + GET + b"\r\n0\r\n\r\n" + GET, (2, 0, False)),
    "sizes in hex": (
        CODED + b"a\r\n0123456789\r\n00B\r\n0123456789a\r\n00\r\n\r\n" + GET,
        (2, 0, False),
    ),
    "extensions": (CODED + b'2;a;b=c;d="e f"\r\nab\r\n0;x\r\n\r\n' + GET, (2, 0, False)),
    "space before an extension": (CODED + b"2 ; a\r\nab\r\n0\r\n\r\n" + GET, (2, 0, False)),
    "trailers": (CODED + b"0\r\nX: y\r\nContent-Length: 100\r\n\r\n" + GET, (2, 0, False)),
    "the coding in another case": (
        CODED.replace(b"chunked", b"ChunKed") + b"0\r\n\r\n" + GET,
        (2, 0, False),
    ),
    "closed after the body": (
        CODED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + b"0\r\n\r\n" + GET,
        (1, 0, True),
    ),
    "no last chunk": (CODED + b"5\r\nhello\r\n", (0, 0, False)),
    "no end of the trailers": (CODED + b"0\r\nX: y\r\n", (0, 0, False)),
    "no size": (CODED + b"\r\n" + GET, (0, 400, True)),
    "no hex": (CODED + b"5g\r\nhello\r\n0\r\n\r\n" + GET, (0, 400, True)),
    "a size with 0x": (CODED + b"0x5\r\nhello\r\n0\r\n\r\n" + GET, (0, 400, True)),
    "a size with a sign": (CODED + b"+5\r\nhello\r\n0\r\n\r\n" + GET, (0, 400, True)),
    "a negative size": (CODED + b"-5\r\nhello\r\n0\r\n\r\n" + GET, (0, 400, True)),
    "space before a size": (CODED + b" 5\r\nhello\r\n0\r\n\r\n" + GET, (0, 400, True)),
    "a size beyond 64 bits": (CODED + OVERFLOW + GET, (0, 400, True)),
    "more than the chunk": (CODED + b"4\r\nhello\r\n0\r\n\r\n" + GET, (0, 400, True)),
    "bare LF after a size": (CODED + b"5\nhello\r\n0\r\n\r\n" + GET, (0, 400, True)),
    "bare LF after an extension": (CODED + b"5;a\nhello\r\n0\r\n\r\n" + GET, (0, 400, True)),
    "bare LF after a chunk": (CODED + b"5\r\nhello\n0\r\n\r\n" + GET, (0, 400, True)),
    "bare CR after a size": (CODED + b"5\rhello\r\n0\r\n\r\n" + GET, (0, 400, True)),
    "bare LF after the last chunk": (CODED + b"0\n\r\n" + GET, (0, 400, True)),
    "bare LF after a trailer": (CODED + b"0\r\nX: y\n\r\n" + GET, (0, 400, True)),
    "bare LF after the trailers": (CODED + b"0\r\nX: y\r\n\n" + GET, (0, 400, True)),
    "a length before the coding": (
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        + GET,
        (0, 400, True),
    ),
    "a length after the coding": (
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n"
        + GET,
        (0, 400, True),
    ),
    "HTTP/1.0": (CODED.replace(b"1.1", b"1.0") + b"0\r\n\r\n" + GET, (0, 400, True)),
    "another coding": (CODED.replace(b"chunked", b"gzip, chunked") + b"0\r\n\r\n", (0, 501, True)),
    "after good ones": (CODED + b"1\r\nx\r\n0\r\n\r\n" + GET + CODED + b"x\r\n", (2, 400, True)),
}


@pytest.mark.parametrize("stream, outcome", STREAMS.values(), ids=STREAMS)
def test_a_body_is_taken_for_what_it_is(take: Take, stream, outcome):
    for piece_size in (1, 7, 100_000):
        assert take([stream], piece_size) == [outcome]
    assert Outcome(*outcome) in take_again(stream)


ENDLESS = {
    "an extension": b"1;" + 1_000_000 * b"x",
    "zeros": 1_000_000 * b"0",
    "a trailer": b"0\r\nX: " + 1_000_000 * b"x",
    "trailers": b"0\r\n" + 100_000 * b"X: yyyyy\r\n",
}


@pytest.mark.parametrize("body", ENDLESS.values(), ids=ENDLESS)
def test_what_is_no_data_of_a_body_is_limited(take: Take, body):
    for piece_size in (100, 100_000):
        (outcome,) = take([CODED + body], piece_size)
        assert outcome in {Outcome(0, 400, True), Outcome(0, 431, True)}


def test_as_many_trailers_as_fields_are_taken(take: Take):
    body = b"1\r\nx\r\n0\r\n" + 400 * b"X: yyyyy\r\n" + b"\r\n"  # 4000 bytes
    assert take([CODED + body + GET], 1000) == [Outcome(2, 0, False)]


def make_chunks(rng: random.Random) -> bytes:
    parts = []
    for _ in range(rng.randrange(4)):
        data = rng.choice([b"x", 30 * b"x", GET, CODED, b"\r\n", b"0\r\n\r\n"])
        size = rng.choice([b"%x", b"%X", b"%04x"]) % len(data)
        parts += [size, rng.choice([b"", b"", b";a", b';a="b";c']), b"\r\n", data, b"\r\n"]
    trailers = rng.choices([b"X: y\r\n", b"Content-Length: 9\r\n"], k=rng.choice([0, 0, 2]))
    return b"".join([*parts, b"0\r\n", *trailers, b"\r\n"])


def make_stream(rng: random.Random) -> bytes:
    """Mostly well-formed requests, one after the other."""
    data = b""
    for _ in range(rng.randrange(1, 4)):
        head = make_head(rng) if rng.randrange(5) == 0 else rng.choice([GET, CODED, CODED])
        body = rng.choice([GET, b"x", b""])
        length = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
        data += rng.choice([length + body, head + (make_chunks(rng) if head == CODED else b"")])
    return data


def test_made_up_and_damaged_streams_are_taken_as_by_the_second_opinion(take: Take, rng):
    streams = [make_stream(rng) for _ in range(2000)]
    streams += [damage(rng, stream) for stream in streams for _ in range(10)]
    streams += [stream[: rng.randrange(len(stream) + 1)] for stream in streams]
    rights = [take_again(stream) for stream in streams]
    assert sum(len(right) == 1 for right in rights) > 0.9 * len(streams), "else little is asked"
    outcomes = take(streams, 100_000)
    for stream, outcome, right in zip(streams, outcomes, rights, strict=True):
        assert outcome in right, stream
    assert take(streams, 3) == outcomes
    for refused in (0, 400, 501):
        assert sum(outcome.refused == refused for outcome in outcomes) > 500
