"""Cells that tests measure: servers compiled for it, and what may be said of them."""

import subprocess
import sys
from pathlib import Path

from helpers.checkouts import ROOT, run_script

FAKE = ROOT / "tests/helpers/fake_server.py"
QUICK = ["--connections", "4", "--duration-s", "1", "--warmup-s", "0.2", "--disturbed-retries", "0"]
# What a machine that is busy or slow may raise too.
OF_THE_MACHINE = {
    "time_wait_full",
    "ports_short",
    "client_saturated",
    "server_not_saturated",
    "synthetic_latency",
    "littles_law",
    "disturbed",
    "shared_cpus",
}


def fake_server(name: str, folder: Path) -> str:
    path = folder / name
    path.write_text(f"#!{sys.executable}\n" + FAKE.read_text().partition("\n")[2])
    path.chmod(0o755)
    return str(path)


def measure(binary: str, output: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_script("measure_cell.py", binary, output, *QUICK, *arguments, cwd=output.parent)


def compile_server(name: str, folder: Path) -> str:
    return _compile(ROOT / f"servers/{name}.c", folder / name)


def compile_faulty(name: str, folder: Path) -> str:
    """tests/faulty/server_faulty.c under the name that says what its fault is."""
    return _compile(ROOT / "tests/faulty/server_faulty.c", folder / f"server_{name}")


def compile_load(folder: Path) -> str:
    """The load generator of the open loop."""
    return _compile(ROOT / "load/load.c", folder / "load")


def _compile(source: Path, binary: Path) -> str:
    flags = ["-std=c17", "-D_GNU_SOURCE", "-O2", f"-I{ROOT}/servers", "-pthread"]
    subprocess.run(["gcc", *flags, source, "-o", binary, "-l:liburing.a", "-lm"], check=True)
    return str(binary)
