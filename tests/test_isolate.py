"""What an isolation changes, and that it is put back: on made-up trees of /proc and /sys, never on this machine."""

import contextlib
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import isolate
import pytest
import sides
from checkouts import ROOT
from isolate import FOLDER, Holder, Isolation, IsolationFault, describe

SCRIPT = ROOT / "scripts/isolate.py"
CPUS = "sys/devices/system/cpu"
HUGE_PAGES = "sys/kernel/mm/transparent_hugepage/enabled"
SWAPS = "proc/swaps"
SWAPS_HEADER = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
EVERYTHING = {
    "governor": "performance",
    "turbo": "off",
    "transparent_huge_pages": "never",
    "swap": "off",
    "irq_affinity": "away",
}
SERVER_CPUS = [2, 3]


def make_tree(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with everything that can be set, none of it as EVERYTHING wants it."""
    folder = tmp_path / "machine"
    files = {
        f"{CPUS}/online": "0-3\n",
        f"{CPUS}/intel_pstate/no_turbo": "0\n",
        HUGE_PAGES: "always [madvise] never\n",
        SWAPS: f"{SWAPS_HEADER}/swap\\040file file 9 0 -2\n/dev/sdb2 partition 9 0 5\n",
        "swap file": "",
        "dev/sdb2": "",
        "proc/sys/kernel/random/boot_id": "first\n",
        "proc/irq/24/smp_affinity_list": "1-3\n",
        "proc/irq/25/smp_affinity_list": "3\n",
        "proc/irq/26/smp_affinity_list": "0,9\n",  # 9 is offline
    }
    for number in (0, 1):
        policy = f"{CPUS}/cpufreq/policy{number}"
        files |= {
            f"{policy}/scaling_available_governors": "performance powersave\n",
            f"{policy}/scaling_governor": "powersave\n",
            f"{policy}/energy_performance_preference": "balance_performance\n",
        }
    make_tree(folder, files)
    return folder


def state(root: Path) -> dict[str, str]:
    """All that may be set, as the kernel would say it."""
    found = {}
    for path in [*root.glob("sys/**/*"), *root.glob("proc/**/*")]:
        if path.is_file():
            text = path.read_text().strip().replace("always [madvise] never", "madvise")
            text = re.sub(r" -\d$", " by the kernel", text, flags=re.MULTILINE)
            found[str(path.relative_to(root))] = "\n".join(sorted(text.splitlines()))
    return found


class Swap:
    """swapoff and swapon of a made-up machine."""

    def __init__(self, root: Path, broken: str = "") -> None:
        self.path = root / SWAPS
        self.broken = broken
        self.commands: list[list[str]] = []
        self.given = -3  # by the kernel, which gives each but once

    def __call__(self, command: Sequence[str]) -> None:
        self.commands.append(list(command))
        name = command[-1].replace(" ", "\\040")
        if command[0] == "swapoff" and self.broken and self.broken in name:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        lines = self.path.read_text().splitlines()
        if command[0] == "swapoff":
            lines = [line for line in lines if not line.startswith(f"{name} ")]
        else:
            kind = "file" if "file" in name else "partition"
            lines.append(f"{name} {kind} 9 0 {command[2] if '-p' in command else self.given}")
            self.given -= 1
        self.path.write_text("\n".join(lines) + "\n")


class Refusing(Isolation):
    """The kernel of a machine that does not take some writes, or takes and forgets them."""

    refused = ""
    forgotten = ""

    def write(self, path: str, value: str) -> None:
        if self.refused and self.refused in path:
            raise OSError(errno.EIO, "Input/output error")
        if not self.forgotten or self.forgotten not in path:
            super().write(path, value)


def leave_behind(root: Path, settings: Mapping[str, str] = EVERYTHING) -> None:
    """An isolation that was killed."""
    isolation = Isolation(str(root), Swap(root))
    isolation.apply(settings, SERVER_CPUS)
    assert isolation.lock is not None
    os.close(isolation.lock)


# --- In one process ---


def test_everything_is_set_and_put_back(root: Path) -> None:
    before = state(root)
    isolation = Isolation(str(root), Swap(root))
    report = isolation.apply(EVERYTHING, SERVER_CPUS)
    assert report["refused"] == report["restored"] == []
    during = state(root)
    changed = {path: during[path] for path in before if before[path] != during[path]}
    assert changed == {
        f"{CPUS}/cpufreq/policy0/scaling_governor": "performance",
        f"{CPUS}/cpufreq/policy1/scaling_governor": "performance",
        f"{CPUS}/intel_pstate/no_turbo": "1",
        HUGE_PAGES: "never",
        SWAPS: SWAPS_HEADER.strip(),
        "proc/irq/24/smp_affinity_list": "1",
        "proc/irq/25/smp_affinity_list": "0-1",
    }
    assert describe(report) == [
        "governor: powersave → performance (2 ×)",
        "turbo: on → off",
        "transparent_huge_pages: madvise → never",
        "swap: on → off",
        "swap: 5 → off",
        "irq_affinity: 1-3 → 1",
        "irq_affinity: 3 → 0-1",
    ]
    assert "governor: performance back to powersave (2 ×)" in isolation.restore()
    assert state(root) == before
    assert not os.path.exists(isolation.journal)
    assert isolation.restore() == []


def test_nothing_to_restore_leaves_nothing_behind(root: Path) -> None:
    assert Isolation(str(root)).restore() == []
    assert not (root / FOLDER[1:]).exists()


def test_nothing_is_changed_without_being_asked_for(root: Path) -> None:
    before = state(root)
    isolation = Isolation(str(root))
    nothing: dict[str, str | bool | None] = dict.fromkeys(EVERYTHING)
    assert isolate.asks_for_nothing(nothing)
    assert not isolate.asks_for_nothing({**nothing, "turbo": False})
    report = isolation.apply(nothing, SERVER_CPUS)
    assert report == {"restored": [], "changed": [], "refused": []}
    assert state(root) == before
    assert not os.path.exists(isolation.journal)


def test_what_is_as_wanted_is_not_touched(root: Path) -> None:
    isolation = Refusing(str(root))
    isolation.refused = "/"
    report = isolation.apply({"governor": "powersave", "turbo": True}, SERVER_CPUS)
    assert report == {"restored": [], "changed": [], "refused": []}


def test_on_and_off_may_be_what_yaml_makes_of_them(root: Path) -> None:
    Isolation(str(root), Swap(root)).apply({"turbo": False, "swap": False}, SERVER_CPUS)
    assert (root / CPUS / "intel_pstate/no_turbo").read_text() == "1"
    assert (root / SWAPS).read_text() == SWAPS_HEADER


def test_turbo_of_other_drivers_is_a_switch_the_other_way_round(root: Path) -> None:
    (root / CPUS / "intel_pstate/no_turbo").unlink()
    make_tree(root, {f"{CPUS}/cpufreq/boost": "1\n"})
    Isolation(str(root)).apply({"turbo": "off"})
    assert (root / CPUS / "cpufreq/boost").read_text() == "0"


def test_what_the_kernel_changes_with_the_governor_is_put_back_too(root: Path) -> None:
    """As intel_pstate and amd_pstate do with the preference between energy and performance."""
    before = state(root)
    isolation = Isolation(str(root))
    isolation.apply({"governor": "performance"})
    path = root / CPUS / "cpufreq/policy0/energy_performance_preference"
    path.write_text("performance")
    isolation.restore()
    assert state(root) == before


def test_the_swap_that_was_preferred_is_preferred_again(root: Path) -> None:
    with (root / SWAPS).open("a") as file:
        file.write("/dev/sdc1 partition 9 0 -3\n")
    make_tree(root, {"dev/sdc1": ""})
    swap = Swap(root)
    isolation = Isolation(str(root), swap)
    isolation.apply({"swap": "off"})
    swap.commands.clear()
    isolation.restore()
    assert swap.commands == [
        ["swapon", "-p", "5", "/dev/sdb2"],
        ["swapon", "/swap file"],  # of negative ones the kernel gives the first the highest
        ["swapon", "/dev/sdc1"],
    ]


@pytest.mark.parametrize("value", [*EVERYTHING.items(), ("turbo", True)], ids=str)
def test_machine_without_it_says_so_in_one_line_and_goes_on(
    value: tuple[str, str | bool], tmp_path: Path
) -> None:
    make_tree(tmp_path, {f"{CPUS}/online": "0-3\n"})
    setting, wanted = value
    report = Isolation(str(tmp_path)).apply({setting: wanted}, range(4))
    assert report["changed"] == []
    # Without swap there is none to be turned off: as wanted.
    assert len(report["refused"]) == (setting != "swap")
    assert all(line.startswith(f"{setting}: th") for line in report["refused"])
    assert not (tmp_path / FOLDER[1:] / "journal.json").exists()


def test_unknown_governor_is_refused_and_the_known_ones_are_named(root: Path) -> None:
    report = Isolation(str(root)).apply({"governor": "schedutil"})
    assert report["refused"] == [
        "governor: this machine has no schedutil, but performance, powersave"
    ]


@pytest.mark.parametrize("settings", [{"turbo": "fast"}, {"fan": "on"}, {"swap": True}], ids=str)
def test_unknown_settings_change_nothing(settings: dict[str, str], root: Path) -> None:
    before = state(root)
    with pytest.raises(IsolationFault, match="cannot set"):
        Isolation(str(root)).apply({"transparent_huge_pages": "never", **settings})
    assert state(root) == before


@pytest.mark.parametrize("way", ["refused", "forgotten"])
def test_a_setting_is_changed_everywhere_or_nowhere(way: str, root: Path) -> None:
    before = state(root)
    isolation = Refusing(str(root))
    setattr(isolation, way, "policy1/scaling_governor")
    report = isolation.apply({"governor": "performance"})
    assert report["changed"] == []
    said = {"refused": "Input/output error", "forgotten": "it stays powersave"}[way]
    assert report["refused"] == [
        f"governor: /{CPUS}/cpufreq/policy1/scaling_governor cannot be set to performance: {said}"
    ]
    assert state(root) == before


def test_swap_that_cannot_be_turned_off_leaves_all_of_it_on(root: Path) -> None:
    before = state(root)
    isolation = Isolation(str(root), Swap(root, broken="sdb2"))
    report = isolation.apply({"swap": "off"})
    assert report["refused"] == ["swap: /dev/sdb2 cannot be set to off: Cannot allocate memory"]
    assert state(root) == before
    assert isolation.restore() == []


def test_failing_command_is_told_with_what_it_said() -> None:
    with pytest.raises(OSError, match="cannot access"):
        isolate.run_command(["ls", "/no such place"])


def test_interrupts_that_cannot_move_are_left_and_counted(root: Path) -> None:
    isolation = Refusing(str(root))
    isolation.refused = "irq/25"
    report = isolation.apply({"irq_affinity": "away"}, SERVER_CPUS)
    assert [change["path"] for change in report["changed"]] == ["/proc/irq/24/smp_affinity_list"]
    assert report["refused"] == ["irq_affinity: 1 of 2 interrupts cannot leave the server's CPUs"]


def test_interrupts_go_to_cpus_that_are_online(root: Path) -> None:
    (root / CPUS / "online").write_text("1-3\n")
    (root / "proc/irq/26/smp_affinity_list").write_text("0-2")
    Isolation(str(root)).apply({"irq_affinity": "away"}, SERVER_CPUS)
    for number in (24, 25, 26):
        assert (root / f"proc/irq/{number}/smp_affinity_list").read_text() == "1"


def test_what_is_not_understood_is_left(root: Path) -> None:
    (root / "proc/irq/25/smp_affinity_list").write_text("all of them")
    before = state(root)
    report = Isolation(str(root)).apply({"irq_affinity": "away"}, SERVER_CPUS)
    assert len(report["refused"]) == 1
    assert state(root) == before


def test_who_may_move_interrupts_back_is_named(root: Path) -> None:
    make_tree(root, {"proc/7/comm": "irqbalance\n"})
    report = Isolation(str(root)).apply({"irq_affinity": "away"}, SERVER_CPUS)
    assert [line for line in report["refused"] if "systemctl stop irqbalance" in line]


def test_what_somebody_else_changed_meanwhile_is_left_and_told(root: Path) -> None:
    before = state(root)
    isolation = Isolation(str(root))
    isolation.apply({"transparent_huge_pages": "never", "governor": "performance"})
    (root / HUGE_PAGES).write_text("[always] madvise never\n")
    lines = isolation.restore()
    assert [line for line in lines if HUGE_PAGES in line] == [
        f"transparent_huge_pages: /{HUGE_PAGES} was madvise and set to never, somebody else made it always: left alone"
    ]
    after = state(root)
    assert after.pop(HUGE_PAGES) == "[always] madvise never"
    assert after == {path: text for path, text in before.items() if path != HUGE_PAGES}
    assert isolation.restore() == []


def test_what_somebody_else_set_along_with_the_governor_is_left(root: Path) -> None:
    isolation = Isolation(str(root))
    isolation.apply({"governor": "performance"})
    policy = root / CPUS / "cpufreq/policy0"
    (policy / "scaling_governor").write_text("ondemand")
    (policy / "energy_performance_preference").write_text("power")
    isolation.restore()
    assert (policy / "scaling_governor").read_text() == "ondemand"
    assert (policy / "energy_performance_preference").read_text() == "power"


def test_devices_that_have_gone_are_no_fault(root: Path) -> None:
    isolation = Isolation(str(root), Swap(root))
    isolation.apply(EVERYTHING, SERVER_CPUS)
    (root / "proc/irq/25/smp_affinity_list").unlink()
    (root / "dev/sdb2").unlink()
    lines = isolation.restore()
    assert "swap: off back to on" in lines
    assert not [line for line in lines if "sdb2" in line or "irq/25" in line or "to 5" in line]


def test_what_cannot_be_put_back_is_tried_again(root: Path) -> None:
    before = state(root)
    isolation = Refusing(str(root))
    isolation.apply({"transparent_huge_pages": "never", "turbo": "off"})
    isolation.refused = HUGE_PAGES
    for attempt in (isolation.restore, lambda: isolation.apply({"turbo": "off"})):
        with pytest.raises(IsolationFault) as caught:
            attempt()
        assert f"/{HUGE_PAGES} cannot be put back to madvise" in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
    assert (root / CPUS / "intel_pstate/no_turbo").read_text() == "0"
    isolation.refused = ""
    assert isolation.restore() == ["transparent_huge_pages: never back to madvise"]
    assert state(root) == {**before, f"{CPUS}/intel_pstate/no_turbo": "0"}


def test_after_a_reboot_nothing_is_put_back(root: Path) -> None:
    leave_behind(root, {"turbo": "off"})
    (root / "proc/sys/kernel/random/boot_id").write_text("second\n")
    during = state(root)
    isolation = Isolation(str(root))
    assert len(isolation.restore()) == 1
    assert state(root) == during
    assert isolation.restore() == []


def test_a_journal_that_is_none_is_named_and_nothing_is_changed(root: Path) -> None:
    journal = root / FOLDER[1:] / "journal.json"
    for text in ("half a jour", "{}", '{"boot": "first", "pid": 1, "changes": [{"path": "x"}]}'):
        make_tree(root, {str(journal.relative_to(root)): text})
        with pytest.raises(IsolationFault, match=f"remove {journal}$"):
            Isolation(str(root)).apply({"turbo": "off"})
    assert (root / CPUS / "intel_pstate/no_turbo").read_text() == "0\n"


def test_without_a_journal_nothing_is_changed(root: Path) -> None:
    before = state(root)
    (root / FOLDER[1:] / "journal.json.new").mkdir(parents=True)
    with pytest.raises(IsolationFault, match="cannot write"):
        Isolation(str(root)).apply({"turbo": "off"})
    assert state(root) == before


def test_a_side_that_ends_puts_it_back(root: Path) -> None:
    before = state(root)
    with contextlib.closing(Isolation(str(root))) as side:
        side.apply({"turbo": "off"})
        assert state(root) != before
    assert state(root) == before


def test_an_agent_on_another_host_can_hold_it() -> None:
    with (
        sides._agent(Isolation, "here", None, lifetime_s=60) as agent,
        pytest.raises(IsolationFault, match=r"^cannot set fan to on$"),
    ):
        agent.apply({"fan": "on"}, [])


# --- Processes that are killed ---

KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[1:3]
import isolate, test_isolate
from pathlib import Path
root, left = sys.argv[3], int(sys.argv[4])

def die_in_time():
    global left
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1

class Killed(isolate.Isolation):
    def write(self, path, value):
        die_in_time()
        super().write(path, value)

class Swap(test_isolate.Swap):
    def __call__(self, command):
        die_in_time()
        super().__call__(command)

isolation = Killed(root, Swap(Path(root)))
isolation.apply(test_isolate.EVERYTHING, test_isolate.SERVER_CPUS)
isolation.restore()
"""
CHANGES = 8


@pytest.mark.parametrize("done", range(2 * CHANGES))
def test_killed_between_any_two_changes_all_is_put_back(done: int, root: Path) -> None:
    """From before the first, when there is but the journal, to the last while putting back."""
    before = state(root)
    folders = [str(ROOT / "scripts"), str(ROOT / "tests")]
    command = [sys.executable, "-c", KILLED, *folders, str(root), str(done)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == -signal.SIGKILL, run.stderr
    lines = Isolation(str(root), Swap(root)).restore()
    assert bool(lines) == (done > 0)
    assert state(root) == before


def test_that_is_all_of_them(root: Path) -> None:
    folders = [str(ROOT / "scripts"), str(ROOT / "tests")]
    command = [sys.executable, "-c", KILLED, *folders, str(root), str(2 * CHANGES)]
    assert subprocess.run(command, check=False, timeout=300).returncode == 0


@pytest.fixture
def holder(root: Path) -> Iterator[Holder]:
    started = Holder({"turbo": "off", "transparent_huge_pages": "never"}, root=str(root))
    yield started
    started.process.kill()
    started.process.communicate()


def restore(root: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(SCRIPT), "--root", str(root), "restore"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_holder_tells_holds_and_puts_back(root: Path) -> None:
    before = state(root)
    holder = Holder({"turbo": "off", "governor": "fast"}, root=str(root))
    assert describe(holder.report) == [
        "turbo: on → off",
        "governor: this machine has no fast, but performance, powersave",
    ]
    assert (root / CPUS / "intel_pstate/no_turbo").read_text() == "1"
    assert holder.end() == ["turbo: off back to on"]
    assert state(root) == {**before}


def test_leftovers_are_put_back_by_hand_once(holder: Holder, root: Path) -> None:
    holder.process.kill()
    holder.process.wait()
    assert (root / HUGE_PAGES).read_text() == "never"
    run = restore(root)
    assert run.returncode == 0
    assert run.stdout.splitlines() == [
        "transparent_huge_pages: never back to madvise",
        "turbo: off back to on",
    ]
    again = restore(root)
    assert (again.returncode, again.stdout) == (0, "nothing to restore\n")


def test_leftovers_are_put_back_by_the_next_start(holder: Holder, root: Path) -> None:
    holder.process.kill()
    holder.process.wait()
    following = Holder({"turbo": "off"}, root=str(root))
    assert following.report["restored"] == [
        "transparent_huge_pages: never back to madvise",
        "turbo: off back to on",
    ]
    assert (root / HUGE_PAGES).read_text() == "madvise"
    assert following.end() == ["turbo: off back to on"]


PARENT = """
import sys, time
sys.path.insert(0, sys.argv[1])
import isolate
holder = isolate.Holder({"turbo": "off", "transparent_huge_pages": "never"}, root=sys.argv[2])
print(holder.process.pid, flush=True)
time.sleep(60)
"""


def test_a_killed_parent_ends_it_at_once(root: Path) -> None:
    before = state(root)
    command = [sys.executable, "-c", PARENT, str(ROOT / "scripts"), str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert state(root) != before
        parent.kill()
    deadline = time.monotonic() + 20
    while os.path.exists(f"/proc/{pid}/task/{pid}/children") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert state(root) == before
    assert not (root / FOLDER[1:] / "journal.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_all_is_put_back(
    number: signal.Signals, holder: Holder, root: Path
) -> None:
    holder.process.send_signal(number)
    assert holder.process.wait(timeout=120) == 0
    assert (root / HUGE_PAGES).read_text() == "madvise"


def test_ctrl_c_at_the_terminal_does_not_reach_it(holder: Holder) -> None:
    assert os.getsid(holder.process.pid) != os.getsid(0)


def test_two_at_once_are_refused_and_the_first_goes_on(holder: Holder, root: Path) -> None:
    during = state(root)
    said = f"process {holder.process.pid} isolates this machine already: wait for it, or end it"
    with pytest.raises(IsolationFault, match=said):
        Holder({"turbo": "off"}, root=str(root))
    run = restore(root)
    assert (run.returncode, run.stdout, run.stderr) == (1, "", f"isolate: {said}\n")
    assert state(root) == during
    assert len(holder.end()) == 2


def test_nobody_listening_is_no_reason_to_leave_it(root: Path) -> None:
    before = state(root)
    request = json.dumps({"settings": {"turbo": "off"}})
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), "--root", str(root), "hold", request],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.close()
    process.stdin.close()
    assert process.wait(timeout=120) == 0
    assert state(root) == before


def test_what_is_not_root_is_told_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["isolate.py", "restore"])
    with pytest.raises(SystemExit) as ended:
        isolate.main()
    assert ended.value.code == (
        "isolate: only root may change this machine's settings: run it with sudo"
    )


@pytest.mark.parametrize("request_", ["turbo", "{}", "[1]"])
def test_a_request_that_is_none_is_told_in_one_line(request_: str, root: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--root", str(root), "hold", request_]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1].startswith("isolate.py: error: the request")
