from instruments import perf_record

# Any workload's flamegraph can be asked for by name. With no name it is of the first that is profiled.
PICTURED = {"": PROFILED[0], **{f"_{name}": name for name in WORKLOADS}}
SUFFIXES = [workloads.picture_suffix(name, PROFILED) for name in PROFILED]


# A run of its own: sampling would slow a measured one.
rule profile_server:
    input:
        binary="results/bin/{server}",
    output:
        folded="results/profile/{workload}/{server}.folded",
        facts="results/profile/{workload}/{server}.json",
    log:
        "results/logs/profile_{workload}_{server}.log",
    retries: 1
    conda:
        "../envs/python.yaml"
    threads: all_cores
    params:
        code=identity_of("profile_server"),
        workload=lambda wildcards: json.dumps(WORKLOADS[wildcards.workload].changes),
        connections=lambda wildcards: workloads.profile_connections(config, wildcards.workload),
        duration_s=config["profile"]["duration_s"],
        frequency_hz=config["profile"]["frequency_hz"],
        warmup_s=config["warmup_s"],
        host=config["host"],
        network=NETWORK,
        cpus=CPUS,
        workers=workers_of,
        obstacle=lambda wildcards: obstacles.obstacle_to(
            f"results/profile/{wildcards.workload}/{wildcards.server}.json",
            lambda: obstacle_here(perf_record.check_here),
        ),
    shell:
        'leashed python3 "$ROOT"/scripts/profile_server.py {input.binary:q} {output.folded:q} {output.facts:q}'
        " --workload-name {wildcards.workload} --workload {params.workload:q}"
        " --connections {params.connections} --duration-s {params.duration_s} --frequency-hz {params.frequency_hz}"
        " --warmup-s {params.warmup_s} --host {params.host:q} --network {params.network:q}"
        " --cpus {params.cpus:q} --workers {params.workers} 2> {log:q}"


rule draw_flamegraph:
    input:
        folded=lambda wildcards: f"results/profile/{PICTURED[wildcards.suffix]}/{wildcards.server}.folded",
        facts=lambda wildcards: f"results/profile/{PICTURED[wildcards.suffix]}/{wildcards.server}.json",
    output:
        svg=report(
            "plots/{server}_flamegraph{suffix}.svg",
            caption="../report/flamegraph.rst",
            category="Servers",
            subcategory="Flamegraphs",
            labels=lambda wildcards: {
                "server": wildcards.server,
                "workload": PICTURED[wildcards.suffix],
            },
        ),
        png="plots/{server}_flamegraph{suffix}.png",
    log:
        "results/logs/draw_flamegraph_{server}{suffix}.log",
    wildcard_constraints:
        suffix="|".join(PICTURED),
    conda:
        "../envs/flamegraph.yaml"
    params:
        code=identity_of("draw_flamegraph"),
    shell:
        'shared python3 "$ROOT"/scripts/draw_flamegraph.py {input.folded:q} {input.facts:q} {output.svg:q} {output.png:q} 2> {log:q}'
