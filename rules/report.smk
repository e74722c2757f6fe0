# The page to read first: one HTML file that needs nothing else.


rule make_report:
    input:
        cells="results/cells.csv",
        summary="results/summary.csv",
        verdicts="results/verdicts.csv",
        syscalls="results/syscalls.csv",
        profiles=expand(
            "results/profile/{workload}/{server}.{suffix}",
            workload=PROFILED,
            server=SERVERS,
            suffix=["folded", "json"],
        ),
        latency=lambda wildcards: asked_for(LATENCY_TABLES),
        flamegraphs=expand("plots/{server}_flamegraph{suffix}.svg", server=SERVERS, suffix=SUFFIXES),
    output:
        "results/report.html",
    log:
        "results/logs/make_report.log",
    conda:
        "../envs/analysis.yaml"
    params:
        code=identity_of("make_report"),
    shell:
        'shared python3 "$ROOT"/scripts/make_report.py {output:q} 2> {log:q}'
