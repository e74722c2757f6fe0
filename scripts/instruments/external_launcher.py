"""Start a server of `external` in config.yaml as if it were one of ours.

results/bin/NAME is this file with a last line that calls main() with the description: see prepare_external.py. It runs
once per cell and imports nothing of ours. In place of "listening on" it prints a JSON line that says how to see that
the server listens; then the server replaces this process, whose end is thus the server's.
"""

import contextlib
import getopt
import json
import os
import shutil
import signal
import socket
import string
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

PLACEHOLDERS = ("host", "address", "port", "workers", "scratch", "root", "body_bytes")
ONLY_IN_FILES = ("body",)  # it may be too long for a command
BODY = "Hello, World!"
EX_USAGE, EX_UNAVAILABLE = 2, 69
OUTPUT = ".output"  # file names in descriptions do not begin with a dot


class Template(string.Template):
    """Text with @placeholders; @@ is an @."""

    delimiter = "@"


def fail(status: int, text: str) -> NoReturn:
    print(text, file=sys.stderr)
    sys.exit(status)


def parse_options(arguments: list[str]) -> dict[str, str]:
    names = ["host", "port", "interface", "workers", "body-bytes"]
    options = {"--host": "::1", "--port": "0", "--workers": "1", "--body-bytes": str(len(BODY))}
    try:
        given, rest = getopt.getopt(arguments, "", [f"{name}=" for name in names])
    except getopt.GetoptError as error:
        fail(EX_USAGE, str(error))
    options.update(given)
    if rest:
        fail(EX_USAGE, f"unexpected argument {rest[0]!r}")
    for name in ("--port", "--workers", "--body-bytes"):
        if not options[name].isdecimal():
            fail(EX_USAGE, f"{name}: {options[name]!r} is not a number")
    if "--interface" in options:  # the scope of a link-local address
        options["--host"] += "%" + options["--interface"]
    return options


def free_port(host: str) -> int:
    """A free port that the kernel chooses. Raises OSError if this machine does not have the address."""
    family, kind, _, _, address = socket.getaddrinfo(
        host, 0, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
    )[0]
    with socket.socket(family, kind) as listener:
        listener.bind(address)
        return int(listener.getsockname()[1])


def find_placeholders(text: str) -> set[str]:
    return {match["named"] or match["braced"] for match in Template.pattern.finditer(text)}


def make_body(size: int, description: Mapping[str, Any]) -> str:
    """BODY over and over, cut off at so many bytes. Without a word for it, a server can give BODY alone."""
    texts = [*description["command"], *description["files"].values()]
    if size != len(BODY) and not {"body", "body_bytes"} & set().union(
        *map(find_placeholders, texts)
    ):
        fail(EX_USAGE, f"--body-bytes {size}: its description has neither @body nor @body_bytes")
    return (BODY * (size // len(BODY) + 1))[:size]


def enter_scratch(scratch: str, files: Mapping[str, str], values: Mapping[str, str]) -> None:
    """Make a new scratch directory with the files of the description; the server runs in it."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(scratch)
    os.umask(
        0o022
    )  # a server that root starts may become another user, who must be able to read the files
    os.makedirs(scratch)
    os.chdir(scratch)
    for name, text in files.items():
        with open(name, "w", encoding="utf-8") as file:
            file.write(Template(text).substitute(values))


def main(description: dict[str, Any]) -> NoReturn:
    options = parse_options(sys.argv[1:])
    host = options["--host"]
    address = f"[{host}]" if ":" in host else host
    body = make_body(int(options["--body-bytes"]), description)
    own_path = os.path.abspath(sys.argv[0])
    name = os.path.basename(own_path)
    scratch = os.path.join(os.path.dirname(os.path.dirname(own_path)), "external", name)
    # The checkout may move, but the launcher stays the same.
    root = os.environ.get(description["root_variable"], "")
    program = description["program"] and os.path.join(root, description["program"])
    if program and not os.path.isabs(program):
        fail(
            1,
            f"{program} is relative to the checkout: set {description['root_variable']} to its path",
        )
    if not os.access(program, os.X_OK):
        package = description["package"]
        how = f": sudo apt-get install {package}" if package else ""
        fail(EX_UNAVAILABLE, f"{description['command'][0]} is not installed{how}")
    try:
        port = int(options["--port"]) or free_port(host)
        values = {
            "host": host,
            "address": address,
            "port": str(port),
            "workers": options["--workers"],
            "scratch": scratch,
            "root": root,
            "body_bytes": str(len(body)),
            "body": body,
        }
        enter_scratch(scratch, description["files"], values)
    except OSError as error:
        fail(1, f"cannot prepare {name}: {error}")
    command = [Template(word).substitute(values) for word in description["command"]]

    output = os.path.join(scratch, OUTPUT)
    file = os.open(OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    print(json.dumps({"port": port, "ready": description["ready"], "output": output}), flush=True)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and exec would keep that
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execv(program, command)
    except OSError as error:
        fail(126, f"cannot run {program}: {error.strerror}")
