"""What the Snakemake community expects of a workflow."""

import re
from pathlib import Path

from helpers.checkouts import ROOT, jobs_to_run, snakemake


def test_workflow_has_no_lint() -> None:
    assert "your workflow is in a good condition" in snakemake(ROOT, "--lint")


def test_catalogs_snakefile_is_the_same_workflow(tmp_path: Path) -> None:
    everything = jobs_to_run(ROOT, "--directory", str(tmp_path))
    assert len(everything) > 100
    other = ["--snakefile", "workflow/Snakefile", "--directory", str(tmp_path)]
    assert jobs_to_run(ROOT, *other) == everything


def test_workflow_is_a_module_of_another(tmp_path: Path) -> None:
    """From another folder, with a config of its own; results are made where that one works."""
    small = {"servers": ["server_poll"], "control": None, "repeats": 1}
    small |= {"workloads": ["keepalive"], "connections": [10]}
    (tmp_path / "Snakefile").write_text(
        "module io_models:\n"
        f'    snakefile: "{ROOT}/workflow/Snakefile"\n'
        f"    config: {small}\n"
        "use rule * from io_models\n"
    )
    target = "plots/server_poll.png"
    chain = {
        ("measure_cell", "keepalive", "server_poll", "10", "1"),
        ("plot_server", "server_poll"),
    }
    chain |= {("compile_server", name) for name in ("server_poll", "reference")}
    assert jobs_to_run(tmp_path, target) == {*chain, ("collect_cells", "server_poll")}


def test_environments_of_conda_have_the_versions_of_venv() -> None:
    locked = dict(re.findall(r"^(\S+)==(\d+\.\d+)", (ROOT / "requirements.txt").read_text(), re.M))
    environments = "".join(path.read_text() for path in (ROOT / "envs").glob("*.yaml"))
    pinned = dict(re.findall(r"- (\S+) =(\d+\.\d+)$", environments, re.M))
    assert pinned and pinned.items() <= locked.items()


def test_rule_is_stale_when_its_script_changes() -> None:
    texts = [path.read_text() for path in (ROOT / "rules").glob("*.smk")]
    rules = [part for text in texts for part in re.split(r"^(?=(?:use )?rule )", text, flags=re.M)]
    checked = 0
    for rule in rules:
        scripts = re.findall(r"/scripts/(\w+)\.py", rule)
        params = re.findall(r"\bcode=identity_of\(\"(\w+)\"\)", rule)
        if rule.startswith("use rule") and "    params:" in rule:  # in place of the other rule's
            assert params, rule
        # The one has no result; of the other's the compiler makes what counts.
        elif scripts not in (["doctor"], ["compile_server"]):
            assert params == scripts, rule
            checked += len(scripts)
    assert checked >= 19
