# How a run begins and ends, and what the person at the terminal sees: the time it will take, a line a cell, the table.
import heapq
import json
import re
import shlex
import shutil
import threading
import time

import console
import doctor
import failures
import files
import leftovers
import machine
import machine_facts
import network
import pairing
import preflight
import progress
import records
import resolution
import run_facts
import runs
import sides
import start_failures
from cpus import CpuFault
from preflight_side import PreflightSide
from snakemake.dag import DAG
from snakemake.scheduling.job_scheduler import JobScheduler
from snakemake_interface_logger_plugins.common import LogEvent

TOOLS = {
    "measure_cell": ["wrk", "ss", "taskset", "setpriv"],
    "profile_server": ["wrk", "taskset", "setpriv"],
    "count_syscalls": ["wrk", "taskset", "setpriv"],
    "draw_flamegraph": ["flamegraph", "rsvg-convert"],
}
MEASURING = TOOLS.keys() - {"draw_flamegraph"}
# To other hosts, open as long as the workflow runs.
CONNECTIONS = []
NEXT_JOBS = 100  # among which the scheduler chooses; more than run side by side
SIDES = network.Network(**config["network"])
PAGE = "results/report.html"
CHATTER = {LogEvent.JOB_INFO, LogEvent.JOB_STARTED, LogEvent.JOB_FINISHED, LogEvent.PROGRESS}
CHATTER |= {LogEvent.JOB_ERROR}
TOLD_OTHERWISE = re.compile(
    r"^(Select jobs to execute|RuleException:\nCalledProcessError in file|Removing output files of failed job"
    r"|WorkflowError.*\nAt least one job did not complete successfully)"
)


def is_worth_showing(record):
    event = getattr(record, "event", None)
    if event == LogEvent.JOB_ERROR and not record.indent:  # else its group's error has told it
        print(console.describe_failed_job(record.rule_name, record.log), file=sys.stderr, flush=True)
    return event not in CHATTER and not TOLD_OTHERWISE.search(record.getMessage())


# Snakemake's 15 lines a job would hide the one that says what was measured, or why it failed. They stay in its log
# file, in dry runs and with --verbose or --printshellcmds.
def silence_jobs():
    settings = workflow.output_settings
    if settings.verbose or settings.printshellcmds:
        return
    for handler in logger.handlers:
        if handler.name == "DefaultStreamHandler":
            handler.addFilter(is_worth_showing)


def try_failed_again(check_incomplete):
    """What failed is as what was not finished: each run that needs it makes it again."""

    async def check(dag):
        await check_incomplete(dag)
        if workflow.is_main_process:
            for failure in failures.find(dag.jobs, EXTERNAL):
                dag.forcefiles.update(failure.job.output)

    return check


# Internal to Snakemake, as needrun_jobs().
DAG.check_incomplete = try_failed_again(DAG.check_incomplete)


def tell_failures():
    """A line for each server that failed in what the targets need; whether there is any."""
    jobs = workflow.dag.jobs
    lines = failures.lines_of(failures.find(jobs, EXTERNAL), jobs)
    for line in lines:
        print(console.color(console.wrap(console.make_printable(line)), 31), file=sys.stderr)
    return bool(lines)


def count_jobs():
    """Jobs to run, by rule. needrun_jobs() is internal to Snakemake, whose version requirements.txt pins."""
    names = [job.rule.name for job in workflow.dag.needrun_jobs()]
    return {name: names.count(name) for name in set(names)}


def check_tools(jobs):
    """Before anything runs, rather than when its turn comes."""
    # What is measured elsewhere needs them there: the doctor looks, or the node.
    is_here = SIDES.places == [network.HERE] and workflow.local_exec
    rules = jobs.keys() & (TOOLS.keys() if is_here else {"draw_flamegraph"})
    needed = {tool for rule in rules for tool in TOOLS[rule]}
    missing = sorted(tool for tool in needed if shutil.which(tool) is None)
    if missing:
        sys.exit(f"not installed: {', '.join(missing)}: see make setup")


def seconds_of_paired_phase():
    """Of a cell, on average over the numbers of connections."""
    if not config["paired_s"]:
        return 0
    plans = [pairing.plan_of(most, config["paired_s"], "") for most in config["connections"]]
    return sum(plan.longest_s for plan in plans) / len(plans) + progress.PAIR_OVERHEAD_S


def announce(jobs):
    cells, profiles = jobs.get("measure_cell", 0), jobs.get("profile_server", 0)
    if not cells and not profiles:
        return
    cell_s = config["warmup_s"] + config["duration_s"] + progress.CELL_OVERHEAD_S
    cell_s += seconds_of_paired_phase()
    profile_s = config["warmup_s"] + PROFILE["duration_s"] + progress.PROFILE_OVERHEAD_S
    other_s = profiles * profile_s
    other_s += sum(progress.JOBS_S.get(name, 0) * count for name, count in jobs.items())
    progress.write_plan(cells, cell_s, other_s)
    counted = [(cells, "cell"), (profiles, "profile")]
    parts = [progress.format_count(number, noun) for number, noun in counted if number]
    left_s = cells * cell_s + other_s
    left = f", about {progress.format_duration(left_s)}" if workflow.local_exec else ""
    print(console.wrap(f"{' and '.join(parts)} to run{left}"), file=sys.stderr, flush=True)


def lift_rate_limit():
    """Keep Snakemake idle while a cell is measured.

    For its limit of 100 jobs a second the scheduler looks at all jobs that are ready every second, and once more each
    second for each job that has ended: after 20 cells of 288 that took 8 % of a CPU, beside whatever was measured.
    """
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None


def shorten_the_queue():
    """Show the scheduler only the next of the jobs that are ready, the first in order.

    It weighs all that it sees after each job: with 10,000 cells for 0.2 s of a CPU, while nothing is measured.
    """

    class Scheduler(type(workflow.scheduler)):
        @property
        def open_jobs(self):
            ready = self.workflow.dag.ready_jobs
            return heapq.nlargest(NEXT_JOBS, ready, key=lambda job: job.priority)

    if workflow.local_exec:
        workflow.scheduler.__class__ = Scheduler


def meet_sides(tells_speed=False):
    """Before anything is measured: what makes results noisy is told, what makes them wrong ends the run.

    tells_speed: whether to tell how much the machine's speed wanders, too. The facts of both sides.
    """
    try:
        CONNECTIONS.extend(preflight.share_connections(SIDES))
        # Nothing is tried in the middle of another checkout's cell.
        with (
            machine.exclusive_machine(),
            runs.connected(SIDES, PreflightSide, PreflightSide, doctor.LIFETIME_S) as found,
        ):
            split = preflight.split_of(found, json.loads(CPUS))
            hosts = doctor.gather(found, MOST_CONNECTIONS, COMPILER, config["host"])
            print(doctor.format_brief(hosts), flush=True)
            if reasons := doctor.describe_stops(hosts):
                sys.exit("\n".join(f"not measured: {reason}" for reason in reasons))
            print(console.wrap(preflight.describe_cpus(found, split)), flush=True)
            if tells_speed:
                told = resolution.describe(found, split, TOLD_BY, resolution.SWEEP_S)
                print(console.wrap(console.make_printable(told)), flush=True)
            return run_facts.read(found, str(ROOT), COMPILER, FLAGS)
    except (OSError, CpuFault) as error:
        sys.exit(f"not measured: {error}")


def write_or_exit(write, *arguments):
    """A full or read-only disk is one line, before anything is measured."""
    try:
        write(*arguments)
    except OSError as error:
        end()
        sys.exit(f"not measured: cannot write in {os.getcwd()}: {error}")


def check_baseline():
    """Before anything is measured that would then have nothing to be compared with."""
    if BASELINE is None:
        sys.exit("no baseline: --config baseline=FOLDER, one in which a sweep was measured before")
    try:
        baseline = result_sets.results_folder(BASELINE)
    except result_sets.NoComparison as fault:
        sys.exit(f"baseline: {fault}")
    if result_sets.is_same_folder(baseline, "results"):
        sys.exit(f"baseline: {config['baseline']} is the folder of this result set itself")


def tell_leftovers():
    dag = workflow.dag
    cells = [job for job in dag.jobs if job.rule.name == "measure_cell" and not dag.needrun(job)]
    # As the user typed it: to this process --directory is the working directory.
    folder = workflow.overwrite_workdir or ""
    for line in leftovers.describe((job.output[0] for job in cells), folder):
        print(console.wrap(line), file=sys.stderr)


def begin(jobs):
    check_tools(jobs)
    tell_leftovers()
    for note in REVISION_NOTES:
        print(console.wrap(note), file=sys.stderr)
    if MEASURING & jobs.keys() and workflow.local_exec:
        for note in IGNORED:
            print(console.wrap(console.make_printable(note)), file=sys.stderr)
        try:
            facts = meet_sides(tells_speed="measure_cell" in jobs)
        except BaseException:
            end()  # Snakemake calls no onerror before the first job
            raise
        write_or_exit(machine_facts.write_facts, machine_facts.PATH, facts)
    sweep = {"started": records.format_utc(time.time()), "config": config}
    sweep |= {"revisions": REVISION_NOTES}
    if not workflow.local_exec:
        remove_stale_records()
        sweep |= machine_facts.read_source(str(ROOT), COMPILER, FLAGS)
    write_or_exit(files.write_text, SWEEP_PATH, json.dumps(sweep, indent=2) + "\n")
    write_or_exit(start_failures.begin)
    write_or_exit(announce, jobs)


def end():
    """Nothing that was begun for the sweep outlives it."""
    if workflow.is_main_process:
        start_failures.end()
    for connection in CONNECTIONS:
        connection.terminate()
        connection.wait()
    if any(network.is_remote(place) for place in SIDES.places):
        sides.remove_control_folder()


def end_on_sigterm(self, *_, exit_gracefully=JobScheduler.exit_gracefully):
    """After the cell that runs, also on a node. Snakemake's own handler waits for a lock that the code it interrupts may hold:
    a thread can."""
    threading.Thread(target=exit_gracefully, args=(self,)).start()


JobScheduler.exit_gracefully = end_on_sigterm


onstart:
    lift_rate_limit()
    shorten_the_queue()
    silence_jobs()
    jobs_to_run = count_jobs()
    if "compare_results" in jobs_to_run:
        check_baseline()
    if jobs_to_run.keys() != {"doctor"}:  # which must change nothing
        begin(jobs_to_run)


def page_command():
    """What makes the page of this result set."""
    options = [arg for arg in sys.argv[1:] if arg not in workflow.dag_settings.targets]
    if options == ["-j1"]:
        return "make report"
    return shlex.join(["snakemake", PAGE, *options])


def where_to_look(outputs):
    made = "" if PAGE in outputs else f", made by: {page_command()}"
    # As the user typed it: to this process --directory is the working directory.
    folder = workflow.overwrite_workdir or ""
    page, plots, cells, summary = (
        os.path.join(folder, path)
        for path in (PAGE, "plots/", "results/cells.csv", "results/summary.csv")
    )
    return (
        f"Open first: {page}{made}\n"
        f"Pictures: {plots}. Tables: {cells}, {summary}; docs/results.md explains them."
    )


def status_of_comparison(path):
    import compare_results
    import pandas

    return compare_results.status_of(pandas.read_csv(path))


onerror:
    end()
    tell_failures()


onsuccess:
    end()
    outputs_of_run = {str(path) for job in workflow.dag.jobs for path in job.output}
    if COMPARED["text"] in outputs_of_run:
        print(f"\n{console.format_fitted(COMPARED['text'])}")
        print(
            "Tables: results/compare.csv, results/compare_facts.csv; docs/compare.md explains them."
        )
    if "results/summary.txt" in outputs_of_run:
        print(f"\n{console.format_fitted('results/summary.txt')}\n")
        print(console.wrap(where_to_look(outputs_of_run)))
    has_failures = tell_failures()
    status = 0
    if "compare" in workflow.dag_settings.targets:
        status = status_of_comparison(COMPARED["table"])
    if status or has_failures:
        sys.exit(status or 1)
