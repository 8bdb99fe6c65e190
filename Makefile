# SPDX-License-Identifier: MIT
# The two commands of the README are `make demo` and `make test`; each sets up what it needs.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
CORE   := $(wildcard csrc/*.c csrc/*.h) csrc/build_native.py setup.py pyproject.toml
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: help demo test prove lint bench sanitize format clean

help:
	@echo "make demo      cancels on the embedded mock exchange, over TLS"
	@echo "make test      the C tests and the Python tests"
	@echo "make prove     no nonce is used twice: two million signatures, and builds in which it is"
	@echo "make lint      ruff, mypy, clang-format, gcc and clang with warnings as errors"
	@echo "make bench     every stage beside its peers; then all of it interleaved, with ratios"
	@echo "make sanitize  the C tests, and the Python tests, under ASan and UBSan"

demo: $(VENV)/installed
	@$(BIN)/pacifica-fast demo

test: $(VENV)/installed-test
	$(MAKE) --no-print-directory --silent -C csrc/tests
	$(BIN)/python -m pytest -q

prove: $(VENV)/installed-test
	PYTHONPATH=tests $(BIN)/python -m proof.nonces

lint: $(VENV)/installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	.ci/lint-c

bench: $(VENV)/installed-bench
	$(BIN)/python -m pytest benchmarks -q --benchmark-disable-gc --benchmark-min-time=0.01 \
		--benchmark-max-time=0.3 --benchmark-columns=median,iqr,ops,rounds --benchmark-sort=name
	$(BIN)/python -m benchmarks

sanitize: $(VENV)/installed-test
	$(MAKE) --no-print-directory --silent -C csrc/tests SANITIZE=address,undefined BUILD=build/sanitize
	.ci/sanitize-python $(VENV)

format: $(VENV)/installed-lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	clang-format -i csrc/*.c csrc/*.h csrc/tests/*.c csrc/tests/*.h csrc/tests/proof/*.c

clean:
	rm -rf $(VENV) build dist *.egg-info pacifica_fast/_native.* csrc/tests/build

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("pacifica_fast needs Python 3.11 or newer; try make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@echo "setting up $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(BIN)/python $(CORE)
	@$(PIP) --editable .
	@touch $@

$(VENV)/installed-%: $(VENV)/installed
	@$(PIP) --editable '.[$*]'
	@touch $@
