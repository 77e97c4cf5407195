# One command per wish; `make help` lists them. Everything installs what it needs.
SHELL := /bin/bash
.DEFAULT_GOAL := help
NAME ?= dev
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/  \1\t\2/' | expand -t 18

$(VENV)/ready: requirements.txt pyproject.toml
	@echo "envprov: installing Python packages into $(VENV) (about a minute, once)"
	@$(PYTHON) -c 'import sys; sys.exit("envprov needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "envprov: Python's venv module is missing: apt-get install python3-venv" >&2; exit 2; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

install: $(VENV)/ready ## install the Python packages into .venv

binaries: ## build the development cluster's programs into the cache (about 10 minutes, once)
	@k8s/devcluster/build >/dev/null

cluster-up: ## start the development cluster NAME (default: dev)
	@k8s/devcluster/cluster up $(NAME)

cluster-down: ## stop the development cluster NAME and delete its state
	@k8s/devcluster/cluster down $(NAME)

cluster-status: ## show the development clusters
	@k8s/devcluster/cluster status

cluster-logs: ## show the last log lines of each component of NAME
	@k8s/devcluster/cluster logs $(NAME)

check: $(VENV)/ready ## format, lint, types, layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/shellcheck k8s/devcluster/build k8s/devcluster/cluster

test: check binaries ## run all tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not bench"

demo: $(VENV)/ready binaries ## a branch comes and goes, on a real control plane (KEEP=1 leaves it running)
	@KEEP=$(KEEP) $(BIN)/python -m tests.demo

bench: $(VENV)/ready binaries ## measure, side by side with a hand-written script
	@$(BIN)/python -m pytest -m bench tests/bench -p no:xdist -s

generate: $(VENV)/ready ## write the CRDs from the models, and the chart from k8s/
	@$(BIN)/python -m tests.generate

lock: $(VENV)/ready ## pin the dependencies again: hashes, no addresses, a week of cool-down
	@$(BIN)/python -m pip install --quiet uv
	@for pair in "requirements.txt --group dev" requirements-runtime.txt; do set -- $$pair; file=$$1; shift; \
	  $(BIN)/uv pip compile pyproject.toml "$$@" --universal --python-version 3.11 --generate-hashes --no-header \
	    --no-annotate --no-emit-index-url --exclude-newer "$$(date -u -d '7 days ago' +%F)" --quiet -o $$file || exit; done

.PHONY: help install binaries cluster-up cluster-down cluster-status cluster-logs check test demo bench generate lock
