# Targets create their own environment in .venv. They need Python 3.11+ and a package index.
PYTHON ?= python3
BIN := .venv/bin
# A worker per core, at most 4: each loads the models it tests.
WORKERS := -n auto --maxprocesses 4 --dist loadfile
.DEFAULT_GOAL := help
.PHONY: help demo test check slow clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

demo: .venv/installed ## rerank and explain a user's candidates of the sample shop
	$(BIN)/llmrec models fetch
	$(BIN)/llmrec demo

test: .venv/installed-dev ## run linters, types and all tests that are not slow
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" $(WORKERS)

slow: .venv/installed-dev ## run all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(WORKERS)

clean: ## remove the environment
	rm -rf .venv

# torch first: the pinned build, where a range would select another.
.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
