# The one menu. Everything works from a fresh clone with Python 3.11+, make and git.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help install tools demo up test quick check fmt bench attacks soak contracts
PURE := tests/algebra tests/rounds tests/protocols tests/intents tests/auth
help: ## show this menu
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: .venv/.installed ## make .venv with the pinned dependencies (does nothing when it is up to date)
.venv/.installed: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing the pinned dependencies into .venv ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

tools: install ## what only tests use and npm has (ethers, anvil, solc, an OpenID provider)
	@for folder in tests/js tests/providers/js contracts; do \
	  echo "npm packages of $$folder ..."; \
	  (cd $$folder && PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --ignore-scripts --no-audit --no-fund --silent && touch node_modules/.package-lock.json) || exit 1; \
	done

demo: install ## a network of four nodes makes a key, signs a real transaction, loses a node, signs again
	@$(BIN)/keyquorum demo

up: install ## start a network that keeps its keys in .keyquorum
	@$(BIN)/keyquorum up --dir .keyquorum

test: install ## run the tests; `make test T=tests/rounds` only those of one file or folder
	@$(BIN)/python -m pytest -q $(if $(T),$(T),-n 2 --dist loadfile)

quick: install ## the tests of the pure packages alone, in half a minute
	@$(BIN)/python -m pytest -q -n 2 $(PURE)

check: install ## lint, types, import directions, spec steps
	@$(BIN)/ruff check --no-cache .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python tools/check_imports.py
	@$(BIN)/python tools/check_spec_steps.py

fmt: install ## format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: install ## measure, and compare with the table in docs/performance.md
	@$(BIN)/keyquorum bench

attacks: install ## attack a fresh local network in every way that we know, and print what each attack got
	@cd tests && ../$(BIN)/python -m hostile

soak: install ## the long sweeps of docs/reliability.md; `make soak T=tests/sim` only some
	@$(BIN)/python -m pytest -q -m soak $(T)

contracts: install ## compile the contracts again and refresh the committed artifacts
	@$(BIN)/python tools/build_contracts.py
