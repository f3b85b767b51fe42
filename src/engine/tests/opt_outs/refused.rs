//! Opt-outs whose spec keeps them from ever being in force.

use serde_json::json;

use super::{EGRESS, Shown, says, told, write};
use crate::{
    api::{opt_out::ExpiryNotice, reason::EventReason},
    engine::tests::harness::EngineHarness,
};

/// The message of the condition that was written last.
fn message(shown: &Shown) -> &str {
    shown.status["conditions"][0]["message"].as_str().unwrap()
}

#[test]
fn an_opt_out_with_a_wrong_end_is_told_once_with_an_example_of_a_right_one() {
    for (seconds, reason, words) in [
        (
            -60,
            "False Expired",
            "which was over when this opt-out was created, so it was never in force: create a new one with a later time, as in 1970-01-",
        ),
        (0, "False Expired", "as in 1970-01-"),
        (721 * 3_600, "False TooLong", "(spec.optOuts.maxDuration), that is until 1970-02-"),
    ] {
        let mut sim = EngineHarness::protected();
        let mut shown = Shown::new(&sim, seconds);
        shown.seen(&mut sim);
        sim.settle();
        assert!(sim.policies.contains_key(&("a".to_owned(), EGRESS.to_owned())), "{seconds}");
        assert_eq!(told(&mut sim), [], "not before the status says it");
        assert_eq!(says(&write(&mut sim, &mut shown).unwrap()), reason);
        assert!(message(&shown).contains(words), "{}", message(&shown));
        assert_eq!(told(&mut sim), [EventReason::OptOutNotInForce], "{seconds}");
        // Neither the same again, nor a restart.
        shown.seen(&mut sim);
        assert!(write(&mut sim, &mut shown).is_none());
        let mut next = EngineHarness::protected();
        shown.seen(&mut next);
        next.settle();
        while write(&mut next, &mut shown).is_some() {}
        assert_eq!((told(&mut sim), told(&mut next)), (vec![], vec![]), "{seconds}");
    }
}

#[test]
fn an_opt_out_that_ended_in_time_has_no_mistake() {
    let mut sim = EngineHarness::protected();
    let mut shown = Shown::new(&sim, 90);
    shown.seen(&mut sim);
    sim.settle();
    write(&mut sim, &mut shown).unwrap();
    assert_eq!(told(&mut sim), []);
    sim.pass(std::time::Duration::from_secs(91));
    sim.settle();
    while write(&mut sim, &mut shown).is_some() {}
    assert_eq!(told(&mut sim), [EventReason::OptOutExpired]);
    assert!(message(&shown).contains("applies here again"), "{}", message(&shown));
    assert!(shown.status["announced"]["steps"].as_array().unwrap().contains(&json!(ExpiryNotice::Expired)));
}
