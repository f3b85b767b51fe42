//! What a command that reads manifests would pass over without a word: fields that do not exist, keys that are set twice, objects that are
//! given twice, and NetworkPolicies that the API server refuses, so that they never apply.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::NetworkPolicySpec;

use super::{
    api_server, custom,
    found::RuleHit,
    given::{LintDocument, objects},
    rule::LintRule,
    shape,
    tree::YamlNode,
    yaml::{self, SET_TWICE},
};
use crate::policy::preview::ManifestText;

const POLICY_GROUP: &str = "networking.k8s.io";
const POLICY_KIND: &str = "NetworkPolicy";
const POLICY_VERSION: &str = "networking.k8s.io/v1";

/// The API group, kind, namespace and name of an object.
type ObjectKey<'d> = (&'d str, &'d str, &'d str, &'d str);

/// One sentence about each thing in these texts that is passed over, with its place. `reads` says by API group and kind which objects are read.
/// An object without a namespace is in this one.
pub fn passed_over(texts: &[ManifestText], namespace: &str, reads: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let (mut sentences, mut documents) = (Vec::new(), Vec::new());
    let reads_policies = reads(POLICY_GROUP, POLICY_KIND);
    for (number, ManifestText { name, text }) in texts.iter().enumerate() {
        let (nodes, problems) = yaml::documents(text);
        for problem in problems.iter().filter(|problem| problem.message.ends_with(SET_TWICE)) {
            sentences.push(format!("{name}:{}: {}, so only the last one counts", problem.place.line, problem.message));
        }
        let of_text: Vec<LintDocument> = nodes.into_iter().flat_map(|node| objects(number, node)).collect();
        for document in of_text.iter().filter(|document| reads_policies && document.is_meant_as_policy()) {
            let line = document.node.place_of(if document.kind.is_empty() { "apiVersion" } else { "kind" }).line;
            let LintDocument { api_version, kind, .. } = document;
            sentences.push(format!(
                "{name}:{line}: no API server has the kind {kind:?} of {api_version:?}, so this object counts for nothing. Write kind: {POLICY_KIND} and apiVersion: {POLICY_VERSION}"
            ));
        }
        documents.extend(of_text.into_iter().filter(|document| reads(document.group(), &document.kind)));
    }
    let place = |document: &LintDocument, line: u32| {
        format!("{}:{line}", texts.get(document.source).map(|text| &*text.name).unwrap_or_default())
    };
    for document in &documents {
        let unknown = match document.group() {
            custom::GROUP => custom::unknown_fields(document),
            _ => shape::misshapen_of_kind(&document.kind, &document.node),
        };
        for hit in unknown.into_iter().filter(|hit| hit.rule == LintRule::UnknownField) {
            let at = place(document, document.place(&hit).line);
            let end = if hit.message.ends_with('?') { "" } else { "." };
            sentences.push(format!("{at}: the {} has an {}{end} It counts for nothing", document.shown(), hit.message));
        }
        for hit in refused(document) {
            let at = place(document, document.place(&hit).line);
            sentences.push(format!("{at}: {}", refusal(&document.shown(), &hit)));
        }
    }
    let mut given: BTreeMap<ObjectKey<'_>, Vec<&LintDocument>> = BTreeMap::new();
    for document in &documents {
        let Some(name) = document.name() else { continue };
        let namespace = document.namespace().filter(|own| !own.is_empty()).unwrap_or(namespace);
        let namespace = if ["Namespace", "PolicyBaseline"].contains(&&*document.kind) { "" } else { namespace };
        given.entry((document.group(), &document.kind, namespace, name)).or_default().push(document);
    }
    for places in given.values() {
        if let [first, .., last] = &**places {
            let at = |document: &LintDocument| place(document, document.node.place_of("metadata.name").line);
            let count = if places.len() == 2 { "twice".to_owned() } else { format!("{} times", places.len()) };
            let (first_at, last_at) = (at(first), at(last));
            sentences.push(format!(
                "the {} is given {count}, first at {first_at} and last at {last_at}. Only the last one counts. Remove the others",
                last.shown()
            ));
        }
    }
    sentences
}

/// What the API server refuses in a NetworkPolicy, beside unknown fields.
fn refused(document: &LintDocument) -> Vec<RuleHit> {
    if (document.group(), &*document.kind) != (POLICY_GROUP, POLICY_KIND) {
        return vec![];
    }
    if document.api_version != POLICY_VERSION {
        let message = format!("apiVersion: it is {:?}. Write {POLICY_VERSION}", document.api_version);
        return vec![RuleHit::new(LintRule::RefusedByApiServer, "apiVersion", message)];
    }
    let mut found = shape::misshapen(&document.node);
    found.retain(|hit| hit.rule != LintRule::UnknownField);
    let spec = document.node.get("spec").map(YamlNode::to_json).filter(|spec| !spec.is_null());
    let spec = spec.unwrap_or_else(|| serde_json::json!({}));
    // Where the fields have other shapes, whoever reads the object says so.
    if let (true, Ok(spec)) = (found.is_empty(), serde_json::from_value::<NetworkPolicySpec>(spec)) {
        found.extend(api_server::refused(document, &spec));
    }
    found
}

/// A sentence about what the API server refuses in an object.
pub fn refusal(object: &str, hit: &RuleHit) -> String {
    let who =
        if hit.rule == LintRule::HostBitsSet { "API servers since Kubernetes 1.36 refuse" } else { "the API server refuses" };
    format!("{who} the {object}: {}", hit.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[&str]) -> Vec<String> {
        let texts: Vec<ManifestText> = texts
            .iter()
            .zip(["a.yaml", "b.yaml", "c.yaml"])
            .map(|(text, name)| ManifestText { name: name.into(), text: (*text).to_owned() })
            .collect();
        passed_over(&texts, "shop", |_, kind| kind != "ConfigMap")
    }

    fn policy(metadata: &str, spec: &str) -> String {
        format!("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {metadata}\nspec:\n  {spec}\n")
    }

    #[test]
    fn a_field_that_does_not_exist_is_named_with_its_line_and_what_was_meant() {
        let workload = |head: &str, spec: &str| format!("{head}\nmetadata: {{name: web, namespace: shop}}\nspec: {spec}\n");
        for (text, expected) in [
            (
                policy("{name: web}", "podSelecter: {}"),
                "a.yaml:5: the NetworkPolicy web has an unknown field \"spec.podSelecter\"; did you mean \"podSelector\"? It counts for nothing",
            ),
            (
                "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n  lables: {tier: prod}\n".to_owned(),
                "a.yaml:5: the Namespace shop has an unknown field \"metadata.lables\"; did you mean \"labels\"? It counts for nothing",
            ),
            (
                workload("apiVersion: apps/v1\nkind: Deployment", "{replicas: 2, template: {labels: {app: web}, spec: {}}}"),
                "a.yaml:4: the Deployment shop/web has an unknown field \"spec.template.labels\". It counts for nothing",
            ),
            (
                workload(
                    "apiVersion: batch/v1\nkind: CronJob",
                    "{schedule: x, jobTemplate: {spec: {template: {metadata: {label: {}}}}}}",
                ),
                "a.yaml:4: the CronJob shop/web has an unknown field \"spec.jobTemplate.spec.template.metadata.label\"; did you mean \"labels\"? It counts for nothing",
            ),
            (
                "apiVersion: policybaseline.io/v1alpha1\nkind: PolicyBaseline\nmetadata: {name: p}\nspec:\n  mode: Audit\n  excludeNamespace: [a]\n".to_owned(),
                "a.yaml:6: the PolicyBaseline p has an unknown field \"spec.excludeNamespace\"; did you mean \"excludeNamespaces\"? It counts for nothing",
            ),
        ] {
            assert_eq!(of(&[&text]), [expected], "{text}");
        }
        let pod = workload("apiVersion: v1\nkind: Pod", "{hostNetwork: true, any: 1}");
        let fine = [&*policy("{name: web, generateName: w}", "podSelector: {}"), &*pod, "kind: ConfigMap\nmetadata: {nam: x}\n"];
        assert_eq!(of(&fine), [""; 0]);
    }

    #[test]
    fn an_object_that_is_given_twice_is_named_once_with_both_places() {
        let one = policy("{name: web, namespace: shop}", "podSelector: {}");
        let same = policy("{name: web}", "podSelector: {}");
        let other = policy("{name: web, namespace: bank}", "podSelector: {}");
        let sentence = |count: &str, last: &str| {
            format!(
                "the NetworkPolicy shop/web is given {count}, first at a.yaml:3 and last at {last}. Only the last one counts. Remove the others"
            )
        };
        assert_eq!(of(&[&format!("{same}---\n{one}")]), [sentence("twice", "a.yaml:9")]);
        assert_eq!(of(&[&same, &other, &one]), [sentence("twice", "c.yaml:3")]);
        assert_eq!(of(&[&same, &same, &one]), [sentence("3 times", "c.yaml:3")]);
        assert_eq!(of(&[&one, &other]), [""; 0]);
        let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";
        assert_eq!(of(&[namespace, namespace]).len(), 1);
        assert_eq!(of(&[namespace, "apiVersion: v1\nkind: Pod\nmetadata: {name: shop}\n"]), [""; 0], "of another kind");
    }

    #[test]
    fn a_key_that_is_set_twice_is_named() {
        let text = policy("{name: web}", "podSelector: {}\n  podSelector: {matchLabels: {app: web}}");
        assert_eq!(of(&[&text]), ["a.yaml:6: the key \"podSelector\" is already set in this map, so only the last one counts"]);
    }

    #[test]
    fn what_the_api_server_refuses_in_a_policy_is_named_with_its_line() {
        let refused = "the API server refuses the NetworkPolicy web:";
        for (spec, expected) in [
            (
                "podSelector: {}\n  policyTypes: [Ingres]",
                format!(
                    "a.yaml:6: {refused} spec.policyTypes[0]: Unsupported value: \"Ingres\": supported values: \"Ingress\", \"Egress\""
                ),
            ),
            (
                "podSelector: {}\n  ingress: [{ports: [{port: 0}]}]",
                format!(
                    "a.yaml:6: {refused} spec.ingress[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"
                ),
            ),
            (
                "podSelector: {}\n  egress: [{to: [{}]}]",
                format!("a.yaml:6: {refused} spec.egress[0].to[0]: Required value: must specify a peer"),
            ),
            (
                "podSelector: {}\n  egress: [{to: [{ipBlock: {cidr: 10.0.0.1/8}}]}]",
                "a.yaml:6: API servers since Kubernetes 1.36 refuse the NetworkPolicy web: spec.egress[0].to[0].ipBlock.cidr: Invalid value: \"10.0.0.1/8\": must not have bits set beyond the prefix length. Write 10.0.0.0/8".to_owned(),
            ),
        ] {
            assert_eq!(of(&[&policy("{name: web}", spec)]), [expected], "{spec}");
        }
        let old = policy("{name: web}", "podSelector: {}").replace("k8s.io/v1", "k8s.io/v1beta1");
        assert_eq!(
            of(&[&old]),
            [format!("a.yaml:1: {refused} apiVersion: it is \"networking.k8s.io/v1beta1\". Write networking.k8s.io/v1")]
        );
    }

    #[test]
    fn a_kind_that_no_api_server_has_is_named_where_policies_are_read() {
        let text = |version: &str, kind: &str| {
            policy("{name: web}", "podSelector: {}").replace("networking.k8s.io/v1", version).replace("NetworkPolicy", kind)
        };
        let named = |version: &str, kind: &str| {
            let texts = [ManifestText { name: "a.yaml".into(), text: text(version, kind) }];
            passed_over(&texts, "shop", |group, kind| (group, kind) == (POLICY_GROUP, POLICY_KIND))
        };
        assert_eq!(
            named("networking.k8s.io/v1", "NetworkPolicies"),
            [
                "a.yaml:2: no API server has the kind \"NetworkPolicies\" of \"networking.k8s.io/v1\", so this object counts for nothing. Write kind: NetworkPolicy and apiVersion: networking.k8s.io/v1"
            ]
        );
        assert_eq!(named("v1", "NetworkPolicy").len(), 1, "of no group");
        for (version, kind) in [("networking.k8s.io/v1", "Ingress"), ("v1", "Service"), ("projectcalico.org/v3", "NetworkPolicy")]
        {
            assert_eq!(named(version, kind), [""; 0], "{version} {kind}");
        }
        let texts = [ManifestText { name: "a.yaml".into(), text: text("networking.k8s.io/v1", "NetworkPolicies") }];
        assert_eq!(passed_over(&texts, "shop", |_, kind| kind == "PolicyBaseline"), [""; 0]);
    }
}
