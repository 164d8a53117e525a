# unrolled: `make tour` shows what it does, `make test` proves it. Both are safe to interrupt and repeat.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
UV     ?=
# OMP threads are left alone: two cores give the tour its speed. Tests pin their own.
PIP    := $(if $(UV),uv pip install --python $(BIN)/python,$(BIN)/python -m pip install --disable-pip-version-check)

.DEFAULT_GOAL := help
.PHONY: help tour test lint types layers unit wheel docs docs-serve bench test-slow clean

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

tour: $(VENV)/.tour  ## install, run the tour on the CPU (a minute or two) and write a report to look at
	@$(BIN)/python -m unrolled.tour

test: $(VENV)/.dev lint types layers unit wheel docs  ## install the dev extras and run all checks
	@echo "all checks passed"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/basedpyright --level error

layers: $(VENV)/.dev
	$(BIN)/lint-imports

unit: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 -m "not slow" -q

wheel: $(VENV)/.dev
	$(BIN)/python tests/wheel_in_a_clean_venv.py

docs: $(VENV)/.dev  ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

docs-serve: $(VENV)/.dev  ## serve the documentation on localhost
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve

test-slow: $(VENV)/.dev  ## the tests that take minutes: seeds, grids, real clusters
	$(BIN)/python -m pytest -m slow -q

bench: $(VENV)/.dev  ## measure speed against named peers, in one run; writes benchmarks/records/
	$(BIN)/python -m benchmarks

clean:  ## remove what make made, runs excepted
	rm -rf $(VENV) site build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# A stamp is written after the last step of an install, so an interrupted one is simply done again.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("unrolled needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.12 tour") if sys.version_info < (3, 11) else None'
	$(if $(UV),uv venv --python $(PYTHON) $(VENV),$(PYTHON) -m venv $(VENV))

$(VENV)/.tour: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing unrolled and what its tour needs into $(VENV) (a few minutes the first time)"
	@$(PIP) --quiet -c constraints.txt -e '.[tour]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing unrolled and its dev extras into $(VENV) (a few minutes the first time)"
	@$(PIP) --quiet -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.tour
