"""Which machine this is: its identity and its label."""

import hashlib
import json
import os
import re
from typing import Any

from hosts.reading import UNKNOWN, UNREAD, find, read_fact


def _hash(text: str) -> str:
    return hashlib.sha256(f"machine_facts {text}".encode()).hexdigest()[:12]


def read_installation(root: str) -> str | None:
    """A hash of /etc/machine-id, which is itself confidential (machine-id(5)); null if it is not set."""
    text = find(r"^([0-9a-f]{32})$", read_fact(root, "etc/machine-id"))
    return text if text is None or text in UNREAD else _hash(text)


def hash_node() -> str | None:
    """A hash of the node's name in a Slurm cluster: all nodes may have the machine-id of one image."""
    name = os.getenv("SLURMD_NODENAME")
    return _hash(name) if name else None


def read_boot(root: str = "/") -> str | None:
    """A value that changes with each start of each kernel: the same value means the same running kernel."""
    boot_id = read_fact(root, "proc/sys/kernel/random/boot_id")
    return _hash(boot_id) if boot_id else None


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
