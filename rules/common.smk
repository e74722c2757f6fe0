import functools
import json
import os
import re
import shlex
import sys
from pathlib import Path

# The folder of the Snakefile, also where another one includes it or uses it as a module.
ROOT = Path(workflow.current_basedir).parent
sys.path.insert(0, str(ROOT / "scripts"))

from common import environment

IGNORED = list(environment.notes(os.environ))
environment.clean()

from sweep import workloads
from sweep.cells import (
    LOAD,
    RECORD,
    REFERENCE,
    Cell,
    base_of,
    cells_of,
    file_of,
    is_control,
    measured_servers,
    order_of,
    points_of,
    record_path,
)
from instruments.external import describe_launcher
from hosts.lock import LOCK_PATH
from common.modules import ROOT_VARIABLE, identity_of
from hosts.network import is_remote
from hosts.perf_permission import obstacle_of
from common.processes import LEASH

# Not `import workflow`: that name is Snakemake's here.
from workflow import (
    config_check,
    failures,
    obstacles,
    outcome,
    resolution,
    session,
    snakemake_internals,
    sources,
)
from workflow.toolchain import LANGUAGE_FLAGS, LIBRARIES, TIMELESS_FLAGS

# ROOT: where scripts and servers are. What Snakemake compares (inputs, parameters, a shell command before it is filled in)
# names none of them, so that a checkout may be moved or copied with its results; their content is a parameter.
# leashed COMMAND: it dies with this Snakemake, whatever kills that.
# shared COMMAND: so, and compiles and plots of any checkout wait while a cell is measured, and cells wait for them
# (scripts/hosts/lock.py).
PREFIX = (
    f"ROOT={shlex.quote(str(ROOT))}; "
    f'leashed() {{ exec {shlex.join(LEASH)} {os.getpid()} "$@"; }}; '
    f'shared() {{ leashed flock --shared --no-fork {LOCK_PATH} "$@"; }}; '
)
os.environ[ROOT_VARIABLE] = str(ROOT)  # for launchers of external servers
shell.prefix(PREFIX.replace("{", "{{").replace("}", "}}"))  # no format, whatever the path has in it

config_check.complete(config, *snakemake_internals.config_sources(workflow), ROOT)
SERVERS = list(config["servers"])
MEASURED = measured_servers(config)
EXTERNAL = {
    server: describe_launcher(config["external"][server], str(ROOT))
    for server in SERVERS
    if server in config["external"]
}
COMPILED = [*(server for server in MEASURED if base_of(server) not in EXTERNAL), REFERENCE, LOAD]
SOURCES = sources.Sources(str(ROOT / "servers"))
if workflow.is_main_process:  # nodes of a cluster do not compile
    SOURCES = sources.find(SOURCES.folder, COMPILED, config["compile"])
REFERENCE_BINARY = [f"results/bin/{REFERENCE}"] if config["paired_s"] else []
WORKLOADS = workloads.of_config(config)
PROFILED = workloads.profiled(config)
CELLS = cells_of(config)
POSITION = order_of(config)
BUILD_PRIORITY = len(POSITION) + 1  # before all cells
# As the cells' scripts take them.
NETWORK = json.dumps(config["network"], sort_keys=True)
CPUS = json.dumps(None if config["cpus"] == "auto" else config["cpus"], sort_keys=True)
COMPILER = config["compile"]["compiler"]
FLAGS = [*LANGUAGE_FLAGS, *config["compile"]["flags"]]
SESSION = session.Session(
    config,
    str(ROOT),
    FLAGS,
    snakemake_internals.folder_of(workflow),
    revision_notes=SOURCES.notes,
    environment_notes=IGNORED,
)

snakemake_internals.install(
    workflow,
    find_failed=lambda jobs: [failure.job for failure in failures.find(jobs, EXTERNAL)],
    begin_block=lambda facts_path: session.begin_block(SESSION, facts_path),
)


def binary_of(server):
    """Which of results/bin a server runs: a control of ours has one of its own."""
    return server if server in COMPILED else base_of(server)


def workers_of(wildcards):
    """Processes: of *_multitask and *_exclusive as many as config says."""
    has_several = file_of(wildcards.server).endswith(("_multitask", "_exclusive"))
    return config["workers"] if has_several else 1


def all_cores(wildcards):
    """Not at once: -j may still change their number (wrap_execute in scripts/workflow/snakemake_internals.py)."""
    return workflow.cores


@functools.cache
def obstacle_here(check):
    """Why perf may not look at servers here; empty if it may. Of another host nothing is known before the run."""
    is_elsewhere = is_remote(config["network"]["server"]) or not workflow.local_exec
    return "" if is_elsewhere else obstacle_of(check)


def priority_of(wildcards):
    """Of a cell: earlier in the order is higher, and 0 is what is not in the sweep."""
    numbers = int(wildcards.connections), int(wildcards.repeat)
    cell = Cell(wildcards.server, *numbers, wildcards.workload)
    return len(POSITION) - POSITION.get(cell, len(POSITION))


# --- Of rules/latency.smk ---


# Of each workload, the cells from which its capacity is known.
def rated_grid():
    return {
        workload: {
            "connections": rates.connections_of(config, workload),
            "repeats": points_of(config)[workload][1],
            "servers": SERVERS,
        }
        for workload in RATED_WORKLOADS
    }


def cells_of_capacity(wildcards):
    return [
        record_path(Cell(server, its["connections"], repeat, workload))
        for workload, its in rated_grid().items()
        for server in its["servers"]
        for repeat in range(1, its["repeats"] + 1)
    ]


# Below all cells of the sweep; earlier in the order is higher.
def rated_priority_of(wildcards):
    its = wildcards.server, wildcards.workload, wildcards.rate, int(wildcards.repeat)
    return -RATED_POSITION.get(rates.RatedCell(*its), 0)


# What belongs to a result set for which somebody has once asked.
def asked_for(paths):
    return paths if RATED and os.path.exists(LATENCY_TABLES[0]) else []


wildcard_constraints:
    server="|".join(map(re.escape, MEASURED)),
    workload="|".join(WORKLOADS),
    connections="[0-9]+",
    repeat="[0-9]+",
