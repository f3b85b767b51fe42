//! Within a version of the API, a release breaks no manifest, no client and no stored object of an earlier release.
//!
//! `vVERSION-RELEASE.yaml` beside this file has the CRDs of the first release with that version. Every release afterwards is compared with it, so
//! compatibility does not erode step by step. A change that breaks one of these rules needs a new version: docs/decisions/0027-how-v1beta1-comes.md.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, fs, path::Path};

use serde::Deserialize;
use serde_json::{Value, json};

mod compare;

use compare::{crd, schema};

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
}

/// The CRDs of a file, by name.
fn crds(text: &str) -> BTreeMap<String, Value> {
    let documents = serde_yaml::Deserializer::from_str(text).map(|document| Value::deserialize(document).unwrap());
    documents.map(|crd| (crd["metadata"]["name"].as_str().unwrap().to_owned(), crd)).collect()
}

#[test]
fn the_crds_are_compatible_with_those_of_the_first_release() {
    let today: BTreeMap<String, Value> = ["baselineoptouts", "policybaselines"]
        .iter()
        .flat_map(|plural| crds(&read(&format!("crds/{plural}.policybaseline.io.yaml"))))
        .collect();
    let first = crds(&read("tests/crd_compat/v1alpha1-0.1.yaml"));
    assert_eq!(first.len(), 2);
    for (name, first) in first {
        let today = today.get(&name).unwrap_or_else(|| panic!("{name} is gone"));
        let breaks = crd(&first, today);
        assert!(breaks.is_empty(), "{name} breaks what 0.1 accepted or meant:\n{}", breaks.join("\n"));
    }
}

/// What the change of one value makes of a schema with every keyword. The pointer says where; `None` removes.
fn after(at: &str, value: Option<Value>) -> Vec<String> {
    let before = json!({
        "type": "object", "required": ["mode"],
        "properties": {
            "mode": { "type": "string", "enum": ["Audit", "Enforce"], "default": "Audit" },
            "priority": { "type": "integer", "format": "int32", "minimum": 0, "maximum": 10 },
            "names": {
                "type": "array", "minItems": 1, "maxItems": 5, "x-kubernetes-list-type": "set",
                "items": { "type": "string", "minLength": 1, "maxLength": 63 },
            },
            "labels": { "type": "object", "maxProperties": 9, "additionalProperties": { "type": "string", "maxLength": 63 } },
            "port": { "x-kubernetes-int-or-string": true, "nullable": true },
            "spec": {
                "type": "object", "properties": { "a": { "type": "string", "pattern": "^a" } },
                "x-kubernetes-validations": [{ "rule": "has(self.a)", "message": "write a" }],
            },
        },
    });
    let mut changed = before.clone();
    let (parent, key) = at.rsplit_once('/').unwrap();
    let parent = changed.pointer_mut(parent).unwrap_or_else(|| panic!("{at}"));
    match (parent, value) {
        (Value::Object(fields), Some(value)) => drop(fields.insert(key.to_owned(), value)),
        (Value::Object(fields), None) => drop(fields.remove(key).unwrap()),
        (Value::Array(entries), Some(value)) => entries.push(value),
        (Value::Array(entries), None) => drop(entries.remove(key.parse().unwrap())),
        (other, _) => panic!("{at}: {other}"),
    }
    schema("", &before, &changed)
}

/// The only break that a change makes.
fn breaks(at: &str, value: Option<Value>) -> String {
    let found = after(at, value);
    let [only] = found.as_slice() else { panic!("{at}: {found:?}") };
    only.clone()
}

fn keeps(at: &str, value: Option<Value>) {
    assert_eq!(after(at, value), Vec::<String>::new(), "{at}");
}

#[test]
fn a_field_may_come_and_none_may_go_or_become_required() {
    keeps("/properties/new", Some(json!({ "type": "string", "default": "x" })));
    keeps("/required/0", None);
    assert_eq!(breaks("/properties/priority", None), ".priority: the field is gone");
    assert_eq!(breaks("/properties/spec/properties/a", None), ".spec.a: the field is gone");
    assert_eq!(breaks("/required/-", Some(json!("priority"))), ".priority: it is required now");
    assert_eq!(breaks("/properties/spec/required", Some(json!(["a"]))), ".spec.a: it is required now");
}

#[test]
fn a_type_and_what_a_value_means_stay() {
    assert_eq!(breaks("/properties/priority/type", Some(json!("string"))), ".priority: type was \"integer\", is \"string\"");
    assert_eq!(breaks("/properties/priority/format", None), ".priority: format was \"int32\", is absent");
    assert_eq!(breaks("/properties/names/items/type", Some(json!("integer"))), ".names[]: type was \"string\", is \"integer\"");
    assert_eq!(breaks("/properties/labels/additionalProperties/type", None), ".labels{}: type was \"string\", is absent");
    assert_eq!(breaks("/properties/labels/additionalProperties", None), ".labels{}: the values are gone");
    assert_eq!(breaks("/properties/names/items", None), ".names[]: the values are gone");
    assert_eq!(breaks("/properties/names/x-kubernetes-list-type", None), ".names: x-kubernetes-list-type was \"set\", is absent");
    assert_eq!(breaks("/properties/mode/default", Some(json!("Enforce"))), ".mode: default was \"Audit\", is \"Enforce\"");
    assert_eq!(breaks("/properties/mode/default", None), ".mode: default was \"Audit\", is absent");
    assert_eq!(breaks("/properties/priority/default", Some(json!(3))), ".priority: default was absent, is 3");
}

#[test]
fn a_value_that_was_accepted_is_accepted() {
    keeps("/properties/mode/enum/-", Some(json!("Report")));
    keeps("/properties/mode/enum", None);
    assert_eq!(breaks("/properties/mode/enum/1", None), ".mode: \"Enforce\" is no value of enum any more");
    assert_eq!(breaks("/properties/spec/properties/a/enum", Some(json!(["a"]))), ".spec.a: enum was absent, is [\"a\"]");
    for (at, wider, narrower, said) in [
        ("/properties/priority/minimum", json!(-1), json!(1), ".priority: minimum was 0, is 1"),
        ("/properties/priority/maximum", json!(11), json!(9), ".priority: maximum was 10, is 9"),
        ("/properties/names/minItems", json!(0), json!(2), ".names: minItems was 1, is 2"),
        ("/properties/names/maxItems", json!(6), json!(4), ".names: maxItems was 5, is 4"),
        ("/properties/names/items/minLength", json!(0), json!(2), ".names[]: minLength was 1, is 2"),
        ("/properties/names/items/maxLength", json!(64), json!(62), ".names[]: maxLength was 63, is 62"),
        ("/properties/labels/maxProperties", json!(10), json!(8), ".labels: maxProperties was 9, is 8"),
    ] {
        keeps(at, Some(wider));
        keeps(at, None);
        assert_eq!(breaks(at, Some(narrower)), said);
    }
    assert_eq!(breaks("/properties/mode/maxLength", Some(json!(7))), ".mode: maxLength was absent, is 7");
    keeps("/properties/spec/properties/a/pattern", None);
    assert_eq!(breaks("/properties/spec/properties/a/pattern", Some(json!("^b"))), ".spec.a: pattern was \"^a\", is \"^b\"");
    assert_eq!(breaks("/properties/mode/pattern", Some(json!("^A"))), ".mode: pattern was absent, is \"^A\"");
    assert_eq!(breaks("/properties/port/nullable", None), ".port: nullable was true, is absent");
    keeps("/properties/mode/nullable", Some(json!(true)));
}

#[test]
fn a_rule_may_go_or_say_more_clearly_what_it_wants_and_none_may_come() {
    keeps("/properties/spec/x-kubernetes-validations/0", None);
    keeps("/properties/spec/x-kubernetes-validations", Some(json!([{ "rule": "has(self.a)", "message": "write a, please" }])));
    let rule = json!({ "rule": "self.a == 'b'" });
    assert_eq!(breaks("/properties/spec/x-kubernetes-validations/-", Some(rule.clone())), ".spec: a new rule: self.a == 'b'");
    assert_eq!(breaks("/properties/names/x-kubernetes-validations", Some(json!([rule]))), ".names: a new rule: self.a == 'b'");
}

#[test]
fn a_version_stays_served_and_stored_objects_stay_readable() {
    let before = json!({ "spec": {
        "group": "example.com", "scope": "Cluster",
        "names": { "kind": "A", "plural": "as", "singular": "a", "shortNames": ["x"], "categories": ["all"] },
        "versions": [{ "name": "v1alpha1", "served": true, "storage": true, "subresources": { "status": {} },
            "schema": { "openAPIV3Schema": { "type": "object", "properties": { "spec": { "type": "object" } } } } }],
    } });
    assert_eq!(crd(&before, &before), Vec::<String>::new());
    let with = |at: &str, value: Value| {
        let mut changed = before.clone();
        *changed.pointer_mut(at).unwrap() = value;
        crd(&before, &changed)
    };
    assert_eq!(with("/spec/scope", json!("Namespaced")), ["scope was \"Cluster\", is \"Namespaced\""]);
    assert_eq!(with("/spec/names/kind", json!("B")), ["names.kind was \"A\", is \"B\""]);
    assert_eq!(with("/spec/names/shortNames", json!(["y"])), ["names.shortNames: \"x\" is gone"]);
    assert_eq!(with("/spec/versions/0/name", json!("v1beta1")), ["v1alpha1: the version is gone"]);
    assert_eq!(with("/spec/versions/0/served", json!(false)), ["v1alpha1: it is not served any more"]);
    assert_eq!(with("/spec/versions/0/subresources", json!({})), ["v1alpha1: subresources was {\"status\":{}}, is {}"]);
    let empty = json!({ "type": "object" });
    assert_eq!(with("/spec/versions/0/schema/openAPIV3Schema", empty), ["v1alpha1.spec: the field is gone"]);
}
