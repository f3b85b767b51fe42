//! Checks an object with the schema of its CRD, rules of CEL included, and says what is refused in the words of the API server.
//! The schema is the one that is generated from our types: nothing is checked that the CRD does not say.

use serde_json::{Map, Value};

use super::{cel, found::RuleHit, rule::LintRule, shape::did_you_mean};

/// What the API server does with an object before it checks it: what is null is dropped, and what is absent gets its default.
pub fn with_defaults(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            for (name, schema) in properties(schema) {
                if let (None, Some(default)) = (fields.get(name), schema.get("default")) {
                    fields.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in fields.iter_mut() {
                if let Some(schema) = field_schema(schema, name) {
                    with_defaults(value, schema);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| with_defaults(item, &schema["items"])),
        _ => {}
    }
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten()
}

/// The schema of a field.
fn field_schema<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    let known = schema["properties"].get(name);
    known.or_else(|| schema.get("additionalProperties").filter(|schema| schema.is_object()))
}

/// Checks a value. `path` names it.
pub fn check(value: &Value, schema: &Value, path: &str) -> Vec<RuleHit> {
    let mut checked = SchemaCheck::default();
    checked.value(value, schema, path);
    // A rule of CEL runs only on what has the right shape.
    if checked.0.is_empty() {
        checked.rules(value, schema, path);
    }
    checked.0
}

#[derive(Default)]
struct SchemaCheck(Vec<RuleHit>);

impl SchemaCheck {
    fn add(&mut self, path: &str, message: &str) {
        let shown = if path.is_empty() { "<nil>" } else { path };
        self.0.push(RuleHit::new(LintRule::RefusedByApiServer, path, format!("{shown}: {message}")));
    }

    fn value(&mut self, value: &Value, schema: &Value, path: &str) {
        if !self.has_type(value, schema, path) {
            return;
        }
        if let Some(values) = schema["enum"].as_array().filter(|values| !values.contains(value)) {
            let known: Vec<String> = values.iter().map(Value::to_string).collect();
            self.add(path, &format!("Unsupported value: {value}: supported values: {}", known.join(", ")));
        }
        match value {
            Value::Object(fields) => self.fields(fields, schema, path),
            Value::Array(items) => {
                self.most(items.len(), &schema["maxItems"], path);
                if let Some(least) = schema["minItems"].as_u64().filter(|least| items.len() as u64 <= least.saturating_sub(1)) {
                    self.add(path, &format!("Invalid value: {}: {path} in body should have at least {least} items", items.len()));
                }
                self.twice(items, schema, path);
                for (index, item) in items.iter().enumerate() {
                    self.value(item, &schema["items"], &format!("{path}[{index}]"));
                }
            }
            Value::String(text) => self.text(text, schema, path),
            Value::Number(number) => {
                let value = number.as_f64().unwrap_or_default();
                let (least, most) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
                let too_small = least.filter(|least| value < *least).map(|least| ("greater", least));
                let too_large = most.filter(|most| value > *most).map(|most| ("less", most));
                if let Some((words, bound)) = too_small.or(too_large) {
                    self.add(
                        path,
                        &format!("Invalid value: {number}: {path} in body should be {words} than or equal to {bound}"),
                    );
                }
            }
            Value::Bool(_) | Value::Null => {}
        }
    }

    /// Whether a value has the type of the schema.
    fn has_type(&mut self, value: &Value, schema: &Value, path: &str) -> bool {
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        if schema["x-kubernetes-int-or-string"] == true {
            let is_one = ["integer", "string"].contains(&found);
            if !is_one {
                self.add(path, &format!("Invalid value: {found:?}: {path} in body must be of type integer,string: {found:?}"));
            }
            return is_one;
        }
        let Some(wanted) = schema["type"].as_str().filter(|wanted| *wanted != found && (*wanted, found) != ("number", "integer"))
        else {
            let is_int32 = || value.as_i64().is_some_and(|number| i32::try_from(number).is_ok());
            if schema["format"] == "int32" && found == "integer" && !is_int32() {
                self.add(
                    path,
                    &format!("Invalid value: {value}: Checked value must be of type integer with format int32 in {path}"),
                );
                return false;
            }
            return true;
        };
        self.add(path, &format!("Invalid value: {found:?}: {path} in body must be of type {wanted}: {found:?}"));
        false
    }

    fn fields(&mut self, fields: &Map<String, Value>, schema: &Value, path: &str) {
        self.most(fields.len(), &schema["maxProperties"], path);
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                self.add(&below(path, name), "Required value");
            }
        }
        let keeps_all = schema["x-kubernetes-preserve-unknown-fields"] == true;
        for (name, value) in fields {
            match field_schema(schema, name) {
                Some(schema) => self.value(value, schema, &below_key(path, name)),
                None if keeps_all || schema.get("properties").is_none() => {}
                // Every object has these, and no schema of a CRD says so.
                None if path.is_empty() && ["apiVersion", "kind", "metadata"].contains(&&**name) => {}
                None => {
                    let path = below(path, name);
                    let names = properties(schema).map(|(name, _)| &**name);
                    let message = format!("unknown field {path:?}{}", did_you_mean(name, names));
                    self.0.push(RuleHit::new(LintRule::UnknownField, path, message).of_key());
                }
            }
        }
    }

    fn most(&mut self, count: usize, most: &Value, path: &str) {
        if let Some(most) = most.as_u64().filter(|most| count as u64 > *most) {
            self.add(path, &format!("Too many: {count}: must have at most {most} items"));
        }
    }

    /// Entries of a set or of a map that are there twice.
    fn twice(&mut self, items: &[Value], schema: &Value, path: &str) {
        let key = |item: &Value| match schema["x-kubernetes-list-type"].as_str() {
            Some("set") => Some(item.clone()),
            Some("map") => {
                let keys = schema["x-kubernetes-list-map-keys"].as_array()?;
                Some(keys.iter().filter_map(Value::as_str).map(|key| (key.to_owned(), item[key].clone())).collect())
            }
            _ => None,
        };
        for (index, item) in items.iter().enumerate() {
            let Some(own) = key(item) else { return };
            if items.get(..index).into_iter().flatten().any(|other| key(other).as_ref() == Some(&own)) {
                self.add(&format!("{path}[{index}]"), &format!("Duplicate value: {own}"));
            }
        }
    }

    fn text(&mut self, text: &str, schema: &Value, path: &str) {
        if let Some(most) = schema["maxLength"].as_u64().filter(|most| text.chars().count() as u64 > *most) {
            self.add(path, &format!("Too long: may not be more than {most} bytes"));
        }
        if let Some(least) = schema["minLength"].as_u64().filter(|least| (text.chars().count() as u64) < *least) {
            self.add(path, &format!("Invalid value: {text:?}: {path} in body should be at least {least} chars long"));
        }
        if let Some(pattern) = schema["pattern"].as_str()
            && cel::matches(pattern, text) == Ok(false)
        {
            self.add(path, &format!("Invalid value: {text:?}: {path} in body should match '{pattern}'"));
        }
    }

    /// The rules of CEL of a value and of what is in it.
    fn rules(&mut self, value: &Value, schema: &Value, path: &str) {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let (text, message) = (rule["rule"].as_str().unwrap_or_default(), rule["message"].as_str().unwrap_or_default());
            match cel::holds(text, value) {
                Ok(true) => {}
                Ok(false) => self.add(path, &format!("Invalid value: {message}")),
                Err(why) => self.add(path, &format!("Invalid value: rule evaluation error: {why} in {text}")),
            }
        }
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    if let Some(schema) = field_schema(schema, name) {
                        self.rules(value, schema, &below_key(path, name));
                    }
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.rules(item, &schema["items"], &format!("{path}[{index}]"));
                }
            }
            _ => {}
        }
    }
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.into() } else { format!("{path}.{name}") }
}

/// The path of a field; a key of a map may have dots.
fn below_key(path: &str, name: &str) -> String {
    if name.contains(['.', '/']) { format!("{path}[{name}]") } else { below(path, name) }
}
