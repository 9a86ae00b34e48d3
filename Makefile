# What a person does here, one word each. `make help` lists them.
# The steps themselves are small scripts in .ci/, which say what they do while they do it.

SHELL := /bin/bash
TARGET := $(or $(CARGO_TARGET_DIR),target)

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench fuzz kills flips simulate histories schedules absent soak latency setup web build load

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)$$/  make \1\t\2/' | expand -t 16

demo: ## two homeservers on this machine, one document, two links to open; Ctrl-C ends it
	@.ci/setup demo
	@$(MAKE) --no-print-directory web build
	@exec $(TARGET)/debug/weft demo

test: ## everything that CI runs
	@.ci/setup test
	@.ci/test

lint: ## formatting, clippy, the project's own checks, documentation, licences
	@.ci/setup test
	@.ci/test lint

bench: ## the benchmarks of the update algebra, with the goals that they are held to
	@.ci/setup demo
	cargo bench --locked -p weft-crdt

fuzz: ## every fuzz target for a minute each (FUZZ_SECONDS=... for more); needs cargo-fuzz
	@.ci/fuzz

kills: ## two servers with 20 editors killed with -9 KILLS times (10000), then nothing acknowledged may be missing
	@cargo build --release --locked --workspace --bin weft
	WEFT_KILLS=$(or $(KILLS),10000) cargo test --release --locked --workspace --test crashes -- --nocapture --exact \
	  kills_at_random_moments_lose_nothing_that_was_acknowledged

flips: ## FLIPS bits (2000) flipped in the store's log, tables and list of files each, and a table of what becomes of them
	WEFT_FLIPS=$(or $(FLIPS),2000) cargo test --locked --workspace --test flips -- --nocapture

schedules: build ## SEEDS (200) schedules of 3 to 5 servers in network namespaces with a network that is no good; needs root
	WEFT_SCHEDULES=$(or $(SEEDS),200) cargo test --locked --workspace --test schedules -- --nocapture

absent: build ## EVENTS events (20000) for a server that is away, and its return: seconds, and what memory grew by
	WEFT_ABSENT=$(or $(EVENTS),20000) cargo test --locked --workspace --test absent -- --nocapture

soak: ## two servers with 200 editors, for HOURS (1, or 0.1) alone and as long beside attackers: memory, descriptors, waits
	@cargo build --release --locked --workspace --bin weft
	WEFT_SOAK_SECONDS=$$(awk 'BEGIN { print int($(or $(HOURS),1) * 3600) }') WEFT_SOAK_P99_MS=100 \
	  cargo test --release --locked --workspace --test soak -- --nocapture

latency: ## the P99 of edits and openings beside servers that do not answer or answer gaps with gaps, in one process
	cargo nextest run --locked --release -p weft-room --test federation --run-ignored only --no-capture latency_beside

load: ## every figure of conformance-tests/RESULTS.md anew, beside peers (a quarter of an hour, on an idle machine)
	@.ci/load

histories: build ## real editing histories whole, through live sockets of one and two servers, with figures
	WEFT_HISTORIES_WHOLE=1 cargo test --locked --workspace --test histories -- --nocapture --test-threads 1

simulate: ## SEEDS worlds (10000) of several servers over a bad network from seed FROM (0) on, in virtual time, on all cores
	WEFT_SIM_SEEDS=$(or $(SEEDS),10000) WEFT_SIM_FROM=$(or $(FROM),0) \
	  cargo test --release --locked -p weft-room --test simulation -- --ignored --nocapture many

setup: ## install what is missing for all of the above
	@.ci/setup test

web: ## the page that the server serves
	@.ci/web build

build: ## the program, for development
	@echo "==> building weft (the first time takes about a quarter of an hour: RocksDB is compiled from source)"
	@cargo build --locked --workspace --bin weft
