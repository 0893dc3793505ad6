# Two commands for a newcomer: `make demo` and `make test`. Both make .venv if it is missing.
# `make test-interop` fetches other libp2p implementations and talks to them; it needs npm and, for one of them, Go.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Hundreds of processes start in the tests; without bytecode on disk each would compile the whole program again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo install test prepare-interop test-interop check unit mutants fuzz clean

install: $(STAMP)

demo: $(STAMP)
	@if [ -t 0 ] && [ -t 1 ]; then exec $(BIN)/zstui demo; else exec $(BIN)/zstui demo --headless; fi

test: check unit

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

# Twice as many workers as cores: about half of the time the tests wait, for timers, other processes and the disk.
unit: $(STAMP)
	$(BIN)/pytest -n $$((2 * $$(getconf _NPROCESSORS_ONLN))) --dist loadfile --no-loadscope-reorder --durations 12 --ignore tests/interop

prepare-interop: $(STAMP)
	$(BIN)/python -m tests.interop.prepare

test-interop: prepare-interop
	$(BIN)/pytest tests/interop

# Planted faults in the payment channels, each of which random lives must find.
mutants: $(STAMP)
	$(BIN)/python -m tests.support.mutants

# Every decoder of bytes that a stranger may have chosen, SECONDS each, guided by coverage.
SECONDS ?= 20
fuzz: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[fuzz]"
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) zstui/prerequisites.py
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $(STAMP)

clean:
	rm -rf $(VENV) .interop .fuzz
