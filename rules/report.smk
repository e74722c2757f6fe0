# The page to read first: one HTML file that needs nothing else.


rule make_report:
    input:
        cells="results/cells.csv",
        summary="results/summary.csv",
        verdicts="results/verdicts.csv",
        syscalls="results/syscalls.csv",
        profiles=expand(
            "results/profile/{server}.{suffix}", server=SERVERS, suffix=["folded", "json"]
        ),
        latency=lambda wildcards: asked_for(LATENCY_TABLES),
        flamegraphs=expand("plots/{server}_flamegraph.svg", server=SERVERS),
    output:
        "results/report.html",
    log:
        "results/logs/make_report.log",
    conda:
        "../envs/analysis.yaml"
    params:
        code=identity_of("make_report"),
        connections=PROFILE["connections"],
    shell:
        'shared python3 "$ROOT"/scripts/make_report.py {output:q} --profile-connections {params.connections} 2> {log:q}'
