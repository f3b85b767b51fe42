//! Faults of a request: it is late, it or its response is lost, it is refused, or it takes effect but the response says otherwise. Each
//! kind of fault happens in every step of the play; then the judge checks.

use std::time::Duration;

use policy_baseline_e2e::proxy::{Asked, Fault, Moment, When};
use policy_baseline_e2e::{Dice, skipped_without_audit_log};

use crate::faults::{Play, Step};

const NAMESPACES: usize = 3;
/// More faults than a client's own retries before it returns the error.
const MANY: usize = 8;

pub fn is_write(asked: &Asked) -> bool {
    asked.is_write() && !asked.is_of("leases")
}

pub fn is_anything(_: &Asked) -> bool {
    true
}

/// Plays one act for each fault. In every step the fault strikes, and the cluster must still converge.
async fn play_with(faults: &[Fault], about: fn(&Asked) -> bool, when: &When) {
    if skipped_without_audit_log() {
        return;
    }
    let mut play = Play::new().await;
    for fault in faults {
        play.next_act(NAMESPACES).await;
        let before = play.proxy.struck();
        for step in Step::ALL {
            play.prepare(step).await;
            play.proxy.on(about, when.clone(), *fault);
            play.act(step).await;
            play.converge().await;
            play.proxy.calm();
        }
        assert!(play.proxy.struck() - before >= Step::ALL.len(), "{fault:?} struck too seldom");
        play.tell(&format!("{fault:?} {when:?}"));
    }
    play.finish().await;
}

#[tokio::test]
async fn requests_that_come_late_are_late_and_nothing_else() {
    play_with(&[Fault::Delay(Duration::from_millis(150))], is_anything, &When::Always).await;
}

#[tokio::test]
async fn a_write_whose_connection_is_cut_before_or_after_it_took_place_is_made_good() {
    play_with(&[Fault::Cut(Moment::Before), Fault::Cut(Moment::After)], is_write, &When::First(MANY)).await;
}

#[tokio::test]
async fn a_write_that_is_refused_for_now_is_tried_until_it_is_taken() {
    let refused = [409, 410, 429].map(|code| Fault::Answer(code, Moment::Before));
    play_with(&refused, is_write, &When::First(MANY)).await;
}

#[tokio::test]
async fn a_write_that_the_apiserver_fails_at_is_tried_until_it_is_taken() {
    let failed = [500, 503, 504].map(|code| Fault::Answer(code, Moment::Before));
    play_with(&failed, is_write, &When::First(MANY)).await;
}

#[tokio::test]
async fn a_write_that_took_place_and_was_told_to_have_failed_is_found_done() {
    let lies = [Fault::Answer(500, Moment::After), Fault::Answer(504, Moment::After), Fault::Truncate];
    play_with(&lies, is_write, &When::First(MANY)).await;
}

#[tokio::test]
async fn an_operator_of_whose_requests_every_fifth_fails_in_any_way_gets_to_the_end() {
    if skipped_without_audit_log() {
        return;
    }
    let mut play = Play::new().await;
    let mut dice = Dice::from_env();
    play.next_act(NAMESPACES).await;
    for step in Step::ALL {
        play.prepare(step).await;
        let mut kinds = vec![Fault::Delay(Duration::from_millis(300)), Fault::Truncate];
        for moment in [Moment::Before, Moment::After] {
            kinds.push(Fault::Cut(moment));
            kinds.extend([409, 429, 500, 503, 504].map(|code| Fault::Answer(code, moment)));
        }
        for kind in kinds {
            let seed = dice.below(usize::MAX) as u64;
            // A watch does not end, and some of these faults wait for the end of the response.
            let about = |asked: &Asked| !asked.is_of("") && asked.verb != policy_baseline_e2e::proxy::Verb::Watch;
            play.proxy.on(about, When::Percent(2, Dice::of(seed)), kind);
        }
        // Once before there is any work, and once in the middle of it.
        play.proxy.cut_connections();
        play.act(step).await;
        play.proxy.cut_connections();
        play.converge().await;
        play.proxy.calm();
    }
    play.tell("a fifth of all requests, every kind, and all connections cut twice a step");
    play.finish().await;
}
