//! The version is that of Cargo.toml, wherever a page or a manifest names it. `GOLDEN=accept` writes it there.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use regex_lite::Regex;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What surrounds our version in pages and manifests: the image, its tag in a kustomization, the names of archives, and the chart.
const PLACES: &str = r"(?m)(\b(?:policy|kubectl)-baseline[:-]|\bnewTag: |^(?:version|appVersion): )\d+\.\d+\.\d+";
/// A report of the bench says which version was measured, and that stays.
const MEASURED: &str = r"policy-baseline \d+\.\d+\.\d+, rustc";
/// Pages and manifests, where the version may stand in one of the places.
const WRITTEN: [&str; 3] = ["README.md", "docs", "manifests"];
/// Where it is never written.
const ELSEWHERE: [&str; 6] = ["Makefile", "Containerfile", "e2e", "src", "tests", "fuzz/src"];

/// The text files at a path and below it.
fn texts(path: &str) -> Vec<(PathBuf, String)> {
    fn walk(path: &Path, found: &mut Vec<(PathBuf, String)>) {
        if path.is_dir() {
            // Records say what was true when they were written.
            if path.ends_with("docs/decisions") {
                return;
            }
            for entry in fs::read_dir(path).unwrap() {
                walk(&entry.unwrap().path(), found);
            }
        } else if !path.ends_with("go.mod") && !path.ends_with("go.sum") {
            found.extend(fs::read_to_string(path).ok().map(|text| (path.to_owned(), text)));
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(path), &mut found);
    found
}

/// The line of each place that names the version, and not a longer one such as 10.1.0.0 or v1.0.1.0.
fn lines_with_version(text: &str) -> Vec<usize> {
    let names = |at: usize| {
        let (before, after) = (&text[..at], &text[at + VERSION.len()..]);
        let digit = |c: char| c.is_ascii_digit();
        !before.ends_with(|c: char| digit(c) || c == '.')
            && !after.starts_with(digit)
            && !after.strip_prefix('.').is_some_and(|rest| rest.starts_with(digit))
    };
    let found = text.match_indices(VERSION).map(|(at, _)| at).filter(|at| names(*at));
    found.map(|at| text[..at].matches('\n').count() + 1).collect()
}

#[test]
fn pages_and_manifests_name_the_version_of_the_package() {
    let (places, measured) = (Regex::new(PLACES).unwrap(), Regex::new(MEASURED).unwrap());
    let mut found = 0;
    for (path, text) in WRITTEN.map(texts).concat() {
        let right = places.replace_all(&text, format!("${{1}}{VERSION}"));
        if std::env::var("GOLDEN").as_deref() == Ok("accept") {
            if right != text {
                fs::write(&path, &*right).unwrap();
            }
            continue;
        }
        assert!(right == text, "{} names another version: run make generate", path.display());
        found += places.find_iter(&text).count();
        let others = places.replace_all(&text, "$1");
        let lines = lines_with_version(&measured.replace_all(&others, ""));
        assert!(lines.is_empty(), "{}: make generate would not write the version in lines {lines:?}", path.display());
    }
    assert!(found >= 10 || std::env::var("GOLDEN").is_ok(), "{found}");
}

#[test]
fn nothing_else_names_the_version() {
    for (path, text) in ELSEWHERE.map(texts).concat() {
        let lines = lines_with_version(&text);
        assert!(lines.is_empty(), "{}: take the version from Cargo.toml in lines {lines:?}", path.display());
    }
}
