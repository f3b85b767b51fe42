//! The pages of the docs: each is in `docs/SUMMARY.md`, each link leads to something, and the references are those of the CRDs and of
//! the commands. `make site` writes the pages as a site.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod api;
mod cli;
mod markdown;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use markdown::{anchors, links};

const SUMMARY: &str = "docs/SUMMARY.md";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Compares `actual` with a file of the repository. With `GOLDEN=accept` in the environment, it writes the file instead.
fn golden(path: &str, actual: &str) {
    let file = root().join(path);
    if env::var("GOLDEN").as_deref() == Ok("accept") {
        fs::write(&file, actual).unwrap();
        return;
    }
    let stored = fs::read_to_string(&file).unwrap_or_default();
    let differs = stored.lines().zip(actual.lines()).find(|(old, new)| old != new);
    assert!(stored == actual, "{path} is out of date: make generate. The first lines that differ: {differs:?}");
}

/// The pages in a folder and its folders, by their path in the repository.
fn pages(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from(folder)];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(root().join(&dir)).unwrap().map(Result::unwrap) {
            let path = dir.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// A path without its `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path {
        if part == ".." {
            assert!(plain.pop(), "{} leaves the repository", path.display());
        } else if part != "." {
            plain.push(part);
        }
    }
    plain
}

#[test]
fn the_summary_names_every_page_once_and_no_other() {
    let mut named: Vec<PathBuf> = links(&text(Path::new(SUMMARY))).iter().map(|link| Path::new("docs").join(link)).collect();
    named.sort();
    let pages: Vec<PathBuf> = pages("docs").into_iter().filter(|page| page != Path::new(SUMMARY)).collect();
    let lacks = pages.iter().find(|page| !named.contains(page));
    let more = named.iter().find(|page| !pages.contains(page));
    assert_eq!((lacks, more), (None, None), "a page that {SUMMARY} does not name, and one that does not exist");
    assert_eq!(named, pages, "{SUMMARY} names a page twice");
}

/// What the site holds beside the pages, as `docs/site.sh` says it.
fn held() -> Vec<PathBuf> {
    let script = text(Path::new("docs/site.sh"));
    let list = script.lines().find_map(|line| line.strip_prefix("holds=(")).unwrap();
    list.trim_end_matches(')').split(' ').map(PathBuf::from).collect()
}

#[test]
fn every_link_leads_to_a_file_that_the_site_holds_and_to_a_heading_that_exists() {
    let held = held();
    let mut headings = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut followed = 0;
    for page in pages("docs").into_iter().chain(["README.md", "CHANGELOG.md"].map(PathBuf::from)) {
        for link in links(&text(&page)).into_iter().filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').map_or((&*link, None), |(path, anchor)| (path, Some(anchor)));
            let target = if path.is_empty() { page.clone() } else { plain(&page.parent().unwrap().join(path)) };
            let told = |why: &str| format!("{}: ({link}) {why}", page.display());
            if !root().join(&target).exists() {
                wrong.push(told("leads to no file"));
            } else if !held.iter().any(|held| target.starts_with(held)) {
                wrong.push(told("leads to a file that docs/site.sh does not take along"));
            } else if let Some(anchor) = anchor {
                let headings = headings.entry(target.clone()).or_insert_with(|| anchors(&text(&target)));
                if !headings.contains(anchor) {
                    wrong.push(told("leads to no heading"));
                }
            }
            followed += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(followed > 300, "{followed}");
}

/// The manifests of a page: each YAML block with a kind.
fn manifests(page: &str) -> Vec<&str> {
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.filter(|block| block.contains("\nkind: ")).collect()
}

/// The suite `docs` gives them to a real API server.
#[test]
fn each_how_to_page_has_a_baseline_that_writes_nothing_yet_and_in_which_lint_finds_nothing() {
    let pages = pages("docs/how-to");
    assert!(pages.len() >= 9, "{pages:?}");
    for page in pages {
        let content = text(&page);
        let [baseline] = manifests(&content)[..] else { panic!("{} has several manifests, or none", page.display()) };
        assert!(baseline.contains("\n  mode: Audit\n"), "{}", page.display());
        for section in ["**What is different.**", "## Check it", "## Sources", "Looked up on 20"] {
            assert!(content.contains(section), "{} has no {section}", page.display());
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("baseline.yaml");
        fs::write(&file, baseline).unwrap();
        let mut lint = Command::new(env!("CARGO_BIN_EXE_policy-baseline"));
        let output = lint.args(["lint", "--fail-on", "info"]).arg(&file).output().unwrap();
        assert!(output.status.success(), "{}:\n{}", page.display(), String::from_utf8_lossy(&output.stdout));
    }
}
