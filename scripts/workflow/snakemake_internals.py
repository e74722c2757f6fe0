"""All that relies on something in Snakemake that its documentation does not promise.

Whoever upgrades Snakemake looks at this file. For each part of it tests/workflow/test_snakemake_internals.py has a
test that fails if Snakemake has changed what the part relies on.

`workflow` is Snakemake's object of that name. A `job` is one of Snakemake's, a node of its graph (the DAG).
"""

import heapq
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

import snakemake.api  # noqa: F401  before its other modules, which import each other
from snakemake.dag import DAG
from snakemake.logging import logger
from snakemake.persistence import PersistenceBase
from snakemake.scheduling.job_scheduler import JobScheduler
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry
from snakemake_interface_logger_plugins.common import LogEvent

from common import terminal
from common.files import DamagedFile
from sweep import records
from workflow import working_folder
from workflow.session import Jobs

# Jobs that the scheduler sees at once: more than can run at the same time.
NEXT_JOBS = 100
# What the terminal does not show. Snakemake's 15 lines a job would hide the one line that the job itself prints.
HIDDEN_EVENTS = {
    LogEvent.JOB_INFO,
    LogEvent.JOB_STARTED,
    LogEvent.JOB_FINISHED,
    LogEvent.PROGRESS,
    LogEvent.JOB_ERROR,
}
# Snakemake's messages that have no event of their own.
HIDDEN_MESSAGES = re.compile(
    r"^(Select jobs to execute|RuleException:\nCalledProcessError in file|Removing output files of failed job"
    r"|WorkflowError.*\nAt least one job did not complete successfully)"
)


# --- While Snakemake reads the rules ---


def install(
    workflow: Any,
    find_failed: Callable[[Iterable[Any]], Iterable[Any]],
    begin_block: Callable[[str], None],
) -> None:
    """All that changes how Snakemake builds its graph and runs it. The arguments: rerun_failed(), wrap_execute()."""
    shorten_faults_of_log()
    accept_any_time()
    trust_checksums_in_records()
    rerun_failed(find_failed)
    end_on_sigterm()
    wrap_execute(workflow, begin_block)


def shorten_faults_of_log() -> None:
    """On a full disk, Snakemake would print a traceback for each line that its log file cannot take."""
    logging.raiseExceptions = False


def accept_any_time() -> None:
    """Keep outputs that seem older than an input, since a clock may have been set back. Snakemake deletes them."""

    async def check_output_mtime(dag: Any, job: Any, outputs: Any) -> None:
        pass

    DAG.check_output_mtime = check_output_mtime


def trust_checksums_in_records() -> None:
    """Without Snakemake's own checksums, as when results/ alone was copied, use those in the record.

    NAME_sha256 is that of the input NAME.
    """
    recorded = PersistenceBase.input_checksums

    def input_checksums(persistence: Any, job: Any, path: Any) -> Any:
        found = recorded(persistence, job, path)
        if found == {None} and job.output[0].endswith(".json"):
            names = [name for name, its in job.input.items() if str(its) == str(path)]
            try:
                return {f"sha256:{records.read(job.output[0])[f'{names[0]}_sha256']}"}
            except (OSError, LookupError, DamagedFile):
                pass
        return found

    PersistenceBase.input_checksums = input_checksums


def rerun_failed(find_failed: Callable[[Iterable[Any]], Iterable[Any]]) -> None:
    """Run a job whose server failed again, as Snakemake does with a job that was interrupted."""
    check_own = DAG.check_incomplete

    async def check_incomplete(dag: Any) -> None:
        await check_own(dag)
        if dag.workflow.is_main_process:
            for job in find_failed(dag.jobs):
                dag.forcefiles.update(job.output)

    DAG.check_incomplete = check_incomplete


def end_on_sigterm() -> None:
    """Take Snakemake's lock in a thread: its own signal handler waits for ever if the interrupted code has the lock."""
    exit_gracefully = JobScheduler.exit_gracefully

    def exit_in_thread(scheduler: Any, *_: object) -> None:
        threading.Thread(target=exit_gracefully, args=(scheduler,)).start()

    JobScheduler.exit_gracefully = exit_in_thread


def wrap_execute(workflow: Any, begin_block: Callable[[str], None]) -> None:
    """Do what has to wait until Snakemake has chosen its executor.

    begin_block: what to do first on a node of a cluster, where Snakemake calls no handlers. It gets the path of a file
    for the machine's facts, in a folder that Snakemake removes at its end.
    """
    execute = workflow.execute

    def execute_ours(*, executor_plugin: Any, executor_settings: Any, **options: Any) -> Any:
        if workflow.remote_exec:
            # Slurm's own executor would start another Snakemake for each cell.
            executor_plugin = ExecutorPluginRegistry().get_plugin("local")
            executor_settings = None
            # The Snakemake that began the sweep does not pass these on.
            workflow.execution_settings.keep_going = True
            workflow.scheduling_settings.max_jobs_per_timespan = None  # as in keep_idle()
            begin_block(str(workflow.snakemake_tmp_dir / "machine.json"))
        settings = executor_plugin.common_settings
        if settings.local_exec and workflow.nodes:
            # Where a profile sets cores, Snakemake takes -j for a cluster's limit of jobs and drops the limit of cores,
            # which keeps cells apart and in order. Here -j sets the cores, as it does without a profile.
            workflow.global_resources["_cores"] = workflow.nodes
            workflow.global_resources["_nodes"] = None
        if workflow.is_main_process and not settings.dryrun_exec:
            _take_folder(settings.local_exec)
        return execute(
            executor_plugin=executor_plugin, executor_settings=executor_settings, **options
        )

    workflow.execute = execute_ours


def _take_folder(jobs_end_with_it: bool) -> None:
    """Refuse to work where another run does. After a run that was killed, go on without --unlock."""
    try:
        working_folder.check_writable(["results", "plots"])
        working_folder.hold(jobs_end_with_it=jobs_end_with_it)
        working_folder.bring_back(["results", "plots"])
    except (working_folder.FolderInUse, OSError) as fault:
        sys.exit(f"cannot work in {os.getcwd()}: {fault}")


def run_here(workflow: Any, but: Iterable[str]) -> None:
    """On a cluster too, run all rules where Snakemake was started, except these. Rules that follow are not included."""
    workflow.localrules(*{rule.name for rule in workflow.rules}.difference(but))


# --- When it begins to run jobs ---


def keep_idle(workflow: Any) -> None:
    """Keep Snakemake from computing while a cell is measured.

    Its limit of 100 jobs a second makes the scheduler weigh all ready jobs each second, and once more each second for
    every job that has ended: 8 % of a CPU after 20 of 288 cells. After each job it weighs all ready jobs again: 0.2 s
    of a CPU with 10,000 cells. So there is no limit, and the scheduler sees only the first jobs by priority.
    """
    if not workflow.local_exec:
        return
    scheduler = workflow.scheduler
    scheduler.job_rate_limiter = None

    def open_jobs(scheduler: Any) -> list[Any]:
        ready = scheduler.workflow.dag.ready_jobs
        return heapq.nlargest(NEXT_JOBS, ready, key=lambda job: job.priority)

    short = {"open_jobs": property(open_jobs)}
    scheduler.__class__ = type("ShortQueue", (type(scheduler),), short)


def silence_jobs(workflow: Any) -> None:
    """Hide what Snakemake says of jobs. Its log file, dry runs, --verbose and --printshellcmds still have it."""
    settings = workflow.output_settings
    if settings.verbose or settings.printshellcmds:
        return
    for handler in logger.handlers:
        if handler.name == "DefaultStreamHandler":
            handler.addFilter(is_worth_showing)


def is_worth_showing(record: Any) -> bool:
    """Of a job that failed, one line is printed here instead."""
    event = getattr(record, "event", None)
    if event == LogEvent.JOB_ERROR and not record.indent:  # else its group's error has told it
        print(
            terminal.describe_failed_job(record.rule_name, record.log), file=sys.stderr, flush=True
        )
    return event not in HIDDEN_EVENTS and not HIDDEN_MESSAGES.search(record.getMessage())


# --- What Snakemake knows ---


def read_jobs(workflow: Any) -> Jobs:
    jobs = Jobs({}, {}, {})
    for job in workflow.dag.needrun_jobs():
        rule = job.rule.name
        jobs.counts[rule] = jobs.counts.get(rule, 0) + 1
        jobs.to_make.setdefault(rule, []).extend(job.output)
    for job in workflow.dag.jobs:
        if not workflow.dag.needrun(job):
            jobs.made.setdefault(job.rule.name, []).extend(job.output)
    return jobs


def outputs_of(workflow: Any) -> set[str]:
    """Of all jobs that the targets need."""
    return {str(path) for job in workflow.dag.jobs for path in job.output}


def targets_of(workflow: Any) -> set[str]:
    """As the user named them: rules and files."""
    return set(workflow.dag_settings.targets)


def folder_of(workflow: Any) -> str:
    """The working directory, as the user named it with --directory; empty if they did not."""
    return str(workflow.overwrite_workdir or "")


def config_sources(workflow: Any) -> tuple[dict[str, str], bool]:
    """Files of the config, name → path, and whether the user gave some of the config by --config.

    The names are as seen from where the user is, since --directory changes the working directory.
    """
    seen_from = os.getenv("PWD")
    files = {os.path.relpath(path, seen_from): str(path) for path in workflow.configfiles}
    return files, bool(workflow.config_settings.config)
