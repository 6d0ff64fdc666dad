# LM Desk. `make` alone says what there is.
.DEFAULT_GOAL := help
.PHONY: help run test check fix e2e image env env-dev
SHELL := /bin/sh
BIN := .venv/bin
# The page is tested by one worker, beside all else: WORKERS=0 for one after the other.
WORKERS ?= 2
# Arguments for lmdesk or pytest: make run ARGS="--port 9000", make test ARGS="-k settings"
ARGS ?=
PYTHON ?=
export PYTHON

help:  ## Say what there is
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

run: env  ## Start LM Desk (the first time it installs itself into .venv)
	@exec $(BIN)/lmdesk $(ARGS)

test: check  ## Everything that must be true: checks, then all tests
	@chromium=$$($(BIN)/python scripts/find_chromium.py) && \
		LMDESK_TEST_CHROMIUM="$$chromium" $(BIN)/pytest --numprocesses $(WORKERS) --no-loadscope-reorder $(ARGS)

check: env-dev  ## Style, rooms and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

fix: env-dev  ## Format, and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

e2e: env-dev  ## The tests of the page alone, in Chromium
	@chromium=$$($(BIN)/python scripts/find_chromium.py) && \
		LMDESK_TEST_CHROMIUM="$$chromium" $(BIN)/pytest tests/e2e $(ARGS)

image:  ## Build the container image
	docker build -t lmdesk .

env:
	@python=$$(sh scripts/find_python.sh) && "$$python" scripts/setup_env.py run

env-dev:
	@python=$$(sh scripts/find_python.sh) && "$$python" scripts/setup_env.py dev
