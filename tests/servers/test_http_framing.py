"""The framing of requests without sockets, sanitized: made-up and damaged heads, and whole streams of requests with
their bodies, against a second opinion."""

import random
import re
import struct
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from harness import HERE, SANITIZED, compile_c

COMPLETE, INCOMPLETE, MALFORMED, UNSUPPORTED = range(4)


CHUNKED = -1  # in place of a length


class Parsed(NamedTuple):
    result: int
    head_size: int = 0
    content_length: int = 0
    keep_alive: bool = False


class Outcome(NamedTuple):
    """What became of all that a client sent."""

    answers: int
    refused: int  # status of the refusal at the end; 0: none
    ended: bool


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


# The second opinion: RFC 9112 as regular expressions, with what the servers leave out. Where it leaves open when or how
# something is refused, several results are right: hence sets.
TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
TEXT = rb"[^\x00-\x08\x0a-\x1f\x7f]*"
REQUEST_LINE = re.compile(rb"%s [^\x00-\x20\x7f]+ HTTP/1\.([0-9])\r" % TOKEN)
FIELD = re.compile(rb"(%s):[ \t]*(%s?)[ \t]*\r" % (TOKEN, TEXT))
EXTENSION = rb"[ \t]*;[ \t]*%s(?:[ \t]*=[ \t]*(?:%s|\"[^\x00-\x08\x0a-\x1f\x7f\"\\]*\"))?" % (
    TOKEN,
    TOKEN,
)
CHUNK_LINE = re.compile(rb"[0-9A-Fa-f]{1,15}(?:%s)*\r" % EXTENSION)
LENIENT_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]+)[ \t]*(?:;%s)?\r" % TEXT)
CHUNK_LINE_BEGUN = re.compile(rb"|[0-9A-Fa-f]{1,15}\r?")
FIELD_BEGUN = re.compile(rb"\r|(?:%s(?::%s\r?)?)?" % (TOKEN, TEXT))


def agree(lengths: list[bytes]) -> bool:
    are_numbers = all(re.fullmatch(rb"[0-9]{1,18}", length) for length in lengths)
    return are_numbers and len({int(length) for length in lengths}) <= 1


def split_list(values: list[bytes]) -> list[bytes]:
    return [word.strip(b" \t").lower() for value in values for word in value.split(b",")]


def judge_codings(codings: list[bytes], lengths: list[bytes], version: bytes) -> set[int]:
    """RFC 9112, 6.1 and 6.3: what is wrong with how a body is coded; any that applies may be told."""
    names = split_list(codings)
    wrong = set()
    if codings and names != [b"chunked"]:
        wrong |= {UNSUPPORTED}
        if names.count(b"chunked") != 1 or names[-1] != b"chunked":
            wrong |= {MALFORMED}
    if codings and (lengths or version == b"0"):
        wrong |= {MALFORMED}
    return wrong


def parse_fields_again(lines: list[bytes], version: bytes) -> set[Parsed]:
    """Parse the lines after the request line; head_size counts these alone."""
    values: dict[bytes, list[bytes]] = {}
    lengths = values.setdefault(b"content-length", [])
    codings = values.setdefault(b"transfer-encoding", [])
    options = values.setdefault(b"connection", [])
    for i, line in enumerate(lines):
        wrong = {Parsed(result) for result in judge_codings(codings, lengths, version)}
        if line == b"\r":
            words = split_list(options)
            kept = (version != b"0" or b"keep-alive" in words) and b"close" not in words
            size = sum(len(line) + 1 for line in lines[: i + 1])
            length = CHUNKED if codings else int((lengths or [b"0"])[0])
            return wrong or {Parsed(COMPLETE, size, length, kept)}
        field = FIELD.fullmatch(line)
        if field is not None:
            values.setdefault(field[1].lower(), []).append(field[2])
        if field is None or not agree(lengths):
            return wrong | {Parsed(MALFORMED)}
    wrong = {Parsed(result) for result in judge_codings(codings, lengths, version)}
    return wrong | {Parsed(INCOMPLETE)}


def parse_again(data: bytes) -> set[Parsed]:
    lines = data.split(b"\n")[:-1]  # without the last, whose end has not come
    empty = next((i for i, line in enumerate(lines) if line != b"\r"), len(lines))
    if empty == len(lines):
        return {Parsed(INCOMPLETE)}
    start = REQUEST_LINE.fullmatch(lines[empty])
    if start is None:
        return {Parsed(MALFORMED)}
    size_before = sum(len(line) + 1 for line in lines[: empty + 1])
    return {
        parsed._replace(head_size=parsed.head_size + size_before)
        if parsed.result == COMPLETE
        else parsed
        for parsed in parse_fields_again(lines[empty + 1 :], start[1])
    }


def is_right(parsed: Parsed, head: bytes) -> bool:
    # The length beside a coding means nothing.
    return any(
        parsed
        == (
            again._replace(content_length=parsed.content_length)
            if again.content_length == CHUNKED
            else again
        )
        for again in parse_again(head)
    )


# In place of the size of a body.
NOT_YET, BAD = -1, -2


def find_chunks_end(body: bytes, at: int = 0) -> set[int]:
    """RFC 9112, 7.1: the size of a chunked body, with its trailers."""
    end = body.find(b"\n", at)
    if end < 0:
        return {NOT_YET} if CHUNK_LINE_BEGUN.fullmatch(body[at:]) else {NOT_YET, BAD}
    line = LENIENT_CHUNK_LINE.fullmatch(body[at:end])
    if line is None or int(line[1], 16) >= 1 << 64:
        return {BAD}
    result = set() if CHUNK_LINE.fullmatch(line[0]) else {BAD}
    if int(line[1], 16) == 0:
        return result | find_trailers_end(body, end + 1)
    end += 1 + int(line[1], 16)
    mark = body[end : end + 2]
    if mark == b"\r\n":
        return result | find_chunks_end(body, end + 2)
    if len(mark) < 2:
        result |= {NOT_YET}
    return result | ({BAD} if not b"\r\n".startswith(mark) else set())


def find_trailers_end(body: bytes, at: int) -> set[int]:
    result = set()
    while (end := body.find(b"\n", at)) >= 0:
        line = body[at:end]
        if line == b"\r":
            return result | {end + 1}
        if not line.endswith(b"\r"):
            return {BAD}
        if FIELD.fullmatch(line) is None:
            result = {BAD}  # they may be thrown away unseen
        at = end + 1
    return result | ({NOT_YET} if FIELD_BEGUN.fullmatch(body[at:]) else {NOT_YET, BAD})


def take_again(stream: bytes, answers: int = 0) -> set[Outcome]:
    outcomes = set()
    for head in parse_again(stream):
        rest = stream[head.head_size :]
        if head.result == INCOMPLETE:
            ends = {NOT_YET}
        elif head.result == UNSUPPORTED:
            outcomes |= {Outcome(answers, 501, True)}
            continue
        elif head.result == MALFORMED:
            ends = {BAD}
        elif head.content_length == CHUNKED:
            ends = find_chunks_end(rest)
        else:
            ends = {head.content_length if head.content_length <= len(rest) else NOT_YET}
        for end in ends:
            if end == NOT_YET:
                outcomes |= {Outcome(answers, 0, False)}
            elif end == BAD:
                outcomes |= {Outcome(answers, 400, True)}
            elif head.keep_alive:
                outcomes |= take_again(rest[end:], answers + 1)
            else:
                outcomes |= {Outcome(answers + 1, 0, True)}
    return outcomes


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
    "a length": (b"POST / HTTP/1.1\r\nContent-Length: 22\r\n\r\n" + GET + GET, (2, 0, False)),
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
PIECE_SIZES = [1, 7, 100_000]  # bytes


@pytest.mark.parametrize("piece_size", PIECE_SIZES)
@pytest.mark.parametrize("stream, outcome", STREAMS.values(), ids=STREAMS)
def test_a_body_is_taken_for_what_it_is(take: Take, stream, outcome, piece_size):
    assert take([stream], piece_size) == [outcome]
    assert Outcome(*outcome) in take_again(stream)


ENDLESS = {
    "an extension": b"1;" + 1_000_000 * b"x",
    "extensions of many chunks": 1_000 * (b"1;" + 1_000 * b"x" + b"\r\nx\r\n"),
    "zeros": 1_000_000 * b"0",
    "a trailer": b"0\r\nX: " + 1_000_000 * b"x",
    "trailers": b"0\r\n" + 100_000 * b"X: yyyyy\r\n",
}


@pytest.mark.parametrize("piece_size", PIECE_SIZES)
@pytest.mark.parametrize("body", ENDLESS.values(), ids=ENDLESS)
def test_what_is_no_data_of_a_body_is_limited(take: Take, body, piece_size):
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
