# The book and its checks. `make help` lists what there is.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
# One core, one arithmetic: chapters are timed and compared under the same conditions.
export OMP_NUM_THREADS = 1
export XLA_FLAGS = --xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1
export PYTHONHASHSEED = 0
export MALLOC_ARENA_MAX = 1
PORT ?= 8000
WORKERS ?= 2
SOURCES := dy33lib tests tools scripts benchmarks book/_ext

.DEFAULT_GOAL := help
.PHONY: help book serve test lint twins unit notebooks elsewhere built notebook new-chapter readme bench lock clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

.venv/ready: requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "dy33 needs Python 3.11 or newer; there is no '$(PYTHON)' here. Name yours: make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "dy33 needs Python 3.11 or newer, '$(PYTHON)' is $$($(PYTHON) -V). Name another: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "This Python has no venv module; on Debian or Ubuntu install it: sudo apt install python3-venv"; exit 1; }
	@echo "Making .venv from requirements.lock (about 1.6 GB; a few minutes the first time)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv
	@$(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python -r requirements.lock
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps -e .
	@touch $@

book: .venv/ready ## build the book, strictly, into _build/html
	@rm -rf _build  # a strict build reads every page: what an older one left would hide faults
	@$(BIN)/jupyter-book build . --warningiserror --nitpick --keep-going --quiet > _build.log 2>&1 || { cat _build.log; rm -f _build.log; exit 1; }
	@rm -f _build.log
	@echo "The book is built. Open _build/html/index.html, or type: make serve"

serve: book ## build the book and serve it on this machine
	@echo "http://127.0.0.1:$(PORT)/  (stop with Ctrl-C)"
	@$(BIN)/python -m webbrowser -t http://127.0.0.1:$(PORT)/ >/dev/null 2>&1 || true
	@$(BIN)/python -m http.server -b 127.0.0.1 -d _build/html $(PORT)

test: lint twins unit notebooks built ## everything that CI checks
	@echo "All checks passed."

lint: .venv/ready
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/pyright

twins: .venv/ready ## notebooks and their texts in step, README's table up to date
	$(BIN)/python -m tools.twins
	$(BIN)/python -m tools.readme --check

unit: .venv/ready ## tests of the library and the tools
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -m "not built"

NBVAL = $(BIN)/pytest -p no:jaxtyping -o addopts="" -W default --nbval --nbval-current-env --nbval-cell-timeout 600 -n $(WORKERS) --dist loadscope book

notebooks: .venv/ready ## execute every notebook and compare its outputs; one of them twice
	$(NBVAL)
	$(BIN)/python -m tools.execute --check book/ch01-neural-scaling-laws.ipynb

elsewhere: .venv/ready ## compare the notebooks as run with other vector instructions, which round otherwise
	XLA_FLAGS=--xla_cpu_max_isa=AVX2 OPENBLAS_CORETYPE=Haswell $(NBVAL)

built: book ## links, and the pages in a browser
	$(BIN)/pytest -m built -rs

notebook: .venv/ready ## execute one chapter after an edit of its text: make notebook CH=ch01
	@test -n "$(CH)" || { echo "Which chapter? make notebook CH=ch01"; exit 1; }
	@ls text/$(CH)-*.md >/dev/null 2>&1 || { echo "There is no text/$(CH)-*.md"; exit 1; }
	$(BIN)/jupytext --sync text/$(CH)-*.md
	$(BIN)/python -m tools.execute book/$(CH)-*.ipynb
	$(BIN)/jupytext --sync text/$(CH)-*.md
	$(BIN)/python -m tools.readme

new-chapter: .venv/ready ## start a chapter from the template: make new-chapter CH=ch02 SLUG=dynamic-range
	@$(BIN)/python -m tools.new_chapter "$(CH)" "$(SLUG)"

readme: .venv/ready
	$(BIN)/python -m tools.readme

bench: .venv/ready ## compare speed with peers, side by side in one run
	@for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

lock: .venv/ready ## resolve the dependencies anew into requirements.lock
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --no-emit-index-url -q -o requirements.lock

clean: ## remove the environment and everything built
	rm -rf .venv .venv-peers _build artifacts
