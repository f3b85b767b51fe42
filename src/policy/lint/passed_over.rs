//! What a command that reads manifests would pass over without a word: fields that do not exist, keys that are set twice, and objects that are
//! given twice. The API server refuses or drops such a field, and of two objects only the last one counts.

use std::collections::BTreeMap;

use super::{
    custom,
    given::{LintDocument, objects},
    rule::LintRule,
    shape,
    yaml::{self, SET_TWICE},
};
use crate::policy::preview::ManifestText;

/// The API group, kind, namespace and name of an object.
type ObjectKey<'d> = (&'d str, &'d str, &'d str, &'d str);

/// One sentence about each thing in these texts that is passed over, with its place. `reads` says by API group and kind which objects are read.
/// An object without a namespace is in this one.
pub fn passed_over(texts: &[ManifestText], namespace: &str, reads: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let (mut sentences, mut documents) = (Vec::new(), Vec::new());
    for (number, ManifestText { name, text }) in texts.iter().enumerate() {
        let (nodes, problems) = yaml::documents(text);
        for problem in problems.iter().filter(|problem| problem.message.ends_with(SET_TWICE)) {
            sentences.push(format!("{name}:{}: {}, so only the last one counts", problem.place.line, problem.message));
        }
        let of_text = nodes.into_iter().flat_map(|node| objects(number, node));
        documents.extend(of_text.filter(|document| reads(document.group(), &document.kind)));
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
}
