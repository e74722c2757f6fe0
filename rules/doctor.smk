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
            "machine.py",
            "machine_facts.py",
            "perf_permission.py",
            "records.py",
        ),
    log:
        "results/logs/doctor.log",
    params:
        connections=MOST_CONNECTIONS,
        compiler=COMPILER,
    shell:
        "python3 {input.scripts[0]:q} --connections {params.connections} --compiler {params.compiler:q} 2> {log:q}"
