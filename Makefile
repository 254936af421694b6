# Every verb does its own set-up, once: a virtual environment in .venv, installed from the hashed lock files.
# Needs Python 3.11 or newer and make; the tests need Node.js too.

# The interpreter that .venv is made with.
PYTHON ?= python3
# Handed on to the program behind the verb: make test ARGS="tests/core -k cursor"
ARGS ?=
# How many tests run at once: one more than there are cores, since most wait for a process or a socket; eight suffice.
JOBS ?= $(shell cores=$$(getconf _NPROCESSORS_ONLN); echo $$((cores < 8 ? cores + 1 : 8)))

VENV := .venv/bin/python
PIP_INSTALL := PIP_DISABLE_PIP_VERSION_CHECK=1 $(VENV) -m pip install --quiet
NODE_PACKAGES := $(if $(wildcard tests/node/package.json),tests/node/node_modules/.installed)

# The tests start Hookbrook some hundred times; without bytecode each start would compile all of it anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test check bench lock clean
# The stamps below are written in an order that matters, and there is nothing to gain from overlapping them.
.NOTPARALLEL:
.DELETE_ON_ERROR:

help: ## say what each verb does (this text)
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' Makefile

demo: .venv/.run .venv/.package ## run the chatbot example; needs nothing but Python
	.venv/bin/hookbrook demo $(ARGS)

test: .venv/.test .venv/.package $(NODE_PACKAGES) ## run every test (some of them: ARGS="tests/core -k cursor")
	@HOOKBROOK_CHROMIUM=$$(scripts/chromium.sh) || exit 1; export HOOKBROOK_CHROMIUM; \
	HOOKBROOK_FIREFOX=$$(scripts/program.sh firefox-esr firefox-esr) || exit 1; export HOOKBROOK_FIREFOX; \
	HOOKBROOK_NGINX=$$(scripts/program.sh nginx nginx) || exit 1; export HOOKBROOK_NGINX; \
	$(VENV) -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: .venv/.test .venv/.package ## judge format, lint and types
	$(VENV) -m ruff format --check .
	$(VENV) -m ruff check .
	$(VENV) -m mypy --num-workers $(JOBS)

bench: .venv/.test .venv/.package ## measure what is published, each figure beside its peer and its limit
	$(VENV) benchmarks/run.py $(ARGS)

lock: .venv/.test ## write requirements/*.txt anew from pyproject.toml (newest of all: ARGS=--upgrade)
	scripts/lock.sh $(ARGS)

clean: ## remove all that these verbs have made
	rm -rf .venv tests/node/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .demo build dist
	find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# The files below only remember that a step was done; a newer lock file asks for its step again.

.venv/.python:
	@scripts/venv.sh "$(PYTHON)"
	@touch $@

.venv/.run: requirements/run.txt .venv/.python
	@echo "Installing what Hookbrook runs on …"
	@$(PIP_INSTALL) --require-hashes -r requirements/run.txt
	@touch $@

# Holds all of requirements/run.txt at the same versions (tests/test_house.py says so), hence the second stamp.
.venv/.test: requirements/test.txt .venv/.python
	@echo "Installing what Hookbrook runs on and is tested with …"
	@scripts/install-locked.sh
	@touch .venv/.run $@

# Editable, without isolation and dependencies: all of them, and the build backend, came from the lock file.
.venv/.package: pyproject.toml .venv/.run
	@$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

tests/node/node_modules/.installed: tests/node/package-lock.json
	@scripts/need-node.sh
	@echo "Installing the judges from npm …"
	@npm ci --prefix tests/node --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@
