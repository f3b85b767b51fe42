//! Holds the lines of docs/ARCHITECTURE.md that a compiler does not: who may import whom, what pure code must never see, and habits.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
};

const MAX_LINES: usize = 700;

/// Each module and the modules of the crate that it may import. The order is the order of the layers.
const ARROWS: [(&str, &[&str]); 23] = [
    ("digest", &[]),
    ("client", &[]),
    ("api", &[]),
    ("listing", &[]),
    ("netpol", &[]),
    ("dns", &["listing", "api"]),
    ("rollout", &["api"]),
    ("plan", &["rollout", "netpol", "dns", "api", "digest"]),
    ("drift", &["netpol", "plan", "api", "digest"]),
    ("status", &["api"]),
    ("explain", &["api"]),
    ("observe", &["listing", "drift", "plan", "api"]),
    ("metrics", &["drift", "dns", "api"]),
    ("health", &[]),
    ("admin", &["metrics", "health"]),
    ("gate", &[]),
    ("apply", &["gate", "metrics", "drift", "plan", "api"]),
    ("lease", &["apply", "client", "gate", "listing"]),
    ("events", &["apply", "metrics", "api"]),
    ("reconcile", &["apply", "observe", "drift", "status", "netpol", "plan", "api"]),
    (
        "controller",
        &[
            "reconcile",
            "apply",
            "lease",
            "gate",
            "events",
            "client",
            "admin",
            "health",
            "metrics",
            "explain",
            "observe",
            "listing",
            "drift",
            "status",
            "plan",
            "dns",
            "api",
            "digest",
            "rollout",
        ],
    ),
    ("cli", &["controller", "explain", "lease", "client", "admin", "health", "metrics", "apply", "api"]),
    ("main", &["cli"]),
];

/// Given the same input they give the same output: no client, no runtime, no clock.
const PURE: [&str; 11] =
    ["digest", "api", "listing", "netpol", "dns", "rollout", "plan", "drift", "status", "explain", "observe"];
const IMPURE: [&str; 7] = ["kube::Client", "kube::Api", "Client::", "tokio", "Instant::now", "Timestamp::now", "SystemTime"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}

/// The module at the top of src that a file belongs to.
fn module(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// What stands before the unit tests. Modules of tests that have files of their own may be named before.
fn production(text: &str) -> &str {
    const TEST: &str = "#[cfg(test)]";
    let is_code = |at: &usize| !text[at + TEST.len()..].trim_start().lines().next().unwrap_or_default().ends_with(';');
    let ends = text.match_indices(TEST).map(|(at, _)| at).find(is_code);
    &text[..ends.unwrap_or(text.len())]
}

#[test]
fn code_after_the_name_of_a_test_module_is_looked_at_too() {
    let text = "mod a;\n#[cfg(test)]\nmod a_tests;\nuse crate::b;\n#[cfg(test)]\nmod tests {}";
    assert_eq!(production(text), "mod a;\n#[cfg(test)]\nmod a_tests;\nuse crate::b;\n");
}

/// Modules of the crate that a text imports, in `use crate::{…}` of any shape and in paths.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for after in text.split("crate::").skip(1) {
        let word = |s: &str| s.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        let Some(group) = after.strip_prefix('{') else {
            found.push(word(after));
            continue;
        };
        let mut depth = 0;
        let mut item = String::new();
        for c in group.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => found.push(word(&std::mem::take(&mut item))),
                _ => item.push(c),
            }
        }
        found.push(word(&item));
    }
    found.retain(|m| !m.is_empty());
    found
}

#[test]
fn imports_are_found_in_every_shape() {
    let text = "use crate::api;\nuse crate::{drift::{a, b}, plan};\nlet x = crate::digest::Digest;";
    assert_eq!(imports(text), ["api", "drift", "plan", "digest"]);
}

#[test]
fn the_arrows_of_the_architecture_hold() {
    for path in sources(&root().join("src")) {
        let module = module(&path);
        if ["lib", "testkit", "properties"].contains(&&*module) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let (_, allowed) = ARROWS.iter().find(|(m, _)| *m == module).unwrap_or_else(|| panic!("{module} has no layer: add it"));
        for import in imports(production(&text)) {
            assert!(import == module || allowed.contains(&&*import), "{} imports {import}", path.display());
        }
    }
}

#[test]
fn i12_pure_modules_see_no_client_no_runtime_and_no_clock() {
    for path in sources(&root().join("src")).iter().filter(|p| PURE.contains(&&*module(p))) {
        let text = fs::read_to_string(path).unwrap();
        for word in IMPURE {
            assert!(!production(&text).contains(word), "{} mentions {word}", path.display());
        }
    }
}

#[test]
fn the_engine_takes_time_as_an_argument() {
    for file in [
        "engine.rs",
        "engine/backends.rs",
        "engine/baselines.rs",
        "engine/dns.rs",
        "engine/opt_outs.rs",
        "engine/outcome.rs",
        "engine/rollout.rs",
        "contest.rs",
        "opt_outs.rs",
        "pace.rs",
        "queue.rs",
        "revisions.rs",
        "tracked.rs",
    ] {
        let text = fs::read_to_string(root().join("src/controller").join(file)).unwrap();
        for word in ["Instant::now", "Timestamp::now", "SystemTime", "tokio"] {
            assert!(!production(&text).contains(word), "{file} mentions {word}");
        }
    }
}

#[test]
fn no_test_is_ignored_and_none_sleeps() {
    // Put together, so that this file does not find itself.
    let forbidden = [["#[ign", "ore"].concat(), ["thread::sl", "eep"].concat(), ["time::sl", "eep("].concat()];
    for path in ["tests", "e2e/tests"].map(|dir| sources(&root().join(dir))).concat() {
        let text = fs::read_to_string(&path).unwrap();
        for word in &forbidden {
            assert!(!text.contains(word), "{} contains {word}: await a condition", path.display());
        }
    }
    for path in sources(&root().join("src")) {
        let text = fs::read_to_string(&path).unwrap();
        let tests = &text[production(&text).len()..];
        for word in &forbidden {
            assert!(!tests.contains(word), "{} contains {word}: await a condition", path.display());
        }
    }
}

#[test]
fn files_stay_readable_and_say_what_they_are_for() {
    for path in sources(&root().join("src")) {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.lines().count() <= MAX_LINES, "{} is longer than {MAX_LINES} lines", path.display());
        assert!(text.starts_with("//!"), "{} does not say what it is for", path.display());
    }
}

#[test]
fn every_invariant_is_named_by_a_test_or_said_to_be_unguarded() {
    let page = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let suites = ["src", "tests", "e2e/tests"].map(|dir| sources(&root().join(dir))).concat();
    let text: String = suites.iter().map(|p| fs::read_to_string(p).unwrap()).collect();
    for n in 1..=14 {
        let row = page
            .lines()
            .find(|l| l.starts_with(&format!("| I{n} |")))
            .unwrap_or_else(|| panic!("I{n} is not in ARCHITECTURE.md"));
        let is_test = |name: &&str| name.contains('_') && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let guards: Vec<&str> = row.split('`').skip(1).step_by(2).filter(is_test).collect();
        assert!(!guards.is_empty() || row.contains("not yet guarded"), "I{n} names no test");
        for guard in guards {
            assert!(text.contains(&format!("fn {guard}(")), "I{n} names {guard}, which does not exist");
        }
    }
}
