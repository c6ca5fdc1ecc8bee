# Everything that needs the environment depends on .venv/ready, which installs it once.
.PHONY: help quickstart report mini test test-slurm faults lint schema benchmark mlflow fetch lock
export HERE := $(CURDIR)
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Packages from elsewhere, as clusters' modules give them, would hide those of .venv.
unexport PYTHONPATH PYTHONHOME
# On a slow disk, compiling takes longer than uv's own limit of a minute.
export UV_COMPILE_BYTECODE_TIMEOUT ?= 600
PORT ?= 5000
RESULTS ?= results/quickstart results/fitnets/quickstart
# A Python of the versions in pyproject.toml, with all of the standard library, which some builds lack; prints the one that a
# virtual environment, such as an active .venv, was made from.
FITS = import bz2, ctypes, ensurepip, lzma, sqlite3, ssl, sys; (3, 11) <= sys.version_info[:2] <= (3, 12) or sys.exit(1); \
    print(sys._base_executable)
PYTHON ?= $(shell for name in python3.11 python3.12 python3; do $$name -E -c '$(FITS)' 2> /dev/null && break; done)
# The longest tests begin first, else one core waits for the other at the end.
LONG = tests/workflow/test_dvc.py tests/workflow/test_docs.py tests/tracking/test_tracking.py tests/tracking/test_failures.py tests/tracking/test_former.py tests/workflow/test_workflow.py
# Scripts use a GPU if there is one, but tests compare their nets bit by bit with nets trained on the CPU.
ON_CPU = CUDA_VISIBLE_DEVICES=
UV = uv==0.13.9
# Rules name no environment of their own, and Snakemake has no other way to skip that lint.
define SNAKEMAKE_LINT
from snakemake.linting.rules import RuleLinter
del RuleLinter.lint_missing_software_definition
from snakemake.cli import main
main(["--lint"])
endef
export SNAKEMAKE_LINT

# An environment that was made for another folder, or whose Python is gone, is useless.
ifneq ($(wildcard .venv/ready),)
ifneq ($(shell .venv/bin/python -E -c 'import fspkd' 2> /dev/null && cat .venv/ready),$(CURDIR))
$(info .venv was made in another folder, or its Python is gone: it is made again.)
$(shell rm .venv/ready)
endif
endif

quickstart: .venv/ready  ## Table 1, figure 3 and times on handwritten digits, in minutes
	snakemake results/quickstart/table1.csv results/quickstart/figure3.png results/quickstart/timing.csv

help: .venv/ready  ## this, and what can be made
	@sed -n 's/^\([a-z-]*\):.*##/make \1:/p' $(MAKEFILE_LIST)
	@echo && snakemake --dry-run --quiet all  # a fork may have a rule that runs without a target

report: members = $(if $(findstring quickstart,$(RESULTS)),4,1)  # its nets train in less time than Python takes to start
report: .venv/ready  ## everything on one page and as Snakemake's report, of both quickstarts or by RESULTS=results/mini
	snakemake $(RESULTS:%=%/summary.html) --config members=$(members)
	for results in $(RESULTS); do \
	    snakemake $$results/summary.html --report $$results/report.html || exit 1; done  # one net per job: a graph of few rules

mini: .venv/ready  ## the real CIFAR-10 at a hundredth of the paper's length
	snakemake results/mini/table1.csv results/mini/figure3.png

test: .venv/ready lint  ## every test except those on a SLURM cluster
	$(ON_CPU) pytest -n 2 --durations=10 --no-loadscope-reorder \
	    $(LONG) $(filter-out $(LONG) tests/gpu/% tests/slurm/%,$(wildcard tests/*/test_*.py))
	pytest tests/gpu  # which are skipped without a GPU

test-slurm: .venv/ready  ## the workflow on real SLURM clusters, started for it; needs root and the packages in .ci/run
	$(ON_CPU) pytest -n 3 --durations=10 --dist worksteal tests/slurm  # on two cores: much of it waits

faults: .venv/ready  ## thousands of damages, kills and attacks, and their outcomes: half an hour
	$(ON_CPU) DAMAGES=5000 KILLS=40 pytest --capture=no tests/faults tests/workflow/test_dvc.py::test_killed_then_complete

fetch: .venv/ready  ## what others made with the preset in params.yaml, from DVC's remote
	dvc pull
	@dvc status --quiet || { echo "What has come is of other settings or code than those here (dvc status shows which). Run dvc repro:" \
	    "it makes what differs again."; exit 1; }
	snakemake --touch $$(sed -n 's/^results: //p' params.yaml)/summary.html  # it goes by file times, and files come in any order

lint: .venv/ready  ## style, types, imports that go up, and rules
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	mypy
	lint-imports
	python -c "$$SNAKEMAKE_LINT"

schema: .venv/ready  ## what editors and docs/presets.md say about the keys of presets, from the models
	python scripts/write_schema.py

benchmark: .venv/ready  ## the engine compared with a plain loop and the hardware's ceiling
	python benchmarks/training.py results/benchmark

mlflow: .venv/ready  ## browse the runs, with PORT=5001 on another port than 5000
	-@python scripts/sync_mlflow.py --server "$${MLFLOW_TRACKING_URI:-http://127.0.0.1:$(PORT)}"  # what was not sent yet
	@case "$$MLFLOW_TRACKING_URI" in http*) ;; *) MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
	    mlflow server --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}" --port $(PORT) ;; esac

# If no Python on this machine fits, uv fetches one.
.venv/ready: requirements.lock pyproject.toml
	@test -z "$(PYTHON)" || "$(PYTHON)" -c '$(FITS)' > /dev/null || { echo "$(PYTHON) does not fit: needed is Python 3.11 or" \
	    "3.12, with bz2, ctypes, ensurepip, lzma, sqlite3 and ssl"; exit 1; }
	@test -n "$(PYTHON)" || python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 8))' || { echo "python3 does" \
	    "not fit: needed is 3.8 or newer, with venv (package python3-venv), or the path of a 3.11 or 3.12: make PYTHON=..."; exit 1; }
	@! squeue --me --noheader --format=%Z 2> /dev/null | grep --quiet --line-regexp --fixed-strings -- "$$HERE" || { echo \
	    ".venv has to be made anew, but jobs run from it (squeue --me). Wait for them, or scancel them: they resume from" \
	    "their checkpoints."; exit 1; }
	rm -rf .venv
	"$(or $(PYTHON),python3)" -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check $(UV)
	test -n "$(PYTHON)" || { cp .venv/bin/uv .uv && ./.uv venv --quiet --clear --python 3.11 .venv && mv .uv .venv/bin/uv; }
	.venv/bin/uv pip install --quiet --compile-bytecode --python .venv/bin/python --require-hashes -r requirements.lock
	.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
	echo "$$HERE" > $@

lock:  ## requirements.lock, from pyproject.toml
	.venv/bin/uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --no-annotate \
	    --python-version 3.11 --group dev pyproject.toml --output-file requirements.lock
