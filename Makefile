.DEFAULT_GOAL := help
# Debian installs PgBouncer in sbin, which is not on every user's PATH.
export PATH := $(PATH):/usr/sbin:/sbin
.PHONY: help demo test soak pack integration mutants seeds bench fmt clippy doc deny clean

help: ## List the targets
	@sed -n 's/^\([a-z]*\): ## /make \1	/p' $(MAKEFILE_LIST) | expand -t 14

demo: ## Watch the charm at work in a simulated Juju model
	scripts/parts
	cargo build --release --locked --workspace
	scripts/stage
	@if [ "$$(id -u)" != 0 ]; then \
		echo 'PgBouncer runs directly on the simulated units: containers need root.'; \
	elif scripts/pebble; then \
		echo 'PgBouncer runs in containers of its own, under Pebble.'; \
		containers=--containers; \
	else \
		echo 'PgBouncer runs directly on the simulated units: containers need Pebble.'; \
	fi; \
	target/release/jujusim $$containers demo.txt

test: ## Run every test; scripts/test WORD runs those whose names contain WORD
	scripts/parts
	scripts/pgbouncer-1.24 || { [ "$$CI" != true ] && echo 'The tests run without PgBouncer 1.24.'; }
	scripts/ops || { [ "$$CI" != true ] && \
		echo 'The tests run without ops, and so without the charm that checks the simulator.'; }
	scripts/psycopg || { [ "$$CI" != true ] && \
		echo 'The tests run without psycopg, and so without one of the clients.'; }
	scripts/postgresql || { [ "$$CI" != true ] && echo 'The tests run without PostgreSQL 14 and 16.'; }
	scripts/pebble || { [ "$$CI" != true ] && \
		echo 'The tests run without Pebble, and so without workload containers.'; }
	scripts/otlp || { [ "$$CI" != true ] && \
		echo 'The tests run without the schema of OTLP, and so decode no traces.'; }
	scripts/exporter || { [ "$$CI" != true ] && echo 'The tests run without metrics.'; }
	scripts/parts prometheus || { [ "$$CI" != true ] && \
		echo 'The tests run without Prometheus, and so without its check of alerts.'; }
	@# Linking the packed charm uses one core; scripts/test repeats what goes wrong here.
	@cargo test --workspace --locked --no-run >/dev/null 2>&1 & \
	scripts/pack; code=$$?; wait; \
	if [ $$code = 0 ]; then \
		charm='The tests deploy the charm that was packed.'; \
		export PGBOUNCER_K8S_CHARM='$(CURDIR)/target/pack/unpacked'; \
	elif [ $$code = 3 ] && [ "$$CI" != true ]; then \
		charm='NOT PACKED, see above: the tests deploy a debug build, laid out by hand.'; \
	else \
		exit 1; \
	fi; \
	echo "$$charm"; \
	scripts/test && echo "$$charm"

soak: ## Run every test at full extent: all versions, replays and cases of long sweeps
soak: export SOAK = true
soak: test

pack: ## Pack the charm with charmcraft for this architecture, and check it
	scripts/parts
	scripts/pack

integration: ## Drive the charm by juju: in your current Kubernetes model, or in a simulated one
	scripts/parts
	scripts/integration

mutants: ## Reintroduce known bugs; a test must fail for each; NAME=... runs some
	scripts/parts
	scripts/mutants $(NAME)

seeds: ## Run one scenario in 200 random orders of hooks, and 200 of twenty clients; SEEDS=N runs N
	cargo build --release --locked --workspace
	SOAK=true SEEDS=$${SEEDS:-200} \
		cargo test --release --locked --no-fail-fast --test orders --test twenty

bench: ## Measure hooks with 1 to 500 clients, and the simulator itself
	cargo build --release --locked --workspace
	cargo bench --locked --bench clients
	cargo bench --locked --package jujusim

fmt: ## Format the sources
	cargo fmt --all

clippy: ## Lint; a warning is an error
	cargo clippy --workspace --all-targets --locked -- --deny warnings

doc: ## Build the documentation; a warning is an error
	RUSTDOCFLAGS="--deny warnings" cargo doc --workspace --no-deps --locked --document-private-items

deny: ## Check licences, duplicates and sources (needs cargo-deny)
	cargo deny --workspace --locked check bans licenses sources

clean: ## Remove what was built
	cargo clean
