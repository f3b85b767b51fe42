//! `docs/api-reference.md`: every field of the CRDs, with its type, its default, its limits and its description.

use std::{collections::BTreeMap, fmt::Write, path::Path};

use serde_json::Value;

use super::{golden, text};

const PAGE: &str = "docs/api-reference.md";
const HEAD: &str = "# API reference

<!-- Generated from crds/ by `make generate`; do not edit. -->

Every field of the custom resources, in the version that this repository has. `kubectl explain policybaseline.spec.mode` says the same of the
version that your cluster has. [annotated.yaml](../manifests/samples/annotated.yaml) shows each field of a baseline in use.

- A field that is *required* has no default: the API server refuses an object without it.
- At the end of each meaning are the limits that the API server checks. Below each table are the sentences with which it refuses what breaks a rule.
- `[]` behind the name of a field means: each entry of this list.
";

/// The schema of an object, whether a field holds it or a list of it, with what to add to the path.
fn object(schema: &Value) -> Option<(&Value, &'static str)> {
    let (inner, suffix) = schema.get("items").map_or((schema, ""), |items| (items, "[]"));
    inner.get("properties").is_some().then_some((inner, suffix))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('<', "\\<").replace('|', "\\|").replace('*', "\\*")
}

fn kind_of(schema: &Value) -> String {
    if let Some(items) = schema.get("items") {
        return format!("list of {}", kind_of(items));
    }
    if schema.get("x-kubernetes-int-or-string").is_some() {
        return "integer or string".to_owned();
    }
    if schema.get("additionalProperties").is_some() {
        return "map of strings".to_owned();
    }
    match (schema["type"].as_str(), schema["format"].as_str()) {
        (Some("string"), Some("date-time")) => "time".to_owned(),
        (Some(kind), _) => kind.to_owned(),
        (None, _) => "any".to_owned(),
    }
}

fn default_of(schema: &Value) -> String {
    schema.get("default").map_or_else(String::new, |value| format!("`{value}`"))
}

/// What the API server checks of a value, as a sentence for each.
fn limits(schema: &Value, of: &str) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> = values.iter().filter(|value| !value.is_null()).map(|value| format!("`{value}`")).collect();
        all.push(format!("{of}One of {}.", values.join(", ").replace('"', "")));
    }
    for (least, most, what) in [
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " entries"),
        ("", "maxProperties", " keys"),
    ] {
        let number = |key: &str| schema.get(key).and_then(Value::as_f64);
        all.extend(match (number(least), number(most)) {
            (Some(least), Some(most)) => Some(format!("{of}From {least} to {most}{what}.")),
            (Some(least), None) => Some(format!("{of}At least {least}{what}.")),
            (None, Some(most)) => Some(format!("{of}At most {most}{what}.")),
            (None, None) => None,
        });
    }
    if let Some(keys) = schema["x-kubernetes-list-map-keys"].as_array() {
        let keys: Vec<&str> = keys.iter().filter_map(Value::as_str).collect();
        all.push(format!("No two entries have the same `{}`.", keys.join("`, `")));
    }
    if let Some(items) = schema.get("items") {
        all.extend(limits(items, "Each entry: "));
    }
    all
}

/// The sentences with which the API server refuses a value.
fn refusals(schema: &Value) -> Vec<String> {
    let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    let mut all: Vec<String> = rules.filter_map(|rule| Some(one_line(rule["message"].as_str()?))).collect();
    if let Some(items) = schema.get("items").filter(|items| items.get("properties").is_none()) {
        all.extend(refusals(items));
    }
    all
}

/// The page while it is written, and where each object is described that several fields have.
#[derive(Default)]
struct Page {
    text: String,
    described: BTreeMap<String, String>,
}

/// What two objects have in common if one section can describe both: the same fields, and the same of them required.
fn key(object: &Value) -> String {
    format!("{} {}", object["properties"], object["required"])
}

impl Page {
    /// Writes the section of an object, and behind it those of the objects in it.
    fn section(&mut self, path: &str, schema: &Value) {
        let fields = schema["properties"].as_object().unwrap();
        self.described.insert(key(schema), path.to_owned());
        let description = schema["description"].as_str().map(one_line).unwrap_or_default();
        write!(self.text, "\n### `{path}`\n\n{description}\n\n| field | type | default | meaning |\n|---|---|---|---|\n")
            .unwrap();
        let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut inner = Vec::new();
        let mut refused = refusals(schema).into_iter().map(|sentence| format!("- {sentence}\n")).collect::<Vec<_>>();
        for (name, field) in fields {
            let mut meaning: Vec<String> = field["description"].as_str().map(one_line).into_iter().collect();
            meaning.extend(limits(field, ""));
            if let Some((object, suffix)) = object(field) {
                let own = format!("{path}.{name}{suffix}");
                let at = self.described.entry(key(object)).or_insert_with(|| {
                    inner.push((own.clone(), object));
                    own
                });
                meaning.push(format!("Its fields: [{at}](#{}).", at.to_lowercase().replace(['.', '[', ']'], "")));
            }
            let default = if required.contains(&&**name) { "required".to_owned() } else { default_of(field) };
            writeln!(self.text, "| `{name}` | {} | {default} | {} |", kind_of(field), meaning.join(" ")).unwrap();
            // What an object in the field breaks is in the section of that object.
            let own = if object(field).is_some() && field.get("items").is_none() { vec![] } else { refusals(field) };
            let about = |sentence: &String| sentence.strip_prefix(&format!("{name}: ")).unwrap_or(sentence).to_owned();
            refused.extend(own.iter().map(|sentence| format!("- `{name}`: {}\n", about(sentence))));
        }
        if !refused.is_empty() {
            write!(self.text, "\nThe API server refuses what breaks one of these rules:\n\n{}", refused.concat()).unwrap();
        }
        for (path, object) in inner {
            self.section(&path, object);
        }
    }
}

#[test]
fn the_api_reference_is_that_of_the_crds() {
    let mut page = Page { text: HEAD.to_owned(), ..Page::default() };
    for file in ["policybaselines", "baselineoptouts"] {
        let crd: Value = serde_yaml::from_str(&text(&Path::new("crds").join(format!("{file}.policybaseline.io.yaml")))).unwrap();
        let [version] = &crd["spec"]["versions"].as_array().unwrap()[..] else { panic!("{file} has several versions") };
        let names = &crd["spec"]["names"];
        let kind = names["kind"].as_str().unwrap();
        let schema = &version["schema"]["openAPIV3Schema"];
        let scope = if crd["spec"]["scope"] == "Cluster" { "It has no namespace." } else { "It is in a namespace." };
        let group = format!("{}/{}", crd["spec"]["group"].as_str().unwrap(), version["name"].as_str().unwrap());
        let short: Vec<&str> = names["shortNames"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let description = one_line(schema["description"].as_str().unwrap());
        let short = format!("`kubectl get {}`, or `{}`", names["plural"].as_str().unwrap(), short.join("`, `"));
        write!(page.text, "\n## {kind}\n\n`apiVersion: {group}`, `kind: {kind}`. {scope} {short}.\n\n{description}\n").unwrap();
        page.text.extend(
            refusals(schema)
                .iter()
                .map(|sentence| format!("\nThe API server refuses an object that breaks this rule: {sentence}\n")),
        );
        for part in ["spec", "status"] {
            page.section(&format!("{kind}.{part}"), &schema["properties"][part]);
        }
        let columns = version["additionalPrinterColumns"].as_array().unwrap();
        write!(
            page.text,
            "\n### Columns of `kubectl get {}`\n\n| column | meaning |\n|---|---|\n",
            names["plural"].as_str().unwrap()
        )
        .unwrap();
        for column in columns {
            let wide = if column["priority"] == 1 { " Only with `-o wide`." } else { "" };
            let meaning = column["description"].as_str().map_or_else(|| "How old the object is".to_owned(), one_line);
            writeln!(page.text, "| {} | {meaning}.{wide} |", column["name"].as_str().unwrap()).unwrap();
        }
    }
    golden(PAGE, &page.text);
}
