# make roadmap: set up and run `vitnas roadmap --steps all`.  make test: set up and pass the tests.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
# How many test files run at once. Most of a test's time is one core's: two leave a small machine no core idle.
JOBS ?= 2
# Tests read CIFAR-10 and other data here, where it exists; without it they skip and say so.
ifneq ($(wildcard ../shared),)
export VITNAS_SHARED ?= $(abspath ../shared)
endif

.PHONY: roadmap ui test test-all lint docs install clean

roadmap: $(VENV)/installed
	$(BIN)/vitnas roadmap --steps all $(ARGS)

ui: $(VENV)/installed
	$(BIN)/vitnas ui

test: $(VENV)/installed-dev lint
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

test-all: $(VENV)/installed-dev lint
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "full or not full" $(ARGS)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	ln -sfn "$(CURDIR)" $(VENV)/vitnas && MYPYPATH=$(VENV) $(BIN)/mypy -p vitnas

# Pages that are made from the code; a test checks that they are current.
docs: $(VENV)/installed
	$(BIN)/python docs/generate.py

install: $(VENV)/installed

# torch comes first and within its range, so that a CPU wheel which is at hand is taken.
$(VENV)/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "torch>=2.6,<2.14" numpy
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[dev]"
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps timm torchvision
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
