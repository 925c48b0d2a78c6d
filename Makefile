# make demo    train five experts of a quadruped, merge them, measure and film the student (results/demo)
# make test    lint, types and the test suite
# make test-warp  the GPU engine on Warp's CPU device, and all its kernels compiled for sm_90; installs the extra [gpu]
# make coverage  the test suite with the lines that it leaves out, and a floor; make test does so with Python 3.12 and newer
# make bench   the throughput benchmarks
# make fuzz    are damaged files refused? CASES of every format, see docs/fuzz.md; resumes
# make chaos   commands killed at random moments, KILLS of them, on small disks, two at once; resumes
# make docs    the documentation as a site, in build/site; installs the extra [docs]
# make figures-check  does the documentation say what the committed results say?
# make mutants can the tests fail? single mutations of the code, and which of them no test notices
PYTHON ?= python3
VENV   ?= .venv
OUT    ?= results/demo
CASES  ?= 10000
KILLS  ?= 100
BIN    := $(VENV)/bin
READY  := $(VENV)/.policykd-installed
WARP   := $(VENV)/.policykd-warp
DOCS   := $(VENV)/.policykd-docs
# what test-warp runs, for example WARP_TESTS=tests/envs/test_warp_kernels.py
WARP_TESTS ?= $(wildcard tests/*/test_*warp*.py)

.PHONY: demo test test-warp coverage lint bench fuzz chaos docs figures-check mutants clean

demo: $(READY)
	$(BIN)/policykd demo --out $(OUT)

# Python 3.12 and newer count the lines that run at little cost. Older ones need a tracer: three test files took 47 s instead of 19.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not warp' \
		$$($(BIN)/python -c 'import sys; print("--cov" if sys.version_info >= (3, 12) else "")')

coverage: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not warp' --cov

test-warp: $(WARP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m warp $(WARP_TESTS)

# Static tools do not know the folder mapping: they read a copy laid out as it is imported. The cache outlives the copy.
lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build/typed && mkdir -p build/typed && cp -r policykd build/typed && cp -r envs agents build/typed/policykd
	cd build/typed && $(abspath $(BIN))/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache --num-workers 2 policykd

bench: $(READY)
	$(BIN)/python benchmarks/simulation.py
	$(BIN)/python benchmarks/training.py

fuzz: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/run.py --cases $(CASES)

chaos: $(READY)
	$(BIN)/python tests/chaos/run.py --kills $(KILLS)

docs: $(DOCS)
	$(BIN)/python docs/site/build.py

figures-check: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/figures_check.py

mutants: $(READY)
	$(BIN)/python tests/mutants/run.py

# The stamp is written last, so that an interrupted installation is done again. Modules are compiled on all cores, where pip
# takes one; torch holds a file for newer Pythons, which fails.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt setuptools wheel
	$(BIN)/pip install -q --no-compile -c constraints.txt -e '.[sim,kd,dev,video]'
	$(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null || true
	touch $@

# The wheel of Warp is large: a slow index is waited for.
$(WARP): $(READY)
	$(BIN)/pip install -q --retries 10 --timeout 180 -c constraints.txt -e '.[gpu]'
	touch $@

$(DOCS): $(READY)
	$(BIN)/pip install -q -c constraints.txt -e '.[docs]'
	touch $@

clean:
	rm -rf build results *.egg-info
