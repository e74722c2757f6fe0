#!/usr/bin/env python3
"""The facts of the machine, its tools and this checkout that a comparison must name, as JSON.

A missing value is null, an unreadable one is "not permitted", one that this code does not understand is "unknown".
Facts distinguish machines but do not identify their owners: they contain no host, user, address or path.
"""

import argparse
import glob
import hashlib
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import environment
import faults
import files
import machine

PATH = "results/machine.json"  # written when a sweep begins
# On a node of a cluster, this variable of the environment names another path.
PATH_VARIABLE = "MACHINE_FACTS"
CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NOT_PERMITTED = "not permitted"
UNKNOWN = "unknown"
UNREAD = {None, NOT_PERMITTED, UNKNOWN}
TOOL_TIMEOUT_S = 5.0
CPU_FOLDER = "sys/devices/system/cpu"

# Keys of /proc/cpuinfo on x86 and on Arm, which has numbers in place of a name.
CPUINFO_KEYS = {
    "vendor_id": "vendor",
    "CPU implementer": "vendor",
    "model name": "model_name",
    "cpu family": "family",
    "model": "model",
    "CPU part": "model",
    "CPU variant": "variant",
    "stepping": "stepping",
    "CPU revision": "stepping",
    "microcode": "microcode",
}
# intel_pstate says whether turbo is forbidden, other drivers whether it is allowed.
TURBO = {
    f"{CPU_FOLDER}/intel_pstate/no_turbo": {"0": "on", "1": "off"},
    f"{CPU_FOLDER}/cpufreq/boost": {"1": "on", "0": "off"},
}
# The rest of the kernel's command line may contain addresses and disks.
KERNEL_OPTIONS = ("isolcpus", "mitigations", "nohz_full", "nosmt", "preempt", "rcu_nocbs")
SECCOMP_MODES = {"0": "off", "1": "strict", "2": "filter"}
# Without perf_event_max_sample_rate, which the kernel changes by itself. read_sysctls() adds kernel.sched_*.
SYSCTLS = (
    "fs.file-max",
    "fs.nr_open",
    "kernel.io_uring_disabled",
    "kernel.kptr_restrict",
    "kernel.nmi_watchdog",
    "kernel.numa_balancing",
    "kernel.perf_event_paranoid",
    "kernel.pid_max",
    "kernel.randomize_va_space",
    "kernel.threads-max",
    "kernel.timer_migration",
    "net.core.busy_poll",
    "net.core.busy_read",
    "net.core.default_qdisc",
    "net.core.netdev_max_backlog",
    "net.core.rmem_default",
    "net.core.rmem_max",
    "net.core.somaxconn",
    "net.core.wmem_default",
    "net.core.wmem_max",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_max_tw_buckets",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.tcp_wmem",
    "net.netfilter.nf_conntrack_max",
    "vm.max_map_count",
    "vm.overcommit_memory",
    "vm.swappiness",
)
LIMITS = {
    "open_files": resource.RLIMIT_NOFILE,
    "processes": resource.RLIMIT_NPROC,
    "locked_memory_bytes": resource.RLIMIT_MEMLOCK,
    "stack_bytes": resource.RLIMIT_STACK,
}
VERSION_PATTERNS = {
    "perf": r"^perf version (\S+)",
    "wrk": r"^wrk (\S+)",
    "ss": r"iproute2-(?:ss)?([\w.]+)",
    "compiler": r"^(.*\d\.\d.*)$",
}

Fact = str | int | None
Started = subprocess.Popen[str] | str | None


# --- Parsing ---


def find(pattern: str, text: str | None) -> str | None:
    """The text that a pattern's group matches, or null. An unreadable text (UNREAD) is returned as it is."""
    if text is None or text in UNREAD:
        return text
    match = re.search(pattern, text, re.MULTILINE)
    return match[1] if match else None


def number(text: str | None) -> Fact:
    """An integer if the text is one."""
    return int(text) if text and re.fullmatch(r"-?\d+", text) else text


def parse_cpus(text: str | None) -> list[int]:
    """CPUs or nodes from the kernel's list format; empty if the text is missing or invalid."""
    try:
        return machine.parse_cpu_list(text or "")
    except ValueError:
        return []


def parse_cpuinfo(text: str | None) -> dict[str, Fact]:
    """The CPU's maker and model, by the names in CPUINFO_KEYS; if CPUs differ (big and little), all values."""
    values: dict[str, list[str]] = {name: [] for name in CPUINFO_KEYS.values()}
    for line in (text or "").splitlines():
        key, _, value = line.partition(":")
        name = CPUINFO_KEYS.get(key.strip())
        if name and value.strip() not in values[name]:
            values[name].append(value.strip())
    return {name: number(", ".join(its) or None) for name, its in values.items()}


def parse_hypervisor(lscpu: str | None, cpuinfo: str | None) -> str | None:
    """The hypervisor, which lscpu asks the CPU for; null if there is none."""
    vendor = find(r"^\s*Hypervisor vendor:\s*(.+)$", lscpu)
    if vendor is None and (lscpu is None or " hypervisor" in (cpuinfo or "")):
        return UNKNOWN
    return vendor


def parse_kernel_options(cmdline: str | None) -> dict[str, str]:
    """The KERNEL_OPTIONS on the kernel's command line, with their values; words after `--` are for init."""
    options = {}
    for word in (cmdline or "").partition(" -- ")[0].split():
        name, _, value = word.partition("=")
        if name in KERNEL_OPTIONS:
            options[name] = value
    return options


def parse_version(tool: str, output: str | None) -> str | None:
    """A tool's version from its output; "unknown" if that has no version."""
    version = find(VERSION_PATTERNS[tool], output)
    return UNKNOWN if version is None and output is not None else version


def hide_places(flag: str, checkout: str) -> str:
    """Replace the checkout with `.` and the home directory with `~` in a compiler flag, since both name a user."""
    home = os.path.expanduser("~")
    flag = flag.replace(checkout, ".")
    return flag if home == "/" else flag.replace(home, "~")


def parse_git_status(output: str | None) -> dict[str, str | bool | None]:
    """`commit` and `dirty` (files changed or untracked), or nulls with a `reason`.

    `output`: of `git status --porcelain=v2 --branch`, standard error included; null without git.
    """
    commit = re.search(r"^# branch\.oid ([0-9a-f]+)$", output or "", re.MULTILINE)
    if not commit:
        return {"commit": None, "dirty": None, "reason": _git_reason(output)}
    dirty = re.search(r"^[12u?] ", commit.string, re.MULTILINE) is not None
    return {"commit": commit[1], "dirty": dirty, "reason": None}


def _git_reason(output: str | None) -> str:
    # git's own message would reveal the checkout's path.
    if output is None:
        return "git is not installed"
    for said, reason in {
        "# branch.oid (initial)": "no commit yet",
        "not a git repository": "no git repository",
        "safe.directory": f"{NOT_PERMITTED}: the checkout is another user's (git's safe.directory)",
        "Permission denied": NOT_PERMITTED,
        NOT_PERMITTED: NOT_PERMITTED,
    }.items():
        if said in output:
            return reason
    return UNKNOWN


# --- Files. root: the folder with /proc, /sys and /etc, "/" or a copy ---


def read_fact(root: str, path: str) -> str | None:
    """A file's stripped text; null if the file is missing, "not permitted" or "unknown" if it is unreadable."""
    try:
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        return NOT_PERMITTED
    except OSError:
        return UNKNOWN


def read_distinct(root: str, pattern: str) -> str | None:
    """The distinct texts of all matching files, as `performance, powersave`; null if there are none."""
    texts = (read_fact(root, path) for path in glob.glob(pattern, root_dir=root))
    return ", ".join(sorted(set(filter(None, texts)))) or None


def read_topology(root: str, cpus: Sequence[int]) -> dict[str, int | None]:
    """Sockets, physical cores, and the largest number of threads on a core, for CPUs that are online."""
    folders = [f"{CPU_FOLDER}/cpu{cpu}/topology" for cpu in cpus]
    sockets = {read_fact(root, f"{folder}/physical_package_id") for folder in folders} - UNREAD
    cores = {read_fact(root, f"{folder}/thread_siblings_list") for folder in folders} - UNREAD
    return {
        "sockets": len(sockets) or None,
        "cores": len(cores) or None,
        "threads_per_core": max((len(parse_cpus(core)) for core in cores), default=0) or None,
    }


def read_caches_kib(root: str, cpu: int) -> dict[str, Fact]:
    """Sizes of the caches that a CPU has or shares, `{"L1 data": 48, …}`."""
    caches = {}
    for folder in sorted(glob.glob(f"{CPU_FOLDER}/cpu{cpu}/cache/index*", root_dir=root)):
        level, kind = (read_fact(root, f"{folder}/{name}") for name in ("level", "type"))
        size = read_fact(root, f"{folder}/size")
        caches[f"L{level} {(kind or UNKNOWN).lower()}"] = number(find(r"^(\d+)K$", size))
    return caches


def read_turbo(root: str) -> str | None:
    """on, off, or null if no frequency driver says."""
    for path, meanings in TURBO.items():
        value = read_fact(root, path)
        if value is not None:
            return meanings.get(value, value)
    return None


def read_cpu(root: str, lscpu: str | None) -> dict[str, Any]:
    """The CPUs: model, number, and what controls their frequency. lscpu: its output, or null."""
    cpuinfo = read_fact(root, "proc/cpuinfo")
    identity = parse_cpuinfo(cpuinfo)
    online = parse_cpus(read_fact(root, f"{CPU_FOLDER}/online"))
    preference = "energy_performance_preference"
    return {
        **identity,
        "model_name": identity["model_name"] or find(r"^\s*Model name:\s*(\w.*)$", lscpu),
        "architecture": os.uname().machine,
        "hypervisor": parse_hypervisor(lscpu, cpuinfo),
        "cpus_online": len(online) or None,
        "cpus_allowed": len(os.sched_getaffinity(0)),
        **read_topology(root, online),
        "smt": read_fact(root, f"{CPU_FOLDER}/smt/control"),
        "caches_kib": read_caches_kib(root, online[0] if online else 0),
        "frequency_driver": read_distinct(root, f"{CPU_FOLDER}/cpufreq/policy*/scaling_driver"),
        "governor": read_distinct(root, f"{CPU_FOLDER}/cpufreq/policy*/scaling_governor"),
        preference: read_distinct(root, f"{CPU_FOLDER}/cpufreq/policy*/{preference}"),
        "turbo": read_turbo(root),
        "idle_driver": read_fact(root, f"{CPU_FOLDER}/cpuidle/current_driver"),
        "idle_governor": read_fact(root, f"{CPU_FOLDER}/cpuidle/current_governor"),
    }


def read_memory(root: str) -> dict[str, Fact]:
    """Memory and swap in KiB, the mode of transparent huge pages, and the NUMA nodes."""
    meminfo = read_fact(root, "proc/meminfo")
    huge_pages = read_fact(root, "sys/kernel/mm/transparent_hugepage/enabled")
    return {
        "memory_total_kib": number(find(r"^MemTotal: *(\d+) kB$", meminfo)),
        "swap_total_kib": number(find(r"^SwapTotal: *(\d+) kB$", meminfo)),
        "transparent_huge_pages": find(r"\[(\w+)\]", huge_pages),
        "numa_nodes": len(parse_cpus(read_fact(root, "sys/devices/system/node/online"))) or None,
    }


def read_mitigations(root: str) -> dict[str, str | None]:
    """The kernel's text about each vulnerability of the CPU."""
    paths = glob.glob(f"{CPU_FOLDER}/vulnerabilities/*", root_dir=root)
    return {os.path.basename(path): read_fact(root, path) for path in sorted(paths)}


def read_kernel(root: str) -> dict[str, Any]:
    """The kernel, its options, and its mitigations of the CPU's vulnerabilities."""
    version = read_fact(root, "proc/sys/kernel/version")
    return {
        "release": read_fact(root, "proc/sys/kernel/osrelease"),
        "version": version,
        "options": parse_kernel_options(read_fact(root, "proc/cmdline")),
        "preemption": find(r"(PREEMPT\w*)", version),
        "preemption_mode": find(r"\((\w+)\)", read_fact(root, "sys/kernel/debug/sched/preempt")),
        "clock_source": read_fact(
            root, "sys/devices/system/clocksource/clocksource0/current_clocksource"
        ),
        "mitigations": read_mitigations(root),
    }


def read_container(root: str) -> str | None:
    """The kind of container, if a file in it says so."""
    for marker, name in {".dockerenv": "docker", "run/.containerenv": "podman"}.items():
        if os.path.exists(os.path.join(root, marker)):
            return name
    return read_fact(root, "run/systemd/container")


def read_installation(root: str) -> str | None:
    """A hash of /etc/machine-id, which is itself confidential (machine-id(5)); null if it is not set."""
    machine_id_text = find(r"^([0-9a-f]{32})$", read_fact(root, "etc/machine-id"))
    if machine_id_text in UNREAD:
        return machine_id_text
    return hashlib.sha256(f"machine_facts {machine_id_text}".encode()).hexdigest()[:12]


def hash_node() -> str | None:
    """A hash of the node's name in a Slurm cluster: all nodes may have the machine-id of one image."""
    name = os.getenv("SLURMD_NODENAME")
    return hashlib.sha256(f"machine_facts {name}".encode()).hexdigest()[:12] if name else None


def read_boot(root: str = "/") -> str | None:
    """A value that changes with each start of each kernel: the same value means the same running kernel."""
    boot_id = read_fact(root, "proc/sys/kernel/random/boot_id")
    return hashlib.sha256(f"machine_facts {boot_id}".encode()).hexdigest()[:12] if boot_id else None


def libc_version() -> str | None:
    """`glibc 2.36`; null for any other libc, which has no such version."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):
        return None


def read_system(root: str) -> dict[str, str | None]:
    """The system on the kernel, and how it is confined. `cgroup_cpu_max`: quota and period (µs), or max."""
    release = read_fact(root, "etc/os-release") or read_fact(root, "usr/lib/os-release")
    seccomp = find(r"^Seccomp:\s*(\d)$", read_fact(root, "proc/self/status"))
    return {
        "os": find(r"^PRETTY_NAME=[\"']?(.*?)[\"']?$", release),
        "libc": libc_version(),
        "container": read_container(root),
        "cgroup_cpu_max": read_fact(root, "sys/fs/cgroup/cpu.max"),
        "seccomp": SECCOMP_MODES.get(seccomp, seccomp) if seccomp else None,
        "installation": read_installation(root),
        "boot": read_boot(root),
        "node": hash_node(),
    }


def read_sysctls(root: str) -> dict[str, Fact]:
    """SYSCTLS and all kernel.sched_*, by name; one with several values, such as tcp_rmem, stays one text."""
    folder = "proc/sys"
    scheduler = (
        path.removeprefix(f"{folder}/").replace("/", ".")
        for path in glob.glob(f"{folder}/kernel/sched_*", root_dir=root)
        if os.path.isfile(os.path.join(root, path))
    )
    texts = {
        name: read_fact(root, f"{folder}/{name.replace('.', '/')}")
        for name in sorted([*SYSCTLS, *scheduler])
    }
    return {name: number(text and " ".join(text.split())) for name, text in texts.items()}


def read_limits() -> dict[str, dict[str, int | str]]:
    """The process's limits, soft and hard."""

    def value(limit: int) -> int | str:
        return "unlimited" if limit == resource.RLIM_INFINITY else limit

    return {
        name: dict(zip(("soft", "hard"), map(value, resource.getrlimit(kind)), strict=True))
        for name, kind in LIMITS.items()
    }


# --- Tools: all start at once, and run while files are read ---


def start(command: Sequence[str], checkout: str) -> Started:
    """Start a tool whose output is wanted; null if it is not installed."""
    # Git must ignore a repository above the checkout.
    ceiling = {"GIT_CEILING_DIRECTORIES": os.path.dirname(checkout)}
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**environment.clean_copy(os.environ), **ceiling},
            encoding="utf-8",
            errors="replace",
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        return NOT_PERMITTED
    except OSError:
        return UNKNOWN


def finish(started: Started) -> str | None:
    """The process's output, or "unknown" if it does not end in time."""
    if not isinstance(started, subprocess.Popen):
        return started
    with started:
        try:
            return started.communicate(timeout=TOOL_TIMEOUT_S)[0]
        except subprocess.TimeoutExpired:
            started.kill()
            return UNKNOWN


def start_tools(commands: dict[str, list[str]], checkout: str = "/") -> dict[str, Started]:
    """Start every tool; finish() returns its output."""
    return {name: start(command, checkout) for name, command in commands.items()}


# A host's tools; perf is the slowest.
TOOLS = {
    "perf": ["perf", "--version"],
    "lscpu": ["lscpu"],
    "wrk": ["wrk", "-v"],
    "ss": ["ss", "-V"],
}


def build_tools(checkout: str, compiler: str) -> dict[str, list[str]]:
    status = ["status", "--porcelain=v2", "--branch", "--untracked-files=normal"]
    return {
        "git": ["git", "-C", checkout, "--no-optional-locks", *status],
        "compiler": [compiler, "--version"],
        "liburing": [compiler, "-print-file-name=liburing.a"],
    }


def read_liburing(archive: str | None, compiler: str, checkout: str) -> str | None:
    """liburing's version from the pkg-config file next to the linked archive, else from its header.

    archive: where the compiler finds it, or a bare name if it does not. The header has the version since liburing 2.4.
    """
    if archive is None or archive in UNREAD:
        return archive
    folder = os.path.dirname(archive.strip())
    version = (
        find(r"^Version: *(\S+)$", read_fact(folder, "pkgconfig/liburing.pc")) if folder else None
    )
    return version or _header_version(compiler, checkout) or (UNKNOWN if folder else None)


def _header_version(compiler: str, checkout: str) -> str | None:
    header = "liburing/io_uring_version.h"
    macros = finish(start([compiler, "-E", "-dM", "-include", header, "-xc", os.devnull], checkout))
    major, minor = (
        re.findall(rf"^#define IO_URING_VERSION_{part} (\d+)$", macros or "", re.MULTILINE)
        for part in ("MAJOR", "MINOR")
    )
    return ".".join([*major, *minor]) or None


def snakemake_version() -> str | None:
    """The version of Snakemake in this Python; null without Snakemake."""
    # Imported here, since it takes as long as all the rest, unless Snakemake itself has imported it.
    from importlib import metadata  # noqa: PLC0415

    try:
        return metadata.version("snakemake")
    except metadata.PackageNotFoundError:
        return None


# --- Everything ---


def machine_id(facts: dict[str, Any]) -> str:
    """m and 12 hexadecimal digits that differ between machines whose results must not be compared silently.

    The id depends on lasting facts that change results: CPU, CPUs allowed, memory (GiB), kernel, hypervisor,
    mitigations, and the installation, with the node's name in a cluster; if the load has its own machine, on those of
    both machines and on the interface between them. It does not depend on tools, source or other work: the same machine
    in a new container keeps its id.
    """
    identity = _identity_of(facts)
    if facts["network"]:
        identity = [identity, facts["load"] and _identity_of(facts["load"]), facts["network"]]
    # Tables would read some ids as numbers without the letter.
    return "m" + hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def hardware_of(host: dict[str, Any]) -> dict[str, Any]:
    """What identifies a machine, whatever its kernel: CPU, CPUs allowed, memory (GiB), and the installation."""
    memory, system = host["memory"]["memory_total_kib"], host["system"]
    names = (
        "vendor",
        "model_name",
        "family",
        "model",
        "variant",
        "stepping",
        "cpus_allowed",
        "hypervisor",
    )
    return {
        "cpu": [host["cpu"][name] for name in names],
        "memory_gib": round(memory / 2**20) if isinstance(memory, int) else memory,
        # Nodes of a cluster may share an image. Without a node's name the id depends on the installation alone.
        "installation": " ".join(filter(None, [system["installation"], system.get("node")]))
        or None,
    }


def _identity_of(host: dict[str, Any]) -> list[Any]:
    hardware, kernel = hardware_of(host), host["kernel"]
    software = kernel["release"], kernel["mitigations"]
    return [hardware["cpu"], hardware["memory_gib"], *software, hardware["installation"]]


def machine_label(facts: dict[str, Any]) -> str:
    """One line for people: the server's host, and the load's host if it is another."""
    label = host_label(facts)
    return f"{label}; load from {host_label(facts['load'])}" if facts["load"] else label


def network_label(facts: dict[str, Any]) -> str:
    """`over loopback`, or `over io-models0 (veth) between two network namespaces`."""
    way = facts["network"]
    if not way:
        return "over loopback"
    speed = way["speed_mbit_per_second"]
    kind = ", ".join(filter(None, [way["driver"], f"{speed} Mbit/s" if speed else None]))
    ends = "two hosts" if facts["load"] else "two network namespaces"
    return f"over {way['interface']}{f' ({kind})' if kind else ''} between {ends}"


def host_label(host: dict[str, Any]) -> str:
    """`AMD EPYC (family 26), 2 CPUs, KVM, Linux 6.18.44`."""
    cpu = host["cpu"]
    numbers = " ".join(str(cpu[name]) for name in ("architecture", "vendor", "model") if cpu[name])
    # Without words that carry no information: trade marks, "CPU @ 2.90GHz", "64-Core Processor".
    name = re.sub(
        r"\((R|TM)\)|( CPU)? @.*| \d+-Core Processor", "", str(cpu["model_name"] or numbers)
    )
    family = "" if cpu["family"] is None else f" (family {cpu['family']})"
    hypervisor = "unknown hypervisor" if cpu["hypervisor"] == UNKNOWN else cpu["hypervisor"]
    release = re.sub(r"^([\d.]*\d).*", r"\1", host["kernel"]["release"] or UNKNOWN)
    cpus = f"{cpu['cpus_allowed']} CPU{'' if cpu['cpus_allowed'] == 1 else 's'}"
    return ", ".join(filter(None, [name + family, cpus, hypervisor, f"Linux {release}"]))


def read_host(root: str = "/") -> dict[str, Any]:
    """The facts of this machine, this network namespace and the tools. Raises nothing."""
    started = start_tools(TOOLS)
    return {
        "memory": read_memory(root),
        "kernel": read_kernel(root),
        "system": read_system(root),
        "limits": read_limits(),
        "sysctls": read_sysctls(root),
        "cpu": read_cpu(root, finish(started["lscpu"])),
        "tools": {
            "python": sys.version.split()[0],
            **{tool: parse_version(tool, finish(started[tool])) for tool in ("perf", "ss", "wrk")},
        },
    }


def read_source(checkout: str, compiler: str, flags: Sequence[str]) -> dict[str, Any]:
    """`build`, the tools that compile the servers, and `source`, the checkout's commit. Raises nothing."""
    started = start_tools(build_tools(checkout, compiler), checkout)
    return {
        "build": {
            "compiler": os.path.basename(compiler),
            "compiler_version": parse_version("compiler", finish(started["compiler"])),
            "flags": [hide_places(flag, checkout) for flag in flags],
            "liburing": read_liburing(finish(started["liburing"]), compiler, checkout),
        },
        "source": parse_git_status(finish(started["git"])),
    }


def read_facts(
    checkout: str | os.PathLike[str],
    compiler: str,
    flags: Sequence[str],
    host: dict[str, Any] | None = None,
    load: dict[str, Any] | None = None,
    way: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """All facts, ready for JSON; two readings are equal unless a fact has changed. Raises nothing.

    Keys contain units. checkout: the repository; compiler and flags: those of the servers; host: facts of the server's
    host (default: this one); load: facts of the load's host, if it is another; way: facts of the server's interface,
    null over loopback.
    """
    checkout = os.path.realpath(checkout)
    source = read_source(checkout, compiler, flags)
    facts = {**(host or read_host()), **source, "load": load, "network": way}
    facts["tools"] = {**facts["tools"], "snakemake": snakemake_version()}
    return {
        "machine_id": machine_id(facts),
        "machine_label": machine_label(facts),
        "network_label": network_label(facts),
        **facts,
    }


def format_facts(facts: dict[str, Any]) -> str:
    """The facts as JSON; the same facts give the same text."""
    return json.dumps(facts, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def write_facts(path: str, facts: dict[str, Any]) -> None:
    """Write the facts as JSON, unless the file has the same text, so that its time stays. Raises OSError."""
    text = format_facts(facts)
    if read_fact("", path) != text.strip():
        files.write_text(path, text)


def facts_of_sweep(
    boots: Sequence[str | None], way: dict[str, Any] | None, path: str | None = None
) -> dict[str, Any] | None:
    """The facts written when the sweep began, if the machines (the server's, the load's) and the interface between them
    are still the same; else null."""
    try:
        with open(path or os.getenv(PATH_VARIABLE) or PATH, encoding="utf-8") as file:
            facts = json.load(file)
        of_load = facts["load"] or facts
        known = [facts["system"]["boot"], of_load["system"]["boot"]]
        if known == list(boots) and facts["network"] == way:
            return dict(facts)
    except (OSError, ValueError, LookupError, TypeError):
        pass
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", nargs="?", help="where the JSON goes (default: standard output)")
    parser.add_argument("--compiler", default="gcc", help="it compiles the servers")
    parser.add_argument(
        "--flags", nargs=argparse.REMAINDER, default=[], help="its flags: all following words"
    )
    arguments = parser.parse_args()
    facts = read_facts(CHECKOUT, arguments.compiler, arguments.flags)
    if arguments.output is None:
        print(format_facts(facts), end="")
    else:
        write_facts(arguments.output, facts)
    return 0


if __name__ == "__main__":
    sys.exit(faults.report(main))
