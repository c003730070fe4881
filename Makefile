# `make` lists what there is. Nothing but Python >= 3.11, make and pip's registry is needed; all of it goes into .venv.

PYTHON ?= python3 python3.13 python3.12 python3.11
PROFILES ?= lab hardware test eda molecule lint

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --retries 5 --timeout 60 install -qq --progress-bar off --constraint constraints.txt
PYTEST := $(BIN)/pytest -q --numprocesses=auto --maxprocesses=4 --durations=10 --durations-min=1
# What fails is tried once more, alone, as on a busy machine something may come too late; the log names it, for it is to be mended.
TRY = $(PYTEST) $(1) $(2) || { \
  echo "==> once more, alone; what passes now was too late, or is a race: mend it"; \
  $(PYTEST) --numprocesses=0 --maxfail=1 --last-failed --last-failed-no-failures=none $(2); }
SCENARIOS := $(patsubst molecule/%/molecule.yml,%,$(wildcard molecule/*/molecule.yml))
TREE := build/src/ansible_collections/tidegate/release
SOURCES := $(shell find galaxy.yml meta extensions requirements plugins roles playbooks inventories -not -path '*/__pycache__*' 2>/dev/null)

export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: help venv dev collection system demo demo-hardware bench test test-unit test-integration test-thorough molecule lint lint-python lint-ansible lint-docs lint-galaxy sanity constraints docs release clean
.NOTPARALLEL:

help:
	@echo "make demo              two releases and three broken ones on 8 lab hosts, in waves; report in build/demo"
	@echo "make demo-hardware     firmware in waves on 8 lab hosts with fwupd, and back; report in build/demo-hardware"
	@echo "make test              unit, integration and molecule tests"
	@echo "make test-unit         one part of them; also test-integration, molecule"
	@echo "make test-thorough     integration tests of which make test tries some"
	@echo "make bench             benchmarks, into build/bench/results.json; ONLY=stage_upgrade,archive HOSTS=8"
	@echo "make lint              every linter; parts: lint-python, lint-ansible, lint-docs, lint-galaxy, sanity"
	@echo "make venv              .venv with requirements.txt; PYTHON=/path/to/python3 picks the Python"
	@echo "make collection        this checkout, installed into .venv"
	@echo "make system            missing system packages; PROFILES=\"lab hardware test eda molecule lint\""
	@echo "make constraints       newest versions within requirements*.txt into constraints.txt"
	@echo "make docs              the site of the documentation, into build/docs/site"
	@echo "make release           changelog, tarball, Tidegate's own release and the tag; KEY=key.pem signs it"
	@echo "make clean             removes .venv and build"

# --- what everything stands on --------------------------------------------------------------------------------------------------------

venv: $(VENV)/.runtime
dev: $(VENV)/.dev
collection: $(VENV)/.collection

$(VENV)/.made:
	@for python in $(PYTHON); do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "==> making $(VENV) with $$($$python --version)"; \
	    $$python -m venv --clear $(VENV) && touch $@; exit; \
	  fi; \
	done; \
	echo "None of $(PYTHON) is Python 3.11 or newer; install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1

# With bindep, which tools/system-packages runs.
$(VENV)/.runtime: $(VENV)/.made requirements.txt $(wildcard requirements/*.txt) constraints.txt
	@echo "==> installing requirements.txt"
	@$(PIP) -r requirements.txt bindep
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.txt
	@echo "==> installing requirements-dev.txt"
	@$(PIP) -r requirements-dev.txt
	@touch $@

$(VENV)/.collection: $(VENV)/.runtime $(SOURCES)
	@$(BIN)/python tools/install.py --collection
	@touch $@

system: $(VENV)/.runtime
	@tools/system-packages $(PROFILES)

constraints: $(VENV)/.runtime
	@echo "==> resolving requirements.txt and requirements-dev.txt for Python 3.11 and newer"
	@$(BIN)/python -m pip --disable-pip-version-check install -qq uv
	@$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --strip-extras --no-annotate \
	  --custom-compile-command "make constraints" --output-file constraints.txt requirements.txt requirements-dev.txt

# --- showing and testing --------------------------------------------------------------------------------------------------------------

demo: collection
	@tools/system-packages lab
	@$(BIN)/python examples/demo/demo.py

demo-hardware: collection
	@tools/system-packages lab hardware
	@$(BIN)/python examples/hardware/demo.py

test: test-unit test-integration molecule
	@$(BIN)/python tools/skipped.py build/test/*.xml

test-unit: dev collection
	@tools/system-packages test
	@echo "==> unit tests"
	@# The host's wait for hooks and checks half of the time, so four at a time. They fork thousands of times, which costs half
	@# in a process that has not loaded what all others need.
	@$(call TRY,--numprocesses=4 --dist=worksteal --junit-xml=build/test/host.xml,tests/unit/host)
	@$(call TRY,--dist=worksteal --junit-xml=build/test/unit.xml,--ignore=tests/unit/host tests/unit)

test-integration: dev collection
	@tools/system-packages lab hardware test eda
	@echo "==> integration tests"
	@# Three at a time, for they wait for hosts and servers.
	@$(call TRY,--numprocesses=3 --dist=loadfile --no-loadscope-reorder --junit-xml=build/test/integration.xml,-m 'not thorough' tests/integration)

test-thorough: dev collection
	@tools/system-packages lab hardware test eda
	@echo "==> integration tests that make test leaves out"
	@$(PYTEST) --numprocesses=3 --dist=loadfile -m thorough tests/integration

molecule: dev collection
	@tools/system-packages lab molecule
	@echo "==> molecule scenarios"
	@test -n "$(SCENARIOS)"
	@mkdir -p build/molecule
	@if [ "$$(id -u)" = 0 ]; then \
	  printf '%s\n' $(SCENARIOS) | xargs -P 2 -I{} sh -c \
	    'if $(BIN)/molecule test -s {} >build/molecule/{}.txt 2>&1; then echo "{}: passed"; else cat build/molecule/{}.txt; exit 1; fi'; \
	else echo "skipped: their isolated lab hosts need root"; fi

bench: collection
	@tools/system-packages lab
	@-$(BIN)/python tests/bench --only "$(ONLY)" $(if $(HOSTS),--hosts $(HOSTS))

# --- linting --------------------------------------------------------------------------------------------------------------------------

# Two at a time, the longest first: alone, most of them leave a processor idle.
lint: dev collection build/src
	@printf '%s\n' sanity lint-ansible lint-galaxy lint-docs lint-python | xargs -P 2 -n 1 $(MAKE) --no-print-directory

lint-python: dev build/src
	@echo "==> ruff"
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@echo "==> mypy"
	@$(BIN)/mypy --no-error-summary $(TREE)/plugins/plugin_utils $(TREE)/plugins/module_utils
	@echo "==> vermin"
	@$(BIN)/vermin --quiet --no-tips --violations --target=3.9- plugins/module_utils plugins/modules

lint-ansible: dev collection
	@echo "==> ansible-lint"
	@$(BIN)/ansible-lint -q

lint-docs: dev collection
	@echo "==> antsibull-docs"
	@$(BIN)/antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs=all .
	@echo "==> antsibull-changelog"
	@$(BIN)/antsibull-changelog lint

lint-galaxy: dev
	@echo "==> galaxy-importer"
	@$(BIN)/python tools/galaxy.py

sanity: dev
	@tools/system-packages lint
	@echo "==> ansible-test sanity"
	@$(BIN)/python tools/sanity.py

# --- documentation --------------------------------------------------------------------------------------------------------------------

docs: dev collection
	@$(BIN)/python tools/docs.py

# --- a release ------------------------------------------------------------------------------------------------------------------------

release: dev collection
	@test -n "$(KEY)" || { echo "no key; say which signs it: make release KEY=key.pem" >&2; exit 1; }
	@$(BIN)/python tools/release.py --key "$(KEY)" $(ARGS)

# The checkout under the name that Python code imports it by, for mypy and editors.
build/src:
	@mkdir -p $(dir $(TREE))
	@ln -sfn $(CURDIR) $(TREE)

clean:
	rm -rf $(VENV) build
