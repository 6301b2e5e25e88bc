# Each target works from a fresh clone: it makes .venv, installs what it needs once, and runs.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow test-peers kernels test-gpu lint docs lean benchmark benchmark-gpu format clean

demo: .venv/.examples
	$(BIN)/python -m examples.synthetic_faces demo

test: .venv/.test
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: .venv/.test
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "slow and not interpreter"

test-peers: .venv/.peers
	$(BIN)/python -m pytest -m peers tests/test_peers.py tests/test_attention.py

# Triton either interprets kernels or compiles them: one process for each.
kernels: .venv/.test
	TRITON_INTERPRET=1 $(BIN)/python -m pytest -n 2 -m "interpreter and not slow" tests/kernels
	$(BIN)/python -m pytest -n 2 -m ahead tests/kernels

test-gpu: .venv/.test
	$(BIN)/python -m pytest -m gpu tests/kernels

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/.docs
	$(BIN)/python docs/generate.py
	$(BIN)/python -m sphinx -W -n -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

benchmark: .venv/.test
	$(BIN)/python -m benchmarks

benchmark-gpu: .venv/.test
	$(BIN)/python -m benchmarks --gpu

lean:
	$(PYTHON) .ci/lean.py

clean:
	rm -rf .venv build dist docs/_build docs/reference

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed; this is " + sys.version.split()[0] + ". Set PYTHON=...")'
	$(PYTHON) -m venv .venv || { rm -rf .venv; echo "No venv: on Debian and Ubuntu, apt install python3-venv."; exit 1; }

.venv/.%: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check -e ".[$*]"
	@touch $@
