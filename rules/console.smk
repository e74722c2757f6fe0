# What the person at the terminal sees: the time it will take, a line a cell, and the table at the end.
import logging

import progress
from snakemake_interface_logger_plugins.common import LogEvent

CHATTER = {LogEvent.JOB_INFO, LogEvent.JOB_STARTED, LogEvent.JOB_FINISHED, LogEvent.PROGRESS}


def is_worth_showing(record):
    return (
        getattr(record, "event", None) not in CHATTER
        and record.getMessage() != "Select jobs to execute..."
    )


# Snakemake's 15 lines a job would hide the one that says what was measured. They stay in its log file, in dry
# runs and with --verbose or --printshellcmds; errors are always shown.
def silence_jobs():
    settings = workflow.output_settings
    if settings.verbose or settings.printshellcmds:
        return
    for handler in logger.handlers:
        if handler.name == "DefaultStreamHandler":
            handler.addFilter(is_worth_showing)


def count_jobs():
    """Jobs to run, by rule. needrun_jobs() is internal to Snakemake, whose version requirements.txt pins."""
    names = [job.rule.name for job in workflow.dag.needrun_jobs()]
    return {name: names.count(name) for name in set(names)}


def announce():
    jobs = count_jobs()
    cells, profiles = jobs.get("measure_cell", 0), jobs.get("profile_server", 0)
    if not cells and not profiles:
        return
    cell_s = config["warmup_s"] + config["duration_s"] + progress.CELL_OVERHEAD_S
    profile_s = config["warmup_s"] + PROFILE["duration_s"] + progress.PROFILE_OVERHEAD_S
    other_s = profiles * profile_s + progress.START_AND_END_S
    progress.write_plan(cells, cell_s, other_s)
    expected = progress.format_duration(cells * cell_s + other_s)
    print(
        f"{cells} cells and {profiles} profiles to run, about {expected}",
        file=sys.stderr,
        flush=True,
    )


onstart:
    silence_jobs()
    announce()


onsuccess:
    if any(job.rule.name == "tabulate_results" for job in workflow.dag.jobs):
        print("\n" + Path("results/summary.txt").read_text(), end="")
        print(
            "Pictures: plots/. Tables: results/cells.csv, results/summary.csv; docs/results.md explains them."
        )
