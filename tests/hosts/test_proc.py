"""Lists of CPUs, clocks and the lock."""

import itertools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from helpers.checkouts import eventually, run_program
from hosts import cpus, lock, proc
from instruments import supervisor


def test_cpu_lists_are_read_and_written() -> None:
    assert cpus.parse_cpu_list("0-2,8\n") == [0, 1, 2, 8]
    assert cpus.format_cpu_list([8, 0, 1, 4, 2]) == "0-2,4,8"
    for wrong in ("", "3-1", "two"):
        with pytest.raises(ValueError):
            cpus.parse_cpu_list(wrong)


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
        pids = [process.pid, *supervisor.descendants_of(process.pid)]
        assert len(pids) == 2
        assert proc.cpu_time_ns(pids[:1]) >= 0.2e9  # in a thread that has ended
        assert proc.cpu_time_ns(pids[1:]) >= 0.2e9
        assert proc.cpu_time_ns(pids) >= 0.4e9
        assert proc.memory_peak_kib(pids) > proc.memory_peak_kib(pids[:1]) > 1000
    finally:
        for pid in reversed([process.pid, *supervisor.descendants_of(process.pid)]):
            os.kill(pid, 9)
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]


def cpu(
    living_ns: int,
    ended_ns: int = 0,
    group_ns: int | None = None,
    pids: tuple[int, ...] = (1,),
    is_lacking: bool = False,
) -> proc.CpuReading:
    return proc.CpuReading(list(pids), living_ns, ended_ns, group_ns, is_lacking)


S = 10**9


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        ([cpu(5), cpu(9)], 4),
        ([cpu(5, group_ns=0), cpu(9, group_ns=1000)], 4),  # clocks are the most exact
        ([cpu(5, is_lacking=True), cpu(9, is_lacking=True)], None),  # others may have come and gone
        # Of those that come and go.
        ([cpu(S), cpu(4 * S, pids=(1, 2)), cpu(S, ended_ns=4 * S)], 4 * S),
        ([cpu(S), cpu(S, ended_ns=2 * S)], 2 * S),
        ([cpu(S, group_ns=S), cpu(2 * S, group_ns=9 * S, pids=(1, 2))], 8 * S),
        # Some were never seen.
        ([cpu(S, group_ns=S), cpu(2 * S, group_ns=9 * S)], 8 * S),
        # What nobody waited for is lost, said so or not.
        ([cpu(S), cpu(4 * S, pids=(1, 2), is_lacking=True), cpu(S, is_lacking=True)], None),
        ([cpu(S), cpu(4 * S, pids=(1, 2)), cpu(S)], None),
    ],
)
def test_cpu_time_of_processes_that_come_and_go_is_counted_or_not_known(
    readings: list[proc.CpuReading], expected: int | None
) -> None:
    assert proc.cpu_time_between(*readings) == expected


def test_child_that_ends_while_cpu_time_is_read_is_not_lost_silently() -> None:
    """It is listed, and gone before its clock is read."""
    own = os.getpid()
    listed = iter([[own, 1], [own], [own]])
    reading = proc.read_cpu(own, lambda: next(listed), None)
    assert (reading.pids, reading.is_lacking) == ([own], False)
    changing = (list(range(own, own + length)) for length in range(1, 99))
    assert proc.read_cpu(own, lambda: next(changing), None).is_lacking


def test_supervisor_ends_the_server_where_the_kernel_lists_no_children() -> None:
    one = supervisor.Supervisor(server=42)
    assert one.living(lambda _: []) == {42}
    one.note(42, 0)
    assert one.living(lambda _: [43]) == {43}


def hold(spans: list[tuple[float, float]]) -> None:
    with lock.exclusive_machine():
        start_s = time.monotonic()
        time.sleep(0.1)
        spans.append((start_s, time.monotonic()))


def test_one_holds_the_machine_and_others_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting: list[int] = []
    monkeypatch.setattr(lock, "LOCK_PATH", str(tmp_path))
    monkeypatch.setattr(lock, "lock_holder", lambda held: waiting.append(held) or "this test")
    spans: list[tuple[float, float]] = []
    others = [threading.Thread(target=hold, args=[spans]) for _ in range(3)]
    with lock.exclusive_machine():
        for other in others:
            other.start()
        assert eventually(lambda: len(waiting) == 3) and spans == []
        held_until_s = time.monotonic()
    for other in others:
        other.join(10)
    assert len(spans) == 3
    for (_, end_s), (start_s, _) in itertools.pairwise([(0, held_until_s), *sorted(spans)]):
        assert end_s <= start_s
    assert capsys.readouterr().out == "waiting for this machine: this test uses it\n" * 3


def test_lock_is_shared_with_flock_of_the_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiles and plots take it with flock(1): they must mean the same lock."""
    monkeypatch.setattr(lock, "LOCK_PATH", str(tmp_path))
    command = ["flock", "--shared", "--close", "-n", str(tmp_path), "true"]
    with lock.exclusive_machine():
        assert run_program(command).returncode == 1
    assert run_program(command).returncode == 0


def test_lock_can_be_taken_by_every_user() -> None:
    """A file in /tmp could not: it belongs to who came first, with the rights that his umask left."""
    file = os.stat(lock.LOCK_PATH)
    assert file.st_mode & 0o444 == 0o444
    assert file.st_uid == 0
