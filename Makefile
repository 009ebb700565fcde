# The whole toolchain. `make demo` and `make test` need nothing but Python 3.11 or newer and a package index:
# the environment is made once, in .venv, and again only when pyproject.toml or constraints.txt changes.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CODE := amber_ray benchmarks tests

export RAY_USAGE_STATS_ENABLED := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

SEEDS := 10000

# How many processes run the tests. Some of them start a Ray of two CPUs, which takes 2 GB. With three, two CPUs are
# never idle, and it took no less time: the tests' servers wait for each other.
JOBS := 2

.PHONY: help demo test tests check contract hunt simulate mutate bench bench-peers lint format types clean

help: ## say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP) ## compute features of a real video over HTTP, twice, and show what was cached
	@$(BIN)/amber demo

test: lint ## lint, types and every test, on clusters that the tests start themselves
	@$(MAKE) --no-print-directory --jobs 2 types tests

tests: $(STAMP)
	@$(BIN)/pytest -n $(JOBS) --durations 20

check: lint types ## the quick half: lint, types, unit and property tests
	@$(BIN)/pytest -q -n auto tests/unit tests/property

contract: $(STAMP) ## what every implementation of Service must do, and the table of which does
	@$(BIN)/pytest -q tests/contract

simulate: $(STAMP) ## run core, shell and engine in SEEDS simulated worlds full of faults
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS)

hunt: $(STAMP) ## every feature over your own FILES=..., for a report: what each is, what failed and why, what took long
	@$(BIN)/python -m tests.hunt $(FILES)

mutate: $(STAMP) ## break a copy of core and shell on purpose, in many ways, and see which are noticed
	@$(BIN)/python -m tests.simulation.mutate

bench: $(STAMP) ## run the benchmarks and write benchmarks/RESULTS.md
	@$(BIN)/python -m benchmarks.run_all

# An environment of their own: what the peers need must not change what the project runs with.
bench-peers: $(STAMP) ## run the same graph with Pixeltable, Hamilton, joblib, Daft and Ray Data beside Amber
	@test -x .venv-peers/bin/python || $(BIN)/python -m venv .venv-peers
	@.venv-peers/bin/python -m pip install --quiet --editable '.[models]' -r benchmarks/peers/requirements.txt
	@.venv-peers/bin/python -m benchmarks.peers.run_all

lint: $(STAMP) ## ruff: format and lint, changing nothing
	@$(BIN)/ruff format --check --quiet $(CODE)
	@$(BIN)/ruff check --quiet $(CODE)

types: $(STAMP) ## mypy --strict on amber_ray
	@$(BIN)/mypy --no-error-summary

format: $(STAMP) ## ruff: format, and fix what can be fixed
	@$(BIN)/ruff format $(CODE)
	@$(BIN)/ruff check --fix $(CODE)

clean: ## remove caches and what the demo wrote; keep the environment
	rm -rf build dist demo-out *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

# PYTHON=... chooses the interpreter; otherwise the first that is new enough and can make environments.
$(BIN)/python:
	@for python in $(PYTHON) python3.11 python3.12 python3.13 python3; do \
	    if "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        echo "making $(VENV) with $$("$$python" --version)"; \
	        exec "$$python" -m venv $(VENV); \
	    fi; \
	done; \
	echo "No Python 3.11 or newer with the venv module was found; install one (on Debian: apt-get install" \
	     "python3 python3-venv) or name it: make PYTHON=/path/to/python3.11" >&2; \
	exit 1

# Written last, so that an interrupted installation is taken up again by the next make.
$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into $(VENV): a few minutes and about 6 GB the first time (torch comes with its CUDA libraries)"
	@$(BIN)/python -m pip install --quiet --editable '.[dev,models]' --constraint constraints.txt
	@touch $@
