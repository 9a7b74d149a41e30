# One command per intention; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# A folder that `make offline` made: everything is then taken from there, and nothing fetched.
OFFLINE ?=
WHEELS := $(if $(OFFLINE),--no-index --find-links $(OFFLINE)/wheels)
PACK := $(if $(OFFLINE),--from $(OFFLINE))
SHELL := /bin/sh
.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(READY): requirements.lock pyproject.toml $(shell find labkit/_jupyter -type f -not -name '*.pyc')
	@$(PYTHON) -c 'import sys; v=sys.version_info; v >= (3, 11) or sys.exit("labkit needs Python 3.11 or newer; this is %d.%d. Name another: make PYTHON=python3.12 lab" % v[:2])'
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "This Python cannot make virtual environments: install your system's python3-venv package."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes $(WHEELS) -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

.PHONY: setup
setup: $(READY) ## everything installed and built, nothing started
	$(BIN)/labkit programs get $(PACK)

.PHONY: lab
lab: setup ## the lab running, and JupyterLab serving the lessons
	$(BIN)/labkit up
	@echo "JupyterLab: open the address below. Ctrl-C ends it; the lab itself goes on until \`make down\`."
	@$(BIN)/jupyter lab --config=labkit/_jupyter/serve.py --ServerApp.root_dir=notebooks

.PHONY: test
test: setup lint ## every check and every test, on real programs and in a real browser
	@$(BIN)/python -m bench.chromium || true
	$(BIN)/pytest

.PHONY: notebooks
notebooks: setup ## make the notebooks from course/*.md, run them, store them clean
	$(BIN)/python course/build.py

.PHONY: lint
lint: $(READY) ## ruff, mypy and the import rule
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: $(READY) ## rewrite the code in the house's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: conformance
conformance: setup ## Kubernetes' own conformance tests of what the node claims to do
	$(BIN)/python -m bench.conformance

DOCS = $(BIN)/python -m sphinx --quiet -W --keep-going --nitpicky -c docs -d build/doctrees

.PHONY: docs
docs: $(READY) ## the site of these pages and lessons, in build/docs
	@$(DOCS) -b html . build/docs
	@echo "The site is in build/docs: open build/docs/index.html."

.PHONY: docs-links
docs-links: $(READY) ## the same, and every link to other people's pages followed
	$(DOCS) -b linkcheck . build/links

.PHONY: bench
bench: setup ## the figures: times, memory, ratios against a peer
	$(BIN)/python -m bench

.PHONY: lock
lock: $(READY) ## resolve the dependencies again (hashes, no addresses)
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --extra test --extra docs --quiet --output-file requirements.lock pyproject.toml

.PHONY: offline
offline: setup ## dist/offline: all that a machine like this one needs to set up with no network
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --require-hashes -r requirements.lock -d dist/offline/wheels
	$(BIN)/labkit programs pack --to dist/offline
	@echo "Copy dist/offline and this checkout; there: make lab OFFLINE=FOLDER"

.PHONY: down
down: ## stop every lab
	$(BIN)/labkit down --all

.PHONY: clean
clean: ## remove what the checkout's commands made (the program cache stays)
	rm -rf $(VENV) artifacts dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
