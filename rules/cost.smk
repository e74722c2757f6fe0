# CPU time per request on one CPU, as ratio to that of a loop that only receives and sends. A sweep of its own, which
# `all` does not need: its cells are measured like all others, but have one process on one CPU.


use rule measure_cell as measure_cost with:
    input:
        binary=lambda wildcards: f"results/bin/{wildcards.server}",
    output:
        COST_RECORD,
    log:
        "results/logs/measure_cost_{server}_c{connections}_r{repeat}.log",
    wildcard_constraints:
        server="|".join([*COST["servers"], CEILING]),
    priority: cost_priority_of
    params:
        duration_s=COST["duration_s"],
        warmup_s=COST["warmup_s"],
        pairing="",
        host=COST["host"],
        network=NETWORK,
        cpus=CPUS,
        workers=1,
        code=identity_of("measure_cell"),
        options="--server-cpus 1",


rule compare_cost:
    input:
        records=[cost_record_path(cell) for cell in COST_CELLS],
    output:
        table=report(
            "results/cost.csv",
            caption="../report/cost.rst",
            category="Tables",
            labels={"table": "cost on one CPU, a row a server and number of connections"},
        ),
        cells="results/cost/cells.csv",
        text="results/cost.txt",
    log:
        "results/logs/compare_cost.log",
    params:
        code=identity_of("compare_cost"),
        servers=COST["servers"],
        connections=sorted(COST["connections"]),
        repeats=COST["repeats"],
    shell:
        '{SHARED} python3 "$ROOT"/scripts/compare_cost.py {output.table:q} {output.cells:q} {output.text:q}'
        " --servers {params.servers:q} --connections {params.connections} --repeats {params.repeats} 2> {log:q}"


rule plot_cost:
    input:
        table="results/cost.csv",
        cells="results/cost/cells.csv",
    output:
        png="plots/cost.png",
        svg=report(
            "plots/cost.svg",
            caption="../report/cost.rst",
            category="Comparison",
            labels={"picture": "cost on one CPU"},
        ),
    log:
        "results/logs/plot_cost.log",
    params:
        code=identity_of("plot_cost"),
    shell:
        '{SHARED} python3 "$ROOT"/scripts/plot_cost.py {input.table:q} {input.cells:q} {output:q} 2> {log:q}'
