# A newcomer needs two targets: `make demo` and `make test`. Both set everything up first.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:
.PHONY: help setup environment demo test lint lock clean

VENV := .venv
# PYTHON=/path/to/python3.11 names the interpreter when none of these is a 3.11.
PYTHON_CANDIDATES := $(if $(PYTHON),$(PYTHON),python3.11 python3 python)
# A changed pin makes the environment anew; so does a moved checkout, whose scripts would point nowhere.
REQUIREMENTS := requirements.txt requirements-dev.txt requirements.lock
STAMP = $(CURDIR) $(shell cat $(REQUIREMENTS) | sha256sum | cut -c1-64)
# Where PyTorch publishes its CPU builds. PyPI's build of the same version is CUDA: it works, but is several GB.
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu
TORCH := $(shell grep -o '^torch==[0-9.]*' requirements.txt)
# pip reads this itself and hands it to its build environments too, so source packages are built with pinned tools.
PIP := PIP_CONSTRAINT=requirements.lock PIP_DISABLE_PIP_VERSION_CHECK=1 $(VENV)/bin/python -m pip

help:
	@echo 'make demo   set up, then train, deploy and ask for a report on this machine'
	@echo 'make test   set up, then unit, contract and end-to-end tests'
	@echo 'make lint   ruff, types of model/, who may import whom'
	@echo 'make setup  only the virtual environment in $(VENV)'
	@echo 'make lock   write requirements.lock from $(VENV)'
	@echo 'make clean  remove caches and the environment; keeps .s2d, the data of the local platform'

setup: environment
	@if [[ $(VENV)/.project-installed -nt pyproject.toml ]]; then exit 0; fi
	echo 'setup: the project itself'
	$(PIP) install -qq --no-deps --editable .
	touch $(VENV)/.project-installed
	echo 'setup: done; $(VENV)/bin/s2d --help shows what there is'

environment:
	@if [[ "$$(cat $(VENV)/.requirements 2>/dev/null || true)" == "$(STAMP)" ]]; then exit 0; fi
	python=''
	for candidate in $(PYTHON_CANDIDATES); do
	    if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
	        python=$$candidate; break
	    fi
	done
	if [[ -z "$$python" ]]; then
	    echo 'setup: found no Python 3.11 with its venv module (tried: $(PYTHON_CANDIDATES)).' >&2
	    echo 'Install it (Debian: python3.11 and python3.11-venv), or name it: make setup PYTHON=/path/to/python3.11' >&2
	    exit 2
	fi
	echo 'setup: virtual environment and PyTorch (CPU build)'
	"$$python" -m venv --clear $(VENV)
	if ! $(PIP) install -qq --no-deps --retries 1 --extra-index-url $(TORCH_CPU_INDEX) '$(TORCH)+cpu'; then
	    echo 'setup: no CPU build within reach; taking the one of the package index, which is larger'
	    $(PIP) install -qq '$(TORCH)'
	fi
	echo "setup: $$(grep -c == requirements.lock) pinned packages, 2 to 5 minutes"
	$(PIP) install -qq -r requirements-dev.txt
	echo '$(STAMP)' > $(VENV)/.requirements

demo: setup
	@$(VENV)/bin/s2d demo

test: setup
	@$(VENV)/bin/python -m pytest

lint: setup
	@$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo

# After changing a pin in requirements.txt and in the lock: records what the new set pulls in.
# setuptools is named because a plain freeze leaves it out, though torch needs it and source packages are built by it.
lock: setup
	@{ $(VENV)/bin/python -m pip freeze --exclude-editable; $(VENV)/bin/python -m pip freeze --all | grep '^setuptools=='; } \
	    | sed 's/+cpu$$//' | LC_ALL=C sort -fu > requirements.lock.partial
	mv requirements.lock.partial requirements.lock
	echo "requirements.lock: $$(grep -c == requirements.lock) packages"

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
