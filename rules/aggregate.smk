# By server, so that one server's pictures need no other's measurements. The records are found from the cells' names:
# thousands of paths would not fit into a command.
rule collect_cells:
    input:
        records=lambda wildcards: [record_path(cell) for cell in cells_of(config, wildcards.server)],
    output:
        "results/cells/{server}.csv",
    log:
        "results/logs/tabulate_{server}.log",
    conda:
        "../envs/python.yaml"
    params:
        code=identity_of("collect_cells"),
        server=lambda wildcards: wildcards.server,
        points=lambda wildcards: json.dumps(points_of(config, wildcards.server)),
    shell:
        'shared python3 "$ROOT"/scripts/collect_cells.py {params.server:q} {output:q}'
        " --points {params.points:q} 2> {log:q}"


rule merge_cells:
    input:
        tables=expand("results/cells/{server}.csv", server=MEASURED),
    output:
        report(
            "results/cells.csv",
            caption="../report/cells.rst",
            category="Tables",
            labels={"table": "cells, a row a measurement"},
        ),
    log:
        "results/logs/merge_cells.log",
    conda:
        "../envs/python.yaml"
    params:
        code=identity_of("merge_tables"),
    shell:
        'shared python3 "$ROOT"/scripts/merge_tables.py {input.tables:q} --output {output:q} 2> {log:q}'


rule summarize_cells:
    input:
        cells="results/cells.csv",
    output:
        report(
            "results/summary.csv",
            caption="../report/summary.rst",
            category="Tables",
            labels={"table": "summary, a row a server and number of connections"},
        ),
    log:
        "results/logs/summarize_cells.log",
    conda:
        "../envs/analysis.yaml"
    params:
        code=identity_of("summarize_cells"),
    shell:
        'shared python3 "$ROOT"/scripts/summarize_cells.py {input.cells:q} {output:q} 2> {log:q}'


rule judge_servers:
    input:
        cells="results/cells.csv",
        summary="results/summary.csv",
    output:
        report(
            "results/verdicts.csv",
            caption="../report/verdicts.rst",
            category="Tables",
            labels={"table": "verdicts, a row a pair of servers and figure"},
        ),
    log:
        "results/logs/judge_servers.log",
    conda:
        "../envs/analysis.yaml"
    params:
        code=identity_of("judge_servers"),
    shell:
        'shared python3 "$ROOT"/scripts/judge_servers.py {input.cells:q} {input.summary:q} {output:q} 2> {log:q}'


rule print_summary:
    input:
        cells="results/cells.csv",
        summary="results/summary.csv",
        verdicts="results/verdicts.csv",
    output:
        text="results/summary.txt",
        values="results/summary_table.json",
    log:
        "results/logs/print_summary.log",
    conda:
        "../envs/analysis.yaml"
    params:
        code=identity_of("print_summary"),
    shell:
        'shared python3 "$ROOT"/scripts/print_summary.py {input.cells:q} {input.summary:q} {input.verdicts:q} {output.text:q} 2> {log:q}'
