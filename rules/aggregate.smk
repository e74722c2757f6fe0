SUMMARIZE_SCRIPTS = scripts(
    "summarize_server.py",
    "cells.py",
    "faults.py",
    "files.py",
    "flags.py",
    "processes.py",
    "records.py",
    "tables.py",
)


# By server, so that one server's pictures need no other's measurements. The records are found from the cells' names:
# thousands of paths would not fit into a command.
rule summarize_server:
    input:
        records=lambda wildcards: [record_path(cell) for cell in cells_of(config, wildcards.server)],
        ceiling="results/ceiling.csv",
        scripts=SUMMARIZE_SCRIPTS,
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
        " --connections {params.connections} --repeats {params.repeats} --ceiling {input.ceiling:q} 2> {log:q}"


rule summarize_ceiling:
    input:
        records=[record_path(cell) for cell in CEILING_CELLS],
        scripts=SUMMARIZE_SCRIPTS,
    output:
        cells="results/ceiling/cells.csv",
        summary="results/ceiling.csv",
    log:
        "results/logs/summarize_ceiling.log",
    params:
        connections=sorted(config["connections"]),
        repeats=min(config["repeats"], config["ceiling_repeats"]),
    shell:
        "{SHARED} python3 {input.scripts[0]:q} ceiling {output.cells:q} {output.summary:q}"
        " --connections {params.connections} --repeats {params.repeats} 2> {log:q}"


TABLES = {
    "cells": "cells, a row a measurement",
    "summary": "summary, a row a server and number of connections",
}


rule merge_tables:
    input:
        tables=expand("results/{{table}}/{server}.csv", server=MEASURED),
        scripts=scripts("merge_tables.py", "faults.py", "files.py", "processes.py"),
    output:
        report(
            "results/{table}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels=lambda wildcards: {"table": TABLES[wildcards.table]},
        ),
    log:
        "results/logs/merge_{table}.log",
    wildcard_constraints:
        table="|".join(TABLES),
    shell:
        "{SHARED} python3 {input.scripts[0]:q} {input.tables:q} --output {output:q} 2> {log:q}"


rule compare_servers:
    input:
        cells="results/cells.csv",
        summary="results/summary.csv",
        scripts=scripts(
            "compare_servers.py",
            "cells.py",
            "comparisons.py",
            "faults.py",
            "files.py",
            "flags.py",
            "processes.py",
            "tables.py",
        ),
    output:
        report(
            "results/verdicts.csv",
            caption="../report/verdicts.rst",
            category="Tables",
            labels={"table": "verdicts, a row a pair of servers and figure"},
        ),
    log:
        "results/logs/compare_servers.log",
    shell:
        "{SHARED} python3 {input.scripts[0]:q} {input.cells:q} {input.summary:q} {output:q} 2> {log:q}"


rule tabulate_results:
    input:
        cells="results/cells.csv",
        summary="results/summary.csv",
        scripts=scripts(
            "tabulate_results.py",
            "cells.py",
            "faults.py",
            "files.py",
            "flags.py",
            "processes.py",
            "tables.py",
        ),
    output:
        "results/summary.txt",
    log:
        "results/logs/tabulate_results.log",
    shell:
        "{SHARED} python3 {input.scripts[0]:q} {input.cells:q} {input.summary:q} {output:q} 2> {log:q}"
