# The commands that people and CI use; `make help` lists them. Everything that a fresh machine lacks is installed by
# package name or built from modules, once, into a cache outside the checkout.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
export DATAMIGRATION_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/datamigration
# One target directory for all checkouts, so that a fresh clone compiles only itself; `checkout` keeps them apart.
export CARGO_TARGET_DIR ?= $(DATAMIGRATION_CACHE)/target
HOST := $(shell rustc -vV | sed -n 's/^host: //p')
# The binaries that tests and images share.
export BINARIES := $(CARGO_TARGET_DIR)/$(HOST)/debug
SCRIPTS := $(shell grep -rlE '^(\#!/usr/bin/env bash|\# shellcheck shell=bash)' tests .ci --include='*' --exclude-dir=components)

.PHONY: help checkout build test soak bench model sim mutants demo lint fmt crds check-crds cluster-up cluster-down deny

help: ## this list
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / { printf "%-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# cargo tells the crates of two checkouts apart by the age of their files alone: what another checkout left would be
# taken for ours. Dependencies stay.
checkout:
	@mkdir -p "$(CARGO_TARGET_DIR)"; \
	if [[ $$(cat "$(CARGO_TARGET_DIR)/checkout" 2>/dev/null) != "$$PWD" ]]; then \
	  cargo clean --quiet --target $(HOST) --package datamigration --package shop --package proofs && echo "$$PWD" > "$(CARGO_TARGET_DIR)/checkout"; \
	fi

# With the tests, although they are not needed here: without them cargo chooses other features for the dependencies, and
# would build most of them a second time.
build: checkout ## the binaries, statically linked, where tests and images take them from
	cargo build --workspace --all-targets

# Most tests wait most of the time, for servers and for moments to pass: more of them at once than there are processors.
test: build ## all tests, on a real cluster and real databases; ends with the test runner's summary
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-4} tests/cluster/with cargo test --workspace --no-fail-fast

# Our own code is optimised here as its dependencies are in every build: without this, its share of the CPU would be
# measured as tests have it. Both crates: an async function is compiled in the crate that awaits it.
BENCH := cargo run --quiet --config profile.dev.package.datamigration.opt-level=3 \
	--config profile.dev.package.side-by-side.opt-level=3 --bin side-by-side --

bench: ## copy and verify beside the other tools (BENCH_ROWS, BENCH_ROUNDS, BENCH_FULL); writes docs/benchmarks.md
	$(BENCH)

bench-%: ## one part of it: bench-copy, bench-verify, bench-copy-mariadb, … (BENCH_ONLY=ours,memory: only these)
	$(BENCH) $*

soak: build ## the full counts of what `make test` samples, about an hour: planted corruptions, kills, live tables, MySQL
	tests/soak

soak-%: build ## one part of it: soak-conformance, soak-kills, soak-live, soak-mysql
	tests/soak $*

MODEL_STATES ?= 20000
SEEDS ?= 2000
FIRST_SEED ?= 0
PROOFS := cargo test --quiet

model: ## `decide` under a model check: every order of steps, MODEL_STATES of each scene; prints the states explored
	MODEL_STATES=$(MODEL_STATES) $(PROOFS) --test model -- --nocapture

sim: ## whole migrations on a simulated platform, SEEDS of them from FIRST_SEED on; ends with the violations
	SEEDS=$(SEEDS) FIRST_SEED=$(FIRST_SEED) $(PROOFS) --test sim -- --nocapture

mutants: ## `decide` and the guards made wrong in one place after the other; prints how many the model and the simulation catch
	MUTANTS=all $(PROOFS) --test mutants -- --nocapture

demo: build ## one migration, from the first rung to the last, under load; ends with the audit
	tests/demo/run

lint: check-crds deny ## formatting, clippy, generated files, licences, shell scripts
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --package datamigration --lib --no-default-features -- -D warnings
	tests/cluster/packages
	shellcheck $(SCRIPTS)

fmt: ## formats the code
	cargo fmt --all

crds: build ## writes crds/, docs/reference.md and docs/types.md anew from the types
	$(BINARIES)/datamigration crd --output crds
	$(BINARIES)/datamigration reference > docs/reference.md
	$(BINARIES)/datamigration types > docs/types.md

check-crds: build
	fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; $(BINARIES)/datamigration crd --output "$$fresh"; \
	diff -ru crds "$$fresh" || { echo 'crds/ is not what the types say: run `make crds` and commit the result' >&2; exit 1; }

deny:
	deny=$$(.ci/cargo-deny); "$$deny" --log-level warn check bans licenses sources

cluster-up: ## the test cluster and its databases, left running
	tests/cluster/up
	tests/cluster/databases up

cluster-down: ## ends both
	tests/cluster/databases down
	tests/cluster/down
