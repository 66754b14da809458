# make book    the whole book, from nothing        make test    lint, types, tests
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
export OMP_NUM_THREADS ?= 1

.PHONY: install book pdf picture test coverage storm mutants pages lint pairs lock clean

# The environment alone: enough for `ecglib explain my.csv`
install: $(VENV)/.ready

book: $(VENV)/.ready
	$(BIN)/ecglib book

# The built book as one file for paper, _build/book.pdf; Chromium prints it
pdf: book
	$(BIN)/python -m ecglib.pdf

test: $(VENV)/.ready lint
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

# The whole suite again, and which lines of the library it runs
coverage: $(VENV)/.ready
	$(BIN)/pip install --quiet --disable-pip-version-check pytest-cov==7.1.0
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=json:_build/coverage.json --cov-report=term
	$(BIN)/python benchmarks/checks.py

# Many more damaged files and kills than `make test` has, and others each time: about an hour
storm: $(VENV)/.ready
	ECGLIB_STORM=2000 $(BIN)/pytest -n 2 --dist loadfile tests/test_faults.py tests/test_fuzz.py tests/test_safety.py \
		tests/test_determinism.py tests/test_storm_kill.py tests/test_storm_disk.py \
		-o junit_family=legacy --junitxml=_build/storm.xml
	$(BIN)/python benchmarks/checks.py

# Lines made wrong, one at a time: do the tests notice?  Half an hour
mutants: $(VENV)/.ready
	$(BIN)/pip install --quiet --disable-pip-version-check mutmut==3.8.1
	nice -n 10 $(BIN)/python benchmarks/mutants.py

# The built book in Chromium: weight of every page, how soon its charts are drawn, what axe-core finds
pages: $(VENV)/.ready
	$(BIN)/python benchmarks/pages.py

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Exact versions come from the lock; torch alone may be a CPU or a GPU build of its version.
$(VENV)/.ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

# book/*.md is what people edit; book/*.ipynb is what papermill runs
pairs: $(VENV)/.ready
	$(BIN)/ecglib book --pair

# The picture of the README, from a simulated record
picture: $(VENV)/.ready
	$(BIN)/python benchmarks/picture.py

# After a change of pyproject.toml: install it into a fresh environment and write down what came
lock:
	rm -rf _build/lock && $(PYTHON) -m venv _build/lock
	_build/lock/bin/pip install --quiet --upgrade pip setuptools
	_build/lock/bin/pip install --quiet '.[book,test]'
	_build/lock/bin/pip freeze --all --exclude pip --exclude ecglib | sed 's/+cpu$$//' > requirements.lock
	rm -rf _build/lock

clean:
	rm -rf _build
