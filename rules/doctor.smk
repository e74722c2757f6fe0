# What this host lacks, what would make its results noisy or wrong, and what it can resolve. By hand: snakemake doctor.
rule doctor:
    log:
        "results/logs/doctor.log",
    conda:
        "../envs/python.yaml"
    params:
        connections=session.most_connections(config),
        compiler=COMPILER,
        host=config["host"],
        network=NETWORK,
        cpus=CPUS,
        sweep=json.dumps(resolution.sweep_of(config)._asdict()),
    shell:
        'leashed python3 "$ROOT"/scripts/doctor.py --connections {params.connections} --compiler {params.compiler:q}'
        " --host {params.host:q} --network {params.network:q} --cpus {params.cpus:q}"
        " --sweep {params.sweep:q} 2> {log:q}"
