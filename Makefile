# `make run` and `make test` are all the set-up there is. `make help` lists the rest.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
PY := .venv/bin/python

# Handed on to `manage.py up` when given: make run PORT=8001 NODES=5 SYMBOLS=50 SEED=7
UP_OPTIONS := $(if $(PORT),--port $(PORT)) $(if $(NODES),--nodes $(NODES)) \
              $(if $(SYMBOLS),--symbols $(SYMBOLS)) $(if $(SEED),--seed $(SEED))
# make test T="tests/unit -k ledger"
T ?= tests --ignore=tests/browser --ignore=tests/fuzz
# make fuzz SEED=7 INPUTS=20000 FIRST=1234
FUZZ_OPTIONS := $(if $(SEED),--fuzz-seed $(SEED)) $(if $(INPUTS),--fuzz-inputs $(INPUTS)) \
                $(if $(FIRST),--fuzz-first $(FIRST))

.PHONY: help setup setup-dev run test test-browser chaos-smoke fuzz model planted-bugs check format lock clean-data

help: ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: ## make .venv with what it takes to run
	@$(PYTHON) tools/environment.py

setup-dev: ## ... and to test and check
	@$(PYTHON) tools/environment.py --dev

run: setup ## the whole market; PORT=8000 NODES=3 SYMBOLS=10 SEED=1
	@exec $(PY) manage.py up $(UP_OPTIONS)

test: setup-dev ## all tests that need no browser
	@exec $(PY) -m pytest --numprocesses 2 --dist loadgroup $(T)

test-browser: setup-dev ## the tests that need a browser (Debian: apt-get install chromium)
	@exec $(PY) -m pytest tests/browser

chaos-smoke: setup-dev ## ten minutes of faults, each kind at least once (as root, with Debian's faketime); build/chaos
	@exec $(PY) manage.py chaos --minutes 10 --seed 1 --report build/chaos $(CHAOS)

fuzz: setup-dev ## 100,000 bad inputs: none may be answered 5xx or change anything; SEED=1 INPUTS=100000
	@exec $(PY) -m pytest -p no:randomly tests/fuzz $(FUZZ_OPTIONS)

model: setup ## the lease protocol's model, every state of it; M="--trap no-lock" or M=--help
	@$(PY) -m model $(M)

planted-bugs: setup-dev ## plant each bug of docs/planted-bugs.md in a copy, and see a test catch it
	@exec $(PY) -m tests.planted

check: setup-dev ## lint, types, import rules, migrations
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy .
	.venv/bin/lint-imports --no-cache
	$(PY) -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run  # warns that it has no database
	$(PY) manage.py check --fail-level WARNING

format: setup-dev ## let ruff put the code in order
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

lock: ## pin anew what pyproject.toml asks for (needs uv)
	uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --custom-compile-command 'make lock' --output-file requirements.txt pyproject.toml
	uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --custom-compile-command 'make lock' --output-file requirements-dev.txt \
	  --group dev --constraint requirements.txt pyproject.toml

clean-data: setup ## remove var/: the database, logs, logins
	@$(PY) manage.py cleandata
