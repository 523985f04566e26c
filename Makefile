# make demo: set up, then the main job on drawn films, offline.   make test: set up, then every test.
# make check: what CI runs.   make slow: the tests that take minutes (a Ray cluster of two nodes).   make browser: what the visit in a real browser needs.
# make bench: the recorded figures.   make kernels: has a kernel become slower?   make benchmark: the page on planted truth (15 minutes).
# Needs python3 (3.11 or newer) and a package registry.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
AXE := $(VENV)/axe
# Measured: two default threads on a machine with a busy neighbour are ten times slower than sleeping ones.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo test slow lint types check browser bench kernels benchmark lock clean

demo: $(VENV)/.ready
	$(BIN)/mammi demo demo

test: $(VENV)/.ready
	$(BIN)/python -m pytest

slow: $(VENV)/.ready
	$(BIN)/python -m pytest -m slow

# What the scripted visit needs: Debian's Chromium (as root) and the accessibility rules of axe-core. Without them its
# tests are skipped, with a word.
browser: $(VENV)/.ready
	command -v chromium >/dev/null || (apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium)
	test -f $(AXE)/node_modules/axe-core/axe.min.js || \
	  npm install --silent --prefix $(AXE) --no-save --no-package-lock --no-audit --no-fund axe-core@4.11

lint: $(VENV)/.ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.ready
	$(BIN)/mypy

check: lint types test

bench: $(VENV)/.ready
	$(BIN)/python benchmarks/recorded_densenet.py

kernels: $(VENV)/.ready
	$(BIN)/python benchmarks/kernels

benchmark: $(VENV)/.ready
	$(BIN)/mammi benchmark --out docs

# uv resolves and unpacks the several GB of the default torch build some four times quicker than pip.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[all]' --group dev
	touch $@

# Only after changing a dependency: names and versions, no addresses.
lock: $(VENV)/.ready
	$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --universal --upgrade \
	  --no-header --no-annotate --quiet --output-file constraints.txt

clean:
	rm -rf $(VENV) demo
