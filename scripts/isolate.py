#!/usr/bin/env python3
"""Makes a machine quiet for a sweep, and what it changed is put back, whatever happens (M14).

    isolate.py hold '{"settings": {"governor": "performance"}, "server_cpus": [2, 3]}'   until its standard input ends
    isolate.py restore                                                                   what a killed one left

The old values are in a journal on disk before the first is changed. Of the standard library and machine.py alone, since
it runs on every host of a sweep. `root` is where /proc, /sys and /run are: "/" or a copy.
"""

import argparse
import contextlib
import errno
import fcntl
import glob
import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import machine

FOLDER = "/run/io_models_isolation"  # /run is empty after a reboot, which resets all of these settings too
CPU_FOLDER = "/sys/devices/system/cpu"
# File → what it says for turbo on and off: intel_pstate says what is forbidden, the other drivers what is allowed.
TURBO = {
    f"{CPU_FOLDER}/intel_pstate/no_turbo": {"on": "0", "off": "1"},
    f"{CPU_FOLDER}/cpufreq/boost": {"on": "1", "off": "0"},
}
HUGE_PAGES = "/sys/kernel/mm/transparent_hugepage/enabled"
SWAP_TIMEOUT_S = 300.0  # swapoff reads back all that was swapped out
TOLD = {True: "on", False: "off"}  # YAML takes on and off for these
ALLOWED = {
    "turbo": ("on", "off"),
    "transparent_huge_pages": ("always", "madvise", "never"),
    "swap": ("off",),
    "irq_affinity": ("away",),
}

Settings = Mapping[str, str | bool | None]


class IsolationFault(Exception):
    """Why nothing was changed, or not all was put back; one line."""


class Refused(ValueError):
    """Why a setting cannot be had on this machine; one line."""


class Change(NamedTuple):
    setting: str
    path: str  # as without `root`: a file to write, or a swap device
    old: str
    new: str | None  # None: the kernel changes it along with the setting


def run_command(command: Sequence[str]) -> None:
    """OSError with what the command said if it fails."""
    try:
        run = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=SWAP_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise OSError(errno.ETIMEDOUT, f"took longer than {SWAP_TIMEOUT_S:.0f} s") from None
    if run.returncode:
        said = " / ".join(run.stderr.strip().splitlines())
        raise OSError(errno.EIO, said or f"status {run.returncode}")


class Isolation:
    """The settings of one machine: apply() changes them, restore() puts them back. One at a time on a machine."""

    def __init__(self, root: str = "/", run: Callable[[Sequence[str]], None] = run_command) -> None:
        self.root = root
        self.run = run
        self.folder = self._at(FOLDER)
        self.journal = os.path.join(self.folder, "journal.json")
        self.lock: int | None = None

    def apply(self, settings: Settings, server_cpus: Collection[int] = ()) -> dict[str, Any]:
        """What was restored of an earlier one, what is changed now, and what cannot be, a line each.

        Holds the machine until restore(). Raises IsolationFault, and then nothing was changed.
        """
        wanted = {
            setting: TOLD[value] if isinstance(value, bool) else value
            for setting, value in settings.items()
            if value is not None
        }
        for setting, value in wanted.items():
            if value not in ALLOWED.get(setting, (value,) if setting == "governor" else ()):
                raise IsolationFault(f"cannot set {setting} to {value}")
        self._require_root()
        self._take_lock()
        try:
            restored = self._restore()
            plan, refused = self._plan(wanted, server_cpus)
            if plan:
                self._write_journal(plan)
            changed: list[Change] = []
            for setting in dict.fromkeys(change.setting for change in plan):
                changes = [change for change in plan if change.setting == setting and change.new]
                make = self._move_interrupts if setting == "irq_affinity" else self._make_all
                made, faults = make(changes)
                changed += made
                refused += faults
        except BaseException:
            self.restore()
            raise
        return {
            "restored": restored,
            "changed": [change._asdict() for change in changed],
            "refused": refused,
        }

    def restore(self) -> list[str]:
        """Put back what the journal says, and tell what was done, a line each; empty if there was nothing to do.

        A value that is neither the old nor ours was set by somebody else: it stays. Raises IsolationFault.
        """
        self._require_root()
        if not os.path.isdir(self.folder):
            return []
        self._take_lock()
        try:
            return self._restore()
        finally:
            if self.lock is not None:
                os.close(self.lock)
                self.lock = None

    def close(self) -> None:
        """As a side's: an agent on another host ends with this, whatever ended it."""
        self.restore()

    # --- One at a time, and the journal ---

    def _require_root(self) -> None:
        if self.root == "/" and os.geteuid() != 0:
            raise IsolationFault("only root may change this machine's settings: run it with sudo")

    def _take_lock(self) -> None:
        if self.lock is not None:
            return
        try:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            lock = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise IsolationFault(f"no place for a journal: {self.folder}: {why(error)}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            pid = self._read_journal().get("pid")
            who = f"process {pid}" if pid else "another process"
            raise IsolationFault(
                f"{who} isolates this machine already: wait for it, or end it"
            ) from None
        self.lock = lock

    def _boot(self) -> str:
        try:
            return self._read("/proc/sys/kernel/random/boot_id")
        except OSError:
            return ""

    def _read_journal(self) -> dict[str, Any]:
        """Empty if there is none."""
        try:
            with open(self.journal, encoding="utf-8") as file:
                journal = json.load(file)
            changes = [Change(**change) for change in journal["changes"]]
            return {"boot": journal["boot"], "pid": journal["pid"], "changes": changes}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise IsolationFault(
                f"cannot read what an earlier isolation changed ({error!r}): remove {self.journal}"
            ) from None

    def _write_journal(self, changes: Sequence[Change]) -> None:
        """On disk when this returns: a reader, or a crash, meets all of it or the one before."""
        text = json.dumps(
            {
                "boot": self._boot(),
                "pid": os.getpid(),
                "changes": [change._asdict() for change in changes],
            }
        )
        temporary = f"{self.journal}.new"
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.journal)
            self._sync_folder()
        except OSError as error:
            raise IsolationFault(f"cannot write {self.journal}: {why(error)}") from None

    def _sync_folder(self) -> None:
        if self.lock is not None:  # it is the folder
            os.fsync(self.lock)

    def _restore(self) -> list[str]:
        journal = self._read_journal()
        if not journal:
            return []
        if journal["boot"] != self._boot():
            os.unlink(self.journal)
            return ["an earlier isolation ended with a reboot, which has reset its settings"]
        left: list[Change] = []
        foreign: set[str] = set()
        lines = []
        # Backwards: what the kernel changed along with a setting comes after it.
        for change in reversed(journal["changes"]):
            try:
                now = self._now(change)
                if now in {None, change.old}:  # None: interrupts and devices may go
                    continue
                if change.new not in {None, now}:
                    foreign.add(change.setting)
                    lines.append(
                        f"{change.setting}: {change.path} was {change.old} and set to {change.new}, "
                        f"somebody else made it {now}: left alone"
                    )
                elif change.new:
                    self._set(change, change.old)
                    new, old = (in_words(change.path, value) for value in (change.new, change.old))
                    lines.append(f"{change.setting}: {new} back to {old}")
                elif change.setting not in foreign:
                    self._set(change, change.old)
            except OSError as error:
                left.append(change)
                lines.append(
                    f"{change.setting}: {change.path} cannot be put back to {change.old} ({why(error)})"
                )
        if left:
            self._write_journal(left[::-1])
            raise IsolationFault("; ".join(counted(lines)) + f": mend it, or remove {self.journal}")
        os.unlink(self.journal)
        self._sync_folder()
        return counted(lines)

    # --- What to change ---

    def _plan(
        self, settings: Mapping[str, str], server_cpus: Collection[int]
    ) -> tuple[list[Change], list[str]]:
        """Only what is not as wanted; and why the rest cannot be had."""
        planners: dict[str, Callable[[str], Iterator[Change]]] = {
            "governor": self._plan_governor,
            "turbo": self._plan_turbo,
            "transparent_huge_pages": self._plan_huge_pages,
            "swap": self._plan_swap,
            "irq_affinity": lambda _: self._plan_interrupts(server_cpus),
        }
        plan, refused = [], []
        for setting, wanted in settings.items():
            try:
                changes = list(planners[setting](wanted))
                plan += [change for change in changes if change.old != change.new]
            except ValueError as error:
                refused.append(f"{setting}: {error}")
            except OSError as error:
                refused.append(f"{setting}: cannot read {error.filename}: {why(error)}")
        return plan, refused

    def _plan_governor(self, wanted: str) -> Iterator[Change]:
        policies = self._glob(f"{CPU_FOLDER}/cpufreq/policy*")
        if not policies:
            raise Refused("this machine has no governors (no frequency scaling)")
        for policy in policies:
            known = self._read(f"{policy}/scaling_available_governors").split()
            if wanted not in known:
                raise Refused(f"this machine has no {wanted}, but {', '.join(known)}")
        for policy in policies:
            path = f"{policy}/scaling_governor"
            old = self._read(path)
            preference = f"{policy}/energy_performance_preference"
            if old != wanted and os.path.exists(self._at(preference)):
                yield Change("governor", preference, self._read(preference), None)
            yield Change("governor", path, old, wanted)

    def _plan_turbo(self, wanted: str) -> Iterator[Change]:
        for path, values in TURBO.items():
            if os.path.exists(self._at(path)):
                yield Change("turbo", path, self._read(path), values[wanted])
                return
        raise Refused("this machine has no switch for it")

    def _plan_huge_pages(self, wanted: str) -> Iterator[Change]:
        try:
            yield Change("transparent_huge_pages", HUGE_PAGES, self._read(HUGE_PAGES), wanted)
        except FileNotFoundError:
            raise Refused("this machine has none") from None

    def _plan_swap(self, wanted: str) -> Iterator[Change]:
        # What is put back first, the last, is preferred again, where the kernel gives the priority.
        for device, priority in sorted(self._swaps().items(), key=lambda swap: swap[1]):
            yield Change("swap", device, swap_state(priority), wanted)

    def _plan_interrupts(self, server_cpus: Collection[int]) -> Iterator[Change]:
        online = {*machine.parse_cpu_list(self._read(f"{CPU_FOLDER}/online"))}
        others = online - {*server_cpus}
        if not server_cpus or not others:
            raise Refused("there is no CPU beside the server's")
        for path in self._glob("/proc/irq/*/smp_affinity_list"):
            with contextlib.suppress(FileNotFoundError):  # a device has gone
                old = self._read(path)
                now = {*machine.parse_cpu_list(old)}
                if now & {*server_cpus}:
                    yield Change(
                        "irq_affinity", path, old, machine.format_cpu_list(now & others or others)
                    )

    # --- Changing it ---

    def _make_all(self, changes: Sequence[Change]) -> tuple[list[Change], list[str]]:
        """A setting is changed everywhere or nowhere: CPUs of different governors would be worse than either."""
        for number, change in enumerate(changes):
            try:
                self._make(change)
            except OSError as error:
                for done in reversed(changes[:number]):
                    with contextlib.suppress(OSError):  # it stays in the journal
                        self._set(done, done.old)
                return [], [
                    f"{change.setting}: {change.path} cannot be set to {change.new}: {why(error)}"
                ]
        return list(changes), []

    def _move_interrupts(self, changes: Sequence[Change]) -> tuple[list[Change], list[str]]:
        """Those that can move; the kernel keeps some where they are (EIO, since Linux 6.12 EPERM)."""
        moved = []
        for change in changes:
            with contextlib.suppress(OSError):
                self._make(change)
                moved.append(change)
        refused = []
        if len(moved) < len(changes):
            left = len(changes) - len(moved)
            refused = [
                f"irq_affinity: {left} of {len(changes)} interrupts cannot leave the server's CPUs"
            ]
        if moved and self._runs("irqbalance"):
            refused.append(
                "irq_affinity: irqbalance may move interrupts back: systemctl stop irqbalance"
            )
        return moved, refused

    def _make(self, change: Change) -> None:
        """OSError also if the kernel takes the value and keeps another."""
        self._set(change, str(change.new))
        now = self._now(change)
        if now != change.new:
            raise OSError(errno.EINVAL, f"it stays {now}")

    def _set(self, change: Change, value: str) -> None:
        if change.setting != "swap":
            self.write(change.path, value)
        elif value == "off":
            self.run(["swapoff", change.path])
        else:
            self.run(["swapon", *([] if value == "on" else ["-p", value]), change.path])

    # --- The machine ---

    def _now(self, change: Change) -> str | None:
        """The value that a change is about; None if what it is of has gone."""
        if change.setting == "swap":
            priority = self._swaps().get(change.path)
            if priority is None:
                return "off" if os.path.exists(self._at(change.path)) else None
            return swap_state(priority)
        try:
            return self._read(change.path)
        except FileNotFoundError:
            return None

    def _at(self, path: str) -> str:
        return os.path.join(self.root, path.lstrip("/"))

    def write(self, path: str, value: str) -> None:
        file = os.open(self._at(path), os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            os.write(file, value.encode())
        finally:
            os.close(file)

    def _read(self, path: str) -> str:
        """A file's text; of `always [madvise] never` what is chosen."""
        text = machine.read_text(self._at(path)).strip()
        chosen = re.search(r"\[(\w+)\]", text)
        return chosen[1] if chosen else text

    def _glob(self, pattern: str) -> list[str]:
        found = (f"/{path}" for path in glob.glob(pattern.lstrip("/"), root_dir=self.root))
        return sorted(found, key=lambda path: [int(part) for part in re.findall(r"\d+", path)])

    def _swaps(self) -> dict[str, int]:
        """Device or file → priority; the kernel writes a blank as \\040."""
        try:
            lines = machine.read_text(self._at("/proc/swaps")).splitlines()[1:]
        except FileNotFoundError:  # a kernel without swap
            return {}
        fields = [line.split() for line in lines]
        return {
            re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), name): int(priority)
            for name, *_, priority in fields
        }

    def _runs(self, name: str) -> bool:
        for path in self._glob("/proc/[0-9]*/comm"):
            with contextlib.suppress(OSError):
                if self._read(path) == name:
                    return True
        return False


def swap_state(priority: int) -> str:
    """`on`: with a priority that the kernel gave, a negative one; each time that it is turned on, another."""
    return "on" if priority < 0 else str(priority)


def in_words(path: str, value: str) -> str:
    """`on` for what a file says when turbo is on; any other value as it is."""
    return {said: word for word, said in TURBO.get(path, {}).items()}.get(value, value)


def why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def counted(lines: Sequence[str]) -> list[str]:
    """Each line once, with how often it was there."""
    counts = {line: lines.count(line) for line in lines}
    return [line + (f" ({count} ×)" if count > 1 else "") for line, count in counts.items()]


def describe(report: Mapping[str, Any]) -> list[str]:
    """What apply() did, a line each, for people."""
    changed = [
        f"{change['setting']}: {in_words(change['path'], change['old'])} → "
        f"{in_words(change['path'], change['new'])}"
        for change in report["changed"]
    ]
    return [*report["restored"], *counted(changed), *report["refused"]]


def has_leftovers(root: str = "/") -> bool:
    """Whether an isolation has not ended, be it that it was killed."""
    return os.path.exists(os.path.join(root, FOLDER[1:], "journal.json"))


def asks_for_nothing(settings: Settings) -> bool:
    return all(value is None for value in settings.values())


# --- A process that holds it ---


class Holder:
    """An isolation in a process of its own, which ends with this one, however that ends; Ctrl-C does not reach it."""

    def __init__(
        self, settings: Settings, server_cpus: Collection[int] = (), root: str = "/"
    ) -> None:
        """Raises IsolationFault. `report`: what apply() says."""
        request = json.dumps({"settings": dict(settings), "server_cpus": sorted(server_cpus)})
        self.process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), "--root", root, "hold", request],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        if not first:
            raise IsolationFault(self.process.communicate()[1].strip())
        self.report: dict[str, Any] = json.loads(first)

    def end(self) -> list[str]:
        """What was put back. Raises IsolationFault if not all was."""
        ended_early = self.process.poll() is not None
        said, fault = self.process.communicate()
        if self.process.returncode:
            how = f"the isolation ended with status {self.process.returncode}: sudo make restore"
            raise IsolationFault(fault.strip() or how)
        if ended_early:
            raise IsolationFault(
                f"the isolation had ended before the sweep ({' / '.join(said.splitlines())}): "
                "its later runs were measured without it"
            )
        return said.splitlines()


def wait_for_end(wake: int) -> None:
    """Of standard input, or until something is in `wake`."""
    while wake not in select.select([0, wake], [], [])[0]:
        if not os.read(0, 4096):
            return


def hold(settings: Settings, server_cpus: Sequence[int], root: str) -> list[str]:
    """Say what was changed, wait, and put it back: what that did."""
    wake, signalled = os.pipe()
    os.set_blocking(signalled, False)
    signal.set_wakeup_fd(signalled)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # it ends the waiting, and no change halfway
    isolation = Isolation(root)
    report = isolation.apply(settings, server_cpus)
    try:
        say([json.dumps(report)])
        wait_for_end(wake)
    finally:
        lines = isolation.restore()
    return lines


def say(lines: Sequence[str]) -> None:
    """To whoever still listens: a killed parent must not keep us from going on."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, "".join(f"{line}\n" for line in lines).encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", default="/", help="where /proc, /sys and /run are (default: /)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("restore", help="put back what an isolation that was killed has left")
    holding = commands.add_parser("hold", help="change settings until standard input ends")
    holding.add_argument("request", help='JSON: {"settings": {...}, "server_cpus": [...]}')
    arguments = parser.parse_args()
    try:
        if arguments.command == "restore":
            say(Isolation(arguments.root).restore() or ["nothing to restore"])
        else:
            request = json.loads(arguments.request)
            say(hold(request["settings"], request.get("server_cpus", []), arguments.root))
    except IsolationFault as error:
        sys.exit(f"isolate: {error}")
    except (ValueError, KeyError, TypeError) as error:
        parser.error(f"the request is no JSON of that form ({error!r})")


if __name__ == "__main__":
    main()
