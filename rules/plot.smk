# Figures over the number of connections, by the names that people read.
OVERVIEWS = {"throughput": "throughput", "latency": "latency", "cpu": "CPU time per request"}


rule plot_server:
    input:
        cells="results/cells/{server}.csv",
    output:
        png="plots/{server}.png",
        svg=report(
            "plots/{server}.svg",
            caption="../report/server.rst",
            category="Servers",
            subcategory="Throughput",
            labels={"server": "{server}"},
        ),
    log:
        "results/logs/plot_{server}.log",
    wildcard_constraints:
        server="|".join(map(re.escape, MEASURED)),
    conda:
        "../envs/analysis.yaml"
    params:
        code=identity_of("plot_server"),
    shell:
        'shared python3 "$ROOT"/scripts/plot_server.py {input.cells:q} {output:q} 2> {log:q}'


rule plot_over_connections:
    input:
        cells="results/cells.csv",
        summary="results/summary.csv",
    output:
        png="plots/overview_{figure}.png",
        svg=report(
            "plots/overview_{figure}.svg",
            caption="../report/overview.rst",
            category="Comparison",
            labels=lambda wildcards: {"picture": OVERVIEWS[wildcards.figure]},
        ),
    log:
        "results/logs/plot_overview_{figure}.log",
    wildcard_constraints:
        figure="|".join(OVERVIEWS),
    conda:
        "../envs/analysis.yaml"
    params:
        code=identity_of("plot_over_connections"),
    shell:
        'shared python3 "$ROOT"/scripts/plot_over_connections.py {wildcards.figure} {input.cells:q} {input.summary:q} {output:q} 2> {log:q}'


rule plot_map:
    input:
        cells="results/cells.csv",
        summary="results/summary.csv",
        verdicts="results/verdicts.csv",
    output:
        png="plots/map.png",
        svg=report(
            "plots/map.svg",
            caption="../report/map.rst",
            category="Comparison",
            labels={"picture": "the map: which server for which workload"},
        ),
    log:
        "results/logs/plot_map.log",
    conda:
        "../envs/analysis.yaml"
    params:
        code=identity_of("plot_map"),
    shell:
        'shared python3 "$ROOT"/scripts/plot_map.py {input.cells:q} {input.summary:q} {input.verdicts:q} {output:q} 2> {log:q}'


rule plot_ranking:
    input:
        cells="results/cells.csv",
        summary="results/summary.csv",
        verdicts="results/verdicts.csv",
    output:
        png="plots/ranking.png",
        svg=report(
            "plots/ranking.svg",
            caption="../report/ranking.rst",
            category="Comparison",
            labels={"picture": "ranking"},
        ),
    log:
        "results/logs/plot_ranking.log",
    conda:
        "../envs/analysis.yaml"
    params:
        code=identity_of("plot_ranking"),
    shell:
        'shared python3 "$ROOT"/scripts/plot_ranking.py {input.cells:q} {input.summary:q} {input.verdicts:q} {output:q} 2> {log:q}'


rule plot_overview:
    input:
        cells="results/cells.csv",
        summary="results/summary.csv",
        verdicts="results/verdicts.csv",
    output:
        png="plots/overview.png",
        svg=report(
            "plots/overview.svg",
            caption="../report/story.rst",
            category="Comparison",
            labels={"picture": "the first workload"},
        ),
    log:
        "results/logs/plot_overview.log",
    conda:
        "../envs/analysis.yaml"
    params:
        code=identity_of("plot_overview"),
    shell:
        'shared python3 "$ROOT"/scripts/plot_overview.py {input.cells:q} {input.summary:q} {input.verdicts:q} {output:q} 2> {log:q}'
