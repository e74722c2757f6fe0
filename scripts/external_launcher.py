"""Starts a server of `external` in config.yaml as if it were one of ours (contract 3).

results/bin/NAME is this file and a last line that calls main() with the description: see prepare_external.py. Runs once
a cell, and imports nothing of ours. The server takes this process's place, so that its CPU time, its memory and how it
ends are its own; beside it is a guard, no child of it, which says when it listens, and ends what it leaves behind.
"""

import contextlib
import getopt
import os
import select
import shutil
import signal
import socket
import string
import sys
import time
from collections.abc import Mapping
from typing import Any, NoReturn

PLACEHOLDERS = ("host", "address", "port", "workers", "scratch", "root")
READY_TIMEOUT_S = 4.0  # less than measuring waits for the line that says so
POLL_MS = 10
LISTEN = "0A"  # TCP_LISTEN, include/net/tcp_states.h
EX_USAGE, EX_UNAVAILABLE = 2, 69
OUTPUT = ".output"  # no name of a file in a description begins with a dot


class Template(string.Template):
    """Text with @placeholders; @@ is an @."""

    delimiter = "@"


def fail(status: int, text: str) -> NoReturn:
    print(text, file=sys.stderr)
    sys.exit(status)


def parse_options(arguments: list[str]) -> dict[str, str]:
    names = ["host", "port", "interface", "workers"]
    options = {"--host": "::1", "--port": "0", "--workers": "1"}
    try:
        given, rest = getopt.getopt(arguments, "", [f"{name}=" for name in names])
    except getopt.GetoptError as error:
        fail(EX_USAGE, str(error))
    options.update(given)
    if rest:
        fail(EX_USAGE, f"unexpected argument {rest[0]!r}")
    for name in ("--port", "--workers"):
        if not options[name].isdecimal():
            fail(EX_USAGE, f"{name}: {options[name]!r} is not a number")
    if "--interface" in options:  # the scope of a link-local address
        options["--host"] += "%" + options["--interface"]
    return options


def free_port(host: str) -> int:
    """A port that nobody listens on: the kernel's choice. Raises OSError if the address is none of this machine."""
    family, kind, _, _, address = socket.getaddrinfo(
        host, 0, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
    )[0]
    with socket.socket(family, kind) as listener:
        listener.bind(address)
        return int(listener.getsockname()[1])


def listeners_on(port: int) -> set[str]:
    """The sockets, as the kernel lists them: a connection to find out would be one that the server counts."""
    found = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/self/net/{table}") as file:
            for line in file:
                _, local, _, state, _, _, _, _, _, inode, *_ = line.split(maxsplit=10)
                if state == LISTEN and local.endswith(f":{port:04X}"):
                    found.add(f"socket:[{inode}]")
    return found


def started_ticks(pid: str) -> int:
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[19])


def end_in_background(port: int) -> None:
    """End processes that listen on the port and are younger than this one: a server that has left its group."""
    listeners = listeners_on(port)
    for pid in filter(str.isdecimal, os.listdir("/proc") if listeners else []):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            opened = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
            if opened & listeners and started_ticks(pid) >= started_ticks("self"):
                os.kill(int(pid), signal.SIGKILL)


def last_line(output: str) -> str:
    with open(output, errors="replace") as file:
        lines = [line.strip() for line in file if line.strip()]
    return lines[-1] if lines else "it said nothing"


def holds(output: str, text: str) -> bool:
    with open(output, errors="replace") as file:
        return any(text in line for line in file)


def guard(server: int, pidfd: int, port: int, ready: str | None, listening: str) -> None:
    """Say that the server listens, or why it does not; when it has ended, end what it left behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)  # readable when it has ended
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while not (holds(OUTPUT, ready) if ready else listeners_on(port)):
        if poll.poll(POLL_MS):
            end_in_background(port)  # before this is said: who reads it ends this process too
            print(f"it ended before it was ready: {last_line(OUTPUT)}", file=sys.stderr)
            break
        if time.monotonic() > deadline_s:
            waited = f"within {READY_TIMEOUT_S:g} s"
            waited += (
                f" its output did not hold {ready!r}"
                if ready
                else f" it did not listen on port {port} (@port)"
            )
            print(f"{waited}: {last_line(OUTPUT)}", file=sys.stderr)
            os.kill(server, signal.SIGKILL)
            break
    else:
        print(listening)
    sys.stdout.flush()
    redirect(os.devnull)  # who reads the server's output to its end must not wait for this process
    poll.poll()
    end_in_background(port)
    if os.getpgrp() == server:
        os.killpg(server, signal.SIGKILL)


def redirect(path: str) -> None:
    """Standard output and error go to a file."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


def enter_scratch(scratch: str, files: Mapping[str, str], values: Mapping[str, str]) -> None:
    """Make the scratch directory anew, with the files of the description; it is where the server runs."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(scratch)
    os.umask(0o022)  # what root starts may become another user, who must be able to read them
    os.makedirs(scratch)
    os.chdir(scratch)
    for name, text in files.items():
        with open(name, "w", encoding="utf-8") as file:
            file.write(Template(text).substitute(values))


def main(description: dict[str, Any]) -> NoReturn:
    options = parse_options(sys.argv[1:])
    host = options["--host"]
    address = f"[{host}]" if ":" in host else host
    own_path = os.path.abspath(sys.argv[0])
    name = os.path.basename(own_path)
    scratch = os.path.join(os.path.dirname(os.path.dirname(own_path)), "external", name)
    # The checkout may be moved, and a launcher stays the same.
    root = os.environ.get(description["root_variable"], "")
    program = description["program"] and os.path.join(root, description["program"])
    if program and not os.path.isabs(program):
        fail(1, f"{program} is seen from the checkout: set {description['root_variable']} to it")
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
        }
        enter_scratch(scratch, description["files"], values)
    except OSError as error:
        fail(1, f"cannot prepare {name}: {error}")
    command = [Template(word).substitute(values) for word in description["command"]]

    server = os.getpid()
    pidfd = os.pidfd_open(server)
    with open(OUTPUT, "w"):
        pass
    if os.fork() == 0:  # twice, so that the guard is no child of the server
        if os.fork() == 0:
            guard(server, pidfd, port, description["ready"], f"listening on [{host}]:{port}")
        os._exit(0)
    os.wait()
    redirect(OUTPUT)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and exec would keep that
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execv(program, command)
    except OSError as error:
        fail(126, f"cannot run {program}: {error.strerror}")
