//! The sources as a graph: which file defines a name, and which files a file imports.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Every Rust file below a folder.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The part of a file before its unit tests. Declarations of test modules that have their own files may come before it.
pub fn production(text: &str) -> &str {
    const TEST: &str = "#[cfg(test)]";
    let is_block = |at: &usize| {
        let next = text[at + TEST.len()..].trim_start().lines().next().unwrap_or_default();
        next.starts_with("mod ") && !next.ends_with(';')
    };
    let ends = text.match_indices(TEST).map(|(at, _)| at).find(is_block);
    &text[..ends.unwrap_or(text.len())]
}

/// The text without comments and without string literals.
pub fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(raw) = rest.strip_prefix("r#\"") {
            raw.find("\"#").map_or(rest.len(), |at| at + 5)
        } else if c == '"' {
            let mut escaped = false;
            let end = rest[1..].char_indices().find(|(_, c)| {
                let is_end = *c == '"' && !escaped;
                escaped = *c == '\\' && !escaped;
                is_end
            });
            end.map_or(rest.len(), |(at, _)| at + 2)
        } else if rest.starts_with("'\"'") {
            3
        } else {
            out.push(c);
            c.len_utf8()
        };
        rest = &rest[skipped..];
    }
    out
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// The path that a `use` names, and the name that it gets. The last part of the path may be `*`.
type Import = (Vec<String>, String);

/// The paths of a use tree, such as `a::{b, c::{d as e, self}}`.
fn tree(text: &str, prefix: &[String], found: &mut Vec<Import>) {
    let text = text.trim();
    let mut path = prefix.to_vec();
    let mut rest = text;
    while let Some((head, tail)) = rest.split_once("::").filter(|(head, _)| !head.contains('{')) {
        path.push(head.trim().to_owned());
        rest = tail.trim();
    }
    if let Some(group) = rest.strip_prefix('{') {
        let (mut depth, mut item) = (0, String::new());
        for c in group.chars() {
            match c {
                '}' if depth == 0 => break,
                ',' if depth == 0 => tree(&std::mem::take(&mut item), &path, found),
                _ => {
                    depth += i32::from(c == '{') - i32::from(c == '}');
                    item.push(c);
                }
            }
        }
        tree(&item, &path, found);
    } else if !rest.is_empty() {
        let (name, alias) = rest.split_once(" as ").unwrap_or((rest, ""));
        if name != "self" {
            path.push(name.trim().to_owned());
        }
        let known = if alias.is_empty() { path.last().cloned().unwrap_or_default() } else { alias.trim().to_owned() };
        found.push((path, known));
    }
}

/// One file of a crate.
#[derive(Debug, Default)]
struct File {
    /// The paths that the file refers to, from the root of the crate.
    paths: BTreeSet<Vec<String>>,
    /// Re-exports: the exported name, and the path of the definition.
    exports: BTreeMap<String, Vec<String>>,
}

/// A crate: its files by module.
#[derive(Debug)]
pub struct Graph {
    files: BTreeMap<Vec<String>, (PathBuf, File)>,
}

impl Graph {
    /// Reads the files below the root folder of a crate. Leaves out the tests inside files unless `with_tests`.
    pub fn read(root: &Path, with_tests: bool) -> Self {
        let mut all = BTreeMap::new();
        for path in files(root) {
            let text = fs::read_to_string(&path).unwrap();
            let text = code(if with_tests { &text } else { production(&text) });
            let module = module(root, &path);
            let file = File::read(&text, &module);
            all.insert(module, (path, file));
        }
        Self { files: all }
    }

    /// The module that defines the item at this path. Follows re-exports.
    fn home(&self, path: &[String]) -> Option<&Vec<String>> {
        let mut path = path.to_vec();
        for _ in 0..8 {
            let end = (0..=path.len()).rev().find(|end| self.files.contains_key(&path[..*end]))?;
            let (module, (_, file)) = self.files.get_key_value(&path[..end])?;
            match path.get(end).and_then(|name| file.exports.get(name)) {
                Some(target) => path = target.iter().chain(&path[end + 1..]).cloned().collect(),
                None => return Some(module),
            }
        }
        None
    }

    /// The files that each file imports.
    pub fn imports(&self) -> BTreeMap<&Path, BTreeSet<&Path>> {
        let of = |module: &Vec<String>, file: &File| {
            let homes = file.paths.iter().filter_map(|path| self.home(path));
            homes.filter(|home| *home != module).map(|home| self.files[home].0.as_path()).collect()
        };
        self.files.iter().map(|(module, (path, file))| (path.as_path(), of(module, file))).collect()
    }
}

fn module(root: &Path, path: &Path) -> Vec<String> {
    let inside = path.strip_prefix(root).unwrap().with_extension("");
    let mut module: Vec<String> = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| ["mod", "lib", "main"].contains(&&**last)) {
        module.pop();
    }
    module
}

impl File {
    fn read(text: &str, module: &[String]) -> Self {
        let mut file = Self::default();
        let absolute = |path: &[String]| -> Option<Vec<String>> {
            let mut base = module.to_vec();
            let mut rest = path;
            match path.first()?.as_str() {
                "crate" => (base, rest) = (vec![], &path[1..]),
                "self" | "super" => {
                    rest = rest.strip_prefix(&["self".to_owned()]).unwrap_or(rest);
                    while rest.first().is_some_and(|part| part == "super") {
                        base.pop();
                        rest = &rest[1..];
                    }
                }
                _ => return None,
            }
            base.extend_from_slice(rest);
            Some(base)
        };
        let mut outside = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("use ") {
            let before = &rest[..at];
            let starts_line = before.rsplit('\n').next().is_some_and(|line| {
                let line = line.trim();
                line.is_empty() || line.starts_with("pub")
            });
            let end = rest[at..].find(';').map_or(rest.len(), |end| at + end);
            if !starts_line {
                outside.push_str(&rest[..at + 4]);
                rest = &rest[at + 4..];
                continue;
            }
            outside.push_str(before);
            let line = before.rsplit('\n').next().unwrap_or_default();
            let is_public = line.contains("pub");
            let is_in_block = line.starts_with(' ');
            let mut found = Vec::new();
            tree(&rest[at + 4..end], &[], &mut found);
            for (mut path, known) in found {
                // A module inside a block, such as `mod tests`, is one level deeper.
                if is_in_block && path.first().is_some_and(|first| first == "super") {
                    path[0] = "self".into();
                }
                // `use child::Name` is relative to its module. A path of another crate then resolves to the module itself.
                let path = absolute(&path).unwrap_or_else(|| module.iter().chain(&path).cloned().collect());
                if is_public {
                    file.exports.insert(known, path);
                } else {
                    file.paths.insert(path);
                }
            }
            rest = &rest[end..];
        }
        outside.push_str(rest);
        for root in ["crate::", "super::"] {
            for (at, _) in outside.match_indices(root) {
                if outside[..at].ends_with("super::") || outside[..at].ends_with('$') {
                    continue;
                }
                let mut path = Vec::new();
                let mut rest = &outside[at..];
                loop {
                    let part = word(rest);
                    path.push(part.to_owned());
                    rest = &rest[part.len()..];
                    match rest.strip_prefix("::") {
                        Some(after) if !word(after).is_empty() => rest = after,
                        _ => break,
                    }
                }
                file.paths.extend(absolute(&path));
            }
        }
        file
    }
}

/// The import cycles: groups of files in which every file imports every other one, directly or indirectly.
pub fn circles<'a>(imports: &BTreeMap<&'a Path, BTreeSet<&'a Path>>) -> Vec<Vec<&'a Path>> {
    let reached = |from: &'a Path| {
        let mut found: BTreeSet<&'a Path> = BTreeSet::new();
        let mut open: Vec<&'a Path> = imports[from].iter().copied().collect();
        while let Some(next) = open.pop() {
            if found.insert(next) {
                open.extend(&imports[next]);
            }
        }
        found
    };
    let all: BTreeMap<&Path, BTreeSet<&Path>> = imports.keys().map(|file| (*file, reached(file))).collect();
    let mut seen: BTreeSet<&Path> = BTreeSet::new();
    let mut found = Vec::new();
    for (file, reaches) in &all {
        if reaches.contains(file) && !seen.contains(file) {
            let circle: Vec<&Path> = reaches.iter().copied().filter(|other| all[other].contains(file)).collect();
            seen.extend(circle.iter().copied());
            found.push(circle);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_what_is_neither_comment_nor_quoted() {
        assert_eq!(code("a // crate::b\n\"crate::c \\\" d\" e r#\"f\"# g '\"' h"), "a \n e  g  h");
    }

    #[test]
    fn a_use_tree_names_each_path_with_its_alias() {
        let mut found = Vec::new();
        tree("crate::{a::{self, B as C}, d::*}", &[], &mut found);
        let found: Vec<String> = found.into_iter().map(|(path, known)| format!("{} {known}", path.join("::"))).collect();
        assert_eq!(found, ["crate::a a", "crate::a::B C", "crate::d::* *"]);
    }

    #[test]
    fn a_name_is_at_home_where_it_is_defined_not_where_it_is_passed_on() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("lib.rs", "pub mod a;\npub mod b;\n");
        write("a/mod.rs", "mod inner;\npub use inner::Thing;\nuse crate::b::Other;\n");
        write("a/inner.rs", "pub struct Thing;\n#[cfg(test)]\nmod tests { use crate::b::Other; }\n");
        write("b.rs", "fn f() -> crate::a::Thing {}\n");
        let graph = Graph::read(dir.path(), false);
        let imports = graph.imports();
        let of = |name: &str| -> Vec<PathBuf> {
            let found = &imports[&*dir.path().join(name)];
            found.iter().map(|path| path.strip_prefix(dir.path()).unwrap().to_owned()).collect()
        };
        assert_eq!(of("b.rs"), [Path::new("a/inner.rs")]);
        assert_eq!(of("a/mod.rs"), [Path::new("b.rs")]);
        assert!(of("a/inner.rs").is_empty() && circles(&imports).is_empty());
        write("a/inner.rs", "use crate::b;\npub struct Thing;\n");
        let graph = Graph::read(dir.path(), false);
        assert_eq!(circles(&graph.imports()), [vec![&*dir.path().join("a/inner.rs"), &*dir.path().join("b.rs")]]);
    }
}
