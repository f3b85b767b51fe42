//! A tree of values that know their place in a text, and the paths that name them: `spec.ingress[0].from[1]`, and `labels[key]` for a key
//! with dots.

use serde_json::{Map, Number, Value};

/// A place in a text. Line and column begin with 1. The length is that of a word on its line.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct TextPlace {
    pub line: u32,
    pub column: u32,
    pub length: u32,
}

impl TextPlace {
    /// A place. A text of 4 GB is not read.
    pub fn new(line: usize, column: usize, length: usize) -> Self {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self { line: number(line), column: number(column), length: number(length) }
    }
}

/// A value, and where it is.
#[derive(Clone, Debug)]
pub struct YamlNode {
    pub place: TextPlace,
    pub value: YamlValue,
}

/// A value of YAML.
#[derive(Clone, Debug)]
pub enum YamlValue {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<YamlNode>),
    Map(Vec<YamlEntry>),
}

/// A key of a map, and its value.
#[derive(Clone, Debug)]
pub struct YamlEntry {
    pub key: String,
    pub key_place: TextPlace,
    pub value: YamlNode,
}

/// A part of a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum PathPart<'a> {
    Key(&'a str),
    Index(usize),
}

/// The parts of a path.
fn parts(path: &str) -> impl Iterator<Item = PathPart<'_>> {
    let mut rest = path;
    std::iter::from_fn(move || {
        let (is_in_brackets, ends): (bool, &[char]) = if rest.starts_with('[') { (true, &[']']) } else { (false, &['.', '[']) };
        let text = rest.trim_start_matches(['.', '[']);
        if text.is_empty() {
            return None;
        }
        let (part, after) = text.split_at(text.find(ends).unwrap_or(text.len()));
        rest = after.trim_start_matches(']');
        match part.parse() {
            Ok(index) if is_in_brackets => Some(PathPart::Index(index)),
            _ => Some(PathPart::Key(part)),
        }
    })
}

impl YamlNode {
    /// The value of a key, if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// The text of a key.
    pub fn text(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.value {
            YamlValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The entries, if this is a map.
    pub fn entries(&self) -> &[YamlEntry] {
        if let YamlValue::Map(entries) = &self.value { entries } else { &[] }
    }

    /// The values, if this is a list.
    pub fn items(&self) -> &[Self] {
        if let YamlValue::List(items) = &self.value { items } else { &[] }
    }

    /// The entry of a list that has this name.
    fn item_named(&self, name: &str) -> Option<&Self> {
        self.items().iter().find(|item| item.text("name") == Some(name))
    }

    /// The value at a path.
    pub fn at(&self, path: &str) -> Option<&Self> {
        parts(path).try_fold(self, |node, part| match part {
            PathPart::Key(key) => node.get(key).or_else(|| node.item_named(key)),
            PathPart::Index(index) => node.items().get(index),
        })
    }

    /// Where a value is: a text or number itself, and of a list or map its key. If there is no such value, where it would have to be.
    pub fn place_of(&self, path: &str) -> TextPlace {
        let (mut node, mut place) = (self, self.place);
        for part in parts(path) {
            let found = match part {
                PathPart::Key(key) if !node.items().is_empty() => node.item_named(key).map(|item| (item, item.place)),
                PathPart::Key(key) => node.entries().iter().find(|entry| entry.key == key).map(|entry| {
                    let is_inside = matches!(entry.value.value, YamlValue::Bool(_) | YamlValue::Number(_) | YamlValue::Text(_));
                    (&entry.value, if is_inside { entry.value.place } else { entry.key_place })
                }),
                PathPart::Index(index) => node.items().get(index).map(|item| (item, item.place)),
            };
            let Some(found) = found else { break };
            (node, place) = found;
        }
        place
    }

    /// Where the last key of a path is, if there is such a key.
    pub fn key_place(&self, path: &str, key: &str) -> Option<TextPlace> {
        self.at(path)?.entries().iter().find(|entry| entry.key == key).map(|entry| entry.key_place)
    }

    /// How many values it has, with itself.
    pub fn size(&self) -> usize {
        let inside = |nodes: &mut dyn Iterator<Item = &Self>| nodes.map(Self::size).sum::<usize>();
        1 + match &self.value {
            YamlValue::List(items) => inside(&mut items.iter()),
            YamlValue::Map(entries) => inside(&mut entries.iter().map(|entry| &entry.value)),
            _ => 0,
        }
    }

    /// A value all of which is at one place.
    pub fn from_json(value: Value, place: TextPlace) -> Self {
        let inside = |value| Self::from_json(value, place);
        let value = match value {
            Value::Null => YamlValue::Null,
            Value::Bool(value) => YamlValue::Bool(value),
            Value::Number(number) => YamlValue::Number(number),
            Value::String(text) => YamlValue::Text(text),
            Value::Array(items) => YamlValue::List(items.into_iter().map(inside).collect()),
            Value::Object(fields) => {
                let entry = |(key, value)| YamlEntry { key, key_place: place, value: inside(value) };
                YamlValue::Map(fields.into_iter().map(entry).collect())
            }
        };
        Self { place, value }
    }

    /// The value without places.
    pub fn to_json(&self) -> Value {
        match &self.value {
            YamlValue::Null => Value::Null,
            YamlValue::Bool(value) => (*value).into(),
            YamlValue::Number(number) => Value::Number(number.clone()),
            YamlValue::Text(text) => text.as_str().into(),
            YamlValue::List(items) => items.iter().map(Self::to_json).collect(),
            YamlValue::Map(entries) => {
                Value::Object(entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect::<Map<_, _>>())
            }
        }
    }

    /// The labels at a path; of what is no text, none.
    pub fn labels(&self, path: &str) -> std::collections::BTreeMap<String, String> {
        let entries = self.at(path).map(Self::entries).unwrap_or_default();
        let text = |entry: &YamlEntry| match &entry.value.value {
            YamlValue::Text(text) => Some((entry.key.clone(), text.clone())),
            _ => None,
        };
        entries.iter().filter_map(text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_keys_indices_and_keys_with_dots() {
        use PathPart::{Index, Key};
        assert_eq!(
            parts("spec.ingress[10].from[0]").collect::<Vec<_>>(),
            [Key("spec"), Key("ingress"), Index(10), Key("from"), Index(0)]
        );
        assert_eq!(parts("labels[a.b/c].x").collect::<Vec<_>>(), [Key("labels"), Key("a.b/c"), Key("x")]);
        assert_eq!(parts("").count(), 0);
    }
}
