# Squall's front door. `make` lists the targets.
#
# Needs Rust, make and a C compiler. Each target builds what it runs and no more (`make run` waits for neither expressions nor
# databases), in one profile: what one has built, the next does not build again.

SHELL = /bin/sh
.DEFAULT_GOAL = help

CARGO ?= cargo
CARGOFLAGS ?= --locked
# Wherever cargo's configuration puts what it builds; asked only by the targets that need it.
TARGET_DIR = $(shell $(CARGO) metadata --format-version 1 --no-deps $(CARGOFLAGS) \
	| sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')

# make run
INPUT ?=
REPORT ?=
VERIFY ?= 1
ARGS ?=
# Paths reach the recipes through the environment: no quoting to get wrong. VERIFY is wordcount's own.
export INPUT REPORT VERIFY
# make fuzz (60), make sim (no limit), make test-stall (600)
SECS ?=
# make chaos
FAULTS ?= 100
SEED ?= 1
# make sim: 10,000, or with SECS as many as fit
SEEDS ?= $(if $(SECS),,10000)
# make loom
PREEMPTIONS ?= 4

.PHONY: help
help: ## list the targets
	@echo "Squall: stream topologies as a microsecond dataplane. Targets:"
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile \
	| while IFS='|' read -r target what; do printf '%-12s  %s\n' "$$target" "$$what"; done
	@echo "Options: make run [INPUT=path|@list] [REPORT=file.json] [VERIFY=0] [ARGS='…']; make fuzz [SECS=60]; make chaos [FAULTS=100] [SEED=n] [ARGS='-- --standby']; make test-stall [SECS=600]; make sim [SEEDS=n] [SECS=n]; make bench [ARGS='…'];"
	@echo "         everywhere CARGOFLAGS (default --locked; add --offline without a network)"

.PHONY: build
build: ## build everything (release profile)
	$(CARGO) build --release --workspace $(CARGOFLAGS)

.PHONY: build-run
build-run:
	$(CARGO) build --release -p squall-wordcount -p squall-textgen $(CARGOFLAGS)

.PHONY: squall
squall: ## build the `squall` program (topologies in YAML, clusters, ZooKeeper) and say where it is
	$(CARGO) build --release -p squall --features zookeeper $(CARGOFLAGS)
	@echo "squall is $(TARGET_DIR)/release/squall; try: $(TARGET_DIR)/release/squall new first --yaml"

.PHONY: tuplegen
tuplegen: ## build the load generator and say where it is
	$(CARGO) build --release -p squall-tuplegen --bins $(CARGOFLAGS)
	@echo "tuplegen is $(TARGET_DIR)/release/tuplegen; try: $(TARGET_DIR)/release/tuplegen run --builtin wordcount -R 50k -d 10s -o out"

.PHONY: run
run: build-run ## count the words of the crates' source text, or of INPUT=path, in two worker processes
	@target='$(TARGET_DIR)'; input="$$INPUT"; \
	if [ -z "$$input" ]; then \
		mkdir -p "$$target/run"; \
		"$$target/release/textgen" crate-sources --limit 200M > "$$target/run/crate-sources.list" || exit 1; \
		input="@$$target/run/crate-sources.list"; \
	fi; \
	set -- --input "$$input"; \
	if [ -n "$$REPORT" ]; then set -- "$$@" --report "$$REPORT"; fi; \
	exec "$$target/release/wordcount" run "$$@" $(ARGS)

.PHONY: test
test: ## run all tests (no root, no services)
	$(CARGO) test --workspace $(CARGOFLAGS)

.PHONY: chaos
chaos: ## disturb a running topology FAULTS times (kill -9, SIGSTOP, panic, cut link); one JSON line, exit 0 only if nothing is lost
	$(CARGO) build --release -p squall-chaos $(CARGOFLAGS)
	@exec '$(TARGET_DIR)/release/chaos' break --faults '$(FAULTS)' --seed '$(SEED)' $(ARGS)

.PHONY: test-stall
test-stall: ## run a topology for SECS seconds (600) beside processes that spin on all cores; fails if a worker is replaced
	$(CARGO) build --release -p squall-chaos $(CARGOFLAGS)
	@exec '$(TARGET_DIR)/release/chaos' load --secs '$(or $(SECS),600)' $(ARGS)

.PHONY: sim
sim: ## simulate SEEDS random topologies, or for SECS seconds; once without and once with deaths of workers
	SQUALL_SIM_SEEDS='$(SEEDS)' SQUALL_SIM_SECS='$(SECS)' $(CARGO) test --release -p squall-sim --test seeds $(CARGOFLAGS) -- --nocapture

.PHONY: planted
planted: ## plant ten bugs, one at a time, and show that the simulator finds each (docs/planted.md)
	$(CARGO) test --no-fail-fast -p squall-sim -p squall-io --features planted $(CARGOFLAGS) --test planted -- --nocapture

# Real servers, which the tests start themselves; nothing listens beyond this machine.
ZOOKEEPER_CLASSPATH ?= /etc/zookeeper/conf:/usr/share/java/zookeeper.jar

.PHONY: test-zookeeper
test-zookeeper: zookeeper-ready ## run the coordinator's contract, and clusters, with real ZooKeeper servers (installs them on Debian as root)
	SQUALL_ZOOKEEPER_CLASSPATH='$(ZOOKEEPER_CLASSPATH)' \
		$(CARGO) test -p squall-coordinator --features zookeeper-tests $(CARGOFLAGS) --test zookeeper -- --test-threads=3
	SQUALL_ZOOKEEPER_CLASSPATH='$(ZOOKEEPER_CLASSPATH)' \
		$(CARGO) test -p squall --features zookeeper-tests $(CARGOFLAGS) --test zookeeper -- --test-threads=2

# Debian's package, or any release of Apache's by ZOOKEEPER_CLASSPATH='…/conf:…/lib/*'. RUNLEVEL=1: its service does not start.
.PHONY: zookeeper-ready
zookeeper-ready:
	@jar=$$(echo '$(ZOOKEEPER_CLASSPATH)' | sed 's/.*://; s/\*$$//'); \
	if ! command -v java >/dev/null || ! [ -e "$$jar" ]; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
				apt-get install -y -qq --no-install-recommends zookeeper default-jre-headless >/dev/null; \
		fi; \
	fi; \
	command -v java >/dev/null || { echo "java is missing (Debian: apt-get install default-jre-headless)" >&2; exit 1; }; \
	[ -e "$$jar" ] || { echo "ZooKeeper is missing: apt-get install zookeeper, or unpack a release of Apache's" \
		"and say ZOOKEEPER_CLASSPATH='/path/conf:/path/lib/*'" >&2; exit 1; }

# Every interleaving with at most LOOM_MAX_PREEMPTIONS forced switches of thread, which bounds the run to minutes; the
# models themselves are bounded too (two or three threads, rings of four lines).
.PHONY: loom
loom: ## check rings, credit and wake-ups under every interleaving (loom)
	LOOM_MAX_PREEMPTIONS=$(PREEMPTIONS) CARGO_PROFILE_RELEASE_DEBUG=0 RUSTFLAGS="--cfg loom" \
		$(CARGO) test --release -p squall-ring --lib $(CARGOFLAGS) --target-dir '$(TARGET_DIR)/loom' models

.PHONY: check
check: ## check format, lints and documentation; warnings are errors
	@for tool in fmt clippy; do \
		$(CARGO) $$tool --version >/dev/null 2>&1 \
		|| { echo "cargo $$tool is missing: rustup component add rustfmt clippy" >&2; exit 1; }; \
	done
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets $(CARGOFLAGS) -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps $(CARGOFLAGS)

# The book, below the target folder. Its reference, links, commands and code are checked by tests, which need no mdBook.
.PHONY: docs
docs: ## build the book under docs/ and check its reference, links, commands and code
	$(CARGO) test -p squall --test docs $(CARGOFLAGS)
	$(CARGO) test -p squall --doc $(CARGOFLAGS)
	@command -v mdbook >/dev/null || { echo "the pages are right; to make a book of them, mdbook is missing: cargo install mdbook --no-default-features --features search" >&2; exit 1; }
	mdbook build docs --dest-dir '$(TARGET_DIR)/book'
	@echo "the book is $(TARGET_DIR)/book/index.html"

# Everything, or what ARGS says: `make bench ARGS='const-null --link tcp --secs 2'`. Far rows run up to five times more.
BENCH = '$(TARGET_DIR)/release/squall-bench'

.PHONY: build-bench
build-bench:
	$(CARGO) build --release -p squall-bench $(CARGOFLAGS)

.PHONY: bench
bench: build-bench ## measure each benchmark beside its floor; JSON lines on stdout
	@exec $(BENCH) run --repeat-far 5 --json $(ARGS)

.PHONY: bench-page
bench-page: build-bench ## the same, and put the results into docs/performance.md
	@lines='$(TARGET_DIR)/bench.jsonl'; \
	$(BENCH) run --repeat-far 5 --json $(ARGS) > "$$lines"; code=$$?; \
	$(BENCH) table --into docs/performance.md < "$$lines" && exit $$code

# What needs real processes and real time; the counts of faults are in the ordinary tests. SHORT=short leaves out the slow half.
SHORT ?=

.PHONY: test-tuplegen
test-tuplegen: ## check tuplegen with real processes: stalls, kills, ceilings, knees
	$(CARGO) build --release -p squall -p squall-tuplegen --bins --example jlbh_like $(CARGOFLAGS)
	@tools/tuplegen/check.sh '$(TARGET_DIR)/release' $(SHORT)

# Some minutes. `make perf ARGS='echo yahoo --secs 1' PAGE=/tmp/page.md` for a part, into another page that has the marks.
PAGE ?= docs/performance.md

.PHONY: perf
perf: ## run the field's standard workloads and put the results into docs/performance.md
	$(CARGO) build --release -p squall-bench -p squall-tuplegen --bins $(CARGOFLAGS)
	@lines='$(TARGET_DIR)/perf.jsonl'; \
	$(BENCH) workloads $(ARGS) > "$$lines"; code=$$?; \
	'$(TARGET_DIR)/release/tuplegen' validate "$$lines" && \
	'$(TARGET_DIR)/release/tuplegen' table --into '$(PAGE)' < "$$lines" && exit $$code

# Fuzz targets lie in crates/*/fuzz, laid out as cargo-fuzz has it, but cargo-fuzz is not needed: the flags
# are the ones it sets. They are unstable, hence RUSTC_BOOTSTRAP.
FUZZ_FLAGS = --cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module -Zsanitizer=address \
	-Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
	-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares

.PHONY: fuzz
fuzz: fuzz-ready ## fuzz the decoders, SECS seconds each
	@host=$$(rustc -vV | sed -n 's/^host: //p'); target='$(TARGET_DIR)/fuzz'; \
	for crate in crates/*/fuzz; do \
		RUSTC_BOOTSTRAP=1 RUSTFLAGS='$(FUZZ_FLAGS)' $(CARGO) build --release --manifest-path "$$crate/Cargo.toml" \
			--target "$$host" --target-dir "$$target" || exit 1; \
		for source in "$$crate"/fuzz_targets/*.rs; do \
			name=$$(basename "$$source" .rs); corpus="$$target/corpus/$$name"; mkdir -p "$$corpus" || exit 1; \
			echo "fuzzing $$name for $(or $(SECS),60) s"; \
			"$$target/$$host/release/$$name" -max_total_time=$(or $(SECS),60) -print_final_stats=1 \
				-artifact_prefix="$$target/$$name-" "$$corpus" || exit 1; \
		done; \
	done

# Says what fuzzing lacks on this machine.
.PHONY: fuzz-ready
fuzz-ready:
	@ls crates/*/fuzz/Cargo.toml >/dev/null 2>&1 || { echo "there is no fuzz target (crates/*/fuzz)" >&2; exit 1; }
	@command -v c++ >/dev/null || { echo "fuzzing needs a C++ compiler (Debian: apt-get install g++)" >&2; exit 1; }
	@ls "$$(rustc --print sysroot)"/lib/rustlib/*/lib/librustc*_rt.asan.a >/dev/null 2>&1 \
	|| { echo "fuzzing needs a Rust toolchain with the address sanitizer (rustup's for x86_64 or aarch64 Linux has it)" >&2; exit 1; }

# Sanitizers come with rustup's toolchains but are unstable, hence RUSTC_BOOTSTRAP; std itself stays as it is (tools/sanitizers
# says what follows from that, and why one test of the ring is left out). Proptest runs few cases: what counts is each
# line, not each value. Some minutes on two cores, most of them for building.
SANITIZED = target='$(TARGET_DIR)/sanitizers'; host=$$(rustc -vV | sed -n 's/^host: //p'); \
	sanitized() { RUSTC_BOOTSTRAP=1 PROPTEST_CASES=16 \
		RUSTFLAGS="-Zsanitizer=$$1 -Cunsafe-allow-abi-mismatch=sanitizer" \
		$(CARGO) test $(CARGOFLAGS) --target "$$host" --target-dir "$$target/$$1" $$2; }
RING_THREADS = two_threads claimed starving commands credit_is
# All but those whose children live under a seccomp filter: the leak checker needs what it forbids; and those that count
# system calls, of which the sanitizer makes some.
IO_TESTS = --test descriptors --test options --test receiving --test sending --test waking --test window

.PHONY: tsan
tsan: tsan-ready ## run the tests with threads under ThreadSanitizer
	@$(SANITIZED); TSAN_OPTIONS="suppressions=$(CURDIR)/tools/sanitizers/tsan.supp exitcode=66"; export TSAN_OPTIONS; \
	sanitized thread "-p squall-ring --lib -- $(RING_THREADS)" \
	&& sanitized thread "-p squall-engine --lib" \
	&& sanitized thread "-p squall-api --test workers --test counters --test waiting -- --test-threads=1"

.PHONY: asan
asan: asan-ready ## run the tests of rings, links, drivers and the engine under AddressSanitizer
	@$(SANITIZED); LSAN_OPTIONS="suppressions=$(CURDIR)/tools/sanitizers/lsan.supp"; export LSAN_OPTIONS; \
	sanitized address "-p squall-ring -p squall-engine --lib" \
	&& sanitized address "-p squall-io --lib $(IO_TESTS) -- --skip makes_no_system_call" \
	&& sanitized address "-p squall-api --test workers --test counters --test waiting -- --test-threads=1"

# Say what a sanitizer lacks on this machine.
.PHONY: tsan-ready asan-ready
tsan-ready asan-ready:
	@ls "$$(rustc --print sysroot)"/lib/rustlib/*/lib/librustc*_rt.$(@:-ready=).a >/dev/null 2>&1 \
	|| { echo "this needs a Rust toolchain with the $(@:-ready=) runtime (rustup's for x86_64 or aarch64 Linux has it)" >&2; exit 1; }
