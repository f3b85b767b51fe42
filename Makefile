# Every command that people and CI run. `make help` lists them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
CARGO_DENY_VERSION := 0.20.2
TOOLS := $(CURDIR)/target/tools

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: controlplane ## See it work on a real control plane; DEMO_ONCE=1 ends by itself
	@echo "building the operator and the demo"
	@$(CARGO) build --locked --quiet --package policy-baseline --package policy-baseline-e2e --bins
	@exec target/debug/e2e-demo

.PHONY: test
test: fmt-check lint unit e2e ## Everything that must pass: format, lints, unit, golden, property and end-to-end tests

.PHONY: unit
unit: ## Unit, golden, property and tidy tests; no cluster
	$(CARGO) test --locked --package policy-baseline

.PHONY: e2e
e2e: controlplane build ## End-to-end suites on a real control plane; E2E=name: some of them; E2E_KUBECONFIG=file: on that cluster
	$(CARGO) test --locked --package policy-baseline-e2e -- $(E2E)

.PHONY: build
build: ## Debug build of the operator and of what the suites start
	$(CARGO) build --locked --package policy-baseline --package policy-baseline-e2e --bins

.PHONY: release
release: ## Optimised, stripped operator in target/release
	$(CARGO) build --locked --release --package policy-baseline
	@ls -l target/release/policy-baseline | awk '{ printf "target/release/policy-baseline: %.1f MB\n", $$5 / 1e6 }'

.PHONY: controlplane
controlplane: ## Build etcd, kube-apiserver, kube-controller-manager and kubectl (about 4 minutes once)
	@e2e/controlplane/build.sh

.PHONY: up
up: controlplane build ## An empty control plane to play with, until Ctrl-C
	@exec target/debug/e2e-up

.PHONY: fmt
fmt: ## Format the code
	$(CARGO) fmt --all

.PHONY: fmt-check
fmt-check: ## Fail if the code is not formatted
	$(CARGO) fmt --all --check

.PHONY: lint
lint: ## Clippy, warnings are errors
	$(CARGO) clippy --locked --workspace --all-targets -- --deny warnings

.PHONY: generate
generate: ## Regenerate the CRD and the golden files
	GOLDEN=accept $(CARGO) test --locked --quiet --package policy-baseline --lib > /dev/null

.PHONY: generate-check
generate-check: generate ## Fail if generated files are not committed as they are generated
	@git diff --exit-code -- crds manifests src || { echo "generated files differ: commit what 'make generate' writes"; exit 1; }
	@test -z "$$(git status --porcelain -- crds manifests src)" || { git status --short -- crds manifests src; echo "generated files are not committed"; exit 1; }

.PHONY: earliest
earliest: ## Compile against the oldest Kubernetes API that k8s-openapi has
	$(CARGO) check --locked --package policy-baseline --no-default-features --features k8s-earliest --target-dir target/earliest

.PHONY: deny
deny: $(TOOLS)/bin/cargo-deny ## Licences, sources and duplicates of the dependencies
	$(TOOLS)/bin/cargo-deny --all-features --locked check bans licenses sources

$(TOOLS)/bin/cargo-deny: Makefile
	$(CARGO) install --locked --quiet --root $(TOOLS) --version $(CARGO_DENY_VERSION) cargo-deny
	@touch $@

.PHONY: ci
ci: ## What CI runs
	$(MAKE) test
	DEMO_ONCE=1 $(MAKE) demo
	$(MAKE) generate-check
	$(MAKE) earliest
	$(MAKE) deny

.PHONY: clean
clean: ## Remove everything that was built, the control plane too
	rm -rf target
