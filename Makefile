# Two commands from a fresh clone: `make quickstart` and `make test`. Each sets up .venv by itself.
# `make test` includes what `make lint` runs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Small models on few cores: one thread per process, and no spinning while it waits.
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE
export GOMP_SPINCOUNT ?= 0
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: quickstart test lint clean

quickstart: $(STAMP)
	$(BIN)/omnicompose quickstart --out quickstart --overwrite

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 -q

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) quickstart .pytest_cache .mypy_cache .ruff_cache
