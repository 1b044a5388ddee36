# Two commands matter: `make run` and `make test`. Both install what they lack into .venv and are quick the second time.
PYTHON = .venv/bin/python

.PHONY: help run test test-all lint install install-dev clean

help:
	@echo 'make run              train the embedded model with the quickstart recipe (RECIPE=grpo: another one)'
	@echo 'make test             the tests, except the long ones'
	@echo 'make test-all         all tests; ONLY=7 just those of promise 7 (docs/promises.md)'
	@echo 'make lint             ruff and mypy'
	@echo 'make install          .venv with all that running needs; install-dev: with the test tools too'
	@echo 'make clean            removes .venv and caches; runs/ stays'

run: install
	$(PYTHON) -m servers.embedded
	$(PYTHON) -m pipeline.orchestrate $(if $(RECIPE),train --recipe $(RECIPE))

# Tests wait for processes half of the time, so two run at once; those of one file stay together, the long ones come first.
test: install-dev
	$(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-all: install-dev
	$(PYTHON) -m pytest -m '' $(if $(ONLY),--promise $(ONLY))

lint: install-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

install:
	@.ci/install

install-dev:
	@.ci/install dev

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
