# `make run`: the whole system on this machine. `make test`: all tests. `make check`: what must hold before a merge.
# `make bench`: what sending costs and how fast it is, each figure beside its goal; RUNS="campaign --jobs 20000" chooses, LOCAL=1 adds the local stack.
# `make run SPEECH=1`: with a speech-to-text endpoint.
# Each installs what it needs under the target directory. Needed before: Rust, a C compiler, Python 3.11 with venv.
export CARGO_TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
VENV := $(CARGO_TARGET_DIR)/venv
DENY := $(CARGO_TARGET_DIR)/tools/bin/cargo-deny
FUNCTIONS := webhook inbound media bridge replies templates statuses health control
# A stamp carries the checksum of the pinned versions that were installed.
stamp = $(VENV)/$(1)-$(shell cksum < infra/$(1).txt | cut -d ' ' -f 1)
.PHONY: run test check bench build setup fmt clean

run: setup $(if $(filter 1,$(SPEECH)),$(call stamp,requirements-speech))
	@exec $(CARGO_TARGET_DIR)/debug/local
test: setup $(call stamp,requirements-test) $(call stamp,requirements-speech)
	cargo test --workspace
setup: $(call stamp,requirements)
	@echo "== Building everything (the first time some minutes, after that what changed)"
	cargo build --workspace --bins
check: $(call stamp,requirements) $(call stamp,requirements-check) $(DENY)
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	$(VENV)/bin/cfn-lint infra/template.yaml
	@if $(DENY) fetch db; then $(DENY) check; else \
	  echo "== The advisory database is out of reach: licences, bans and sources only"; $(DENY) check licenses bans sources; fi
bench: $(if $(LOCAL),setup)
	cargo bench --package bench --profile bench-world -- $(or $(RUNS),campaign faults stops parts) $(if $(LOCAL),local)
build: $(call stamp,requirements) $(call stamp,requirements-build)
	PATH="$(VENV)/bin:$$PATH" cargo lambda build --release --arm64 --lambda-dir target/lambda $(FUNCTIONS:%=--package %)
fmt:
	cargo fmt --all
clean:
	cargo clean

$(VENV)/requirements%: file = infra/$(shell echo $(notdir $@) | sed 's/-[0-9]*$$//').txt
$(VENV)/requirements%:
	@echo "== Installing $(file) into $(VENV) (once, under a minute)"
	python3 -m venv $(VENV) && $(VENV)/bin/pip install --quiet --no-deps --disable-pip-version-check -r $(file) && touch $@
$(DENY):
	@echo "== Building cargo-deny (once, some minutes)"
	cargo install --debug --locked --root $(CARGO_TARGET_DIR)/tools cargo-deny@0.20.2
