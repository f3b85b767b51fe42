//! Runs every input of the corpus through the functions that libFuzzer calls. The file name of each of our own seeds begins with the
//! expected result.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path};

/// The largest size of the corpus in bytes, because every clone of the repository contains it.
const MOST_BYTES: usize = 300_000;

struct Input {
    name: String,
    bytes: Vec<u8>,
}

fn corpus(target: &str) -> Vec<Input> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let read =
        |path: &Path| Input { name: path.file_name().unwrap().to_string_lossy().into_owned(), bytes: fs::read(path).unwrap() };
    let inputs: Vec<Input> = fs::read_dir(dir).unwrap().map(|entry| read(&entry.unwrap().path())).collect();
    assert!(inputs.len() > 40, "{target} has {} inputs", inputs.len());
    inputs
}

/// Compares each result with the part of the file name before the dot. Files that libFuzzer named have no dot, so they have no expected
/// result.
fn replay(target: &str, find: impl Fn(&[u8]) -> String) {
    let mut wrong = Vec::new();
    for Input { name, bytes } in corpus(target) {
        println!("{target}/{name}");
        let found = find(&bytes);
        if let Some((expected, _)) = name.split_once('.')
            && expected != found
        {
            wrong.push(format!("{name}: {found}"));
        }
    }
    assert_eq!(wrong, [] as [&str; 0]);
}

#[test]
fn every_policy_of_the_corpus_is_read_and_judged() {
    replay("policy", |bytes| match policy_baseline_fuzz::policy(bytes) {
        None => "unreadable".to_owned(),
        Some(classes) => classes.first().map_or("none", |class| class.into_str()).to_owned(),
    });
}

#[test]
fn every_baseline_of_the_corpus_is_read_and_judged() {
    replay("baseline", |bytes| policy_baseline_fuzz::baseline(bytes).unwrap_or("unreadable").to_owned());
}

#[test]
fn every_opt_out_of_the_corpus_is_read_and_judged() {
    replay("opt-out", |bytes| policy_baseline_fuzz::opt_out(bytes).unwrap_or("unreadable").to_owned());
}

#[test]
fn everything_that_says_where_dns_is_in_the_corpus_is_read_and_judged() {
    replay("dns", |bytes| policy_baseline_fuzz::dns(bytes).unwrap_or("unreadable").to_owned());
}

#[test]
fn every_allow_of_the_corpus_is_read_and_judged() {
    replay("allow", |bytes| policy_baseline_fuzz::allow(bytes).unwrap_or("unreadable").to_owned());
}

#[test]
fn all_manifests_of_the_corpus_are_linted_or_compared() {
    replay("manifests", |bytes| policy_baseline_fuzz::manifests(bytes).unwrap_or("unreadable").to_owned());
}

#[test]
fn what_is_made_of_the_corpus_is_read_too() {
    mutated("policy", |bytes| policy_baseline_fuzz::policy(bytes).is_some());
    mutated("baseline", |bytes| policy_baseline_fuzz::baseline(bytes).is_some());
    mutated("opt-out", |bytes| policy_baseline_fuzz::opt_out(bytes).is_some());
    mutated("dns", |bytes| policy_baseline_fuzz::dns(bytes).is_some());
    mutated("allow", |bytes| policy_baseline_fuzz::allow(bytes).is_some());
    mutated("manifests", |bytes| policy_baseline_fuzz::manifests(bytes).is_some());
}

fn mutated(target: &str, is_read: impl Fn(&[u8]) -> bool) {
    let mut read = 0;
    for Input { name, bytes } in corpus(target) {
        for seed in 0..5 {
            let changed = policy_baseline_fuzz::mutate(&bytes, seed);
            assert_eq!(changed, policy_baseline_fuzz::mutate(&bytes, seed), "{name}");
            if let Some(changed) = changed {
                println!("{name}: {}", String::from_utf8_lossy(&changed));
                read += usize::from(is_read(&changed));
            }
        }
    }
    assert!(read > 100, "of what is made of {target} only {read} can be read");
}

#[test]
fn the_corpus_stays_small() {
    let sizes = ["policy", "baseline", "opt-out", "dns", "allow", "manifests"]
        .map(|target| corpus(target).iter().map(|input| input.bytes.len()).sum::<usize>());
    assert!(sizes.iter().sum::<usize>() < MOST_BYTES, "{sizes:?}");
}
