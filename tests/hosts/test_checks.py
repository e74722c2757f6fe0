"""The doctor: each check in each of its states, on made-up trees of /proc and /sys; its words; and what it stops."""

import contextlib
import errno
import functools
import os
import re
import shlex
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

import doctor
from common import terminal
from helpers.checkouts import (
    ROOT,
    SNAKEMAKE,
    make_program,
    make_tree,
    run_program,
    run_script,
    snakemake,
)
from hosts import checks, inspection, reading
from hosts.inspection import Check, Seen
from hosts.perf_permission import CAP_PERFMON, CAP_SYS_ADMIN, CAP_SYSLOG
from workflow import health
from workflow.health import HostChecks

CPUS = "sys/devices/system/cpu"
CLOCK = "sys/devices/system/clocksource/clocksource0"
CURRENT = f"{CLOCK}/current_clocksource"
BOOST, NO_TURBO = f"{CPUS}/cpufreq/boost", f"{CPUS}/intel_pstate/no_turbo"
ISOLATED, SMT = f"{CPUS}/isolated", f"{CPUS}/smt/active"
MELTDOWN = f"{CPUS}/vulnerabilities/meltdown"
TRACE_ID = "sys/kernel/tracing/events/raw_syscalls/sys_enter/id"
HUGE_PAGES = "sys/kernel/mm/transparent_hugepage/enabled"
STAT = "cpu{cpu} {busy} 0 0 {idle} 0 0 0 {stolen} 0 0\n"


def stat(busy: int, idle: int, stolen: int = 0) -> str:
    return "".join(STAT.format(cpu=cpu, busy=busy, idle=idle, stolen=stolen) for cpu in range(4))


TOOLS = dict.fromkeys(["gcc", *checks.TOOLS], "1.0")
IDEAL_SEEN = Seen(
    cpus=[0, 1, 2, 3],
    open_files_limit=4096,
    python="3.11.2",
    tools=TOOLS,
    io_uring=0,
    tcp_diag=0,
    address=0,
    stats=(stat(100, 1000), stat(100, 1010)),
)


def siblings(text: str, *cpus: int) -> dict[str, Any]:
    return {f"{CPUS}/cpu{cpu}/topology/thread_siblings_list": f"{text}\n" for cpu in cpus}


NOTHING_SEEN = Seen(None, None, None, {}, None, None, None, (None, None))
IDEAL = {
    "kernel.osrelease": "6.1.0-44-amd64",
    "kernel.perf_event_paranoid": "1",
    "kernel.kptr_restrict": "0",
    "kernel.io_uring_disabled": "0",
    "net.core.somaxconn": "4096",
    "net.ipv4.ip_local_port_range": "32768\t60999",
    "proc/self/status": "CapEff:\t0000000000000000\nSeccomp:\t0\n",
    "proc/self/cgroup": "0::/user.slice/user-0.slice\n",
    "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
    "sys/fs/cgroup/user.slice/cpu.max": "max 100000\n",
    TRACE_ID: "1\n",
    "proc/net/sockstat": "sockets: used 13\nTCP: inuse 1 orphan 0 tw 10 alloc 1 mem 0\n",
    "proc/net/ip_tables_names": "",
    "proc/modules": "nf_tables 356352 0 - Live 0x0000000000000000\n",
    "proc/cpuinfo": "flags\t\t: fpu lahf_lm\n",
    "proc/loadavg": "0.05 0.10 0.11 1/89 7512\n",
    "proc/meminfo": "MemAvailable:   8000000 kB\nSwapTotal:       0 kB\nSwapFree:        0 kB\n",
    f"{CPUS}/online": "0-3\n",
    ISOLATED: "\n",
    **{path: text for cpu in range(4) for path, text in siblings(f"{cpu}", cpu).items()},
    f"{CPUS}/cpufreq/policy0/scaling_governor": "performance\n",
    f"{CPUS}/cpufreq/policy1/scaling_governor": "performance\n",
    BOOST: "0\n",
    SMT: "0\n",
    MELTDOWN: "Not affected\n",
    f"{CPUS}/vulnerabilities/spectre_v2": "Mitigation: Enhanced / Automatic IBRS; STIBP: disabled\n",
    CURRENT: "tsc\n",
    f"{CLOCK}/available_clocksource": "tsc hpet acpi_pm\n",
    HUGE_PAGES: "always [madvise] never\n",
}
VIRTUAL = {"proc/cpuinfo": "flags\t\t: fpu hypervisor lahf_lm\n"}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a made-up host's /proc and /sys are; its user is not root."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    return tmp_path


def path_of(name: str) -> str:
    """Of a file, or of what sysctl(8) calls so."""
    return name if "/" in name else f"proc/sys/{name.replace('.', '/')}"


def look(
    root: Path,
    files: Mapping[str, str | None],
    seen: Seen = IDEAL_SEEN,
    roles: tuple[str, ...] = checks.ROLES,
) -> dict[str, Check]:
    """The checks by name, on the ideal host but for these files; None: it is not there."""
    made = make_tree(root, {path_of(name): text for name, text in {**IDEAL, **files}.items()})
    found = checks.checks(made, roles=roles, connections=1000, address="::1", seen=seen)
    return {check.name: check for check in found}


def test_ideal_machine_has_nothing_to_fix(root: Path) -> None:
    found = look(root, {})
    assert {check.status for check in found.values()} == {"ok"}, found
    assert not any(check.fix or check.stops for check in found.values())


# What is said of that which no file tells; of others that they are not there.
UNSEEN = {
    **dict.fromkeys(TOOLS, "its version: unknown"),
    **dict.fromkeys(["python", "open_files", "cpus"], "unknown"),
    **dict.fromkeys(["io_uring", "tcp_diag", "address"], "not tried"),
    "mitigations": "nothing readable",
}


def test_machine_that_tells_nothing_is_unknown_and_says_what_was_not_read(tmp_path: Path) -> None:
    found = checks.checks(str(tmp_path), address="::1", seen=NOTHING_SEEN)
    assert {check.status for check in found} == {"unknown"}, found
    for check in found:
        assert check.found.endswith(UNSEEN.get(check.name, "not there")), check
    assert not any(check.fix or check.stops for check in found)


class Case(NamedTuple):
    status: str
    name: str
    says: str
    changes: Mapping[str, Any] = MappingProxyType(
        {}
    )  # of files, by their path, and of what is seen
    fix: str = ""


ok, warn, bad, unknown = (
    functools.partial(Case, status) for status in ("ok", "warn", "bad", "unknown")
)


def tee(value: object, path: str) -> str:
    """A command that fixes what a file holds."""
    return f"echo {value} | sudo tee /{path}"


def quota(text: str | None) -> dict[str, str | None]:
    return {"sys/fs/cgroup/user.slice/cpu.max": text}


def tracked(count: str, most: str) -> dict[str, str | None]:
    return {f"{CONNTRACK}count": count, f"{CONNTRACK}max": most}


V1 = {
    "proc/self/cgroup": "4:memory:/a\n2:cpu,cpuacct:/a/b\n0::/\n",
    "sys/fs/cgroup/cpu/cgroup.procs": "",
    "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n",
}
CONNTRACK = "net.netfilter.nf_conntrack_"
SECCOMP = {"proc/self/status": "CapEff:\t0000000000000000\nSeccomp:\t2\n"}


def rights(*capabilities: int) -> dict[str, str]:
    mask = sum(1 << capability for capability in capabilities)
    return {"proc/self/status": f"CapEff:\t{mask:016x}\n"}


# Those that keep a sweep from starting when they are bad.
STOPPING = {"python", "tcp_diag", "open_files", "ephemeral_ports", "isolated_cpus", "cpu_quota"}
STOPPING |= {"address", "connection_tracking"}
CASES = [
    bad("python", "3.10.4", {"python": "3.10.4"}, "python3.11"),
    ok("python", "4.0.0", {"python": "4.0.0"}),
    bad("kernel", "5.15.0", {"kernel.osrelease": "5.15.0-100-generic"}),
    ok("kernel", "6.10", {"kernel.osrelease": "6.10"}),
    bad(
        "perf_permission",
        "kernel.perf_event_paranoid is 2",
        {"kernel.perf_event_paranoid": "2"},
        "sudo sysctl kernel.perf_event_paranoid=1",
    ),
    ok("perf_permission", "is 3", {"kernel.perf_event_paranoid": "3"} | rights(CAP_PERFMON)),
    ok("perf_permission", "is 4", {"kernel.perf_event_paranoid": "4"} | rights(CAP_SYS_ADMIN)),
    unknown("perf_permission", "not understood", {"proc/self/status": "Name:\tcat\n"}),
    bad(
        "kernel_symbols",
        "kernel.kptr_restrict is 1",
        {"kernel.kptr_restrict": "1"},
        "sudo sysctl kernel.kptr_restrict=0",
    ),
    bad("kernel_symbols", "is 1", {"kernel.kptr_restrict": "1"} | rights(CAP_SYS_ADMIN), "=0"),
    ok("kernel_symbols", "is 1", {"kernel.kptr_restrict": "1"} | rights(CAP_SYSLOG)),
    bad("kernel_symbols", "is 2", {"kernel.kptr_restrict": "2"} | rights(CAP_SYSLOG), "=0"),
    bad(
        "tracefs",
        "not readable",
        {TRACE_ID: None, "sys/kernel/tracing/README": ""},
        "sudo mount -t tracefs -o mode=750,gid=",
    ),
    bad("io_uring", "refused", {"io_uring": errno.EPERM}),
    bad(
        "io_uring",
        "kernel.io_uring_disabled is 2",
        {"kernel.io_uring_disabled": "2"} | {"io_uring": errno.EPERM},
        "sudo sysctl -w kernel.io_uring_disabled=0",
    ),
    ok("io_uring", "made", {"kernel.io_uring_disabled": "1"}),  # root may
    bad("io_uring", "seccomp", SECCOMP | {"io_uring": errno.EPERM}, "seccomp=unconfined"),
    bad("io_uring", "not implemented", {"io_uring": errno.ENOSYS}),
    bad("tcp_diag", "No such", {"tcp_diag": errno.ENOENT}, "modprobe tcp_diag"),
    bad(
        "open_files",
        "at most 1063, 1000 connections need 1064",
        {"open_files_limit": 1063},
        "sudo prlimit --pid $$ --nofile=1064",
    ),
    ok("open_files", "1064", {"open_files_limit": 1064}),
    bad(
        "backlog",
        "net.core.somaxconn is 999, for 1000",
        {"net.core.somaxconn": "999"},
        "sudo sysctl -w net.core.somaxconn=4096",
    ),
    ok("backlog", "1000", {"net.core.somaxconn": "1000"}),
    bad(
        "ephemeral_ports",
        "999 ports",
        {"net.ipv4.ip_local_port_range": "40001 40999"},
        'sudo sysctl -w net.ipv4.ip_local_port_range="1024 65535"',
    ),
    warn(
        "ephemeral_ports",
        "2009 ports, 10 in TIME_WAIT",
        {"net.ipv4.ip_local_port_range": "40001 42009"},
        "sudo sysctl",
    ),
    ok("ephemeral_ports", "2010", {"net.ipv4.ip_local_port_range": "40001 42010"}),
    unknown("ephemeral_ports", "not there", {"proc/net/sockstat": None}),
    unknown("ephemeral_ports", "understood", {"net.ipv4.ip_local_port_range": "x"}),
    warn("cpus", "1 of 4 CPUs, 1 core", {"cpus": [2]}),
    warn("cpus", "2 of 4 CPUs, 1 core", siblings("0-1", 0, 1) | {"cpus": [0, 1]}),
    ok("cpus", "2 of 4 CPUs, 2 cores", {"cpus": [0, 1]}),
    unknown("cpus", "not there", {f"{CPUS}/online": None}),
    unknown("cpus", "topology: not there", {"cpus": [7]}),
    bad(
        "isolated_cpus",
        "1-3, of which this process has 1-3",
        {ISOLATED: "1-3"},
        "taskset --cpu-list 0 make",
    ),
    ok("isolated_cpus", "2-3", {ISOLATED: "2-3"}),  # one each
    bad(
        "cpu_quota",
        "3.5 CPUs, and this process may run on 4",
        quota("350000 100000"),
        "taskset --cpu-list 0-2 make",
    ),
    ok("cpu_quota", "4 CPUs", quota("400000 100000")),
    ok("cpu_quota", "2 CPUs", quota("200000 100000") | {"cpus": [0, 1]}),
    bad("cpu_quota", "0.5", quota("50000 100000"), "docker update"),
    ok("cpu_quota", "none", quota(None)),
    # That of a container's own cgroup, which it sees as the root.
    bad(
        "cpu_quota",
        "1 CPUs",
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "100000 100000"},
        "taskset --cpu-list 0 make",
    ),
    bad(
        "cpu_quota",
        "2 CPUs",
        V1 | {"sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "200000\n"},
        "taskset --cpu-list 0-1 make",
    ),
    ok("cpu_quota", "none", V1 | {"sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "-1\n"}),
    unknown(
        "cpu_quota",
        "nothing about the CPU",
        quota(None) | {"sys/fs/cgroup/cgroup.controllers": None},
    ),
    warn(
        "governor",
        "performance, powersave",
        {f"{CPUS}/cpufreq/policy1/scaling_governor": "powersave"},
        tee("performance", f"{CPUS}/cpufreq/policy*/scaling_governor"),
    ),
    unknown(
        "governor",
        "its host decides",
        VIRTUAL | {f"{CPUS}/cpufreq/policy{number}/scaling_governor": None for number in (0, 1)},
    ),
    warn("turbo", "on", {BOOST: "1"}, tee(0, BOOST)),
    warn("turbo", "on", {BOOST: None, NO_TURBO: "0"}, tee(1, NO_TURBO)),
    unknown("turbo", "not understood", {BOOST: "maybe"}),
    warn("smt", "on", {SMT: "1"}, "smt/control"),
    warn("smt", "on", VIRTUAL | {SMT: "1"}, "echo off | sudo tee"),
    unknown("smt", "cannot see", VIRTUAL),
    bad(
        "address",
        "::1 is not an address of this machine",
        {"address": errno.EADDRNOTAVAIL},
        "host: 127.0.0.1",
    ),
    warn("other_load", "11%", {"stats": (stat(100, 1000), stat(111, 1089))}),
    ok("other_load", "10%", {"stats": (stat(100, 1000), stat(110, 1090))}),
    unknown("other_load", "no time", {"stats": (stat(1, 1), stat(1, 1))}),
    warn("steal", "3.0%", {"stats": (stat(0, 0), stat(87, 10, 3))}),
    ok("steal", "2.0%", {"stats": (stat(0, 0), stat(88, 10, 2))}),
    unknown("steal", "not permitted", {"stats": ("not permitted", None)}),
    warn("mitigations", "meltdown", {MELTDOWN: "Mitigation: PTI"}, "mitigations=off"),
    warn("clock_source", "hpet", {CURRENT: "hpet"}, tee("tsc", CURRENT)),
    warn("clock_source", "hpet", {CURRENT: "hpet", f"{CLOCK}/available_clocksource": "hpet"}),
    ok("clock_source", "kvm-clock", {CURRENT: "kvm-clock"}),
    warn("memory", "511 MiB", {"proc/meminfo": "MemAvailable:   524287 kB\n"}),
    ok("memory", "512 MiB", {"proc/meminfo": "MemAvailable:   524288 kB\n"}),
    warn(
        "swap",
        "2 MiB used",
        {"proc/meminfo": "SwapTotal: 4096 kB\nSwapFree: 2048 kB\n"},
        "sudo swapoff -a",
    ),
    ok("swap", "none used", {"proc/meminfo": "SwapTotal: 4096 kB\nSwapFree: 4096 kB\n"}),
    unknown("swap", "not understood", {"proc/meminfo": "MemTotal: 4096 kB\n"}),
    warn(
        "huge_pages", "always", {HUGE_PAGES: "[always] madvise never"}, tee("madvise", HUGE_PAGES)
    ),
    bad(
        "connection_tracking",
        "5 tracked of at most 2004, 1000 connections need 2005",
        tracked("5", "2004"),
        "sudo sysctl -w net.netfilter.nf_conntrack_max=4010",
    ),
    warn("connection_tracking", "5 tracked", tracked("5", "2005"), "notrack"),
    ok("connection_tracking", "0 tracked of at most 1", tracked("0", "1")),
    unknown("connection_tracking", "max: not there", {f"{CONNTRACK}count": "5"}),
    warn(
        "packet_filter",
        "iptables filter, iptables nat",
        {"proc/net/ip_tables_names": "filter\nnat\n"},
        "nft flush ruleset",
    ),
    warn(
        "packet_filter",
        "ip6tables filter",
        {"proc/net/ip6_tables_names": "filter\n", "proc/modules": None},
        "nft",
    ),
    warn("packet_filter", "nftables", {"proc/modules": "nf_tables 356352 4 nft_ct, Live\n"}, "nft"),
    ok("packet_filter", "no tables", {"proc/modules": "tun 77824 0 - Live\n"}),
    unknown(
        "packet_filter",
        "built into this kernel",
        {
            "proc/modules": "tun 77824 0 - Live\n",
            "lib/modules/6.1.0-44-amd64/modules.builtin": "kernel/net/netfilter/nf_tables.ko\n",
        },
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{case.status}-{case.says}")
def test_check_has_the_state_that_the_machine_is_in(case: Case, root: Path) -> None:
    seen = {name: case.changes[name] for name in Seen._fields if name in case.changes}
    files = {path: text for path, text in case.changes.items() if path not in seen}
    found = look(root, files, IDEAL_SEEN._replace(**seen))[case.name]
    stops = case.status == "bad" and case.name in STOPPING
    assert (found.status, found.stops) == (case.status, stops), found
    assert case.says.lower() in found.found.lower()
    assert case.fix in found.fix
    assert bool(found.fix) == bool(case.fix)


def test_every_check_is_tried_on_a_machine_that_is_not_as_it_should_be() -> None:
    """On one that tells nothing each is tried above."""
    tried = {case.name for case in CASES if case.status in {"warn", "bad"}}
    assert tried == {rule.name for rule in checks.RULES}


COSTLY = [
    "Mitigation: PTI",
    "Mitigation: Clear CPU buffers; SMT vulnerable",
    "Mitigation: Clear Register File",
    "Mitigation: untrained return thunk; SMT enabled with STIBP protection",
    "Mitigation: Safe RET",
    "Vulnerable: Safe RET, no microcode",
    "Mitigation: IBRS; IBPB: conditional",
    "Mitigation: Retpolines; STIBP: disabled",
    "Mitigation: Enhanced / Automatic IBRS; STIBP: always-on",
    "Mitigation: Enhanced IBRS; BHI: SW loop, KVM: SW loop",
]
FREE = [
    "Not affected",
    "Vulnerable",
    "Mitigation: Enhanced IBRS; IBPB: conditional; RSB filling; PBRSB-eIBRS: Not affected",
    "Mitigation: Enhanced / Automatic IBRS; IBPB: conditional; STIBP: disabled",
    "Mitigation: usercopy/swapgs barriers and __user pointer sanitization",
    "Mitigation: Speculative Store Bypass disabled via prctl",
]


@pytest.mark.parametrize(
    ("text", "status"), [(text, "warn") for text in COSTLY] + [(text, "ok") for text in FREE]
)
def test_mitigations_at_system_calls_are_told_from_others(
    text: str, status: str, root: Path
) -> None:
    found = look(root, {f"{CPUS}/vulnerabilities/mds": text})["mitigations"]
    assert found.status == status
    assert ("mds" in found.found) == (status == "warn")


@pytest.mark.parametrize("name", TOOLS)
def test_missing_tool_stops_only_what_cannot_do_without(name: str, root: Path) -> None:
    found = look(root, {}, IDEAL_SEEN._replace(tools={**TOOLS, name: None}))[name]
    assert (found.status, found.found, found.fix) == ("bad", "not installed", "make setup")
    assert found.stops == (name not in {"flamegraph", "rsvg-convert", "perf"})
    unclear = IDEAL_SEEN._replace(tools={**TOOLS, name: "unknown"})
    assert look(root, {}, unclear)[name].status == "unknown"


def test_pyperf_is_named_for_what_it_sets_and_for_nothing_else(root: Path) -> None:
    noisy: dict[str, str | None] = {
        f"{CPUS}/cpufreq/policy1/scaling_governor": "powersave",
        BOOST: "1",
        SMT: "1",
        "proc/meminfo": "SwapTotal: 4096 kB\nSwapFree: 0 kB\n",
        HUGE_PAGES: "[always] madvise never",
    }
    intel: dict[str, str | None] = {BOOST: None, NO_TURBO: "0"}
    for changes, named in ((noisy, {"governor"}), (noisy | intel, {"governor", "turbo"})):
        found = look(root, changes)
        assert {found[name].status for name in ("turbo", "smt", "swap", "huge_pages")} == {"warn"}
        assert {name for name, it in found.items() if "pyperf system tune" in it.fix} == named


def test_missing_tool_of_another_host_names_its_package(root: Path) -> None:
    lacking = IDEAL_SEEN._replace(tools={"wrk": None})
    found = look(root, {}, lacking, roles=("load",))
    assert found["wrk"].fix == "sudo apt-get install wrk"


def test_host_has_the_checks_of_its_roles_alone(root: Path) -> None:
    control, server, load = (set(look(root, {}, roles=(role,))) for role in checks.ROLES)
    assert {"gcc", "flamegraph"} <= control and not {"wrk", "governor", "io_uring"} & control
    assert {"perf", "io_uring", "backlog"} <= server and not {"wrk", "ephemeral_ports"} & server
    assert {"wrk", "ephemeral_ports"} <= load and not {"perf", "io_uring", "backlog"} & load
    assert {"python", "memory"} <= control & server & load
    assert {"governor", "taskset", "open_files", "cpu_quota"} <= server & load
    assert control | server | load == set(look(root, {}))


def test_one_core_is_enough_for_one_role(root: Path) -> None:
    seen = IDEAL_SEEN._replace(cpus=[1])
    assert look(root, {}, seen, roles=("server",))["cpus"].status == "ok"
    isolated: dict[str, str | None] = {ISOLATED: "2-3"}
    assert look(root, isolated, roles=("server",))["isolated_cpus"].status == "bad"


def test_file_that_may_not_be_read_is_told_from_one_that_is_not_there(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = reading.read_fact

    def refuse(root: str, path: str) -> str | None:
        return "not permitted" if path.endswith(("_names", "somaxconn")) else read(root, path)

    monkeypatch.setattr(reading, "read_fact", refuse)
    found = look(root, {})
    for name in ("packet_filter", "backlog", "connection_tracking"):
        assert (found[name].status, found[name].found[-13:]) == ("unknown", "not permitted")


def test_this_machine_is_asked_and_left_as_it_was() -> None:
    descriptors = os.listdir("/proc/self/fd")
    tools = {"ss": checks.TOOLS["ss"], "no_such_tool": checks.COMPILER}
    seen = inspection.see("/", checks.ROLES, tools, os.environ["PATH"], "127.0.0.1")
    assert os.listdir("/proc/self/fd") == descriptors
    assert seen.cpus == sorted(os.sched_getaffinity(0))
    assert re.fullmatch(r"\d+\.\d.*", seen.tools["ss"] or "")
    assert seen.tools["no_such_tool"] is None
    assert seen.tcp_diag == 0  # or no cell could be measured here
    assert seen.address == 0
    host = inspection.Host("/", checks.ROLES, 1, "127.0.0.1", seen)
    busy, stolen = checks.cpu_shares(host)
    assert 0 <= busy <= 1 and 0 <= stolen <= 1


def test_refused_io_uring_is_noticed() -> None:
    probe = "from hosts import inspection; print(inspection.try_io_uring())"
    command = [sys.executable, "-c", probe]
    deny = [sys.executable, str(ROOT / "tests/servers/deny_io_uring.py"), "EPERM"]
    run = run_program([*deny, *command], PYTHONPATH=str(ROOT / "scripts"))
    assert run.stdout == f"{errno.EPERM}\n"


def test_address_that_this_machine_lacks_is_noticed(root: Path) -> None:
    assert inspection.try_bind("127.0.0.1") == 0
    assert inspection.try_bind("2001:db8::1") in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
    of_interface = checks.checks(str(root), seen=IDEAL_SEEN)
    assert {check.name: check.status for check in of_interface}["address"] == "ok"


def test_kernel_that_cannot_tell_of_sockets_is_noticed() -> None:
    assert inspection.try_sock_diag(socket.IPPROTO_TCP) == 0
    assert inspection.try_sock_diag(254) == errno.ENOENT  # a protocol that nobody has


def versions_of(folder: Path, **says: str) -> dict[str, str | None]:
    """Of programs that say so."""
    for name, text in says.items():
        make_program(folder / name, f"cat >&2 <<'END'\n{text}\nEND\nexit 1")
    return inspection.tool_versions({name: checks.TOOLS[name] for name in says}, str(folder))


WRK = "wrk 4.1.0 [epoll] Copyright (C) 2012 Will Glozer\nUsage: wrk <options> <url>\n"


def test_other_program_of_the_name_is_bad_and_named(root: Path, tmp_path: Path) -> None:
    right = {"wrk": f"{WRK}-s, --script  <S>  Load Lua script file", "ss": "ss, iproute2-6.1.0"}
    assert versions_of(tmp_path, **right) == {"wrk": "4.1.0", "ss": "6.1.0"}
    other_kernel = versions_of(tmp_path, perf="WARNING: perf not found for kernel 5.15.0")
    assert other_kernel == {"perf": "unknown"}
    broken = "wrk: error while loading shared libraries: libssl.so.1.1"
    for name, says, word in (
        ("wrk", f"{WRK}-s, --script <S>\n-R, --rate <T>  work rate", "/wrk is wrk2"),
        ("wrk", broken, broken),
        ("ss", "shadowsocks 1.15.0", "/ss says 'shadowsocks 1.15.0'"),
        ("taskset", "BusyBox v1.36.1 multi-call binary.", "BusyBox"),
        ("setpriv", "", "/setpriv says ''"),
    ):
        seen = IDEAL_SEEN._replace(tools=versions_of(tmp_path, **{name: says}))
        found = look(root, {}, seen)[name]
        assert (found.status, found.stops) == ("bad", True)
        assert f"{tmp_path}/{name}" in found.found and word in found.found
        assert "PATH" in found.fix


# --- What is shown ---

CHECKS = [
    Check("wrk", "ok", "4.1.0", "the load", "", False),
    Check(
        "turbo",
        "warn",
        "on",
        "it is noise " * 8,
        "echo 0 | sudo tee /sys/devices/system/cpu/cpufreq/boost",
        False,
    ),
    Check("cpu_quota", "bad", "1 CPUs", "it throttles", "taskset --cpu-list 0 make", True),
    Check("smt", "unknown", "not there", "two share a core", "", False),
]
HOSTS = [HostChecks("a machine", CHECKS)]


def test_brief_form_has_a_line_for_each_that_is_not_ok_and_counts_all() -> None:
    assert health.format_brief(HOSTS).splitlines() == [
        "warn     turbo                on; echo 0 | sudo tee /sys/devices/system/cpu/cpufreq/boost",
        "bad      cpu_quota            1 CPUs; taskset --cpu-list 0 make",
        "unknown  smt                  not there",
        "1 ok, 1 warn, 1 bad, 1 unknown; for reasons and fixes: make doctor",
    ]


def test_brief_form_of_several_hosts_says_which_is_which() -> None:
    hosts = [HostChecks("one", CHECKS[:1]), HostChecks("other", CHECKS[:2])]
    lines = health.format_brief(hosts).splitlines()
    assert [lines[0], lines[2]] == ["one", "other"]


def test_full_form_says_all_of_each_check_under_its_host() -> None:
    text = health.format_full(HOSTS)
    assert text.startswith(
        "a machine\nok       wrk                  4.1.0\n         why:  the load\n"
    )
    for check in CHECKS:
        assert f"{check.status:<8} {check.name}" in text
        assert {check.found, check.fix} <= {*re.split(r" {2,}|\n|fix:  ", text), ""}
    assert text.endswith("\n1 ok, 1 warn, 1 bad, 1 unknown")


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What is shown on a terminal of so many columns."""

    def shown(form: str, columns: int, is_colored: bool = False) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(terminal, "has_color", lambda: is_colored)
        return str(getattr(health, f"format_{form}")(HOSTS))

    return shown


@pytest.mark.parametrize("form", ["brief", "full"])
def test_terminal_is_not_overrun_but_by_commands_to_copy(
    form: str, show: Callable[..., str]
) -> None:
    lines = show(form, 50).splitlines()
    too_long = [line for line in lines if len(line) > 50]
    assert all("fix:  " in line or line.startswith("1 ok") for line in too_long)
    if form == "full":
        assert all(f"fix:  {check.fix}" in "\n".join(lines) for check in CHECKS if check.fix)


@pytest.mark.parametrize("form", ["brief", "full"])
def test_colors_are_those_of_the_status_and_nothing_by_color_alone(
    form: str, show: Callable[..., str]
) -> None:
    painted = re.findall(r"\033\[(\d+)m(\w+)\033\[0m", show(form, 200, is_colored=True))
    colors = {"32": "ok", "33": "warn", "31": "bad", "90": "unknown"}
    assert dict(painted) | {"32": "ok"} == colors and (("32", "ok") in painted) == (form == "full")
    assert re.sub(r"\033\[\d+m", "", show(form, 200, is_colored=True)) == show(form, 200)


def test_only_what_is_bad_and_makes_results_wrong_stops(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert health.describe_stops(HOSTS) == ["cpu_quota: 1 CPUs: taskset --cpu-list 0 make"]
    for changes, status in (({}, 1), ({"stops": False}, 0), ({"status": "unknown"}, 0)):
        hosts = [HostChecks("a machine", [check._replace(**changes) for check in CHECKS])]
        monkeypatch.setattr(doctor, "gather", lambda *_arguments, hosts=hosts: hosts)
        monkeypatch.setattr(doctor, "describe_speed", lambda *_arguments: "It wanders.")
        monkeypatch.setattr(sys, "argv", ["doctor.py", "--brief"])
        assert doctor.main() == status
    assert capsys.readouterr().out.count("make doctor\n\nIt wanders.\n") == 3


def test_cpus_that_are_not_there_leave_the_speed_unmeasured_and_the_status_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts = [HostChecks("a machine", CHECKS[:1])]
    monkeypatch.setattr(doctor, "gather", lambda *_arguments: hosts)
    monkeypatch.setattr(sys, "argv", ["doctor.py", "--cpus", '{"server": "4095", "load": "0"}'])
    assert doctor.main() == 0
    *_, line = capsys.readouterr().out.splitlines()
    assert line.startswith("The machine's speed was not measured: cpus.server: CPU 4095 is not")


def test_docs_have_each_check() -> None:
    table = (ROOT / "docs/doctor.md").read_text()
    documented = re.findall(r"^\| `([\w-]+)` \| [csl ]+ \|", table, re.MULTILINE)
    named = ["gcc", *checks.TOOLS, *(rule.name for rule in checks.RULES)]
    assert documented == named


# --- In the workflow ---


def test_script_tells_of_this_machine_what_it_asked_for() -> None:
    run = run_script("doctor.py", "--connections", "10")
    label = inspection.label()
    assert run.stdout.startswith(f"{label}\n"), run.stderr
    assert "10 connections need 74" in run.stdout
    assert run.returncode == bool(re.search(r"^bad +wrk", run.stdout, re.MULTILINE))


def test_snakemake_doctor_shows_all_and_writes_nothing_of_a_sweep(checkout: Path) -> None:
    said = snakemake(checkout, "doctor")
    assert re.search(r"^ok +tcp_diag +the kernel answers$", said, re.MULTILINE)
    assert "1000 connections need 1064" in said  # config's most
    assert "This sweep (3 repeats at 6 numbers of connections) can detect" in said
    assert "localrule" not in said and "rule doctor:" not in said
    made = {path.name for path in (checkout / "results").rglob("*") if path.is_file()}
    assert made == {"doctor.log"}


def test_make_doctor_shows_all_and_nothing_else(checkout: Path) -> None:
    recipe = run_program(["make", "--dry-run", "doctor"], checkout)
    program, _jobs, *arguments = shlex.split(recipe.stdout.splitlines()[-1])
    assert program == ".venv/bin/snakemake"
    said = snakemake(checkout, *arguments)
    # The first line is Snakemake's, of its profile.
    _, label, *_, last = said.splitlines()
    assert label == inspection.label()
    assert re.search(r"^\d+ ok", said, re.MULTILINE)
    assert last.startswith("In 4 s the machine's speed varied by ")


SMALL = """\
servers: [server_epoll]
workloads: [keepalive]
connections: [100]
repeats: 1
duration_s: 0.6
warmup_s: 0.2
paired_s: 0
control: null
"""


@pytest.fixture
def small(checkout: Path) -> list[str]:
    """A sweep of one cell, as arguments of Snakemake."""
    (checkout / "small.yaml").write_text(SMALL)
    return ["results/cells.csv", "--configfile", "small.yaml"]


FEW_PORTS = """\
ip link set lo up && echo 40000 40050 >/proc/sys/net/ipv4/ip_local_port_range && exec "$@"
"""


def may_make_namespaces() -> bool:
    with contextlib.suppress(FileNotFoundError):
        return run_program(["unshare", "--map-root-user", "--net", "true"]).returncode == 0
    return False


@pytest.mark.skipif(not may_make_namespaces(), reason="no network namespaces for this user")
def test_sweep_that_must_go_wrong_does_not_start(checkout: Path, small: list[str]) -> None:
    """In a network namespace with 51 ports, for 100 connections."""
    sweep = [*SNAKEMAKE, "-j1", *small]
    inside = ["unshare", "--map-root-user", "--net", "sh", "-c", FEW_PORTS, "sh", *sweep]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    run = run_program(inside, checkout, PATH=path)
    said = run.stdout + run.stderr
    assert run.returncode == 1
    assert "not measured: ephemeral_ports: 51 ports" in said
    assert "Traceback" not in said
    assert not (checkout / "results").exists() or not list(checkout.glob("results/*.json"))
    assert not (checkout / "results/cells").exists()


WANDERED = "In 1.2 s the machine's speed varied by "


def test_run_that_measures_nothing_is_not_examined(checkout: Path, small: list[str]) -> None:
    assert "make doctor" not in snakemake(checkout, "results/bin/server_epoll")
    said = snakemake(checkout, *small, "--dry-run")
    assert "measure_cell" in said and WANDERED not in said


def test_sweep_begins_with_what_is_not_ok(checkout: Path, small: list[str]) -> None:
    said = snakemake(checkout, *small)
    told = ("; for reasons and fixes: make doctor", WANDERED, " to run, ")
    places = [said.index(text) for text in told]
    assert places == sorted(places)
    assert "This sweep has one server: there is nothing to compare." in said
    (checkout / "results/cells.csv").unlink()
    said = snakemake(checkout, *small)  # nothing is measured
    assert (checkout / "results/cells.csv").exists() and WANDERED not in said
