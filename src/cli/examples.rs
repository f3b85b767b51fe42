//! The examples that `--help` shows. A test runs each of them.

pub const RUN: &str = "\
Example:
  policy-baseline run --log-format=text";

pub const EXPLAIN_NAMESPACE: &str = "\
Examples:
  policy-baseline explain namespace shop
  policy-baseline explain namespace shop -o json";

pub const EXPLAIN_FLOW: &str = "\
Examples:
  policy-baseline explain flow --from shop/web-0 --to shop/svc/db --port 5432
  policy-baseline explain flow -n shop --from web-0 --to svc/db --port sql --dump dump.json
  policy-baseline explain flow --from shop/deploy/web --to shop/sts/db --port sql --dump dump.json
  policy-baseline explain flow -n shop -l app=web --to svc/db --port sql --dump dump.json
  kubectl get ns,pods,svc,endpointslices,netpol -A -o json | \\
    policy-baseline explain flow --from shop/web-0 --to 10.0.0.1 --port UDP/53 --dump -";

pub const SYMPTOM_DNS_HANGS: &str = "\
Examples:
  policy-baseline explain symptom dns-hangs --from shop/web-0
  policy-baseline explain symptom dns-hangs -n shop --dump dump.json";

pub const SYMPTOM_BLOCKED: &str = "\
Examples:
  policy-baseline explain symptom blocked --from shop/web-0 --to shop/svc/db --port 5432
  policy-baseline explain symptom blocked -n shop --from web-0 --to svc/db --port sql --dump dump.json";

pub const SYMPTOM_PASSES: &str = "\
Examples:
  policy-baseline explain symptom passes --from shop/web-0 --to shop/db-0 --port 5432
  policy-baseline explain symptom passes -n shop --from web-0 --to db-0 --port 5432 --policy db-from-web --dump dump.json";

pub const SYMPTOM_BLOCKED_THOUGH_ALLOWED: &str = "\
Examples:
  policy-baseline explain symptom blocked-though-allowed --from shop/web-0 --to shop/svc/db --port 5432
  policy-baseline explain symptom blocked-though-allowed -n shop --from db-0 --to web-0 --port 8080 --dump dump.json";

pub const SYMPTOM_COMES_AND_GOES: &str = "\
Examples:
  policy-baseline explain symptom comes-and-goes --from shop/web-0 --to shop/svc/db --port 5432
  policy-baseline explain symptom comes-and-goes -n shop --from web-0 --to svc/db --port sql --dump dump.json -o json";

pub const RENDER: &str = "\
Examples:
  policy-baseline render -f baseline.yaml -n shop
  policy-baseline render -f baseline.yaml --namespaces namespaces.yaml --as calico-staged
  policy-baseline render -f baseline.yaml -l team=shop --dump dump.json
  policy-baseline render -f baseline.yaml > policies.yaml";

pub const WOULD_BREAK: &str = "\
Examples:
  policy-baseline would-break --flows flows.csv -f baseline.yaml
  policy-baseline would-break --flows flows.csv -f baseline.yaml --dump dump.json -o json
  policy-baseline would-break --flows flows.csv -f baseline.yaml --dump dump.json -l app=web
  hubble observe --since 24h -o jsonpb | policy-baseline would-break --flows - -f baseline.yaml";

pub const DIFF: &str = "\
Examples:
  policy-baseline diff -f old/ -f new/
  policy-baseline diff -f old/ -f new/ --workloads workloads.yaml -o markdown
  policy-baseline diff -f old/ -f new/ --workloads workloads.yaml -l app=web
  policy-baseline diff -f baseline.yaml -f new-baseline.yaml --dump dump.json";

pub const LINT: &str = "\
Examples:
  policy-baseline lint manifests/
  kubectl kustomize manifests/ | policy-baseline lint -
  policy-baseline lint manifests/ --baseline baseline.yaml -o sarif";

pub const CHECK: &str = "\
Examples:
  policy-baseline check
  policy-baseline check -o json";

pub const LIST_MANAGED: &str = "\
Examples:
  policy-baseline list-managed --orphans
  policy-baseline list-managed -n shop -o name
  policy-baseline list-managed -l policybaseline.io/baseline=platform";

pub const UNINSTALL: &str = "\
Examples:
  policy-baseline uninstall
  policy-baseline uninstall --policies=remove";

pub const CRD: &str = "\
Example:
  policy-baseline crd > crds.yaml";

pub const COMPLETION: &str = "\
Examples:
  source <(policy-baseline completion bash)
  policy-baseline completion zsh > _policy-baseline
  policy-baseline completion fish > policy-baseline.fish";
