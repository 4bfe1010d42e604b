# Two commands need only Python 3.11: make test and make demo. `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
DATASET ?= generated
MODELS ?= $(MSR_MODELS)
BIN := $(or $(MSR_VENV),.venv)/bin
QUICK := not gpu and not real and not slow and not spark

.PHONY: help setup lock lint test-unit test docs demo up down clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

setup: ## create .venv and .jars, unless they are up to date
	@scripts/setup.sh

lock: setup ## compile requirements.lock from pyproject.toml: every package with hashes, no download addresses
	@$(BIN)/uv pip compile --quiet --all-extras --generate-hashes --no-header --no-annotate --python-version 3.11 pyproject.toml -o requirements.lock

lint: setup ## ruff (lint and format), codespell and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/codespell
	@$(BIN)/mypy

test-unit: lint ## the quick tests: no JVM, nothing slow
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "$(QUICK)" --durations=10

test: test-unit docs ## everything that needs neither a GPU nor the MovieLens files
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "(slow or spark) and not gpu and not real" --durations=10

# Not --quiet: it hides warnings from --strict, and a broken link would pass. The variable only hides a banner about MkDocs 2
docs: setup ## build the documentation site in site/; fails on a broken link
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

demo: setup ## backfill, search, train and report on a real scheduler (DATASET=generated, movielens_age, movielens_genre; MODELS=all)
	@$(BIN)/python scripts/demo.py --dataset $(DATASET) --models "$(MODELS)"

up: setup ## start scheduler, UI and a local Spark engine in the background
	@MSR_DATASET=$(DATASET) MSR_MODELS="$(MODELS)" scripts/airflow.sh up

down: ## stop what `make up` started
	@scripts/airflow.sh down

clean: down ## undo everything: running engines, .venv, .jars, .airflow, tables of shipped data sets, fetched data, report, site
	@rm -rf .venv .jars .jars.new .airflow report site build *.egg-info data/ml-1m spark-warehouse .pytest_cache .mypy_cache .ruff_cache
	@for yaml in schemas/datasets/*.yaml; do rm -rf "data/lake/$$(basename "$$yaml" .yaml)" "data/lake/.$$(basename "$$yaml" .yaml)"*; done
	@rmdir data/lake data 2>/dev/null || true
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
