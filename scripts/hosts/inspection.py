"""Read what the checks need to know about a host."""

import ctypes
import errno
import os
import re
import resource
import shutil
import socket
import struct
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from common.processes import one_line
from hosts import identity, reading
from hosts.facts import read_cpu, read_kernel

SAMPLE_S = 0.1


class Check(NamedTuple):
    name: str
    status: str  # ok; warn: results are noisier or slower; bad: some are missing or wrong; unknown
    found: str
    why: str
    fix: str  # a command; empty if there is none
    stops: bool  # no sweep should start: its results would be wrong or missing


class Finding(NamedTuple):
    status: str
    found: str
    fix: str = ""
    stops: bool = False


class Unread(Exception):
    """Something could not be read; the text says what, and why."""


T = TypeVar("T")


def known(value: T | None, otherwise: str) -> T:
    """The value. Raises Unread if there is none."""
    if value is None:
        raise Unread(otherwise)
    return value


class Foreign(NamedTuple):
    """Another program that has the name of a tool."""

    path: str
    says: str


class Seen(NamedTuple):
    """Facts that no file holds, or not at once. None: not known."""

    cpus: Sequence[int] | None  # that this process may use
    open_files_limit: int | None  # the hard limit: runs raise the soft one
    python: str | None
    tools: dict[str, str | Foreign | None]  # the version or "unknown"; None: not installed
    io_uring: int | None  # errno of making a ring; 0: it worked
    tcp_diag: int | None  # errno of asking the kernel for sockets; 0: it answered
    address: int | None  # errno of binding a socket to the servers' address; 0: it worked
    stats: tuple[str | None, str | None]  # /proc/stat, and again a moment later


@dataclass(frozen=True)
class Host:
    """What the checks of one host read."""

    root: str
    roles: Collection[str]
    connections: int  # the most at a time
    address: str | None  # the servers' address over loopback
    seen: Seen

    def fact(self, path: str) -> str | None:
        return reading.read_fact(self.root, path)

    def read(self, path: str) -> str:
        """A file's text. Raises Unread."""
        text = self.fact(path)
        if text is None or text in reading.UNREAD:
            raise Unread(f"/{path}: {text or 'not there'}")
        return text

    def sysctl(self, name: str) -> int:
        """The number in a file of /proc/sys. Raises Unread, or ValueError if it is not a number."""
        return int(self.read(f"proc/sys/{name.replace('.', '/')}"))

    def find(self, pattern: str, path: str) -> str:
        """The text that a pattern's group matches in a file. Raises Unread."""
        match = re.search(pattern, self.read(path), re.MULTILINE)
        if not match:
            raise Unread(f"/{path}: not understood")
        return match[1]

    def cpus(self) -> Sequence[int]:
        return known(self.seen.cpus, "the CPUs of this process: unknown")

    def is_virtual(self) -> bool:
        return " hypervisor" in (self.fact("proc/cpuinfo") or "")

    def read_of_cpus(self, path: str) -> str:
        """Text of a file about the CPUs, which a virtual machine seldom has. Raises Unread."""
        try:
            return self.read(f"{reading.CPU_FOLDER}/{path}")
        except Unread as reason:
            host_decides = " (a virtual machine: its host decides)" if self.is_virtual() else ""
            raise Unread(f"{reason}{host_decides}") from None


class Tool(NamedTuple):
    roles: Collection[str]
    package: str  # of Debian
    why: str
    needed: bool = True  # nothing can be measured without it
    says: str = ""  # a pattern that its version text matches, and that of other programs of its name does not


def try_io_uring() -> int:
    """Make a ring of one entry and close it; returns errno, 0 if it worked."""
    number = 425  # on all architectures but Alpha
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.syscall(number, 1, ctypes.create_string_buffer(120))  # struct io_uring_params
    if descriptor < 0:
        return ctypes.get_errno()
    os.close(descriptor)
    return 0


def try_sock_diag(protocol: int) -> int:
    """Ask the kernel for the protocol's listening sockets, as ss does; returns errno, 0 if it answered."""
    # linux/{netlink,sock_diag,inet_diag}.h: NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, TCP_LISTEN.
    body = struct.pack("=BBBBI48x", socket.AF_INET6, protocol, 0, 0, 1 << 10)
    header = struct.pack("=IHHII", 16 + len(body), 20, 0x301, 1, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as kernel_socket:
            kernel_socket.settimeout(1)
            kernel_socket.send(header + body)
            answer = kernel_socket.recv(8192)
    except OSError as error:
        return error.errno or errno.EIO
    (kind,) = struct.unpack_from("=H", answer, 4)
    if kind not in {2, 3}:  # NLMSG_ERROR or NLMSG_DONE: both carry an error number
        return 0
    (error_number,) = struct.unpack_from("=i", answer, 16)
    return -int(error_number)


def try_bind(address: str) -> int:
    """Bind a socket to a numeric address; returns errno, 0 if this network namespace has the address."""
    try:
        family, kind, _, _, where = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as listener:
            listener.bind(where)
    except socket.gaierror:  # the address is numeric, so this machine does not support its family
        return errno.EAFNOSUPPORT
    except OSError as error:
        return error.errno or errno.EADDRNOTAVAIL
    return 0


def tool_versions(tools: Mapping[str, Tool], path: str) -> dict[str, str | Foreign | None]:
    """The version of each tool, as in Seen; all are asked at once."""
    files = {name: shutil.which(name, path=path) for name in tools}
    asked = {name: {"ss": "-V", "wrk": "-v"}.get(name, "--version") for name in tools}
    started = {
        name: file and reading.start([file, asked[name]], "") for name, file in files.items()
    }
    versions: dict[str, str | Foreign | None] = {}
    for name, process in started.items():
        said = reading.finish(process)
        if said not in reading.UNREAD and not re.search(tools[name].says, said or ""):
            first = one_line((said or "").strip().partition("\n")[0])[:80]
            is_wrk2 = name == "wrk" and "--rate" in (said or "")
            says = "is wrk2" if is_wrk2 else f"says {first!r}"
            versions[name] = Foreign(files[name] or "", says)
            continue
        versions[name] = reading.parse_version(name, said)
    return versions


def see(
    root: str, roles: Collection[str], tools: Mapping[str, Tool], path: str, address: str | None
) -> Seen:
    """Look at this host; takes about 0.2 s."""
    versions = tool_versions(tools, path)  # before the readings of CPU time, since it takes some
    before = reading.read_fact(root, "proc/stat")
    time.sleep(SAMPLE_S)
    return Seen(
        cpus=sorted(os.sched_getaffinity(0)),
        open_files_limit=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        python=sys.version.split()[0],
        tools=versions,
        io_uring=try_io_uring() if "server" in roles else None,
        tcp_diag=try_sock_diag(socket.IPPROTO_TCP) if "server" in roles else None,
        address=try_bind(address) if address and "server" in roles else None,
        stats=(before, reading.read_fact(root, "proc/stat")),
    )


def label(root: str = "/") -> str:
    """This host in one line."""
    lscpu = reading.finish(reading.start(["lscpu"], ""))
    return identity.host_label({"cpu": read_cpu(root, lscpu), "kernel": read_kernel(root)})
