# What this host lacks, what would make its results noisy or wrong, and what it can resolve. By hand: snakemake doctor.
import resolution

MOST_CONNECTIONS = max(*config["connections"], config["profile"]["connections"])
# What decides which differences the sweep can tell.
TOLD_BY = resolution.Sweep(
    len(SERVERS), config["connections"], config["repeats"], config["paired_s"]
)


rule doctor:
    log:
        "results/logs/doctor.log",
    conda:
        "../envs/python.yaml"
    params:
        connections=MOST_CONNECTIONS,
        compiler=COMPILER,
        host=config["host"],
        network=NETWORK,
        cpus=CPUS,
        sweep=json.dumps(TOLD_BY._asdict()),
    shell:
        'leashed python3 "$ROOT"/scripts/doctor.py --connections {params.connections} --compiler {params.compiler:q}'
        " --host {params.host:q} --network {params.network:q} --cpus {params.cpus:q}"
        " --sweep {params.sweep:q} 2> {log:q}"
