# Everything here makes its own environment: nothing but Python 3.11+ and a package index is needed.
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help demo test check slow clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

demo: .venv/installed ## rerank and explain one user's candidates of the embedded sample
	$(BIN)/llmrec models fetch
	$(BIN)/llmrec demo

test: .venv/installed-dev ## pass every test that is not marked slow, and the linters
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not slow"

slow: .venv/installed-dev ## pass the slow tests too
	$(BIN)/python -m pytest

clean: ## remove the environment
	rm -rf .venv

# torch first and by itself: the pinned build is taken where a range would fetch another.
.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
