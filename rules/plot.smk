OVERVIEWS = ["throughput", "latency", "cpu"]


rule plot_server:
    input:
        cells="results/cells/{server}.csv",
        summary="results/summary/{server}.csv",
        scripts=scripts("plot_server.py", "flags.py", "plot_style.py", "tables.py"),
    output:
        "plots/{server}.png",
    log:
        "results/logs/plot_{server}.log",
    wildcard_constraints:
        server="|".join(MEASURED),
    shell:
        "{SHARED} python3 {input.scripts[0]:q} {input.cells:q} {input.summary:q} {output:q} 2> {log:q}"


rule plot_overview:
    input:
        cells="results/cells.csv",
        summary="results/summary.csv",
        scripts=scripts("plot_overview.py", "cells.py", "flags.py", "plot_style.py", "tables.py"),
    output:
        "plots/overview_{figure}.png",
    log:
        "results/logs/plot_overview_{figure}.log",
    wildcard_constraints:
        figure="|".join(OVERVIEWS),
    shell:
        "{SHARED} python3 {input.scripts[0]:q} {wildcards.figure} {input.cells:q} {input.summary:q} {output:q} 2> {log:q}"


rule plot_ranking:
    input:
        verdicts="results/verdicts.csv",
        summary="results/summary.csv",
        scripts=scripts(
            "plot_ranking.py",
            "cells.py",
            "comparisons.py",
            "flags.py",
            "plot_style.py",
            "tables.py",
        ),
    output:
        "plots/ranking.png",
    log:
        "results/logs/plot_ranking.log",
    shell:
        "{SHARED} python3 {input.scripts[0]:q} {input.verdicts:q} {input.summary:q} {output:q} 2> {log:q}"
