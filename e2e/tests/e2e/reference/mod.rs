//! Our engine and two others judge the same flows in the same worlds: random ones, and those of cyclonus' own test cases. Every disagreement
//! must be one of the named exceptions. `make compare` runs this; it needs no cluster.

mod compared;
mod exceptions;
mod tiers;
mod worlds;

use std::env;
use std::fs;

use compared::Comparison;
use exceptions::EXCEPTIONS;
use policy_baseline_e2e::reference::{cyclonus_cases, judge};
use policy_baseline_e2e::repo;

/// The worlds of a run, unless `REFERENCE_WORLDS` says otherwise.
const WORLDS: u64 = 10_000;
/// Of the flows in a world of cyclonus, one in so many is judged.
const ONE_IN: usize = 7;

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: write a number")))
}

#[test]
fn our_engine_and_two_others_agree_in_random_worlds() {
    let (seed, count) = (number("REFERENCE_SEED", 1), number("REFERENCE_WORLDS", WORLDS));
    let mut comparison = Comparison::default();
    judge((0..count).map(|n| worlds::world(seed, n, tiers::add)), |world, verdicts| {
        comparison.add(&world, &verdicts);
        Ok(())
    })
    .unwrap();
    comparison.print(&format!("random worlds of REFERENCE_SEED={seed}")).unwrap();
    comparison.check();
    // An exception that explains nothing is out of date, or the worlds are too tame.
    let unused = EXCEPTIONS.iter().filter(|one| count >= WORLDS && !comparison.has_met(one));
    assert_eq!(unused.map(|one| one.name).collect::<Vec<_>>(), [] as [&str; 0]);
}

#[test]
fn our_engine_and_two_others_agree_on_the_test_cases_of_cyclonus() {
    let cases = cyclonus_cases().unwrap();
    assert!(cases.len() > 800, "{} cases", cases.len());
    let mut comparison = Comparison::default();
    judge(cases.into_iter().map(|world| worlds::with_every_nth_flow(world, ONE_IN)), |world, verdicts| {
        comparison.add(&world, &verdicts);
        Ok(())
    })
    .unwrap();
    comparison.print("worlds of the test cases of cyclonus").unwrap();
    comparison.check();
}

#[test]
fn the_page_and_a_unit_test_have_each_exception() {
    let root = repo();
    let page = fs::read_to_string(root.join("docs/reference-engines.md")).unwrap();
    let tests =
        fs::read_dir(root.join("src/policy/flow/tests")).unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    let tests: String = tests.collect();
    for one in &EXCEPTIONS {
        assert!(tests.contains(&format!("fn {}()", one.pinned)), "{}: there is no test {}", one.name, one.pinned);
        for reference in one.of {
            let row = format!("| {} | {} | {} | `{}` |", reference.name(), one.name, one.why, one.pinned);
            assert!(page.lines().any(|line| line == row), "docs/reference-engines.md has no row\n{row}");
        }
    }
}
