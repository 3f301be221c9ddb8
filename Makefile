# make repro: set up and run the pipeline.  make test: set up and run the tests, quick ones first,
#   up to four at once.  `pytest -m 'not slow'`, in the environment, takes a minute or two.
# make scenarios: what a team goes through (kills, remotes, full disks), about a quarter of an hour;
#   remotes over SSH also need openssh-server, full disks the right to mount.
# make picture: docs/report.png, the picture in README, from report/index.html; needs Chromium.
# The environment lies in .venv and is made once; a change of the lock file brings it up to date.
# DVC may end with 0 where a full disk has kept it from saving: after a run the doctor looks.

PYTHON ?= python3
VENV := .venv
DONE := $(VENV)/.installed
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: repro test scenarios check picture setup lock

repro: $(DONE)
	@dvc repro
	@affectline doctor --quick

test: $(DONE)
	pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

scenarios: $(VENV)/.scenarios
	pytest -m scenario -n logical --maxprocesses 4 --dist worksteal tests/scenarios

check: $(DONE)
	ruff check .
	ruff format --check .
	mypy

picture: $(DONE)
	python -m docs.picture

setup: $(DONE)

$(DONE): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13)))' \
	  || { echo "error: $(PYTHON) is `$(PYTHON) -V 2>&1`; expected Python 3.11, 3.12 or 3.13:" \
	       "make PYTHON=python3.12"; exit 1; }
	@echo "setup: installing the packages of requirements.lock into $(VENV), which takes minutes"
	@$(PYTHON) -m venv $(VENV)
	@pip install --quiet --require-hashes --requirement requirements.lock
	@pip install --quiet --no-deps --no-build-isolation --editable .
	@affectline check
	@touch $(DONE)

$(VENV)/.scenarios: $(DONE) requirements-scenarios.lock
	pip install --quiet --require-hashes --requirement requirements-scenarios.lock
	touch $@

lock:  # needs uv; writes the pinned versions for Linux and macOS, with hashes, without addresses
	uv pip compile --universal --generate-hashes --no-header --extra dev --quiet \
	  --output-file requirements.lock pyproject.toml
	cp requirements.lock requirements-scenarios.lock  # what is in both keeps its version
	uv pip compile --universal --generate-hashes --no-header --extra dev --extra remotes \
	  --extra scenarios --quiet --output-file requirements-scenarios.lock pyproject.toml
