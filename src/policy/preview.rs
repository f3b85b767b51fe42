//! What a baseline would write, judged from its manifest and the namespaces: no operator and no stored object is needed. The checks and the
//! rendering are those of the operator.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
    time::Instant,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use serde::Deserialize;
use serde_json::Value;

use super::{
    flow::{DumpFacts, FlowNamespace, FlowPolicy, FlowSnapshot, ObjectEdits, few},
    plan::{Baseline, BaselineError, Namespace, OptOut, OptOutVerdict, Rendered, Ruling, verdict},
    table::counted,
};
use crate::api::{
    BaselineOptOut, NamespaceName, PolicyBaseline, Purpose, baseline::Mode, crd_fields, names::is_dns_label, peers::Protocol,
    reason::OptOutRefusal,
};

const KIND: &str = "PolicyBaseline";
const API_VERSION: &str = "policybaseline.io/v1alpha1";

/// The text of a file with manifests.
#[derive(Clone, Debug)]
pub struct ManifestText {
    /// The name of the file, for people.
    pub name: String,
    pub text: String,
}

/// A baseline that is not in a cluster yet.
#[derive(Debug)]
pub struct PreviewedBaseline(Baseline);

/// Why a manifest is no baseline.
#[derive(Debug, thiserror::Error)]
pub enum PreviewError {
    #[error("it is no YAML: {0}")]
    NoYaml(String),
    #[error("it has no object of the kind {KIND}")]
    NoBaseline,
    #[error("it has no object of the kind Namespace")]
    NoNamespace,
    #[error("it has {0} objects of the kind {KIND}. Give one: only the operator decides between several")]
    Several(usize),
    #[error("apiVersion is {0:?}; it is {API_VERSION}")]
    OtherVersion(String),
    #[error("metadata.name is {0:?}: use lower-case letters, digits, '-' and '.', at most 63 characters")]
    InvalidName(String),
    #[error("{field}: there is no such field. The CRD would drop it")]
    UnknownField { field: String },
    #[error("{field}: {message}")]
    NotReadable { field: String, message: String },
    #[error("{0}")]
    Refused(BaselineError),
}

impl PreviewedBaseline {
    /// Reads a manifest of YAML or JSON with one baseline. Objects of other kinds are passed over. It selects neither system namespaces nor
    /// that of the operator, unless its spec says so.
    pub fn read(text: &str, operator_namespace: &str) -> Result<Self, PreviewError> {
        let mut found = objects(text, KIND)?;
        let count = found.len();
        let Some(mut value) = found.pop() else { return Err(PreviewError::NoBaseline) };
        if count > 1 {
            return Err(PreviewError::Several(count));
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if value["apiVersion"] != API_VERSION {
            return Err(PreviewError::OtherVersion(text(&value["apiVersion"])));
        }
        let name = text(&value["metadata"]["name"]);
        if name.is_empty() || name.len() > 63 || !name.split('.').all(is_dns_label) {
            return Err(PreviewError::InvalidName(name));
        }
        // The API server drops a field whose value is null.
        drop_nulls(&mut value["spec"]);
        if let Some(field) = crd_fields::unknown_field(&value["spec"]) {
            return Err(PreviewError::UnknownField { field });
        }
        let object: PolicyBaseline = serde_path_to_error::deserialize(&value)
            .map_err(|error| PreviewError::NotReadable { field: error.path().to_string(), message: error.inner().to_string() })?;
        Baseline::check(&object, operator_namespace).map(Self).map_err(PreviewError::Refused)
    }

    /// The same baseline with the DNS and the API server of a cluster.
    #[must_use]
    pub fn in_cluster(self, facts: &DumpFacts, now: Instant) -> Self {
        Self(self.0.with_cluster(&facts.dns(now), &facts.api(now)))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What it would write in a namespace; empty if it does not select that. Opt-outs are not considered, and neither is whether the API
    /// server calls a Service there.
    pub fn planned(&self, namespace: &FlowNamespace) -> Vec<&Rendered> {
        let namespace = self.namespace(namespace);
        if !self.0.selects(&namespace) {
            return vec![];
        }
        let planned: Vec<usize> = self.0.planned(&namespace).map(|(index, _)| index).collect();
        planned.into_iter().filter_map(|index| self.0.policies.get(index)).collect()
    }

    /// Why it does not allow an opt-out in a namespace that it selects, as the operator says it. One that nobody has created yet is judged as if
    /// it were created now.
    pub fn refuses(
        &self,
        opt_out: &BaselineOptOut,
        namespace: &FlowNamespace,
        now: Timestamp,
    ) -> Option<(OptOutRefusal, String)> {
        if !self.0.selects(&self.namespace(namespace)) {
            return None;
        }
        let is_created = opt_out.metadata.creation_timestamp.is_some();
        let mut opt_out = opt_out.clone();
        opt_out.metadata.creation_timestamp.get_or_insert(Time(now));
        let opt_out = OptOut::check(&opt_out).ok()?;
        // Nobody knows whether it was over when it was created.
        if !is_created && opt_out.is_over(now) {
            let (expires, example) = (opt_out.expires, self.0.opt_outs.example(&opt_out));
            let message = format!("spec.expiresAt is {expires}, which is over: write a later time, as in {example}");
            return Some((OptOutRefusal::Expired, message));
        }
        match verdict(&opt_out, opt_out.created, Ruling::Enforces(&self.0), now.max(opt_out.created)) {
            OptOutVerdict::InForce(..) => None,
            OptOutVerdict::NotInForce(refusal, message) => Some((refusal, message)),
        }
    }

    fn namespace(&self, namespace: &FlowNamespace) -> Namespace {
        let labels = namespace.labels.iter().map(|(key, value)| (&**key, &**value)).collect();
        Namespace::new(NamespaceName::observed(&namespace.name), labels, self.0.created)
    }

    /// Which pods of a namespace scrape others, as the baseline says.
    pub fn scrapers_in(&self, namespace: &FlowNamespace) -> Vec<LabelSelector> {
        let labels = namespace.labels.iter().map(|(key, value)| (&**key, &**value)).collect();
        self.0.scrapers_in(&labels)
    }

    /// The same as policies that decide flows.
    pub fn flow_policies(&self, namespace: &FlowNamespace) -> Vec<FlowPolicy> {
        self.planned(namespace).into_iter().map(|policy| self.flow_policy(policy, &namespace.name)).collect()
    }

    /// Makes a world one in which it is enforced in every namespace that it selects. It replaces what it wrote in a former version.
    pub fn enforce_in(&self, world: &mut FlowSnapshot) {
        let planned = world.all_namespaces().iter().flat_map(|namespace| self.flow_policies(namespace)).collect();
        world.replace_policies(self.name(), planned);
    }

    /// A sentence about the other baselines whose policies it replaces in a world. Their specs are not among the objects, so nobody knows whose
    /// priority is higher.
    pub fn replaces(&self, world: &FlowSnapshot) -> Option<String> {
        let closed: BTreeSet<String> =
            world.all_namespaces().into_iter().filter(|one| !self.planned(one).is_empty()).map(|one| one.name).collect();
        let others = world.policies.iter().filter(|policy| closed.contains(&policy.namespace));
        let others = others.filter_map(|policy| policy.baseline.as_deref().map(|name| (name, &*policy.namespace)));
        let others: BTreeSet<(&str, &str)> = others.filter(|(name, _)| *name != self.name()).collect();
        let names: BTreeSet<&str> = others.iter().map(|(name, _)| *name).collect();
        let names: Vec<&str> = names.into_iter().collect();
        let namespaces: BTreeSet<&str> = others.iter().map(|(_, namespace)| *namespace).collect();
        (!names.is_empty()).then(|| {
            format!(
                "in {} other baselines have policies ({}), and the baseline {} is judged as if it replaced them. The operator does that only if its priority is higher. Compare spec.priority",
                counted(namespaces.len() as u64, "namespace", "namespaces"),
                few(&names),
                self.name()
            )
        })
    }

    /// Every policy that it may plan anywhere, for no namespace.
    pub fn all_policies(&self) -> Vec<FlowPolicy> {
        self.0.policies.iter().map(|policy| self.flow_policy(policy, "")).collect()
    }

    fn flow_policy(&self, policy: &Rendered, namespace: &str) -> FlowPolicy {
        let baseline = Some(self.name().to_owned());
        FlowPolicy {
            namespace: namespace.into(),
            name: policy.name.clone(),
            baseline,
            created: None,
            edits: ObjectEdits::default(),
            spec: Arc::new(policy.spec.clone()),
        }
    }

    /// Whether the operator would write its policies.
    pub fn writes(&self) -> bool {
        self.0.mode == Mode::Enforce
    }

    /// The names of its allows.
    pub fn allow_names(&self) -> impl Iterator<Item = String> {
        let name = |policy: &Rendered| match &policy.purpose {
            Purpose::Allow(name) => Some(name.as_str().to_owned()),
            Purpose::Role(_) => None,
        };
        self.0.policies.iter().filter_map(name)
    }

    /// Whether the API server of the cluster is at this port of an address.
    pub fn is_api(&self, address: IpAddr, (protocol, port): (Protocol, u16)) -> bool {
        protocol == Protocol::TCP && self.0.api().by_port().get(&port).is_some_and(|addresses| addresses.contains(&address))
    }

    /// One sentence about each thing of the cluster that its policies do not allow, although pods need it.
    pub fn gaps(&self) -> Vec<String> {
        let dns = self.0.dns_gap.as_ref().map(|gap| gap.message.clone());
        let api = self.0.allow_facts().api_gap.map(|gap| gap.message);
        dns.into_iter().chain(api).collect()
    }
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(entries) => entries.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// The objects in a text of YAML or JSON, also those in Lists.
pub fn all_objects(text: &str) -> Result<Vec<Value>, PreviewError> {
    let mut found = Vec::new();
    for mut value in values(text)? {
        let Some(Value::Array(items)) = value.get_mut("items").map(Value::take) else {
            found.push(value);
            continue;
        };
        // In a list of one kind, the objects may not name their kind.
        let of = value["kind"].as_str().and_then(|kind| kind.strip_suffix("List")).filter(|of| !of.is_empty());
        found.extend(items.into_iter().map(|mut item| {
            for (field, of) in [("kind", of.map(Value::from)), ("apiVersion", of.map(|_| value["apiVersion"].clone()))] {
                if let (Value::Object(fields), Some(of)) = (&mut item, of) {
                    fields.entry(field).or_insert(of);
                }
            }
            item
        }));
    }
    Ok(found)
}

/// What to do about a text that is no YAML because it is a template.
pub fn template_hint(text: &str) -> &'static str {
    if text.contains("{{") { ". It is a template: render it first, such as with helm template" } else { "" }
}

/// The documents of a text. Several objects of JSON may follow each other: kubectl reads them, and jq writes them.
fn values(text: &str) -> Result<Vec<Value>, PreviewError> {
    if text.trim_start().starts_with('{') {
        let objects: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text).into_iter().collect();
        if let Ok(objects) = objects {
            return Ok(objects);
        }
    }
    let read =
        |document| Value::deserialize(document).map_err(|error| PreviewError::NoYaml(format!("{error}{}", template_hint(text))));
    serde_yaml::Deserializer::from_str(text).map(read).collect()
}

/// The objects of a kind.
fn objects(text: &str, kind: &str) -> Result<Vec<Value>, PreviewError> {
    Ok(all_objects(text)?.into_iter().filter(|value| value["kind"] == kind).collect())
}

/// The namespaces in a text of YAML or JSON.
pub fn namespaces_in(text: &str) -> Result<Vec<FlowNamespace>, PreviewError> {
    let found = objects(text, "Namespace")?;
    if found.is_empty() {
        return Err(PreviewError::NoNamespace);
    }
    let read = |value: Value| {
        serde_path_to_error::deserialize(&value)
            .map_err(|error| PreviewError::NotReadable { field: error.path().to_string(), message: error.inner().to_string() })
    };
    let (mut namespaces, mut known) = (Vec::<FlowNamespace>::new(), HashMap::new());
    for found in found {
        let namespace: FlowNamespace = read(found)?;
        // Of two with one name, only the last one counts.
        let number = *known.entry(namespace.name.clone()).or_insert(namespaces.len());
        match namespaces.get_mut(number) {
            Some(same) => *same = namespace,
            None => namespaces.push(namespace),
        }
    }
    Ok(namespaces)
}

/// A namespace of which only the name is known.
pub fn namespace_named(name: &str) -> Result<FlowNamespace, String> {
    if !is_dns_label(name) {
        return Err(format!("{name:?} is no name of a namespace"));
    }
    Ok(FlowNamespace::named(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<PreviewedBaseline, String> {
        PreviewedBaseline::read(text, "policy-baseline-system").map_err(|error| error.to_string())
    }

    const HEAD: &str =
        "apiVersion: policybaseline.io/v1alpha1\nkind: PolicyBaseline\nmetadata: {name: platform}\nspec: {mode: Enforce";

    fn names(spec: &str, namespace: &str) -> Vec<String> {
        let baseline = read(&format!("{HEAD}{spec}}}")).unwrap();
        baseline.planned(&namespace_named(namespace).unwrap()).into_iter().map(|policy| policy.name.clone()).collect()
    }

    #[test]
    fn a_manifest_is_planned_like_the_object_that_it_becomes() {
        let three = ["baseline-default-deny-ingress", "baseline-default-deny-egress", "baseline-monitoring-carveout"];
        assert_eq!(names("", "shop"), three);
        assert_eq!(names(", policies: [DefaultDenyIngress]", "shop"), three[..1]);
        for left_out in ["kube-system", "policy-baseline-system"] {
            assert_eq!(names("", left_out), [""; 0], "{left_out}");
        }
        assert_eq!(names(", excludeNamespaces: [sh*]", "shop"), [""; 0]);
        assert_eq!(names(", excludeNamespaces: null, dns: {peers: null}", "shop"), three, "the API server drops them");
        let list = format!("kind: List\nitems:\n- {{kind: ConfigMap}}\n- {}}}", HEAD.replace('\n', "\n  "));
        assert_eq!(read(&list).unwrap().name(), "platform");
    }

    #[test]
    fn of_two_namespaces_with_one_name_the_last_one_counts() {
        let one = |tier: &str| format!("kind: Namespace\nmetadata: {{name: a, labels: {{tier: {tier}}}}}\n---\n");
        let found = namespaces_in(&(one("old") + "kind: Namespace\nmetadata: {name: b}\n---\n" + &one("new"))).unwrap();
        let labels: Vec<_> =
            found.iter().map(|namespace| (&*namespace.name, namespace.labels.get("tier").map(String::as_str))).collect();
        assert_eq!(labels, [("a", Some("new")), ("b", None)]);
    }

    #[test]
    fn objects_of_json_may_follow_each_other() {
        let one = |kind: &str| format!("{{\"kind\": \"{kind}\", \"metadata\": {{\"name\": \"a\"}}}}\n");
        let found = all_objects(&(one("Namespace") + &one("Pod"))).unwrap();
        assert_eq!(found.iter().map(|object| object["kind"].as_str().unwrap()).collect::<Vec<_>>(), ["Namespace", "Pod"]);
    }

    #[test]
    fn what_is_no_baseline_says_what_is_wrong_and_where() {
        let two = format!("{HEAD}}}\n---\n{HEAD}}}");
        for (text, expected) in [
            ("kind: ConfigMap".to_owned(), "it has no object of the kind PolicyBaseline"),
            (two, "it has 2 objects of the kind PolicyBaseline. Give one: only the operator decides between several"),
            (format!("{HEAD}, exclude: [a]}}"), "spec.exclude: there is no such field. The CRD would drop it"),
            (format!("{HEAD}, dns: {{peer: []}}}}"), "spec.dns.peer: there is no such field. The CRD would drop it"),
            (
                format!("{HEAD}, allows: [{{name: x, from: []}}]}}"),
                "spec.allows[0].from: there is no such field. The CRD would drop it",
            ),
            (format!("{HEAD}, policies: []}}"), "spec.policies"),
            (HEAD.replace("Enforce", "Enforced") + "}", "spec.mode: unknown variant `Enforced`"),
            (HEAD.replace("{mode: Enforce", "{}"), "spec: missing field `mode`"),
            (HEAD.replace("v1alpha1", "v1") + "}", "apiVersion is \"policybaseline.io/v1\"; it is policybaseline.io/v1alpha1"),
            (HEAD.replace("platform", "Platform_1") + "}", "metadata.name is \"Platform_1\": use lower-case letters"),
            ("a: [".to_owned(), "it is no YAML: "),
        ] {
            let error = read(&text).map(|baseline| baseline.name().to_owned()).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
