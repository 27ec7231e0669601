# Run `make` for what there is to run. Python 3.11 or newer, make and git are all that is needed:
# each target sets up what it uses, once.

PYTHON ?= python3
PRESET ?= paper
PROFILE ?= local
SWEEP ?=
NOTEBOOKS ?= $(wildcard book/*.ipynb)

VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
INSTALLED := $(VENV)/installed
SWEEPER := .venv-sweep/installed

# Notebooks run in book/, where a relative folder would be another one.
absolute = $(if $(filter /%,$(1)),$(1),$(CURDIR)/$(1))
ifdef AEVB_DATA
override AEVB_DATA := $(call absolute,$(AEVB_DATA))
export AEVB_DATA
endif
ifdef AEVB_RESULTS
override AEVB_RESULTS := $(call absolute,$(AEVB_RESULTS))
export AEVB_RESULTS
endif

DATA := $(or $(AEVB_DATA),data)
FETCHED := _build/fetched
FIGURES := $(wildcard book/figure_*.ipynb)

# Two threads on these small matrices are slower than one, and much slower on a busy machine.
export OMP_NUM_THREADS := 1
export OMP_WAIT_POLICY := PASSIVE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help env data book pdf links figures smoke sweep outputs buttons readme bench test lint audit format constraints clean

help: ## Explain every target (the default)
	@echo 'make TARGET, where TARGET is one of'
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1|\2/p' $(firstword $(MAKEFILE_LIST)) \
	  | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'
	@echo
	@echo 'Settings, given as NAME=value:'
	@echo '  PYTHON       the interpreter that makes .venv, 3.11 or newer (now: $(PYTHON))'
	@echo '  PRESET       of `make figures` and `make sweep`: smoke (seconds), quick (minutes), paper (now: $(PRESET))'
	@echo '  PROFILE      of `make sweep`: local, slurm, kubernetes (now: $(PROFILE))'
	@echo '  SWEEP        more of `make sweep`, such as SWEEP="--seed 0-9 --dry-run"'
	@echo '  NOTEBOOKS    of `make outputs` (now: all)'
	@echo 'Environment: AEVB_DATA, the folder of the data sets (by default data/).'

env: $(INSTALLED) ## Make .venv: the pinned packages and aevb itself

# ---- Set-up ---------------------------------------------------------------------------------

# uv installs in seconds what pip does in a minute; where it cannot be had, or fails, pip does it.
# uv does not read pip's settings, so the folder of local wheels is passed on.
$(INSTALLED): requirements.in constraints.txt pyproject.toml
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo 'make: $(PYTHON) not found: install Python 3.11 or newer, or name it: make PYTHON=...' >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: Python 3.11 or newer is needed, found $$("$(PYTHON)" -V 2>&1) at $(PYTHON); name another: make PYTHON=..." >&2; exit 1; }
	@echo 'setting up $(VENV)'
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo 'make: $(PYTHON) has no venv module: install it (on Debian: apt-get install python3-venv)' >&2; exit 1; }
	@$(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || "$(PYTHON)" -m venv --clear $(VENV)
	@$(BIN)/uv --version >/dev/null 2>&1 \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION) >/dev/null 2>&1 \
	  || echo 'uv cannot be had: pip installs the packages, which takes some minutes'
	@{ test -x $(BIN)/uv && UV_FIND_LINKS="$${UV_FIND_LINKS:-$$PIP_FIND_LINKS}" $(BIN)/uv pip install \
	    --quiet --python $(BIN)/python -r requirements.in -c constraints.txt; } \
	  || $(BIN)/python -m pip install --disable-pip-version-check -r requirements.in -c constraints.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@mkdir -p $(VENV)/etc/ipython  # every kernel warns that loopback is not encrypted
	@echo 'c.IPKernelApp.log_level = "ERROR"' > $(VENV)/etc/ipython/ipython_kernel_config.py
	@touch $@

# Snakemake pins packages otherwise than the book does, so it lives beside it.
$(SWEEPER): aevb/sweep/requirements.txt | $(INSTALLED)
	@echo 'setting up .venv-sweep'
	@$(BIN)/python -m venv --clear .venv-sweep
	@{ test -x $(BIN)/uv && UV_FIND_LINKS="$${UV_FIND_LINKS:-$$PIP_FIND_LINKS}" $(BIN)/uv pip install \
	    --quiet --python .venv-sweep/bin/python -r $<; } \
	  || .venv-sweep/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

data: $(INSTALLED) ## Fetch MNIST and Frey Face, where they are not there yet; check their SHA-256
	@$(BIN)/python -m aevb data
	@mkdir -p _build && echo '$(DATA)' > $(FETCHED)

# What needs the data looks for them once: not again while the folder is the same and not empty.
# (Whoever reads a file checks it, every time.)
ifneq ($(shell cat $(FETCHED) 2>/dev/null),$(if $(wildcard $(DATA)/mnist/*),$(DATA),none))
.PHONY: $(FETCHED)
endif
$(FETCHED): | $(INSTALLED)
	@$(MAKE) --no-print-directory data

# ---- The book -------------------------------------------------------------------------------

# Sphinx warns of a page only when it reads it. After a failed build every page is read again, or
# the next build would pass over what this one complained of.
book: $(INSTALLED) $(FETCHED) ## Build the book, strictly: _build/html/index.html
	@$(BIN)/jupyter-book build book --config _config.yml --path-output . -n -W --keep-going \
	  || { rm -rf _build/.doctrees; exit 1; }

pdf: book ## Print the book to one file: _build/book.pdf; needs a Chromium
	@$(BIN)/python book/_ext/print_book.py

links: $(INSTALLED) $(FETCHED) ## Ask for every address elsewhere that the book leads to; needs a network
	@$(BIN)/jupyter-book build book --config _config.yml --path-output . --builder linkcheck; \
	  found=$$?; mv _build/html/output.txt _build/links.txt; rm -f _build/html/output.json; exit $$found

# The runs of Figure 2 take the longest: both algorithms at once use two cores, and its notebook then
# finds them made. (Into a pipe, so that no two progress bars share a line.)
figures: $(INSTALLED) $(FETCHED) ## Run every figure's notebook at PRESET, into _build/notebooks/PRESET
	@if [ "$(PRESET)" != paper ]; then \
	  for algorithm in aevb wake-sleep; do \
	    $(BIN)/python -m aevb run figure-2 --preset $(PRESET) --algorithm $$algorithm 2>&1 | cat & \
	  done; wait; fi
	@set -e; for notebook in $(FIGURES); do \
	  $(BIN)/python -m aevb.notebooks run $$notebook \
	    -o _build/notebooks/$(PRESET)/$${notebook##*/} -p preset $(PRESET); done

smoke: ## Run every figure's notebook at the smoke preset: really trains, in seconds
	@$(MAKE) --no-print-directory figures PRESET=smoke

sweep: $(INSTALLED) $(SWEEPER) $(FETCHED) ## Run what is missing of the experiments' grids: on all cores, or PROFILE
	@$(BIN)/python -m aevb sweep --preset $(PRESET) --profile $(PROFILE) $(SWEEP)

outputs: $(INSTALLED) $(FETCHED) ## Run NOTEBOOKS and store the outputs of their checked cells, and only those
	@$(BIN)/python -m aevb.notebooks store $(NOTEBOOKS)

buttons: $(INSTALLED) ## Write what Colab needs into the notebooks, for repository_address in _config.yml
	@$(BIN)/python book/_ext/repository_buttons.py

readme: $(INSTALLED) ## Bring the README's table and picture up to date with the stored records
	@$(BIN)/python -m aevb.readme

bench: $(INSTALLED) $(FETCHED) ## Measure the speed of training against what this machine can do
	@$(BIN)/python -m aevb bench

# ---- Checks ---------------------------------------------------------------------------------

# The book first: some tests look at the built pages. A notebook's cells share a kernel, and so
# must run in one process: --dist loadfile.
test: book ## Build the book, then run all tests: package, notebooks, pages in a browser
	@$(MAKE) --no-print-directory $(SWEEPER) || echo 'no Snakemake: the tests of a sweep are skipped'
	@$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(INSTALLED) ## Check style, types and the notebooks' rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/codespell
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_book.py

# Where the list of known faults cannot be had, the script says so and goes on.
audit: $(INSTALLED) ## List the packages' licences and, with a network, their known vulnerabilities
	@$(BIN)/python .ci/audit.py

format: $(INSTALLED) ## Format the code and mend what ruff can mend
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# Without local wheels, so that the result is the same on every machine.
constraints: $(INSTALLED) ## Pin again, in constraints.txt, what requirements.in brings along
	@sed -n '/^#/p' constraints.txt > constraints.partial
	@sed '/^#/d' constraints.txt > $(VENV)/pins.txt
	@UV_FIND_LINKS= $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-annotate \
	  --no-header --output-file $(VENV)/pins.txt requirements.in
	@sed 's/ *;.*//' $(VENV)/pins.txt >> constraints.partial
	@mv constraints.partial constraints.txt

clean: ## Remove what was built; keep .venv, the data and the stored records
	rm -rf _build .pytest_cache .ruff_cache .mypy_cache
