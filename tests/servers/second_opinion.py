"""How requests are framed, a second time: RFC 9112 as regular expressions, with what the servers leave out, but without
limits of size. Where it leaves open when or how something is refused, several results are right: hence sets."""

import re
from typing import NamedTuple

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
