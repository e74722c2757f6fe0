# What Snakemake calls when a run begins and ends.


onstart:
    snakemake_internals.keep_idle(workflow)
    snakemake_internals.silence_jobs(workflow)
    jobs = snakemake_internals.read_jobs(workflow)
    if "compare_result_sets" in jobs.counts:
        session.check_baseline(config["baseline"], BASELINE)
    if jobs.counts.keys() != {"doctor"}:  # which must change nothing
        session.begin(SESSION, jobs, workflow.local_exec)


onsuccess:
    session.end(SESSION)
    targets = snakemake_internals.targets_of(workflow)
    outputs = snakemake_internals.outputs_of(workflow)
    outcome.tell_results(SESSION.folder, outputs, targets, sys.argv[1:])
    has_failures = outcome.tell_failures(workflow.dag.jobs, EXTERNAL)
    status = outcome.status_of_comparison(COMPARED["table"]) if "compare" in targets else 0
    if status or has_failures:
        sys.exit(status or 1)


onerror:
    session.end(SESSION)
    outcome.tell_failures(workflow.dag.jobs, EXTERNAL)
