//! Faults of a watch and of the list that it begins with. Events come late or never, streams break or expire, lists fail, are cut
//! short, or are old. Each kind of fault happens in every step of the play; then the judge checks.

use std::time::Duration;

use policy_baseline_e2e::proxy::{Asked, EventFault, Fault, Moment, Verb, When};
use policy_baseline_e2e::{Dice, Proxy, TIMEOUT, skipped_without_audit_log};
use serde_json::Value;

use crate::faults::{Play, Step};

const NAMESPACES: usize = 3;

/// The resources that the operator watches, except its Lease.
pub const WATCHED: [&str; 3] = ["namespaces", "networkpolicies", "policybaselines"];

pub fn is_watched(asked: &Asked) -> bool {
    WATCHED.iter().any(|resource| asked.is_of(resource))
}

/// Ends every watch, and lets it expire when the operator watches again. So everything is listed again.
pub fn expire_watches(proxy: &Proxy) {
    expire_watches_of(proxy, &WATCHED);
}

/// The same for these resources only.
pub fn expire_watches_of(proxy: &Proxy, kinds: &[&'static str]) {
    for &resource in kinds {
        let is_watch = move |asked: &Asked| asked.verb == Verb::Watch && asked.is_of(resource);
        proxy.on(is_watch, When::Nth(1), Fault::Answer(410, Moment::Before));
    }
    proxy.cut_watches();
}

pub fn is_list(asked: &Asked) -> bool {
    (asked.verb == Verb::List || asked.streams_a_list) && is_watched(asked)
}

pub fn any_event(asked: &Asked, _: &Value) -> bool {
    is_watched(asked)
}

/// Plays one act for each kind: in every step, that fault happens to events.
async fn play_with_events(kinds: &[(EventFault, When)]) {
    if skipped_without_audit_log() {
        return;
    }
    let mut play = Play::new().await;
    for (fault, when) in kinds {
        play.next_act(NAMESPACES).await;
        for step in Step::ALL {
            play.prepare(step).await;
            let before = play.proxy.struck();
            play.proxy.on_event(any_event, when.clone(), fault.clone());
            play.act(step).await;
            play.converge().await;
            play.proxy.calm();
            assert!(play.proxy.struck() > before, "{fault:?} did not strike in {step:?}");
        }
        play.tell(&format!("events: {fault:?} {when:?}"));
    }
    play.finish().await;
}

#[tokio::test]
async fn events_that_come_late_are_late_and_nothing_else() {
    play_with_events(&[(EventFault::Delay(Duration::from_millis(100)), When::Percent(50, Dice::of(3)))]).await;
}

#[tokio::test]
async fn a_watch_that_ends_in_the_middle_of_an_event_or_expires_goes_on_without_a_gap() {
    play_with_events(&[(EventFault::Cut, When::First(4)), (EventFault::Expire, When::First(4))]).await;
}

#[tokio::test]
async fn what_no_event_told_is_found_by_the_next_list() {
    if skipped_without_audit_log() {
        return;
    }
    let mut play = Play::new().await;
    for (lost, when) in [("all", When::Always), ("the first", When::Nth(1))] {
        play.next_act(NAMESPACES).await;
        for step in Step::ALL {
            play.prepare(step).await;
            let before = play.proxy.struck();
            play.proxy.on_event(any_event, when.clone(), EventFault::Lose);
            play.act(step).await;
            // After a restart the operator lists everything, so it may not need any event.
            if step != Step::Restart {
                play.world.eventually("an event is lost", TIMEOUT, async || play.proxy.struck() > before).await.unwrap();
            }
            play.proxy.calm();
            expire_watches(&play.proxy);
            play.converge().await;
            play.proxy.calm();
        }
        play.tell(&format!("events: {lost} lost, until the watch expires"));
    }
    play.finish().await;
}

pub const CODES: [u16; 5] = [410, 429, 500, 503, 504];

#[tokio::test]
async fn a_list_that_fails_or_is_cut_short_is_asked_for_until_it_is_whole() {
    if skipped_without_audit_log() {
        return;
    }
    let others = [Fault::Truncate, Fault::Cut(Moment::Before), Fault::Cut(Moment::After)];
    let play = Play::without_streams().await;
    play_with_lists(play, &others, "lists in pages: 410, 429, 500, 503, 504, cut short, cut before and after").await;
}

#[tokio::test]
async fn a_streaming_list_that_fails_is_asked_for_until_it_comes() {
    if skipped_without_audit_log() {
        return;
    }
    let play = Play::new().await;
    play_with_lists(play, &[Fault::Cut(Moment::Before)], "streaming lists: 410, 429, 500, 503, 504, cut before").await;
}

/// Plays a step in which everything is listed while the given faults happen.
async fn step_with_lists(play: &mut Play, step: Step, strike: impl FnOnce(&Proxy)) {
    play.prepare(step).await;
    let before = play.proxy.struck();
    strike(&play.proxy);
    // A restart lists everything anyway.
    if step != Step::Restart {
        expire_watches(&play.proxy);
    }
    play.act(step).await;
    play.converge().await;
    play.world.eventually("a list was struck", TIMEOUT, async || play.proxy.struck() > before).await.unwrap();
    play.proxy.calm();
}

/// Plays two acts. In every step a fault happens to lists.
async fn play_with_lists(mut play: Play, others: &[Fault], told: &str) {
    let codes = CODES.map(|code| Fault::Answer(code, Moment::Before));
    let mut kinds = codes.iter().chain(others).cycle();
    for _ in 0..2 {
        play.next_act(NAMESPACES).await;
        for step in Step::ALL {
            let fault = *kinds.next().unwrap();
            step_with_lists(&mut play, step, |proxy| proxy.on(is_list, When::First(2), fault)).await;
        }
    }
    play.tell(&format!("{told}, twice after an expiry"));
    play.finish().await;
}

#[tokio::test]
async fn a_streaming_list_that_ends_in_the_middle_begins_anew() {
    if skipped_without_audit_log() {
        return;
    }
    let mut play = Play::new().await;
    play.next_act(NAMESPACES).await;
    for step in Step::ALL {
        let of_a_list = |asked: &Asked, _: &Value| asked.streams_a_list && is_watched(asked);
        step_with_lists(&mut play, step, |proxy| proxy.on_event(of_a_list, When::First(2), EventFault::Cut)).await;
    }
    play.tell("streaming lists: cut in the middle of an object, twice after an expiry");
    play.finish().await;
}

#[tokio::test]
async fn an_old_list_is_overtaken_by_the_events_since() {
    if skipped_without_audit_log() {
        return;
    }
    let mut play = Play::without_streams().await;
    play.next_act(NAMESPACES).await;
    for step in Step::ALL {
        // The stale API server answers with the state before the step.
        play.proxy.remember_lists();
        expire_watches(&play.proxy);
        let listed = async || play.proxy.remembers(WATCHED.len());
        play.world.eventually("everything is listed", TIMEOUT, listed).await.unwrap();
        play.proxy.calm();
        play.prepare(step).await;
        for resource in WATCHED {
            play.proxy.on(move |asked| is_list(asked) && asked.is_of(resource), When::Nth(1), Fault::Stale);
        }
        let before = play.proxy.struck();
        play.act(step).await;
        if step != Step::Restart {
            play.settle().await;
            expire_watches(&play.proxy);
        }
        let stale = async || play.proxy.struck() >= before + WATCHED.len();
        play.world.eventually("old lists were served", TIMEOUT, stale).await.unwrap();
        play.converge().await;
        play.proxy.calm();
    }
    play.tell("lists: the state of the step before");
    play.finish().await;
}
