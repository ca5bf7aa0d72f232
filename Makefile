# The verbs of the project; `make help` lists them. Everything that is built goes to build/, and nothing outside it changes but by
# `make install`, the Debian packages that a verb needs (installed by apt if they are missing), and the cache (~/.cache/skim, or SKIM_CACHE).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PREFIX ?= /opt/skim
DESTDIR ?=
# Which Debian suite Docker comes from: trixie has 26.1, bookworm 20.10.
SUITE ?= trixie
PYTHON ?= $(firstword $(wildcard /usr/bin/python3.11) python3.11)
PYTEST ?= $(VENV)/bin/python -m pytest

VENV := .venv
BUILD := build
# What a host that does not come up, or is gone, has failed is tried once more, and the summary names it; a test that failed is not.
RERUN_LOST_HOSTS := --reruns 1 --only-rerun HostDownError -rR
# Tests of hosts wait more than they work: several modules at a time, those first that do work, since their machines are emulated.
SIDE_BY_SIDE := --numprocesses 3 --dist loadfile --no-loadscope-reorder
# A run that was asked for hosts and cannot have them is red, not green with all of it skipped.
REQUIRE_HOSTS := SKIM_REQUIRE_HOSTS=1
IN_VENV := PYTHONPATH=$(CURDIR):$(CURDIR)/aci-build:$(CURDIR)/tests $(VENV)/bin/python

modules = $(shell find $(1) -name '*.py')
BASE_SOURCES := $(call modules,appc linux poddir)
FREEZE_SOURCES := $(call modules,freeze) $(wildcard freeze/*.spec)
BUILDER_SOURCES := $(BASE_SOURCES) $(call modules,aci-build/aci_build)
ENGINE_IMAGES := $(BUILD)/containerd.aci $(BUILD)/docker.aci
IMAGES := $(BUILD)/stage1-skim.aci $(ENGINE_IMAGES)
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
TARBALL := $(BUILD)/skim-$(VERSION)-$(shell uname -m).tar.gz

# Said before anything is built.
HOST_VERBS := $(filter demo test test-stage1 test-stock bench,$(MAKECMDGOALS))
ifneq ($(HOST_VERBS),)
ifneq ($(shell id -u),0)
$(error make $(firstword $(HOST_VERBS)) needs root, for the hosts that it boots; nothing was built. `make check` does without)
endif
endif

.PHONY: help
help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo '  SUITE=bookworm    take Docker from Debian 12 (20.10) instead of Debian 13 (26.1)'
	@echo '  DESTDIR=, PREFIX= where `make install` puts files, as packagers expect (default PREFIX: $(PREFIX))'
	@echo '  BINDIR=           where it links the commands: /usr/local/bin, or /opt/bin where /usr is read only'

.PHONY: demo
demo: aci $(BUILD)/frozen/host $(BUILD)/.test-packages ## boot a throw-away host, install the appliance on it and run a container (KEEP=1 leaves it up)
	@$(IN_VENV) -m demo

.PHONY: test
test: aci $(BUILD)/frozen/host $(BUILD)/.test-packages ## everything: linters, types, unit, golden, nspawn hosts, virtual machine
	@$(MAKE) --no-print-directory lint
	@$(PYTEST) --numprocesses auto tests/unit tests/golden
	@$(REQUIRE_HOSTS) SKIM_STOCK_PAGE=docs/stock.md $(PYTEST) $(RERUN_LOST_HOSTS) $(SIDE_BY_SIDE) tests/vm tests/stock tests/host

.PHONY: test-stage1
test-stage1: aci $(BUILD)/frozen/host $(BUILD)/.test-packages ## all that holds stage1_skim: its unit and golden tests, pods on a real systemd, and in a virtual machine
	@$(REQUIRE_HOSTS) $(PYTEST) tests/unit/test_layers.py $(wildcard tests/unit/test_stage1_*.py) tests/golden/test_stage1_plans.py tests/host/test_pods.py $(wildcard tests/host/test_stage1_*.py) tests/vm/test_stage1_fields.py

.PHONY: test-stock
test-stock: aci $(BUILD)/frozen/host $(BUILD)/.test-packages ## the same tests on a distribution's Docker and on ours; writes docs/stock.md
	@$(REQUIRE_HOSTS) SKIM_STOCK_PAGE=docs/stock.md $(PYTEST) $(RERUN_LOST_HOSTS) $(SIDE_BY_SIDE) tests/stock

.PHONY: check
check: $(VENV)/.done ## the fast part: linters, types, unit and golden tests
	@$(MAKE) --no-print-directory lint
	@$(PYTEST) -q --numprocesses auto -m 'not network and not slow' tests/unit tests/golden

.PHONY: lint
lint: $(VENV)/.done ## linters and types alone
	@$(VENV)/bin/ruff check --quiet
	@$(VENV)/bin/ruff format --quiet --check
	@$(VENV)/bin/mypy
	@for script in docker-wrapper/dockerd docker-wrapper/no-engine docker-wrapper/collect-pods host-units/install.sh host-units/load-modules host-units/uninstall setup/packages.sh setup/tarball.sh docs/fleet/skim-install; do sh -n $$script; done

.PHONY: aci
aci: $(IMAGES) ## build stage1-skim.aci, containerd.aci and docker.aci in build/

.PHONY: bench
bench: aci $(BUILD)/frozen/host $(BUILD)/.test-packages ## measure against stock peers, as ratios: a table, and build/bench.json
	@$(MAKE) --no-print-directory SUITE=bookworm BUILD=$(BUILD)/bench $(BUILD)/bench/containerd.aci $(BUILD)/bench/docker.aci
	@$(IN_VENV) -m bench

.PHONY: install
install: ## put the appliance on this machine, or into DESTDIR
	@DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' sh host-units/install.sh check
	@$(MAKE) --no-print-directory aci $(BUILD)/frozen/host
	@DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' sh host-units/install.sh install

.PHONY: uninstall
uninstall: ## take it off again; /var/lib/docker stays
	@DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' sh host-units/install.sh uninstall

.PHONY: tarball
tarball: aci $(BUILD)/frozen/host ## all of that as one file for hosts without a source tree, with its sha256 (docs/fleet.md)
	@sh setup/tarball.sh $(TARBALL)
	@echo '$(TARBALL)'

.PHONY: clean
clean: ## remove what was built (the cache outside the repository stays)
	@rm -rf $(BUILD) $(VENV)

# -- what the verbs need ---------------------------------------------------------------------------------------------------------------

$(BUILD)/.build-packages: setup/packages.sh
	@mkdir -p $(BUILD)
	@sh setup/packages.sh build
	@touch $@

$(BUILD)/.test-packages: setup/packages.sh $(VENV)/.done
	@sh setup/packages.sh test
	@touch $@

# Only after the packages, whichever BUILD they were noted in: `make bench` has one of its own and must not set up the environment anew.
$(VENV)/.done: pyproject.toml | $(BUILD)/.build-packages
	@echo 'setting up $(VENV)'
	@$(PYTHON) -m venv --clear $(VENV)
	@$(VENV)/bin/python setup/requirements.py | $(VENV)/bin/pip install -qq --disable-pip-version-check --requirement /dev/stdin
	@touch $@

$(BUILD)/frozen/host: $(VENV)/.done $(FREEZE_SOURCES) $(BASE_SOURCES) $(call modules,stage0 engine)
	@echo 'freezing rkt and skim'
	@$(VENV)/bin/python -m PyInstaller --noconfirm --log-level WARN --distpath $(BUILD)/frozen --workpath $(BUILD)/freeze freeze/host.spec >$(BUILD)/freeze-host.log 2>&1 || { tail -n 20 $(BUILD)/freeze-host.log; exit 1; }
	@touch $@

$(BUILD)/frozen/stage1: $(VENV)/.done $(FREEZE_SOURCES) $(BASE_SOURCES) $(call modules,stage1_skim)
	@echo 'freezing stage1_skim'
	@$(VENV)/bin/python -m PyInstaller --noconfirm --log-level WARN --distpath $(BUILD)/frozen --workpath $(BUILD)/freeze freeze/stage1.spec >$(BUILD)/freeze-stage1.log 2>&1 || { tail -n 20 $(BUILD)/freeze-stage1.log; exit 1; }
	@touch $@

$(BUILD)/stage1-skim.aci: $(BUILD)/frozen/stage1 aci-build/recipes/stage1-skim.toml $(BUILDER_SOURCES)
	@$(IN_VENV) -m aci_build aci-build/recipes/stage1-skim.toml --source $(BUILD)/frozen/stage1 --output $@

$(BUILD)/%.aci: aci-build/recipes/%.toml aci-build/recipes/%.unit $(BUILD)/.suite $(BUILDER_SOURCES) $(VENV)/.done
	@$(IN_VENV) -m aci_build $< --suite $(SUITE) --output $@

# Rewritten only when the suite changes, so that images of another suite are built anew.
$(BUILD)/.suite: FORCE
	@mkdir -p $(BUILD)
	@[ "$$(cat $@ 2>/dev/null)" = '$(SUITE)' ] || echo '$(SUITE)' > $@

.PHONY: FORCE
FORCE:
