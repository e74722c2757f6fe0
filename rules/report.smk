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
        flamegraphs=expand("plots/{server}_flamegraph.svg", server=SERVERS),
        page=[str(ROOT / "report" / name) for name in ("page.html", "page.css", "page.js")],
        scripts=scripts(
            "make_report.py",
            "cell_rows.py",
            "cells.py",
            "comparisons.py",
            "faults.py",
            "files.py",
            "findings.py",
            "flags.py",
            "plot_ranking.py",
            "plot_style.py",
            "plot_syscalls.py",
            "processes.py",
            "records.py",
            "report_caveats.py",
            "report_charts.py",
            "report_profiles.py",
            "tables.py",
            "tabulate_results.py",
        ),
    output:
        "results/report.html",
    log:
        "results/logs/make_report.log",
    params:
        connections=PROFILE["connections"],
    shell:
        "{SHARED} python3 {input.scripts[0]:q} {output:q} --profile-connections {params.connections} 2> {log:q}"
