# A fresh clone needs python3 (3.10 or newer), python3-venv and make. "make help" lists what there is.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: help install train test test-cluster soak lint docs bench

help:  ## list these
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

install: .venv/.installed  ## set up .venv, its own MPI included

train: install  ## train the main job, 8 agents, in runs/main; its policy, an animation of it and a report
	@bash jobs/local.sh

test: export PATH := $(CURDIR)/$(BIN):$(PATH)
test: install  ## run the tests
	$(BIN)/pytest

test-cluster: export PATH := $(CURDIR)/$(BIN):$(PATH)
test-cluster: install  ## run jobs/ under a real Slurm of four nodes (installed by root), and over two hosts, all here
	$(BIN)/pytest tests/cluster

# MINUTES=30 SEED=1 ONLY=kills,files; NUMBER=17 repeats one case of a seed (docs/reliability.md)
soak: export PATH := $(CURDIR)/$(BIN):$(PATH)
soak: export PYTHONPATH := $(CURDIR):$(CURDIR)/tests:$(CURDIR)/tests/mpi
soak: install  ## try faults and damaged files, drawn at random, for MINUTES
	@. jobs/env.sh && $(BIN)/python -m soak --minutes $(or $(MINUTES),2) --seed $(or $(SEED),0) $(if $(ONLY),--only $(ONLY)) $(if $(NUMBER),--number $(NUMBER))

lint: install  ## check style, format, types and imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: export PATH := $(CURDIR)/$(BIN):$(PATH)
docs: install  ## build the site in docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

# FLAGS="--quick" or any others of qtrl_hpc.bench
bench: export PATH := $(CURDIR)/$(BIN):$(PATH)
bench: .venv/.bench  ## time everything, beside other simulators
	@. jobs/env.sh && $(BIN)/python -m qtrl_hpc.bench $(FLAGS)

# Written last, so that an installation that broke off is taken up again.
.venv/.installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[mpi,test,lint,reproduce,report,onnx,sweep,wandb,mlflow,docs,ibm]'
	@touch $@

.venv/.bench: .venv/.installed
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@
