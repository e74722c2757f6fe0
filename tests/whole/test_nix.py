"""shell.nix and flake.nix evaluate, hold every tool, and have one pin; checked with a stub in place of nixpkgs.

The stub has the names in nixpkgs_names.json alone, each with the file of NixOS/nixpkgs and the commit that showed it.
"""

import ast
import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.checkouts import ROOT
from workflow import session

SHELL_NIX = ROOT / "shell.nix"
SCRIPTS = sorted((ROOT / "scripts").rglob("*.py"))
NAMES = json.loads(Path(__file__).with_name("nixpkgs_names.json").read_text())
SYSTEMS = ["aarch64-linux", "x86_64-linux"]
# Names that are more than a package to put into the shell.
SPECIAL = {
    "dejavu_fonts": '"dejavu_fonts"',
    "liburing": """{
        overrideAttrs = change: change { postInstall = "rm $out/lib/liburing.a"; } // { dev = "liburing.dev"; };
    }""",
    "makeFontsConf": "conf: conf",
    "mkShell": "shell: shell",
    "python3": "{ withPackages = choose: choose python; }",
}
# What a package is in the shell for; stdenv's are in every shell.
COMMANDS = {
    "cargo-flamegraph": {"flamegraph"},
    "gcc": {"gcc"},
    "git": {"git"},
    "gnumake": {"make"},
    "h2o": {"h2o"},
    "iproute2": {"ip", "ss", "tc"},
    "librsvg": {"rsvg-convert"},
    "lighttpd": {"lighttpd"},
    "nginx": {"nginx"},
    "openssh": {"ssh", "ssh-keygen", "sshd"},
    "perf": {"perf"},
    "python3": {"python3"},
    "snakemake": {"snakemake"},
    "stdenv": {
        "bash",
        "cat",
        "cp",
        "env",
        "find",
        "grep",
        "install",
        "mkdir",
        "rm",
        "sed",
        "sh",
        "true",
    },
    "util-linux": {"flock", "lscpu", "mount", "nsenter", "setpriv", "swapoff", "swapon", "taskset"},
    "wrk": {"wrk"},
}
# Modules whose package has another name, or that come with another package.
PACKAGE_OF = {"markupsafe": "jinja2", "numpy": "pandas", "vl_convert": "vl-convert-python"}
PACKAGE_OF |= {"yaml": "pyyaml"}


def nix(program: str, *arguments: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run one of Nix's commands without a daemon or a network."""
    folders = {
        f"NIX_{kind}_DIR": str(tmp_path / kind) for kind in ("STORE", "STATE", "LOG", "CONF")
    }
    try:
        return subprocess.run(
            [program, *arguments],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home"), **folders},
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        pytest.fail(f"{program} is missing: install it with scripts/setup.sh dev", pytrace=False)


def nix_flake(*arguments: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Sources go into a store of the test's own; what is locked is not fetched."""
    features = ["--extra-experimental-features", "nix-command flakes", "--offline"]
    store = ["--store", str(tmp_path / "store")]
    return nix("nix", *features, *store, *arguments, tmp_path=tmp_path)


def nix_set(values: dict[str, str]) -> str:
    return "{ " + " ".join(f"{name} = {value};" for name, value in values.items()) + " }"


def stub(without: str = "") -> str:
    """A package set with the listed names alone, less one; a package is its name."""
    values = {
        part: nix_set(
            {
                name: SPECIAL.get(name, json.dumps(name)) if part == "pkgs" else json.dumps(name)
                for name in NAMES[part]
                if name != without
            }
        )
        for part in ("pkgs", "python3.pkgs")
    }
    return f"(let python = {values['python3.pkgs']}; in {values['pkgs']})"


def evaluate(tmp_path: Path, expression: str) -> subprocess.CompletedProcess[str]:
    command = ["nix-instantiate", "--store", "dummy://", "--eval", "--strict", "--json", "--expr"]
    return nix(*command, expression, tmp_path=tmp_path)


def evaluate_shell(tmp_path: Path, without: str = "") -> subprocess.CompletedProcess[str]:
    expression = f"import {json.dumps(str(SHELL_NIX))} {{ pkgs = {stub(without)}; }}"
    return evaluate(tmp_path, expression)


def shell_of(tmp_path: Path) -> dict[str, Any]:
    evaluated = evaluate_shell(tmp_path)
    assert evaluated.returncode == 0, evaluated.stderr
    shell: dict[str, Any] = json.loads(evaluated.stdout)
    return shell


def lock() -> dict[str, Any]:
    locked: dict[str, Any] = json.loads((ROOT / "flake.lock").read_text())
    return locked["nodes"]["nixpkgs"]["locked"]


def commands_of(script: Path) -> set[str]:
    """First words of lists that are commands here."""
    lists = [node for node in ast.walk(ast.parse(script.read_text())) if isinstance(node, ast.List)]
    firsts = [
        node.elts[0].value
        for node in lists
        if isinstance(next(iter(node.elts), None), ast.Constant)
    ]
    return {word for word in firsts if isinstance(word, str) and word and shutil.which(word)}


def commands_of_rules() -> set[str]:
    """What TOOLS lists, and the words of shell directives that are commands here."""
    rules = "".join(path.read_text() for path in sorted((ROOT / "rules").glob("*.smk")))
    listed = {tool for of_rule in session.TOOLS.values() for tool in of_rule}
    directives = re.findall(r'(?:shell:|\bPREFIX = \()((?:\s*f?["\'].*["\'])+)', rules)
    words = re.findall(r"(?<![\w{.:/-])[a-z][\w-]*", " ".join(directives))
    return listed | {word for word in words if shutil.which(word)}


def test_the_shell_has_every_command_that_is_called(tmp_path):
    shell = shell_of(tmp_path)
    packages = {package for package in shell["packages"] if isinstance(package, str)}
    assert packages | {"python3", "stdenv"} == set(COMMANDS)
    called = commands_of_rules().union(*map(commands_of, SCRIPTS))
    assert called >= {"flamegraph", "flock", "git", "lscpu", "perf", "python3", "ss", "wrk"}
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    called |= {config["compile"]["compiler"]}
    called |= {external["command"].split()[0] for external in config["external"].values()}
    assert called - set().union(*COMMANDS.values()) == set()


def test_the_shell_has_every_python_package_that_is_imported(tmp_path):
    python = next(part for part in shell_of(tmp_path)["packages"] if isinstance(part, list))
    imported: set[str] = set()
    for path in SCRIPTS:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])
    ours = {name for path in SCRIPTS for name in (path.stem, path.parent.name)}
    foreign = imported - set(sys.stdlib_module_names) - ours
    # It is started from a package of its own.
    foreign = {module for module in foreign if not module.startswith("snakemake")}
    assert {PACKAGE_OF.get(module, module) for module in foreign} == set(python)


def test_python_with_packages_is_found_before_that_of_snakemake(tmp_path):
    packages = shell_of(tmp_path)["packages"]
    assert isinstance(packages[0], list) and "snakemake" in packages[1:]


def test_the_static_liburing_is_saved_before_nixpkgs_deletes_it_and_found(tmp_path):
    shell = shell_of(tmp_path)
    (liburing,) = shell["buildInputs"]
    save, delete = liburing["postInstall"].splitlines()
    assert save.endswith("-t $dev/lib $out/lib/liburing.a")
    assert delete == "rm $out/lib/liburing.a"
    assert shell["LIBRARY_PATH"] == "liburing.dev/lib"


def test_pictures_have_a_font_and_servers_no_flags_of_nixpkgs(tmp_path):
    shell = shell_of(tmp_path)
    assert shell["FONTCONFIG_FILE"] == {"fontDirectories": ["dejavu_fonts"]}
    assert shell["hardeningDisable"] == ["all"]


@pytest.mark.parametrize("name", sorted({*NAMES["pkgs"], *NAMES["python3.pkgs"]}))
def test_every_listed_name_is_used_and_its_absence_an_error(tmp_path, name):
    evaluated = evaluate_shell(tmp_path, without=name)
    assert evaluated.returncode != 0
    assert f"attribute '{name}' missing" in evaluated.stderr


def test_where_a_name_was_seen_is_a_file_and_a_commit():
    seen = [place for part in NAMES.values() for place in part.values()]
    assert seen and all(re.fullmatch(r"[\w./+-]+\.nix@[0-9a-f]{40}", place) for place in seen)


def test_nixpkgs_is_pinned_by_revision_and_hash_once():
    """In flake.lock alone; revision and hash belong together in public lock files of others."""
    assert re.fullmatch(r"[0-9a-f]{40}", lock()["rev"])
    algorithm, _, digest = lock()["narHash"].partition("-")
    assert algorithm == "sha256" and len(base64.b64decode(digest, validate=True)) == 32
    for name in ("shell.nix", "flake.nix"):
        assert not re.search(r"[0-9a-f]{40}|sha256-", (ROOT / name).read_text())


def test_the_shell_fetches_what_the_lock_says_and_nothing_of_the_user(tmp_path):
    """With a fetchTarball and an import that return what they are asked for."""
    expression = f"""
        builtins.scopedImport {{
          builtins = builtins // {{ fetchTarball = pin: pin; }};
          import = pin: options: {stub()} // {{ mkShell = shell: {{ inherit pin options; }}; }};
        }} {json.dumps(str(SHELL_NIX))} {{ }}
    """
    fetched = evaluate(tmp_path, expression)
    assert fetched.returncode == 0, fetched.stderr
    locked = lock()
    url = f"https://github.com/{locked['owner']}/{locked['repo']}/archive/{locked['rev']}.tar.gz"
    assert json.loads(fetched.stdout) == {
        "pin": {"url": url, "sha256": locked["narHash"]},
        "options": {"config": {}, "overlays": []},
    }


@pytest.fixture
def flake(tmp_path):
    """The flake's files alone, and a stub of nixpkgs whose shells say for which system they are."""
    folder = tmp_path / "flake"
    folder.mkdir()
    for name in ("flake.nix", "flake.lock", "shell.nix"):
        shutil.copy(ROOT / name, folder)
    nixpkgs = tmp_path / "nixpkgs"
    nixpkgs.mkdir()
    systems = {
        system: f'{stub()} // {{ mkShell = shell: shell // {{ system = "{system}"; }}; }}'
        for system in SYSTEMS
    }
    gen_attrs = "names: value: builtins.listToAttrs (map (name: { inherit name; value = value name; }) names)"
    outputs = {"lib.genAttrs": gen_attrs, "legacyPackages": nix_set(systems)}
    assert set(outputs) == set(NAMES["flake"])
    (nixpkgs / "flake.nix").write_text(f"{{ outputs = {{ self }}: {nix_set(outputs)}; }}")
    return folder


def test_the_flake_has_the_shell_of_shell_nix_for_each_system(tmp_path, flake):
    instead = ["--override-input", "nixpkgs", f"path:{tmp_path / 'nixpkgs'}"]
    shells = f"path:{flake}#devShells"
    evaluated = nix_flake("eval", "--json", shells, *instead, tmp_path=tmp_path)
    assert evaluated.returncode == 0, evaluated.stderr
    shell = shell_of(tmp_path)
    assert json.loads(evaluated.stdout) == {
        system: {"default": {**shell, "system": system}} for system in SYSTEMS
    }


def test_the_lock_is_in_step_with_the_flake(tmp_path, flake):
    """Were its input another, Nix would have to fetch that, and to change the lock."""
    command = ["flake", "metadata", "--json", "--no-update-lock-file", f"path:{flake}"]
    in_step = nix_flake(*command, tmp_path=tmp_path)
    assert in_step.returncode == 0, in_step.stderr
    assert json.loads(in_step.stdout)["locks"]["nodes"]["nixpkgs"]["locked"] == lock()
    text = (flake / "flake.nix").read_text()
    (flake / "flake.nix").write_text(text.replace("nixos-unstable", "nixos-25.11"))
    assert nix_flake(*command, tmp_path=tmp_path).returncode != 0
