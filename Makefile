# Everything a newcomer needs: `make demo`, then `make test`. Nothing has to be installed before but Python and make.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do command -v $$p >/dev/null 2>&1 && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
LOCK := $(shell cat requirements.lock pyproject.toml protos/pyproject.toml 2>/dev/null | cksum | cut -d ' ' -f 1)
READY := $(VENV)/.ready-$(LOCK)
# Before all others: torch, with what its build needs, and what packages are built with that come as source.
FIRST := $(shell grep -E '^(torch|setuptools)==' requirements.lock)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --progress-bar off

PROGRAMS := espeak-ng sox ffmpeg imagemagick postgresql
SYSTEMS ?= next-gpt
SUITE ?= understanding
EVAL_SYSTEMS ?= next-gpt
PYTEST_ARGS ?=

# `make bench hop` and `make bench NAME=hop` are the same.
ifeq (bench,$(firstword $(MAKECMDGOALS)))
NAME ?= $(word 2,$(MAKECMDGOALS))
ifneq (,$(word 2,$(MAKECMDGOALS)))
.PHONY: $(word 2,$(MAKECMDGOALS))
$(word 2,$(MAKECMDGOALS)):
	@:
endif
endif

.DEFAULT_GOAL := help

.PHONY: help
help: ## show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F '\t' '{printf "make %-8s %s\n", $$1, $$2}'

.PHONY: setup
setup: $(READY) ## make the environment in .venv, once per lock

$(READY):
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python" >&2; exit 1; }
	@echo "setting up $(VENV) with $(PYTHON); the first time takes some minutes"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $(FIRST)
	PYTHONWARNINGS=ignore $(PIP) --no-deps --no-build-isolation -r requirements.lock
	PYTHONWARNINGS=ignore $(PIP) --no-deps --no-build-isolation -e protos -e .
	@rm -f $(VENV)/.ready-*
	@touch $(READY)

.PHONY: programs
programs: ## install what tests and evaluation use besides Python (Debian): espeak-ng, sox, ffmpeg, ImageMagick, PostgreSQL
	@if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then \
		echo "to be installed by hand: $(PROGRAMS)" >&2; \
	elif ! dpkg -s $(PROGRAMS) >/dev/null 2>&1; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(PROGRAMS) >/dev/null; \
	fi

# In `make bench demo` the word is the name of a benchmark.
ifneq (bench,$(firstword $(MAKECMDGOALS)))
.PHONY: demo
demo: setup ## start a system, ask it about what lies in examples/, stop it
	@$(BIN)/python -m services.cli.demo $(SYSTEMS)
endif

.PHONY: test
test: setup ## run all tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)

.PHONY: check
check: setup ## formatting, types, layers, contracts, README
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd protos && ../$(BIN)/buf lint
	$(BIN)/python -m tests.tools.fresh_protos
	$(BIN)/python -m tests.tools.readme

.PHONY: bench
bench: setup ## run all benchmarks, or one: make bench hop
	@$(BIN)/python benchmarks/run.py $(NAME) $(ARGS)

.PHONY: eval
eval: setup ## measure the systems with a suite, write benchmarks/results/ (needs espeak-ng; foreign: all programs)
	@$(BIN)/anyplex eval $(SUITE) --start $(addprefix --system ,$(EVAL_SYSTEMS)) $(ARGS)

.PHONY: protos
protos: setup ## generate Python from protos/anyplex/v1/*.proto
	@$(BIN)/python -m tests.tools.fresh_protos --write

.PHONY: lock
lock: ## write requirements.lock from what is installed in .venv
	@$(BIN)/python -m tests.tools.lock

.PHONY: format
format: setup ## format the code
	$(BIN)/ruff check --quiet --fix .
	$(BIN)/ruff format --quiet .

.PHONY: clean
clean: ## remove what tests and checks leave behind
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
