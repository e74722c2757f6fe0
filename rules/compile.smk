# The control is its server with its functions in another order: what a layout does by itself is noise, too.
LAYOUT_FLAGS = ["-ffunction-sections", "-Wl,--sort-section=name"]


# A server that does not compile costs only itself: in place of its binary is a script that says why. How that one is
# made is no part of any binary: no parameter has instruments/failed_build.py.
# No input: what matters of the source, and of the headers that it includes, is in `identity`. No path is in the
# binary: the same source gives the same one in every checkout and result set, which a comparison of sets knows them by.
rule compile_server:
    output:
        "results/bin/{server}",
    log:
        "results/logs/compile_{server}.log",
    wildcard_constraints:
        server="|".join(map(re.escape, COMPILED)),
    priority: BUILD_PRIORITY
    conda:
        "../envs/python.yaml"
    # Where the source is: a resource, since of that Snakemake makes no reason to compile again.
    resources:
        folder=lambda wildcards: os.path.dirname(SOURCES.path_of(wildcards.server)),
        source=lambda wildcards: SOURCES.path_of(wildcards.server),
    params:
        compiler=COMPILER,
        flags=lambda wildcards: [
            *FLAGS,
            *(LAYOUT_FLAGS if is_control(wildcards.server) else []),
        ],
        timeless=TIMELESS_FLAGS,
        libraries=lambda wildcards: [*LIBRARIES, *SOURCES.libraries_of(wildcards.server)],
        bad_link=lambda wildcards: SOURCES.bad_links.get(wildcards.server, ""),
        toolchain=SOURCES.toolchain,
        identity=lambda wildcards: SOURCES.identities[wildcards.server],
    shell:
        'shared python3 "$ROOT"/scripts/compile_server.py --reason={params.bad_link:q} {output:q} {params.compiler:q} {params.flags:q}'
        ' {params.timeless:q} -ffile-prefix-map="$PWD"=. -ffile-prefix-map={resources.folder:q}=./servers'
        " {resources.source:q} -o {output:q} {params.libraries:q} 2> {log:q}"


# The binary of a server that is not ours is a script that starts it. What is installed is part of what it is made of.
rule prepare_external:
    output:
        "results/bin/{server}",
    log:
        "results/logs/prepare_external_{server}.log",
    wildcard_constraints:
        server="|".join(EXTERNAL) or "(?!)",  # nothing
    priority: BUILD_PRIORITY
    conda:
        "../envs/python.yaml"
    params:
        code=identity_of("prepare_external"),
        description=lambda wildcards: json.dumps(EXTERNAL[wildcards.server]),
    shell:
        'shared python3 "$ROOT"/scripts/prepare_external.py {params.description:q} {output:q} 2> {log:q}'
