"""Run perf stat where the server runs: system calls, context switches and page faults by event."""

import contextlib
import os
import re
import select
import shutil
import subprocess
from collections.abc import Iterator, Sequence

from common.processes import Process, describe_status, one_line, running
from hosts.perf_permission import Obstacle, PerfObstacle, tracefs_obstacle
from instruments import server_process

# Counted by name if this kernel has them: receiving, sending, waiting, and making connections. The rest count as one:
# perf takes 40 ms to release each tracepoint, and no server here makes others more than a few times a connection.
SYSTEM_CALLS = (
    *("recvfrom", "read", "sendto", "write", "writev"),
    *("epoll_wait", "epoll_pwait", "poll", "ppoll", "pselect6", "io_uring_enter", "futex"),
    *("accept4", "close", "epoll_ctl"),
)
ALL_CALLS = "raw_syscalls:sys_enter"
CALL_PREFIX = "syscalls:sys_enter_"
SOFTWARE_EVENTS = {"context_switch": "context-switches", "page_fault": "page-faults"}
COUNT_LINE = re.compile(r"^(\d+|<not \w+>),[^,\n]*,([^,\n]+),", re.MULTILINE)
PERF_TIMEOUT_S = 60.0


def refusal(said: str) -> str:
    """Why perf did not count: in its output the text after "Error:"."""
    match = re.search(r"^Error:\s*(.+)", said, re.MULTILINE)
    return match[1] if match else one_line(said)[:300]


def kernel_obstacle(said: str) -> Obstacle | None:
    """What keeps perf from counting in the kernel, from the output of `perf stat -e page-faults`.

    Without permission perf counts in user space alone, and shows it only by a letter behind the event's name.
    """
    if ",page-faults," in said:
        return None
    if ",page-faults:u," in said or "perf_event_paranoid" in said:
        command = "sudo sysctl kernel.perf_event_paranoid=1"
        return Obstacle("perf may not count in the kernel", command)
    return Obstacle(f"perf may not count: {refusal(said)}")


def check_permission() -> None:
    """Takes 10 ms. Raises PerfObstacle with all that must be fixed."""
    if shutil.which("perf") is None:
        raise PerfObstacle("unavailable", "perf is not installed: make setup names its package")
    obstacles = [kernel_obstacle(try_perf("page-faults").stderr), tracefs_obstacle()]
    if any(obstacles):
        raise PerfObstacle("not_permitted", "; ".join(map(str, filter(None, obstacles))))


def try_perf(event: str) -> "subprocess.CompletedProcess[str]":
    """Let perf count an event in a short process."""
    command = ["perf", "stat", "-x,", "-e", event, "true"]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)


def wait_for_answer(perf: Process, answers: int) -> str:
    """Wait until perf answers a command; empty if it does, else what it said when it ended. Raises RunError."""
    watched = (
        select.poll()
    )  # select() takes no descriptor above 1023, and a side may have thousands of connections
    watched.register(answers, select.POLLIN)
    if not watched.poll(1000 * PERF_TIMEOUT_S):
        raise server_process.RunError(f"perf did not answer within {PERF_TIMEOUT_S:g} s")
    if os.read(answers, 16):
        return ""
    said = perf.communicate(timeout=PERF_TIMEOUT_S)[1]
    if perf.returncode < 0:  # killed: the machine does permit perf
        raise server_process.RunError(f"perf ended: {describe_status(perf.returncode, said)}")
    return said or "it said nothing"


@contextlib.contextmanager
def counting(pids: Sequence[int], events: Sequence[str]) -> Iterator[Process]:
    """Start perf. It counts events of these processes, and of processes they start later, until it gets SIGINT.

    Raises PerfObstacle if perf refuses.
    """
    orders, ours = os.pipe()
    os.write(ours, b"enable\n")  # perf answers when it has attached its counters
    command = ["perf", "stat", "-x,", "-e", ",".join(events), "-p", ",".join(map(str, pids))]
    try:
        with running([*command, f"--control=fd:{orders},1"], pass_fds=[orders]) as perf:
            assert perf.stdout is not None
            if said := wait_for_answer(perf, perf.stdout.fileno()):
                status = "not_permitted" if "ermission" in said else "unavailable"
                raise PerfObstacle(status, f"perf stat failed: {refusal(said)}")
            yield perf
    finally:
        os.close(orders)
        os.close(ours)


def parse_counts(output: str, events: Sequence[str]) -> dict[str, int]:
    """perf stat's output (-x,) → the count of each event.

    Raises PerfObstacle if this machine does not support one, RunError if one was not counted.
    """
    counts = {event: count for count, event in COUNT_LINE.findall(output)}
    lacking = {event: counts.get(event, "no line") for event in events}
    lacking = {event: count for event, count in lacking.items() if not count.isdigit()}
    said = "perf did not count " + ", ".join(f"{event} ({why})" for event, why in lacking.items())
    if "<not supported>" in lacking.values():
        raise PerfObstacle("unavailable", said)
    if lacking:
        raise server_process.RunError(said)
    return {event: int(counts[event]) for event in events}
