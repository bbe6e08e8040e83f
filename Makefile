# The two commands of this project are `make up` and `make test`; everything they need is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PATH := $(CURDIR)/.cache/promtool/usr/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help up test check fmt bench bench-expiry bench-intake bench-membership bench-restore bench-client bench-latency bench-scale bench-postgres bench-guard simulate chaos mutate schemas clean

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "The venv module is missing: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.9"
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $(STAMP)

up: $(STAMP) ## Run everything on this machine, replaying real flights, until Ctrl-C
	@$(BIN)/hindsight up --demo flights

test: $(STAMP) ## Run every test, on real Kafka and real Postgres
	@$(BIN)/python -m pytest --durations=20 --durations-min=5

check: $(STAMP) ## Lint, types, import rules, generated schemas
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m service.wire.schemas --check schemas

fmt: $(STAMP) ## Format, and mend what can be mended
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

schemas: $(STAMP) ## Generate schemas/ from the types that decode
	@$(BIN)/python -m service.wire.schemas schemas

bench: $(STAMP) ## Measure the pipeline, and what it is compared with, on real Kafka and real Postgres
	@$(BIN)/python -m bench

bench-expiry: $(STAMP) ## Measure a stream while a million rows expire
	@$(BIN)/python -m bench.expiry

bench-intake: $(STAMP) ## Measure rows posted over HTTP, and reads beside them
	@$(BIN)/python -m bench.intake

bench-membership: $(STAMP) ## Measure how long tasks stand still when a worker stops, dies or comes back
	@$(BIN)/python -m bench.membership

bench-restore: $(STAMP) ## Measure the restore of a million open rows
	@$(BIN)/python -m bench.restore

bench-client: $(STAMP) ## Measure what the client costs an application, with the broker there and away
	@$(BIN)/python -m bench.client

bench-latency: $(STAMP) ## Measure event to status at 10, 50 and 80 % of the maximum, open loop
	@$(BIN)/python -m bench.latency

bench-scale: $(STAMP) ## Measure the cost of an event against workers, partitions, deployments, rows, features, micro-batches
	@$(BIN)/python -m bench.scale

EVENTS ?= 2000000
bench-postgres: $(STAMP) ## Measure what EVENTS cost Postgres, and whether its tables stay flat
	@$(BIN)/python -m bench.postgres_cost --events $(EVENTS)

bench-guard: $(STAMP) ## Measure what a million events cost, in yardsticks of pure Python, as the guard in the tests does
	@$(BIN)/python -m bench.guard

N ?= 10000
FIRST ?= 0
simulate: $(STAMP) ## Run N schedules of faults from seed FIRST on, in memory
	@$(BIN)/python -m tests.simulation --first $(FIRST) --count $(N)

MINUTES ?= 20
SEED ?=
RATE ?= 250
chaos: $(STAMP) ## Break real servers and workers for MINUTES, at RATE records a second, from SEED on
	@$(BIN)/python -m tests.chaos --minutes $(MINUTES) --rate $(RATE) $(if $(SEED),--seed $(SEED))

MUTMUT := VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv run --quiet --no-project --with mutmut==3.8.1
mutate: $(STAMP) ## Change the domain in one place after the other, and list what no test has seen
	@rm -rf mutants
	@$(MUTMUT) mutmut run
	@$(MUTMUT) python -m tests.mutation

clean: ## Remove what was installed and built here
	@rm -rf $(VENV) mutants .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
