# By server, so that one server's pictures need no other's measurements. The records are found from the cells' names:
# thousands of paths would not fit into a command.
rule summarize_server:
    input:
        records=lambda wildcards: [
            record_path(cell) for cell in cells_of(config, server=wildcards.server)
        ],
        scripts=scripts("summarize_server.py", "cells.py", "records.py", "tables.py"),
    output:
        cells="results/cells/{server}.csv",
        summary="results/summary/{server}.csv",
    log:
        "results/logs/summarize_{server}.log",
    params:
        connections=sorted(config["connections"]),
        repeats=config["repeats"],
    shell:
        "{SHARED} python3 {input.scripts[0]:q} {wildcards.server:q} {output.cells:q} {output.summary:q}"
        " --connections {params.connections} --repeats {params.repeats} 2> {log:q}"


rule merge_tables:
    input:
        tables=expand("results/{{table}}/{server}.csv", server=SERVERS),
        scripts=scripts("merge_tables.py"),
    output:
        "results/{table}.csv",
    log:
        "results/logs/merge_{table}.log",
    wildcard_constraints:
        table="cells|summary",
    shell:
        "{SHARED} python3 {input.scripts[0]:q} {input.tables:q} --output {output:q} 2> {log:q}"


rule tabulate_results:
    input:
        summary="results/summary.csv",
        scripts=scripts("tabulate_results.py", "flags.py"),
    output:
        "results/summary.txt",
    log:
        "results/logs/tabulate_results.log",
    shell:
        "{SHARED} python3 {input.scripts[0]:q} {input.summary:q} {output:q} 2> {log:q}"
