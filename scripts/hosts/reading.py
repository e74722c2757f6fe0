"""Read single facts from /proc, /sys and the output of tools."""

import glob
import os
import re
import subprocess
from collections.abc import Sequence

from common import environment
from hosts import cpus

NOT_PERMITTED = "not permitted"
UNKNOWN = "unknown"
UNREAD = {None, NOT_PERMITTED, UNKNOWN}
TOOL_TIMEOUT_S = 5.0
CPU_FOLDER = "sys/devices/system/cpu"
# intel_pstate says whether turbo is forbidden, other drivers whether it is allowed.
TURBO = {
    f"{CPU_FOLDER}/intel_pstate/no_turbo": {"0": "on", "1": "off"},
    f"{CPU_FOLDER}/cpufreq/boost": {"1": "on", "0": "off"},
}
VERSION_PATTERNS = {
    "perf": r"^perf version (\S+)",  # Ubuntu's fails without the one for this kernel, and names the kernel
    "wrk": r"^wrk (\S+)",
    "ss": r"iproute2-(?:ss)?([\w.]+)",
    "compiler": r"^(.*\d\.\d.*)$",
}
Fact = str | int | None
Started = subprocess.Popen[str] | str | None


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
        return cpus.parse_cpu_list(text or "")
    except ValueError:
        return []


def parse_version(tool: str, output: str | None) -> str | None:
    """A tool's version from its output; "unknown" if that has no version."""
    version = find(VERSION_PATTERNS.get(tool, r"(\d+\.\d[\w.]*)"), output)
    return UNKNOWN if version is None and output is not None else version


def _fault(error: OSError) -> str | None:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return None
    return NOT_PERMITTED if isinstance(error, PermissionError) else UNKNOWN


def read_fact(root: str, path: str) -> str | None:
    """A file's stripped text; null if the file is missing, "not permitted" or "unknown" if it is unreadable."""
    try:
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError as error:
        return _fault(error)


def read_distinct(root: str, pattern: str) -> str | None:
    """The distinct texts of all matching files, as `performance, powersave`; null if there are none."""
    texts = (read_fact(root, path) for path in glob.glob(pattern, root_dir=root))
    return ", ".join(sorted(set(filter(None, texts)))) or None


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
    except OSError as error:
        return _fault(error)


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
