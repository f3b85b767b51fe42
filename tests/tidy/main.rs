//! Checks the rules of docs/ARCHITECTURE.md that the compiler does not check: which room may import which, what pure code must not use,
//! and habits. No test here has a list of files: the folder decides.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use source::{Graph, circles, code, files, production};

/// The rooms, from bottom to top. Each room imports only the rooms below it.
const ROOMS: [&str; 7] = ["api", "policy", "engine", "cluster", "operator", "cli", "main"];
/// Rooms whose code gives the same output for the same input: no client, no runtime, no clock.
const PURE: [&str; 3] = ["api", "policy", "engine"];
const IMPURE: [&str; 7] = ["kube::Client", "kube::Api", "Client::", "tokio", "Instant::now", "Timestamp::now", "SystemTime"];
/// Only tests use these.
const FOR_TESTS: [&str; 2] = ["testkit", "lib"];
/// The largest number of lines of a file.
const MAX_LINES: usize = 700;
/// A file with more lines must say at its top why it is one file.
const LONG_LINES: usize = 400;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<PathBuf> {
    files(&root().join("src"))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// The room of a file in src.
fn room(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).unwrap();
    inside.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_owned()
}

/// Whether the file contains only tests: a folder or file with a name for tests, or the properties.
fn is_for_tests(path: &Path) -> bool {
    let inside = path.strip_prefix(root().join("src")).unwrap();
    FOR_TESTS.contains(&&*room(path))
        || inside.iter().any(|part| ["tests", "properties", "model"].contains(&part.to_string_lossy().trim_end_matches(".rs")))
}

#[test]
fn each_room_imports_only_the_rooms_below_it() {
    let graph = Graph::read(&root().join("src"), false);
    let floor = |path: &Path| ROOMS.iter().position(|r| *r == room(path));
    for (path, imports) in graph.imports() {
        if is_for_tests(path) {
            continue;
        }
        let own = floor(path).unwrap_or_else(|| panic!("{} is in no room: the rooms are {ROOMS:?}", shown(path)));
        for import in imports {
            let other = floor(import).unwrap_or_else(|| panic!("{} imports {}, which is in no room", shown(path), shown(import)));
            assert!(other <= own, "{} imports {}, which is above it", shown(path), shown(import));
        }
    }
}

#[test]
fn no_two_files_import_each_other_in_a_circle() {
    let mut found: Vec<String> = Vec::new();
    for (dir, with_tests) in
        [("src", false), ("e2e/src", false), ("e2e/tests/e2e", true), ("fuzz/src", false), ("tests/tidy", true)]
    {
        let graph = Graph::read(&root().join(dir), with_tests);
        for circle in circles(&graph.imports()) {
            found.push(circle.iter().map(|path| shown(path)).collect::<Vec<_>>().join(" <-> "));
        }
    }
    assert!(found.is_empty(), "files that import each other, by way of others or directly:\n{}", found.join("\n"));
}

#[test]
fn i12_pure_rooms_see_no_client_no_runtime_and_no_clock() {
    for path in sources().iter().filter(|path| PURE.contains(&&*room(path)) && !is_for_tests(path)) {
        let text = fs::read_to_string(path).unwrap();
        for word in IMPURE {
            assert!(!code(production(&text)).contains(word), "{} mentions {word}", shown(path));
        }
    }
}

#[test]
fn no_test_is_ignored_and_none_sleeps() {
    // Built from parts, so that this file does not find itself.
    let forbidden = [["#[ign", "ore"].concat(), ["thread::sl", "eep"].concat(), ["time::sl", "eep("].concat()];
    for path in ["tests", "e2e/tests"].map(|dir| files(&root().join(dir))).concat() {
        let text = fs::read_to_string(&path).unwrap();
        for word in &forbidden {
            assert!(!text.contains(word), "{} contains {word}: await a condition", shown(&path));
        }
    }
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        let tests = &text[production(&text).len()..];
        for word in &forbidden {
            assert!(!tests.contains(word), "{} contains {word}: await a condition", shown(&path));
        }
    }
}

#[test]
fn files_stay_readable_and_say_what_they_are_for() {
    for path in ["src", "e2e", "fuzz", "tests"].map(|dir| files(&root().join(dir))).concat() {
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().count();
        assert!(lines <= MAX_LINES, "{} has {lines} lines, more than {MAX_LINES}", shown(&path));
        assert!(text.starts_with("//!"), "{} does not say what it is for", shown(&path));
        let head: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        assert!(
            lines <= LONG_LINES || head.contains("One file"),
            "{} has {lines} lines: split it, or say at its top why it is \"One file\"",
            shown(&path)
        );
    }
}

#[test]
fn no_two_types_share_a_name() {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in sources().iter().filter(|path| !is_for_tests(path)) {
        let text = fs::read_to_string(path).unwrap();
        for line in code(production(&text)).lines() {
            let line = line.trim_start();
            let line = line
                .strip_prefix("pub ")
                .or_else(|| line.split_once(") ").filter(|_| line.starts_with("pub(")).map(|l| l.1))
                .unwrap_or(line);
            let Some(rest) = ["struct ", "enum ", "trait ", "type ", "union "].iter().find_map(|kind| line.strip_prefix(kind))
            else {
                continue;
            };
            // An associated type of a trait is not a name of ours.
            if line.starts_with("type ") && text.contains(&format!("    {line}")) {
                continue;
            }
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            found.entry(name).or_default().push(shown(path));
        }
    }
    let twice: Vec<String> =
        found.into_iter().filter(|(_, at)| at.len() > 1).map(|(name, at)| format!("{name}: {}", at.join(", "))).collect();
    assert!(twice.is_empty(), "types with two meanings:\n{}", twice.join("\n"));
}

/// The compiler warns about unused items that src/lib.rs does not export. This test checks the exported ones.
#[test]
fn every_export_is_used_by_the_binary_the_suites_or_the_fuzzer() {
    let text = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let text = code(&text);
    assert!(!text.contains("pub mod "), "a public module hides what nobody uses: export names");
    let words =
        |text: &str| -> BTreeSet<String> { text.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned).collect() };
    let users = ["e2e", "fuzz", "tests"].map(|dir| files(&root().join(dir))).concat().into_iter();
    let users: BTreeSet<String> =
        users.chain([root().join("src/main.rs")]).flat_map(|path| words(&code(&fs::read_to_string(path).unwrap()))).collect();
    let (_, exports) = text.split_once("pub use self::{").unwrap();
    let exports = exports.split([',', '{', '}']).map(str::trim);
    let unused: Vec<&str> = exports
        .filter(|name| !name.is_empty() && !name.contains("::") && *name != ";")
        .filter(|name| !users.contains(*name))
        .collect();
    assert!(unused.is_empty(), "src/lib.rs exports what neither the binary nor a suite uses: {unused:?}");
}

#[test]
fn every_invariant_has_a_test_of_its_name() {
    let page = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let suites = ["src", "tests", "e2e/tests"].map(|dir| files(&root().join(dir))).concat();
    let text: String = suites.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let rows: Vec<&str> = page
        .lines()
        .filter(|line| line.strip_prefix("| I").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())))
        .collect();
    assert!(rows.len() >= 14, "docs/ARCHITECTURE.md lists the invariants");
    for row in rows {
        let name = row.split('|').nth(1).unwrap().trim();
        let is_named = text.contains(&format!("fn {}_", name.to_lowercase()));
        assert!(
            is_named != row.contains("not yet guarded"),
            "{name}: a test begins with {}_, or the row says \"not yet guarded\"",
            name.to_lowercase()
        );
    }
}

#[test]
fn what_the_linker_puts_behind_the_rest_exists() {
    let layout = fs::read_to_string(root().join("src/commands.ld")).unwrap();
    let patterns = layout
        .split_whitespace()
        .filter_map(|pattern| pattern.strip_prefix(".text.*")?.trim_end_matches(')').strip_suffix("..*"));
    let modules: Vec<_> =
        patterns.filter_map(|pattern| pattern.split_once("..")).filter(|(room, _)| ROOMS.contains(room)).collect();
    assert!(modules.len() > 20, "src/commands.ld names modules: {modules:?}");
    for (room, module) in modules {
        let path = root().join("src").join(room).join(module);
        assert!(path.is_dir() || path.with_extension("rs").is_file(), "src/commands.ld names {}", shown(&path));
        let mangled = format!("*{}{room}{}{module}*", room.len(), module.len());
        assert!(layout.contains(&mangled), "src/commands.ld needs {mangled} too");
    }
}
