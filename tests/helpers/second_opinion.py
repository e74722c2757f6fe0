"""A second implementation of how requests are framed and answered: RFC 9110 and 9112 as regular expressions. It leaves
out what the servers leave out, but has no limits of size. It reports an error at the first wrong byte."""

import re
from typing import NamedTuple

from helpers.harness import CONTINUE, refusal, response

COMPLETE, INCOMPLETE, MALFORMED, UNSUPPORTED = range(4)
REFUSALS = {MALFORMED: refusal("400 Bad Request"), UNSUPPORTED: refusal("501 Not Implemented")}
CHUNKED = -1  # in place of a length


class Parsed(NamedTuple):
    result: int
    head_size: int = 0
    content_length: int = 0
    keep_alive: bool = False
    is_head: bool = False
    is_1_0: bool = False
    expects_continue: bool = False


class Outcome(NamedTuple):
    """What a client receives after all that it sent."""

    received: bytes
    ended: bool


TOKEN_CHAR = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
TOKEN = TOKEN_CHAR + rb"+"
TEXT_CHAR = rb"[^\x00-\x08\x0a-\x1f\x7f]"
TARGET = rb"[!\"$-~]+"
LONG_METHOD = re.compile(TOKEN_CHAR + rb"{8}")
METHODS = {b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"}
NAME_CHAR = rb"[A-Za-z0-9._~!$&'()*+;=-]"
ADDRESS = rb"\[[0-9A-Fa-f:.]+(?:%%%s*)?\]" % NAME_CHAR
NAME = rb"(?:%s|%%[0-9A-Fa-f]{2})" % NAME_CHAR
AUTHORITY = re.compile(rb"(?:%s|%s*)(?::[0-9]*)?" % (ADDRESS, NAME))
ABSOLUTE = re.compile(rb"(?i:https?)://(?:%s|%s+)(?::[0-9]*)?(?:[/?].*)?" % (ADDRESS, NAME))
QUOTED_BEGUN = rb"\"(?:[\t !#-\[\]-~\x80-\xff]|\\%s)*" % TEXT_CHAR
EXTENSION = rb"[ \t]*;[ \t]*%s(?:[ \t]*=[ \t]*(?:%s|%s\"))?" % (TOKEN, TOKEN, QUOTED_BEGUN)
CHUNK_LINE = rb"([0-9A-Fa-f]+)(?:%s)*" % EXTENSION
SIZE = re.compile(rb"[0-9A-Fa-f]*")
SIZE_MAX = (1 << 60) - 1
LENGTH_MAX = (1 << 64) // 100 * 10


def begun(*parts: bytes) -> bytes:
    """A pattern for any start of these parts in a row. The pattern of a part must match the starts of it, too."""
    pattern = b""
    for part in reversed(parts):
        pattern = rb"(?:%s%s)?" % (part, pattern)
    return pattern


REQUEST_LINE = re.compile(rb"(%s) (%s) HTTP/1\.([0-9])" % (TOKEN, TARGET))
VERSION_BEGUN = begun(*(bytes([byte]) for byte in b"HTTP/1"), rb"\.", rb"[0-9]", rb"\r")
LINE_BEGUN = re.compile(begun(TOKEN, b" ", TARGET, b" ", VERSION_BEGUN))
FIELD = re.compile(rb"(%s):[ \t]*(%s*?)[ \t]*" % (TOKEN, TEXT_CHAR))
FIELD_BEGUN = re.compile(begun(TOKEN, b":", TEXT_CHAR + b"*", rb"\r"))
VALUE_BEGUN = rb"(?:%s|%s\\?)" % (TOKEN, QUOTED_BEGUN)
EXTENSION_BEGUN = begun(rb"[ \t]*;[ \t]*", TOKEN, rb"[ \t]*=[ \t]*", VALUE_BEGUN)
CHUNK_BEGUN = re.compile(
    rb"(?:%s(?:\r|[ \t]*|%s|[ \t]*;[ \t]*%s[ \t]*)?)?" % (CHUNK_LINE, EXTENSION_BEGUN, TOKEN)
)


def is_target(target: bytes, method: bytes) -> bool:
    if target == b"*":
        return method == b"OPTIONS" or method not in METHODS
    return method not in METHODS or target[:1] == b"/" or bool(ABSOLUTE.fullmatch(target))


def judge_request_line(line: bytes, is_whole: bool) -> int:
    """`line` comes without its line end, except if only a part of that has arrived."""
    if LONG_METHOD.match(line):
        return UNSUPPORTED
    method, _, rest = line.partition(b" ")
    target, space, _ = rest.partition(b" ")
    if space and re.fullmatch(TARGET, target) and not is_target(target, method):
        return MALFORMED
    if not is_whole:
        return INCOMPLETE if LINE_BEGUN.fullmatch(line) else MALFORMED
    if not REQUEST_LINE.fullmatch(line):
        return MALFORMED
    return COMPLETE if method in METHODS else UNSUPPORTED


def split_list(values: list[bytes]) -> list[bytes]:
    words = [word.strip(b" \t").lower() for value in values for word in value.split(b",")]
    return [word for word in words if word]


def is_length(length: bytes) -> bool:
    return re.fullmatch(rb"[0-9]+", length) is not None and int(length) // 10 <= LENGTH_MAX // 10


def is_bad_so_far(values: dict[bytes, list[bytes]]) -> bool:
    lengths, hosts = values[b"content-length"], values[b"host"]
    codings = split_list(values[b"transfer-encoding"])
    return (
        not all(map(is_length, lengths))
        or len(set(map(int, lengths))) > 1
        or len(hosts) > 1
        or not all(map(AUTHORITY.fullmatch, hosts))
        or b"chunked" in codings[:-1]
    )


def judge_head(values: dict[bytes, list[bytes]], is_1_0: bool) -> int:
    """Checks that need the complete head: RFC 9112, 3.2, 6.1 and 6.3."""
    if not values[b"host"] and not is_1_0:
        return MALFORMED
    if not values[b"transfer-encoding"]:
        return COMPLETE
    codings = split_list(values[b"transfer-encoding"])
    if codings[-1:] != [b"chunked"] or values[b"content-length"] or is_1_0:
        return MALFORMED
    return COMPLETE if len(codings) == 1 else UNSUPPORTED


def parse_again(data: bytes) -> Parsed:
    *lines, rest = data.split(b"\n")
    position = 0
    while lines and lines[0] == b"\r":
        position += len(lines.pop(0)) + 1
    if not lines:
        result = judge_request_line(rest, False) if rest not in (b"", b"\r") else INCOMPLETE
        return Parsed(result)
    start = lines.pop(0)
    result = judge_request_line(start[:-1] if start[-1:] == b"\r" else start + b"\n", True)
    if result != COMPLETE:
        return Parsed(result)
    position += len(start) + 1
    is_1_0 = start.endswith(b"0\r")
    names = (b"content-length", b"transfer-encoding", b"connection", b"expect", b"host")
    values: dict[bytes, list[bytes]] = {name: [] for name in names}
    for line in lines:
        position += len(line) + 1
        if line == b"\r":
            words = split_list(values[b"connection"])
            lengths = values[b"content-length"]
            result = judge_head(values, is_1_0)
            return Parsed(
                result,
                position,
                CHUNKED if values[b"transfer-encoding"] else int((lengths or [b"0"])[0]),
                (not is_1_0 or b"keep-alive" in words) and b"close" not in words,
                start.startswith(b"HEAD "),
                is_1_0,
                b"100-continue" in split_list(values[b"expect"]),
            )
        field = FIELD.fullmatch(line[:-1]) if line[-1:] == b"\r" else None
        if field is None:
            return Parsed(MALFORMED)
        values.setdefault(field[1].lower(), []).append(field[2])
        if is_bad_so_far(values):
            return Parsed(MALFORMED)
    return Parsed(INCOMPLETE if FIELD_BEGUN.fullmatch(rest) or rest == b"\r" else MALFORMED)


# In place of the size of a body.
NOT_YET, BAD = -1, -2


def find_chunks_end(body: bytes) -> int:
    """The size of a chunked body with its trailers: RFC 9112, 7.1."""
    at = 0
    while True:
        end = body.find(b"\n", at)
        line = body[at : end if end >= 0 else None]
        size_text = SIZE.match(line)[0]
        if int(size_text or b"0", 16) > SIZE_MAX:
            return BAD
        if end < 0:
            return NOT_YET if CHUNK_BEGUN.fullmatch(line) else BAD
        if not re.fullmatch(CHUNK_LINE + rb"\r", line):
            return BAD
        size = int(size_text, 16)
        at = end + 1
        if size == 0:
            return find_trailers_end(body, at)
        mark = body[at + size : at + size + 2]
        if mark != b"\r\n":
            return NOT_YET if b"\r\n".startswith(mark) else BAD
        at += size + 2


def find_trailers_end(body: bytes, at: int) -> int:
    while (end := body.find(b"\n", at)) >= 0:
        line = body[at:end]
        if line == b"\r":
            return end + 1
        if not re.fullmatch(FIELD.pattern + rb"\r", line):
            return BAD
        at = end + 1
    rest = body[at:]
    return NOT_YET if FIELD_BEGUN.fullmatch(rest) or rest == b"\r" else BAD


def answer_to(head: Parsed) -> bytes:
    field = b""
    if not head.keep_alive:
        field = b"Connection: close\r\n"
    elif head.is_1_0:
        field = b"Connection: keep-alive\r\n"
    return response(field, not head.is_head)


def take_again(stream: bytes) -> Outcome:
    received = b""
    while True:
        head = parse_again(stream)
        if head.result == INCOMPLETE:
            return Outcome(received, False)
        if head.result != COMPLETE:
            return Outcome(received + REFUSALS[head.result], True)
        stream = stream[head.head_size :]
        size = head.content_length
        if head.expects_continue and not head.is_1_0 and size != 0:
            received += CONTINUE
        end = find_chunks_end(stream) if size == CHUNKED else size
        if end == BAD:
            return Outcome(received + REFUSALS[MALFORMED], True)
        if end == NOT_YET or end > len(stream):
            return Outcome(received, False)
        received += answer_to(head)
        if not head.keep_alive:
            return Outcome(received, True)
        stream = stream[end:]
