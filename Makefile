# Each target sets up what it needs first, which takes no time when nothing is missing.
.DEFAULT_GOAL := all
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory
# Another Python's packages, and what a shell would run first, are not for what is started here.
unexport $(filter PYTHON%,$(.VARIABLES)) BASH_ENV CDPATH

bin := .venv/bin
servers := $(wildcard servers/*.c)
c_sources := $(servers) load/load.c
c_files := $(c_sources) $(wildcard servers/common/*.h load/*.h tests/*.c tests/*/*.c)
shell_files := .ci/run $(wildcard scripts/*.sh scripts/*/*.sh)
snakefiles := Snakefile workflow/Snakefile rules
# --no-config: a lock holds what PyPI has, whatever index this machine is configured for.
compile := build/lock/bin/uv --no-config pip compile --quiet --upgrade --universal --python-version 3.11 \
	--generate-hashes --no-annotate --custom-compile-command 'make lock'

.PHONY: all faults report doctor lab lab-ssh lab-down setup setup-slurm setup-dev smoke test check sanitize scale lint lint-python lint-rules lint-c lint-shell \
	format lock clean distclean help

all: setup  ## measure and draw everything in config.yaml (the default)
	$(bin)/snakemake -j1 all

smoke: setup  ## the same pipeline on the tiny sweep of tests/smoke.yaml, in build/smoke
	$(bin)/snakemake -j1 --directory build/smoke --configfile tests/smoke.yaml

report: all  ## as all, and then Snakemake's own report on how everything was made, results/provenance.html
	$(bin)/snakemake --report results/provenance.html

doctor: setup  ## what this machine lacks, what makes its results noisy or wrong, and what fixes it; changes nothing
	@$(bin)/snakemake -j1 doctor --quiet all

# As root. Another delay, loss or rate is another network: its results go elsewhere.
lab := $(bin)/python scripts/run_lab.py
lab_options = $(DELAY_MS:%=--delay-ms %) $(LOSS_PERCENT:%=--loss-percent %) $(RATE_MBIT:%=--rate-mbit %)
lab_network = $(DELAY_MS:%=_delay_%ms)$(LOSS_PERCENT:%=_loss_%percent)$(RATE_MBIT:%=_rate_%mbit)
# FOLDER, OVERLAY (of the config) and TARGETS are for tests, and for whoever has another sweep for the lab.
lab_sweep = $(bin)/snakemake -j1 $(TARGETS) --directory $(or $(FOLDER),build/$(1)$(lab_network)) --configfile demo/lab.yaml $(OVERLAY)
lab: setup  ## demo/lab.yaml across a link between two network namespaces; DELAY_MS=, LOSS_PERCENT=, RATE_MBIT= (docs/lab.md)
	$(lab) run $(lab_options) -- $(call lab_sweep,lab)

lab-ssh:  ## the same with the load reached by ssh, in build/lab_ssh
	@scripts/setup.sh lab
	exec $(lab) run --ssh $(lab_options) -- $(call lab_sweep,lab_ssh) \
		--config 'network={server: here, load: "ssh:lab", ssh_config: {ssh_config}}'

lab-down:  ## take down what a lab that was killed has left
	$(lab) down

setup:  ## install what is missing: system packages, then .venv
	@scripts/setup.sh

setup-slurm: setup  ## add Snakemake's executor for Slurm (docs/cluster.md)
	@scripts/setup.sh slurm

setup-dev:
	@scripts/setup.sh dev

# A quick test starts no process and simulates no sweeps. The output ends with how many tests were skipped in which file.
check: lint  ## linters, types and the quick tests: about a minute
	$(bin)/pytest --quick -m 'not alone and not simulation' --numprocesses $$((2 * $$(nproc))) --dist loadfile --no-loadscope-reorder

# Two processes a CPU, since tests also wait; a file's tests stay together, for what they share. Then those that
# measure, which have the machine to themselves.
test: lint  ## every check and test
	$(bin)/pytest -m 'not alone' --numprocesses $$((2 * $$(nproc))) --dist loadfile --no-loadscope-reorder
	$(bin)/pytest -m alone

# `make test` has the same with 100,000 inputs. A longer run: make sanitize RUNS=10000000
sanitize: export RUNS ?= 1000000
sanitize: setup-dev  ## servers and load generator under sanitizers: a million inputs from a fuzzer, peers that misbehave
	$(bin)/pytest -s tests/fuzz tests/servers/test_server_sanitized.py tests/load/test_answers.py

# 8 of them are in `make test`.
faults: setup-dev  ## kill parts of a running sweep at random moments, KILLS=200 times, and go on by the same command
	rm -rf build/faults
	$(bin)/python tests/kills.py build/faults --kills $(or $(KILLS),200) --seed $(or $(SEED),1)

scale: setup-dev  ## time and memory of 100 to 10,000 cells: the table of docs/scale.md, about 10 minutes
	$(bin)/python tests/scale.py

lint: lint-python lint-rules lint-c lint-shell  ## formatters, linters and types, changing nothing

lint-python: setup-dev
	$(bin)/ruff format --check
	$(bin)/ruff check
	$(bin)/mypy scripts

lint-rules: setup-dev
	$(bin)/snakefmt --check $(snakefiles)

lint-c: setup-dev
	$(bin)/clang-format --dry-run --Werror $(c_files)
	gcc -fsyntax-only -std=gnu17 -D_GNU_SOURCE -Wall -Wextra -Werror $(c_sources)
	cppcheck --quiet --enable=warning,performance,portability --error-exitcode=1 -D_GNU_SOURCE $(c_sources)

lint-shell: setup-dev
	shellcheck $(shell_files)

format: setup-dev  ## apply the formatters
	$(bin)/ruff check --fix-only
	$(bin)/ruff format
	$(bin)/snakefmt $(snakefiles)
	$(bin)/clang-format -i $(c_files)

lock:  ## newest versions of everything, into requirements*.txt
	python3 -m venv build/lock
	build/lock/bin/pip install --quiet --upgrade uv
	$(compile) requirements.in -o requirements.txt
	$(compile) requirements-dev.in -o requirements-dev.txt
	$(compile) requirements-slurm.in -o requirements-slurm.txt
	sed -nE 's/^([a-z-]+)==([0-9]+\.[0-9]+).*/s|- \1 =[0-9.]+$$|- \1 =\2|/p' requirements.txt | sed -Ei -f - envs/*.yaml

clean:  ## remove all results
	rm -rf results plots build .snakemake

distclean: clean  ## remove .venv too
	rm -rf .venv

help:  ## this list
	@sed -nE 's/^([a-z-]+):.*  ## (.*)/make \1\t\2/p' Makefile | expand -t 16
