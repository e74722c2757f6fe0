from snakemake.utils import min_version

min_version("9.17")


# Found from this file, not from the working directory: result sets live wherever --directory says. Not workflow.basedir,
# which is the folder of whatever Snakefile includes this one.
configfile: f"{workflow.current_basedir}/config.yaml"


# The first page of snakemake --report.
report: "report/workflow.rst"


include: "rules/common.smk"
include: "rules/compile.smk"
include: "rules/measure.smk"
include: "rules/profile.smk"
include: "rules/syscalls.smk"
include: "rules/aggregate.smk"
include: "rules/plot.smk"
include: "rules/latency.smk"
include: "rules/compare.smk"
include: "rules/report.smk"
include: "rules/doctor.smk"
include: "rules/cluster.smk"
include: "rules/handlers.smk"


PICTURES = ["map", "overview", "ranking", *(f"syscalls{suffix}" for suffix in SUFFIXES)]
PICTURES += [f"overview_{figure}" for figure in OVERVIEWS]
PICTURES += [*SERVERS, *expand("{server}_flamegraph{suffix}", server=SERVERS, suffix=SUFFIXES)]


# Binaries and records too, not pictures alone: a file between that was deleted or never made is then noticed.
rule all:
    default_target: True
    input:
        expand("results/bin/{server}", server=dict.fromkeys(map(binary_of, MEASURED))),
        REFERENCE_BINARY,
        [record_path(cell) for cell in CELLS],
        "results/cells.csv",
        "results/summary.csv",
        "results/verdicts.csv",
        "results/syscalls.csv",
        "results/summary.txt",
        "results/report.html",
        lambda wildcards: asked_for([*RATED, *LATENCY_TABLES, *LATENCY_PICTURES]),
        expand("plots/{picture}.{suffix}", picture=PICTURES, suffix=["svg", "png"]),
