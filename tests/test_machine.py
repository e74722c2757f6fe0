"""CPU sets, clocks and the lock."""

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import machine
import pytest
from checkouts import ROOT


@pytest.mark.parametrize(
    ("cores", "load", "server", "shared"),
    [
        ([[0]], [0], [0], True),
        ([[0, 1]], [0, 1], [0, 1], True),
        ([[0], [1]], [0], [1], False),
        ([[0, 4], [1, 5], [2, 6], [3, 7]], [0, 1, 4, 5], [2, 3, 6, 7], False),
        ([[0], [1], [2]], [0], [1, 2], False),
    ],
)
def test_cpus_are_split_by_whole_cores(
    cores: list[list[int]], load: list[int], server: list[int], shared: bool
) -> None:
    split = machine.CpuSplit(cores)
    assert (split.load, split.server, split.shared) == (load, server, shared)


def test_cores_of_this_machine_hold_each_allowed_cpu_once() -> None:
    cpus = [cpu for core in machine.read_cores() for cpu in core]
    assert sorted(cpus) == sorted(os.sched_getaffinity(0))


def test_cpu_lists_are_read_and_written() -> None:
    assert machine.parse_cpu_list("0-2,8\n") == [0, 1, 2, 8]
    assert machine.format_cpu_list([8, 0, 1]) == "0,1,8"


def test_auto_workers_are_several() -> None:
    one = machine.CpuSplit([[0], [1]])
    four = machine.CpuSplit([[0], [1], [2], [3], [4], [5], [6], [7]])
    assert machine.workers_for("auto", one) == 2
    assert machine.workers_for("auto", four) == 4
    assert machine.workers_for("3", four) == 3


def test_cpu_time_counts_every_thread_and_process() -> None:
    burn = "import time\nwhile time.process_time() < 0.2: pass"
    code = (
        "import os, threading, time\n"
        f"t = threading.Thread(target=lambda: exec({burn!r})); t.start(); t.join()\n"
        f"os.fork() or (exec({burn!r}), os.write(1, b'x'), time.sleep(20))\n"
        "os.wait() if False else time.sleep(20)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"x"
        pids = machine.processes_of(process.pid)
        assert len(pids) == 2
        assert machine.cpu_time_ns(pids[:1]) >= 0.2e9  # in a thread that has ended
        assert machine.cpu_time_ns(pids[1:]) >= 0.2e9
        assert machine.cpu_time_ns(pids) >= 0.4e9
        assert machine.memory_peak_kib(pids) > machine.memory_peak_kib(pids[:1]) > 1000
    finally:
        for pid in reversed(machine.processes_of(process.pid)):
            os.kill(pid, 9)
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]


def test_one_holds_the_machine_and_others_wait(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib; sys.path.insert(0, sys.argv[1]); import machine\n"
        "machine.LOCK_PATH = sys.argv[2]\n"
        "with machine.exclusive_machine():\n"
        "    start = time.monotonic(); time.sleep(0.3); print(start, time.monotonic())"
    )
    command = [sys.executable, "-c", code, str(ROOT / "scripts"), str(tmp_path / "lock")]
    runs = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    outputs = [run.communicate(timeout=30)[0].splitlines() for run in runs]
    spans = sorted(tuple(map(float, lines[-1].split())) for lines in outputs)
    for (_, end), (start, _) in itertools.pairwise(spans):
        assert end <= start
    assert any("waiting" in lines[0] for lines in outputs)


def test_lock_is_shared_with_flock_of_the_shell(tmp_path: Path) -> None:
    """Compiles and plots take it with flock(1): they must mean the same lock."""
    machine_lock = str(tmp_path / "lock")
    holder = subprocess.Popen(["flock", "--shared", "--close", machine_lock, "sleep", "1"])
    time.sleep(0.2)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import machine\n"
        "machine.LOCK_PATH = sys.argv[2]\nwith machine.exclusive_machine(): pass"
    )
    command = [sys.executable, "-c", code, str(ROOT / "scripts"), machine_lock]
    waiting = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    assert "waiting" in waiting.stdout
    assert holder.wait() == 0
