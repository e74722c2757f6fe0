"""The facts of the machine, its tools and this checkout that a comparison must name, as JSON.

A missing value is null, an unreadable one is "not permitted", one that this code does not understand is "unknown".
Facts distinguish machines but do not identify their owners: they contain no host, user, address or path.
"""

import glob
import json
import os
import resource
import sys
from collections.abc import Sequence
from typing import Any

from common import files, modules
from hosts.identity import (
    hash_node,
    machine_id,
    machine_label,
    network_label,
    read_boot,
    read_installation,
)
from hosts.reading import (
    CPU_FOLDER,
    TURBO,
    UNKNOWN,
    UNREAD,
    Fact,
    find,
    finish,
    number,
    parse_cpus,
    parse_version,
    read_distinct,
    read_fact,
    start_tools,
)
from hosts.source import read_source, snakemake_version

PATH = "results/machine.json"  # written when a sweep begins
# On a node of a cluster, this variable of the environment names another path.
PATH_VARIABLE = "MACHINE_FACTS"
CHECKOUT = os.path.dirname(modules.SCRIPTS)

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


# --- Parsing ---


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


# --- Files. root: the folder with /proc, /sys and /etc, "/" or a copy ---


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


# A host's tools; perf is the slowest.
TOOLS = {
    "perf": ["perf", "--version"],
    "lscpu": ["lscpu"],
    "wrk": ["wrk", "-v"],
    "ss": ["ss", "-V"],
}


# --- Everything ---


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
