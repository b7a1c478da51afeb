# make run    set up .venv and train on the embedded digits
# make test   set up what it needs, run the checks and the tests
# make check  formatting, lint, types, layering
# make messages  bring the translations up to date with the texts in the sources
# make bench  speed beside the plain loop, seconds to an accuracy, inference, where the time goes,
#             whether a budget is kept, peak memory
# make peers  the environment of benchmarks/peers, apart from nunbit's own
# make torture  every fault in full, and the defects that the tests must find
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := benchmarks/peers/.venv

.PHONY: run test check messages bench peers torture clean

run: $(VENV)/.run-ready
	$(BIN)/nunbit train

test: check
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

check: $(VENV)/.dev-ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q --no-header -p no:cacheprovider --durations=0 tests/test_layering.py

messages: $(VENV)/.dev-ready
	$(BIN)/python tools/messages.py

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache

$(BIN)/python:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'nunbit needs Python 3.11 or newer; choose one with make PYTHON=...')"
	$(PYTHON) -m venv $(VENV)

# The stamps make both commands quick when pyproject.toml did not change.
$(VENV)/.run-ready: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[parquet]"
	touch $@

$(VENV)/.dev-ready: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@ $(VENV)/.run-ready

# Over an hour, alone on the machine, with NUNBIT_DATA; the peers need `make peers` first.
bench: $(VENV)/.dev-ready
	@$(BIN)/python benchmarks/engine.py
	@if test -x $(PEERS)/bin/python; then $(BIN)/python benchmarks/peers; \
	else echo "left out: other libraries (make peers)"; fi
	@$(BIN)/python benchmarks/time_to_accuracy.py
	@$(BIN)/python benchmarks/inference.py
	@$(BIN)/python benchmarks/where.py
	@$(BIN)/python benchmarks/whole.py budget
	@$(BIN)/python benchmarks/whole.py memory

# Other libraries to measure against, in an environment of their own (some GB).
peers: $(PEERS)/.ready

$(PEERS)/.ready: benchmarks/peers/requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --requirement $<
	touch $@

# Every fault of tests/torture, in full: about a quarter of an hour; writes docs/reliability.md.
torture: $(VENV)/.dev-ready
	cd tests && OMP_NUM_THREADS=1 ../$(BIN)/python -m torture --deep --write ../docs/reliability.md
	$(BIN)/python tests/torture/seeded.py --write docs/reliability.md
