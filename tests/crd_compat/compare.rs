//! Compares an earlier CRD with a later one. Each line of the result is one way in which the later one breaks something.

use serde_json::Value;

/// Keywords that say what a value is. No change of one is compatible.
const MEANING: [&str; 11] = [
    "type",
    "format",
    "default",
    "multipleOf",
    "x-kubernetes-int-or-string",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
    "exclusiveMinimum",
    "exclusiveMaximum",
];
/// Keywords that only refuse values: they may go, and neither come nor change.
const REFUSES: [&str; 6] = ["pattern", "uniqueItems", "allOf", "anyOf", "oneOf", "not"];
/// Keywords that only accept more: they may come, and not go.
const ACCEPTS: [&str; 2] = ["nullable", "x-kubernetes-preserve-unknown-fields"];
const LOWER_BOUNDS: [&str; 4] = ["minimum", "minLength", "minItems", "minProperties"];
const UPPER_BOUNDS: [&str; 4] = ["maximum", "maxLength", "maxItems", "maxProperties"];
/// Whose changes are judged elsewhere, or only help people.
const OTHERS: [&str; 9] = [
    "description",
    "title",
    "example",
    "enum",
    "required",
    "properties",
    "items",
    "additionalProperties",
    "x-kubernetes-validations",
];

/// What the later CRD breaks for those who use the earlier one.
pub fn crd(before: &Value, after: &Value) -> Vec<String> {
    let (before, after) = (&before["spec"], &after["spec"]);
    let mut breaks = Vec::new();
    for field in ["group", "scope"] {
        same(&mut breaks, field, &before[field], &after[field]);
    }
    for field in ["kind", "plural", "singular"] {
        same(&mut breaks, &format!("names.{field}"), &before["names"][field], &after["names"][field]);
    }
    for field in ["shortNames", "categories"] {
        for name in list(&before["names"][field]).iter().filter(|name| !list(&after["names"][field]).contains(name)) {
            breaks.push(format!("names.{field}: {name} is gone"));
        }
    }
    for version in list(&before["versions"]) {
        let name = version["name"].as_str().unwrap_or_default();
        let Some(later) = list(&after["versions"]).iter().find(|later| later["name"] == version["name"]) else {
            breaks.push(format!("{name}: the version is gone"));
            continue;
        };
        if version["served"] == true && later["served"] != true {
            breaks.push(format!("{name}: it is not served any more"));
        }
        for field in ["subresources", "selectableFields"] {
            same(&mut breaks, &format!("{name}: {field}"), &version[field], &later[field]);
        }
        breaks.extend(schema(name, &version["schema"]["openAPIV3Schema"], &later["schema"]["openAPIV3Schema"]));
    }
    breaks
}

/// What the later schema breaks at this place and below.
pub fn schema(at: &str, before: &Value, after: &Value) -> Vec<String> {
    let mut breaks = Vec::new();
    let place = |keyword: &str| format!("{at}: {keyword}");
    for keyword in MEANING {
        same(&mut breaks, &place(keyword), &before[keyword], &after[keyword]);
    }
    for keyword in REFUSES.into_iter().filter(|&keyword| !after[keyword].is_null() && after[keyword] != false) {
        same(&mut breaks, &place(keyword), &before[keyword], &after[keyword]);
    }
    for keyword in ACCEPTS.into_iter().filter(|&keyword| before[keyword] == true) {
        same(&mut breaks, &place(keyword), &before[keyword], &after[keyword]);
    }
    for (keywords, is_lower) in [(LOWER_BOUNDS, true), (UPPER_BOUNDS, false)] {
        for keyword in keywords {
            let [old, new] = [before, after].map(|schema| schema[keyword].as_f64());
            let narrows = match (old, new) {
                (_, None) => false,
                (None, Some(_)) => true,
                (Some(old), Some(new)) => {
                    if is_lower {
                        new > old
                    } else {
                        new < old
                    }
                }
            };
            if narrows {
                same(&mut breaks, &place(keyword), &before[keyword], &after[keyword]);
            }
        }
    }
    // A keyword that this comparison does not know.
    for keyword in keys(before).chain(keys(after).filter(|key| before[*key].is_null())).filter(|keyword| !is_known(keyword)) {
        same(&mut breaks, &place(keyword), &before[keyword], &after[keyword]);
    }
    if before["enum"].is_null() && !after["enum"].is_null() {
        same(&mut breaks, &place("enum"), &before["enum"], &after["enum"]);
    } else if !after["enum"].is_null() {
        for value in list(&before["enum"]).iter().filter(|value| !list(&after["enum"]).contains(value)) {
            breaks.push(format!("{at}: {value} is no value of enum any more"));
        }
    }
    for name in list(&after["required"]).iter().filter(|name| !list(&before["required"]).contains(name)) {
        breaks.push(format!("{at}.{}: it is required now", name.as_str().unwrap_or_default()));
    }
    let rules = |schema: &Value| -> Vec<Value> {
        list(&schema["x-kubernetes-validations"]).iter().map(|validation| validation["rule"].clone()).collect()
    };
    let known = rules(before);
    for rule in rules(after).iter().filter(|rule| !known.contains(rule)) {
        breaks.push(format!("{at}: a new rule: {}", rule.as_str().unwrap_or_default()));
    }
    for name in keys(&before["properties"]) {
        let (place, later) = (format!("{at}.{name}"), &after["properties"][name]);
        if later.is_null() {
            breaks.push(format!("{place}: the field is gone"));
        } else {
            breaks.extend(schema(&place, &before["properties"][name], later));
        }
    }
    for (keyword, sign) in [("items", "[]"), ("additionalProperties", "{}")] {
        let (place, later) = (format!("{at}{sign}"), &after[keyword]);
        match (&before[keyword], later) {
            (Value::Null, Value::Null) => {}
            (_, Value::Null) => breaks.push(format!("{place}: the values are gone")),
            (Value::Null, _) => breaks.push(format!("{place}: it has values now")),
            (earlier, _) => breaks.extend(schema(&place, earlier, later)),
        }
    }
    breaks
}

fn is_known(keyword: &str) -> bool {
    [&MEANING[..], &REFUSES, &ACCEPTS, &LOWER_BOUNDS, &UPPER_BOUNDS, &OTHERS].iter().any(|list| list.contains(&keyword))
}

fn same(breaks: &mut Vec<String>, what: &str, before: &Value, after: &Value) {
    let shown = |value: &Value| if value.is_null() { "absent".to_owned() } else { value.to_string() };
    if before != after {
        breaks.push(format!("{what} was {}, is {}", shown(before), shown(after)));
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn keys(value: &Value) -> impl Iterator<Item = &String> {
    value.as_object().into_iter().flat_map(|fields| fields.keys())
}
