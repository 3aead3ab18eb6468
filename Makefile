# Each target does all of its own set-up; `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help demo develop test test-rust test-python test-oldest test-oslo test-rabbitmq4 lint wheel bench bench-quick docs cluster simulate instructions fuzz hostile \
	loom miri tsan proof supply-chain

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

demo: ## Run a miniature Murano on the embedded broker (or on a RabbitMQ: BROKER=amqp://...), with kills
	@scripts/setup.sh python
	@scripts/demo.sh

develop: ## Make .venv with all tools and build the Python module into python/murano_messaging
	@scripts/setup.sh python
	@scripts/python.sh develop

test: ## Run every test, on private RabbitMQ nodes (MURANO_TEST_AMQP=amqp://... names one to share instead)
	@$(MAKE) --no-print-directory test-rust
	@$(MAKE) --no-print-directory test-python

test-rust: ## Run the Rust tests only
	@scripts/setup.sh rabbitmq openssl
	@scripts/test.sh

test-python: ## Run the Python tests only
	@scripts/setup.sh rabbitmq python openssl
	@scripts/python.sh test

test-oldest: ## Run the Python tests of what depends on the interpreter on the oldest Python that is here
	@scripts/setup.sh rabbitmq python openssl
	@scripts/python.sh oldest

test-oslo: ## Run oslo.messaging's own functional tests with our driver, under threads and eventlet, and ours in their whole size
	@scripts/setup.sh rabbitmq python openssl
	@scripts/oslo.sh

test-rabbitmq4: ## Run the contract and fault tests on RabbitMQ 4.0, in a chroot (SUITE=sid: on the newest that Debian has)
	@scripts/setup.sh python
	@scripts/rabbitmq4.sh '$(or $(SUITE),trixie)' test

lint: ## Check format, lints, types, documentation and the dependency tree
	@scripts/setup.sh python
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --quiet
	@! cargo tree -p murano-messaging -e normal | grep -E 'aws-lc|openssl-sys' || { echo 'lint: aws-lc or OpenSSL is in the tree'; exit 1; }
	@cargo package -p murano-messaging --list --allow-dirty 2>/dev/null | grep -qx examples/hello.rs || { echo 'lint: the package has no examples: core/examples must be a link to them'; exit 1; }
	@python3 scripts/circles.py
	@python3 scripts/dependencies.py --check
	@scripts/python.sh lint

wheel: ## Build the Python wheel (manylinux) and sdist into dist/, and try the wheel on every Python found
	@scripts/setup.sh rabbitmq python
	@scripts/python.sh wheel

bench: ## Measure Rust and Python against their peers and write docs/benchmarks.md (BROKER=amqp://..., ARGS='--transient ...', PYTHON_ARGS='--rounds 2 ...')
	@scripts/setup.sh rabbitmq bench
	@scripts/bench.sh target/bench docs/benchmarks.md

bench-quick: ## A first impression of the same in three minutes, written to target/bench-quick
	@scripts/setup.sh rabbitmq bench
	@QUICK=1 scripts/bench.sh target/bench-quick target/bench-quick/benchmarks.md

simulate: ## Run many simulated faults (SEEDS=100000 FIRST=1); SEEDS=1 FIRST=17 TRACE=1 replays one in the debug build and shows its frames and events
	@scripts/setup.sh
	@SEEDS='$(or $(SEEDS),100000)' FIRST_SEED='$(or $(FIRST),1)' TRACE='$(or $(TRACE),0)' \
		cargo test $(if $(filter 1,$(TRACE)),,--release) -p murano-messaging --test simulation -- --nocapture nothing_is_lost

fuzz: ## Fuzz each target for TIME seconds (TIME=60 TARGETS='frames uri'), report executions, edges and findings
	@scripts/setup.sh c++
	@scripts/fuzz.sh '$(or $(TIME),60)' $(TARGETS)

hostile: ## Memory of a process that meets COUNT=10000 hostile servers and as many hostile clients
	@scripts/setup.sh
	@MURANO_TEST_HOSTILE='$(or $(COUNT),10000)' cargo test -p murano-messaging --test bounded_memory -- --nocapture

proof: loom miri tsan ## All three

loom: ## Check the engine's own locks and atomics in every order that the memory model allows
	@scripts/setup.sh
	@scripts/proof.sh loom

miri: ## Look for undefined behaviour in codec, window, acks and record
	@scripts/setup.sh
	@scripts/proof.sh miri

tsan: ## Look for data races in the tests with many threads
	@scripts/setup.sh
	@scripts/proof.sh tsan

supply-chain: ## Check all dependencies with cargo-deny, advisories included where their database is to be had
	@scripts/setup.sh
	@scripts/supply-chain.sh

instructions: ## Count the instructions of a publish, a confirm and a delivery (valgrind), and compare with those on file
	@scripts/setup.sh
	@UPDATE='$(UPDATE)' scripts/instructions.sh

docs: ## Build guides and references into target/site, with strictly checked links; it is read without a network
	@scripts/setup.sh python
	@scripts/docs.sh

cluster: ## Kill and restart the nodes of a RabbitMQ cluster on this machine under load, and count messages
	@scripts/setup.sh rabbitmq
	cargo run --quiet -p murano-messaging --example cluster
