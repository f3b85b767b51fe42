//! Reads YAML and JSON into trees in which each value knows its line and column. Plain words mean what they mean to Kubernetes, which reads
//! YAML 1.1: `yes` and `on` are booleans, and `0644` is octal.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::{
    plain::plain,
    tree::{TextPlace, YamlEntry, YamlNode, YamlValue},
};
use crate::policy::preview::template_hint;

/// Objects are never as deep, and what is deeper is not read: no input may exhaust the stack.
const DEEPEST: usize = 128;
/// What the parser says of brackets that are nested deeper than it can count.
const TOO_DEEP: &str = "recursion limit exceeded";
/// The end of the sentence about a key that is set twice.
pub const SET_TWICE: &str = "is already set in this map";
/// So many values may be copied for anchors and aliases in one file.
const MOST_COPIED: usize = 100_000;

/// Why a text cannot be read to its end, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct YamlProblem {
    pub place: TextPlace,
    pub message: String,
}

/// The documents of a text, and why others cannot be read.
pub fn documents(text: &str) -> (Vec<YamlNode>, Vec<YamlProblem>) {
    let (mut documents, mut problems) = (Vec::new(), Vec::new());
    let mut copied = 0;
    for (first_line, document) in split(text) {
        match read(document, first_line, &mut copied) {
            Ok(nodes) => documents.extend(nodes),
            Err((mut problem, is_of_syntax)) => {
                // Some files are no YAML by the standard, and kubectl reads them. Then the places of their values are not known.
                let lenient = is_of_syntax.then(|| lenient(document, first_line)).flatten();
                if let Some(node) = lenient {
                    documents.push(node);
                } else {
                    problem.message.push_str(template_hint(document));
                    problems.push(problem);
                }
            }
        }
    }
    (documents, problems)
}

/// The documents, each with the number of its first line. A line that begins with three hyphens can only begin a document.
fn split(text: &str) -> Vec<(usize, &str)> {
    if let Some(objects) = json_objects(text) {
        return objects;
    }
    let mut documents = Vec::new();
    let (mut first_line, mut begins, mut at, mut has_content) = (1, 0, 0, false);
    for (line, number) in text.split_inclusive('\n').zip(1..) {
        let is_mark = line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        if is_mark && has_content {
            documents.push((first_line, &text[begins..at]));
            (first_line, begins, has_content) = (number, at, false);
        }
        let content = if is_mark { line.trim_start_matches("---") } else { line }.trim();
        has_content |= !content.is_empty() && !content.starts_with(['#', '%']);
        at += line.len();
    }
    if has_content {
        documents.push((first_line, &text[begins..]));
    }
    documents
}

/// The objects of a text that has several objects of JSON, one after the other. kubectl reads them, and jq writes them.
fn json_objects(text: &str) -> Option<Vec<(usize, &str)>> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let mut objects = serde_json::Deserializer::from_str(text).into_iter::<serde::de::IgnoredAny>();
    let (mut found, mut begins, mut line) = (Vec::new(), 0, 1);
    while let Some(object) = objects.next() {
        object.ok()?;
        let end = objects.byte_offset();
        let whole = &text[begins..end];
        let leading = whole.len() - whole.trim_start().len();
        let first_line = line + whole[..leading].matches('\n').count();
        found.push((first_line, &whole[leading..]));
        line += whole.matches('\n').count();
        begins = end;
    }
    (found.len() > 1).then_some(found)
}

/// Reads a document. An error says whether the syntax is wrong. `copied` counts the values that were copied in the file.
fn read(document: &str, first_line: usize, copied: &mut usize) -> Result<Vec<YamlNode>, (YamlProblem, bool)> {
    let mut reader = YamlReader { first_line, copied: *copied, ..YamlReader::default() };
    let result = events(&mut reader, document);
    *copied = reader.copied;
    result.map(|()| reader.documents)
}

fn events(reader: &mut YamlReader, document: &str) -> Result<(), (YamlProblem, bool)> {
    for event in Parser::new_from_str(document) {
        match event {
            Ok((event, span)) => reader.take(event, span).map_err(|problem| (problem, false))?,
            Err(error) => {
                let place = reader.place_of(Span::empty(*error.marker()));
                // Other parsers would look at each bracket again for each word that follows.
                if error.info() == TOO_DEEP {
                    return Err((deeper(place), false));
                }
                return Err((YamlProblem { place, message: error.info().to_owned() }, true));
            }
        }
    }
    Ok(())
}

fn deeper(place: TextPlace) -> YamlProblem {
    YamlProblem { place, message: format!("it is nested deeper than {DEEPEST} levels") }
}

/// Reads a document as other parsers do.
fn lenient(document: &str, first_line: usize) -> Option<YamlNode> {
    let value: serde_json::Value = serde_yaml::from_str(document).ok()?;
    let content = document.lines().position(|line| !line.trim().is_empty() && !line.starts_with(['#', '-'])).unwrap_or_default();
    Some(YamlNode::from_json(value, TextPlace::new(first_line + content, 1, 1)))
}

/// A list or a map that is not complete yet.
#[derive(Debug)]
struct OpenNode {
    place: TextPlace,
    anchor: usize,
    parts: OpenParts,
}

#[derive(Debug)]
enum OpenParts {
    List(Vec<YamlNode>),
    Map(OpenMap),
}

#[derive(Debug, Default)]
struct OpenMap {
    entries: Vec<YamlEntry>,
    /// Their keys.
    known: HashSet<String>,
    /// The key whose value comes next.
    key: Option<(String, TextPlace)>,
    /// What is merged into it, when it is complete.
    merged: Vec<YamlNode>,
}

#[derive(Debug, Default)]
struct YamlReader {
    /// The number of the first line of the document in its file.
    first_line: usize,
    documents: Vec<YamlNode>,
    open: Vec<OpenNode>,
    anchors: HashMap<usize, YamlNode>,
    copied: usize,
}

impl YamlReader {
    fn take(&mut self, event: Event, span: Span) -> Result<(), YamlProblem> {
        let place = self.place_of(span);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = style != ScalarStyle::Plain || tag.is_some_and(|tag| tag.suffix == "str");
                // A key is its text, whatever a value of that text would be.
                if let Some(OpenNode { parts: OpenParts::Map(OpenMap { key: key @ None, .. }), .. }) = self.open.last_mut() {
                    *key = Some((text.into_owned(), place));
                    return Ok(());
                }
                let value = if is_text { YamlValue::Text(text.into_owned()) } else { plain(&text) };
                self.put(YamlNode { place, value }, anchor)
            }
            Event::SequenceStart(anchor, _) => self.begin(place, anchor, OpenParts::List(vec![])),
            Event::MappingStart(anchor, _) => self.begin(place, anchor, OpenParts::Map(OpenMap::default())),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(OpenNode { place, anchor, parts }) = self.open.pop() else { return Ok(()) };
                let value = match parts {
                    OpenParts::List(entries) => YamlValue::List(entries),
                    OpenParts::Map(OpenMap { mut entries, mut known, merged, .. }) => {
                        for node in merged {
                            merge(&mut entries, &mut known, node);
                        }
                        YamlValue::Map(entries)
                    }
                };
                self.put(YamlNode { place, value }, anchor)
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(YamlProblem { place, message: "the alias has no anchor".into() });
                };
                let node = copy(&mut self.copied, node, place)?;
                self.put(node, 0)
            }
            Event::DocumentStart(_) => {
                self.anchors.clear();
                Ok(())
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    /// Where something is in the file.
    fn place_of(&self, span: Span) -> TextPlace {
        let is_in_line = span.start.line() == span.end.line();
        let length = if is_in_line { span.end.col().saturating_sub(span.start.col()) } else { 1 };
        let line = span.start.line() + self.first_line.saturating_sub(1);
        TextPlace::new(line, span.start.col() + 1, length.max(1))
    }

    fn begin(&mut self, place: TextPlace, anchor: usize, parts: OpenParts) -> Result<(), YamlProblem> {
        if self.open.len() >= DEEPEST {
            return Err(deeper(place));
        }
        self.open.push(OpenNode { place, anchor, parts });
        Ok(())
    }

    /// Puts a complete value where it belongs.
    fn put(&mut self, node: YamlNode, anchor: usize) -> Result<(), YamlProblem> {
        if anchor != 0 {
            let copy = copy(&mut self.copied, &node, node.place)?;
            self.anchors.insert(anchor, copy);
        }
        let Some(OpenNode { place, parts, .. }) = self.open.last_mut() else {
            self.documents.push(node);
            return Ok(());
        };
        match parts {
            OpenParts::List(entries) => entries.push(node),
            OpenParts::Map(OpenMap { entries, known, key, merged }) => {
                let Some((key, key_place)) = key.take() else {
                    return Err(YamlProblem { place: node.place, message: "a key of a map must be a text".into() });
                };
                if entries.is_empty() && (key_place.line, key_place.column) == (place.line, place.column) {
                    place.length = key_place.length;
                }
                if key == "<<" {
                    merged.push(node);
                } else if !known.insert(key.clone()) {
                    return Err(YamlProblem { place: key_place, message: format!("the key {key:?} {SET_TWICE}") });
                } else {
                    entries.push(YamlEntry { key, key_place, value: node });
                }
            }
        }
        Ok(())
    }
}

/// Adds the keys of other maps that a map does not have itself.
fn merge(entries: &mut Vec<YamlEntry>, known: &mut HashSet<String>, node: YamlNode) {
    let others = match node.value {
        YamlValue::Map(others) => others,
        YamlValue::List(nodes) => return nodes.into_iter().for_each(|node| merge(entries, known, node)),
        _ => return,
    };
    for other in others {
        if known.insert(other.key.clone()) {
            entries.push(other);
        }
    }
}

/// Copies a value, unless that would be too many in this file.
fn copy(copied: &mut usize, node: &YamlNode, place: TextPlace) -> Result<YamlNode, YamlProblem> {
    *copied += node.size();
    if *copied > MOST_COPIED {
        return Err(YamlProblem { place, message: format!("anchors and aliases repeat more than {MOST_COPIED} values") });
    }
    Ok(node.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn one(text: &str) -> YamlNode {
        let (mut documents, problems) = documents(text);
        assert_eq!(problems, [], "{text}");
        assert_eq!(documents.len(), 1, "{text}");
        documents.remove(0)
    }

    fn value(text: &str) -> Value {
        one(text).to_json()
    }

    #[test]
    fn each_value_knows_its_line_and_its_column() {
        let node = one(
            "# a comment\nspec:\n  ingress:\n  - from:\n    - ipBlock: {cidr: 10.0.0.0/8}\n    - podSelector:\n        matchLabels:\n          a.b/c: x\n  empty: []\n  named:\n  - name: a\n    x: 1\n  - {name: b, x: 2}\n",
        );
        for (path, line, column, length) in [
            ("spec", 2, 1, 4),
            ("spec.ingress", 3, 3, 7),
            ("spec.ingress[0]", 4, 5, 4),
            ("spec.ingress[0].from[0].ipBlock.cidr", 5, 23, 10),
            ("spec.ingress[0].from[1]", 6, 7, 11),
            ("spec.ingress[0].from[1].podSelector.matchLabels[a.b/c]", 8, 18, 1),
            ("spec.empty", 9, 3, 5),
            ("spec.named[b].x", 13, 18, 1),
            // What is not there is where it would have to be.
            ("spec.ingress[0].ports[3].port", 4, 5, 4),
            ("spec.ingress[7]", 3, 3, 7),
        ] {
            assert_eq!(node.place_of(path), TextPlace::new(line, column, length), "{path}");
        }
    }

    #[test]
    fn plain_words_mean_what_they_mean_to_kubernetes() {
        let read = value("[yes, off, null, ~, '', 'yes', 80, 0x10, 010, -7, 1.5, 1.2.3, 2026-03-01, !!str 80, 10.0.0.1/8, 1e3]");
        let expected =
            json!([true, false, null, null, "", "yes", 80, 16, 8, -7, 1.5, "1.2.3", "2026-03-01", "80", "10.0.0.1/8", 1000]);
        assert_eq!(read, expected);
        assert_eq!(value("on: 1\n80: 2"), json!({"on": 1, "80": 2}), "a key is a text");
        assert_eq!(value("[80.0, -8.0, 8e1, -0.0, 1e15, 1e16]"), json!([80, -8, 80, 0, 1_000_000_000_000_000_i64, 1e16]));
    }

    #[test]
    fn json_is_read_and_so_are_aliases_and_merged_maps() {
        let text = json!({"kind": "List", "items": [{"a": "b\"c", "n": [1, 2.5, true, null]}, "é\u{1f980}"]}).to_string();
        assert_eq!(value(&text), serde_json::from_str::<Value>(&text).unwrap());
        let merged = value("base: &base {a: 1, b: 2}\nother: {<<: *base, b: 3}\nsame: *base\n");
        assert_eq!((&merged["other"], &merged["same"]), (&json!({"a": 1, "b": 3}), &json!({"a": 1, "b": 2})));
    }

    #[test]
    fn what_kubectl_reads_although_the_standard_does_not_is_read_without_its_places() {
        let node = one("# text\nkind: X\nconfig: '{\n  \"a\": 1\n}'\n");
        assert_eq!(node.to_json(), json!({"kind": "X", "config": "{ \"a\": 1 }"}));
        assert_eq!(node.place_of("config"), TextPlace::new(2, 1, 1));
    }

    #[test]
    fn a_mistake_has_its_place_and_the_other_documents_are_read() {
        let (read, problems) = documents("a: 1\n---\n# b\nb: [1,\n---\nc: 3\n---\n# nothing\n");
        let read: Vec<Value> = read.iter().map(YamlNode::to_json).collect();
        assert_eq!(read, [json!({"a": 1}), json!({"c": 3})]);
        assert!(problems.len() == 1 && (4..=5).contains(&problems[0].place.line), "{problems:?}");
        let problem = |text: &str| documents(text).1.remove(0);
        assert_eq!(problem("x: 1\n---\na: 1\na: 2").place, TextPlace::new(4, 1, 1));
        let problem = |text: &str| problem(text).message;
        assert_eq!(problem("a: 1\na: 2"), "the key \"a\" is already set in this map");
        assert!(problem("a: {{ .Values.x }}").ends_with("render it first, such as with helm template"));
        assert_eq!(problem(&"- ".repeat(200)), "it is nested deeper than 128 levels");
        // The parser itself would take minutes.
        for brackets in ["[", "{a: ", "[{"] {
            let deep = brackets.repeat(200_000);
            assert_eq!(problem(&deep), "it is nested deeper than 128 levels", "{brackets}");
        }
        assert_eq!(
            value(&format!("a: \"{}\"", "[".repeat(5_000)))["a"].as_str().unwrap().len(),
            5_000,
            "a text has any brackets"
        );
        let line = |i: usize| format!("k{i}: &a{i} [{}]\n", format!("*a{},", i - 1).repeat(9));
        let bomb: Vec<String> = (1..12).map(line).collect();
        let too_many = "anchors and aliases repeat more than 100000 values";
        assert_eq!(problem(&format!("k0: &a0 [1]\n{}", bomb.concat())), too_many);
        // In small parts, and by anchors alone.
        let part = format!("---\na: &a [{}]\nb: [{}]\n", "1,".repeat(100), "*a,".repeat(100));
        assert_eq!(problem(&part.repeat(20)), too_many);
        assert_eq!(problem(&format!("{}{}{}", "&a [".repeat(100), "1,".repeat(2_000), "]".repeat(100))), too_many);
    }
}
