PYTHON ?= .venv/bin/python
PROTO := $(wildcard proto/saddlebag/proto/v1/*.proto)
TYPED := .ci benchmarks examples/ddp_digits examples/flower_adversarial/adversarial_digits examples/flower_fedavg \
  examples/flower_group_robust/group_robust examples/stride $(wildcard tests/conftest.py tests/*/conftest.py tests/*/*/conftest.py)
PROTOC = $(PYTHON) -m grpc_tools.protoc --proto_path=proto --python_out=$(1) --pyi_out=$(1) $(PROTO)

.DEFAULT_GOAL := help
.PHONY: help install lock audit coverage proto format check check-proto test e2e bench site notebooks smoke recipes contracts comparison

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | expand -t 14

install: ## make .venv with everything development needs
	python3 -m venv .venv
	.venv/bin/pip install -q -c constraints.txt -e ".[dev]"

lock: ## write requirements.lock, the versions of constraints.txt with the digests of their files
	$(PYTHON) -m uv pip compile pyproject.toml --extra dev --extra coverage -c constraints.txt --generate-hashes --universal \
	  --python-version 3.11.5 --no-annotate --no-header -q -o requirements.lock.new
	@sed -n '/^#/p' requirements.lock | cat - requirements.lock.new > requirements.lock.both
	@mv requirements.lock.both requirements.lock && rm requirements.lock.new

audit: ## compare requirements.lock with known weaknesses; fails on findings only
	$(PYTHON) .ci/audit.py

proto: ## regenerate saddlebag/proto/v1/*_pb2.py from proto/
	$(call PROTOC,.)

format: ## rewrite the sources in the house format
	$(PYTHON) -m ruff check --fix-only --quiet .
	$(PYTHON) -m ruff format .

check: check-proto ## format, lint, types, layers, generated code
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff check --select A005 --target-version py314 .
	$(PYTHON) -m mypy --strict saddlebag $(TYPED)
	$(PYTHON) -c "from importlinter.cli import lint_imports_command as main; main()"

check-proto: ## the committed *_pb2.py are what proto/ generates
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && $(call PROTOC,"$$fresh") && \
	for file in $$(cd "$$fresh" && find . -type f); do \
	  diff -u "$$file" "$$fresh/$$file" || { echo "$$file is stale; run 'make proto'" >&2; exit 1; }; \
	done

test: ## all tests but the end-to-end ones
	$(PYTHON) -m pytest -m "not e2e"

coverage: ## all tests but the end-to-end ones, measured; fails below .ci/coverage-floor, which only rises
	$(PYTHON) .ci/coverage.py

e2e: ## the end-to-end tests
	$(PYTHON) -m pytest -m e2e

bench: ## run every benchmarks/bench_*.py
	@for file in benchmarks/bench_*.py; do echo "== $$file"; $(PYTHON) "$$file" || exit 1; done

site: ## build the documentation into site/, strictly
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(PYTHON) -m mkdocs build --strict --quiet

notebooks: ## run docs/notebooks/ and keep what they show
	$(PYTHON) .ci/notebooks.py docs/notebooks/*.ipynb

smoke: ## run every benchmark in its smoke form
	$(PYTHON) benchmarks/smoke.py

recipes: ## write docs/recipes.md, the reference of all keys, from the code
	$(PYTHON) -m saddlebag explain --markdown > docs/recipes.md.new
	@mv docs/recipes.md.new docs/recipes.md

contracts: ## write the table of contracts and capabilities in CONTRIBUTING.md
	$(PYTHON) benchmarks/contracts.py

comparison: ## write docs/comparison.md from the results in docs/comparison/
	$(PYTHON) benchmarks/comparison.py
