from instruments import perf_record

PROFILE = config["profile"]


# A run of its own: sampling would slow a measured one.
rule profile_server:
    input:
        binary="results/bin/{server}",
    output:
        folded="results/profile/{server}.folded",
        facts="results/profile/{server}.json",
    log:
        "results/logs/profile_{server}.log",
    retries: 1
    conda:
        "../envs/python.yaml"
    threads: all_cores
    params:
        **PROFILE,
        code=identity_of("profile_server"),
        warmup_s=config["warmup_s"],
        host=config["host"],
        network=NETWORK,
        cpus=CPUS,
        workers=workers_of,
        obstacle=lambda wildcards: obstacles.obstacle_to(
            f"results/profile/{wildcards.server}.json",
            lambda: obstacle_here(perf_record.check_here),
        ),
    shell:
        'leashed python3 "$ROOT"/scripts/profile_server.py {input.binary:q} {output.folded:q} {output.facts:q}'
        " --connections {params.connections} --duration-s {params.duration_s} --frequency-hz {params.frequency_hz}"
        " --warmup-s {params.warmup_s} --host {params.host:q} --network {params.network:q}"
        " --cpus {params.cpus:q} --workers {params.workers} 2> {log:q}"


rule draw_flamegraph:
    input:
        folded="results/profile/{server}.folded",
        facts="results/profile/{server}.json",
    output:
        svg=report(
            "plots/{server}_flamegraph.svg",
            caption="../report/flamegraph.rst",
            category="Servers",
            subcategory="Flamegraphs",
            labels={"server": "{server}"},
        ),
        png="plots/{server}_flamegraph.png",
    log:
        "results/logs/draw_flamegraph_{server}.log",
    conda:
        "../envs/flamegraph.yaml"
    params:
        code=identity_of("draw_flamegraph"),
    shell:
        'shared python3 "$ROOT"/scripts/draw_flamegraph.py {input.folded:q} {input.facts:q} {output.svg:q} {output.png:q} 2> {log:q}'
