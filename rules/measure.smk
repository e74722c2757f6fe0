MEASURE_SCRIPTS = scripts(
    "measure_cell.py",
    "cells.py",
    "faults.py",
    "flags.py",
    "records.py",
    "run_facts.py",
    *RUN_SCRIPTS,
)
# In place of its modules as inputs: a file more of each of 10,000 cells is 10,000 edges more of the graph.
MEASURE_CODE = content_identity(MEASURE_SCRIPTS)


# All cores: nothing else of this workflow runs beside a cell. Earlier in the order is of higher priority. What must not
# make a record stale is no parameter: the script finds the order, and how often to try again, in the config of the sweep.
# No retries: a server that fails in some of its runs must not pass for one that never does.
rule measure_cell:
    input:
        binary=lambda wildcards: f"results/bin/{base_of(wildcards.server)}",
        scripts=MEASURE_SCRIPTS[:1],
    output:
        RECORD,
    log:
        "results/logs/measure_{server}_c{connections}_r{repeat}.log",
    priority: priority_of
    threads: all_cores
    params:
        duration_s=config["duration_s"],
        warmup_s=config["warmup_s"],
        host=config["host"],
        network=NETWORK,
        cpus=CPUS,
        workers=workers_of,
        code=MEASURE_CODE,
        options="",
    shell:
        "{LEASHED} python3 {input.scripts[0]:q} {input.binary:q} {output:q}"
        " --server {wildcards.server:q} --connections {wildcards.connections} --repeat {wildcards.repeat}"
        " --duration-s {params.duration_s} --warmup-s {params.warmup_s}"
        " --host {params.host:q} --network {params.network:q} --cpus {params.cpus:q}"
        " --workers {params.workers} {params.options} 2> {log:q}"


# What the load generator itself can reach.
use rule measure_cell as measure_ceiling with:
    output:
        CEILING_RECORD,
    wildcard_constraints:
        server=CEILING,
