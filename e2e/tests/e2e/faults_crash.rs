//! SIGKILL before and after every single write. The proxy records a run. Then the run is repeated many times: each time the proxy holds
//! another write, the operator is killed there, and the next one has to finish the work.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use policy_baseline_e2e::proxy::{Asked, Fault, Moment, Release, When};
use policy_baseline_e2e::skipped_without_audit_log;

use crate::faults::{Play, Step, alias};

const NAMESPACES: usize = 2;
/// How many times a write that does not occur in every run is tried. Two status changes may be combined into one write, and not every
/// run has a conflict.
const TRIES: u32 = 3;

/// One write of the script: the n-th of its kind in a step. Namespaces are replaced by their numbers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    step: Step,
    asked: Asked,
    nth: usize,
}

impl Point {
    /// Whether the write occurs in every run of the script. A second write of the same object follows a conflict, so it is not certain.
    /// A status write may be replaced by a later one, or the baseline may be gone before it. An event about a baseline, which is in the
    /// namespace `default`, tells of such a write.
    fn is_certain(&self) -> bool {
        let Asked { subresource, namespace, .. } = &self.asked;
        let is_event = self.asked.is_of("events");
        subresource != "status" && !(is_event && namespace == "default") && (self.nth == 1 || is_event)
    }
}

/// The writes of one step. The renewals of the Lease never end, so only the first one counts.
fn points(play: &Play, step: Step, mark: usize) -> BTreeSet<Point> {
    let mut seen: BTreeMap<Asked, usize> = BTreeMap::new();
    let writes = play.proxy.since(mark).into_iter().filter(|one| one.asked.is_write());
    let numbered = writes.map(|one| {
        let asked = alias(play.cast(), &one.asked);
        let nth = seen.entry(asked.clone()).or_default();
        *nth += 1;
        Point { step, asked, nth: *nth }
    });
    numbered.filter(|point| !point.asked.is_of("leases") || point.nth == 1).collect()
}

async fn record(play: &mut Play) -> BTreeSet<Point> {
    let mut all = BTreeSet::new();
    play.next_act(NAMESPACES).await;
    for step in Step::ALL {
        play.prepare(step).await;
        let mark = play.proxy.mark();
        play.act(step).await;
        play.converge().await;
        until_quiet(play).await;
        all.extend(points(play, step, mark));
    }
    all
}

/// Waits for some renewals of the Lease, because events are written after the changes that they report.
async fn until_quiet(play: &Play) {
    let mark = play.proxy.mark();
    let renewed = async || play.proxy.since(mark).iter().filter(|one| one.asked.is_of("leases")).count() > 2;
    play.world.eventually("the lease is renewed", policy_baseline_e2e::TIMEOUT, renewed).await.unwrap();
}

/// Plays a step and kills the operator at that point. Returns false if the step ended without this write.
async fn crash(play: &mut Play, point: &Point, moment: Moment) -> bool {
    play.prepare(point.step).await;
    let (cast, wanted) = (play.cast().to_vec(), point.asked.clone());
    play.proxy.on(move |asked| alias(&cast, asked) == wanted, When::Nth(point.nth), Fault::Hold(moment));
    play.act(point.step).await;
    let over = async {
        play.settle().await;
        until_quiet(play).await;
    };
    let held = tokio::select! {
        biased;
        held = play.proxy.until_held() => { held.unwrap(); true }
        () = over => false,
    };
    play.proxy.calm();
    if held {
        play.kill().await;
        play.proxy.release(Release::Discard).await.unwrap();
        let begun = Instant::now();
        play.start().await;
        play.settle().await;
        play.converged(begun);
    }
    held
}

/// Tries every point. A step whose points have all been tried is played without a crash.
async fn crash_everywhere(moment: Moment) {
    if skipped_without_audit_log() {
        return;
    }
    let mut play = Play::new().await;
    let all = record(&mut play).await;
    let mut left: BTreeMap<Point, u32> = all.iter().cloned().map(|point| (point, 0)).collect();
    let mut reached = 0;
    while !left.is_empty() {
        play.next_act(NAMESPACES).await;
        for step in Step::ALL {
            let Some((point, tries)) = left.iter().find(|(point, _)| point.step == step).map(|(p, n)| (p.clone(), *n)) else {
                play.perform(step).await;
                continue;
            };
            left.remove(&point);
            if crash(&mut play, &point, moment).await {
                reached += 1;
                continue;
            }
            assert!(!point.is_certain(), "it did not come to {point:?}");
            if tries + 1 < TRIES {
                left.insert(point, tries + 1);
            }
        }
    }
    for step in Step::ALL {
        println!("{step:?}: {} points", all.iter().filter(|point| point.step == step).count());
    }
    play.tell(&format!("SIGKILL {moment:?} each of {reached} of {} writes, and steps without", all.len()));
    play.finish().await;
}

#[tokio::test]
async fn an_operator_that_is_killed_before_any_of_its_writes_is_followed_by_one_that_brings_it_to_the_end() {
    crash_everywhere(Moment::Before).await;
}

#[tokio::test]
async fn an_operator_that_is_killed_after_any_of_its_writes_is_followed_by_one_that_brings_it_to_the_end() {
    crash_everywhere(Moment::After).await;
}
