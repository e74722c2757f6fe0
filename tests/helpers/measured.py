"""Cells that tests measure: servers compiled for it, and what may be said of them."""

import subprocess
import sys
from pathlib import Path

from helpers.checkouts import ROOT

FAKE = ROOT / "tests/helpers/fake_server.py"
QUICK = ["--connections", "4", "--duration-s", "1", "--warmup-s", "0.2", "--disturbed-retries", "0"]
# What a machine that is busy or slow may raise too.
OF_THE_MACHINE = {
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
    command = [sys.executable, str(ROOT / "scripts/measure_cell.py"), binary, str(output)]
    return subprocess.run(
        [*command, *QUICK, *arguments],
        check=False,
        cwd=output.parent,
        capture_output=True,
        text=True,
        timeout=300,
    )


def compile_server(name: str, folder: Path) -> str:
    source = ROOT / f"servers/{name}.c"
    command = ["gcc", "-std=c17", "-D_GNU_SOURCE", "-O2", str(source), "-o", str(folder / name)]
    subprocess.run([*command, "-pthread", "-l:liburing.a"], check=True)
    return str(folder / name)


def compile_faulty(name: str, folder: Path) -> str:
    """tests/faulty/server_faulty.c under the name that says what its fault is."""
    binary = folder / f"server_{name}"
    source = ROOT / "tests/faulty/server_faulty.c"
    command = ["gcc", "-std=c17", "-D_GNU_SOURCE", "-O2", "-I", str(ROOT / "servers")]
    subprocess.run([*command, str(source), "-o", str(binary), "-pthread"], check=True)
    return str(binary)
