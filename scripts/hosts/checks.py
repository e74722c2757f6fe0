"""Check what a host must have, and what would make its results noisy or wrong. Changes nothing.

This module needs the standard library alone, and its arguments and results fit into JSON: it runs on every host that
serves or loads. A file that is missing or unreadable makes its check "unknown", never "ok".
"""

import errno
import math
import os
import re
from collections.abc import Callable, Collection
from typing import NamedTuple

from hosts import facts, proc, reading
from hosts.cpus import format_cpu_list
from hosts.inspection import Check, Finding, Foreign, Host, Seen, Tool, Unread, known, see
from hosts.perf_permission import TRACEFS, Obstacle, permission_obstacle, tracefs_obstacle
from sweep import flags

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
# pyperf 2.11 sets governors, Intel's turbo and more, but not the turbo of other drivers, huge pages, swap or SMT.
TUNE = "(or sudo pipx run pyperf system tune: docs/doctor.md)"


Look = Callable[[Host], Finding]


class _Rule(NamedTuple):
    name: str
    roles: Collection[str]
    why: str
    look: Look


RULES: list[_Rule] = []


def check(roles: Collection[str]) -> Callable[[Look], Look]:
    """Register a function as the check of its name, for hosts with one of the roles. Its docstring is the reason that
    people are told; the fix that it gives, and whether the fault stops a sweep, do not count if all is well."""

    def add(look: Look) -> Look:
        RULES.append(_Rule(look.__name__, roles, look.__doc__ or "", look))
        return look

    return add


def set_sysctl(name: str, value: object) -> str:
    return f"sudo sysctl -w {name}={value}"


def write_file(value: object, path: str) -> str:
    return f"echo {value} | sudo tee {path}"


# --- Tools and rights ---


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
    version = host.seen.tools.get(name, reading.UNKNOWN)
    if version is None:
        # `make setup` works only on the host that has this checkout.
        fix = "make setup" if "control" in host.roles else f"sudo apt-get install {tool.package}"
        return Check(name, "bad", "not installed", tool.why, fix, tool.needed)
    if isinstance(version, Foreign):
        found = f"another program: {version.path} {version.says}"
        package = f" (package {tool.package})" if tool.package else ""
        fix = f"put the right {name} before it in PATH{package}"
        return Check(name, "bad", found, tool.why, fix, tool.needed)
    if version in reading.UNREAD:
        return Check(name, "unknown", f"its version: {version}", tool.why, "", False)
    return Check(name, "ok", version, tool.why, "", False)


@check(set(ROLES))
def python(host: Host) -> Finding:
    """all scripts need 3.11 or newer"""
    version = known(host.seen.python, "the version of Python: unknown")
    status = "bad" if version_of(version) < PYTHON else "ok"
    return Finding(status, version, "sudo apt-get install python3.11", stops=True)


def version_of(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


@check({"server"})
def kernel(host: Host) -> Finding:
    """server_uring needs multishot accept and receive: Linux 6.1 or newer"""
    release = host.read("proc/sys/kernel/osrelease")
    return Finding("ok" if version_of(release) >= KERNEL else "bad", release)


def obstacle_finding(obstacle: Obstacle | None, otherwise: str) -> Finding:
    return Finding("bad", *obstacle) if obstacle else Finding("ok", otherwise)


def capabilities(host: Host) -> int:
    return int(host.find(r"^CapEff:\s*([0-9a-f]+)$", "proc/self/status"), 16)


@check({"server"})
def perf_permission(host: Host) -> Finding:
    """perf must see the kernel: otherwise there are no flamegraphs and no counts"""
    paranoid = host.sysctl("kernel.perf_event_paranoid")
    obstacle = permission_obstacle(capabilities(host), paranoid, 0)
    return obstacle_finding(obstacle, f"kernel.perf_event_paranoid is {paranoid}")


@check({"server"})
def kernel_symbols(host: Host) -> Finding:
    """if the kernel hides addresses, its functions have no names in flamegraphs"""
    restricted = host.sysctl("kernel.kptr_restrict")
    obstacle = permission_obstacle(capabilities(host), 0, restricted)
    return obstacle_finding(obstacle, f"kernel.kptr_restrict is {restricted}")


@check({"server"})
def tracefs(host: Host) -> Finding:
    """perf reads the names of system calls there: otherwise it cannot count them"""
    if not os.path.isdir(host.root + TRACEFS):
        raise Unread(f"{TRACEFS}: not there")
    return obstacle_finding(tracefs_obstacle(host.root), "readable")


@check({"server"})
def io_uring(host: Host) -> Finding:
    """if it is refused, all cells of the servers on io_uring are unavailable"""
    error = known(host.seen.io_uring, "making a ring: not tried")
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


@check({"server"})
def address(host: Host) -> Finding:
    """servers listen on it: without it nothing can be measured"""
    if host.address is None:
        return Finding("ok", "an interface's address")
    if error := known(host.seen.address, f"{host.address}: not tried"):
        found = f"host: {host.address} is not an address of this machine"
        fix = "in config.yaml set host: 127.0.0.1 (or run snakemake with --config host=127.0.0.1)"
        return Finding("bad", f"{found} ({os.strerror(error)})", fix, stops=True)
    return Finding("ok", host.address)


@check({"server"})
def tcp_diag(host: Host) -> Finding:
    """ss reads there what the server sent on each connection: without it no cell counts"""
    if error := known(host.seen.tcp_diag, "asking the kernel for sockets: not tried"):
        return Finding("bad", os.strerror(error), "sudo modprobe tcp_diag", stops=True)
    return Finding("ok", "the kernel answers")


# --- Limits on the number of connections ---


@check(BOTH_ENDS)
def open_files(host: Host) -> Finding:
    """server and load need a descriptor for each connection, or cells are invalid"""
    limit = known(host.seen.open_files_limit, "the limit of open files: unknown")
    needed = host.connections + proc.SPARE_DESCRIPTORS
    found = f"at most {limit}, {host.connections} connections need {needed}"
    fix = f"sudo prlimit --pid $$ --nofile={needed}"
    return Finding("bad" if limit < needed else "ok", found, fix, stops=True)


# listen(2) and the first retransmission of RFC 6298.
@check({"server"})
def backlog(host: Host) -> Finding:
    """the kernel drops connections that do not fit into a listener's queue; they retry after 1 s"""
    most = host.sysctl("net.core.somaxconn")
    found = f"net.core.somaxconn is {most}, for {host.connections} connections"
    # 4096: the kernel's default since 5.4
    fix = set_sysctl("net.core.somaxconn", max(4096, host.connections))
    return Finding("bad" if most < host.connections else "ok", found, fix)


# 60 s: TCP_TIMEWAIT_LEN in the kernel's net/tcp.h; tcp_tw_reuse: its ip-sysctl.rst.
@check({"load"})
def ephemeral_ports(host: Host) -> Finding:
    """each connection takes a port and keeps it for 60 s after its end (on loopback 1 s, by tcp_tw_reuse)"""
    first, last = map(int, host.read("proc/sys/net/ipv4/ip_local_port_range").split())
    waiting = int(host.find(r"^TCP:.* tw (\d+)", "proc/net/sockstat"))
    ports = last - first + 1
    found = f"{ports} ports, {waiting} in TIME_WAIT, for {host.connections} connections"
    fix = set_sysctl("net.ipv4.ip_local_port_range", '"1024 65535"')
    if ports < host.connections:
        return Finding("bad", found, fix, stops=True)
    # Connections of the warm-up still have their ports.
    return Finding("warn" if ports - waiting < 2 * host.connections else "ok", found, fix)


# --- CPUs ---


@check(BOTH_ENDS)
def cpus(host: Host) -> Finding:
    """server and load must not share a core: each would take CPU time from the other (shared_cpus)"""
    allowed = host.cpus()
    folder = reading.CPU_FOLDER
    online = reading.parse_cpus(host.read(f"{folder}/online"))
    topology = facts.read_topology(host.root, allowed)
    cores = known(topology["cores"], f"/{folder}/cpu*/topology: not there")
    found = f"{len(allowed)} of {len(online)} CPUs, {cores} core{'s' * (cores > 1)}"
    needed = len(BOTH_ENDS & set(host.roles))
    return Finding("ok" if cores >= needed else "warn", found)


# kernel-parameters.txt on isolcpus.
@check(BOTH_ENDS)
def isolated_cpus(host: Host) -> Finding:
    """the scheduler does not balance isolated CPUs: all threads of a server stay on the first one"""
    text = host.read(f"{reading.CPU_FOLDER}/isolated")
    isolated = set(reading.parse_cpus(text))
    used = sorted(isolated & set(host.cpus()))
    if len(used) > len(BOTH_ENDS & set(host.roles)):
        others = format_cpu_list(set(host.cpus()) - isolated or used[:2])
        found = f"{text}, of which this process has {format_cpu_list(used)}"
        return Finding("bad", found, f"taskset --cpu-list {others} make", stops=True)
    return Finding("ok", text or "none")


@check(BOTH_ENDS)
def cpu_quota(host: Host) -> Finding:
    """the kernel stops processes that exceed the quota until the period ends"""
    quota = read_cpu_quota(host)
    allowed = host.cpus()
    if quota is None:
        return Finding("ok", "none")
    found = f"{quota:g} CPUs, and this process may run on {len(allowed)}"
    if quota >= len(allowed):
        return Finding("ok", found)
    if quota < 1:
        return Finding("bad", found, "docker update --cpus 2 CONTAINER", stops=True)
    fitting = format_cpu_list(sorted(allowed)[: math.floor(quota)])
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


@check(BOTH_ENDS)
def governor(host: Host) -> Finding:
    """at a lower or changing frequency the same request takes more or varying CPU time"""
    pattern = f"{reading.CPU_FOLDER}/cpufreq/policy*/scaling_governor"
    found = reading.read_distinct(host.root, pattern)
    if found is None:
        host.read_of_cpus("cpufreq/policy0/scaling_governor")  # says why not
        raise Unread(f"/{pattern}: nothing understood")
    if found in reading.UNREAD:
        raise Unread(f"/{pattern}: {found}")
    fix = f"{write_file('performance', f'/{pattern}')} {TUNE}"
    return Finding("ok" if found == "performance" else "warn", found, fix)


@check(BOTH_ENDS)
def turbo(host: Host) -> Finding:
    """the frequency falls when more cores are busy or warm: runs differ, and so do servers"""
    for path, meanings in reading.TURBO.items():
        value = host.fact(path)
        if value is None or value in reading.UNREAD:
            continue
        state = meanings.get(value)
        off = next(text for text, meaning in meanings.items() if meaning == "off")
        if state is None:
            raise Unread(f"/{path}: not understood")
        fix = write_file(off, f"/{path}") + (f" {TUNE}" if "intel_pstate" in path else "")
        return Finding("warn" if state == "on" else "ok", state, fix)
    host.read_of_cpus("cpufreq/boost")
    raise Unread("turbo: unknown")


@check(BOTH_ENDS)
def smt(host: Host) -> Finding:
    """two CPUs share one core: a request takes more CPU time when both are busy"""
    active = host.read_of_cpus("smt/active")
    if active == "1":
        return Finding("warn", "on", write_file("off", f"/{reading.CPU_FOLDER}/smt/control"))
    if host.is_virtual():
        raise Unread(
            "off here, but a virtual machine cannot see which CPUs share a core of its host"
        )
    return Finding("ok", "off")


@check(BOTH_ENDS)
def other_load(host: Host) -> Finding:
    """other processes take CPU time and caches from both sides; cells above 10 % are disturbed"""
    busy, _ = cpu_shares(host)
    found = f"{busy:.0%} of this process's CPUs busy, load average {host.read('proc/loadavg').split()[0]}"
    return Finding("ok" if busy <= flags.FOREIGN_SHARE else "warn", found)


@check(BOTH_ENDS)
def steal(host: Host) -> Finding:
    """the hypervisor gave the CPU to others while a process here waited for it; cells above 2 % are disturbed"""
    _, stolen = cpu_shares(host)
    found = f"{stolen:.1%} since boot"
    return Finding("ok" if stolen <= flags.STEAL_SHARE else "warn", found)


def cpu_shares(host: Host) -> tuple[float, float]:
    """Of this process's CPUs: the share that was busy between the readings, and the share stolen since boot."""
    ticks = []
    for stat in host.seen.stats:
        if stat is None or stat in reading.UNREAD:
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
@check(BOTH_ENDS)
def mitigations(host: Host) -> Finding:
    """each costs time at every system call: page table isolation alone takes about a hundred cycles in and out"""
    known = {
        name: text
        for name, text in facts.read_mitigations(host.root).items()
        if text is not None and text not in reading.UNREAD
    }
    if not known:
        raise Unread(f"/{reading.CPU_FOLDER}/vulnerabilities: nothing readable")
    costly = [name for name, text in known.items() if COSTLY_MITIGATIONS.search(text)]
    found = ", ".join(costly) or "none that costs time at system calls"
    fix = "add mitigations=off to the kernel's command line, on a machine that does nothing else"
    return Finding("warn" if costly else "ok", found, fix)


# Measured, on an AMD EPYC (family 26): 22 ns by the vDSO, 168 ns by a system call.
@check(BOTH_ENDS)
def clock_source(host: Host) -> Finding:
    """wrk reads the clock for each request: 22 ns by the vDSO, 168 ns by a system call"""
    folder = "sys/devices/system/clocksource/clocksource0"
    current = host.read(f"{folder}/current_clocksource")
    usable = (host.fact(f"{folder}/available_clocksource") or "").split()
    fast = [name for name in usable if name in FAST_CLOCKS]
    fix = write_file(fast[0], f"/{folder}/current_clocksource") if fast else ""
    return Finding("ok" if current in FAST_CLOCKS else "warn", current, fix)


# --- Memory ---


@check(set(ROLES))
def memory(host: Host) -> Finding:
    """a process that draws takes 183 MiB; below 512 MiB the kernel may swap or kill"""
    available_mib = int(host.find(r"^MemAvailable: *(\d+) kB$", "proc/meminfo")) // 1024
    status = "ok" if available_mib >= MEMORY_AVAILABLE_MIB else "warn"
    return Finding(status, f"{available_mib} MiB available")


@check(BOTH_ENDS)
def swap(host: Host) -> Finding:
    """reading a page back from disk takes milliseconds, a request takes microseconds"""
    total, free = (
        int(host.find(rf"^{name}: *(\d+) kB$", "proc/meminfo"))
        for name in ("SwapTotal", "SwapFree")
    )
    if total == free:
        return Finding("ok", "none used" if total else "none")
    return Finding("warn", f"{(total - free) // 1024} MiB used", "sudo swapoff -a")


@check(BOTH_ENDS)
def huge_pages(host: Host) -> Finding:
    """the kernel merges pages into huge ones while servers run: CPU time and memory differ by chance"""
    path = "sys/kernel/mm/transparent_hugepage/enabled"
    mode = host.find(r"\[(\w+)\]", path)
    return Finding("warn" if mode == "always" else "ok", mode, write_file("madvise", f"/{path}"))


# --- The network ---


# Measured, this figure and the next: server_epoll, 50 connections, loopback; medians of 9 pairs, 5 to 24, -9 to 14 %.
NOTRACK = (
    "sudo nft 'table inet untracked {"
    " chain in { type filter hook prerouting priority raw; iif lo notrack; };"
    " chain out { type filter hook output priority raw; oif lo notrack; }; }'"
)


@check(BOTH_ENDS)
def connection_tracking(host: Host) -> Finding:
    """the kernel looks up each packet: 13 % more CPU time a request; a full table drops connections"""
    host.read("proc/sys/net/core/somaxconn")  # raises Unread if /proc/sys/net is missing
    count = host.fact("proc/sys/net/netfilter/nf_conntrack_count")
    if count is None:
        return Finding("ok", "not loaded")
    tracked, most = (host.sysctl(f"net.netfilter.nf_conntrack_{name}") for name in ("count", "max"))
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


@check(BOTH_ENDS)
def packet_filter(host: Host) -> Finding:
    """each packet passes the rules: two chains of one rule each take 7 % more CPU time a request"""
    tables = []
    for family, command in (("ip", "iptables"), ("ip6", "ip6tables")):
        path = f"proc/net/{family}_tables_names"
        names = host.fact(path)
        if names in {reading.NOT_PERMITTED, reading.UNKNOWN}:
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
    fix = "sudo nft flush ruleset (which opens the firewall)"
    return Finding("warn" if tables else "ok", ", ".join(tables) or "no tables", fix)


# --- Everything ---


def examine(rule: _Rule, host: Host) -> Check:
    try:
        finding = rule.look(host)
    except Unread as reason:
        finding = Finding("unknown", str(reason))
    except (ValueError, IndexError) as error:
        finding = Finding("unknown", f"not understood: {error}")
    status, found, fix, stops = finding
    if status == "ok":
        fix, stops = "", False
    return Check(rule.name, status, found, rule.why, fix, stops)


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
