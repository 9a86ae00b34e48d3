# The tasks of developers. `make help` lists them.
# The steps are small scripts in .ci/, which print what they do.

SHELL := /bin/bash
TARGET := $(or $(CARGO_TARGET_DIR),target)

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench fuzz kills flips simulate histories backfill schedules absent soak latency memory openapi setup web build load

help: ## print this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)$$/  make \1\t\2/' | expand -t 16

demo: ## run two homeservers on this machine with one document and two links to open; Ctrl-C stops them
	@.ci/setup demo
	@$(MAKE) --no-print-directory web build
	@exec $(TARGET)/debug/weft-demo

test: ## run everything that CI runs
	@.ci/setup test
	@.ci/test

lint: ## check formatting, clippy, the project's own rules, documentation and licences
	@.ci/setup test
	@.ci/test lint

bench: ## run the benchmarks of the update algebra and compare them with their goals
	@.ci/setup demo
	cargo bench --locked -p weft-crdt

fuzz: ## run every fuzz target for a minute (FUZZ_SECONDS=... for more); needs cargo-fuzz
	@.ci/fuzz

kills: ## kill two servers with 20 editors by kill -9 KILLS times (10000); no acknowledged edit may be missing
	@cargo build --release --locked --workspace --bin weft
	WEFT_KILLS=$(or $(KILLS),10000) cargo test --release --locked --workspace --test crashes -- --nocapture --exact \
	  kills_at_random_moments_lose_nothing_that_was_acknowledged

flips: ## flip FLIPS bits (2000) each in the store's log, tables and manifest, and print a table of the outcomes
	WEFT_FLIPS=$(or $(FLIPS),2000) cargo test --locked --workspace --test flips -- --nocapture

schedules: build ## run SEEDS (200) schedules of 3 to 5 servers in network namespaces over a faulty network; needs root
	WEFT_SCHEDULES=$(or $(SEEDS),200) cargo test --locked --workspace --test schedules -- --nocapture

absent: build ## send EVENTS events (20000) to a server that is down, then start it: seconds and growth of memory
	WEFT_ABSENT=$(or $(EVENTS),20000) cargo test --locked --workspace --test absent -- --nocapture

soak: ## run two servers with 200 editors for HOURS (1, or 0.1) without and as long with attackers: memory, descriptors, latency
	@cargo build --release --locked --workspace --bin weft
	WEFT_SOAK_SECONDS=$$(awk 'BEGIN { print int($(or $(HOURS),1) * 3600) }') WEFT_SOAK_P99_MS=100 \
	  cargo test --release --locked --workspace --test soak -- --nocapture

latency: ## measure edits and openings beside servers that are silent, slow, answer gaps with gaps, or claim clocks again and again, in one process
	cargo nextest run --locked --release -p weft-room --test federation --run-ignored only --no-capture latency_beside

memory: ## measure the memory of open documents without sockets and storage, and the processor time of openings, in one process
	cargo nextest run --locked --release -p weft-room --test room --run-ignored only --no-capture measure::

load: ## measure every figure of conformance-tests/RESULTS.md, with peers (half an hour on an idle machine)
	@.ci/load

histories: build ## replay complete real editing histories over live sockets of one and two servers, with figures
	WEFT_HISTORIES_WHOLE=1 cargo test --locked --workspace --test histories -- --nocapture --test-threads 1

backfill: ## join a room with EVENTS events (60000) of history, in one process: all are fetched, decided, and part of the text
	WEFT_HISTORY_EVENTS=$(or $(EVENTS),60000) \
	  cargo test --release --locked -p weft-room --test federation -- --nocapture a_long_history_is_fetched_once

simulate: ## simulate SEEDS runs (10000) of several servers over a bad network from seed FROM (0), in virtual time, on all cores
	WEFT_SIM_SEEDS=$(or $(SEEDS),10000) WEFT_SIM_FROM=$(or $(FROM),0) \
	  cargo test --release --locked -p weft-room --test simulation -- --ignored --nocapture many

openapi: ## write the description of the document API to spec/openapi.json
	WEFT_OPENAPI=write cargo test --locked -p weft-gateway --test openapi -- --exact the_document_in_the_tree_is_the_one_that_is_served

setup: ## install the missing tools for all of the above
	@.ci/setup test

web: ## build the web page that the server serves
	@.ci/web build

build: ## build the server and the demo for development
	@echo "==> building weft (the first time takes about a quarter of an hour: RocksDB is compiled from source)"
	@cargo build --locked --workspace --bin weft --bin weft-demo
