"""The load generator's parser of answers under a coverage-guided fuzzer (libFuzzer): RUNS inputs, always from the same
seeds."""

import os
import re
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build/fuzz_answers"  # what a finding leaves stays here
RUNS = int(os.environ.get("RUNS", "100000"))
COMPILE = ["clang", "-std=c17", "-D_GNU_SOURCE", "-O2", "-g", "-Wall", "-Wextra", "-Werror"]
COMPILE += ["-fsanitize=fuzzer,address,undefined", "-fno-sanitize-coverage=trace-cmp"]
COMPILE += ["-fno-sanitize-recover=all", f"-I{ROOT / 'load'}"]
ENVIRONMENT = os.environ | {"ASAN_OPTIONS": "quarantine_size_mb=1:malloc_context_size=0"}
# More than ANSWER_HEAD_MAX bytes.
LONG_HEAD = b"HTTP/1.1 200 OK\r\n" + 200 * (b"X: " + 83 * b"x" + b"\r\n")

# Inputs of the sizes that answers have, and fewer that reach the limit of a head.
FUZZERS = {"short": (RUNS - RUNS // 20, 1000), "long": (RUNS // 20, 40_000)}


def start(name: str, runs: int, max_len: int) -> subprocess.Popen[bytes]:
    corpus = BUILD / name
    corpus.mkdir()
    if name == "long":
        (corpus / "long").write_bytes(LONG_HEAD)
        (corpus / "longest").write_bytes(LONG_HEAD[: 16384 - 4] + b"\r\n\r\n")
    options = [f"-max_len={max_len}", f"-runs={runs}", "-seed=1", "-timeout=100"]
    options += ["-print_final_stats=1", f"-dict={HERE / 'answers.dict'}"]
    options += [f"-artifact_prefix={BUILD}/{name}-"]
    command = [BUILD / "fuzz_answers", *options, corpus, HERE / "answers"]
    with (BUILD / f"{name}.log").open("w") as log:
        return subprocess.Popen(command, env=ENVIRONMENT, stderr=log)


def test_no_input_breaks_the_parser_of_answers():
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(parents=True)
    subprocess.run([*COMPILE, HERE / "fuzz_answers.c", "-o", BUILD / "fuzz_answers"], check=True)
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
    assert executed >= RUNS
