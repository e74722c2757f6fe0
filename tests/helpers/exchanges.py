"""What a client sends at once, and the right answers by RFC 9110 and 9112. After an answer that says that it closes the
connection no other comes; without such an answer the connection stays open for the next request."""

from helpers.harness import CONTINUE, GET, GET_AND_CLOSE, POST, RESPONSE, refusal, response

HEAD_MAX = 8192  # bytes

KEEP_ALIVE, CLOSE = b"Connection: keep-alive\r\n", b"Connection: close\r\n"
TO_HEAD = response(has_body=False)
KEPT = response(KEEP_ALIVE)
CLOSED = response(CLOSE)
BAD = refusal("400 Bad Request")
UNSUPPORTED = refusal("501 Not Implemented")
URI_TOO_LONG = refusal("414 URI Too Long")
HEAD_TOO_LARGE = refusal("431 Request Header Fields Too Large")

HEAD = GET.replace(b"GET", b"HEAD")
CODED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
NO_CHUNKS = b"0\r\n\r\n"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"


def get(fields: bytes = b"", target: bytes = b"/", version: bytes = b"1.1") -> bytes:
    host = b"Host: test\r\n" if version != b"1.0" else b""
    return b"GET %b HTTP/%b\r\n%b%b\r\n" % (target, version, host, fields)


def get_from(host: bytes) -> bytes:
    return b"GET / HTTP/1.1\r\n" + host + b"\r\n"


def post(fields: bytes, body: bytes = b"") -> bytes:
    return POST + fields + b"\r\n" + body


def coded(coding: bytes, body: bytes = NO_CHUNKS) -> bytes:
    return post(b"Transfer-Encoding:" + coding + b"\r\n", body)


def head_of(size: int) -> bytes:
    """A request whose head has `size` bytes."""
    return get(b"X: %b\r\n" % (b"x" * (size - len(get(b"X: \r\n")))))


PLAIN = {
    "1.1": GET,
    "1.9": get(version=b"1.9"),
    "POST": GET.replace(b"GET", b"POST"),
    "PUT": GET.replace(b"GET", b"PUT"),
    "DELETE": GET.replace(b"GET", b"DELETE"),
    "PATCH": GET.replace(b"GET", b"PATCH"),
    "OPTIONS": GET.replace(b"GET", b"OPTIONS"),
    "OPTIONS of all": get(target=b"*").replace(b"GET", b"OPTIONS"),
    "a query": get(target=b"/some/where?a=b&c=%20"),
    "what browsers do not escape": get(target=b'/|?a[]="{b}"^`\\<>'),
    "a full target": get(target=b"http://[::1]:80/"),
    "a full target without a path": get(target=b"HTTPS://a.b?c"),
    "empty lines before it": b"\r\n\r\n" + GET,
    "an empty value": get(b"X:\r\n"),
    "bytes beyond ASCII in a value": get(b"X: \xff\x80\r\n"),
    "the longest head": head_of(HEAD_MAX),
    "a long target": get(target=b"/" + 8100 * b"a"),
    # Host
    "an empty host": get_from(b"Host:\r\n"),
    "space around a host": get_from(b"Host: \t test\t \r\n"),
    "a host and a port": get_from(b"HOST: localhost:8080\r\n"),
    "a host and an empty port": get_from(b"host: a_b.example:\r\n"),
    "a host with an escape": get_from(b"Host: %C3%BC!$&'()*+;=~\r\n"),
    "an IPv4 address": get_from(b"Host: 127.0.0.1:1\r\n"),
    "an IPv6 address": get_from(b"Host: [::FFFF:127.0.0.1]:80\r\n"),
    "an address and its interface": get_from(b"Host: [fe80::1%25eth0]\r\n"),
    # Connection
    "kept alive": get(KEEP_ALIVE),
    "another option": get(b"Connection: closed, close-not\r\n"),
    # bodies
    "a length of 0": post(b"Content-Length: 0\r\n"),
    "the same length twice": post(b"Content-Length: 1\r\ncontent-length:1\r\n", b"x"),
    "a length of 20 digits": post(b"Content-Length: 00000000000000000005\r\n", b"hello"),
    "a body like a request": post(b"Content-Length: %d\r\n" % len(GET), GET),
    "a body of 100,000 bytes": post(b"Content-Length: 100000\r\n", 100_000 * b"x"),
    "a body for GET": get(b"Content-Length: 5\r\n").replace(b"\r\n\r\n", b"\r\n\r\nhello"),
    "another expectation": post(b"Expect: 200-ok\r\nContent-Length: 1\r\n", b"x"),
    "an expectation without a body": get(b"Expect: 100-continue\r\n"),
    "no chunks": CODED + NO_CHUNKS,
    "a chunk": CODED + HELLO,
    "many chunks": CODED + 3000 * b"1\r\nx\r\n" + NO_CHUNKS,
    "a chunk of 100,000 bytes": CODED + b"186a0\r\n" + 100_000 * b"x" + b"\r\n" + NO_CHUNKS,
    "a chunk like a request": CODED + b"%X\r\n%b\r\n0\r\n\r\n" % (len(GET), GET),
    "a chunk like the end": CODED + b"7\r\n0\r\n\r\n\r\n\r\n" + NO_CHUNKS,
    "leading zeros": CODED + b"0005\r\nhello\r\n000\r\n\r\n",
    "extensions": CODED + b'5;a;b=c;d="e \\"f"\r\nhello\r\n0;last\r\n\r\n',
    "space around extensions": CODED + b'2 ; a\t= b ;c = "d" ;e\r\nab\r\n0\t;x\r\n\r\n',
    "trailers": CODED + b"0\r\nX: y\r\nTransfer-Encoding: gzip\r\nContent-Length: 99\r\n\r\n",
    "a coding in another case": coded(b" ChunKed\t", HELLO),
    "empty elements before a coding": coded(b",, chunked", HELLO),
    "an empty element after a coding": coded(b" chunked, ", HELLO),
    "a coding in the second field": coded(b" ,\r\nTransfer-Encoding: chunked", HELLO),
}
OTHER = {
    "HEAD": (HEAD, TO_HEAD),
    "HEAD, then GET": (HEAD + GET, TO_HEAD, RESPONSE),
    "HEAD with a body": (HEAD[:-2] + b"Content-Length: 5\r\n\r\nhello" + GET, TO_HEAD, RESPONSE),
    "HEAD to 1.0": (
        b"HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        response(KEEP_ALIVE, has_body=False),
    ),
    "HEAD and close": (HEAD[:-2] + CLOSE + b"\r\n", response(CLOSE, has_body=False)),
    "all kinds, one after the other": (
        3 * (GET + 2 * HEAD + 2 * get(KEEP_ALIVE, version=b"1.0") + 2 * GET) + GET_AND_CLOSE,
        *(3 * [RESPONSE, 2 * TO_HEAD, 2 * KEPT, 2 * RESPONSE]),
        CLOSED,
    ),
    "100 after other answers": (
        GET + HEAD + post(b"Expect: 100-Continue, x\r\nContent-Length: 1\r\n", b"x") + HEAD,
        *(RESPONSE, TO_HEAD, CONTINUE, RESPONSE, TO_HEAD),
    ),
    "1.0, kept alive": (get(b"Connection: Keep-Alive\r\nHost: a\r\n", version=b"1.0"), KEPT),
    "1.0, kept alive, in a list": (get(b"connection: x ,\tKeep-Alive\r\n", version=b"1.0"), KEPT),
    "1.0, kept alive, with a body": (
        b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 5\r\n"
        b"Expect: 100-continue\r\n\r\nhello",
        KEPT,
    ),
}
CLOSING = {
    "1.0": get(version=b"1.0"),
    "1.0, another option": get(b"Connection: keep-alive-not\r\n", version=b"1.0"),
    "1.0, both": get(b"Connection: keep-alive, close\r\n", version=b"1.0"),
    "close": GET_AND_CLOSE,
    "close in any case": get(b"CONNECTION: cLOSE\r\n"),
    "close in a list": get(b"Connection: keep-alive ,, Close\t,x\r\n"),
    "close in the second field": get(b"Connection: x\r\n" + CLOSE),
    "close revoked": get(CLOSE + KEEP_ALIVE),
    "close after a body": post(b"Content-Length: 3\r\n" + CLOSE, b"abc"),
    "close after chunks": CODED.replace(b"\r\n\r\n", b"\r\n" + CLOSE + b"\r\n") + HELLO,
}
MALFORMED = {
    # Wrong already, although the line has not ended.
    "another protocol, begun": b"GET / HTTP/5.6",
    "TLS": b"\x16\x03\x01\x02\x00\x01",
    "bare CR before a body, begun": b"PUT /url HTTP/1.1\r\nContent-Length: 3\r\n\rabc",
    "bad name, begun": b"GET / HTTP/1.1\r\nX ",
    "NUL, begun": b"GET / HTTP/1.1\r\nX: \0",
    "no request": b"hello\r\n\r\n",
    "bare LF": b"GET / HTTP/1.1\n\n",
    "bare LF after a field": b"GET / HTTP/1.1\r\nHost: test\n\r\n",
    "bare LF at the end": GET[:-2] + b"\n",
    "bare CR in a value": get(b"X: a\rb\r\n"),
    "CR twice": b"GET / HTTP/1.1\r\r\nHost: test\r\n\r\n",
    "NUL in a name": get(b"X\0: a\r\n"),
    "NUL in a value": get(b"X: \0\r\n"),
    "DEL in a value": get(b"X: \x7f\r\n"),
    "no method": GET.replace(b"GET", b""),
    "bad method": GET.replace(b"GET", b"G(T"),
    "no target": b"GET HTTP/1.1\r\nHost: test\r\n\r\n",
    "empty target": get(target=b""),
    "space in the target": get(target=b"/a b"),
    "spaces around the target": b"GET   /   HTTP/1.0\r\n\r\n",
    "NUL in the target": get(target=b"/\0"),
    "beyond ASCII in the target": get(target="/\u03b4\u03b6".encode()),
    "a fragment": get(target=b"/a#b"),
    "* but for OPTIONS": get(target=b"*"),
    "a relative target": get(target=b"foo/bar"),
    "a host and a port as target": get(target=b"a:443"),
    "a bad full target": b"PUT s://]ufd/: HTTP/1.1\r\nHost: a\r\n\r\n",
    "a full target without a host": get(target=b"http:///"),
    "a full target with a port alone": get(target=b"http://:80/"),
    "a full target with a user": get(target=b"http://u@a/"),
    "tab for a space": b"GET\t/\tHTTP/1.1\r\nHost: test\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "version 2.0": get(version=b"2.0"),
    "version 1.": get(version=b"1."),
    "version 1.10": get(version=b"1.10"),
    "version 1.x": get(version=b"1.x"),
    "version in lower case": b"GET / http/1.1\r\nHost: test\r\n\r\n",
    "no colon": get(b"X\r\n"),
    "no name": get(b": test\r\n"),
    "space before the colon": get(b"X : test\r\n"),
    "space before the name": b"GET / HTTP/1.1\r\n Host: test\r\n\r\n",
    "folded field": get(b"X: a\r\n b\r\n"),
    "folded field in 1.0": b"GET / HTTP/1.0\r\nfoo: \r\nfoo: b\r\n  \tc\r\n\r\n",
    # Host
    "no host": get_from(b""),
    "no host beside a full target": b"GET http://a/ HTTP/1.1\r\n\r\n",
    "two hosts": get_from(b"Host: a\r\nHost: b\r\n"),
    "the same host twice": get_from(b"Host: a\r\nX: y\r\nHost: a\r\n"),
    "two hosts in 1.0": get(b"Host: a\r\nHost: a\r\n", version=b"1.0"),
    "a list of hosts": get_from(b"Host: a,b\r\n"),
    "a host with a path": get_from(b"Host: a/b\r\n"),
    "a host with a user": get_from(b"Host: u@a\r\n"),
    "a host with a space": get_from(b"Host: a b\r\n"),
    "a host with a bad port": get_from(b"Host: a:80x\r\n"),
    "a host with a bad escape": get_from(b"Host: a%zz\r\n"),
    "a host beyond ASCII": get_from(b"Host: \xc3\xbc\r\n"),
    "a bare IPv6 address": get_from(b"Host: ::1\r\n"),
    "an address without an end": get_from(b"Host: [::1\r\n"),
    "an empty address": get_from(b"Host: []:80\r\n"),
    "a bad address": get_from(b"Host: [g::]\r\n"),
    "a bad host in 1.0": get(b"Host: a/b\r\n", version=b"1.0"),
    # It is not certain where the body ends: a proxy may have read it differently.
    "two lengths": post(b"Content-Length: 1\r\nContent-Length: 2\r\n", b"ab"),
    "two lengths in a list": post(b"Content-Length: 1, 2\r\n", b"ab"),
    "negative length": post(b"Content-Length: -1\r\n"),
    "length with a sign": post(b"Content-Length: +5\r\n", b"hello"),
    "hexadecimal length": post(b"Content-Length: 0x5\r\n", b"hello"),
    "empty length": post(b"Content-Length:\r\n"),
    "two numbers": post(b"Content-Length: 1 2\r\n"),
    "length of 2 to the 64th": post(b"Content-Length: 18446744073709551616\r\n"),
    "a length before a coding": coded(b" x", b"").replace(b" x", b" chunked\r\nContent-Length: 5"),
    "a length after a coding": post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", HELLO),
    "chunks in 1.0": CODED.replace(b"1.1", b"1.0") + NO_CHUNKS,
    "another coding last": coded(b" chunked, gzip"),
    "another coding alone": coded(b" gzip"),
    "identity": coded(b" identity"),
    "chunked twice": coded(b" chunked, chunked"),
    "chunked in two fields": coded(b" chunked\r\nTransfer-Encoding: chunked"),
    "chunked with a parameter": coded(b" chunked;a=b"),
    "two codings and a length": post(
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n",
        b"hello",
    ),
    "folded coding and a length": coded(b"\r\n chunked\r\nContent-Length: 5", b"hello"),
    "empty coding": coded(b""),
}
BAD_CHUNKS = {
    "no size": b"\r\nhello\r\n",
    "no hexadecimal size": b"5g\r\n",
    "a size with a sign": b"+5\r\nhello\r\n",
    "a size with 0x": b"0x5\r\nhello\r\n",
    "a negative size": b"-1\r\n",
    "space before a size": b" 5\r\nhello\r\n",
    "space after a size": b"5 \r\nhello\r\n",
    "a size of 2 to the 64th": b"10000000000000000\r\n",
    "bare LF after a size": b"5\nhello\r\n",
    "bare CR after a size": b"5\rhello\r\n",
    "bare LF in an extension": b"5;a\nhello\r\n",
    "NUL in an extension": b"5;a\0\r\nhello\r\n",
    "an extension without a name": b"5;\r\nhello\r\n",
    "an extension without a value": b"5;a=\r\nhello\r\n",
    "an extension of two words": b"5;a b\r\nhello\r\n",
    "a value of two words": b"5;a=b c\r\nhello\r\n",
    "more after quotes": b'5;a="b"c\r\nhello\r\n',
    "an open quote": b'5;ilovew3="abc";somuchlove="def; ghi\r\nhello\r\n',
    "an escaped end of line": b'5;a="\\\r\n"\r\nhello\r\n',
    "an escaped NUL": b'5;a="\\\0"\r\nhello\r\n',
    "a chunk longer than its size": b"4\r\nhello\r\n",
    "bare LF after a chunk": b"5\r\nhello\n0\r\n\r\n",
    "bare LF after the last chunk": b"0\n\n",
    "a trailer without a colon": b"0\r\nX\r\n\r\n",
    "bare LF after a trailer": b"0\r\nX: y\n\r\n",
    "bare LF at the end": b"0\r\n\n",
    "space before a trailer's name": b"0\r\n X: y\r\n\r\n",
}
REFUSED = {
    "after good ones": (
        CODED + HELLO + HEAD + GET + b"GET\r\n\r\n",
        RESPONSE,
        TO_HEAD,
        RESPONSE,
        BAD,
    ),
    "CONNECT": (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", UNSUPPORTED),
    "TRACE": (GET.replace(b"GET", b"TRACE"), UNSUPPORTED),
    "a method of RTSP": (b"ANNOUNCE /m HTTP/1.0\r\nHost: a\r\n\r\n", UNSUPPORTED),
    "a method in lower case": (GET.replace(b"GET", b"get"), UNSUPPORTED),
    "a method without end": (10_000 * b"x", UNSUPPORTED),
    "a coding before chunked": (coded(b" gzip, chunked"), UNSUPPORTED),
    "a target of 9,000 bytes": (get(target=b"/" + 9_000 * b"a"), URI_TOO_LONG),
    "a head too large by a byte": (head_of(HEAD_MAX + 1), HEAD_TOO_LARGE),
    "a head without end": (GET[:-2] + 999 * b"X: yyyyy\r\n", HEAD_TOO_LARGE),
    "an extension without end": (CODED + b"5;" + 9_000 * b"x", HEAD_TOO_LARGE),
    "a size without end": (CODED + 9_000 * b"0", HEAD_TOO_LARGE),
    "a trailer without end": (CODED + b"0\r\nX: " + 9_000 * b"x", HEAD_TOO_LARGE),
    "trailers without end": (CODED + b"0\r\n" + 999 * b"X: yyyy\r\n", HEAD_TOO_LARGE),
}

EXCHANGES: dict[str, tuple[bytes, list[bytes]]] = {
    **{name: (request, [RESPONSE]) for name, request in PLAIN.items()},
    **{name: (request, list(answers)) for name, (request, *answers) in OTHER.items()},
    **{name: (request, [CLOSED]) for name, request in CLOSING.items()},
    **{name: (request, [BAD]) for name, request in MALFORMED.items()},
    **{name: (CODED + body, [BAD]) for name, body in BAD_CHUNKS.items()},
    **{name: (request, list(answers)) for name, (request, *answers) in REFUSED.items()},
}


def ends(answers: list[bytes]) -> bool:
    return CLOSE in answers[-1]


def closed_at_once(answers: list[bytes]) -> list[bytes]:
    """The same for a server that closes after the first answer."""
    first = next(i for i, answer in enumerate(answers) if answer != CONTINUE)
    answer = answers[first]
    if b" 200 " in answer:
        answer = response(CLOSE, has_body=answer.endswith(RESPONSE[-13:]))
    return [*answers[:first], answer]
