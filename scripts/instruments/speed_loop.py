"""Run a loop that always does the same on some CPUs; print its work and CPU time in each window of time, as JSON.

The loop sends to itself over a pair of sockets, since the kernel's sockets are most of a server's work, and a loop of
arithmetic does not slow down with them: over 0.1 s, the work per CPU time of this loop correlated by 0.7 to 0.9 with
that of a loop over TCP, and arithmetic's by -0.4 to 0.1 with either (2 virtual CPUs of an AMD EPYC, Linux 6.18, with
other work on them). It needs only the standard library, since it runs where a side runs.
"""

import argparse
import json
import os
import socket
import sys
import time
from typing import NamedTuple

WINDOW_S = 0.01
ROUNDS = 4  # between two readings of the clock: some 5 µs
MESSAGE = b"x" * 100


class Window(NamedTuple):
    work: float  # the number of times that the loop's body ran
    cpu_ns: float  # this process's CPU time


def windows(seconds: float) -> list[Window]:
    """Windows of WINDOW_S each. A body that runs across a window's end is divided between both by time."""
    measured: list[Window] = []
    near, far = socket.socketpair()
    with near, far:
        now_ns = end_ns = time.perf_counter_ns()
        cpu_now_ns = time.thread_time_ns()
        work = cpu_ns = 0.0
        for _ in range(round(seconds / WINDOW_S)):
            end_ns += round(WINDOW_S * 1e9)
            while now_ns < end_ns:
                before_ns, cpu_before_ns = now_ns, cpu_now_ns
                for _ in range(ROUNDS):
                    near.send(MESSAGE)
                    far.recv(len(MESSAGE))
                now_ns, cpu_now_ns = time.perf_counter_ns(), time.thread_time_ns()
                last_cpu_ns = cpu_now_ns - cpu_before_ns
                work += 1
                cpu_ns += last_cpu_ns
            # The body may take longer than the next window, if another process had the CPU.
            later = (now_ns - end_ns) / (now_ns - before_ns)
            measured.append(Window(work - later, cpu_ns - later * last_cpu_ns))
            work, cpu_ns = later, later * last_cpu_ns
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cpus", type=int, nargs="+", help="a list like 0-2,8")
    parser.add_argument("--seconds", type=float, default=4.0, help="(default: %(default)s)")
    arguments = parser.parse_args()
    try:
        os.sched_setaffinity(0, arguments.cpus)
    except OSError as error:
        sys.exit(f"CPUs {', '.join(map(str, arguments.cpus))}: {error.strerror}")
    print(json.dumps(windows(arguments.seconds)))


if __name__ == "__main__":
    main()
