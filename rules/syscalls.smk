from instruments import perf_stat


# A run of its own: nothing is counted in a measured one (docs/method.md, "Profile in separate runs").
rule count_syscalls:
    input:
        binary="results/bin/{server}",
    output:
        "results/syscalls/{workload}/{server}.csv",
    log:
        "results/logs/count_syscalls_{workload}_{server}.log",
    retries: 1
    conda:
        "../envs/python.yaml"
    threads: all_cores
    params:
        code=identity_of("count_syscalls"),
        workload=lambda wildcards: json.dumps(WORKLOADS[wildcards.workload].changes),
        connections=lambda wildcards: workloads.profile_connections(config, wildcards.workload),
        host=config["host"],
        network=NETWORK,
        cpus=CPUS,
        workers=workers_of,
        obstacle=lambda wildcards: obstacles.obstacle_to(
            f"results/syscalls/{wildcards.workload}/{wildcards.server}.csv",
            lambda: obstacle_here(perf_stat.check_permission),
        ),
    shell:
        'leashed python3 "$ROOT"/scripts/count_syscalls.py {input.binary:q} {output:q}'
        " --workload-name {wildcards.workload} --workload {params.workload:q}"
        " --connections {params.connections} --host {params.host:q} --network {params.network:q}"
        " --cpus {params.cpus:q} --workers {params.workers} 2> {log:q}"


rule merge_syscalls:
    input:
        tables=expand("results/syscalls/{workload}/{server}.csv", workload=PROFILED, server=SERVERS),
    output:
        report(
            "results/syscalls.csv",
            caption="../report/syscalls.rst",
            category="Tables",
            labels={"table": "system calls, a row a count"},
        ),
    log:
        "results/logs/merge_syscalls.log",
    conda:
        "../envs/python.yaml"
    params:
        code=identity_of("merge_tables"),
    shell:
        'shared python3 "$ROOT"/scripts/merge_tables.py {input.tables:q} --output {output:q} 2> {log:q}'


rule plot_syscalls:
    input:
        table="results/syscalls.csv",
    output:
        png="plots/syscalls{suffix}.png",
        svg=report(
            "plots/syscalls{suffix}.svg",
            caption="../report/syscalls.rst",
            category="Comparison",
            labels=lambda wildcards: {
                "picture": f"system calls, context switches, memory: {PICTURED[wildcards.suffix]}"
            },
        ),
    log:
        "results/logs/plot_syscalls{suffix}.log",
    wildcard_constraints:
        suffix="|".join(suffix for suffix, name in PICTURED.items() if name in PROFILED),
    conda:
        "../envs/analysis.yaml"
    params:
        code=identity_of("plot_syscalls"),
        workload=lambda wildcards: PICTURED[wildcards.suffix],
    shell:
        'shared python3 "$ROOT"/scripts/plot_syscalls.py {params.workload} {input.table:q} {output:q} 2> {log:q}'
