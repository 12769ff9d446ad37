# `make demo` and `make test` are all that a fresh clone needs; the rest are parts of them.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Threads that spin while they wait make torch several times slower on cores that others use too.
export OMP_WAIT_POLICY ?= PASSIVE
EXAMPLES = last-frame style-change scale-change clip-to-clip extension mixed larger
# How many tests run side by side, and how many threads torch has in each: two cores in all.
JOBS ?= 2
PYTEST = OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist loadgroup
.PHONY: install demo check test test-all lint bench rooms mutants evaluate clean

install: $(VENV)/.installed

# torch comes first and pinned: asked for by another package it would bring the newest build.
$(VENV)/.installed: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed (PYTHON=python3.12 make ...)")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --prefer-binary "$$(grep '^torch==' requirements.lock)"
	$(BIN)/python -m pip install --disable-pip-version-check --prefer-binary --constraint requirements.lock --editable '.[studio,dev]'
	@touch $@

demo: install
	$(BIN)/dreamontage up
	$(BIN)/dreamontage submit --out out $(addprefix examples/,$(addsuffix .yaml,$(EXAMPLES)))
	@echo "Films, contact sheets and records: $(CURDIR)/out"
	@$(BIN)/dreamontage up 2>/dev/null
	@echo "End the studio with: $(BIN)/dreamontage down"

# Three tiers: what needs no server and takes three minutes; all but slow tests; all.
check: install lint
	$(PYTEST) -m "not server and not medium and not slow"

test: install lint
	$(PYTEST) -m "not slow"

test-all: install lint
	$(PYTEST)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install
	$(BIN)/python -m bench

# The import graph: rooms, floors, circles.
rooms: install
	$(BIN)/python -m bench.rooms

# Hours for all areas; goes on where it was stopped. One area: make mutants MUTANTS=planning
mutants: install
	$(BIN)/python -m bench.mutants $(MUTANTS)

# Minutes; killed and started again it goes on. More: make evaluate EVALUATE='FOLDER --clips 64 --sr F'
evaluate: install
	$(BIN)/dreamontage evaluate $(EVALUATE)

clean:
	rm -rf $(VENV) build *.egg-info .hypothesis .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
