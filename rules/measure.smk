# All cores: nothing else of this workflow runs beside a cell. Earlier in the order is of higher priority. What must not
# make a record stale is no parameter: the script finds the order, and how often to try again, in the config of the sweep.
# No retries: a server that fails in some of its runs must not pass for one that never does.
rule measure_cell:
    input:
        binary=lambda wildcards: f"results/bin/{binary_of(wildcards.server)}",
        reference=lambda wildcards: (
            REFERENCE_BINARY if WORKLOADS[wildcards.workload].is_paired else []
        ),
    output:
        RECORD,
    log:
        "results/logs/measure_{workload}_{server}_c{connections}_r{repeat}.log",
    priority: priority_of
    conda:
        "../envs/python.yaml"
    threads: all_cores
    params:
        workload=lambda wildcards: json.dumps(WORKLOADS[wildcards.workload].changes),
        duration_s=lambda wildcards: workloads.setting_of(config, wildcards.workload, "duration_s"),
        warmup_s=config["warmup_s"],
        pairing=lambda wildcards, input: (
            f"--reference {input.reference} --paired-s {config['paired_s']}"
            if input.reference
            else ""
        ),
        host=config["host"],
        network=NETWORK,
        cpus=CPUS,
        workers=workers_of,
        code=identity_of("measure_cell"),
    shell:
        'leashed python3 "$ROOT"/scripts/measure_cell.py {input.binary:q} {output:q}'
        " --server {wildcards.server:q} --workload-name {wildcards.workload} --workload {params.workload:q}"
        " --connections {wildcards.connections} --repeat {wildcards.repeat}"
        " --duration-s {params.duration_s} --warmup-s {params.warmup_s}"
        " --host {params.host:q} --network {params.network:q} --cpus {params.cpus:q}"
        " --workers {params.workers} {params.pairing} 2> {log:q}"
