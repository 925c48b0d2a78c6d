# make demo    train five experts of a quadruped, merge them, measure and film the student (results/demo)
# make test    lint, types and the test suite
# make bench   the throughput benchmarks
# make fuzz    are damaged files refused? CASES of every format, see docs/fuzz.md; resumes
# make mutants can the tests fail? single mutations of the code, and which of them no test notices
PYTHON ?= python3
VENV   ?= .venv
OUT    ?= results/demo
CASES  ?= 10000
BIN    := $(VENV)/bin
READY  := $(VENV)/.policykd-installed

.PHONY: demo test lint bench fuzz mutants clean

demo: $(READY)
	$(BIN)/policykd demo --out $(OUT)

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

# Static tools do not know the folder mapping: they read a copy laid out as it is imported.
lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build && $(BIN)/pip install -q --no-deps --no-build-isolation --target build/typed .
	cd build/typed && $(abspath $(BIN))/mypy --config-file ../../pyproject.toml policykd

bench: $(READY)
	$(BIN)/python benchmarks/simulation.py
	$(BIN)/python benchmarks/training.py

fuzz: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/run.py --cases $(CASES)

mutants: $(READY)
	$(BIN)/python tests/mutants/run.py

# The stamp is written last, so that an interrupted installation is done again.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt setuptools wheel
	$(BIN)/pip install -q -c constraints.txt -e '.[sim,kd,dev,video]'
	touch $@

clean:
	rm -rf build results *.egg-info
