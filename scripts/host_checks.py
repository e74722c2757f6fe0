"""Check what a host must have, and what would make its results noisy or wrong. Changes nothing.

This module needs the standard library alone, and its arguments and results fit into JSON: it runs on every host that
serves or loads. A file that is missing or unreadable makes its check "unknown", never "ok".
"""

import ctypes
import errno
import math
import os
import re
import resource
import shutil
import socket
import struct
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import flags
import machine
import machine_facts
from perf_permission import TRACEFS, Obstacle, permission_obstacle, tracefs_obstacle
from processes import one_line

ROLES = ("control", "server", "load")
BOTH_ENDS = {"server", "load"}
PYTHON, KERNEL = (3, 11), (6, 1)  # the README's
# Measured: a process that draws takes 183 MiB (pandas, SciPy, matplotlib and Altair imported), Snakemake 63 MiB.
MEMORY_AVAILABLE_MIB = 512
# The vDSO reads these without a system call.
FAST_CLOCKS = {
    *("tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"),
    *("timebase", "tod", "riscv_clocksource"),
}
# How the kernel names mitigations that act at each entry or return, or at each of its indirect branches.
COSTLY_MITIGATIONS = re.compile(
    r"PTI|Clear CPU buffers|Clear Register File|Safe RET|[Uu]ntrained return thunk|Retpolines"
    r"|(?<!Enhanced / Automatic )(?<!Enhanced )\bIBRS\b|STIBP: (?:forced|always-on)|SW loop"
)
SAMPLE_S = 0.1
# pyperf 2.11 sets governors, Intel's turbo and more, but not the turbo of other drivers, huge pages, swap or SMT.
TUNE = "(or sudo pipx run pyperf system tune: docs/doctor.md)"


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


class Host:
    """What the checks of one host read."""

    def __init__(
        self,
        root: str,
        roles: Collection[str],
        connections: int,
        address: str | None,
        seen: Seen,
    ) -> None:
        self.root = root
        self.roles = roles
        self.connections = connections  # the most at a time
        self.address = address  # the servers' address over loopback
        self.seen = seen

    def fact(self, path: str) -> str | None:
        return machine_facts.read_fact(self.root, path)

    def read(self, path: str) -> str:
        """A file's text. Raises Unread."""
        text = self.fact(path)
        if text is None or text in machine_facts.UNREAD:
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
        if not self.seen.cpus:
            raise Unread("the CPUs of this process: unknown")
        return self.seen.cpus

    def is_virtual(self) -> bool:
        return " hypervisor" in (self.fact("proc/cpuinfo") or "")

    def read_of_cpus(self, path: str) -> str:
        """Text of a file about the CPUs, which a virtual machine seldom has. Raises Unread."""
        try:
            return self.read(f"{machine_facts.CPU_FOLDER}/{path}")
        except Unread as reason:
            host_decides = " (a virtual machine: its host decides)" if self.is_virtual() else ""
            raise Unread(f"{reason}{host_decides}") from None


class _Rule(NamedTuple):
    name: str
    roles: Collection[str]
    why: str
    look: Callable[[Host], Finding]


RULES: list[_Rule] = []


def check(
    roles: Collection[str], why: str
) -> Callable[[Callable[[Host], Finding]], Callable[[Host], Finding]]:
    """Register a function as the check of its name, for hosts with one of the roles."""

    def add(look: Callable[[Host], Finding]) -> Callable[[Host], Finding]:
        RULES.append(_Rule(look.__name__, roles, why, look))
        return look

    return add


def set_sysctl(name: str, value: object) -> str:
    return f"sudo sysctl -w {name}={value}"


def write_file(value: object, path: str) -> str:
    return f"echo {value} | sudo tee {path}"


# --- Tools and rights ---


class Tool(NamedTuple):
    roles: Collection[str]
    package: str  # of Debian
    why: str
    needed: bool = True  # nothing can be measured without it
    says: str = ""  # a pattern that its version text matches, and that of other programs of its name does not


WRK = r"(?s)\A(?!.*--rate).*--script"  # wrk2 also installs a `wrk`, which requires --rate
COMPILER = Tool({"control"}, "gcc", "it compiles the servers")
TOOLS = {
    "flock": Tool(
        {"control"},
        "util-linux",
        "it keeps compiling and drawing from running during a measurement",
        says="util-linux",
    ),
    "flamegraph": Tool(
        {"control"}, "", "it draws the flamegraphs", needed=False, says=r"\Aflamegraph \d"
    ),
    "rsvg-convert": Tool(
        {"control"}, "librsvg2-bin", "it converts flamegraphs to PNG", needed=False
    ),
    "perf": Tool(
        {"server"},
        "linux-perf",
        "flamegraphs and counts of system calls come from it",
        needed=False,
    ),
    "ss": Tool(
        {"server"},
        "iproute2",
        "it reads the kernel's view of connections: wrk does not see starvation",
        says="iproute2",
    ),
    "wrk": Tool({"load"}, "wrk", "it makes the load", says=WRK),
    "taskset": Tool(
        BOTH_ENDS,
        "util-linux",
        "it keeps server and load on their own CPUs",
        says="util-linux",
    ),
    "setpriv": Tool(
        BOTH_ENDS,
        "util-linux",
        "with it no process outlives the run that started it",
        says="util-linux",
    ),
}


def examine_tool(name: str, tool: Tool, host: Host) -> Check:
    version = host.seen.tools.get(name, machine_facts.UNKNOWN)
    if version is None:
        # `make setup` works only on the host that has this checkout.
        fix = "make setup" if "control" in host.roles else f"sudo apt-get install {tool.package}"
        return Check(name, "bad", "not installed", tool.why, fix, tool.needed)
    if isinstance(version, Foreign):
        found = f"another program: {version.path} {version.says}"
        package = f" (package {tool.package})" if tool.package else ""
        fix = f"put the right {name} before it in PATH{package}"
        return Check(name, "bad", found, tool.why, fix, tool.needed)
    if version in machine_facts.UNREAD:
        return Check(name, "unknown", f"its version: {version}", tool.why, "", False)
    return Check(name, "ok", version, tool.why, "", False)


@check(set(ROLES), f"all scripts need {'.'.join(map(str, PYTHON))} or newer")
def python(host: Host) -> Finding:
    if host.seen.python is None:
        raise Unread("the version of Python: unknown")
    if version_of(host.seen.python) < PYTHON:
        return Finding("bad", host.seen.python, "sudo apt-get install python3.11", stops=True)
    return Finding("ok", host.seen.python)


def version_of(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


@check({"server"}, "server_uring needs multishot accept and receive: Linux 6.1 or newer")
def kernel(host: Host) -> Finding:
    release = host.read("proc/sys/kernel/osrelease")
    return Finding("ok" if version_of(release) >= KERNEL else "bad", release)


def obstacle_finding(obstacle: Obstacle | None, otherwise: str) -> Finding:
    return Finding("bad", *obstacle) if obstacle else Finding("ok", otherwise)


def capabilities(host: Host) -> int:
    return int(host.find(r"^CapEff:\s*([0-9a-f]+)$", "proc/self/status"), 16)


@check({"server"}, "perf must see the kernel: otherwise there are no flamegraphs and no counts")
def perf_permission(host: Host) -> Finding:
    paranoid = host.sysctl("kernel.perf_event_paranoid")
    obstacle = permission_obstacle(capabilities(host), paranoid, 0)
    return obstacle_finding(obstacle, f"kernel.perf_event_paranoid is {paranoid}")


@check({"server"}, "if the kernel hides addresses, its functions have no names in flamegraphs")
def kernel_symbols(host: Host) -> Finding:
    restricted = host.sysctl("kernel.kptr_restrict")
    obstacle = permission_obstacle(capabilities(host), 0, restricted)
    return obstacle_finding(obstacle, f"kernel.kptr_restrict is {restricted}")


@check({"server"}, "perf reads the names of system calls there: otherwise it cannot count them")
def tracefs(host: Host) -> Finding:
    if not os.path.isdir(host.root + TRACEFS):
        raise Unread(f"{TRACEFS}: not there")
    return obstacle_finding(tracefs_obstacle(host.root), "readable")


@check({"server"}, "if it is refused, all cells of the servers on io_uring are unavailable")
def io_uring(host: Host) -> Finding:
    error = host.seen.io_uring
    if error is None:
        raise Unread("making a ring: not tried")
    if error == 0:
        return Finding("ok", "a ring can be made")
    refused = f"refused: {os.strerror(error)}"
    disabled = host.fact("proc/sys/kernel/io_uring_disabled")
    if error == errno.EPERM and disabled in {"1", "2"}:
        fix = set_sysctl("kernel.io_uring_disabled", 0)
        return Finding("bad", f"{refused}, kernel.io_uring_disabled is {disabled}", fix)
    # Docker's filter says EPERM, Podman's ENOSYS.
    if re.search(r"^Seccomp:\s*2$", host.fact("proc/self/status") or "", re.MULTILINE):
        fix = "docker run --security-opt seccomp=unconfined … (or podman)"
        return Finding("bad", f"{refused}, probably by the container's seccomp filter", fix)
    return Finding("bad", refused)


@check({"server"}, "servers listen on it: without it nothing can be measured")
def address(host: Host) -> Finding:
    if host.address is None:
        return Finding("ok", "an interface's address")
    if host.seen.address is None:
        raise Unread(f"{host.address}: not tried")
    if host.seen.address:
        found = f"host: {host.address} is not an address of this machine"
        fix = "in config.yaml set host: 127.0.0.1 (or run snakemake with --config host=127.0.0.1)"
        return Finding("bad", f"{found} ({os.strerror(host.seen.address)})", fix, stops=True)
    return Finding("ok", host.address)


@check(
    {"server"}, "ss reads there what the server sent on each connection: without it no cell counts"
)
def tcp_diag(host: Host) -> Finding:
    error = host.seen.tcp_diag
    if error is None:
        raise Unread("asking the kernel for sockets: not tried")
    if error:
        return Finding("bad", os.strerror(error), "sudo modprobe tcp_diag", stops=True)
    return Finding("ok", "the kernel answers")


# --- Limits on the number of connections ---


@check(BOTH_ENDS, "server and load need a descriptor for each connection, or cells are invalid")
def open_files(host: Host) -> Finding:
    limit = host.seen.open_files_limit
    if limit is None:
        raise Unread("the limit of open files: unknown")
    needed = host.connections + machine.SPARE_DESCRIPTORS
    found = f"at most {limit}, {host.connections} connections need {needed}"
    if limit < needed:
        return Finding("bad", found, f"sudo prlimit --pid $$ --nofile={needed}", stops=True)
    return Finding("ok", found)


# listen(2) and the first retransmission of RFC 6298.
@check(
    {"server"},
    "the kernel drops connections that do not fit into a listener's queue; they retry after 1 s",
)
def backlog(host: Host) -> Finding:
    most = host.sysctl("net.core.somaxconn")
    found = f"net.core.somaxconn is {most}, for {host.connections} connections"
    if most < host.connections:
        needed = max(4096, host.connections)  # the kernel's default since 5.4
        return Finding("bad", found, set_sysctl("net.core.somaxconn", needed))
    return Finding("ok", found)


# 60 s: TCP_TIMEWAIT_LEN in the kernel's net/tcp.h; tcp_tw_reuse: its ip-sysctl.rst.
@check(
    {"load"},
    "each connection takes a port and keeps it for 60 s after its end (on loopback 1 s, by tcp_tw_reuse)",
)
def ephemeral_ports(host: Host) -> Finding:
    first, last = map(int, host.read("proc/sys/net/ipv4/ip_local_port_range").split())
    waiting = int(host.find(r"^TCP:.* tw (\d+)", "proc/net/sockstat"))
    ports = last - first + 1
    found = f"{ports} ports, {waiting} in TIME_WAIT, for {host.connections} connections"
    fix = set_sysctl("net.ipv4.ip_local_port_range", '"1024 65535"')
    if ports < host.connections:
        return Finding("bad", found, fix, stops=True)
    if ports - waiting < 2 * host.connections:  # connections of the warm-up still have their ports
        return Finding("warn", found, fix)
    return Finding("ok", found)


# --- CPUs ---


@check(
    BOTH_ENDS,
    "server and load must not share a core: each would take CPU time from the other (shared_cpus)",
)
def cpus(host: Host) -> Finding:
    allowed = host.cpus()
    folder = machine_facts.CPU_FOLDER
    online = machine_facts.parse_cpus(host.read(f"{folder}/online"))
    topology = machine_facts.read_topology(host.root, allowed)
    if topology["cores"] is None:
        raise Unread(f"/{folder}/cpu*/topology: not there")
    cores = topology["cores"]
    found = f"{len(allowed)} of {len(online)} CPUs, {cores} core{'s' * (cores > 1)}"
    needed = len(BOTH_ENDS & set(host.roles))
    return Finding("ok" if cores >= needed else "warn", found)


# kernel-parameters.txt on isolcpus.
@check(
    BOTH_ENDS,
    "the scheduler does not balance isolated CPUs: all threads of a server stay on the first one",
)
def isolated_cpus(host: Host) -> Finding:
    text = host.read(f"{machine_facts.CPU_FOLDER}/isolated")
    isolated = set(machine_facts.parse_cpus(text))
    used = sorted(isolated & set(host.cpus()))
    if len(used) > len(BOTH_ENDS & set(host.roles)):
        others = machine.format_cpu_list(set(host.cpus()) - isolated or used[:2])
        found = f"{text}, of which this process has {machine.format_cpu_list(used)}"
        return Finding("bad", found, f"taskset --cpu-list {others} make", stops=True)
    return Finding("ok", text or "none")


@check(BOTH_ENDS, "the kernel stops processes that exceed the quota until the period ends")
def cpu_quota(host: Host) -> Finding:
    quota = read_cpu_quota(host)
    allowed = host.cpus()
    if quota is None:
        return Finding("ok", "none")
    found = f"{quota:g} CPUs, and this process may run on {len(allowed)}"
    if quota >= len(allowed):
        return Finding("ok", found)
    if quota < 1:
        return Finding("bad", found, "docker update --cpus 2 CONTAINER", stops=True)
    fitting = machine.format_cpu_list(sorted(allowed)[: math.floor(quota)])
    return Finding("bad", found, f"taskset --cpu-list {fitting} make", stops=True)


def read_cpu_quota(host: Host) -> float | None:
    """The smallest quota of this process's cgroups, in CPUs; None without a quota. Raises Unread."""
    quotas: list[float] = []
    is_readable = False
    for line in host.read("proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = "sys/fs/cgroup/cpu" if controllers else "sys/fs/cgroup"
        # The root of version 2 has no quota, but it has this file.
        marker = f"{base}/cgroup.{'procs' if controllers else 'controllers'}"
        is_readable = is_readable or host.fact(marker) is not None
        parts = path.strip("/").split("/")
        for depth in range(len(parts) + 1):
            group = "/".join([base, *filter(None, parts[:depth])])
            text = host.fact(f"{group}/cpu.max")
            if controllers:
                text = " ".join(
                    host.fact(f"{group}/cpu.cfs_{name}_us") or "" for name in ("quota", "period")
                )
            quota = re.fullmatch(r"(\d+) (\d+)", text or "")
            if quota:
                quotas.append(int(quota[1]) / int(quota[2]))
    if not quotas and not is_readable:
        raise Unread("/sys/fs/cgroup: nothing about the CPU")
    return min(quotas, default=None)


@check(
    BOTH_ENDS, "at a lower or changing frequency the same request takes more or varying CPU time"
)
def governor(host: Host) -> Finding:
    pattern = f"{machine_facts.CPU_FOLDER}/cpufreq/policy*/scaling_governor"
    found = machine_facts.read_distinct(host.root, pattern)
    if found is None:
        host.read_of_cpus("cpufreq/policy0/scaling_governor")  # says why not
        raise Unread(f"/{pattern}: nothing understood")
    if found in machine_facts.UNREAD:
        raise Unread(f"/{pattern}: {found}")
    if found == "performance":
        return Finding("ok", found)
    return Finding("warn", found, f"{write_file('performance', f'/{pattern}')} {TUNE}")


@check(
    BOTH_ENDS,
    "the frequency falls when more cores are busy or warm: runs differ, and so do servers",
)
def turbo(host: Host) -> Finding:
    for path, meanings in machine_facts.TURBO.items():
        value = host.fact(path)
        if value is None or value in machine_facts.UNREAD:
            continue
        state = meanings.get(value)
        off = next(text for text, meaning in meanings.items() if meaning == "off")
        if state is None:
            raise Unread(f"/{path}: not understood")
        if state != "on":
            return Finding("ok", state)
        fix = write_file(off, f"/{path}")
        return Finding("warn", state, f"{fix} {TUNE}" if "intel_pstate" in path else fix)
    host.read_of_cpus("cpufreq/boost")
    raise Unread("turbo: unknown")


@check(BOTH_ENDS, "two CPUs share one core: a request takes more CPU time when both are busy")
def smt(host: Host) -> Finding:
    active = host.read_of_cpus("smt/active")
    if active == "1":
        path = f"/{machine_facts.CPU_FOLDER}/smt/control"
        return Finding("warn", "on", write_file("off", path))
    if host.is_virtual():
        raise Unread(
            "off here, but a virtual machine cannot see which CPUs share a core of its host"
        )
    return Finding("ok", "off")


@check(
    BOTH_ENDS,
    "other processes take CPU time and caches from both sides; cells above 10 % are disturbed",
)
def other_load(host: Host) -> Finding:
    busy, _ = cpu_shares(host)
    found = f"{busy:.0%} of this process's CPUs busy, load average {host.read('proc/loadavg').split()[0]}"
    return Finding("ok" if busy <= flags.FOREIGN_SHARE else "warn", found)


@check(
    BOTH_ENDS,
    "the hypervisor gave the CPU to others while a process here waited for it; cells above 2 % are disturbed",
)
def steal(host: Host) -> Finding:
    _, stolen = cpu_shares(host)
    found = f"{stolen:.1%} since boot"
    return Finding("ok" if stolen <= flags.STEAL_SHARE else "warn", found)


def cpu_shares(host: Host) -> tuple[float, float]:
    """Of this process's CPUs: the share that was busy between the readings, and the share stolen since boot."""
    ticks = []
    for stat in host.seen.stats:
        if stat is None or stat in machine_facts.UNREAD:
            raise Unread(f"/proc/stat: {stat or 'not there'}")
        lines = (line.split() for line in stat.splitlines())
        of_cpus = {f"cpu{cpu}" for cpu in host.cpus()}
        # user nice system idle iowait irq softirq steal; guest time is in user (proc_stat(5)).
        rows = [[int(field) for field in row[1:9]] for row in lines if row and row[0] in of_cpus]
        ticks.append([sum(column) for column in zip(*rows, strict=True)])
    before, after = ticks
    passed = [late - early for early, late in zip(before, after, strict=True)]
    if not sum(passed):
        raise Unread("/proc/stat: no time passed")
    return 1 - (passed[3] + passed[4]) / sum(passed), after[7] / sum(after)


# The figure: pti.rst of the kernel, "moves to CR3 are on the order of a hundred cycles".
@check(
    BOTH_ENDS,
    "each costs time at every system call: page table isolation alone takes about a hundred cycles in and out",
)
def mitigations(host: Host) -> Finding:
    known = {
        name: text
        for name, text in machine_facts.read_mitigations(host.root).items()
        if text is not None and text not in machine_facts.UNREAD
    }
    if not known:
        raise Unread(f"/{machine_facts.CPU_FOLDER}/vulnerabilities: nothing readable")
    costly = [name for name, text in known.items() if COSTLY_MITIGATIONS.search(text)]
    if costly:
        fix = (
            "add mitigations=off to the kernel's command line, on a machine that does nothing else"
        )
        return Finding("warn", ", ".join(costly), fix)
    return Finding("ok", "none that costs time at system calls")


# Measured, on an AMD EPYC (family 26): 22 ns by the vDSO, 168 ns by a system call.
@check(
    BOTH_ENDS,
    "wrk reads the clock for each request: 22 ns by the vDSO, 168 ns by a system call",
)
def clock_source(host: Host) -> Finding:
    folder = "sys/devices/system/clocksource/clocksource0"
    current = host.read(f"{folder}/current_clocksource")
    if current in FAST_CLOCKS:
        return Finding("ok", current)
    usable = (host.fact(f"{folder}/available_clocksource") or "").split()
    fast = [name for name in usable if name in FAST_CLOCKS]
    path = f"/{folder}/current_clocksource"
    return Finding("warn", current, write_file(fast[0], path) if fast else "")


# --- Memory ---


@check(
    set(ROLES),
    f"a process that draws takes 183 MiB; below {MEMORY_AVAILABLE_MIB} MiB the kernel may swap or kill",
)
def memory(host: Host) -> Finding:
    available_mib = int(host.find(r"^MemAvailable: *(\d+) kB$", "proc/meminfo")) // 1024
    return Finding(
        "ok" if available_mib >= MEMORY_AVAILABLE_MIB else "warn", f"{available_mib} MiB available"
    )


@check(
    BOTH_ENDS,
    "reading a page back from disk takes milliseconds, a request takes microseconds",
)
def swap(host: Host) -> Finding:
    total, free = (
        int(host.find(rf"^{name}: *(\d+) kB$", "proc/meminfo"))
        for name in ("SwapTotal", "SwapFree")
    )
    if total == free:
        return Finding("ok", "none used" if total else "none")
    return Finding("warn", f"{(total - free) // 1024} MiB used", "sudo swapoff -a")


@check(
    BOTH_ENDS,
    "the kernel merges pages into huge ones while servers run: CPU time and memory differ by chance",
)
def huge_pages(host: Host) -> Finding:
    path = "sys/kernel/mm/transparent_hugepage/enabled"
    mode = host.find(r"\[(\w+)\]", path)
    if mode == "always":
        return Finding("warn", mode, write_file("madvise", f"/{path}"))
    return Finding("ok", mode)


# --- The network ---


# Measured, this figure and the next: server_epoll, 50 connections, loopback; medians of 9 pairs, 5 to 24, -9 to 14 %.
NOTRACK = (
    "sudo nft 'table inet untracked {"
    " chain in { type filter hook prerouting priority raw; iif lo notrack; };"
    " chain out { type filter hook output priority raw; oif lo notrack; }; }'"
)


@check(
    BOTH_ENDS,
    "the kernel looks up each packet: 13 % more CPU time a request; a full table drops connections",
)
def connection_tracking(host: Host) -> Finding:
    host.read("proc/sys/net/core/somaxconn")  # raises Unread if /proc/sys/net is missing
    count = host.fact("proc/sys/net/netfilter/nf_conntrack_count")
    if count is None:
        return Finding("ok", "not loaded")
    tracked, most = (
        host.sysctl("net.netfilter.nf_conntrack_count"),
        host.sysctl("net.netfilter.nf_conntrack_max"),
    )
    found = f"{tracked} tracked of at most {most}"
    if not tracked:
        return Finding("ok", found)
    needed = tracked + 2 * host.connections  # connections of the warm-up are still tracked
    if most < needed:
        fix = set_sysctl("net.netfilter.nf_conntrack_max", 2 * needed)
        return Finding(
            "bad", f"{found}, {host.connections} connections need {needed}", fix, stops=True
        )
    return Finding("warn", found, NOTRACK)


@check(
    BOTH_ENDS,
    "each packet passes the rules: two chains of one rule each take 7 % more CPU time a request",
)
def packet_filter(host: Host) -> Finding:
    tables = []
    for family, command in (("ip", "iptables"), ("ip6", "ip6tables")):
        path = f"proc/net/{family}_tables_names"
        names = host.fact(path)
        if names in {machine_facts.NOT_PERMITTED, machine_facts.UNKNOWN}:
            raise Unread(f"/{path}: {names}")
        tables += [f"{command} {name}" for name in (names or "").split()]
    # nft shows its rules to root alone; the use count of its module shows whether there are any.
    modules = host.read("proc/modules") if not tables else host.fact("proc/modules") or ""
    users = re.search(r"^nf_tables \d+ (\d+)", modules, re.MULTILINE)
    builtin = host.fact(f"lib/modules/{host.fact('proc/sys/kernel/osrelease')}/modules.builtin")
    if not tables and not users and "/nf_tables.ko" in (builtin or ""):
        raise Unread("nftables: built into this kernel, which does not show its tables")
    if users and int(users[1]):
        tables.append("nftables")
    if tables:
        return Finding(
            "warn", ", ".join(tables), "sudo nft flush ruleset (which opens the firewall)"
        )
    return Finding("ok", "no tables")


# --- Facts that no file holds ---


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
    started: dict[str, machine_facts.Started] = {}
    for name, file in files.items():
        ask = {"ss": "-V", "wrk": "-v"}.get(name, "--version")
        started[name] = machine_facts.start([file, ask], "") if file else None
    versions: dict[str, str | Foreign | None] = {}
    for name, process in started.items():
        said = machine_facts.finish(process)
        if said not in machine_facts.UNREAD and not re.search(tools[name].says, said or ""):
            first = one_line((said or "").strip().partition("\n")[0])[:80]
            is_wrk2 = name == "wrk" and "--rate" in (said or "")
            says = "is wrk2" if is_wrk2 else f"says {first!r}"
            versions[name] = Foreign(files[name] or "", says)
            continue
        # Ubuntu's perf fails if the one for this kernel is not installed, and names the kernel.
        pattern = r"^perf version (\S+)" if name == "perf" else r"(\d+\.\d[\w.]*)"
        version = machine_facts.find(pattern, said)
        versions[name] = machine_facts.UNKNOWN if version is None and said is not None else version
    return versions


def see(
    root: str, roles: Collection[str], tools: Mapping[str, Tool], path: str, address: str | None
) -> Seen:
    """Look at this host; takes about 0.2 s."""
    versions = tool_versions(tools, path)  # before the readings of CPU time, since it takes some
    before = machine_facts.read_fact(root, "proc/stat")
    time.sleep(SAMPLE_S)
    return Seen(
        cpus=sorted(os.sched_getaffinity(0)),
        open_files_limit=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        python=sys.version.split()[0],
        tools=versions,
        io_uring=try_io_uring() if "server" in roles else None,
        tcp_diag=try_sock_diag(socket.IPPROTO_TCP) if "server" in roles else None,
        address=try_bind(address) if address and "server" in roles else None,
        stats=(before, machine_facts.read_fact(root, "proc/stat")),
    )


# --- Everything ---


def label(root: str = "/") -> str:
    """This host in one line."""
    lscpu = machine_facts.finish(machine_facts.start(["lscpu"], ""))
    facts = {
        "cpu": machine_facts.read_cpu(root, lscpu),
        "kernel": machine_facts.read_kernel(root),
    }
    return machine_facts.host_label(facts)


def examine(rule: _Rule, host: Host) -> Check:
    try:
        finding = rule.look(host)
    except Unread as reason:
        finding = Finding("unknown", str(reason))
    except (ValueError, IndexError) as error:
        finding = Finding("unknown", f"not understood: {error}")
    return Check(rule.name, finding.status, finding.found, rule.why, finding.fix, finding.stops)


def checks(
    root: str = "/",
    *,
    roles: Collection[str] = ROLES,
    connections: int = 1000,
    compiler: str = "gcc",
    address: str | None = None,
    path: str | None = None,
    seen: Seen | None = None,
) -> list[Check]:
    """All checks of a host in its roles. Raises nothing.

    connections: the most at a time; address: the servers' address, unless it is an interface's; root: where /proc and
    /sys are, "/" or a copy; path: where to look for tools (default: PATH); seen: facts to use in place of this host's.
    """
    known = {compiler: COMPILER, **TOOLS}
    tools = {name: tool for name, tool in known.items() if set(roles) & set(tool.roles)}
    seen = seen or see(root, roles, tools, path or os.environ.get("PATH", os.defpath), address)
    host = Host(root, roles, connections, address, seen)
    return [
        *(examine_tool(name, tool, host) for name, tool in tools.items()),
        *(examine(rule, host) for rule in RULES if set(roles) & set(rule.roles)),
    ]
