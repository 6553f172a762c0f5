PYTHON ?= python3
SEEDS ?= 1
VENV = .venv
BIN = $(VENV)/bin
CHECK_PYTHON = $(PYTHON) -c 'import sys; sys.exit(not (3, 11, 4) <= sys.version_info[:3] < (3, 14))' || \
	{ echo "PYTHON must be Python 3.11.4 to 3.13, for example: make PYTHON=python3.12 demo. Received: $(PYTHON)"; exit 2; }

.PHONY: demo test test-all lint docs bench-solver clean

# Trains JTLN and its baselines on embedded real data and prints the table.
demo: $(VENV)/installed
	$(BIN)/jtln compare --preset=digits --seeds=$(SEEDS) --output=demo/seeds$(SEEDS)

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n auto --dist worksteal

# The fast tests and those that train for real.
test-all: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n auto --dist worksteal -m "slow or not slow"

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Builds the manual, site/index.html; a broken link is an error. It needs neither TensorFlow nor, once set up, a network.
docs: .venv-docs/installed
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

# Times the solver against its peers, which have an environment of their own.
bench-solver: .venv-bench/installed
	.venv-bench/bin/python -m benchmarks.solver --json=benchmarks/solver.json --plot=benchmarks/solver.png

clean:
	rm -rf $(VENV) .venv-bench .venv-docs site demo benchmarks/solver.json benchmarks/solver.png

$(VENV)/installed: requirements.txt pyproject.toml
	@$(CHECK_PYTHON)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

.venv-bench/installed: requirements.txt requirements-bench.txt
	@$(CHECK_PYTHON)
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-bench.txt
	touch $@

.venv-docs/installed: requirements-docs.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	touch $@
