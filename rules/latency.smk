# Latency at fixed rates, with an open loop (docs/latency.md): on request, and in `all` and the report from then on.
from sweep import rates

LATENCY = config["latency"]
RATED_WORKLOADS = rates.workloads_of(config)
RATE_NAMES = rates.rate_names(LATENCY)
RATED_POSITION = rates.order_of(config)
CAPACITY = [] if LATENCY["rates"] else [rates.RATES_PATH]
RATED = [rates.record_path(cell) for cell in rates.cells_of(config)]
LATENCY_TABLES = [
    "results/latency.csv",
    "results/latency_summary.csv",
    "results/latency_limits.csv",
]
LATENCY_TEXT = "results/latency.txt"
LATENCY_PICTURES = ["plots/latency.png", "plots/latency.svg"]


# Once: when cells are measured again, the rates stay, and with them what was measured at them. There is no rule then,
# since ancient() would not do: beside stale cells, Snakemake 9 takes jobs behind it for done, missing outputs or not.
if not rates.is_planned(rates.RATES_PATH, rated_grid()):

    rule plan_rates:
        input:
            cells_of_capacity,
        output:
            rates.RATES_PATH,
        log:
            "results/logs/plan_rates.log",
        conda:
            "../envs/python.yaml"
        params:
            code=identity_of("plan_rates"),
            grid=json.dumps(rated_grid()),
        shell:
            'shared python3 "$ROOT"/scripts/plan_rates.py {output:q} --grid {params.grid:q} 2> {log:q}'


# As measure_cell: all cores, and its place in the order.
rule measure_latency:
    input:
        binary="results/bin/{server}",
        load=f"results/bin/{LOAD}",
        reference=REFERENCE_BINARY if LATENCY["paired_s"] else [],
        capacity=CAPACITY,
    output:
        rates.RECORD,
    log:
        "results/logs/latency_{workload}_{server}_{rate}_r{repeat}.log",
    wildcard_constraints:
        server="|".join(map(re.escape, SERVERS)),
        workload="|".join(RATED_WORKLOADS) or "(?!)",
        rate="|".join(map(re.escape, RATE_NAMES)),
    priority: rated_priority_of
    conda:
        "../envs/python.yaml"
    threads: all_cores
    params:
        workload=lambda wildcards: json.dumps(WORKLOADS[wildcards.workload].changes),
        connections=lambda wildcards: rates.connections_of(config, wildcards.workload),
        duration_s=LATENCY["duration_s"],
        pairing=lambda wildcards, input: (
            f"--reference {input.reference} --paired-s {LATENCY['paired_s']}"
            if input.reference
            else ""
        ),
        capacity=lambda wildcards, input: f"--rates {input.capacity}" if input.capacity else "",
        seed=config["seed"],
        host=config["host"],
        network=NETWORK,
        cpus=CPUS,
        workers=workers_of,
        code=identity_of("measure_latency"),
    shell:
        'leashed python3 "$ROOT"/scripts/measure_latency.py {input.binary:q} {output:q} --load {input.load:q}'
        " --server {wildcards.server:q} --workload-name {wildcards.workload} --workload {params.workload:q}"
        " --connections {params.connections} --rate {wildcards.rate} {params.capacity} --seed {params.seed}"
        " --repeat {wildcards.repeat} --duration-s {params.duration_s}"
        " --host {params.host:q} --network {params.network:q} --cpus {params.cpus:q}"
        " --workers {params.workers} {params.pairing} 2> {log:q}"


rule collect_latency:
    input:
        RATED,
    output:
        LATENCY_TABLES[0],
    log:
        "results/logs/collect_latency.log",
    conda:
        "../envs/python.yaml"
    params:
        code=identity_of("collect_latency"),
        grid=json.dumps(
            {
                "servers": SERVERS,
                "workloads": RATED_WORKLOADS,
                "rates": RATE_NAMES,
                "repeats": LATENCY["repeats"],
            }
        ),
    shell:
        'shared python3 "$ROOT"/scripts/collect_latency.py {output:q} --grid {params.grid:q} 2> {log:q}'


rule summarize_latency:
    input:
        LATENCY_TABLES[0],
    output:
        points=LATENCY_TABLES[1],
        limits=LATENCY_TABLES[2],
        text=LATENCY_TEXT,
        values=LATENCY_TEXT.replace(".txt", "_table.json"),
    log:
        "results/logs/summarize_latency.log",
    conda:
        "../envs/analysis.yaml"
    params:
        code=identity_of("summarize_latency"),
        target_ms=LATENCY["target_ms"],
    shell:
        'shared python3 "$ROOT"/scripts/summarize_latency.py {input:q} {output.points:q} {output.limits:q} {output.text:q} --target-ms {params.target_ms} 2> {log:q}'


rule plot_latency:
    input:
        LATENCY_TABLES,
    output:
        png=LATENCY_PICTURES[0],
        svg=report(
            LATENCY_PICTURES[1],
            caption="../report/latency.rst",
            category="Comparison",
            labels={"picture": "latency over the rate"},
        ),
    log:
        "results/logs/plot_latency.log",
    conda:
        "../envs/analysis.yaml"
    params:
        code=identity_of("plot_latency"),
    shell:
        'shared python3 "$ROOT"/scripts/plot_latency.py {input:q} {output:q} 2> {log:q}'
