"""snakemake --lint, with what does not apply here named and explained."""

from checkouts import ROOT, run_snakemake

# Lints that are not followed, by how they begin, and why.
NOT_APPLIED = {
    "Specify a conda environment or container": "tools come from the system and .venv",
    "Shell command directly uses variable SHARED": "how a job runs, not what it computes: no parameter",
}


def test_workflow_has_no_lint() -> None:
    lines = run_snakemake(ROOT, "--lint").stdout.splitlines()
    lints = [line.strip(" *") for line in lines if line.startswith("    * ")]
    assert lints, "no lint at all: not even those that are not applied"
    assert [lint for lint in lints if not lint.startswith(tuple(NOT_APPLIED))] == []
