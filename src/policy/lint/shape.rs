//! The fields of a NetworkPolicy and their types. What has another shape is said in the words of the API server and of `kubectl`.

use super::{
    found::RuleHit,
    rule::LintRule,
    tree::{YamlNode, YamlValue},
};

/// The type of a value, by its name in Go: the API server names it.
#[derive(Clone, Copy)]
enum FieldShape {
    Any,
    Text(&'static str),
    Int32,
    IntOrText,
    /// A map of texts.
    Texts,
    /// The type of the elements.
    List(&'static FieldShape),
    Fields(&'static ObjectShape),
    /// An object of which only these fields are checked.
    Part(&'static ObjectShape),
}

struct ObjectShape {
    go: &'static str,
    fields: &'static [(&'static str, FieldShape)],
}

const STRING: FieldShape = FieldShape::Text("string");

const REQUIREMENT: ObjectShape = ObjectShape {
    go: "LabelSelectorRequirement",
    fields: &[("key", STRING), ("operator", FieldShape::Text("v1.LabelSelectorOperator")), ("values", FieldShape::List(&STRING))],
};
const SELECTOR: ObjectShape = ObjectShape {
    go: "LabelSelector",
    fields: &[("matchLabels", FieldShape::Texts), ("matchExpressions", FieldShape::List(&FieldShape::Fields(&REQUIREMENT)))],
};
const BLOCK: ObjectShape = ObjectShape { go: "IPBlock", fields: &[("cidr", STRING), ("except", FieldShape::List(&STRING))] };
const PEER: ObjectShape = ObjectShape {
    go: "NetworkPolicyPeer",
    fields: &[
        ("podSelector", FieldShape::Fields(&SELECTOR)),
        ("namespaceSelector", FieldShape::Fields(&SELECTOR)),
        ("ipBlock", FieldShape::Fields(&BLOCK)),
    ],
};
const PORT: ObjectShape = ObjectShape {
    go: "NetworkPolicyPort",
    fields: &[("protocol", FieldShape::Text("v1.Protocol")), ("port", FieldShape::IntOrText), ("endPort", FieldShape::Int32)],
};
const INGRESS: ObjectShape = ObjectShape {
    go: "NetworkPolicyIngressRule",
    fields: &[("from", FieldShape::List(&FieldShape::Fields(&PEER))), ("ports", FieldShape::List(&FieldShape::Fields(&PORT)))],
};
const EGRESS: ObjectShape = ObjectShape {
    go: "NetworkPolicyEgressRule",
    fields: &[("to", FieldShape::List(&FieldShape::Fields(&PEER))), ("ports", FieldShape::List(&FieldShape::Fields(&PORT)))],
};
const SPEC: ObjectShape = ObjectShape {
    go: "NetworkPolicySpec",
    fields: &[
        ("podSelector", FieldShape::Fields(&SELECTOR)),
        ("policyTypes", FieldShape::List(&FieldShape::Text("v1.PolicyType"))),
        ("ingress", FieldShape::List(&FieldShape::Fields(&INGRESS))),
        ("egress", FieldShape::List(&FieldShape::Fields(&EGRESS))),
    ],
};
const METADATA: ObjectShape = ObjectShape {
    go: "ObjectMeta",
    fields: &[
        ("name", STRING),
        ("namespace", STRING),
        ("labels", FieldShape::Texts),
        ("annotations", FieldShape::Texts),
        ("generateName", STRING),
        ("creationTimestamp", FieldShape::Any),
        ("deletionTimestamp", FieldShape::Any),
        ("deletionGracePeriodSeconds", FieldShape::Any),
        ("finalizers", FieldShape::List(&STRING)),
        ("generation", FieldShape::Any),
        ("managedFields", FieldShape::Any),
        ("ownerReferences", FieldShape::Any),
        ("resourceVersion", STRING),
        ("selfLink", STRING),
        ("uid", STRING),
    ],
};
const POLICY: ObjectShape = ObjectShape {
    go: "NetworkPolicy",
    fields: &[
        ("apiVersion", STRING),
        ("kind", STRING),
        ("metadata", FieldShape::Fields(&METADATA)),
        ("spec", FieldShape::Fields(&SPEC)),
        // Kubernetes had it from 1.24 to 1.27, and stored manifests still have it.
        ("status", FieldShape::Any),
    ],
};

const TEMPLATE: ObjectShape =
    ObjectShape { go: "PodTemplateSpec", fields: &[("metadata", FieldShape::Fields(&METADATA)), ("spec", FieldShape::Any)] };
const WITH_TEMPLATE: ObjectShape = ObjectShape { go: "Spec", fields: &[("template", FieldShape::Fields(&TEMPLATE))] };
const JOB_TEMPLATE: ObjectShape = ObjectShape {
    go: "JobTemplateSpec",
    fields: &[("metadata", FieldShape::Fields(&METADATA)), ("spec", FieldShape::Part(&WITH_TEMPLATE))],
};
const WITH_JOB_TEMPLATE: ObjectShape =
    ObjectShape { go: "CronJobSpec", fields: &[("jobTemplate", FieldShape::Fields(&JOB_TEMPLATE))] };

/// The fields of an object whose spec has this shape.
macro_rules! object {
    ($spec:expr) => {
        ObjectShape {
            go: "Object",
            fields: &[
                ("apiVersion", STRING),
                ("kind", STRING),
                ("metadata", FieldShape::Fields(&METADATA)),
                ("spec", $spec),
                ("status", FieldShape::Any),
            ],
        }
    };
}

const ANY_OBJECT: ObjectShape = object!(FieldShape::Any);
const WORKLOAD: ObjectShape = object!(FieldShape::Part(&WITH_TEMPLATE));
const CRON_JOB: ObjectShape = object!(FieldShape::Part(&WITH_JOB_TEMPLATE));

/// What has not the shape of a NetworkPolicy.
pub fn misshapen(policy: &YamlNode) -> Vec<RuleHit> {
    misshapen_of_kind("NetworkPolicy", policy)
}

/// What has not the shape of an object of this kind, as far as it is known here: of workloads the metadata and those of their pods.
pub fn misshapen_of_kind(kind: &str, object: &YamlNode) -> Vec<RuleHit> {
    let shape = match kind {
        "NetworkPolicy" => &POLICY,
        "CronJob" => &CRON_JOB,
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController" | "Job" => &WORKLOAD,
        _ => &ANY_OBJECT,
    };
    let mut found = Vec::new();
    fields(object, shape, ("", ""), true, &mut found);
    found
}

/// The fields of metadata that do not exist.
pub fn unknown_metadata(object: &YamlNode) -> Vec<RuleHit> {
    let mut found = Vec::new();
    if let Some(metadata) = object.get("metadata") {
        fields(metadata, &METADATA, ("metadata", "metadata"), true, &mut found);
    }
    found.retain(|hit| hit.rule == LintRule::UnknownField);
    found
}

fn fields(node: &YamlNode, object: &ObjectShape, (path, field): (&str, &str), is_complete: bool, found: &mut Vec<RuleHit>) {
    for entry in node.entries() {
        let below = |path: &str| if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
        let (path, field) = (below(path), below(field));
        if let Some((_, shape)) = object.fields.iter().find(|(name, _)| *name == entry.key) {
            shape.check(&entry.value, object.go, &path, &field, found);
        } else if is_complete {
            let names = object.fields.iter().map(|(name, _)| *name);
            let message = format!("unknown field {path:?}{}", did_you_mean(&entry.key, names));
            found.push(RuleHit::new(LintRule::UnknownField, path, message).of_key());
        }
    }
}

/// A suggestion for a name that does not exist.
pub fn did_you_mean<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> String {
    let distance = |name: &str| strsim::damerau_levenshtein(&wrong.to_lowercase(), &name.to_lowercase());
    let nearest = names.map(|name| (distance(name), name)).min();
    let near = nearest.filter(|(distance, name)| *distance <= (name.len() / 3).max(1));
    near.map(|(_, name)| format!("; did you mean {name:?}?")).unwrap_or_default()
}

impl FieldShape {
    /// Checks a value. `owner` is the Go type that has the field; `field` is the path without indices.
    fn check(self, node: &YamlNode, owner: &str, path: &str, field: &str, found: &mut Vec<RuleHit>) {
        let is_right = match (self, &node.value) {
            (Self::Any, _)
            | (_, YamlValue::Null)
            | (Self::Text(_) | Self::IntOrText, YamlValue::Text(_))
            | (Self::List(_), YamlValue::List(_))
            | (Self::Texts | Self::Fields(_) | Self::Part(_), YamlValue::Map(_)) => true,
            (Self::Int32 | Self::IntOrText, YamlValue::Number(number)) => {
                number.as_i64().is_some_and(|number| i32::try_from(number).is_ok())
            }
            _ => false,
        };
        if !is_right {
            let target = format!("struct field {owner}.{field} of type {}", self.go());
            let message = format!("json: cannot unmarshal {} into Go {target}{}", kind(&node.value), self.hint(&node.value));
            found.push(RuleHit::new(LintRule::RefusedByApiServer, path, message));
            return;
        }
        match self {
            Self::List(of) => {
                for (index, item) in node.items().iter().enumerate() {
                    of.check(item, owner, &format!("{path}[{index}]"), field, found);
                }
            }
            Self::Texts => {
                for entry in node.entries() {
                    STRING.check(&entry.value, owner, &format!("{path}[{}]", entry.key), field, found);
                }
            }
            Self::Fields(object) => fields(node, object, (path, field), true, found),
            Self::Part(object) => fields(node, object, (path, field), false, found),
            Self::Any | Self::Text(_) | Self::Int32 | Self::IntOrText => {}
        }
    }

    fn go(self) -> String {
        match self {
            Self::Any => "any".into(),
            Self::Text(name) => name.into(),
            Self::Int32 | Self::IntOrText => "int32".into(),
            Self::Texts => "map[string]string".into(),
            Self::List(of) => format!("[]{}", of.go()),
            Self::Fields(object) | Self::Part(object) => format!("v1.{}", object.go),
        }
    }

    /// What to write instead, where that is plain.
    fn hint(self, value: &YamlValue) -> &'static str {
        match (self, value) {
            (Self::Text(_), YamlValue::Bool(_) | YamlValue::Number(_)) => ". Write it in quotes",
            (Self::List(_), YamlValue::Map(_)) => ". Begin it with a hyphen: it is a list",
            (Self::Fields(_), YamlValue::List(_)) => ". Leave out the hyphen: it is no list",
            _ => "",
        }
    }
}

fn kind(value: &YamlValue) -> String {
    match value {
        YamlValue::Null => "null".into(),
        YamlValue::Bool(_) => "bool".into(),
        // Of a number that does not fit, the number is named.
        YamlValue::Number(number) if number.as_i64().is_none_or(|number| i32::try_from(number).is_err()) => {
            format!("number {number}")
        }
        YamlValue::Number(_) => "number".into(),
        YamlValue::Text(_) => "string".into(),
        YamlValue::List(_) => "array".into(),
        YamlValue::Map(_) => "object".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::lint::yaml::documents;

    #[test]
    fn what_has_another_shape_is_said_in_the_words_of_the_api_server() {
        for (spec, path, expected) in [
            ("ingres: []", "spec.ingres", "unknown field \"spec.ingres\"; did you mean \"ingress\"?"),
            ("podselector: {}", "spec.podselector", "unknown field \"spec.podselector\"; did you mean \"podSelector\"?"),
            ("xyz: 1", "spec.xyz", "unknown field \"spec.xyz\""),
            (
                "ingress: [{ports: [{endport: 1}]}]",
                "spec.ingress[0].ports[0].endport",
                "unknown field \"spec.ingress[0].ports[0].endport\"; did you mean \"endPort\"?",
            ),
            (
                "egress: {to: []}",
                "spec.egress",
                "json: cannot unmarshal object into Go struct field NetworkPolicySpec.spec.egress of type []v1.NetworkPolicyEgressRule. Begin it with a hyphen: it is a list",
            ),
            (
                "ingress: [{ports: [{endPort: http}]}]",
                "spec.ingress[0].ports[0].endPort",
                "json: cannot unmarshal string into Go struct field NetworkPolicyPort.spec.ingress.ports.endPort of type int32",
            ),
            (
                "podSelector: {matchLabels: {ok: yes}}",
                "spec.podSelector.matchLabels[ok]",
                "json: cannot unmarshal bool into Go struct field LabelSelector.spec.podSelector.matchLabels of type string. Write it in quotes",
            ),
            (
                "ingress: [{ports: [{port: 80.5}]}]",
                "spec.ingress[0].ports[0].port",
                "json: cannot unmarshal number 80.5 into Go struct field NetworkPolicyPort.spec.ingress.ports.port of type int32",
            ),
        ] {
            let (read, _) = documents(&format!("spec: {{{spec}}}"));
            let hits = misshapen(&read[0]);
            let found: Vec<(&str, &str)> = hits.iter().map(|hit| (&*hit.path, &*hit.message)).collect();
            assert_eq!(found, [(path, expected)]);
        }
    }

    #[test]
    fn null_is_what_is_absent() {
        let (read, _) = documents("metadata: {labels: null}\nspec: {podSelector: null, ingress: [{from: null, ports: [null]}]}");
        assert_eq!(misshapen(&read[0]), []);
    }
}
