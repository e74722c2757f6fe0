import hashlib
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

from snakemake.utils import validate
from snakemake.common.configfile import load_configfile

ROOT = Path(workflow.basedir)
SCRIPTS = ROOT / "scripts"
sys.path.insert(0, str(SCRIPTS))

from cells import RECORD, cells_of, order_of, record_path
from config_check import schema_faults, sweep_faults

# .venv/bin/snakemake works as if the venv were activated: its python3 and flamegraph are found first.
if os.path.exists(os.path.join(sys.prefix, "pyvenv.cfg")):
    os.environ["PATH"] = os.path.join(sys.prefix, "bin") + os.pathsep + os.environ["PATH"]


def check_config():
    """Stop with one line a fault, before anything is run; else fill in what the config leaves out."""
    schema = ROOT / "schemas/config.schema.yaml"
    faults = schema_faults(config, load_configfile(schema))
    if not faults:
        validate(config, str(schema))
        hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        faults = sweep_faults(config, ROOT / "servers", hard_limit)
    if faults:
        files = ", ".join(os.path.relpath(path) for path in workflow.configfiles)
        sys.exit("\n".join(f"{files}: {fault}" for fault in faults))


check_config()
SERVERS = sorted(config["servers"], key=config["servers"].index)
CELLS = cells_of(config)
ORDER = order_of(config)


wildcard_constraints:
    server="|".join(SERVERS),
    connections=r"\d+",
    repeat=r"\d+",


def scripts(*names):
    """Scripts with the modules that they import: inputs, compared by content."""
    return [str(SCRIPTS / name) for name in names]


def server_source(server):
    return str(ROOT / "servers" / f"{server}.c")


# Compiles and plots of any checkout wait while a cell is measured, and cells wait for them (scripts/machine.py).
from machine import LOCK_PATH

SHARED = f"flock --shared --close {LOCK_PATH}"
