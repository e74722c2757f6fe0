"""Each internal of Snakemake that we rely on: a tiny workflow shows that it is there, and does what we patch it for."""

import hashlib
import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

from helpers.checkouts import ROOT, jobs_to_run, run_snakemake, snakemake
from sweep import records
from workflow import snakemake_internals

# Snakemake without our patches. Where it does by itself what a patch is for, the patch can go.
BARE = ["--config", "bare=1"]
SNAKEFILE = f"""\
import json
import logging
import operator
import sys

sys.path.insert(0, {str(ROOT / "scripts")!r})
from workflow import snakemake_internals

SOURCES = snakemake_internals.config_sources(workflow)
SEEN = []
if "bare" not in config:
    snakemake_internals.install(
        workflow,
        find_failed=lambda jobs: [job for job in jobs if config.get("failed") in job.output],
        begin_block=lambda path: print(f"block {{workflow.execution_settings.keep_going}} {{path}}"),
    )
    snakemake_internals.NEXT_JOBS = 1


rule all:
    input:
        expand("made/{{name}}", name=["a", "b", "c"]),


rule make:
    output:
        "made/{{name}}",
    shell:
        "touch {{output}}"


rule copy:
    input:
        "late",
    output:
        "copied",
    shell:
        "cp {{input}} {{output}}"


rule measure:
    input:
        binary="binary",
        reference="reference",
    output:
        "record.json",
    shell:
        "exit 1"


rule fail:
    output:
        "never",
    log:
        "fail.log",
    shell:
        "echo because it rains > {{log}}; exit 1"


snakemake_internals.run_here(workflow, but=["make"])


def has(name):
    try:
        operator.attrgetter(name)(workflow)
    except AttributeError:
        return False
    except AssertionError:
        pass  # it is there, but only while a file of rules is read
    return True


def select(jobs, selector=None):
    SEEN.append(len(jobs))
    return selector(jobs)


onstart:
    had_limit = workflow.scheduler.job_rate_limiter is not None
    if "bare" not in config:
        snakemake_internals.keep_idle(workflow)
        snakemake_internals.silence_jobs(workflow)
    own_selector = workflow.scheduler.job_selector
    workflow.scheduler.job_selector = lambda jobs: select(jobs, own_selector)
    facts = {{
        "missing": [name for name in config.get("names", "").split() if not has(name)],
        "had_limit": had_limit,
        "has_limit": workflow.scheduler.job_rate_limiter is not None,
        "cores": workflow.cores,
        "local_rules": sorted(workflow._localrules),
        "log_is_of_logging": any(type(one) is logging.FileHandler for one in logger.handlers),
        "jobs": snakemake_internals.read_jobs(workflow)._asdict(),
        "outputs": sorted(snakemake_internals.outputs_of(workflow)),
        "targets": sorted(snakemake_internals.targets_of(workflow)),
        "folder": snakemake_internals.folder_of(workflow),
        "config_sources": SOURCES,
    }}
    with open("facts.json", "w") as file:
        json.dump(facts, file)


onsuccess:
    with open("seen.json", "w") as file:
        json.dump(SEEN, file)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a workflow that uses nothing but snakemake_internals.py, and our profile."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    return tmp_path


def set_ahead(path: Path) -> None:
    """By an hour, as if the clock had been set back since."""
    os.utime(path, (time.time() + 3600,) * 2)


def facts_of(folder: Path, name: str = "facts") -> Any:
    return json.loads((folder / f"{name}.json").read_text())


def attributes_read() -> list[str]:
    """Of Snakemake's workflow object, all that rules and snakemake_internals.py name, with dots."""
    module = Path(snakemake_internals.__file__)
    files = [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk"), module]
    text = "\n".join(path.read_text() for path in files)
    return sorted(set(re.findall(r"(?<!from )(?<!/)\bworkflow\.([a-z_]+(?:\.[a-z_]+)*)", text)))


def test_workflow_has_all_that_is_read_of_it(folder: Path) -> None:
    names = attributes_read()
    assert {"current_basedir", "dag.needrun_jobs", "execution_settings.keep_going"} <= set(names)
    snakemake(folder, "--config", f"names={' '.join(names)}")
    assert facts_of(folder)["missing"] == []


def test_jobs_and_what_the_user_named_are_read(folder: Path) -> None:
    (folder / "elsewhere/made").mkdir(parents=True)
    (folder / "own.yaml").write_text("colour: red\n")
    arguments = ["--directory", "elsewhere", "--configfile", "own.yaml"]
    snakemake(folder, "made/a", *arguments)
    snakemake(folder, "made/a", "made/b", *arguments, "--config", "size=1")
    facts = facts_of(folder / "elsewhere")
    assert facts["jobs"] == {
        "counts": {"make": 1},
        "to_make": {"make": ["made/b"]},
        "made": {"make": ["made/a"]},
    }
    assert facts["outputs"] == facts["targets"] == ["made/a", "made/b"]
    assert facts["folder"] == "elsewhere"
    assert facts["config_sources"] == [{"own.yaml": str(folder / "own.yaml")}, True]


@pytest.mark.parametrize("bare", [False, True])
def test_scheduler_sees_few_jobs_has_no_rate_limit_and_as_many_cores_as_j_says(
    bare: bool, folder: Path
) -> None:
    snakemake(folder, *(BARE if bare else []))
    facts = facts_of(folder)
    assert max(facts_of(folder, "seen")) == (3 if bare else 1)
    assert facts["had_limit"]
    assert facts["has_limit"] == bare
    # The profile says `cores: all`, and the command -j1.
    assert facts["cores"] == (len(os.sched_getaffinity(0)) if bare else 1)


def test_all_rules_but_some_run_where_snakemake_was_started(folder: Path) -> None:
    snakemake(folder)
    assert facts_of(folder)["local_rules"] == ["all", "copy", "fail", "measure"]


@pytest.mark.parametrize("bare", [False, True])
def test_output_that_seems_older_than_its_input_is_kept(bare: bool, folder: Path) -> None:
    (folder / "late").touch()
    set_ahead(folder / "late")
    run = run_snakemake(folder, "copied", *(BARE if bare else []))
    assert ((folder / "copied").exists(), run.returncode != 0) == (not bare, bare), run.stdout


def test_without_metadata_a_record_says_of_which_binaries_it_is(folder: Path) -> None:
    known = {"server": "", "connections": 1, "repeat": 1, "status": "ok", "flags": []}
    known |= {"machine": "", "schema_version": records.SCHEMA_VERSION}
    for name in ("binary", "reference"):
        (folder / name).write_text(name)
        known[f"{name}_sha256"] = hashlib.sha256(name.encode()).hexdigest()
    records.write(str(folder / "record.json"), known)
    for name in ("binary", "reference"):
        set_ahead(folder / name)
    assert jobs_to_run(folder, "record.json", *BARE) == {("measure",)}
    assert jobs_to_run(folder, "record.json") == set()
    (folder / "reference").write_text("another")
    assert jobs_to_run(folder, "record.json") == {("measure",)}


def test_what_failed_is_made_again(folder: Path) -> None:
    snakemake(folder)
    assert jobs_to_run(folder) == set()
    assert jobs_to_run(folder, "--config", "failed=made/b") == {("make", "b")}


TERMINATED = """
import signal
import time

from snakemake.scheduling.job_scheduler import JobScheduler


def schedule(self, schedule=JobScheduler.schedule):
    with self._lock:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.2)
    return schedule(self)


JobScheduler.schedule = schedule
"""


@pytest.mark.parametrize("options", [(), ("--no-hooks",)], ids=["here", "on a node"])
def test_sigterm_while_snakemake_holds_its_lock_ends_it(
    options: tuple[str, ...], checkout: Path
) -> None:
    with (checkout / "Snakefile").open("a") as file:
        file.write(TERMINATED)
    run = run_snakemake(checkout, "results/bin/server_epoll", *options, timeout_s=120)
    assert run.returncode != 0
    assert "Traceback" not in run.stdout, run.stdout


def test_log_file_is_written_by_pythons_own_handler(folder: Path) -> None:
    snakemake(folder)
    assert facts_of(folder)["log_is_of_logging"]


@pytest.mark.parametrize("options", [(), ("--verbose",)])
def test_of_a_job_that_failed_its_own_line_alone_is_shown(
    options: tuple[str, ...], folder: Path
) -> None:
    run = run_snakemake(folder, "never", *options)
    assert run.returncode != 0
    chatter = ("rule fail:", "Error in rule", "RuleException", "Select jobs", "1 of 1 steps")
    shown = [words for words in chatter if words in run.stdout]
    if options:
        assert {"rule fail:", "Error in rule", "RuleException"} <= set(shown), run.stdout
    else:
        assert shown == [], run.stdout
        assert re.findall("^.*it rains.*$", run.stdout, re.MULTILINE) == ["because it rains"]


def test_a_dry_run_takes_no_folder_and_a_run_does(folder: Path) -> None:
    snakemake(folder, "--dry-run")
    assert not (folder / snakemake_internals.working_folder.HOLDER).exists()
    snakemake(folder)
    assert (folder / snakemake_internals.working_folder.HOLDER).exists()


def test_a_node_begins_its_block_and_runs_it_by_itself(folder: Path) -> None:
    # As a node is started: without our profile, which says `keep-going: true`.
    options = ["--workflow-profile", "none", "--mode", "remote", "--no-hooks"]
    said = snakemake(folder, "made/a", *options)
    (path,) = re.findall("^block True (.*)$", said, re.MULTILINE)
    assert Path(path).name == "machine.json" and not Path(path).parent.exists()
    assert (folder / "made/a").exists()
    local = ExecutorPluginRegistry().get_plugin("local")
    assert local.common_settings.local_exec and not local.common_settings.dryrun_exec
