# `make compare` and `make test` do their own set-up; nothing but Python 3.11 or newer need be there.
PYTHON ?= python3
ARGS ?=
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev compare test faults soak fuzz lint gate docs gpu check clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what a comparison needs into .venv
	@$(PYTHON) scripts/setup.py

setup-dev: ## install what tests and checks need as well
	@$(PYTHON) scripts/setup.py dev

compare: setup ## compare the engines on this machine; ARGS="..." goes to ttft compare
	@$(BIN)/ttft compare $(ARGS)

test: setup-dev ## run the tests; ARGS="-k keys" goes to pytest
ifeq ($(ARGS),)
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "not e2e"
	@$(BIN)/python -m pytest -m e2e
else
	@$(BIN)/python -m pytest $(ARGS)
endif

faults: setup-dev ## what every engine gets from every store under every fault, as a table; ARGS="-k redis" goes to pytest
	@TTFT_FAULTS=all $(BIN)/python -m pytest -q tests/stores/test_fault_matrix.py $(ARGS)

soak: setup-dev ## 20 minutes of a real server under faults: right answers, nothing grows; ARGS="--minutes 2"
	@$(BIN)/python scripts/soak.py $(ARGS)

fuzz: setup-dev ## feed every parser wrong inputs; ARGS="--seconds 600", "--inputs 1000000", "--only trace"
	@PYTHONPATH=.:tests/support:tests/connector $(BIN)/python tests/fuzz/fuzz.py $(ARGS)

lint: setup-dev ## style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python -m mypy

gate: setup-dev ## judge stored rows of a real run, A against A
	@$(BIN)/ttft gate results/reference/gate --base layerwise:depth=4 --candidate layerwise:depth=4@again --max p50:5%

docs: setup-dev ## the pages of docs/ as a site, into build/site
	@$(BIN)/python -m mkdocs build

gpu: setup-dev ## on a node with a GPU: all that only it can show, in 15 minutes, packed to send
	@$(BIN)/python scripts/gpu_node.py $(ARGS)

check: lint gate test ## everything that CI runs

clean: ## remove the environment and caches, not the results
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
