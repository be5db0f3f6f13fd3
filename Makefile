# make run: train, validate and predict on scanned digits.  make test: the suite.  make check: format, lint, types, layers.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: run test check format bench peers golden clean

run: $(READY)
	@scripts/demo.sh $(BIN)

test: $(READY)
	$(BIN)/python -m pytest -n 2 -m "not slow" -q

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	@for file in bench/[a-z]*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

# Other libraries to measure against, in an environment of their own: see bench/. torchvision and timm never go into .venv.
peers:
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet "torch>=2.9,<2.14"
	.venv-peers/bin/python -m pip install --quiet --no-deps torchvision==0.28.0 timm==1.0.31
	.venv-peers/bin/python -m pip install --quiet huggingface_hub safetensors pyyaml pillow numpy

golden: $(READY)
	$(BIN)/python -m tests.arch.regenerate

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

# torch goes first and by itself, so that pip settles its build before anything that depends on it.
$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "torch>=2.9,<2.14"
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	@touch $@
