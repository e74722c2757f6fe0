FLAGS = [*LANGUAGE_FLAGS, *config["compile"]["flags"]]


# The source is ancient(): what matters of it, and of the headers that it includes, is in `identity`.
rule compile_server:
    input:
        source=ancient(server_source("{server}")),
    output:
        "results/bin/{server}",
    log:
        "results/logs/compile_{server}.log",
    wildcard_constraints:
        server="|".join(SOURCE_IDENTITY),
    priority: len(POSITION) + len(COST_POSITION) + 1
    params:
        compiler=COMPILER,
        flags=FLAGS,
        libraries=LIBRARIES,
        toolchain=TOOLCHAIN,
        identity=lambda wildcards: SOURCE_IDENTITY[wildcards.server],
    shell:
        "{SHARED} {params.compiler:q} {params.flags:q} {input.source:q} -o {output:q} {params.libraries:q} 2> {log:q}"
