# make demo   a restored sample in samples/out/, from nothing but Python >= 3.11
# make test   the fast tests          make check   everything CI checks besides them
# make audit  known vulnerabilities of what is locked; needs the network
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
LOCKED := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-gpu test-faces test-cluster check audit format clean

help:
	@sed -n 's/^# \(make.*\)/\1/p' Makefile

# -- environments: one stamp per set of packages, renewed when a locked file changes --------------------------------

define need_python
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
  echo "videoclr needs Python 3.11 or newer, and '$(PYTHON)' is" \
    "$$($(PYTHON) --version 2>/dev/null || echo missing). Say which to use: make PYTHON=python3.12 demo" >&2; exit 1; }
endef

$(PY):
	$(need_python)
	$(PYTHON) -m venv $(VENV)

# HASHES=locks/FILE.txt installs the files of a lock and no others, for Python and the platform in its name
$(VENV)/.installed: $(LOCKED) | $(PY)
	@echo "installing into $(VENV): torch is large, this takes a few minutes the first time"
	$(if $(HASHES),$(PIP) install -q --require-hashes -r $(HASHES) && $(PIP) install -q --no-deps -e .,$(PIP) install -q -c constraints.txt -e '.[samples]')
	@touch $@

$(VENV)/.installed-dev: $(LOCKED) | $(PY)
	@echo "installing into $(VENV): torch is large, this takes a few minutes the first time"
	$(if $(HASHES),$(PIP) install -q --require-hashes -r $(HASHES) && $(PIP) install -q --no-deps -e .,$(PIP) install -q -c constraints.txt -e '.[dev]')
	@touch $@ $(VENV)/.installed

# facexlib, spandrel and torchvision need a torch that fits them, so they get an environment of their own
$(VENV)-faces/.installed: $(LOCKED)
	$(need_python)
	$(PYTHON) -m venv $(VENV)-faces
	$(VENV)-faces/bin/python -m pip install -q -e '.[faces,interop,dev]' spandrel_extra_arches
	@touch $@

# What Ray brings along is no part of what is locked
$(VENV)-cluster/.installed: $(LOCKED)
	$(need_python)
	$(PYTHON) -m venv $(VENV)-cluster
	$(VENV)-cluster/bin/python -m pip install -q -c constraints.txt -e '.[cluster,dev]'
	@touch $@

# An auditor of its own, so that what it brings along is no part of what is audited
$(VENV)-audit/.installed:
	$(need_python)
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/python -m pip install -q pip-audit
	@touch $@

# -- what there is to do ----------------------------------------------------------------------------------------------

demo: $(VENV)/.installed
	$(PY) samples/make_sample.py
	$(PY) samples/demo.py

test: $(VENV)/.installed-dev
	$(PY) -m pytest -q -n auto --maxprocesses 4 --dist loadfile -m "not slow and not gpu and not faces and not interop and not cluster"

test-slow: $(VENV)/.installed-dev
	$(PY) -m pytest -q -m slow

test-gpu: $(VENV)/.installed-dev
	$(PY) -m pytest -q -m gpu

test-faces: $(VENV)-faces/.installed
	$(VENV)-faces/bin/python -m pytest -q -m "faces or interop"

test-cluster: $(VENV)-cluster/.installed
	$(VENV)-cluster/bin/python -m pytest -q -m cluster

check: $(VENV)/.installed-dev
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" scripts/check

audit: $(VENV)-audit/.installed
	PATH="$(CURDIR)/$(VENV)-audit/bin:$$PATH" scripts/audit

format: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check --fix-only --quiet .
	$(VENV)/bin/ruff format .

clean:
	rm -rf samples/out build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
