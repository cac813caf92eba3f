# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Progress and times are printed by the Python behind them; this file only names the steps.

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python
STAMP := $(VENV)/.installed

.PHONY: help demo test lint types imports unit wiring integration e2e generate verify \
	cluster clean-cluster images lock clean

help: ## show the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 16

demo: $(STAMP) ## the main job on a real cluster: apply a model, see it measured, served, asked
	@$(RUN) -m e2e.demo

test: $(STAMP) ## everything: lint, types, imports, unit to integration, then e2e on a real node
	@$(RUN) -m e2e.runner

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check -q . || { echo "run: ruff format ."; exit 1; }

types: $(STAMP)
	@$(BIN)/mypy operator/modelwright_operator artifact/modelwright_artifact \
		optimizer/modelwright_optimizer runtime_image/modelwright_runtime e2e samples

imports: $(STAMP)
	@$(BIN)/lint-imports

unit: $(STAMP) ## unit, golden and simulation
	@$(BIN)/pytest -q -n 2 tests/unit tests/golden tests/simulation

wiring: $(STAMP)
	@$(BIN)/pytest -q tests/wiring

integration: $(STAMP) ## against a real kube-apiserver, etcd and registry
	@$(BIN)/pytest -q tests/integration

e2e: $(STAMP) ## on the real local node
	@$(BIN)/pytest -q e2e

generate: $(STAMP) ## write crds/ and docs/api from the types
	@$(RUN) -m modelwright_operator.api.crds
	@$(RUN) -m modelwright_operator.api.reference

verify: $(STAMP) ## prove that nothing generated is stale
	@$(RUN) -m modelwright_operator.api.crds --check
	@$(RUN) -m modelwright_operator.api.reference --check
	@$(RUN) runtime_image/generate_protocol.py --check

cluster: $(STAMP) ## only the local cluster
	@$(RUN) -m e2e.cluster up

images: $(STAMP) ## build and push the project's images into the local registry
	@$(RUN) -m e2e.cluster images

clean-cluster: $(STAMP) ## remove the local cluster and its data
	@$(RUN) -m e2e.cluster clean

lock: ## renew constraints/ (needs uv)
	@tools/lock.sh

clean: ## remove the Python environment
	rm -rf $(VENV)

$(STAMP): constraints/all.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "installing python3-venv"; apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null; }
	@echo "Python environment: about 1 min the first time"
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r constraints/all.txt
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
