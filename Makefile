# Every target sets up .venv by itself; PYTHON=python3.12 chooses the interpreter it is made from.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.setup-done

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint format bench clean

help:  ## what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-10s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 10) else "rbctrl needs Python 3.10 or newer, and $(PYTHON) is " + sys.version.split()[0] + ": make PYTHON=python3.11 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	@touch $@

demo: $(READY)  ## restore photographs with several controllers: one table, one picture
	@rm -rf outputs/demo
	$(BIN)/rbctrl -m +sweep=demo
	$(BIN)/rbctrl report outputs/demo

test: $(READY)  ## the fast tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto -m "not slow and not gpu and not network"

test-all: $(READY)  ## the slow ones too, among them a wheel installed elsewhere
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto -m "not gpu and not network"

lint: $(READY)  ## ruff, without changing a file
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)  ## ruff, changing files
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## time of one step, per controller
	$(BIN)/python benchmarks/step_overhead.py

clean:  ## remove the environment, caches and builds; outputs/ stays
	rm -rf $(VENV) dist .pytest_cache .ruff_cache
	find rbctrl tests -type d -name __pycache__ -prune -exec rm -rf {} +
