# What this host lacks, and what would make its results noisy or wrong. By hand: snakemake doctor.
MOST_CONNECTIONS = max(
    *config["connections"], *COST["connections"], config["profile"]["connections"]
)


rule doctor:
    input:
        scripts=scripts(
            "doctor.py",
            "flags.py",
            "host_checks.py",
            "perf_permission.py",
            "preflight.py",
            "preflight_side.py",
            *RUN_SCRIPTS,
        ),
    log:
        "results/logs/doctor.log",
    params:
        connections=MOST_CONNECTIONS,
        compiler=COMPILER,
        network=NETWORK,
    shell:
        "{LEASHED} python3 {input.scripts[0]:q} --connections {params.connections} --compiler {params.compiler:q}"
        " --network {params.network:q} 2> {log:q}"
