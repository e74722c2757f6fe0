import json
import logging
import os
import re
import resource
import shlex
import sys
from pathlib import Path

from snakemake.common.configfile import load_configfile
from snakemake.dag import DAG
from snakemake.persistence import PersistenceBase
from snakemake.utils import validate

# On a full disk Snakemake's log file would be a traceback for each line.
logging.raiseExceptions = False

# The folder of the Snakefile, also where another one includes it or uses it as a module.
ROOT = Path(workflow.current_basedir).parent
sys.path.insert(0, str(ROOT / "scripts"))

import environment

IGNORED = list(environment.notes(os.environ))
environment.clean()

import records
import revisions
import working_folder
from cells import (
    RECORD,
    REFERENCE,
    SWEEP_PATH,
    Cell,
    base_of,
    file_of,
    is_control,
    cells_of,
    measured_servers,
    order_of,
    record_path,
)
from config_check import file_faults, schema_faults, sweep_faults
from external import describe_launcher
from machine import LOCK_PATH
from modules import ROOT_VARIABLE, identity_of
from network import is_remote
from processes import LEASH
from perf_permission import obstacle_of
from profile_server import obstacle_met
from working_folder import FolderInUse
from toolchain import (
    LANGUAGE_FLAGS,
    LIBRARIES,
    TIMELESS_FLAGS,
    BadLink,
    NoCompiler,
    libraries_of,
    source_identity,
    toolchain_identity,
)

# ROOT: where scripts and servers are. What Snakemake compares (inputs, parameters, a shell command before it is filled in)
# names none of them, so that a checkout may be moved or copied with its results; their content is a parameter.
# leashed COMMAND: it dies with this Snakemake, whatever kills that.
# shared COMMAND: so, and compiles and plots of any checkout wait while a cell is measured, and cells wait for them
# (scripts/machine.py).
PREFIX = (
    f"ROOT={shlex.quote(str(ROOT))}; "
    f'leashed() {{ exec {shlex.join(LEASH)} {os.getpid()} "$@"; }}; '
    f'shared() {{ leashed flock --shared --no-fork {LOCK_PATH} "$@"; }}; '
)
os.environ[ROOT_VARIABLE] = str(ROOT)  # for launchers of external servers
shell.prefix(PREFIX.replace("{", "{{").replace("}", "}}"))  # no format, whatever the path has in it


def run_alone(execute):
    """Refuse to work where another run does, and go on where one was killed, without --unlock.

    A dry run changes nothing, and is refused nothing.
    """

    def execute_alone(*, executor_plugin, **options):
        settings = executor_plugin.common_settings
        if workflow.is_main_process and not settings.dryrun_exec:
            try:
                working_folder.check_writable(["results", "plots"])
                working_folder.hold(jobs_end_with_it=settings.local_exec)
                working_folder.bring_back(["results", "plots"])
            except (FolderInUse, OSError) as fault:
                sys.exit(f"cannot work in {os.getcwd()}: {fault}")
        return execute(executor_plugin=executor_plugin, **options)

    return execute_alone


workflow.execute = run_alone(workflow.execute)


async def accept_any_time(self, job, outputs):
    """In place of a check by which Snakemake deletes what it made if an input is newer: clocks are set back."""


DAG.check_output_mtime = accept_any_time


def checksums_known(self, job, path, recorded=PersistenceBase.input_checksums):
    """Snakemake's own; without them, as when results/ was copied alone, what a record says of the binaries it is of."""
    found = recorded(self, job, path)
    if found == {None} and job.output[0].endswith(".json"):
        try:
            is_binary = path == job.input.get("binary")
            name = "binary_sha256" if is_binary else "reference_sha256"
            return {f"sha256:{records.read(job.output[0])[name]}"}
        except (OSError, LookupError, records.DamagedFile):
            pass
    return found


PersistenceBase.input_checksums = checksums_known


def check_config():
    """Stop with one line a fault, before anything is run; else fill in what the config leaves out."""
    # As seen from where the user is: --directory has changed the working directory.
    files = {os.path.relpath(path, os.getenv("PWD")): path for path in workflow.configfiles}
    if faults := file_faults(files):
        sys.exit("\n".join(faults))
    schema = ROOT / "schemas/config.schema.yaml"
    faults = schema_faults(config, load_configfile(schema))
    if not faults:
        validate(config, str(schema))
        hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        faults = sweep_faults(config, ROOT / "servers", hard_limit)
    if faults:
        where = ", ".join([*files, *(["--config"] if workflow.config_settings.config else [])])
        sys.exit("\n".join(f"{where}: {fault}" for fault in faults))


def server_source(server):
    """As seen from here, or from the working directory."""
    folder = OLD_SOURCES.get(server, ROOT / "servers")
    return os.path.join(folder, f"{file_of(server)}.c")


def binary_of(server):
    """Which of results/bin a server runs: a control of ours has one of its own."""
    return server if server in COMPILED else base_of(server)


def workers_of(wildcards):
    """Processes: of *_multitask as many as config says."""
    return config["workers"] if file_of(wildcards.server).endswith("_multitask") else 1


def all_cores(wildcards):
    """Not at once: -j may still change their number (rules/cluster.smk)."""
    return workflow.cores


def cell_of(wildcards):
    return Cell(wildcards.server, int(wildcards.connections), int(wildcards.repeat))


def priority_of(wildcards):
    """Of a cell: earlier in the order is higher, and 0 is what is not in the sweep."""
    return len(POSITION) - POSITION.get(cell_of(wildcards), len(POSITION))


check_config()
SERVERS = list(config["servers"])
MEASURED = measured_servers(config)
EXTERNAL = {
    server: describe_launcher(config["external"][server], str(ROOT))
    for server in SERVERS
    if server in config["external"]
}
COMPILED = [*(server for server in MEASURED if base_of(server) not in EXTERNAL), REFERENCE]
# Of servers of other revisions: where their sources are, and what to say of them.
OLD_SOURCES, REVISION_NOTES = {}, []
if workflow.is_main_process:  # nodes of a cluster do not compile
    try:
        for server in [name for name in COMPILED if "@" in name]:
            commit, OLD_SOURCES[server] = revisions.find(server, str(ROOT))
            REVISION_NOTES.append(f"{server} is of commit {commit[:12]}")
    except revisions.NoRevision as fault:
        sys.exit(f"servers: {fault}")
    if REVISION_NOTES and revisions.is_dirty(ROOT):
        REVISION_NOTES.append(
            "servers/ has changes that are not committed: they are in the servers named without @"
        )
REFERENCE_BINARY = [f"results/bin/{REFERENCE}"] if config["paired_s"] else []
CELLS = cells_of(config)
POSITION = order_of(config)
BUILD_PRIORITY = len(POSITION) + 1  # before all cells
# As the cells' scripts take them.
NETWORK = json.dumps(config["network"], sort_keys=True)
CPUS = json.dumps(None if config["cpus"] == "auto" else config["cpus"], sort_keys=True)
COMPILER = config["compile"]["compiler"]
# Of servers whose sources name what is no library: why they are not compiled.
BAD_LINKS = {}
TOOLCHAIN, SOURCE_IDENTITY = None, {}
try:
    if workflow.is_main_process:  # nodes of a cluster do not compile
        TOOLCHAIN = toolchain_identity(COMPILER)
        for server in COMPILED:
            try:
                SOURCE_IDENTITY[server] = source_identity(
                    COMPILER, config["compile"]["flags"], server_source(server)
                )
            except BadLink as fault:
                BAD_LINKS[server] = SOURCE_IDENTITY[server] = str(fault)
except NoCompiler as error:
    sys.exit(str(error))


wildcard_constraints:
    server="|".join(map(re.escape, MEASURED)),
    connections="[0-9]+",
    repeat="[0-9]+",
