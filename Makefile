# Everything starts from Python (3.11 to 3.13) and make: each target prepares its own environment first.
#
#   PYTHON=python3.12     the Python that the environment is made with
#   VENV=.venv312         another folder for the environment
#   UV=                   install with pip even when uv is there
#   DATA=FOLDER           real listings that make demo tells its story on, instead of simulated ones
#   PYTEST_ARGS='-k jobs' more arguments for pytest
#   UPGRADE=1             make lock takes the newest versions instead of keeping today's

PYTHON ?= python3
VENV ?= .venv
UV ?= uv
JOBS ?= 3
KILLS ?= 1000

VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
HAS_UV := $(if $(UV),$(shell $(UV) --version 2>/dev/null))
BIN := $(VENV)/bin
# The story and the tests fill the cores by themselves; threads of the linear algebra would only wait for each other.
ONE_THREAD := OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1
# A stamp says which Python it was made for and is as new as the lock that it installed.
FOR_RUNNING := $(VENV)/.everloop-$(VERSION)
FOR_TESTING := $(VENV)/.everloop-dev-$(VERSION)

.DEFAULT_GOAL := help
.PHONY: help environment demo test long check kills bench-serving lint docs lock clean

help:  ## this list
	@echo "make TARGET (targets that run something prepare the environment first)"
	@sed -n 's/^\([a-z-]*\):.*## /  \1@/p' Makefile | awk -F@ '{ printf "%-14s %s\n", $$1, $$2 }'

demo: $(FOR_RUNNING)  ## the loop told as a story, on simulated listings, or real ones with DATA=FOLDER
	$(ONE_THREAD) $(BIN)/everloop demo $(if $(DATA),--data '$(DATA)')

test: lint  ## all checks, then all tests but the longest, slow ones and those in the browser included
	$(ONE_THREAD) $(BIN)/pytest -n $(JOBS) --dist worksteal -m 'not long' $(PYTEST_ARGS)

long: $(FOR_TESTING)  ## the tests that take most of a minute or more each, a quarter of an hour in all
	$(ONE_THREAD) $(BIN)/pytest -n $(JOBS) --dist worksteal -m long $(PYTEST_ARGS)

check: lint  ## the same without the slow tests, for while you work
	$(ONE_THREAD) $(BIN)/pytest -n $(JOBS) --dist worksteal -m 'not slow and not browser and not long' $(PYTEST_ARGS)

kills: $(FOR_TESTING)  ## 1,000 kills of pipeline workers at random moments, a quarter of an hour; KILLS=N for another number
	TEST_KILLS=$(KILLS) $(BIN)/pytest tests/flows/test_pipeline_kills.py -n $(JOBS) -rP --timeout 0 $(PYTEST_ARGS)

bench-serving: $(FOR_TESTING)  ## ten minutes of serving beside FastAPI, LitServe, BentoML and mlflow; DATA=FOLDER has the two data sets
	$(BIN)/python -m benchmarks.serving.all --data '$(if $(DATA),$(DATA),../shared/data)' --write

environment: $(FOR_TESTING)  ## the environment with all that the tests need

lint: $(FOR_TESTING)  ## format, lint rules, import contracts, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

docs: $(FOR_TESTING)  ## write the reference pages that are made from the code
	$(BIN)/python -m docs.generate

# Keeps every pinned version that still fits. --universal: one file for Python 3.11 to 3.13 on every platform.
LOCK = $(UV) pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-header --quiet $(if $(UPGRADE),--upgrade)

lock:  ## pin all dependencies with their hashes (needs uv)
	@$(if $(HAS_UV),,echo "make lock needs uv, and there is none on PATH. Install it with: pip install uv" >&2; exit 1)
	$(LOCK) --group build -o requirements.lock
	$(LOCK) --group build --group dev --constraint requirements.lock -o requirements-dev.lock
	for peer in airflow kfp s3 mlflow mlflow_oldest mlflow_models schemathesis serving_clients explainers bench_fastapi bench_litserve bench_bentoml bench_mlflow; do $(UV) pip compile tests/peers/$$peer.in --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --quiet $(if $(UPGRADE),--upgrade) -o tests/peers/$$peer.txt; done
	$(LOCK) tests/peers/ray.in --extra ray --group build --constraint requirements-dev.lock -o tests/peers/ray.txt
	for peer in trackers trackers_oldest; do $(UV) pip compile tests/peers/$$peer.in --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --quiet $(if $(UPGRADE),--upgrade) -o tests/peers/$$peer.txt; done
	@if grep -n '://' requirements.lock requirements-dev.lock tests/peers/*.txt; then \
	  echo "a lock file names an address; locks hold names, versions and hashes only (docs/decisions/0001)" >&2; exit 1; fi

clean:  ## remove the environment and all caches, never a workspace
	rm -rf $(VENV) .peers .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find src tests docs -name __pycache__ -prune -exec rm -rf {} +

$(FOR_RUNNING): requirements.lock pyproject.toml
	$(call install,requirements.lock)
	@touch $@

$(FOR_TESTING): requirements-dev.lock pyproject.toml
	$(call install,requirements-dev.lock)
	@touch $@ $(FOR_RUNNING)

# $(call install,LOCK): an environment of the right Python with all that LOCK pins, hashes verified and compiled (a
# story is many processes, which would each compile what was not), and this checkout in place. The build backend comes from the lock too, so nothing unverified is downloaded.
define install
@case "$(VERSION)" in \
  3.11|3.12|3.13) ;; \
  "") echo "'$(PYTHON)' is not a Python that runs. everloop needs Python 3.11 to 3.13: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 1 ;; \
  *) echo "'$(PYTHON)' is Python $(VERSION). everloop needs Python 3.11 to 3.13: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 1 ;; \
esac
@echo "preparing $(VENV): Python $(VERSION), $(1), with $(if $(HAS_UV),$(HAS_UV),pip)"
@set -e; \
made_for=$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true); \
if [ -n "$(HAS_UV)" ]; then \
  [ "$$made_for" = "$(VERSION)" ] || $(UV) venv --quiet --clear --no-project --python "$(PYTHON)" $(VENV); \
  $(UV) pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r $(1); \
  $(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .; \
else \
  [ "$$made_for" = "$(VERSION)" ] || $(PYTHON) -m venv --clear $(VENV); \
  $(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV); \
  $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1); \
  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .; \
fi; \
$(BIN)/python -m compileall -q src
endef
