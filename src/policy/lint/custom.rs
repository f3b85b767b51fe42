//! PolicyBaselines and BaselineOptOuts: the schema of the CRD, and then the checks of the operator itself.

use std::sync::LazyLock;

use kube::CustomResourceExt;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    api_server::is_dns_part, found::RuleHit, given::LintDocument, rule::LintRule, schema, shape, spec_rules, tree::YamlValue,
};
use crate::{
    api::{BaselineOptOut, PolicyBaseline},
    policy::plan::{Baseline, OptOut},
};

/// The group of our resources.
pub const GROUP: &str = "policybaseline.io";
const VERSION: &str = "policybaseline.io/v1alpha1";

static SCHEMAS: LazyLock<[(&str, Value); 2]> = LazyLock::new(|| {
    [("PolicyBaseline", PolicyBaseline::crd()), ("BaselineOptOut", BaselineOptOut::crd())].map(|(kind, crd)| {
        let version = crd.spec.versions.into_iter().next();
        let schema = version.and_then(|version| version.schema).and_then(|schema| schema.open_api_v3_schema);
        (kind, serde_json::to_value(schema).unwrap_or_default())
    })
});

/// What is wrong with a resource of ours.
pub fn check(document: &LintDocument, operator_namespace: &str) -> Vec<RuleHit> {
    let one = |rule, path: &str, message: String| vec![RuleHit::new(rule, path, message)];
    let Some((_, schema)) = SCHEMAS.iter().find(|(kind, _)| *kind == document.kind) else {
        let message = format!("no matches for kind {:?} in version {:?}", document.kind, document.api_version);
        return one(LintRule::RefusedByApiServer, "kind", message);
    };
    if document.api_version != VERSION {
        let message = format!("no matches for kind {:?} in version {:?}. It is {VERSION}", document.kind, document.api_version);
        return one(LintRule::RefusedByApiServer, "apiVersion", message);
    }
    // The API server makes a name of generateName, which may end with a hyphen.
    let generated = document.node.at("metadata.generateName").and_then(|prefix| match &prefix.value {
        YamlValue::Text(prefix) => Some(("metadata.generateName", prefix.trim_end_matches('-'))),
        _ => None,
    });
    let Some((field, name)) = document.name().map(|name| ("metadata.name", name)).or(generated) else {
        return one(
            LintRule::RefusedByApiServer,
            "metadata.name",
            "metadata.name: Required value: name or generateName is required".into(),
        );
    };
    let object = stored(document, schema);
    let mut found = schema::check(&object, schema, "");
    found.extend(shape::unknown_metadata(&document.node));
    // The schema says nothing of metadata, so what is wrong there has a name of its own.
    if !name.split('.').all(is_dns_part) {
        found.push(RuleHit::new(LintRule::RefusedByApiServer, field, format!("{field}: Invalid value: {name:?}: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character")));
    }
    if !found.is_empty() {
        return found;
    }
    let checked = match &*document.kind {
        "PolicyBaseline" => read(&object).and_then(|object: PolicyBaseline| {
            let baseline = Baseline::check(&object, operator_namespace).map_err(|error| error.to_string())?;
            Ok(spec_rules::check(&object, &baseline))
        }),
        _ => read(&object).and_then(|object: BaselineOptOut| OptOut::check(&object).map(|_| vec![])),
    };
    let hit = |message: String| vec![RuleHit::new(LintRule::RefusedByOperator, field_in(&message).to_owned(), message)];
    checked.unwrap_or_else(hit)
}

/// The opt-out, if a document is one.
pub fn opt_out(document: &LintDocument) -> Option<BaselineOptOut> {
    let (_, schema) = SCHEMAS.iter().find(|(kind, _)| *kind == document.kind && *kind == "BaselineOptOut")?;
    read(&stored(document, schema)).ok()
}

/// The fields of a resource of ours that do not exist.
pub fn unknown_fields(document: &LintDocument) -> Vec<RuleHit> {
    let Some((_, schema)) = SCHEMAS.iter().find(|(kind, _)| *kind == document.kind) else { return vec![] };
    let mut found = schema::check(&stored(document, schema), schema, "");
    found.extend(shape::unknown_metadata(&document.node));
    found.retain(|hit| hit.rule == LintRule::UnknownField);
    found
}

/// The object as the API server checks it.
fn stored(document: &LintDocument, schema: &Value) -> Value {
    let mut object = document.node.to_json();
    if let Some(fields) = object.as_object_mut() {
        // The API server sets it, and nobody may.
        fields.remove("status");
    }
    // Of a name that is generated, the rules see the whole.
    let metadata = &mut object["metadata"];
    if let (Some(prefix), None) = (metadata["generateName"].as_str(), metadata["name"].as_str()) {
        metadata["name"] = format!("{prefix}xxxxx").into();
    }
    schema::with_defaults(&mut object, schema);
    object
}

fn read<T: DeserializeOwned>(object: &Value) -> Result<T, String> {
    serde_path_to_error::deserialize(object).map_err(|error| format!("{}: {}", error.path(), error.inner()))
}

/// The field that a message of the operator begins with.
fn field_in(message: &str) -> &str {
    let field = message.split_once(": ").map_or("", |(field, _)| field).split(',').next().unwrap_or_default();
    if field.starts_with("spec") || field.starts_with("metadata") { field } else { "spec" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::lint::{cel, given::objects, yaml::documents};

    fn refused(text: &str) -> Vec<(String, String)> {
        let node = documents(text).0.remove(0);
        let document = objects(0, node).remove(0);
        check(&document, "policy-baseline-system").into_iter().map(|hit| (hit.path, hit.message)).collect()
    }

    fn of_spec(spec: &str) -> Vec<(String, String)> {
        refused(&format!("apiVersion: {VERSION}\nkind: PolicyBaseline\nmetadata: {{name: platform}}\nspec: {spec}"))
    }

    /// The rules below a part of a schema.
    fn rules<'a>(schema: &'a Value, found: &mut Vec<&'a str>) {
        match schema {
            Value::Object(fields) => {
                found.extend(fields.get("rule").and_then(Value::as_str));
                fields.values().for_each(|value| rules(value, found));
            }
            Value::Array(items) => items.iter().for_each(|item| rules(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_rule_of_the_crds_can_be_run() {
        let mut all = Vec::new();
        SCHEMAS.iter().for_each(|(_, schema)| rules(schema, &mut all));
        assert!(all.len() > 60, "{}", all.len());
        for rule in all {
            // Whatever the value is, nothing that the rule uses is unknown.
            for value in [Value::Null, "10.0.0.0/8".into(), serde_json::json!({"port": 1, "cidr": "x", "except": ["y"]})] {
                let why = cel::holds(rule, &value).err().unwrap_or_default();
                assert!(!why.contains("not known") && !why.contains("expected") && !why.contains("no name"), "{rule}: {why}");
            }
        }
    }

    #[test]
    fn a_baseline_is_refused_by_its_schema_by_its_rules_and_by_the_operator() {
        assert_eq!(of_spec("{mode: Enforce}"), []);
        for (spec, path, message) in [
            (
                "{mode: enforce}",
                "spec.mode",
                "spec.mode: Unsupported value: \"enforce\": supported values: \"Enforce\", \"Audit\"",
            ),
            ("{}", "spec.mode", "spec.mode: Required value"),
            ("{mode: Audit, exclude: [a]}", "spec.exclude", "unknown field \"spec.exclude\""),
            ("{mode: Audit, dns: {port: [53]}}", "spec.dns.port", "unknown field \"spec.dns.port\"; did you mean \"ports\"?"),
            (
                "{mode: Audit, policies: DefaultDenyIngress}",
                "spec.policies",
                "spec.policies: Invalid value: \"string\": spec.policies in body must be of type array: \"string\"",
            ),
            (
                "{mode: Audit, policies: [DefaultDenyIngress, DefaultDenyIngress]}",
                "spec.policies",
                "spec.policies: Invalid value: name each policy once",
            ),
            (
                "{mode: Audit, rollout: {maxFailures: -1}}",
                "spec.rollout.maxFailures",
                "spec.rollout.maxFailures: Invalid value: -1: spec.rollout.maxFailures in body should be greater than or equal to 0",
            ),
            (
                "{mode: Audit, priority: 3000000000}",
                "spec.priority",
                "spec.priority: Invalid value: 3000000000: Checked value must be of type integer with format int32 in spec.priority",
            ),
            (
                "{mode: Audit, namespaceSelector: {matchLabels: {a b: c}}}",
                "spec.namespaceSelector",
                "spec.namespaceSelector: \"a b\" is no label key: use letters, digits, '-', '_' and '.', at most 63, with a letter or digit at both ends",
            ),
        ] {
            assert_eq!(of_spec(spec), [(path.to_owned(), message.to_owned())], "{spec}");
        }
    }

    #[test]
    fn an_opt_out_is_refused_by_the_same_code() {
        let of = |spec: &str| {
            refused(&format!("apiVersion: {VERSION}\nkind: BaselineOptOut\nmetadata: {{name: x, namespace: shop}}\nspec: {spec}"))
        };
        let good = "{policies: [DefaultDenyEgress], reason: the importer calls partners, expiresAt: 2026-03-01T00:00:00Z}";
        assert_eq!(of(good), []);
        let messages = |spec: &str| of(spec).into_iter().map(|(_, message)| message).collect::<Vec<_>>();
        assert_eq!(
            messages(&good.replace("2026-03-01T00:00:00Z", "14d")),
            [
                "spec.expiresAt: Invalid value: write a time of the calendar with its zone, as in 2026-03-01T00:00:00Z; a duration such as 14d is none"
            ]
        );
        assert_eq!(
            messages(&good.replace("the importer calls partners", "why not")),
            ["spec.reason: Invalid value: say in at least 20 characters why the namespace needs this, for whoever reviews it"]
        );
        let generated = |name: &str| {
            refused(&format!(
                "apiVersion: {VERSION}\nkind: BaselineOptOut\nmetadata: {{{name}, namespace: shop, lables: {{}}}}\nspec: {good}"
            ))
        };
        let typo = ("metadata.lables".to_owned(), "unknown field \"metadata.lables\"; did you mean \"labels\"?".to_owned());
        assert_eq!(generated("generateName: importer-"), std::slice::from_ref(&typo));
        assert_eq!(generated("generateName: Importer-")[1].0, "metadata.generateName");
        assert_eq!(generated("annotations: {}")[0].0, "metadata.name");
        let other = refused(&format!("apiVersion: {GROUP}/v1\nkind: PolicyBaseline\nmetadata: {{name: x}}"));
        assert_eq!(other[0].0, "apiVersion");
    }
}
