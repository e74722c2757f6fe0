"""The framing code under a coverage-guided fuzzer (libFuzzer): RUNS inputs, always from the same seeds."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).parent
SERVERS = HERE.parents[1] / "servers"
BUILD = HERE.parents[1] / "build/fuzz"  # what a finding leaves stays here
RUNS = int(os.environ.get("RUNS", "100000"))
# Made fast: comparisons are not traced (the dictionary has the words), no stack is noted at malloc, little is held back
# after free.
COMPILE = ["clang", "-std=c17", "-D_GNU_SOURCE", "-O2", "-g", "-Wall", "-Wextra", "-Werror"]
COMPILE += ["-fsanitize=fuzzer,address,undefined", "-fno-sanitize-coverage=trace-cmp"]
COMPILE += ["-fno-sanitize-recover=all", f"-I{SERVERS}"]
ENVIRONMENT = os.environ | {"ASAN_OPTIONS": "quarantine_size_mb=1:malloc_context_size=0"}
# More than 8192 bytes.
LONG_HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n" + 100 * (b"X: " + 83 * b"x" + b"\r\n")

# Inputs of the sizes that requests have, and, at the same time, fewer that reach the limit of a head, or get answers of
# another size from a handler with work to do.
FUZZERS: dict[str, tuple[int, int, dict[str, str]]] = {
    "short": (RUNS - 2 * (RUNS // 20), 1000, {}),
    "long": (RUNS // 20, 20_000, {}),
    "body": (RUNS // 20, 1000, {"BODY_BYTES": "3000"}),
}


def start(name: str, runs: int, max_len: int, workload: dict[str, str]) -> subprocess.Popen[bytes]:
    corpus = BUILD / name
    corpus.mkdir()
    if name == "long":
        (corpus / "long").write_bytes(LONG_HEAD)
        (corpus / "longest").write_bytes(LONG_HEAD[: 8192 - 4] + b"\r\n\r\n")
    options = [f"-max_len={max_len}", f"-runs={runs}"]
    options += ["-seed=1", "-timeout=100", "-print_final_stats=1"]
    options += [f"-dict={HERE / 'framing.dict'}", f"-artifact_prefix={BUILD}/{name}-"]
    command = [BUILD / "fuzz_framing", *options, corpus, HERE / "corpus"]
    with (BUILD / f"{name}.log").open("w") as log:
        return subprocess.Popen(command, env=ENVIRONMENT | workload, stderr=log)


def test_no_input_breaks_the_framing():
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(parents=True)
    binary = BUILD / "fuzz_framing"
    subprocess.run([*COMPILE, HERE / "fuzz_framing.c", "-o", binary], check=True)

    begin_s = time.monotonic()
    fuzzers = {name: start(name, *arguments) for name, arguments in FUZZERS.items()}
    statuses = {name: fuzzer.wait() for name, fuzzer in fuzzers.items()}
    executed = 0
    for name, status in statuses.items():
        log = (BUILD / f"{name}.log").read_text(errors="replace")
        found = log.rpartition("\n#")[2]  # from the last line of progress on
        assert status == 0, found
        inputs = re.search(r"^stat::number_of_executed_units: (\d+)$", log, re.MULTILINE)
        coverage = re.search(r"^#\d+\s+DONE\s+(cov: .*)exec", log, re.MULTILINE)
        assert inputs and coverage, found
        executed += int(inputs[1])
        print(f"{int(inputs[1]):,} {name} inputs, {coverage[1]}")
    print(f"{executed:,} inputs, no finding, {time.monotonic() - begin_s:.0f} s")
    assert executed >= RUNS
