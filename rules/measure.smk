MEASURE_SCRIPTS = scripts(
    "measure_cell.py",
    "cells.py",
    "flags.py",
    "load.py",
    "machine.py",
    "records.py",
    "server_process.py",
    "sockets.py",
    "wrk_report.lua",
)


def priority_of_cell(wildcards):
    cell = (wildcards.server, int(wildcards.connections), int(wildcards.repeat))
    return len(ORDER) - ORDER.get(cell, len(ORDER))


# All cores: nothing else of this workflow runs beside a cell. Earlier in the order is of higher priority.
rule measure_cell:
    input:
        binary="results/bin/{server}",
        scripts=MEASURE_SCRIPTS,
    output:
        RECORD,
    log:
        "results/logs/measure_{server}_c{connections}_r{repeat}.log",
    params:
        duration_s=config["duration_s"],
        warmup_s=config["warmup_s"],
        host=config["host"],
        workers=config["workers"],
    threads: workflow.cores
    retries: 1
    priority: priority_of_cell
    shell:
        "exec setpriv --pdeathsig KILL python3 {input.scripts[0]:q} {input.binary:q} {output:q}"
        " --server {wildcards.server:q} --connections {wildcards.connections} --repeat {wildcards.repeat}"
        " --duration-s {params.duration_s} --warmup-s {params.warmup_s}"
        " --host {params.host:q} --workers {params.workers} 2> {log:q}"
