//! JSON Schemas for kubeconform, from what the API server says of its kinds (OpenAPI v3).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use policy_baseline_e2e::World;
use serde_json::{Value, json};

/// How kubeconform finds the file of a kind. Group and version of `v1` are both `v1` to it.
pub fn location(dir: &Path) -> String {
    format!("{}/{{{{.Group}}}}-{{{{.ResourceAPIVersion}}}}-{{{{.ResourceKind}}}}.json", dir.display())
}

/// Writes the schema of each kind of these objects.
pub async fn write_schemas(world: &World, objects: &[Value], dir: &Path) {
    let text = |object: &Value, field: &str| object[field].as_str().unwrap().to_owned();
    let kinds: BTreeSet<(String, String)> =
        objects.iter().map(|object| (text(object, "apiVersion"), text(object, "kind"))).collect();
    let index = get(world, "/openapi/v3").await;
    let mut components: BTreeMap<String, Value> = BTreeMap::new();
    for (version, kind) in kinds {
        let path = if version.contains('/') { format!("apis/{version}") } else { format!("api/{version}") };
        if !components.contains_key(&path) {
            let url = index["paths"][&path]["serverRelativeURL"].as_str().unwrap_or_else(|| panic!("no {path}"));
            let mut found = get(world, url).await["components"].take();
            for schema in found["schemas"].as_object_mut().unwrap().values_mut() {
                close(schema);
            }
            components.insert(path.clone(), found);
        }
        let found = &components[&path];
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        let wanted = json!({ "group": group, "version": version, "kind": kind });
        let is_it =
            |schema: &Value| schema["x-kubernetes-group-version-kind"].as_array().is_some_and(|kinds| kinds.contains(&wanted));
        let (name, _) = found["schemas"].as_object().unwrap().iter().find(|(_, schema)| is_it(schema)).unwrap();
        let schema = json!({ "$ref": format!("#/components/schemas/{name}"), "components": found });
        let group = if group.is_empty() { version } else { group };
        fs::write(dir.join(format!("{group}-{version}-{}.json", kind.to_lowercase())), schema.to_string()).unwrap();
    }
}

async fn get(world: &World, path: &str) -> Value {
    let request = http::Request::get(path).header("Accept", "application/json").body(Vec::new()).unwrap();
    world.admin().request(request).await.unwrap()
}

/// Makes a schema refuse fields that it does not know, as the API server does. What is below `allOf` and its like only adds conditions.
fn close(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    let is_open = fields.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true));
    if fields.contains_key("properties") && !fields.contains_key("additionalProperties") && !is_open {
        fields.insert("additionalProperties".to_owned(), json!(false));
    }
    let may_be_null = fields.get("nullable") == Some(&json!(true));
    if let Some(own) = fields.get_mut("type").filter(|_| may_be_null) {
        *own = json!([own.take(), "null"]);
    }
    for property in fields.get_mut("properties").and_then(Value::as_object_mut).into_iter().flat_map(|all| all.values_mut()) {
        close(property);
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(name) {
            close(inner);
        }
    }
}
