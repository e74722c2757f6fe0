COMPILER = config["compile"]["compiler"]
# _GNU_SOURCE: accept4, SO_REUSEPORT and the like are Linux's, not the C standard's.
LANGUAGE_FLAGS = ["-std=c17", "-D_GNU_SOURCE"]
# Statically, or the frames of liburing would be [unknown] in flamegraphs; what a server does not use is left out.
LIBRARIES = ["-pthread", "-l:liburing.a"]


def run_compiler(*arguments):
    try:
        return subprocess.run([COMPILER, *arguments], capture_output=True, text=True)
    except OSError as error:
        sys.exit(f"compile.compiler: cannot run '{COMPILER}' ({error.strerror}): install it, see make setup")


def toolchain_identity():
    """Compiler version and target, and the library that is linked in: a change of them changes binaries."""
    library = run_compiler("-print-file-name=liburing.a").stdout.strip()
    digest = hashlib.sha256(Path(library).read_bytes()).hexdigest() if os.path.exists(library) else "none"
    return [run_compiler("--version").stdout.splitlines()[0], run_compiler("-dumpmachine").stdout.strip(), digest]


def source_identity(server):
    """A hash of the preprocessed source: a comment, a touch or a reformatted line changes nothing."""
    text = run_compiler(*LANGUAGE_FLAGS, *config["compile"]["flags"], "-E", "-P", server_source(server))
    return hashlib.sha256((text.stdout or text.stderr).encode()).hexdigest()


TOOLCHAIN = toolchain_identity()
SOURCE_IDENTITIES = {server: source_identity(server) for server in SERVERS}


# The source is ancient(): what matters of it, and of the headers that it includes, is in `identity`.
rule compile_server:
    input:
        source=lambda wildcards: ancient(server_source(wildcards.server)),
    output:
        "results/bin/{server}",
    log:
        "results/logs/compile_{server}.log",
    params:
        compiler=COMPILER,
        flags=[*LANGUAGE_FLAGS, *config["compile"]["flags"]],
        libraries=LIBRARIES,
        toolchain=TOOLCHAIN,
        identity=lambda wildcards: SOURCE_IDENTITIES[wildcards.server],
    priority: len(CELLS) + 1
    shell:
        "{SHARED} {params.compiler:q} {params.flags:q} {input.source:q} -o {output:q} {params.libraries:q} 2> {log:q}"
