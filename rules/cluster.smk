# Cells as jobs on other machines (profiles/slurm, docs/cluster.md); all else runs where Snakemake was started.
import atexit

from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

workflow.localrules(*(rule.name for rule in workflow.rules if rule.name not in MEASURING))


def remove_stale_records():
    """Before a block runs, since what it leaves when it fails is kept: records are whole, but must be its own."""
    for job in workflow.dag.needrun_jobs():
        if job.rule.name in MEASURING:
            for path in job.output:
                Path(path).unlink(missing_ok=True)


def begin_block():
    """On a node, where Snakemake runs no hooks: what begin() does for a sweep. Raises SystemExit if it must not run."""
    check_tools(dict.fromkeys(MEASURING))
    sweep = json.loads(Path(SWEEP_PATH).read_text())
    atexit.register(end)
    facts = {**meet_sides(), "build": sweep["build"], "source": sweep["source"]}
    path = str(workflow.snakemake_tmp_dir / "machine.json")
    write_or_exit(machine_facts.write_facts, path, facts)
    os.environ[machine_facts.PATH_VARIABLE] = path


def execute(execute=workflow.execute, **settings):
    """Snakemake's, when it knows which executor it has: at once it does not."""
    if workflow.remote_exec:
        # Slurm's own executor would start another Snakemake for each cell.
        settings["executor_plugin"] = ExecutorPluginRegistry().get_plugin("local")
        settings["executor_settings"] = None
        # The Snakemake that began the sweep does not hand these on.
        workflow.execution_settings.keep_going = True
        workflow.scheduling_settings.max_jobs_per_timespan = None  # as in lift_rate_limit()
        begin_block()
    if settings["executor_plugin"].common_settings.local_exec and workflow.nodes:
        # -j beside the profile's cores is taken for a limit of a cluster's jobs, and lifts that of cores, which keeps
        # measurements apart and in order. Here it is what it is without a profile: another name for cores.
        workflow.global_resources["_cores"] = workflow.nodes
        workflow.global_resources["_nodes"] = None
    return execute(**settings)


workflow.execute = execute
