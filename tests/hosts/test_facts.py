"""The facts of machines: of samples as text, of made-up trees of /proc and /sys, and of this one."""

import copy
import json
import os
import re
import resource
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from helpers.checkouts import ROOT, make_program, make_tree, run_program
from hosts import facts as hosts_facts
from hosts import identity, reading
from hosts.facts import (
    TOOLS,
    facts_of_sweep,
    format_facts,
    libc_version,
    parse_cpuinfo,
    parse_hypervisor,
    read_caches_kib,
    read_cpu,
    read_facts,
    read_host,
    read_kernel,
    read_limits,
    read_memory,
    read_mitigations,
    read_sysctls,
    read_system,
    read_topology,
    write_facts,
)
from hosts.source import build_tools, hide_places, parse_git_status, read_liburing

Facts = dict[str, Any]
CPUS = "sys/devices/system/cpu"

X86_CPUINFO = """\
processor\t: {cpu}
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 106
model name\t: Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz
stepping\t: 6
microcode\t: 0xd0003d1
cpu MHz\t\t: 2{cpu}00.000
flags\t\t: fpu vme de{hypervisor} lahf_lm
power management:

"""
ARM_CPUINFO = """\
processor\t: {cpu}
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm aes
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: {part}
CPU revision\t: 1

"""
ARM_LSCPU = """\
Architecture:           aarch64
Vendor ID:              ARM
  BIOS Model name:      virt-7.2
  Model name:           Neoverse-N1
"""
BARE_LSCPU = "Architecture:            x86_64\nVirtualization:          VT-x\n"
KVM_LSCPU = "Hypervisor vendor:       KVM\nVirtualization type:     full\n"


def x86_cpuinfo(cpus: int, hypervisor: str = "") -> str:
    return "".join(X86_CPUINFO.format(cpu=cpu, hypervisor=hypervisor) for cpu in range(cpus))


def topology(cores: list[list[int]], cores_per_socket: int) -> dict[str, str]:
    files = {}
    for number, core in enumerate(cores):
        for cpu in core:
            folder = f"{CPUS}/cpu{cpu}/topology"
            files[f"{folder}/thread_siblings_list"] = ",".join(map(str, core)) + "\n"
            files[f"{folder}/physical_package_id"] = f"{number // cores_per_socket}\n"
    return files


def read_x86(root: Path, files: dict[str, str]) -> Facts:
    return read_cpu(make_tree(root, {"proc/cpuinfo": x86_cpuinfo(2), **files}), BARE_LSCPU)


@pytest.fixture(scope="module")
def here() -> Facts:
    return read_facts(ROOT, "gcc", ["-O2"])


# The CPU


def test_cpu_of_two_sockets_with_two_threads_a_core(tmp_path: Path) -> None:
    files = {
        f"{CPUS}/online": "0-7\n",
        f"{CPUS}/smt/control": "on\n",
        f"{CPUS}/cpu0/cache/index0/level": "1\n",
        f"{CPUS}/cpu0/cache/index0/type": "Data\n",
        f"{CPUS}/cpu0/cache/index0/size": "48K\n",
        f"{CPUS}/cpu0/cache/index3/level": "3\n",
        f"{CPUS}/cpu0/cache/index3/type": "Unified\n",
        f"{CPUS}/cpu0/cache/index3/size": "55296K\n",
        **topology([[0, 4], [1, 5], [2, 6], [3, 7]], cores_per_socket=2),
    }
    cpu = read_x86(tmp_path, files)
    expected = {
        "vendor": "GenuineIntel",
        "model_name": "Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz",
        "family": 6,
        "model": 106,
        "stepping": 6,
        "microcode": "0xd0003d1",
        "cpus_online": 8,
        "cpus_allowed": len(os.sched_getaffinity(0)),
        "sockets": 2,
        "cores": 4,
        "threads_per_core": 2,
        "smt": "on",
        "caches_kib": {"L1 data": 48, "L3 unified": 55296},
        "hypervisor": None,
    }
    assert {name: cpu[name] for name in expected} == expected


def test_threads_of_a_core_are_those_of_the_largest(tmp_path: Path) -> None:
    root = make_tree(tmp_path, topology([[0, 1], [2], [3]], cores_per_socket=3))
    expected = {"sockets": 1, "cores": 3, "threads_per_core": 2}
    assert read_topology(root, range(4)) == expected


def test_cpu_of_arm_has_numbers_and_the_name_that_lscpu_knows(tmp_path: Path) -> None:
    text = "".join(ARM_CPUINFO.format(cpu=cpu, part="0xd0c") for cpu in range(4))
    root = make_tree(tmp_path, {"proc/cpuinfo": text})
    cpu = read_cpu(root, ARM_LSCPU)
    numbers = [cpu[name] for name in ("vendor", "family", "model", "variant", "stepping")]
    assert numbers == ["0x41", None, "0xd0c", "0x3", 1]
    assert cpu["model_name"] == "Neoverse-N1"
    assert read_cpu(root, None)["model_name"] is None


def test_cpus_of_different_kinds_are_all_named() -> None:
    parts = ["0xd05", "0xd05", "0xd0b"]
    text = "".join(ARM_CPUINFO.format(cpu=cpu, part=part) for cpu, part in enumerate(parts))
    assert parse_cpuinfo(text)["model"] == "0xd05, 0xd0b"


def test_machine_that_tells_nothing_of_its_cpus_has_nulls(tmp_path: Path) -> None:
    cpu = read_cpu(str(tmp_path), None)
    known = {name for name, value in cpu.items() if value is not None}
    assert known == {"architecture", "cpus_allowed", "caches_kib", "hypervisor"}
    assert (cpu["hypervisor"], cpu["caches_kib"]) == ("unknown", {})


def test_governor_is_null_without_cpufreq_and_else_of_all_cpus(tmp_path: Path) -> None:
    names = ("frequency_driver", "governor", "energy_performance_preference", "turbo")
    bare = read_x86(tmp_path / "bare", {})
    assert [bare[name] for name in names] == [None] * 4
    files = {f"{CPUS}/intel_pstate/no_turbo": "1\n"}
    for cpu, governor in enumerate(["powersave", "performance", "powersave"]):
        folder = f"{CPUS}/cpufreq/policy{cpu}"
        files[f"{folder}/scaling_driver"] = "intel_pstate\n"
        files[f"{folder}/scaling_governor"] = f"{governor}\n"
        files[f"{folder}/energy_performance_preference"] = "balance_performance\n"
    cpu = read_x86(tmp_path / "scaling", files)
    expected = ["intel_pstate", "performance, powersave", "balance_performance", "off"]
    assert [cpu[name] for name in names] == expected


@pytest.mark.parametrize(
    ("lscpu", "flag", "hypervisor"),
    [
        (KVM_LSCPU, " hypervisor", "KVM"),
        (BARE_LSCPU, "", None),
        (BARE_LSCPU, " hypervisor", "unknown"),
        (None, "", "unknown"),
    ],
)
def test_hypervisor_is_named_absent_or_unknown(
    lscpu: str | None, flag: str, hypervisor: str | None
) -> None:
    assert parse_hypervisor(lscpu, x86_cpuinfo(1, flag)) == hypervisor


# Files


def test_what_is_forbidden_and_what_is_odd_are_not_what_is_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_tree(tmp_path, {"there": " text \n", "folder/file": ""})
    read = reading.read_fact
    assert read(root, "there") == "text"
    assert read(root, "absent") is None
    assert read(root, "there/below") is None
    assert read(root, "folder") == "unknown"
    (tmp_path / "odd").write_bytes(b"a\xff")
    assert read(root, "odd") == "a\N{REPLACEMENT CHARACTER}"

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(reading, "open", forbidden, raising=False)
    assert read(root, "there") == "not permitted"
    # It is handed on, not taken for a value.
    assert read_memory(root)["memory_total_kib"] == "not permitted"
    assert read_kernel(root)["preemption_mode"] == "not permitted"
    assert identity.read_installation(root) == "not permitted"
    assert read_topology(root, [0, 1])["cores"] is None


def test_memory_is_in_kib(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": "MemTotal:       24684092 kB\nMemFree: 1 kB\nSwapTotal:    2097148 kB\n",
        "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
        "sys/devices/system/node/online": "0-1\n",
    }
    assert read_memory(make_tree(tmp_path, files)) == {
        "memory_total_kib": 24684092,
        "swap_total_kib": 2097148,
        "transparent_huge_pages": "madvise",
        "numa_nodes": 2,
    }


def test_kernel_with_its_mitigations(tmp_path: Path) -> None:
    files = {
        "proc/sys/kernel/osrelease": "6.1.0-18-amd64\n",
        "proc/sys/kernel/version": "#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01)\n",
        "proc/cmdline": "ro mitigations=off nosmt isolcpus=2-3 -- mitigations=auto\n",
        "sys/kernel/debug/sched/preempt": "none (voluntary) full\n",
        "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n",
        f"{CPUS}/vulnerabilities/spectre_v2": "Vulnerable\n",
        f"{CPUS}/vulnerabilities/meltdown": "Not affected\n",
    }
    assert read_kernel(make_tree(tmp_path, files)) == {
        "release": "6.1.0-18-amd64",
        "version": "#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01)",
        "options": {"mitigations": "off", "nosmt": "", "isolcpus": "2-3"},
        "preemption": "PREEMPT_DYNAMIC",
        "preemption_mode": "voluntary",
        "clock_source": "tsc",
        "mitigations": {"meltdown": "Not affected", "spectre_v2": "Vulnerable"},
    }


@pytest.mark.parametrize(
    ("name", "files", "fact"),
    [
        ("turbo", {f"{CPUS}/intel_pstate/no_turbo": "0"}, "on"),
        ("turbo", {f"{CPUS}/intel_pstate/no_turbo": "1"}, "off"),
        ("turbo", {f"{CPUS}/cpufreq/boost": "0"}, "off"),
        ("turbo", {f"{CPUS}/cpufreq/boost": "1"}, "on"),
        ("container", {}, None),
        ("container", {".dockerenv": ""}, "docker"),
        ("container", {"run/.containerenv": ""}, "podman"),
        ("container", {"run/systemd/container": "lxc\n"}, "lxc"),
    ],
)
def test_turbo_and_container_are_told(
    tmp_path: Path, name: str, files: dict[str, str], fact: str | None
) -> None:
    assert getattr(hosts_facts, f"read_{name}")(make_tree(tmp_path, files)) == fact


def test_system_is_named_and_its_id_is_not_shown(tmp_path: Path) -> None:
    files = {
        "etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n',
        "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
        "proc/self/status": "Name:\tcat\nSeccomp:\t2\nSeccomp_filters:\t1\n",
        "sys/fs/cgroup/cpu.max": "200000 100000\n",
    }
    system = read_system(make_tree(tmp_path / "one", files))
    assert system["os"] == "Debian GNU/Linux 12 (bookworm)"
    assert system["seccomp"] == "filter"
    assert system["cgroup_cpu_max"] == "200000 100000"
    assert system["installation"] is not None
    assert re.fullmatch("[0-9a-f]{12}", system["installation"])
    assert system["installation"] not in files["etc/machine-id"]
    files["etc/machine-id"] = "1123456789abcdef0123456789abcdef\n"
    other = read_system(make_tree(tmp_path / "other", files))
    assert other["installation"] != system["installation"]
    files["etc/machine-id"] = "uninitialized\n"
    assert read_system(make_tree(tmp_path / "other", files))["installation"] is None


def test_os_without_etc_is_found_and_may_lack_quotes(tmp_path: Path) -> None:
    root = make_tree(tmp_path, {"usr/lib/os-release": "PRETTY_NAME=Alpine\n"})
    assert read_system(root)["os"] == "Alpine"


def test_libc_is_null_where_it_is_not_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(name: str) -> None:
        raise ValueError(name)

    monkeypatch.setattr(os, "confstr", refused)
    assert libc_version() is None


def test_sysctls_are_numbers_texts_or_null(tmp_path: Path) -> None:
    files = {
        "proc/sys/net/core/somaxconn": "4096\n",
        "proc/sys/kernel/perf_event_paranoid": "-1\n",
        "proc/sys/net/ipv4/tcp_rmem": "4096\t131072\t6291456\n",
        "proc/sys/kernel/sched_latency_ns": "24000000\n",
        "proc/sys/kernel/sched_domain/cpu0": "",
    }
    sysctls = read_sysctls(make_tree(tmp_path, files))
    assert sysctls["net.core.somaxconn"] == 4096
    assert sysctls["kernel.perf_event_paranoid"] == -1
    assert sysctls["net.ipv4.tcp_rmem"] == "4096 131072 6291456"
    assert sysctls["kernel.sched_latency_ns"] == 24000000
    assert sysctls["fs.file-max"] is None
    assert "kernel.sched_domain" not in sysctls


def test_limits_are_numbers_or_unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {resource.RLIMIT_NOFILE: (1024, 4096), resource.RLIMIT_STACK: (8388608, -1)}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits.get(kind, (5, 6)))
    assert read_limits() == {
        "open_files": {"soft": 1024, "hard": 4096},
        "processes": {"soft": 5, "hard": 6},
        "locked_memory_bytes": {"soft": 5, "hard": 6},
        "stack_bytes": {"soft": 8388608, "hard": "unlimited"},
    }


# Tools


@pytest.mark.parametrize(
    ("tool", "output", "version"),
    [
        (
            "wrk",
            "wrk debian/4.1.0-3+b2 [epoll] Copyright (C) 2012\nUsage: wrk",
            "debian/4.1.0-3+b2",
        ),
        ("wrk", "wrk 4.2.0 [epoll] Copyright (C) 2012 Will Glozer\n", "4.2.0"),
        ("perf", "perf version 6.1.187\n", "6.1.187"),
        ("perf", "WARNING: perf not found for kernel 6.8.0\n", "unknown"),
        ("ss", "ss utility, iproute2-6.1.0, libbpf 1.1.0\n", "6.1.0"),
        ("ss", "ss utility, iproute2-ss200127\n", "200127"),
        ("compiler", "gcc (GCC) 13.2.0\nCopyright\n", "gcc (GCC) 13.2.0"),
        ("compiler", "no compiler for this target\n", "unknown"),
        ("wrk", None, None),
        ("perf", "unknown", "unknown"),
        ("perf", "not permitted", "not permitted"),
    ],
)
def test_versions_are_read(tool: str, output: str | None, version: str | None) -> None:
    assert reading.parse_version(tool, output) == version


def test_tools_that_are_missing_forbidden_broken_or_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    make_program(tools / "wrk", "exec /bin/sleep 20")
    make_program(tools / "ss", "")
    (tools / "ss").chmod(0o644)
    (tools / "gcc").write_bytes(b"no program")
    (tools / "gcc").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setattr(reading, "TOOL_TIMEOUT_S", 0.1)
    facts = read_facts(tmp_path, "gcc", [])
    assert facts["tools"]["perf"] is None
    assert facts["tools"]["ss"] == "not permitted"
    assert facts["tools"]["wrk"] == "unknown"
    assert facts["build"]["compiler_version"] == "unknown"
    assert facts["build"]["liburing"] == "unknown"
    reason = {"commit": None, "dirty": None, "reason": "git is not installed"}
    assert facts["source"] == reason


@pytest.mark.parametrize(
    ("files", "archive", "macros", "version"),
    [
        ({"pkgconfig/liburing.pc": "Name: liburing\nVersion: 2.3\n"}, True, "", "2.3"),
        ({}, True, "IO_URING_VERSION_MINOR 5\n#define IO_URING_VERSION_MAJOR 2", "2.5"),
        ({}, False, "IO_URING_VERSION_MAJOR 2\n#define IO_URING_VERSION_MINOR 10", "2.10"),
        ({}, True, "", "unknown"),
        ({}, False, "", None),
    ],
)
def test_liburing_is_what_is_linked_else_what_is_included(
    tmp_path: Path, files: dict[str, str], archive: bool, macros: str, version: str | None
) -> None:
    make_tree(tmp_path, {"lib/liburing.a": "", **{f"lib/{name}": files[name] for name in files}})
    found = f"{tmp_path}/lib/liburing.a\n" if archive else "liburing.a\n"
    assert liburing_of(tmp_path, f"echo {shlex.quote('#define ' + macros)}", found) == version


def liburing_of(folder: Path, compiler: str, found: str = "liburing.a\n") -> str | None:
    """Where the compiler is a shell script, and found is what it says of the archive."""
    make_program(folder / "cc", compiler)
    return read_liburing(found, f"{folder}/cc", str(folder))


def test_liburing_is_asked_for_by_its_header(tmp_path: Path) -> None:
    """With the compiler itself, which must look where it is told to, and find the version there."""
    header = "#define IO_URING_VERSION_MAJOR 2\n#define IO_URING_VERSION_MINOR 7\n"
    make_tree(tmp_path, {"liburing/io_uring_version.h": header})
    assert liburing_of(tmp_path, f'exec gcc -I{shlex.quote(str(tmp_path))} "$@"') == "2.7"


def test_no_archive_is_not_sought_where_we_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tree(tmp_path, {"pkgconfig/liburing.pc": "Version: 9.9\n"})
    monkeypatch.chdir(tmp_path)
    assert liburing_of(tmp_path, "") is None


# The checkout


@pytest.mark.parametrize(
    ("output", "commit", "dirty", "reason"),
    [
        ("# branch.oid 12ab\n# branch.head main\n", "12ab", False, None),
        (
            "warning: cannot open 1 file\n# branch.oid 12ab\n# branch.ab +1 -0\n",
            "12ab",
            False,
            None,
        ),
        ("# branch.oid 12ab\n1 .M N... 100644 100644 100644 b b config.yaml\n", "12ab", True, None),
        ("# branch.oid 12ab\n? servers/server_mine.c\n", "12ab", True, None),
        ("# branch.oid (initial)\n# branch.head main\n", None, None, "no commit yet"),
        ("fatal: not a git repository (or any of …)\n", None, None, "no git repository"),
        ("fatal: Invalid path '/p/.git': Permission denied\n", None, None, "not permitted"),
        ("fatal: bad object HEAD\n", None, None, "unknown"),
        ("not permitted", None, None, "not permitted"),
        ("unknown", None, None, "unknown"),
        (None, None, None, "git is not installed"),
    ],
)
def test_git_tells_commit_and_changes_or_why_not(
    output: str | None, commit: str | None, dirty: bool | None, reason: str | None
) -> None:
    expected = {"commit": commit, "dirty": dirty, "reason": reason}
    assert parse_git_status(output) == expected


def git(folder: Path, *arguments: str) -> str:
    names = ["-c", "user.name=x", "-c", "user.email=x"]
    run = run_program(["git", "-C", folder, *names, *arguments])
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    make_tree(folder, {"file": "text"})
    git(folder, "init", "--quiet")
    git(folder, "add", "file")
    git(folder, "commit", "--quiet", "--message", "first")
    return folder


def source_of(folder: Path) -> Facts:
    started = reading.start_tools(build_tools(str(folder), "gcc"), str(folder))
    said = {name: reading.finish(tool) for name, tool in started.items()}
    return parse_git_status(said["git"])


def test_commit_of_a_repository_and_whether_it_is_all(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    assert source_of(repository) == {"commit": commit, "dirty": False, "reason": None}
    git(repository, "config", "status.showUntrackedFiles", "no")
    (repository / "new").write_text("")
    assert source_of(repository)["dirty"] is True
    (repository / "new").unlink()
    (repository / "file").write_text("other")
    assert source_of(repository) == {"commit": commit, "dirty": True, "reason": None}


def test_commit_is_not_that_of_another_repository(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked = repository / "unpacked"
    unpacked.mkdir()
    assert source_of(unpacked)["reason"] == "no git repository"
    monkeypatch.setenv("GIT_DIR", str(repository / ".git"))  # as in its hooks
    assert source_of(unpacked)["reason"] == "no git repository"


def test_checkout_of_another_user_is_said_without_its_place(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("HOME", str(repository))  # whose safe.directory says nothing
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    source = source_of(repository)
    assert source["commit"] is None
    assert source["reason"].startswith("not permitted")
    assert str(repository) not in source["reason"]


# Everything


def test_two_reads_are_equal(here: Facts) -> None:
    again = read_facts(str(ROOT), "gcc", ["-O2"])
    assert format_facts(again) == format_facts(here)
    assert json.loads(format_facts(here)) == here


def test_order_in_which_folders_are_listed_does_not_matter(tmp_path: Path, here: Facts) -> None:
    files = {f"{CPUS}/vulnerabilities/{name}": "" for name in "hagcefbd"}
    files |= {f"{CPUS}/cpu0/cache/index{index}/level": str(index) for index in (3, 1, 0, 2)}
    files |= {f"proc/sys/kernel/sched_{name}": "" for name in "hagcefbd"}
    root = make_tree(tmp_path, files)
    for facts in (
        read_mitigations(root),
        read_caches_kib(root, 0),
        read_sysctls(root),
    ):
        assert list(facts) == sorted(facts)
    turned = dict(reversed(here.items()))
    turned["kernel"] = dict(reversed(here["kernel"].items()))
    turned["kernel"]["mitigations"] = dict(reversed(here["kernel"]["mitigations"].items()))
    assert format_facts(turned) == format_facts(here)
    assert identity.machine_id(turned) == here["machine_id"]


def test_facts_of_this_machine_agree_with_other_sources(here: Facts) -> None:
    assert here["memory"]["memory_total_kib"] > 64 * 1024
    assert here["kernel"]["release"] == os.uname().release
    assert here["cpu"]["cpus_online"] == os.cpu_count()
    assert here["tools"]["python"].startswith("{}.{}.".format(*sys.version_info))
    assert re.fullmatch(r"\d+\.\d+[\w.]*", here["tools"]["snakemake"])
    assert re.search(r"\d+\.\d+", here["tools"]["wrk"])
    assert here["system"]["libc"].startswith("glibc ")
    assert re.fullmatch(r"\d+\.\d+", here["build"]["liburing"])
    assert re.search(r"\d+\.\d+", here["build"]["compiler_version"])
    assert re.fullmatch(r"m[0-9a-f]{12}", here["machine_id"])


def test_facts_do_not_tell_whose_they_are(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "proc/cpuinfo": x86_cpuinfo(2),
        "proc/cmdline": "root=UUID=1234-5678 ip=192.0.2.17 nosmt hostname=secrethost",
        "proc/sys/kernel/hostname": "secrethost\n",
        "etc/hostname": "secrethost\n",
        "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
        "proc/self/status": "Seccomp:\t0\n",
        "sys/class/net/eth0/address": "02:fc:00:00:00:05\n",
    }
    root = make_tree(tmp_path / "root", files)
    home = tmp_path / "home/secretuser"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USER", "secretuser")
    monkeypatch.setattr(
        os, "uname", lambda: SimpleNamespace(nodename="secrethost", machine="x86_64")
    )
    flags = [f"-I{repository}/servers", f"-I{home}/include", "-O2"]
    host = read_host(root)
    facts = read_facts(repository, f"{repository}/gcc", flags, host)
    assert facts["kernel"]["options"] == {"nosmt": ""}
    assert facts["build"]["compiler"] == "gcc"
    assert facts["build"]["flags"] == ["-I./servers", "-I~/include", "-O2"]
    text = format_facts(facts)
    told = re.search("secrethost|secretuser|192.0.2.17|02:fc|1234-5678|0123456789abcdef", text)
    assert not told
    assert str(tmp_path) not in text
    assert not re.search(r'"/', text)


def test_flags_of_a_user_whose_home_is_the_root_keep_their_paths(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/")
    assert hide_places("-I/opt/include", "/a/checkout") == "-I/opt/include"


def changed(facts: Facts, section: str, name: str, value: object) -> Facts:
    other = copy.deepcopy(facts)
    other[section][name] = value
    return other


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("cpu", "vendor", "GenuineIntel2"),
        ("cpu", "model_name", "other"),
        ("cpu", "family", 5),
        ("cpu", "model", 5),
        ("cpu", "variant", "0x5"),
        ("cpu", "stepping", 55),
        ("cpu", "cpus_allowed", 1000),
        ("cpu", "hypervisor", "Xen"),
        ("memory", "memory_total_kib", 5 * 2**20),
        ("memory", "memory_total_kib", None),
        ("kernel", "release", "6.18.45"),
        ("kernel", "mitigations", {"meltdown": "Vulnerable"}),
        ("system", "installation", "0123456789ab"),
    ],
)
def test_another_machine_has_another_id(
    here: Facts, section: str, name: str, value: object
) -> None:
    other = changed(here, section, name, value)
    assert identity.machine_id(other) != here["machine_id"]


def test_same_machine_keeps_its_id(here: Facts) -> None:
    gib = round(here["memory"]["memory_total_kib"] / 2**20)
    exact = changed(here, "memory", "memory_total_kib", gib * 2**20)
    for other in (
        exact,
        changed(here, "cpu", "governor", "other"),
        changed(here, "cpu", "microcode", "other"),
        changed(here, "system", "container", "other"),
        changed(here, "limits", "open_files", {"soft": 1, "hard": 1}),
        {**here, "tools": {}, "build": {}, "source": {}, "sysctls": {}},
        {**here, "machine_id": "other", "machine_label": "other"},
    ):
        assert identity.machine_id(other) == here["machine_id"]


@pytest.mark.parametrize(
    ("cpu", "release", "label"),
    [
        (
            {"model_name": "AMD EPYC", "family": 26, "cpus_allowed": 2, "hypervisor": "KVM"},
            "6.18.44-fc-v657",
            "AMD EPYC (family 26), 2 CPUs, KVM, Linux 6.18.44",
        ),
        (
            {"model_name": "Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz", "family": 6},
            "6.1.0-18-amd64",
            "Intel Xeon Platinum 8375C (family 6), 1 CPU, Linux 6.1.0",
        ),
        (
            {"model_name": "AMD EPYC 7763 64-Core Processor", "family": 25},
            "6.8",
            "AMD EPYC 7763 (family 25), 1 CPU, Linux 6.8",
        ),
        (
            {"model_name": "Neoverse-N1", "vendor": "0x41", "hypervisor": "unknown"},
            "6.8.0-1",
            "Neoverse-N1, 1 CPU, unknown hypervisor, Linux 6.8.0",
        ),
        (
            {"architecture": "aarch64", "vendor": "0x41", "model": "0xd0c"},
            None,
            "aarch64 0x41 0xd0c, 1 CPU, Linux unknown",
        ),
    ],
)
def test_label_is_one_line_for_people(
    here: Facts, cpu: Facts, release: str | None, label: str
) -> None:
    facts = copy.deepcopy(here)
    facts["cpu"] = {**dict.fromkeys(here["cpu"]), "cpus_allowed": 1, **cpu}
    facts["kernel"]["release"] = release
    assert identity.machine_label(facts) == label


def test_file_changes_only_with_a_fact(tmp_path: Path, here: Facts) -> None:
    path = tmp_path / "results/machine.json"
    write_facts(str(path), here)
    assert json.loads(path.read_text()) == here
    os.utime(path, (1, 1))
    write_facts(str(path), here)
    assert path.stat().st_mtime == 1
    other = changed(here, "cpu", "governor", "other")
    write_facts(str(path), other)
    assert json.loads(path.read_text()) == other


def test_facts_of_a_sweep_are_not_those_of_a_run_over_another_network(
    here: Facts, tmp_path: Path
) -> None:
    path, boots = str(tmp_path / "machine.json"), [here["system"]["boot"]] * 2
    veth = {"interface": "io-models0"}
    for way, other in ((None, veth), (veth, None)):
        write_facts(path, {**here, "network": way})
        facts = facts_of_sweep(boots, way, path)
        assert facts is not None and facts["network"] == way
        assert facts_of_sweep(boots, other, path) is None
        assert facts_of_sweep(["another", boots[1]], way, path) is None
        assert facts_of_sweep([boots[0], "another"], way, path) is None


def test_nodes_of_a_cluster_are_different_machines_though_they_have_one_image(
    here: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert here["system"]["node"] is None
    ids = {here["machine_id"]}
    for name in ("rome017", "rome018", "rome018"):
        monkeypatch.setenv("SLURMD_NODENAME", name)
        system = read_system("/")
        assert name not in json.dumps(system)
        ids.add(identity.machine_id({**here, "system": system}))
    assert len(ids) == 3


def test_facts_of_a_block_are_where_the_environment_says(
    here: Facts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, boots = str(tmp_path / "node.json"), [here["system"]["boot"]] * 2
    write_facts(path, here)
    monkeypatch.chdir(tmp_path)
    assert facts_of_sweep(boots, None) is None
    monkeypatch.setenv("MACHINE_FACTS", path)
    assert facts_of_sweep(boots, None) == here


def test_tools_are_asked_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Facts are read whenever Snakemake starts: each tool waits here for all the others."""
    tools = tmp_path / "bin"
    tools.mkdir()
    names = ("perf", "lscpu", "wrk", "ss")
    wait = f"for _ in $(seq 500); do [ $(ls {shlex.quote(str(tmp_path))}/*.up | wc -l) -lt {len(names)} ]"
    for name in names:
        up = f": > {shlex.quote(str(tmp_path))}/{name}.up"
        make_program(tools / name, f"{up}; {wait} || exec echo {name} up; sleep 0.01; done")
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    started = reading.start_tools(TOOLS)
    told = {reading.finish(tool) for tool in started.values()}
    assert told == {f"{name} up\n" for name in names}
