#!/usr/bin/env python3
"""What paired ratios are worth on this machine: the tables of docs/precision.md. None of it is in `make test`.

precision.py noise CELLS_CSV        spread of each figure between repeats
precision.py alarms FOLDER          equal servers under several names: how often does a sweep tell two apart?
precision.py power FOLDER           servers that cost a little more: how often does a sweep find it?
precision.py bias FOLDER            do short slices give the ratio that long ones give?
"""

import argparse
import contextlib
import itertools
import math
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from scipy import stats

from helpers.checkouts import ROOT, SNAKEMAKE, copy_checkout, environment

sys.path.insert(0, str(ROOT / "scripts"))

import measure_cell
from analysis.verdicts import CPU_RATIO, DIFFERENCES, FASTER, WHOLE_SWEEP
from measuring import pairing, runs

EQUAL = [f"server_same_{letter}" for letter in "abcdefgh"]
# Nanoseconds that are spent before each answer: about 2, 3 and 5 % where an answer takes 6 µs of CPU time, and with one
# connection, where it takes 20, a third of that.
SPIN_NS = {"server_spins_140": 140, "server_spins_210": 210, "server_spins_350": 350}
LONG_SLICE_S = 1.0
COMMON = {"workloads": ["keepalive"], "control": None, "duration_s": 0.2, "warmup_s": 0.1}


def noise(options: argparse.Namespace) -> None:
    """Standard deviation of logarithms between repeats of a server, in percent, by number of connections."""
    cells = pd.read_csv(options.table)
    cells = cells[cells["status"] == "ok"]
    table = {}
    for name in (
        "cpu_ratio",
        "throughput_ratio",
        "server_cpu_ns_per_request",
        "requests_per_second",
    ):
        logarithms = np.log(cells[name].astype(float))
        of_repeats = logarithms.groupby([cells["server"], cells["connections"]])
        table[name] = 100 * np.sqrt(of_repeats.var().groupby("connections").mean())
        far = (logarithms - of_repeats.transform("median")).abs()
        table[f"{name}, by median"] = 148.26 * far.groupby(cells["connections"]).median()
    print(pd.DataFrame(table).T.round(1).to_string())


def checkout_in(folder: str) -> Path:
    checkout = Path(folder).resolve()
    if checkout.exists():
        sys.exit(f"{checkout} is there already: name a folder to be made")
    copy_checkout(checkout)
    return checkout


def sweeps(
    checkout: Path, number: int, servers: list[str], **changes: Any
) -> Iterator[pd.DataFrame]:
    """The verdicts on CPU time of so many new sweeps of some servers."""
    overlay = checkout / "precision.yaml"
    overlay.write_text(yaml.safe_dump({"servers": servers, **COMMON, **changes}))
    for index in range(number):
        folder = f"build/{servers[0]}_{index}"
        command = [*SNAKEMAKE, "-j1", "results/verdicts.csv", "--quiet", "all"]
        command += ["--directory", folder, "--configfile", str(overlay)]
        subprocess.run(
            [*command, "--config", f"seed={index}"], check=True, cwd=checkout, env=environment()
        )
        verdicts = pd.read_csv(checkout / folder / "results/verdicts.csv")
        yield verdicts[verdicts["metric"] == CPU_RATIO]


def alarms(options: argparse.Namespace) -> None:
    checkout = checkout_in(options.folder)
    for name in EQUAL:
        (checkout / f"servers/{name}.c").write_text('#include "server_epoll.c"\n')
    for verdicts in sweeps(checkout, options.sweeps, EQUAL, connections=options.connections):
        false = verdicts[verdicts["verdict"].isin(DIFFERENCES)]
        print(f"{len(verdicts)} comparisons, {len(false)} false verdicts", flush=True)
        print(false.to_string() if len(false) else "", flush=True)


def power(options: argparse.Namespace) -> None:
    """Each server that spins against server_epoll: its ratio, and the verdict over the sweep and at points."""
    checkout = checkout_in(options.folder)
    source = (ROOT / "tests/faulty/server_spins.c").read_text()
    for name, spin_ns in SPIN_NS.items():
        (checkout / f"servers/{name}.c").write_text(f"#define SPIN_NS {spin_ns}\n{source}")
    for verdicts in sweeps(checkout, options.sweeps, ["server_epoll", *SPIN_NS]):
        for name in SPIN_NS:
            pair = verdicts[(verdicts["server"] == "server_epoll") & (verdicts["other"] == name)]
            whole = pair["connections"] == WHOLE_SWEEP
            row = pair[whole].iloc[0]
            found = int((pair.loc[~whole, "verdict"] == FASTER).sum())
            print(
                f"{name}: {100 / row['ratio'] - 100:+.1f} % CPU time: {row['verdict']}"
                f" (p = {row['p_value']:.2g}, adjusted {row['p_adjusted']:.2g}; smallest detectable"
                f" {row['smallest_detectable_percent']:.1f} %), found at {found} of {(~whole).sum()} points",
                flush=True,
            )


def plan_of_long_slices(
    _connections: int, load_s: float, seed: str, _round_s: float | None = None
) -> pairing.Plan:
    """Blocks of A B B A, or B A A B."""
    chosen = random.Random(seed)
    firsts = [chosen.randrange(2) for _ in range(math.ceil(load_s / LONG_SLICE_S / 2))]
    blocks = [[first, 1 - first, 1 - first, first] for first in firsts]
    return pairing.Plan(LONG_SLICE_S, pairing.MOST_PAUSE_S, blocks)


def logarithms(checkout: Path, server: str, connections: int, load_s: float) -> list[float]:
    """Of cpu_ratio of each block, of a fresh pair of processes."""
    binaries = checkout / "results/bin"
    command = [str(binaries / server), "none", "--connections", str(connections)]
    command += ["--reference", str(binaries / "reference"), "--paired-s", str(load_s)]
    command += ["--repeat", str(random.randrange(10**9))]  # its slices' order is made of it
    with contextlib.redirect_stdout(sys.stderr):
        sys.argv = ["measure_cell", *command, "--disturbed-retries", "0"]
        arguments = measure_cell.parse_arguments()
    with runs.exclusive_sides(arguments, measure_cell.ServerSide) as sides:
        with runs.started(sides, arguments) as run:
            round_s = measure_cell.round_s_of(measure_cell.warm_up(run, arguments), arguments)
        seen = pairing.measure(sides, arguments, round_s)
    if seen["cpu_ratio"] is None:
        return []
    return [
        math.log(block["cpu_ns"][0] / block["requests"][0])
        - math.log(block["cpu_ns"][1] / block["requests"][1])
        for block in seen["paired"]["blocks"]
    ]


def difference_of_medians(one: Any, other: Any, axis: int = -1) -> Any:
    return np.median(one, axis=axis) - np.median(other, axis=axis)


def bias(options: argparse.Namespace) -> None:
    """Medians of blocks: short slices / A B B A in slices of LONG_SLICE_S, with 95 % bootstrap intervals."""
    checkout = checkout_in(options.folder)
    names = [f"results/bin/{name}" for name in [*options.servers, "reference"]]
    subprocess.run(
        [*SNAKEMAKE, "-j1", *names, "--quiet", "all"], check=True, cwd=checkout, env=environment()
    )
    plans = {
        "short": (pairing.plan_of, options.short_s),
        "long": (plan_of_long_slices, options.long_s),
    }
    points = list(itertools.product(options.servers, options.connections))
    found: dict[Any, dict[str, list[float]]] = {
        point: {"short": [], "long": []} for point in points
    }
    for _ in range(options.rounds):
        random.shuffle(points)
        for point in points:
            for kind, (plan, load_s) in plans.items():
                pairing.plan_of = plan
                found[point][kind] += logarithms(checkout, *point, load_s)
    for point, of_kinds in found.items():
        samples = [np.array(of_kinds[kind]) for kind in plans]
        low, high = stats.bootstrap(
            samples, difference_of_medians, method="percentile"
        ).confidence_interval
        spread = [f"{100 * sample.std(ddof=1):.1f} % of {len(sample)}" for sample in samples]
        ratios = [f"{np.exp(np.median(sample)):.3f}" for sample in samples]
        print(
            f"{point}: {' and '.join(ratios)}, difference {100 * difference_of_medians(*samples):+.1f} %"
            f" ({100 * low:+.1f} to {100 * high:+.1f}); sd of a block {spread}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("noise")
    command.add_argument("table", metavar="CELLS_CSV")
    command.set_defaults(run=noise)
    for run in (alarms, power, bias):
        command = commands.add_parser(run.__name__)
        command.add_argument("folder", help="to be made: a copy of this checkout")
        command.set_defaults(run=run)
        if run is not bias:
            command.add_argument("--sweeps", type=int, default=2)
        if run is not power:
            command.add_argument("--connections", type=int, nargs="+", default=[1, 64, 512])
    command.add_argument(
        "--servers",
        nargs="+",
        default=["server_thread", "server_poll", "server_epoll", "server_uring"],
    )
    command.add_argument("--rounds", type=int, default=2)
    command.add_argument("--short-s", type=float, default=1.5, help="on each side, in a round")
    command.add_argument("--long-s", type=float, default=16, help="the same, of long slices")
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
