#!/usr/bin/env python3
"""Measure a server at one rate: an open loop sends requests at times drawn before; write a JSON record.

A record exists only if the run ended and was checked. Its status is `ok`, `overloaded` (the server fell behind the
rate, which is a result), `invalid`, or, with a reason, `failed` or `unavailable`. If the machine fails, the script
prints one line and ends with 1.
"""

import argparse
import contextlib
import sys
import zlib
from dataclasses import dataclass
from typing import Any

from common import files
from common.command import report
from common.terminal import Color, Part
from hosts import proc
from instruments import disturbance, open_loop, server_process
from measuring import pairing, record, runs
from measuring.load_side import LoadSide
from measuring.server_side import ServerSide
from sweep import rated_flags, rates, records
from workflow import progress

AllSides = runs.Sides[ServerSide, LoadSide]
# Of each side, for a ratio: of fewer requests it would mostly be that of opening connections.
LEAST_ANSWERED = 100
PERCENTILES = ("mean", "p50", "p90", "p99", "p999", "max")


@dataclass(frozen=True, kw_only=True)
class RatedArguments(runs.CellArguments):
    """rate: as in the record's path; rates: the file of plan_rates.py; rate_per_second: of requests."""

    load: str
    rate: str
    rates: str | None
    rate_per_second: float
    seed: int

    @property
    def drawn_from(self) -> int:
        """The seed of this repeat's times: another one in each, the same for all servers."""
        return zlib.crc32(f"{self.seed}/{self.workload_name}/{self.rate}/{self.repeat}".encode())


def run_load(
    run: runs.Run, arguments: RatedArguments, urls: list[str], duration_s: float
) -> dict[str, Any]:
    """Run the open loop to its end; its result, with the command."""
    both = run.sides
    command = open_loop.command_of(
        runs.program_at(both.load, both.network.load, arguments.load),
        urls,
        connections=run.connections,
        threads=run.threads,
        rate_per_second=arguments.rate_per_second,
        duration_s=duration_s,
        seed=arguments.drawn_from,
        body_bytes=arguments.workload.body_bytes,
        timeout_s=open_loop.ANSWER_TIMEOUT_S + run.connections * arguments.workload.handler_mean_s,
    )
    cpus = [] if run.split.shared else run.split.load
    return {**both.load.run_at_rate(command, duration_s, cpus, both.apart), "command": command}


def of_latencies(prefix: str, figures: dict[str, float | None]) -> dict[str, float | None]:
    return {f"{prefix}_{name}_us": figures[name] for name in PERCENTILES if name in figures}


def run_timed_load(run: runs.Run, arguments: RatedArguments) -> dict[str, Any]:
    """The measured load, and what the kernel knows of the server meanwhile."""
    server = run.sides.server
    before = server.read(tells_pressure=True)
    result = run_load(run, arguments, [run.url], arguments.duration_s)
    after = server.read(tells_pressure=True)
    cpu_ns = proc.cpu_time_between(*(proc.CpuReading(*its["cpu"]) for its in (before, after)))
    client = disturbance.readings(*result["readings"])
    elapsed_s = client[1].at_s - client[0].at_s
    answered = result["answered"] + run.connections  # each is opened with a request
    cpus = len(run.split.server)
    return {
        "requests": result["requests"],
        "duration_s": result["duration_s"],
        "offered_per_second": result["offered_per_second"],
        "achieved_per_second": result["achieved_per_second"],
        "latency_min_us": next(iter(result["histogram"]["us_low"]), None),
        **of_latencies("latency", result["latency_us"]),
        **of_latencies("generator_lateness", result["lateness_us"]),
        "errors": sum(result["errors"].values()),
        "errors_by_kind": result["errors"],
        "connections_unserved": result["connections_unserved"],
        "reconnects": result["reconnects"],
        "unsent": result["unsent"],
        "censored": result["censored"],
        "server_cpu_ns_per_request": None if cpu_ns is None else cpu_ns / max(answered, 1),
        "server_cpu_share": None if cpu_ns is None else cpu_ns / (elapsed_s * 1e9 * cpus),
        "server_memory_peak_kib": after["memory_peak_kib"],
        "load_command": result["command"],
        **disturbance.between(disturbance.readings(before, after, cpu_ns), client),
        "raw_histogram": result["histogram"],
    }


def run_paired_load(run: runs.Run, arguments: RatedArguments, url: str) -> dict[str, Any]:
    """Both servers at the rate, in turns; `cpu_ratio` and `paired`, whose lists have the server's value first.

    The generator changes targets, so that both meet the same moments of the machine: the ratio is of all that they did.
    """
    server = run.sides.server
    before = server.read_pair_cpu()
    result = run_load(run, arguments, [run.url, url], 2 * arguments.paired_s)
    after = server.read_pair_cpu()
    cpu_ns = [pairing.time_between(of_side) for of_side in zip(before, after, strict=True)]
    answered = [target["answered"] + run.connections for target in result["targets"]]
    errors = sum(sum(target["errors"].values()) for target in result["targets"])
    each = [
        None if time_ns is None else time_ns / count
        for time_ns, count in zip(cpu_ns, answered, strict=True)
    ]
    is_known = not errors and min(answered) >= run.connections + LEAST_ANSWERED
    ratio = each[0] / each[1] if is_known and each[0] and each[1] else None
    return {
        "cpu_ratio": ratio,
        "paired": {
            "cpu_ns": cpu_ns,
            "answered": answered,
            "errors": errors,
            "achieved_per_second": [its["achieved_per_second"] for its in result["targets"]],
            "latency_p99_us": [its["latency_us"]["p99"] for its in result["targets"]],
        },
    }


def measure(sides: AllSides, arguments: RatedArguments) -> dict[str, Any]:
    """Do the run once; returns the record's fields from there on. Raises one of runs.FAULTS, or Unavailable."""
    with runs.started(sides, arguments) as run:
        url = pairing.start_reference(run, arguments) if arguments.reference else ""
        seen = run_timed_load(run, arguments)
        if starved := seen["connections_unserved"]:
            raise server_process.Unavailable(
                f"it leaves {starved} of {run.connections} connections without an answer"
            )
        paired: dict[str, Any] = {"cpu_ratio": None, "paired": None}
        if url:
            paired = run_paired_load(run, arguments, url)
        seen["response_unchanged"] = run.answers_as_before()
        lost = sides.server.lost_idle() if run.idle_connections else None
        sides.server.stop_server()
    return {
        "server_cpus": run.split.server,
        "load_cpus": run.split.load,
        "cpus_shared": run.split.shared,
        "workers": run.workers,
        "server_command": run.command,
        "idle_connections": run.idle_connections,
        "idle_connections_asked": run.workload.idle_connections,
        "idle_connections_lost": lost,
        **seen,
        **paired,
    }


def measure_undisturbed(sides: AllSides, arguments: RatedArguments) -> dict[str, Any]:
    """Do the run, again if something disturbed it."""
    if arguments.reference:
        pairing.check_reference(arguments.reference)
    attempts = runs.repeat_while_disturbed(
        lambda: measure(sides, arguments),
        rated_flags.is_worth_repeating,
        arguments.disturbed_retries,
    )
    *earlier, seen = [{**its, **rated_flags.judge(its)} for its in attempts]
    return {**seen, "attempts": len(attempts), "earlier_attempts": earlier}


def describe(seen: dict[str, Any]) -> list[Part]:
    """A record's result for people."""
    if seen["status"] in ("failed", "unavailable"):
        color = Color.RED if seen["status"] == "failed" else Color.GREY
        return [Part(f"{seen['status']}: {seen['reason']}", color)]
    parts = [Part(f"{seen['achieved_per_second']:>9,.0f} requests/s")]
    if seen["requests"]:
        parts.append(Part(f"p50 {seen['latency_p50_us']:,.0f} µs"))
        parts.append(Part(f"p99 {seen['latency_p99_us']:,.0f} µs"))
    if seen["cpu_ratio"]:
        parts.append(Part(f"{seen['cpu_ratio']:.2f} × reference"))
    if seen["status"] != "ok":
        parts.append(Part(", ".join([seen["status"], *seen["flags"]]), Color.RED))
    elif "disturbed" in seen["flags"]:
        parts.append(Part("disturbed", Color.GREY))
    return parts


def parse_arguments() -> RatedArguments:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    runs.add_cell_arguments(parser, duration_s=1.0)
    parser.add_argument("--load", required=True, help="the compiled load generator")
    parser.add_argument(
        "--rate",
        required=True,
        help="q5000: 5,000 requests/s; s50: 50 %% of the capacity in the file of --rates",
    )
    parser.add_argument("--rates", help="the file of plan_rates.py")
    parser.add_argument("--seed", type=int, default=1, help="of the requests' times (%(default)s)")
    options = runs.parse_cell_options(parser)
    capacity = None
    if rates.share_of(options["rate"]) is not None:
        if options["rates"] is None:
            parser.error("--rate as a share needs --rates")
        workload = options["workload_name"]
        capacity = files.read_json(options["rates"], [workload])[workload]
    per_second = rates.rate_of(options["rate"], capacity and capacity["capacity_per_second"])
    return RatedArguments(**options, rate_per_second=per_second)


def main() -> int:
    arguments = parse_arguments()
    who = f"{arguments.server}, {arguments.workload_name}, {arguments.rate_per_second:,.0f}/s"
    with (
        runs.reported(f"measure_latency: {who}, repeat {arguments.repeat}"),
        runs.exclusive_sides(arguments, ServerSide) as sides,
    ):
        seen = record.make(
            sides, arguments, rates.positions_of, lambda: measure_undisturbed(sides, arguments)
        )
        seen |= {
            "share": rates.share_of(arguments.rate),
            "rate_per_second": arguments.rate_per_second,
            "load_sha256": record.sha256_of(arguments.load),
            "capacity_sha256": record.sha256_of(arguments.rates) if arguments.rates else None,
        }
        records.write(arguments.output, seen)
    if seen["status"] == "failed":
        print(f"measure_latency: {who}: {seen['reason']}", file=sys.stderr)
    with contextlib.suppress(OSError, ValueError):  # a torn plan is no fault of the measurement
        what = f"{arguments.workload_name} at {arguments.rate_per_second:,.0f}/s"
        progress.count()
        progress.print_line(
            arguments.server,
            arguments.connections,
            f"{what}, repeat {arguments.repeat}",
            describe(seen),
        )
    return 0


if __name__ == "__main__":
    sys.exit(report(main))
