# What this host lacks, and what would make its results noisy or wrong. By hand: snakemake doctor.
MOST_CONNECTIONS = max(*config["connections"], config["profile"]["connections"])


rule doctor:
    log:
        "results/logs/doctor.log",
    params:
        connections=MOST_CONNECTIONS,
        compiler=COMPILER,
        host=config["host"],
        network=NETWORK,
    shell:
        '{LEASHED} python3 "$ROOT"/scripts/doctor.py --connections {params.connections} --compiler {params.compiler:q}'
        " --host {params.host:q} --network {params.network:q} 2> {log:q}"
