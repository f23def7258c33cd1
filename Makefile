PYTHON ?= .venv/bin/python
PROTO := $(wildcard proto/saddlebag/proto/v1/*.proto)
PROTOC = $(PYTHON) -m grpc_tools.protoc --proto_path=proto --python_out=$(1) --pyi_out=$(1) $(PROTO)

.DEFAULT_GOAL := help
.PHONY: help install proto format check check-proto test e2e bench comparison

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | expand -t 14

install: ## make .venv with everything development needs
	python3 -m venv .venv
	.venv/bin/pip install -q -c constraints.txt -e ".[dev]"

proto: ## regenerate saddlebag/proto/v1/*_pb2.py from proto/
	$(call PROTOC,.)

format: ## rewrite the sources in the house format
	$(PYTHON) -m ruff check --fix-only --quiet .
	$(PYTHON) -m ruff format .

check: check-proto ## format, lint, types, layers, generated code
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff check --select A005 --target-version py314 .
	$(PYTHON) -m mypy --strict saddlebag
	$(PYTHON) -c "from importlinter.cli import lint_imports_command as main; main()"

check-proto: ## the committed *_pb2.py are what proto/ generates
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && $(call PROTOC,"$$fresh") && \
	for file in $$(cd "$$fresh" && find . -type f); do \
	  diff -u "$$file" "$$fresh/$$file" || { echo "$$file is stale; run 'make proto'" >&2; exit 1; }; \
	done

test: ## all tests but the end-to-end ones
	$(PYTHON) -m pytest -m "not e2e"

e2e: ## the end-to-end tests
	$(PYTHON) -m pytest -m e2e

bench: ## run every benchmarks/bench_*.py
	@for file in benchmarks/bench_*.py; do echo "== $$file"; $(PYTHON) "$$file" || exit 1; done

comparison: ## write docs/comparison.md from the results in docs/comparison/
	$(PYTHON) benchmarks/comparison.py
