# SPDX-License-Identifier: MIT
# The two commands of the README are `make demo` and `make test`; each sets up what it needs.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
CORE   := $(wildcard csrc/*.c csrc/*.h) csrc/build_native.py setup.py pyproject.toml
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet
# Only files whose hashes are in requirements/. Where all have wheels, none runs code because it is installed.
LOCKED := $(PIP) --require-hashes $(if $(filter x86_64,$(shell uname -m)),--only-binary :all:)
PEERS  := import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["peers"])

# Whoever works on it has the C core, or an error.
export PACIFICA_FAST_EXTENSION ?= yes

BENCH_OUT := build/bench
SECONDS   ?= 60

# Its source; nothing of it is built or installed.
HUMMINGBOT := hummingbot==20260922
HUMMINGBOT_HASH := sha256:af2012e5fbc66c23844d64e93056dad70aea1eb1b169b6f986b22fd726c4c2c6

.PHONY: help demo test integrations migrations prove model ctgrind storm soak fuzz supply wheels lint bench docs picture sanitize format clean

help:
	@echo "make demo      cancels on the embedded mock exchange, over TLS"
	@echo "make test      the C tests and the Python tests"
	@echo "make integrations  ccxt, hummingbot and the SDKs, accelerated: the real packages, from the index"
	@echo "make migrations  each way of docs/integrations.md, followed in an environment of its own"
	@echo "make prove     all evidence for docs/security.md, and one table of it; an hour"
	@echo "               make prove PROVE=--short      in minutes, as CI does"
	@echo "make model     every order of the steps of a pool of nonces: needs spin"
	@echo "make ctgrind   no branch, no index and no time depends on a secret: needs valgrind"
	@echo "make fuzz      every target for a minute, or SECONDS=600: needs clang"
	@echo "make supply    locks, SBOM, known holes, workflows, wheels that can be made again"
	@echo "make wheels    wheel and sdist, looked at, and tested where they are installed"
	@echo "make storm     200 000 cancels through a hostile exchange: one fate each, and a true one"
	@echo "make soak      half an hour of 2 000 cancels a second through faults: memory and latency"
	@echo "make lint      ruff, mypy, who imports whom, clang-format, gcc and clang with warnings as errors"
	@echo "make bench     the report: ours beside its peers, as $(BENCH_OUT)/report.html; ten minutes"
	@echo "               make bench BENCH=--quick    in a minute or two"
	@echo "               make bench BENCH=--resume   goes on after Ctrl-C"
	@echo "make docs      the site, warnings as errors, as build/site/index.html"
	@echo "make picture   the picture of the README anew: pacifica-fast demo, on a quiet machine"
	@echo "make sanitize  the C tests, and the Python tests, under ASan and UBSan; threads under TSan"

demo: $(VENV)/installed
	@$(BIN)/pacifica-fast demo

test: $(VENV)/installed-test
	$(MAKE) --no-print-directory --silent -C csrc/tests
	$(BIN)/python -m pytest -q -n auto

integrations: $(VENV)/installed-test $(VENV)/installed-integrations $(VENV)/hummingbot/fetched
	PYTHONPATH=$(VENV)/hummingbot PACIFICA_FAST_PEERS=required $(BIN)/python -m pytest -q tests/integrations

prove: $(VENV)/installed-test $(VENV)/installed-optional $(VENV)/installed-fuzz $(VENV)/installed-audit
	PYTHONPATH=tests $(BIN)/python -m proof $(PROVE)

model:
	csrc/tests/model/check

ctgrind: $(VENV)/installed-test
	PYTHONPATH=tests $(BIN)/python -m ctgrind.run $(CTGRIND)
	PYTHONPATH=tests $(BIN)/python -m ctgrind.dudect $(CTGRIND)

fuzz: $(VENV)/installed-test $(VENV)/installed-fuzz
	PYTHONPATH=tests $(BIN)/python -m fuzz.run --seconds $(SECONDS)

storm: $(VENV)/installed-test
	$(BIN)/python tests/storm.py

soak: $(VENV)/installed-test
	$(BIN)/python tests/soak.py

migrations: $(VENV)/installed-test $(VENV)/installed-audit $(VENV)/hummingbot/fetched
	PYTHONPATH=tests $(BIN)/python -m proof.migrations

wheels: $(VENV)/installed-audit
	PYTHONPATH=tests $(BIN)/python -m proof.wheels $(WHEELS)

supply: $(VENV)/installed-optional $(VENV)/installed-audit
	PYTHONPATH=tests $(BIN)/python -m proof.supply $(SUPPLY)

lint: $(VENV)/installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache
	.ci/lint-c

bench: $(VENV)/installed-bench $(VENV)/installed-peers
	@mkdir -p $(BENCH_OUT)
	$(BIN)/python -m benchmarks --out $(BENCH_OUT) $(BENCH)
	$(BIN)/python -m pytest benchmarks -q --benchmark-json=$(BENCH_OUT)/pytest-benchmark.json \
		--benchmark-columns=median,iqr,ops,rounds --benchmark-sort=name

docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

picture: $(VENV)/installed
	PATH="$(BIN):$$PATH" $(BIN)/python docs/picture.py docs/assets/demo.svg pacifica-fast demo

sanitize: $(VENV)/installed-test
	$(MAKE) --no-print-directory --silent -C csrc/tests SANITIZE=address,undefined BUILD=build/sanitize
	$(MAKE) --no-print-directory --silent -C csrc/tests SANITIZE=thread BUILD=build/thread \
		test_gate test_nonce test_armed
	.ci/sanitize-python $(VENV)

format: $(VENV)/installed-lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	clang-format -i csrc/*.c csrc/*.h csrc/tests/*.c csrc/tests/*.h csrc/tests/proof/*.c csrc/fuzz/*.c csrc/fuzz/*.h

clean:
	rm -rf $(VENV) build dist *.egg-info pacifica_fast/_native.* csrc/tests/build

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("pacifica_fast needs Python 3.11 or newer; try make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@echo "setting up $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(BIN)/python $(CORE) requirements/build.txt requirements/run.txt
	@$(LOCKED) -r requirements/build.txt -r requirements/run.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

# pip before 25.1 knows no --group. Whoever cannot be installed here has no figures.
$(VENV)/installed-peers: $(BIN)/python pyproject.toml
	@for peer in $$($(BIN)/python -c '$(PEERS)'); do \
		$(PIP) "$$peer" || echo "$$peer is left out of the report"; \
	done
	@touch $@

# pip asks setup.py for the name of what it downloads; tests/integrations/uncompiled keeps that from compiling.
$(VENV)/hummingbot/fetched: $(VENV)/installed-integrations
	@rm -rf $(@D) && mkdir -p $(@D)
	@echo "$(HUMMINGBOT) --hash=$(HUMMINGBOT_HASH)" > $(@D)/requirements.txt
	@PYTHONPATH=$(CURDIR)/tests/integrations/uncompiled $(BIN)/python -m pip --disable-pip-version-check \
		download --quiet --no-deps --no-build-isolation --no-binary :all: --require-hashes \
		--dest $(@D) --requirement $(@D)/requirements.txt
	@tar --extract --gzip --file $(@D)/*.tar.gz --directory $(@D) --strip-components 1 --wildcards '*/hummingbot/*.py'
	@rm $(@D)/*.tar.gz
	@touch $@

$(VENV)/installed-%: $(VENV)/installed requirements/%.txt
	@$(LOCKED) -r requirements/$*.txt
	@touch $@
