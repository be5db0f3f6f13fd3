# The two commands:   make run     train, validate and predict on scanned digits
#                     make test    run the test suite
# `make help` lists the others. All of them create the virtual environment in .venv first.

PYTHON ?= python3
# The torch build that is tested. For another one: make clean, then make test TORCH="torch==2.9.*"
TESTED_TORCH := torch>=2.9,<2.14
TORCH := $(or $(TORCH),$(TESTED_TORCH))
# Upper bound on test processes; pytest starts one per core.
JOBS ?= 8

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help run test test-cuda check format docs coverage release dist bench peers parity golden clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

run: $(READY)  ## train, validate and predict on scanned digits
	@scripts/demo.sh $(BIN)

test: $(READY)  ## run the test suite, except the tests marked slow
	$(BIN)/python -m pytest -n auto --maxprocesses $(JOBS) -m "not slow" -q

test-cuda: $(READY)  ## run the tests that need a CUDA GPU
	RESNETS_TEST_CUDA=1 $(BIN)/python -m pytest tests/runtime/test_cuda.py -q

check: $(READY) docs  ## format, lint, types, import layers, documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@# torch's own annotations differ between releases, so types are checked with the tested build only.
	@if [ "$(TORCH)" = "$(TESTED_TORCH)" ]; then echo $(BIN)/mypy; $(BIN)/mypy; \
	else echo "types are checked with $(TESTED_TORCH) only, not with $(TORCH)"; fi
	$(BIN)/python -m pytest -q tests/test_layers.py
	@if [ -f .coverage ]; then echo "line coverage of the last \`make coverage\`: $$($(BIN)/coverage report --format=total) %"; \
	else echo "line coverage: not measured yet, run \`make coverage\`"; fi

format: $(READY)  ## format the code and apply safe lint fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY)  ## build the documentation into site/; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Python 3.12 and later measure coverage at almost no cost; 3.11 takes about twice as long as `make test`.
coverage: $(READY)  ## run the test suite with line coverage and print the result
	COVERAGE_CORE=$$($(BIN)/python -c "import sys; print('sysmon' if sys.version_info >= (3, 12) else 'ctrace')") \
	$(BIN)/python -m pytest -n auto --maxprocesses $(JOBS) -m "not slow" -q --cov --cov-report=
	$(BIN)/coverage report --skip-covered --sort=cover

release: $(READY)  ## check version and changelog, then build and check the distributions
	$(BIN)/python scripts/check_release.py
	$(MAKE) dist

dist: $(READY)  ## build the sdist and the wheel into dist/ and check them
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

bench: $(READY)  ## run every benchmark
	@for file in bench/[a-z]*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

# torchvision and timm, the libraries that benchmarks compare with, never go into .venv.
peers:  ## create .venv-peers with torchvision and timm for the benchmarks
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet "$(TORCH)"
	.venv-peers/bin/python -m pip install --quiet --no-deps torchvision==0.28.0 timm==1.0.31
	.venv-peers/bin/python -m pip install --quiet huggingface_hub safetensors pyyaml pillow numpy

parity: $(READY) peers  ## compare every network with timm and torchvision; writes docs/parity.md
	$(BIN)/python scripts/parity

golden: $(READY)  ## regenerate the recorded parameters and MACs of every network
	$(BIN)/python -m tests.arch.regenerate

clean:  ## delete the environment, caches and build outputs
	rm -rf $(VENV) build dist site .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests bench scripts -name __pycache__ -type d -prune -exec rm -rf {} +

# torch is installed first, on its own, so that pip settles its build before anything that depends on it.
$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet -e ".[dev,docs]" "$(TORCH)"
	@touch $@
