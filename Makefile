# Every command that people and CI run. `make help` lists them; in the texts, // begins a line for a variable.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
CARGO_DENY_VERSION := 0.20.2
CARGO_CYCLONEDX_VERSION := 0.5.9
MDBOOK_VERSION := 0.5.4
TOOLS := $(CURDIR)/target/tools

# All tests are built by one selection of packages and one set of features. With another one cargo would choose other features of shared
# dependencies, and compile those again. The end-to-end suites are the test named e2e; the pattern is every other one.
TEST := $(CARGO) test --locked --workspace
OTHERS := --lib --bin policy-baseline --test '?[!2]*'

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { n = split($$2, part, " // "); printf "  %-15s %s\n", $$1, part[1]; \
		for (i = 2; i <= n; i++) printf "  %-15s   %s\n", "", part[i] }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## See it work on a real control plane; the first time builds one // DEMO_ONCE=1: ends by itself
	@exec e2e/demo.sh

.PHONY: test
test: fmt-check lint unit compare e2e ## Formatting, lints, unit and end-to-end tests, and the comparison with other engines

.PHONY: unit
unit: ## Unit, golden, property and tidy tests, and the corpus of the fuzzer; no cluster
	$(TEST) $(OTHERS)

.PHONY: e2e
e2e: controlplane helm gitops build ## End-to-end suites on a real control plane // E2E=name: only these // E2E_KUBECONFIG=file: on that cluster
	$(TEST) --test e2e -- $(or $(E2E),$(addprefix --skip ,$(FAULTS) $(LARGE) $(OWN_TARGET)))

# Suites that need more tools each. They are in the binary of the others, so that nothing is linked for them alone.
OWN_TARGET = $(COMPARE) $(ALERTS) $(VALIDATORS) $(DIST)

.PHONY: compare
compare: reference build ## Compare the engine behind explain flow with cyclonus and kube-network-policies; no cluster // REFERENCE_WORLDS=10000 // REFERENCE_SEED=1: other random worlds
	@$(TEST) --quiet --test e2e -- $(COMPARE)

COMPARE := reference::

.PHONY: reference
reference: ## Build cyclonus and kube-network-policies from source into one program, once
	@e2e/reference/build.sh

.PHONY: helm
helm: ## Build Helm from source, once
	@e2e/helm/build.sh

.PHONY: alerts
alerts: prometheus controlplane build ## The alerts and the dashboard in the real Prometheus, and promtool's checks
	@$(TEST) --quiet --test e2e -- $(ALERTS)

ALERTS := prometheus::

.PHONY: prometheus
prometheus: ## Build Prometheus and promtool from source, once
	@e2e/prometheus/build.sh

.PHONY: validators
validators: validator-tools helm gitops controlplane build ## Every manifest, judged by kubeconform, kubectl and kube-score
	@$(TEST) --quiet --test e2e -- $(VALIDATORS)

VALIDATORS := validators::

.PHONY: validator-tools
validator-tools: ## Build kubeconform and kube-score from source, once
	@e2e/validators/build.sh

# These cannot run with every component on: instances under other names than the one that the components let write; exactly the
# permissions of manifests/base; the operator's namespace without the policy of manifests/default. And what concerns no cluster, components
# one by one, or their removal.
APART := election:: installs:: signals::an_operator_that_gets_every_signal rbac:: system_namespaces_are_left_out \
	admission:: admin:: api_priority:: client:: crd_rules:: demo:: docs:: gitops:: harness:: helm:: install:: multi_tenancy:: proxy:: recovery:: samples:: \
	uninstall:: walkthroughs::

.PHONY: e2e-components
e2e-components: controlplane build ## The end-to-end suites with every admission component on // E2E=name: only these
	E2E_COMPONENTS=1 $(TEST) --test e2e -- $(E2E) $(addprefix --skip ,$(FAULTS) $(LARGE) $(APART) $(OWN_TARGET))

# What a version of Kubernetes may change.
COMPAT := bootstrap:: repair:: lifecycle:: crd_rules:: admission:: install::
KUBERNETES ?= 1.37 1.35 1.34

.PHONY: compat
compat: build ## Suites on control planes of other Kubernetes versions than that of make e2e // KUBERNETES="1.37 1.35 1.34": these
	@for minor in $(KUBERNETES); do \
		assets=$$(e2e/controlplane/build.sh --kubernetes=$$minor --print-dir) || exit; \
		echo "== Kubernetes $$("$$assets/kube-apiserver" --version)"; \
		KUBEBUILDER_ASSETS=$$assets $(TEST) --quiet --test e2e -- $(COMPAT) || exit; \
	done

# It fills a control plane for a minute.
LARGE := large_cluster::

# The suites that break things for minutes.
FAULTS := faults_cluster faults_crash faults_soak faults_storms faults_watches faults_writes
# One of each kind: requests, events, lists, the Lease.
FAULTS_SHORT := an_operator_of_whose_requests_every_fifth_fails_in_any_way_gets_to_the_end \
	a_watch_that_ends_in_the_middle_of_an_event_or_expires_goes_on_without_a_gap \
	a_streaming_list_that_ends_in_the_middle_begins_anew \
	a_write_that_arrives_after_the_lease_was_lost_is_made_good_by_the_next_leader

.PHONY: faults
faults: controlplane build ## Four of the fault suites, one of each kind
	@for name in $(FAULTS_SHORT); do grep -rq "fn $$name(" e2e/tests/e2e || { echo "there is no test $$name"; exit 1; }; done
	$(TEST) --test e2e -- $(FAULTS_SHORT)

.PHONY: test-faults
test-faults: controlplane build ## All fault suites but the soak; prints the times to converge
	$(TEST) --test e2e -- --show-output --skip faults_soak $(FAULTS)

.PHONY: scale
scale: controlplane build ## Every command that reads a cluster, with 2,000 namespaces and 20,000 pods; prints how long each took
	$(TEST) --test e2e -- --nocapture $(LARGE)

.PHONY: soak
soak: controlplane build ## Random faults for ten minutes // SOAK_SECONDS=600 // SOAK_SEED=number: the choices of an earlier run again
	SOAK_SECONDS="$(or $(SOAK_SECONDS),600)" SOAK_SEED="$(or $(SOAK_SEED),$(shell date +%s))" \
		$(TEST) --test e2e -- --nocapture faults_soak

.PHONY: fuzz
fuzz: ## Feed what a watch delivers, and files, with libFuzzer // FUZZ_SECONDS=60: for each target // FUZZ_TARGETS="policy dns": only these // FUZZ_REPLAY=file: only that input
	@fuzz/run.sh

.PHONY: gitops
gitops: ## Build what judges statuses as Argo CD and Flux do, from source, and get the CRDs of both, once
	@e2e/gitops/build.sh

.PHONY: build
build: ## Debug build of the operator, the end-to-end suites and what they start
	$(TEST) --no-run --test '*'

.PHONY: man
man: ## Write a man page for each command to target/man
	$(CARGO) run --locked --quiet --package policy-baseline -- man target/man

HOST = $(shell rustc -vV | sed -n 's/^host: //p')
# On Linux the binary needs no library of the system, so that an image can hold it alone.
STATIC = $(if $(findstring linux,$(HOST)),-C target-feature=+crt-static)
# Relocations take 4 % of the binary unless they are packed, and every start reads them all. glibc applies them from 2.36 on.
comma := ,
PACKED = $(if $(findstring x86_64-unknown-linux-gnu,$(HOST)),-C link-arg=-Wl$(comma)-z$(comma)pack-relative-relocs)

# Instructions that occur several times become a function of their own: 5 % less code.
OUTLINED = $(if $(findstring x86_64,$(HOST)),-C llvm-args=-enable-machine-outliner=always)
# What only other commands than run call is behind what run calls: 1.1 MB less resident memory.
ORDERED = $(if $(findstring x86_64-unknown-linux-gnu,$(HOST)),-C link-arg=-Wl$(comma)-T$(comma)src/commands.ld)

FLAGS = $(STATIC) $(PACKED) $(OUTLINED) $(ORDERED)
RELEASE = RELEASE_FLAGS="$(FLAGS)" CARGO_CYCLONEDX=$(TOOLS)/bin/cargo-cyclonedx manifests/release/release.sh

.PHONY: release
release: ## Optimised, stripped, static operator in target/release
	remapped=$$($(RELEASE) remap); RUSTFLAGS="$(FLAGS) $$remapped" $(CARGO) build --locked --release --target $(HOST) --package policy-baseline
	@mkdir -p target/release && cp target/$(HOST)/release/policy-baseline target/release/policy-baseline
	@if [ "$(STATIC)" ] && ldd target/release/policy-baseline 2>/dev/null | grep -q '=>'; then echo "the binary is not static"; exit 1; fi
	@target/release/policy-baseline --version > /dev/null || { echo "the binary does not start: packed relocations need glibc 2.36 or newer"; exit 1; }
	@ls -l target/release/policy-baseline | awk '{ printf "target/release/policy-baseline: %.1f MB\n", $$5 / 1e6 }'

.PHONY: dist
dist: deny release $(TOOLS)/bin/cargo-cyclonedx krew helm controlplane ## A release in target/dist, and checks of it // RELEASE_URL=https://…: where its archives will be published
	@$(RELEASE) pack
	@$(TEST) --quiet --test e2e -- $(DIST)

DIST := dist::

.PHONY: reproducible
reproducible: dist ## Build the release once more, in another folder, and fail if a byte differs
	@$(RELEASE) again

.PHONY: krew
krew: ## Build krew and its validator from source, once
	@e2e/krew/build.sh

.PHONY: bench
bench: controlplane release ## Measure beside the raw API server; report in target/bench // BENCH_NAMESPACES=1000: at most 10000, 50 for a short look // BENCH_ONLY=rest: only memory and CPU at rest, start: only cold starts
	$(CARGO) build --locked --release --package policy-baseline-e2e --features bench --bin e2e-bench --bin e2e-guard
	@E2E_OPERATOR=$(CURDIR)/target/$(HOST)/release/policy-baseline target/release/e2e-bench

.PHONY: bench-flow
bench-flow: ## Measure the engine behind explain flow and would-break: reading, compiling, all pairs of pods, recorded flows, beside other engines; no cluster
	@e2e/reference/build.sh --optimized
	$(CARGO) build --locked --release --package policy-baseline-e2e --features bench --bin e2e-flow-speed
	@target/release/e2e-flow-speed

CONTAINER ?= docker
VERSION = $(shell sed -n '/^\[workspace\.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
IMAGE ?= policy-baseline:$(VERSION)

.PHONY: image
image: release ## Image with the operator and nothing else // CONTAINER=podman // IMAGE=name:tag
	$(CONTAINER) build --tag $(IMAGE) --file Containerfile .

.PHONY: install-yaml
install-yaml: controlplane ## Write manifests/install.yaml: manifests/default in a single file
	@mkdir -p target
	@printf '# Generated by make install-yaml from manifests/default; do not edit.\n' > target/install.yaml
	@$$(e2e/controlplane/build.sh --print-dir)/kubectl kustomize manifests/default >> target/install.yaml
	@mv target/install.yaml manifests/install.yaml

.PHONY: controlplane
controlplane: ## Build etcd, kube-apiserver, kube-controller-manager and kubectl from source, once
	@e2e/controlplane/build.sh

.PHONY: up
up: controlplane ## An empty control plane to play with, until Ctrl-C
	$(CARGO) build --locked --package policy-baseline-e2e --bin e2e-up --bin e2e-guard
	@exec target/debug/e2e-up

.PHONY: fmt
fmt: ## Format the code
	$(CARGO) fmt --all

.PHONY: fmt-check
fmt-check: ## Fail if the code is not formatted
	$(CARGO) fmt --all --check

.PHONY: lint
lint: ## Clippy, warnings are errors
	$(CARGO) clippy --locked --workspace --all-targets --features policy-baseline-e2e/bench,policy-baseline-fuzz/targets -- --deny warnings

.PHONY: generate
generate: ## Regenerate the CRDs, install.yaml, the Helm chart, generated pages, the dashboard, the golden files and what names the version
	GOLDEN=accept $(TEST) --quiet --lib --test chart --test monitoring --test site --test version > /dev/null
	@$(MAKE) --no-print-directory install-yaml

GENERATED := README.md crds docs manifests src

.PHONY: generate-check
generate-check: install-yaml ## Fail if a generated file is not committed as generated // make unit compares the golden files, this compares install.yaml
	@git diff --exit-code -- $(GENERATED) || { echo "generated files differ: commit what 'make generate' writes"; exit 1; }
	@test -z "$$(git status --porcelain -- $(GENERATED))" || { git status --short -- $(GENERATED); echo "generated files are not committed"; exit 1; }

.PHONY: site
site: $(TOOLS)/mdbook-$(MDBOOK_VERSION)/bin/mdbook ## The docs as a site in target/site; a warning of mdbook fails
	@docs/site.sh $< target/site

# It is not optimised, as cargo-deny: building takes longer than what it saves.
$(TOOLS)/mdbook-$(MDBOOK_VERSION)/bin/mdbook:
	CARGO_PROFILE_DEV_DEBUG=0 $(CARGO) install --locked --quiet --debug --root $(TOOLS)/mdbook-$(MDBOOK_VERSION) --version $(MDBOOK_VERSION) \
		--no-default-features --features search mdbook

.PHONY: earliest
earliest: ## Compile against the oldest Kubernetes API that k8s-openapi has
	$(CARGO) check --locked --package policy-baseline --no-default-features --features k8s-earliest

.PHONY: deny
deny: deny-tool ## Licences, sources and duplicates of the dependencies
	$(CARGO_DENY) --workspace --all-features --locked check bans licenses sources

# The one in PATH if it has that version, else one of our own. It is not optimised: most of its time is the compiler's.
CARGO_DENY = $(if $(findstring cargo-deny $(CARGO_DENY_VERSION),$(shell cargo-deny --version 2>/dev/null)),cargo-deny,$(TOOLS)/bin/cargo-deny)

.PHONY: deny-tool
deny-tool: $(filter $(TOOLS)/%,$(CARGO_DENY))

$(TOOLS)/bin/cargo-deny: Makefile
	CARGO_PROFILE_DEV_DEBUG=0 $(CARGO) install --locked --quiet --debug --root $(TOOLS) --version $(CARGO_DENY_VERSION) cargo-deny
	@touch $@

$(TOOLS)/bin/cargo-cyclonedx: Makefile
	CARGO_PROFILE_DEV_DEBUG=0 $(CARGO) install --locked --quiet --debug --root $(TOOLS) --version $(CARGO_CYCLONEDX_VERSION) cargo-cyclonedx
	@touch $@

# What only compiles runs beside the other compiling. The suites mostly wait for things to happen: the release, which is linked on one core,
# and the comparison of engines take what they leave of the machine.
.PHONY: ci
ci: ## What CI runs on every change; ends with the seconds of each step
	@.ci/steps "controlplane &" "deny-tool &" "helm &" "gitops &" fmt-check lint build unit controlplane deny-tool helm gitops "release &" "compare &" e2e faults generate-check earliest deny compare release

# The fuzzer needs no cluster and waits for nothing, so it takes what the suites leave of the machine. The bench runs alone.
.PHONY: nightly
nightly: ## All that CI leaves out, in about an hour; ends with the seconds of each step
	@.ci/steps "controlplane &" "prometheus &" "fuzz FUZZ_SECONDS=300 &" build controlplane e2e-components prometheus alerts validators \
		test-faults scale soak "fuzz FUZZ_SECONDS=300" "bench BENCH_NAMESPACES=1000" site

.PHONY: clean
clean: ## Remove everything that was built, the control plane too
	rm -rf target
