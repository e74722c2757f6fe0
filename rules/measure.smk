MEASURE_SCRIPTS = scripts(
    "measure_cell.py",
    "cells.py",
    "flags.py",
    "load.py",
    "machine.py",
    "processes.py",
    "records.py",
    "runs.py",
    "server_process.py",
    "sockets.py",
    "wrk_report.lua",
)


# All cores: nothing else of this workflow runs beside a cell. Earlier in the order is of higher priority.
rule measure_cell:
    input:
        binary="results/bin/{server}",
        scripts=MEASURE_SCRIPTS,
    output:
        RECORD,
    log:
        "results/logs/measure_{server}_c{connections}_r{repeat}.log",
    priority:
        lambda wildcards: PRIORITY.get(
            (wildcards.server, int(wildcards.connections), int(wildcards.repeat)), 0
        )
    retries: 1
    threads: workflow.cores
    params:
        duration_s=config["duration_s"],
        warmup_s=config["warmup_s"],
        host=config["host"],
        workers=workers_of,
    shell:
        "exec setpriv --pdeathsig KILL python3 {input.scripts[0]:q} {input.binary:q} {output:q}"
        " --server {wildcards.server:q} --connections {wildcards.connections} --repeat {wildcards.repeat}"
        " --duration-s {params.duration_s} --warmup-s {params.warmup_s}"
        " --host {params.host:q} --workers {params.workers} 2> {log:q}"
