FLAGS = [*LANGUAGE_FLAGS, *config["compile"]["flags"]]


# No input: what matters of the source, and of the headers that it includes, is in `identity`. No path is in the
# binary: the same source gives the same one in every checkout and result set, which a comparison of sets knows them by.
rule compile_server:
    output:
        "results/bin/{server}",
    log:
        "results/logs/compile_{server}.log",
    wildcard_constraints:
        server="|".join(COMPILED),
    priority: BUILD_PRIORITY
    params:
        compiler=COMPILER,
        flags=FLAGS,
        timeless=TIMELESS_FLAGS,
        libraries=lambda wildcards: [
            *LIBRARIES,
            *libraries_of(str(ROOT / "servers" / f"{wildcards.server}.c")),
        ],
        toolchain=TOOLCHAIN,
        identity=lambda wildcards: SOURCE_IDENTITY[wildcards.server],
    shell:
        '{SHARED} {params.compiler:q} {params.flags:q} {params.timeless:q} -ffile-prefix-map="$ROOT/servers"=./servers'
        ' -ffile-prefix-map="$PWD"=. "$ROOT"/servers/{wildcards.server}.c -o {output:q} {params.libraries:q} 2> {log:q}'


# The binary of a server that is not ours is a script that starts it. What is installed is part of what it is made of.
rule prepare_external:
    output:
        "results/bin/{server}",
    log:
        "results/logs/prepare_external_{server}.log",
    wildcard_constraints:
        server="|".join(EXTERNAL) or "(?!)",  # nothing
    priority: BUILD_PRIORITY
    params:
        code=identity_of("prepare_external"),
        description=lambda wildcards: json.dumps(EXTERNAL[wildcards.server]),
    shell:
        '{SHARED} python3 "$ROOT"/scripts/prepare_external.py {params.description:q} {output:q} 2> {log:q}'
