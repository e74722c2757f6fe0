"""The load generator wrk: start a load, watch it, and read its result.

wrk runs a closed loop: each connection has one request under way, so its latencies are not the response times of users
who arrive whether or not the server is ready (docs/method.md, "Closed loop").
"""

import contextlib
import ctypes
import json
import math
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from common.processes import NOT_FOUND, Process, describe_status, running
from hosts import proc

REPORT_SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "wrk_report.lua")
PERCENTILES = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99)
# wrk checks every 0.1 s whether to stop: interrupted a little early it stops in time, not 0.1 s late.
STOP_LEAD_S = 0.03
LOOK_S = 0.001
BEGIN_TIMEOUT_S = 30.0
FINISH_TIMEOUT_S = 30.0
# SIGINT may come before the sleep that it should end, so wrk is interrupted again after this time.
TELL_AGAIN_S = 5.0
# Python lacks tgkill(2). With a C library that lacks it too, any thread may get the signal.
TGKILL = getattr(ctypes.CDLL(None), "tgkill", lambda pid, _, number: os.kill(pid, number))
# We end wrk with SIGINT. Its own -d is so much later that it never comes first, however late we wake up.
OWN_END_SLACK_S = 60


class LoadError(Exception):
    """The load failed; the text is one line for the user."""


class Unstopped(OSError):
    """wrk ran on after it was interrupted, so that its time is too long: not a server's fault."""


def threads_for(connections: int, cpus: int) -> int:
    """The number of wrk's threads: at most one per CPU, and a divisor of the connections, or wrk would open fewer."""
    return max(count for count in range(1, min(connections, cpus) + 1) if connections % count == 0)


def url_of(host: str, port: int) -> str:
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


@dataclass
class Wrk:
    """A running wrk, once it has begun. Raises LoadError, or OSError for faults that are not a server's."""

    process: Process
    command: list[str]
    connections: int
    duration_s: float
    wall_ahead_s: float  # proc.wall_clock_ahead_s() before its start
    pipelined: int

    def __post_init__(self) -> None:
        self._wait_until_begun()
        self.started_s = time.monotonic()

    def _wait_until_begun(self) -> None:
        """Wait, since a SIGINT before wrk has its handler would kill it, and one before it sleeps would not end it."""
        # Count tries, not time: if this process is late, as after a pause of the machine, that is not wrk's fault.
        for _ in range(round(BEGIN_TIMEOUT_S / LOOK_S)):
            if has_begun(self.process.pid):
                return
            self._sleep(LOOK_S)
        # Perhaps the server accepts no connection.
        raise LoadError(f"wrk did not begin within {BEGIN_TIMEOUT_S:g} s")

    def _sleep(self, seconds: float) -> None:
        """Sleep; raises LoadError if wrk ends meanwhile."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
            self._result()  # says why, if it failed
            raise LoadError(f"wrk ended before its {self.duration_s:g} s were over")

    def check_running(self) -> None:
        """Raises LoadError if it has ended."""
        if self.process.poll() is not None:
            self._sleep(0)

    def stop(self) -> None:
        """Pause it, with its connections, until go_on()."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def check_stopped(self) -> None:
        """Raises LoadError if it has ended, Unstopped if it does not pause."""
        deadline_s = time.monotonic() + TELL_AGAIN_S
        while not is_stopped(self.process.pid):
            self.check_running()
            if time.monotonic() > deadline_s:
                raise Unstopped("wrk did not pause when it was told to")
            time.sleep(0.005)

    def wait_until(self, elapsed_s: float) -> None:
        """Sleep until so many seconds have passed since the start. Raises LoadError if wrk ends before."""
        self._sleep(max(0.0, self.started_s + elapsed_s - time.monotonic()))

    def finish(self) -> dict[str, Any]:
        """Wait for the end and return the parsed result, with wrk's own text under `raw_text`.

        wrk times everything with the wall clock. `wall_clock_step_share` is the share of the run by which that clock
        was set meanwhile.
        """
        self.wait_until(self.duration_s - STOP_LEAD_S)
        self.interrupt()
        return self.result()

    def interrupt(self) -> None:
        """End it: send SIGINT to its main thread, since another thread's handler would not end that one's sleep."""
        if self.process.poll() is None:
            TGKILL(self.process.pid, self.process.pid, signal.SIGINT)

    def result(self) -> dict[str, Any]:
        """The result, as of finish(), after interrupt(). Raises Unstopped if it needed a second interrupt."""
        result = self._result()
        step_s = proc.wall_clock_ahead_s() - self.wall_ahead_s
        return {**result, "wall_clock_step_share": step_s / (time.monotonic() - self.started_s)}

    def _result(self) -> dict[str, Any]:
        waited_s = 0.0
        while waited_s < FINISH_TIMEOUT_S:
            try:
                output, errors = self.process.communicate(timeout=TELL_AGAIN_S)
                break
            except subprocess.TimeoutExpired:
                waited_s += TELL_AGAIN_S
                self.interrupt()
        else:
            late = f"wrk did not end within {FINISH_TIMEOUT_S:g} s after its time"
            back_s = self.wall_ahead_s - proc.wall_clock_ahead_s()
            if back_s > 1:
                late += f": the wall clock, which it uses, was set back by {back_s:.0f} s"
            raise OSError(late)  # not a server's fault, either
        if self.process.returncode == NOT_FOUND:
            raise OSError("wrk is not installed: see make setup")  # not a server's fault
        if self.process.returncode != 0:
            how = describe_status(self.process.returncode, errors or output)
            raise LoadError(f"wrk failed: {how}")
        if waited_s:
            raise Unstopped(f"wrk ran on for {waited_s:g} s after it was told to end")
        return parse_report(output, self.connections, self.pipelined)


def is_stopped(pid: int) -> bool:
    """Whether SIGSTOP has paused all threads of a process."""
    states = [
        proc.read_text(f"/proc/{pid}/task/{thread}/stat").rpartition(")")[2].split()[0]
        for thread in os.listdir(f"/proc/{pid}/task")
    ]  # Z for a process that has ended but was not waited for
    return set(states) == {"T"}


def has_begun(pid: int) -> bool:
    """Whether wrk's threads work, and its main thread has a handler for SIGINT and sleeps until the end.

    A shell that starts wrk may also sleep with such a handler, but has one thread.
    """
    try:
        lines = proc.read_text(f"/proc/{pid}/status").splitlines()
    except OSError:  # it has ended
        return False
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    catches_sigint = int(status["SigCgt"], 16) >> (signal.SIGINT - 1) & 1
    return status["State"].startswith("S") and int(status["Threads"]) > 1 and bool(catches_sigint)


@contextlib.contextmanager
def running_load(
    url: str,
    *,
    connections: int,
    threads: int,
    duration_s: float,
    expected_body_bytes: int | None = None,
    pipelined: int = 1,
    connection_per_request: bool = False,
) -> Iterator[Wrk]:
    """Start a load; afterwards nothing of it is left.

    With an expected size, wrk compares every body with one of that size, which is too slow for a timed load. The
    result's `wrong_responses` counts responses with another body, in addition to errors. pipelined: requests under way
    on each connection.
    """
    command = ["wrk", "-t", str(threads), "-c", str(connections)]
    command += ["-d", f"{math.ceil(duration_s) + OWN_END_SLACK_S}s", "-s", REPORT_SCRIPT]
    if connection_per_request:
        command += ["-H", "Connection: close"]
    command += [url]
    if expected_body_bytes is not None or pipelined > 1:
        command += ["--", str(expected_body_bytes or 0), str(pipelined)]
    wall_ahead_s = proc.wall_clock_ahead_s()
    with running(command) as process:
        yield Wrk(process, command, connections, duration_s, wall_ahead_s, pipelined)


def measured_histogram(histogram: dict[int, int], interval_us: int) -> dict[int, int]:
    """The measured latencies, without those that wrk synthesizes to correct "coordinated omission".

    At its end wrk adds, for each latency n of at least 2 × interval_us (run time per request of a connection),
    as many at n - interval_us, n - 2 × interval_us, … while these are above interval_us (stats_correct in its
    stats.c). The count at n came from n itself and from greater latencies, so the additions can be removed exactly,
    from the greatest latency down.
    """
    measured = dict(histogram)
    # wrk does not list what it adds below the smallest measured latency, as it does if requests are pipelined.
    least = max(interval_us, min(histogram, default=0) - 1)
    for latency in sorted(histogram, reverse=True):
        count = measured[latency]
        if latency < 2 * interval_us or count == 0:
            continue
        for synthetic in range(latency - interval_us, least, -interval_us):
            measured[synthetic] -= count
    return {latency: count for latency, count in measured.items() if count}


def percentile(histogram: dict[int, int], percent: float) -> int:
    """The smallest latency that at least `percent` % of the requests do not exceed (nearest rank)."""
    rank = max(1, math.ceil(sum(histogram.values()) * percent / 100))
    seen = 0
    for latency in sorted(histogram):
        seen += histogram[latency]
        if seen >= rank:
            return latency
    raise ValueError("an empty histogram has no percentiles")


def latency_figures(measured: dict[int, int], reported_count: int) -> dict[str, float | None]:
    """The latency fields of a record, in µs, from measured latencies; None if no request was answered."""
    count = sum(measured.values())
    figures: dict[str, float | None] = {
        "latency_mean_us": sum(us * n for us, n in measured.items()) / count if count else None
    }
    for percent in PERCENTILES:
        figures[f"latency_p{percent:g}_us"] = percentile(measured, percent) if count else None
    figures["latency_max_us"] = max(measured) if count else None
    figures["latency_synthetic_share"] = 1 - count / reported_count if reported_count else 0.0
    return figures


def parse_report(output: str, connections: int, pipelined: int = 1) -> dict[str, Any]:
    """wrk's output with wrk_report.lua → requests, duration_s, bytes, errors by kind, latencies, raw output.

    Raises LoadError if the report is missing, or if its histogram does not hold one latency for each request, or for
    each `pipelined` requests.
    """
    text, _, line = output.rstrip("\n").rpartition("\n")
    try:
        report = json.loads(line)
    except ValueError:
        raise LoadError(f"wrk gave no report; its last line is {line[:80]!r}") from None
    histogram = dict(
        zip(report["histogram"]["latency_us"], report["histogram"]["count"], strict=True)
    )
    requests, duration_us = report["requests"], report["duration_us"]
    measured = histogram
    if requests >= connections:
        measured = measured_histogram(histogram, duration_us // (requests // connections))
    # wrk counts a response later than its timeout (2 s), but does not put it into the histogram.
    expected = requests - report["errors"]["timeout"]
    surplus = sum(measured.values()) * pipelined - expected
    if abs(surplus) > (pipelined - 1) * connections or min(measured.values(), default=0) < 0:
        raise LoadError(
            f"wrk's histogram holds {sum(measured.values())} measured latencies of {expected} requests"
        )
    return {
        "requests": requests,
        "duration_s": duration_us / 1e6,
        "requests_per_second": requests / (duration_us / 1e6),
        "response_bytes": report["bytes"],
        "errors_by_kind": report["errors"],
        "wrong_responses": report["wrong_responses"],
        **latency_figures(measured, sum(histogram.values())),
        "raw_text": text,
        "raw_histogram": report["histogram"],
    }
