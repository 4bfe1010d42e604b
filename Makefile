# Two commands need nothing before them but Python 3.11: make test, make demo. `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
DATASET ?= generated
MODELS ?= $(MSR_MODELS)
BIN := $(or $(MSR_VENV),.venv)/bin

.PHONY: help setup lock lint test demo up down clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

setup: ## make .venv and .jars (does nothing when they are up to date)
	@scripts/setup.sh

lock: setup ## compile requirements.lock from pyproject.toml: every package with hashes, no download addresses
	@$(BIN)/uv pip compile --quiet --all-extras --generate-hashes --no-header --no-annotate --python-version 3.11 pyproject.toml -o requirements.lock

lint: setup ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/mypy

test: lint ## everything that needs neither a GPU nor the MovieLens files
	@$(BIN)/python -m pytest -m "not gpu and not real" --durations=10

demo: setup ## backfill, search, train and report on a real scheduler (DATASET=generated, movielens_age, movielens_genre; MODELS=all)
	@$(BIN)/python scripts/demo.py --dataset $(DATASET) --models "$(MODELS)"

up: setup ## start scheduler, UI and one local Spark engine, and leave them running
	@MSR_DATASET=$(DATASET) MSR_MODELS="$(MODELS)" scripts/airflow.sh up

down: ## end what `make up` started
	@scripts/airflow.sh down

clean: down ## undo all: what is running, .venv, .jars, .airflow, the shipped data sets' tables, fetched data, the report
	@rm -rf .venv .jars .jars.new .airflow report data/ml-1m spark-warehouse .pytest_cache .mypy_cache .ruff_cache
	@for yaml in schemas/datasets/*.yaml; do rm -rf "data/lake/$$(basename "$$yaml" .yaml)" "data/lake/.$$(basename "$$yaml" .yaml)"*; done
	@rmdir data/lake data 2>/dev/null || true
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
