import os
import resource
import shlex
import sys
from pathlib import Path

from snakemake.common.configfile import load_configfile
from snakemake.utils import validate

ROOT = Path(workflow.basedir)
SCRIPTS = ROOT / "scripts"
sys.path.insert(0, str(SCRIPTS))

from cells import RECORD, cells_of, order_of, record_path
from config_check import schema_faults, sweep_faults
from machine import LOCK_PATH
from profile_server import obstacle_here, obstacle_met
from toolchain import LANGUAGE_FLAGS, LIBRARIES, NoCompiler, source_identity, toolchain_identity

# .venv/bin/snakemake works as if the venv were activated: its python3 and flamegraph are found first.
if os.path.exists(os.path.join(sys.prefix, "pyvenv.cfg")):
    shell.prefix(f"PATH={shlex.quote(sys.prefix)}/bin:$PATH; ")

# Compiles and plots of any checkout wait while a cell is measured, and cells wait for them (scripts/machine.py).
SHARED = f"flock --shared --close {LOCK_PATH}"


def check_config():
    """Stop with one line a fault, before anything is run; else fill in what the config leaves out."""
    schema = ROOT / "schemas/config.schema.yaml"
    faults = schema_faults(config, load_configfile(schema))
    if not faults:
        validate(config, str(schema))
        hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        faults = sweep_faults(config, ROOT / "servers", hard_limit)
    if faults:
        # As seen from where the user is: --directory has changed the working directory.
        files = ", ".join(os.path.relpath(path, os.getenv("PWD")) for path in workflow.configfiles)
        if workflow.config_settings.config:
            files += ", --config"
        sys.exit("\n".join(f"{files}: {fault}" for fault in faults))


def server_source(server):
    return str(ROOT / "servers" / f"{server}.c")


def workers_of(wildcards):
    return config["workers"] if wildcards.server.endswith("_multitask") else 1


def scripts(*names):
    """Scripts with the modules that they import: inputs, compared by content."""
    return [str(SCRIPTS / name) for name in names]


check_config()
SERVERS = list(config["servers"])
CELLS = cells_of(config)
PRIORITY = {cell: len(CELLS) - position for cell, position in order_of(config).items()}
COMPILER = config["compile"]["compiler"]
try:
    TOOLCHAIN = toolchain_identity(COMPILER)
    SOURCE_IDENTITY = {
        server: source_identity(COMPILER, config["compile"]["flags"], server_source(server))
        for server in SERVERS
    }
except NoCompiler as error:
    sys.exit(str(error))


wildcard_constraints:
    server="|".join(SERVERS),
    connections=r"\d+",
    repeat=r"\d+",
