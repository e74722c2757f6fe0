"""The framing of requests, without sockets and with sanitizers. The tests compare it with a second implementation, on
made-up and damaged heads and on streams of requests with their bodies."""

import random
import struct
import subprocess
from collections.abc import Callable, Sequence

import pytest

from helpers.exchanges import (
    BAD,
    CLOSED,
    CODED,
    EXCHANGES,
    HEAD,
    TO_HEAD,
    UNSUPPORTED,
    ends,
)
from helpers.harness import CONTINUE, GET, HERE, POST, RESPONSE, SANITIZED, compile_c, refusal
from helpers.second_opinion import COMPLETE, Outcome, parse_again, take_again

Take = Callable[[Sequence[bytes], int], list[Outcome]]


@pytest.fixture(scope="module")
def take(tmp_path_factory: pytest.TempPathFactory) -> Take:
    program = tmp_path_factory.mktemp("framing") / "take_streams"
    compile_c(HERE / "take_streams.c", program, SANITIZED)

    def take_all(streams: Sequence[bytes], piece_size: int) -> list[Outcome]:
        records = b"".join(struct.pack("I", len(one)) + one for one in streams)
        command = [program, str(piece_size)]
        done = subprocess.run(command, input=records, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        lines = [line.split() for line in done.stdout.decode().splitlines()]
        assert len(lines) == len(streams)
        return [Outcome(bytes.fromhex(data.strip("-")), ended == "1") for data, ended in lines]

    return take_all


METHODS = [b"GET", b"POST", b"HEAD", b"OPTIONS"]
TARGETS = [b"/", b"/a/b?c=d", b"http://[::1]/"]
OTHER_METHODS = [b"x", b"CONNECT", b"SUBSCRIBE"]
OTHER_TARGETS = [b"*", b"/\xc3\xa9", b"/#", b"a:1", b"https://a@b", b"http://a?b"]
HOSTS = [b"Host: test", b"host:[::1%25lo]:80", b"HOST: \t"]
OTHER_HOSTS = [b"Host: a/b", b"Host: a,b", b"Host: [::1", b"Host: %2", b"Host: a:b"]
FIELDS = [
    b"X:",
    b"X-Long: " + 300 * b"x",
    b"Accept: a,\tb ; c",
    b"connection: close",
    b"Connection: Keep-Alive",
    b"Connection: , x ,keep-alive\t,",
    b"Connection:keep-alive, CLOSE",
    b"Content-Length: 12",
    b"Content-Length: 0000000000000000000012 ",
    b"Content-Length: 999999999999999999",
    b"Content-Length: 1844674407370955161",
    b"Content-Length: 18446744073709551610",
    b"Content-Lengths: x",
    b"Connections: close",
    b"Expect: 100-continue",
    b"expect: x, 100-Continue",
    b"Transfer-Encoding: chunked",
    b"transfer-encoding:\tCHUNKED ",
    b"Transfer-Encoding: ,chunked,",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding:",
]
DAMAGE = [bytes([byte]) for byte in b"\r\n\0 \t:,\x7f\xff5"]
DAMAGE += [b"\r\n", b"\r\n\r\n", b"Content-Length: 13\r\n", b"Connection: close\r\n"]


def choose(rng: random.Random, usual: list[bytes], other: list[bytes]) -> bytes:
    return rng.choice(other if rng.randrange(15) == 0 else usual)


def make_head(rng: random.Random) -> bytes:
    """Most of them are complete, but some have two lengths, or a length and a coding."""
    method, target = choose(rng, METHODS, OTHER_METHODS), choose(rng, TARGETS, OTHER_TARGETS)
    start = b"%s %s HTTP/1.%d" % (method, target, rng.randrange(3))
    fields = rng.choices(FIELDS, k=rng.randrange(4))
    for _ in range(rng.choice([1, 1, 1, 1, 1, 1, 1, 1, 0, 2])):
        fields.insert(rng.randrange(len(fields) + 1), choose(rng, HOSTS, OTHER_HOSTS))
    return rng.randrange(3) * b"\r\n" + b"\r\n".join([start, *fields, b"", b""])


def damage(rng: random.Random, head: bytes) -> bytes:
    for _ in range(rng.choice([1, 1, 1, 2])):
        at = rng.randrange(len(head) + 1)
        removed = rng.choice([0, 0, 1, 2, 20])
        head = head[:at] + rng.choice([b"", *DAMAGE]) + head[at + removed :]
    return head


@pytest.fixture
def rng() -> random.Random:
    return random.Random(1)


def test_a_part_of_a_well_formed_head_is_incomplete_and_never_malformed(take: Take, rng):
    made = [make_head(rng) for _ in range(300)]
    heads = [head for head in made if parse_again(head).result == COMPLETE]
    assert len(heads) > 100
    parts = [head[:size] for head in heads for size in range(len(head))]
    assert set(take(parts, 100_000)) == {Outcome(b"", False)}


@pytest.mark.parametrize("piece_size", [1, 7, 100_000])
def test_each_request_gets_its_answer(take: Take, piece_size):
    outcomes = take([request for request, _ in EXCHANGES.values()], piece_size)
    for (request, answers), outcome in zip(EXCHANGES.values(), outcomes, strict=True):
        assert outcome == (b"".join(answers), ends(answers)), request


def test_the_second_opinion_knows_the_answers_too():
    for request, answers in EXCHANGES.values():
        if not answers[-1].startswith((b"HTTP/1.1 431", b"HTTP/1.1 414")):  # it has no size limits
            assert take_again(request) == (b"".join(answers), ends(answers)), request


def test_as_many_trailers_as_fields_are_taken(take: Take):
    body = b"1\r\nx\r\n0\r\n" + 400 * b"X: yyyyy\r\n" + b"\r\n"  # 4000 bytes
    assert take([CODED + body + GET], 1000) == [Outcome(2 * RESPONSE, False)]


def test_answers_that_nobody_takes_are_limited(take: Take):
    """Answers that alternate need memory, each for itself."""
    (outcome,) = take([40_000 * (GET + HEAD)], 100_000)
    assert outcome.ended
    assert outcome.received == 32_768 * (RESPONSE + TO_HEAD) + refusal("503 Service Unavailable")


def make_chunks(rng: random.Random) -> bytes:
    parts = []
    for _ in range(rng.randrange(4)):
        data = rng.choice([b"x", 30 * b"x", GET, CODED, b"\r\n", b"0\r\n\r\n"])
        size = rng.choice([b"%x", b"%X", b"%04x"]) % len(data)
        extension = rng.choice([b"", b"", b";a", b';a="b\\"";c', b" ; a =\tb", b";a b", b";"])
        parts += [size, extension, b"\r\n", data, b"\r\n"]
    trailers = rng.choices([b"X: y\r\n", b"Content-Length: 9\r\n"], k=rng.choice([0, 0, 2]))
    return b"".join([*parts, b"0\r\n", *trailers, b"\r\n"])


def make_stream(rng: random.Random) -> bytes:
    """A few requests, one after the other, most of them well-formed."""
    data = b""
    for _ in range(rng.randrange(1, 4)):
        head = make_head(rng) if rng.randrange(5) == 0 else rng.choice([GET, HEAD, CODED, CODED])
        body = rng.choice([GET, b"x", b""])
        length = POST + b"Content-Length: %d\r\n\r\n" % len(body)
        data += rng.choice([length + body, head + (make_chunks(rng) if head == CODED else b"")])
    return data


def test_made_up_and_damaged_streams_are_taken_as_by_the_second_opinion(take: Take, rng):
    streams = [make(rng) for make in (make_head, make_stream) for _ in range(2000)]
    streams += [damage(rng, stream) for stream in streams for _ in range(10)]
    streams += [stream[: rng.randrange(len(stream) + 1)] for stream in streams]
    streams += [rng.randbytes(rng.randrange(300)) for _ in range(2000)]
    streams += [b"".join(rng.choices(DAMAGE, k=rng.randrange(40))) for _ in range(2000)]
    outcomes = take(streams, 100_000)
    for stream, outcome in zip(streams, outcomes, strict=True):
        assert outcome == take_again(stream), stream
    assert take(streams, 3) == outcomes
    for seen in (BAD, UNSUPPORTED, CLOSED, TO_HEAD, CONTINUE):
        assert sum(seen in outcome.received for outcome in outcomes) > 50
