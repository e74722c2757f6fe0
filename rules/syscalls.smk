from instruments import perf_stat


# A run of its own: nothing is counted in a measured one (docs/method.md, "Profile in separate runs").
rule count_syscalls:
    input:
        binary="results/bin/{server}",
    output:
        "results/syscalls/{server}.csv",
    log:
        "results/logs/count_syscalls_{server}.log",
    retries: 1
    conda:
        "../envs/python.yaml"
    threads: all_cores
    params:
        code=identity_of("count_syscalls"),
        connections=config["profile"]["connections"],
        host=config["host"],
        network=NETWORK,
        cpus=CPUS,
        workers=workers_of,
        obstacle=lambda wildcards: obstacles.obstacle_to(
            f"results/syscalls/{wildcards.server}.csv",
            lambda: obstacle_here(perf_stat.check_permission),
        ),
    shell:
        'leashed python3 "$ROOT"/scripts/count_syscalls.py {input.binary:q} {output:q}'
        " --connections {params.connections} --host {params.host:q} --network {params.network:q}"
        " --cpus {params.cpus:q} --workers {params.workers} 2> {log:q}"


rule merge_syscalls:
    input:
        tables=expand("results/syscalls/{server}.csv", server=SERVERS),
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
        png="plots/syscalls.png",
        svg=report(
            "plots/syscalls.svg",
            caption="../report/syscalls.rst",
            category="Comparison",
            labels={"picture": "system calls, context switches, memory"},
        ),
    log:
        "results/logs/plot_syscalls.log",
    conda:
        "../envs/analysis.yaml"
    params:
        code=identity_of("plot_syscalls"),
    shell:
        'shared python3 "$ROOT"/scripts/plot_syscalls.py {input.table:q} {output:q} 2> {log:q}'
