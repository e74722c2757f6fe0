"""shell.nix evaluates and holds every tool, checked with a stub in place of nixpkgs."""

import base64
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

SHELL_NIX = Path(__file__).parents[1] / "shell.nix"
PACKAGES = [
    "cargo-flamegraph",
    "gcc",
    "git",
    "gnumake",
    "iproute2",
    "librsvg",
    "perf",
    "snakemake",
    "util-linux",
    "wrk",
]
PYTHON_PACKAGES = [
    "altair",
    "itables",
    "jinja2",
    "jsonschema",
    "matplotlib",
    "pandas",
    "pyyaml",
    "scipy",
]
PYTHON_PACKAGES += ["vl-convert-python"]


def nix_instantiate(*arguments: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run nix-instantiate without a store, a daemon or a network."""
    folders = {
        f"NIX_{kind}_DIR": str(tmp_path / kind) for kind in ("STORE", "STATE", "LOG", "CONF")
    }
    try:
        return subprocess.run(
            ["nix-instantiate", "--store", "dummy://", *arguments],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **folders},
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        pytest.fail(
            "nix-instantiate is missing: install it with scripts/setup.sh dev", pytrace=False
        )


def nix_set(names: list[str]) -> str:
    return "{ " + " ".join(f'{name} = "{name}";' for name in names) + " }"


def evaluate(
    tmp_path: Path, without: str = "", more: str = "{ }"
) -> subprocess.CompletedProcess[str]:
    """Evaluate shell.nix with a package set of names only, less the one called `without`."""
    return nix_instantiate(
        "--eval",
        "--strict",
        "--json",
        "--expr",
        f"""
        import {json.dumps(str(SHELL_NIX))} {{
          pkgs = removeAttrs ({nix_set(PACKAGES)} // {{
            mkShell = shell: shell;
            python3.withPackages = choose: choose {nix_set(PYTHON_PACKAGES)};
            liburing.overrideAttrs = change: change {{ postInstall = "rm $out/lib/liburing.a"; }};
            makeFontsConf = conf: conf;
            dejavu_fonts = "dejavu_fonts";
          }}) [ "{without}" ] // {more};
        }}
        """,
        tmp_path=tmp_path,
    )


def test_shell_nix_parses(tmp_path):
    parsed = nix_instantiate("--parse", str(SHELL_NIX), tmp_path=tmp_path)
    assert parsed.returncode == 0, parsed.stderr


def test_the_shell_holds_every_tool(tmp_path):
    evaluated = evaluate(tmp_path)
    assert evaluated.returncode == 0, evaluated.stderr
    shell = json.loads(evaluated.stdout)
    python, *packages = shell["packages"]
    assert sorted(python) == PYTHON_PACKAGES
    assert sorted(packages) == PACKAGES
    assert shell["FONTCONFIG_FILE"] == {"fontDirectories": ["dejavu_fonts"]}


def test_the_static_liburing_is_saved_before_nixpkgs_deletes_it(tmp_path):
    (liburing,) = json.loads(evaluate(tmp_path).stdout)["buildInputs"]
    save, delete = liburing["postInstall"].splitlines()
    assert save.endswith("-t $dev/lib $out/lib/liburing.a")
    assert delete == "rm $out/lib/liburing.a"


def test_perf_of_an_older_nixpkgs_is_found(tmp_path):
    older = evaluate(tmp_path, without="perf", more='{ linuxPackages.perf = "older perf"; }')
    assert older.returncode == 0, older.stderr
    assert "older perf" in json.loads(older.stdout)["packages"]


@pytest.mark.parametrize("name", [*PACKAGES, "python3", "liburing", "dejavu_fonts"])
def test_a_package_that_nixpkgs_lacks_is_an_error(tmp_path, name):
    evaluated = evaluate(tmp_path, without=name)
    assert evaluated.returncode != 0
    missing = "linuxPackages" if name == "perf" else name
    assert f"attribute '{missing}' missing" in evaluated.stderr


def test_nixpkgs_is_pinned_by_revision_and_hash():
    text = SHELL_NIX.read_text()
    assert re.search(r'url = "\S+/NixOS/nixpkgs/archive/[0-9a-f]{40}\.tar\.gz";', text)
    pin = re.search(r'sha256 = "sha256-(\S+)";', text)
    assert pin and len(base64.b64decode(pin[1], validate=True)) == 32
