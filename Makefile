# Thin names for the scripts under scripts/, which say more when called by hand.

.DEFAULT_GOAL := help
.PHONY: help test test-unit matrix soak check lint fmt build demo bench services services-down hooks clean

# The groups of `make soak`: engine, dialects, brokers, matrix, inbox. Empty means all of them, one after another.
ONLY ?=

# Flags of `make bench`, for example BENCH="--only drain --events 1000000 --rounds 5".
BENCH ?=

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: ## Everything in small doses on real servers, which it starts; skips nothing
	@scripts/test

test-unit: ## What runs on the servers the environment names, or on none; says what it skipped and why
	@scripts/test unit

matrix: ## Every database to every broker, on real servers; writes the table of it into README.md
	@scripts/test matrix

soak: ## The same tests in full doses; ONLY=engine|dialects|brokers|matrix|inbox for one group
	@scripts/test soak $(ONLY)

check: lint test ## What must pass before a push: lint and test

lint: ## Formatting, vet, go.mod, golangci-lint, shellcheck, known vulnerabilities
	@scripts/lint

fmt: ## Format the code and mend what the linter can
	@scripts/lint fix

build: ## Build bin/lockstep
	go build -trimpath -o bin/lockstep ./cmd/lockstep

demo: build ## Show it at work
	@bin/lockstep demo

bench: build ## Measure on real servers, which it starts, and draw docs/drain.svg; BENCH=… are flags of lockstep bench
	@scripts/services up postgres mysql mariadb rabbitmq kafka
	@eval "$$(scripts/services env)" && bin/lockstep bench --svg docs/drain.svg $(BENCH)

services: ## Install and start the servers that the tests use
	@scripts/services up

services-down: ## Stop them
	@scripts/services down

hooks: ## Opt in: look at what is staged before each commit (scripts/hooks/pre-commit)
	git config core.hooksPath scripts/hooks

clean: ## Remove what was built; servers and their data stay (see .services/)
	rm -rf bin .tools
