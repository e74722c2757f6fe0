from analysis import result_sets

# This result set against another one, the baseline: what got faster or slower, on request (docs/compare.md). Whatever the
# baseline is, nothing is measured for it, and no cell depends on it.
COMPARED = {"table": "results/compare.csv", "facts": "results/compare_facts.csv"}
COMPARED |= {"text": "results/compare.txt", "values": "results/compare_table.json"}
COMPARED |= {"png": "plots/compare.png", "svg": "plots/compare.svg"}
# As seen from where the user is: --directory has changed the working directory.
BASELINE = config["baseline"] and os.path.join(os.getenv("PWD", ""), config["baseline"])


rule compare_result_sets:
    input:
        cells="results/cells.csv",
    output:
        table=COMPARED["table"],
        facts=COMPARED["facts"],
        text=COMPARED["text"],
        values=COMPARED["values"],
    log:
        "results/logs/compare_result_sets.log",
    conda:
        "../envs/analysis.yaml"
    # Where the baseline is: a resource, since of that Snakemake makes no reason to compare again.
    resources:
        baseline=BASELINE or "",
    params:
        code=identity_of("compare_result_sets"),
        baseline=lambda wildcards: BASELINE and result_sets.identity_of(BASELINE),
        other_machine=(
            f"--other-machine {config['other_machine']}" if config["other_machine"] else ""
        ),
        servers=MEASURED,
        points=json.dumps(points_of(config)),
    shell:
        'shared python3 "$ROOT"/scripts/compare_result_sets.py {resources.baseline:q} . --table {output.table:q} --facts {output.facts:q}'
        " --text {output.text:q} {params.other_machine} --servers {params.servers:q}"
        " --points {params.points:q} --no-status 2> {log:q}"


rule plot_compare:
    input:
        table=COMPARED["table"],
        facts=COMPARED["facts"],
    output:
        png=COMPARED["png"],
        svg=COMPARED["svg"],
    log:
        "results/logs/plot_compare.log",
    conda:
        "../envs/analysis.yaml"
    params:
        code=identity_of("plot_compare"),
    shell:
        'shared python3 "$ROOT"/scripts/plot_compare.py {input.table:q} {input.facts:q} {output:q} 2> {log:q}'


# For CI: its status is that of the comparison (rules/handlers.smk), so it has something to run each time.
rule compare:
    input:
        COMPARED.values(),
    log:
        "results/logs/compare.log",
    conda:
        "../envs/python.yaml"
    shell:
        "true 2> {log:q}"
