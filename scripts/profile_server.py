#!/usr/bin/env python3
"""Profile a server under load with perf, in a run of its own (M18): folded stacks, and the facts that vouch for them.

Facts are JSON with a status: ok; not_permitted or unavailable, with the reason and what mends it, when this machine
does not let us; invalid when a gate failed. In these cases there are no stacks. Faults give one line and status 1.
"""

import argparse
import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import load
import machine
import profile_gates
import progress
import records
import runs
import server_process
from perf_permission import CAP_PERFMON, CAP_SYS_ADMIN, permission_obstacle
from processes import Process, one_line, running

STACK_BYTES = 8192  # dwarf unwinding: 4096 is too small
BUFFER_PAGES = 1024  # of perf for each CPU: room for a second of samples that nobody fetches
ATTEMPTS = 2  # a profile that fails a gate, as on a busy machine, is made once more
PERF_TIMEOUT_S = 60.0


class NotProfiled(Exception):
    """No profile on this machine, and why."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def _sysctl(name: str) -> int:
    return int(Path("/proc/sys", *name.split(".")).read_text())


def _capabilities() -> int:
    status = Path("/proc/self/status").read_text()
    match = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return int(match[1], 16) if match else 0


def stackcollapse_script() -> str:
    """perf's own folding script. Raises NotProfiled if this machine has no perf, or no such part of it."""
    if shutil.which("perf") is None:
        raise NotProfiled("unavailable", "perf is not installed: make setup names its package")
    run = subprocess.run(["perf", "--exec-path"], check=False, capture_output=True, text=True)
    script = Path(run.stdout.strip()) / "scripts/python/stackcollapse.py"
    if run.returncode != 0 or not script.exists():
        raise NotProfiled("unavailable", "this perf has no scripts/python/stackcollapse.py")
    return str(script)


def check_permission() -> None:
    obstacle = permission_obstacle(
        _capabilities(), _sysctl("kernel.perf_event_paranoid"), _sysctl("kernel.kptr_restrict")
    )
    if obstacle:
        raise NotProfiled("not_permitted", obstacle)


def obstacle_here() -> str:
    """What keeps this machine from profiling; empty if nothing does."""
    try:
        stackcollapse_script()
        check_permission()
    except NotProfiled as obstacle:
        return str(obstacle)
    return ""


def obstacle_met(facts_path: str, obstacle: str) -> str:
    """What makes a profile stale: one that an obstacle prevented is made when that is gone, and a good one is kept
    when there is a new one, as after a reboot that has reset a sysctl."""
    try:
        facts = json.loads(Path(facts_path).read_text())
    except (OSError, ValueError):
        return obstacle
    return "" if facts.get("status") == "ok" else obstacle


def scope_of(
    capabilities: int, paranoid: int, cpus: Sequence[int], pids: Sequence[int]
) -> list[str]:
    """What perf samples: the server's CPUs where we may, since a timer for each task misses short bursts.

    A server with a thread per connection switches every 10 µs: timers by task took 70 % of the samples due, timers
    by CPU 96 %. Samples of other processes are left out when folding.
    """
    privileged = bool(capabilities >> CAP_PERFMON & 1 or capabilities >> CAP_SYS_ADMIN & 1)
    if not privileged and paranoid > 0:
        return ["--pid", ",".join(map(str, pids))]
    scope = ["--cpu", machine.format_cpu_list(cpus)]
    return [*scope, f"--mmap-pages={BUFFER_PAGES}"] if privileged else scope


class Recording:
    """A running perf record, which samples only between enable and disable."""

    def __init__(self, process: Process, command: list[str], control: int, answers: int) -> None:
        self.process = process
        self.command = command
        self._control = control
        self._answers = answers

    def tell(self, command: str) -> None:
        """Give perf a command and wait until it is done. Raises NotProfiled if perf has ended instead."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._control, f"{command}\n".encode())
        if not select.select([self._answers], [], [], PERF_TIMEOUT_S)[0]:
            raise server_process.RunError(f"perf did not answer within {PERF_TIMEOUT_S:g} s")
        if not os.read(self._answers, 16):
            error = one_line(self.process.communicate(timeout=PERF_TIMEOUT_S)[1])
            raise NotProfiled("not_permitted", f"perf record failed: {error[:300]}")

    def finish(self) -> None:
        self.process.send_signal(signal.SIGINT)
        _, error = self.process.communicate(timeout=PERF_TIMEOUT_S)
        if self.process.returncode not in (0, -signal.SIGINT, 128 + signal.SIGINT):
            raise server_process.RunError(f"perf record failed: {one_line(error)}")


@contextlib.contextmanager
def recording(scope: Sequence[str], frequency_hz: int, output: str) -> Iterator[Recording]:
    """Start perf, which is ready when it answers the first command."""
    control_read, control_write = os.pipe()
    answers_read, answers_write = os.pipe()
    command = ["perf", "record", "-q", "-N", "-e", "cpu-clock", "-F", str(frequency_hz)]
    command += ["--call-graph", f"dwarf,{STACK_BYTES}", *scope, "-o", output, "--delay=-1"]
    command += [f"--control=fd:{control_read},{answers_write}"]
    try:
        with running(command, pass_fds=[control_read, answers_write]) as process:
            os.close(control_read)
            os.close(answers_write)
            yield Recording(process, command, control_write, answers_read)
    finally:
        os.close(control_write)
        os.close(answers_read)


def run_perf(*arguments: str) -> str:
    run = subprocess.run(["perf", *arguments], capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise NotProfiled("unavailable", f"perf {arguments[0]} failed: {one_line(run.stderr)}")
    return run.stdout


def record_profile(arguments: argparse.Namespace, perf_data: str) -> dict[str, Any]:
    """Run server, load and perf; perf's data goes to a file, what was seen of the run is returned."""
    longest_s = arguments.warmup_s + arguments.duration_s + PERF_TIMEOUT_S
    paranoid = _sysctl("kernel.perf_event_paranoid")
    with runs.started(arguments) as run:
        pids = run.server.pids
        scope = scope_of(_capabilities(), paranoid, run.split.server, pids)
        # perf takes about a second to start: during the warm-up.
        with (
            load.running_load(
                run.url,
                connections=arguments.connections,
                threads=run.threads,
                duration_s=longest_s,
            ) as wrk,
            recording(scope, arguments.frequency_hz, perf_data) as perf,
        ):
            wrk.wait_until(arguments.warmup_s)
            perf.tell("enable")
            cpu_before_ns = machine.cpu_time_ns(pids)
            time.sleep(arguments.duration_s)
            cpu_ns = machine.cpu_time_ns(pids) - cpu_before_ns
            perf.tell("disable")
            wrk.wait_until(0)  # it is still there
            perf.finish()
        run.server.stop()
    return {
        "perf_command": perf.command,
        "server_command": run.server.command,
        "load_command": wrk.command,
        "server_pids": pids,
        "server_cpu_s": cpu_ns / 1e9,
    }


def profile(arguments: argparse.Namespace, script: str) -> tuple[str, dict[str, Any]]:
    """Folded stacks and facts. perf's data, some MB a second, is dropped."""
    with tempfile.TemporaryDirectory(prefix="profile_") as folder:
        data = os.path.join(folder, "perf.data")
        facts = record_profile(arguments, data)
        source = ["-i", data, "--pid", ",".join(map(str, facts["server_pids"]))]
        folded = run_perf("script", "--no-inline", *source, "-s", script, "--", "--kernel")
        stacks = profile_gates.parse_folded(folded)
        events = profile_gates.parse_event_counts(run_perf("report", "--stats", "-i", data))
        report = ["report", "--no-children", "-g", "none", "-F", "sample,pid,sym", "--stdio"]
        reported = profile_gates.parse_self_counts(run_perf(*report, *source))
    facts["samples"] = sum(stacks.values())
    expected = arguments.frequency_hz * facts["server_cpu_s"]
    failed = profile_gates.failed_gates(stacks, events, reported, expected)
    facts["status"] = "invalid" if failed else "ok"
    facts["reason"] = "; ".join(failed)
    return "" if failed else folded, facts


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", help="the compiled server")
    parser.add_argument("folded", help="where the folded stacks go")
    parser.add_argument("facts", help="where the facts go (JSON)")
    parser.add_argument("--frequency-hz", type=int, default=499)
    runs.add_arguments(parser, duration_s=4.0)
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    name = os.path.basename(arguments.binary)
    runs.end_cleanly_on_sigterm()
    asked = ("connections", "duration_s", "frequency_hz", "warmup_s")
    facts: dict[str, Any] = {"server": name, **{key: getattr(arguments, key) for key in asked}}
    folded = ""
    try:
        script = stackcollapse_script()
        check_permission()
        with machine.exclusive_machine():
            for attempt in range(1, ATTEMPTS + 1):
                folded, seen = profile(arguments, script)
                seen["attempts"] = attempt
                if seen["status"] == "ok":
                    break
    except NotProfiled as obstacle:
        seen = {"status": obstacle.status, "reason": str(obstacle)}
    except server_process.Unavailable as obstacle:
        seen = {"status": "unavailable", "reason": str(obstacle)}
    except (server_process.RunError, load.LoadError, OSError, subprocess.TimeoutExpired) as error:
        print(f"profile_server: {name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    records.write_text(arguments.folded, folded)
    records.write_text(arguments.facts, json.dumps({**facts, **seen}, indent=2) + "\n")
    told = f"{seen['samples']} samples" if seen["status"] == "ok" else "no flamegraph"
    reason = f": {seen['reason']}" if seen["reason"] else ""
    with contextlib.suppress(OSError, ValueError):  # a torn plan is no fault of the profile
        progress.tell(name, facts["connections"], "profile", [told + reason])
    return 0


if __name__ == "__main__":
    sys.exit(main())
