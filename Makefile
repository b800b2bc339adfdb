# Two commands matter: `make demo` and `make test`. Both set up .venv first if it is not there.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: help setup demo test test-slow test-configs test-gpu test-slurm check format tables constraints clean

help: ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(READY) ## create .venv and install attnbuild with its development tools

# On Linux the default PyTorch wheel brings gigabytes of CUDA. For a machine without a GPU:
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make setup
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "attnbuild needs Python 3.11 or newer: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup ## train a small Transformer on embedded data, print BLEU and samples (minutes on 2 cores)
	$(BIN)/attnbuild train experiment=demo

test: setup ## the fast tests (under 12 minutes on 2 cores)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

test-slow: setup ## the full product of the laws, and whatever takes minutes
	$(BIN)/python -m pytest -n auto --maxprocesses 4 -m slow

test-configs: setup ## ten thousand random configs (half an hour): each trains or is refused with advice that helps
	$(BIN)/python -m pytest -n auto --maxprocesses 4 -m configs -rP

test-gpu: setup ## what needs a CUDA device
	$(BIN)/python -m pytest -m gpu

test-slurm: setup ## jobs on a SLURM that the tests start (as root, after apt-get install slurm-wlm munge)
	$(BIN)/python -m pytest -m slurm

check: setup ## ruff (lint and format), the type checker and the spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

format: setup ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

tables: setup ## write the generated docs anew: the table of the README, docs/attention, docs/choosing.md
	$(BIN)/python docs/tables.py
	$(BIN)/python docs/attention_pages.py

constraints: setup ## write down the versions in use, for CI and `make`
	$(BIN)/python -m pip freeze --exclude-editable | sed -E 's/\+cpu//' > constraints.txt

clean: ## remove what building leaves behind (not outputs/)
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
