//! Which fields of a spec a stored CRD has. A CRD of an earlier version lacks some, and the API server cuts them off every object that it
//! serves or stores, without changing its generation. Then a baseline looks as if its owner had removed them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use kube::CustomResourceExt;
use serde::Deserialize;
use serde_json::Value;

use super::PolicyBaseline;

/// The served versions of a CRD, with nothing of their schemas but the names of fields.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct CrdVersions(Vec<CrdVersion>);

#[derive(Clone, Debug, Deserialize)]
struct CrdVersion {
    name: String,
    #[serde(default)]
    served: bool,
    #[serde(default)]
    schema: Option<CrdSchema>,
}

#[derive(Clone, Debug, Deserialize)]
struct CrdSchema {
    #[serde(default, rename = "openAPIV3Schema")]
    root: Fields,
}

/// The fields of an object, or of the entries of a list.
#[derive(Clone, Debug, Default, Deserialize)]
struct Fields {
    #[serde(default)]
    properties: BTreeMap<String, Self>,
    #[serde(default)]
    items: Option<Box<Self>>,
    #[serde(default, rename = "x-kubernetes-preserve-unknown-fields")]
    keeps_all: bool,
}

impl Fields {
    /// Notes the paths that these fields have and `served` lacks; of a lost field no field inside it.
    fn missing_in(&self, served: &Self, path: &str, missing: &mut BTreeSet<String>) {
        if served.keeps_all {
            return;
        }
        for (name, known) in &self.properties {
            let path = format!("{path}.{name}");
            match served.properties.get(name) {
                Some(served) => known.missing_in(served, &path, missing),
                None => drop(missing.insert(path)),
            }
        }
        if let (Some(known), Some(served)) = (&self.items, &served.items) {
            known.missing_in(served, &format!("{path}[]"), missing);
        }
    }

    /// The first field of a value that these fields lack, as a path below `path`.
    fn unknown_in(&self, value: &Value, path: &str) -> Option<String> {
        if self.keeps_all {
            return None;
        }
        match value {
            // A map, such as labels, has no named fields.
            Value::Object(fields) if !self.properties.is_empty() => fields.iter().find_map(|(name, value)| {
                let path = format!("{path}.{name}");
                self.properties.get(name).map_or(Some(path.clone()), |known| known.unknown_in(value, &path))
            }),
            Value::Array(entries) => {
                let known = self.items.as_ref()?;
                entries.iter().enumerate().find_map(|(index, value)| known.unknown_in(value, &format!("{path}[{index}]")))
            }
            _ => None,
        }
    }
}

/// The first field of the spec of a baseline that its CRD does not have, as a path such as `spec.dns.peer`.
pub fn unknown_field(spec: &Value) -> Option<String> {
    let versions = KNOWN.get(PolicyBaseline::crd_name())?;
    let fields = versions.0.first()?.schema.as_ref()?.root.properties.get("spec")?;
    fields.unknown_in(spec, "spec")
}

/// What this version of the operator knows of its CRDs, by their names. A test compares the file with the CRDs. To make their schemas at each
/// start took 5 % of its CPU time with 1,000 namespaces.
static KNOWN: LazyLock<BTreeMap<String, CrdVersions>> =
    LazyLock::new(|| serde_json::from_str(include_str!("crd_fields.json")).unwrap_or_default());

/// Whether that is a CRD of the operator.
pub fn is_ours(crd: &str) -> bool {
    crd.ends_with(".policybaseline.io")
}

impl CrdVersions {
    /// The fields below `spec` that this version of the operator knows and that CRD lacks, as paths such as `spec.rollout`, sorted. Empty for
    /// other CRDs, and for a version that is not served: its watch says so.
    pub fn missing_fields(&self, crd: &str) -> Vec<String> {
        let mut missing = BTreeSet::new();
        for known in KNOWN.get(crd).map(|known| known.0.as_slice()).unwrap_or_default() {
            let served = self.0.iter().find(|version| version.name == known.name && version.served);
            let spec = |version: &CrdVersion| Some(version.schema.as_ref()?.root.properties.get("spec")?.clone());
            if let (Some(served), Some(known)) = (served, spec(known)) {
                known.missing_in(&spec(served).unwrap_or_default(), "spec", &mut missing);
            }
        }
        missing.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;
    use crate::{api::BaselineOptOut, testkit::golden};

    /// The names of fields in a schema, and nothing else.
    fn fields(schema: &Value) -> Value {
        let mut found = Map::new();
        if let Some(properties) = schema["properties"].as_object() {
            let all: Map<_, _> = properties.iter().map(|(name, schema)| (name.clone(), fields(schema))).collect();
            found.insert("properties".to_owned(), all.into());
        }
        if schema["items"].is_object() {
            found.insert("items".to_owned(), fields(&schema["items"]));
        }
        if let Some(keeps_all) = schema.get("x-kubernetes-preserve-unknown-fields") {
            found.insert("x-kubernetes-preserve-unknown-fields".to_owned(), keeps_all.clone());
        }
        found.into()
    }

    #[test]
    fn the_fields_that_are_known_are_those_of_the_crds() {
        let crds = [PolicyBaseline::crd(), BaselineOptOut::crd()].map(|crd| {
            let version = |version: &Value| {
                let schema = json!({ "openAPIV3Schema": fields(&version["schema"]["openAPIV3Schema"]) });
                json!({ "name": version["name"], "served": version["served"], "schema": schema })
            };
            let versions = serde_json::to_value(crd.spec.versions).unwrap();
            (crd.metadata.name.unwrap(), Value::from(versions.as_array().unwrap().iter().map(version).collect::<Vec<_>>()))
        });
        let text = serde_json::to_string(&Map::from_iter(crds)).unwrap() + "\n";
        golden("src/api/crd_fields.json", &text);
    }

    fn stored(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut versions = serde_json::to_value(PolicyBaseline::crd().spec.versions).unwrap();
        change(&mut versions[0]);
        serde_json::from_value::<CrdVersions>(versions).unwrap().missing_fields("policybaselines.policybaseline.io")
    }

    fn spec(version: &mut Value) -> &mut Value {
        &mut version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    }

    #[test]
    fn a_crd_of_this_version_lacks_nothing_and_one_of_a_later_version_neither() {
        assert_eq!(stored(|_| ()), [""; 0]);
        assert_eq!(stored(|version| spec(version)["properties"]["later"] = json!({"type": "string"})), [""; 0]);
    }

    #[test]
    fn every_field_that_a_crd_lacks_is_named_once_with_its_path() {
        let missing = stored(|version| {
            let properties = &mut spec(version)["properties"];
            properties.as_object_mut().unwrap().remove("rollout");
            properties["dns"]["properties"]["peers"]["items"]["properties"].as_object_mut().unwrap().remove("ipBlock");
        });
        assert_eq!(missing, ["spec.dns.peers[].ipBlock", "spec.rollout"]);
    }

    #[test]
    fn what_is_kept_though_no_schema_names_it_is_not_missing() {
        assert_eq!(stored(|version| *spec(version) = json!({"x-kubernetes-preserve-unknown-fields": true})), [""; 0]);
        assert_eq!(stored(|version| version["served"] = false.into()), [""; 0]);
    }
}
