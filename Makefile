# Every target makes the virtual environment if it is missing, and makes nothing twice.
# ARGS are more options of the command that a target runs: make demo ARGS="--port 8000".
# PYTHON is what the environment is made with, if not the first that fits: make demo PYTHON=python3.12.
BIN := .venv/bin
REPORT ?= report
NOISE := noise gaussian-noise salt-and-pepper stripes blankish
COURSE := first_pyro first_pymc beta_binomial classification posterior_quality
ARGS ?=
# A file's tests share what they prepare, so a process takes whole files, in the order that `conftest.py` says.
PYTEST := $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -p no:benchmark

.DEFAULT_GOAL := help
.PHONY: help demo install test faults check lint train evaluate examples bench docs

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-9s %s\n", $$1, $$2}' Makefile

demo: .venv/page  ## open the classifier in a browser (no data, no network needed)
	$(BIN)/bnn serve --open $(ARGS)

install: .venv/all  ## install what the command bnn needs: the page, training, evaluation

train: .venv/all  ## train the default network on MNIST, minutes on two cores
	$(BIN)/python train.py $(ARGS)

evaluate: .venv/all  ## report on MNIST's test digits, other handwriting and noise, into $(REPORT)
	$(BIN)/bnn evaluate --in-distribution mnist --shifted digits $(NOISE:%=--ood %) --out $(REPORT) $(ARGS)

examples: .venv/examples  ## run the worked examples, within 20 minutes on two cores, into examples/out
	$(BIN)/jupyter-execute examples/tour.ipynb
	set -e; for name in $(COURSE); do $(BIN)/python examples/$$name.py $(ARGS); done

test: .venv/tests  ## run the tests (those that need MNIST skip where it cannot be had)
	$(PYTEST) $(ARGS)

faults: .venv/tests  ## kill, fuzz and crowd it at full length (an hour or two on two cores; ARGS=--short: minutes)
	status=0; for what in kills fuzz visitors; do $(BIN)/python tests/faults/$$what.py $(ARGS) || status=1; done; \
	  $(BIN)/python tests/reviewers.py || status=1; exit $$status

check: lint  ## check style and types, and run the fast tests, within a minute on two cores
	$(PYTEST) -m "not slow and not browser and not examples" $(ARGS)

lint: .venv/tests  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/bench  ## measure what it costs, compare with other libraries, write docs/performance.md (hours; ARGS=--short)
	$(BIN)/python benchmarks/peers.py $(ARGS)
	set -e; for what in predict step cost serve page; do $(BIN)/python benchmarks/performance.py $$what $(ARGS); done

docs: .venv/docs  ## build the documentation, with the API reference, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The groups of packages in pyproject.toml; install.sh says what each holds.
.venv/page .venv/all .venv/bench .venv/examples .venv/docs .venv/tests: pyproject.toml constraints.txt
	@MAKECMDGOALS='$(MAKECMDGOALS)' sh install.sh $(@F)
