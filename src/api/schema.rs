//! Schemas that derive macros cannot make: limits for lists, maps and texts. Without them, the API server rejects CEL rules on those.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use strum::VariantArray;

use super::names::Role;

/// A count. The format is int32 because Kubernetes has no unsigned formats.
pub fn count(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "format": "int32", "minimum": 0, "default": 0})
}

/// The status of an object until an operator has written one, so that nobody takes the silence for success. kstatus reads
/// that of a baseline as work under way. It does not know the condition of an opt-out.
pub fn not_processed(condition: &str, kind: &str) -> Value {
    json!({"conditions": [{
        "type": condition,
        "status": "Unknown",
        "reason": NOT_PROCESSED,
        "message": format!("no operator has processed this {kind} yet: if this lasts, look whether policy-baseline runs and is ready"),
        "lastTransitionTime": "1970-01-01T00:00:00Z",
    }]})
}

/// The reason of the condition in the default status: no operator has written one yet.
pub const NOT_PROCESSED: &str = "NotProcessed";

/// Whether these are the conditions of the default status.
pub fn is_not_processed(conditions: &[Condition]) -> bool {
    conditions.iter().any(|condition| condition.reason == NOT_PROCESSED)
}

/// A map of labels.
pub fn label_map(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "maxProperties": 16, "additionalProperties": {"type": "string", "maxLength": 63}})
}

/// A map of annotations.
pub fn annotation_map(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "maxProperties": 16, "additionalProperties": {"type": "string", "maxLength": 1024}})
}

/// A list of label values.
pub fn label_values(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "maxItems": 64, "items": {"type": "string", "maxLength": 63}})
}

/// A list of namespace names and globs.
pub fn exclusions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "maxItems": 512, "items": {"type": "string", "minLength": 1, "maxLength": 63}})
}

/// What the API server accepts as a range of addresses in a NetworkPolicy: an address with bits after the prefix only by older versions.
pub const IS_CIDR: &str = "isCIDR(self) && cidr(self) == cidr(self).masked()";
/// What it says instead.
pub const WRITE_CIDR: &str =
    "write a range such as 10.0.0.0/8 or 169.254.20.10/32, without address bits after the prefix (not 10.0.0.1/8)";

/// A time as the operator reads it. The format date-time of a schema would refuse other texts without an example.
pub const IS_TIME: &str = "self.matches('^[0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|[12][0-9]))[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.,][0-9]{1,9})?([Zz]|[+-]([01][0-9]:[0-5][0-9]|2[0-3]:[0-5][0-9]|24:00))$') && (!self.matches('^[0-9]{4}-02-29') || (int(self.substring(0, 4)) % 4 == 0 && (int(self.substring(0, 4)) % 100 != 0 || int(self.substring(0, 4)) % 400 == 0)))";
/// What it says instead.
pub const WRITE_TIME: &str =
    "write a time of the calendar with its zone, as in 2026-03-01T00:00:00Z; a duration such as 14d is none";

/// A time.
pub fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "maxLength": 40})
}

/// A list of address ranges.
pub fn cidrs(_: &mut SchemaGenerator) -> Schema {
    let rules = json!([{"rule": IS_CIDR, "message": WRITE_CIDR}]);
    json_schema!({"type": "array", "maxItems": 16, "items": {"type": "string", "maxLength": 49, "x-kubernetes-validations": rules}})
}

/// Describes the ports of an egress rule: names are refused there.
pub fn numbered_ports(ports: &mut Schema) {
    if let Some(port) =
        ports.as_object_mut().and_then(|ports| ports.get_mut("items")?.pointer_mut("/properties/port/description"))
    {
        *port = "A number from 1 to 65535. Names are refused here, because network plugins do not agree on what they mean in an egress rule.".into();
    }
}

/// A list of DNS ports.
pub fn dns_ports(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "maxItems": 16, "items": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535}})
}

/// A list of notes about DNS.
pub fn dns_notes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "maxItems": 10, "items": {"type": "string", "maxLength": 512}})
}

/// A list of policies that is all three by default.
pub fn policies_or_all(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = policies(generator);
    schema.insert("default".into(), words());
    schema
}

/// A list of policies.
pub fn policies(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "maxItems": 3, "items": {"type": "string", "enum": words()}})
}

fn words() -> Value {
    Role::VARIANTS.iter().map(Role::into_str).collect()
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt;

    use crate::api::{BaselineOptOut, PolicyBaseline};

    use super::*;

    /// The words that the description of a value must contain.
    fn words_of(value: &Value) -> Vec<String> {
        match value {
            Value::Array(values) => values.iter().flat_map(words_of).collect(),
            Value::String(text) => vec![text.clone()],
            other => vec![other.to_string()],
        }
    }

    /// Checks every field below a node. `seen` counts the fields that have an enum or a default.
    fn check(path: &str, node: &Value, seen: &mut usize) {
        for (name, field) in node["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            let description = field["description"].as_str().unwrap_or_default();
            assert!(!description.is_empty(), "{path} has no description");
            let says = |word: &str| description.split(|c: char| !c.is_alphanumeric() && !"%-".contains(c)).any(|w| w == word);
            let values = [&field["enum"], &field["items"]["enum"]].into_iter().find(|values| values.is_array());
            for word in values.into_iter().flat_map(words_of) {
                assert!(says(&word), "{path} can be {word}, and its description does not say so: {description}");
            }
            if let Some(default) = field.get("default") {
                let said = description.split_once("Default:").map(|(_, said)| said.trim_start()).unwrap_or_default();
                let is_all = values.is_some_and(|values| values == default) && said.starts_with("all three");
                let is_said = is_all || words_of(default).iter().all(|word| said.starts_with(word.as_str()));
                assert!(is_said, "{path} is {default} by default, and its description does not say so: {description}");
            }
            *seen += usize::from(values.is_some() || field.get("default").is_some());
            check(&path, field, seen);
            check(&format!("{path}[]"), &field["items"], seen);
        }
    }

    #[test]
    fn kubectl_explain_names_the_values_and_the_default_of_every_field() {
        let spec = |crd: Value| crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone();
        let mut seen = 0;
        for crd in [serde_json::to_value(PolicyBaseline::crd()), serde_json::to_value(BaselineOptOut::crd())] {
            check("spec", &spec(crd.unwrap()), &mut seen);
        }
        assert!(seen > 12, "{seen} fields have values or a default");
    }

    #[test]
    fn only_the_mode_is_required() {
        let crd = serde_json::to_value(PolicyBaseline::crd()).unwrap();
        let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        assert_eq!(spec["required"], serde_json::json!(["mode"]));
        assert_eq!(spec["properties"]["mode"].get("default"), None);
    }
}
