//! The raw client. It writes the same objects with the operator's own client stack, as fast as the API server accepts them. It also
//! does what both sides need: it creates and deletes namespaces and edits the baseline.

use anyhow::{Context, Result};
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use http::Request;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::Request as Requests;
use kube::{Client, Resource};
use policy_baseline::{Baseline, LABEL_MANAGED_BY, PolicyBaseline, Purpose, Rendered};
use serde_json::{Value, json};

use super::side::Group;

/// The label that selects the bench's namespaces.
const SIDE: &str = "bench.policybaseline.io/side";
/// The field manager and the value of the managed-by label of the raw client.
const BENCH: &str = "bench";

/// The baseline of a group after `edits` edits. Each edit changes all three policies.
pub fn baseline(group: Group, edits: u16) -> Result<PolicyBaseline> {
    let mut spec = json!({
        "mode": "Enforce",
        "namespaceSelector": { "matchLabels": { SIDE: group.label() } },
        "metadata": { "labels": { "bench.policybaseline.io/edit": edits.to_string() } },
        "dns": { "ports": [10_000 + edits] },
        "monitoring": { "ports": [{ "port": 20_000 + edits }] },
    });
    if group == Group::Allows {
        spec["allows"] = allows();
    }
    let mut baseline = PolicyBaseline::new(&format!("bench-{}", group.label()), serde_json::from_value(spec)?);
    baseline.metadata.creation_timestamp = None;
    Ok(baseline)
}

/// Six allows of a usual cluster. None has a peer that the operator finds in the cluster, so both sides write the same policies.
fn allows() -> Value {
    let pods = |namespace: &str, app: &str| {
        json!({
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": namespace } },
            "podSelector": { "matchLabels": { "app.kubernetes.io/name": app } },
        })
    };
    let same = json!([{ "sameNamespace": {} }]);
    let (gateway, prometheus) = (json!([pods("ingress-nginx", "ingress-nginx")]), json!([pods("monitoring", "prometheus")]));
    let (solver, collector) = ("acme.cert-manager.io/http01-solver", json!([pods("opentelemetry", "opentelemetry-collector")]));
    let agent = json!([{ "ipBlock": { "cidr": "169.254.170.23/32" } }]);
    json!([
        { "name": "same-namespace", "ingress": [{ "from": same }], "egress": [{ "to": same }] },
        {
            "name": "ingress-nginx", "podSelector": { "matchLabels": { "expose": "web" } },
            "ingress": [{ "from": gateway, "ports": [{ "port": "http" }, { "port": 8080 }] }],
        },
        {
            "name": "acme-solver", "podSelector": { "matchLabels": { solver: "true" } },
            "ingress": [{ "from": gateway, "ports": [{ "port": 8089 }] }],
        },
        { "name": "prometheus", "ingress": [{ "from": prometheus, "ports": [{ "port": "metrics" }, { "port": "http-metrics" }] }] },
        { "name": "otlp", "egress": [{ "to": collector, "ports": [{ "port": 4317 }, { "port": 4318 }] }] },
        { "name": "cloud-identity", "egress": [{ "to": agent, "ports": [{ "port": 80 }] }] },
    ])
}

/// Renders the policies of that baseline with the operator's own code.
pub fn render(baseline: &PolicyBaseline) -> Result<Vec<Rendered>> {
    let mut stored = baseline.clone();
    stored.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
    let mut policies = Baseline::check(&stored, crate::SYSTEM_NAMESPACE)?.policies;
    // An allow has a form for each choice of its directions, the widest first. These namespaces are closed in both directions.
    policies.dedup_by(|other, widest| other.name == widest.name);
    for policy in &mut policies {
        // With this label the operator does not treat them as its own.
        policy.labels.insert(LABEL_MANAGED_BY.to_owned(), BENCH.to_owned());
    }
    Ok(policies)
}

/// Runs `work` for each item, with at most `in_flight` at the same time.
pub async fn each<T>(items: impl IntoIterator<Item = T>, in_flight: usize, work: impl AsyncFn(T) -> Result<()>) -> Result<()> {
    stream::iter(items).map(|item| work(item)).buffer_unordered(in_flight).try_collect().await
}

#[derive(Clone)]
pub struct Raw {
    client: Client,
}

impl Raw {
    pub const fn new(client: Client) -> Self {
        Self { client }
    }

    /// Lets the API server collect its garbage now. With 10,000 namespaces on two cores, a collection takes most of a second, and halves
    /// the throughput meanwhile. It comes after a certain amount of work, so it would hit always the same measurements of a sequence.
    pub async fn collect_garbage(&self) -> Result<()> {
        let request = Request::get("/debug/pprof/heap?gc=1&debug=1").body(vec![])?;
        self.send(request).await.context("collect the garbage of the API server").map(drop)
    }

    pub async fn create(&self, name: &str, group: Group) -> Result<()> {
        let namespace = json!({ "metadata": { "name": name, "labels": { SIDE: group.label() } } });
        let request =
            Requests::new(Namespace::url_path(&(), None)).create(&PostParams::default(), serde_json::to_vec(&namespace)?);
        self.send(request?).await.with_context(|| format!("create namespace {name}")).map(drop)
    }

    /// Sends to a namespace what the operator sends: a forced apply for each policy. The allows come first, and the others follow once the
    /// allows are written. Those that come together are sent at the same time.
    pub async fn apply(&self, namespace: &str, policies: &[Rendered]) -> Result<()> {
        let requests = policies_of(namespace);
        let params = PatchParams::apply(BENCH).force();
        let send = |policy: &Rendered| {
            let request = requests.patch(&policy.name, &params, &Patch::Apply(policy.object(namespace, None)));
            async { self.send(request?).await }
        };
        for together in in_order(policies) {
            try_join_all(together.into_iter().map(send)).await.with_context(|| format!("apply the policies of {namespace}"))?;
        }
        Ok(())
    }

    /// Opens a policy, as a person would do by hand. Returns the resourceVersion that is stored.
    pub async fn open(&self, namespace: &str, policy: &str) -> Result<u64> {
        let opened = json!({ "spec": { "ingress": [{}] } });
        let request = policies_of(namespace).patch(policy, &PatchParams::default(), &Patch::Merge(opened))?;
        let stored: Value = serde_json::from_str(&self.send(request).await?)?;
        stored["metadata"]["resourceVersion"].as_str().context("no version")?.parse().context("no number")
    }

    /// Deletes the policies of a namespace.
    pub async fn delete_policies(&self, namespace: &str) -> Result<()> {
        let request = policies_of(namespace).delete_collection(&DeleteParams::default(), &ListParams::default())?;
        self.send(request).await.with_context(|| format!("delete the policies of {namespace}")).map(drop)
    }

    /// Deletes a namespace and its contents. No controller runs here that would finalize it, so this function does that.
    pub async fn remove(&self, namespace: &str) -> Result<()> {
        let requests = Requests::new(Namespace::url_path(&(), None));
        self.send(requests.delete(namespace, &DeleteParams::default())?).await?;
        self.delete_policies(namespace).await?;
        let finished = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace }, "spec": { "finalizers": [] },
        });
        let params = PostParams::default();
        let request = requests.replace_subresource("finalize", namespace, &params, serde_json::to_vec(&finished)?)?;
        self.send(request).await.with_context(|| format!("finish namespace {namespace}")).map(drop)
    }

    pub async fn apply_baseline(&self, baseline: &PolicyBaseline) -> Result<()> {
        let name = baseline.metadata.name.as_deref().context("a baseline without a name")?;
        let request = Requests::new(PolicyBaseline::url_path(&(), None)).patch(
            name,
            &PatchParams::apply(BENCH).force(),
            &Patch::Apply(baseline),
        )?;
        self.send(request).await.context("apply the baseline").map(drop)
    }

    /// Reads the whole response and decodes nothing. Each request is a task of its own, so that all cores are used, as in the operator.
    pub async fn send(&self, request: Request<Vec<u8>>) -> Result<String> {
        let client = self.client.clone();
        Ok(tokio::spawn(async move { client.request_text(request).await }).await??)
    }
}

/// The allows, and the others.
fn in_order(policies: &[Rendered]) -> [Vec<&Rendered>; 2] {
    let (allows, others) = policies.iter().partition(|policy| matches!(policy.purpose, Purpose::Allow(_)));
    [allows, others]
}

fn policies_of(namespace: &str) -> Requests {
    Requests::new(NetworkPolicy::url_path(&(), Some(namespace)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_edit_changes_every_policy_and_the_raw_ones_are_not_the_operators() {
        let [before, after] = [1, 2].map(|edits| render(&baseline(Group::Slice, edits).unwrap()).unwrap());
        assert_eq!(before.len(), 3);
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(before.name, after.name);
            assert_ne!(before.object("a", None), after.object("a", None));
            assert_eq!(before.labels[LABEL_MANAGED_BY], BENCH);
        }
    }

    #[test]
    fn a_baseline_has_as_many_policies_as_its_group_says_and_each_name_once() {
        for group in Group::OURS {
            let policies = render(&baseline(group, 0).unwrap()).unwrap();
            let names: BTreeSet<&str> = policies.iter().map(|policy| &*policy.name).collect();
            assert_eq!([policies.len(), names.len()], [group.policies(); 2], "{group:?}");
        }
    }

    #[test]
    fn the_raw_client_too_writes_the_allows_before_the_denies() {
        let policies = render(&baseline(Group::Allows, 0).unwrap()).unwrap();
        let [allows, others] = in_order(&policies);
        assert_eq!([allows.len(), others.len()], [6, 3]);
        assert!(allows.iter().all(|policy| policy.role().is_none()) && others.iter().all(|policy| policy.role().is_some()));
        let both = policies.iter().find(|policy| policy.name == "baseline-allow-same-namespace").unwrap();
        assert_eq!(both.spec.policy_types.as_deref().unwrap(), ["Ingress", "Egress"]);
    }
}
