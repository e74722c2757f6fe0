TABULATE_SCRIPTS = scripts(
    "tabulate_server.py",
    "cell_rows.py",
    "cells.py",
    "faults.py",
    "files.py",
    "processes.py",
    "records.py",
)
SUMMARIZE_SCRIPTS = scripts(
    "summarize_cells.py",
    "cell_rows.py",
    "faults.py",
    "files.py",
    "flags.py",
    "processes.py",
    "tables.py",
)


# By server, so that one server's pictures need no other's measurements. The records are found from the cells' names:
# thousands of paths would not fit into a command.
rule tabulate_server:
    input:
        records=lambda wildcards: [record_path(cell) for cell in cells_of(config, wildcards.server)],
        scripts=TABULATE_SCRIPTS,
    output:
        "results/cells/{server}.csv",
    log:
        "results/logs/tabulate_{server}.log",
    params:
        server=lambda wildcards: wildcards.server,
        connections=sorted(config["connections"]),
        repeats=config["repeats"],
    shell:
        "{SHARED} python3 {input.scripts[0]:q} {params.server:q} {output:q}"
        " --connections {params.connections} --repeats {params.repeats} 2> {log:q}"


use rule tabulate_server as tabulate_ceiling with:
    input:
        records=[record_path(cell) for cell in CEILING_CELLS],
        scripts=TABULATE_SCRIPTS,
    output:
        "results/ceiling/cells.csv",
    log:
        "results/logs/tabulate_ceiling.log",
    params:
        server=CEILING,
        connections=sorted(config["connections"]),
        repeats=min(config["repeats"], config["ceiling_repeats"]),


rule merge_cells:
    input:
        tables=expand("results/cells/{server}.csv", server=MEASURED),
        scripts=scripts("merge_tables.py", "faults.py", "files.py", "processes.py"),
    output:
        report(
            "results/cells.csv",
            caption="../report/cells.rst",
            category="Tables",
            labels={"table": "cells, a row a measurement"},
        ),
    log:
        "results/logs/merge_cells.log",
    shell:
        "{SHARED} python3 {input.scripts[0]:q} {input.tables:q} --output {output:q} 2> {log:q}"


rule summarize_cells:
    input:
        cells="results/cells.csv",
        ceiling="results/ceiling.csv",
        scripts=SUMMARIZE_SCRIPTS,
    output:
        report(
            "results/summary.csv",
            caption="../report/summary.rst",
            category="Tables",
            labels={"table": "summary, a row a server and number of connections"},
        ),
    log:
        "results/logs/summarize_cells.log",
    shell:
        "{SHARED} python3 {input.scripts[0]:q} {input.cells:q} {output:q} --ceiling {input.ceiling:q} 2> {log:q}"


rule summarize_ceiling:
    input:
        cells="results/ceiling/cells.csv",
        scripts=SUMMARIZE_SCRIPTS,
    output:
        "results/ceiling.csv",
    log:
        "results/logs/summarize_ceiling.log",
    shell:
        "{SHARED} python3 {input.scripts[0]:q} {input.cells:q} {output:q} 2> {log:q}"


rule compare_servers:
    input:
        cells="results/cells.csv",
        summary="results/summary.csv",
        scripts=scripts(
            "compare_servers.py",
            "cell_rows.py",
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
            "cell_rows.py",
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
