//! The judge of the suites that inject faults. It checks I1 to I6 with the objects in the cluster and the audit log, with clients of
//! its own. It knows what the test did, and nothing that the operator thinks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use policy_baseline::PolicyBaselineStatus;
use policy_baseline_e2e::{AuditEntry, AuditMark, TEST_LABEL, TIMEOUT, World};

use crate::scene::{Plan, condition, policies_of, tells_a_state, until_holds, until_status};
use crate::support::stored;

/// How late a write that was already decided may arrive, if no lease term limits it.
pub const RACE: Duration = Duration::from_secs(2);

pub fn age(at: Timestamp, of: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(of)).unwrap_or_default()
}

/// An existing namespace, as the test has made it.
#[derive(Default)]
pub struct Space {
    /// The policies of its tenants, with their resourceVersions.
    pub theirs: BTreeMap<String, String>,
    /// Policies that were edited and never deleted since, with their uids. They must keep their uids.
    pub edited: BTreeMap<String, String>,
    /// Policies that the operator may not have recognised at some time.
    pub disguised: BTreeSet<String>,
}

/// A namespace, or namespace/policy; the start of a period; and its end. None if it has not ended.
type Span = (String, Timestamp, Option<Timestamp>);

/// A write of an instance.
pub struct Written {
    pub by: String,
    pub entry: AuditEntry,
}

/// What the test has done to its namespaces.
#[derive(Default)]
pub struct Judge {
    /// The existing namespaces.
    pub spaces: BTreeMap<String, Space>,
    /// From the deletion of a namespace until it was created again.
    gone: Vec<Span>,
    /// From when a namespace left all baselines until it came back.
    left: Vec<Span>,
    /// From when a policy, as namespace/policy, was no longer planned until it was planned again.
    dropped: Vec<Span>,
    /// The periods in which the operator was hindered.
    hindered: Vec<(Timestamp, Option<Timestamp>)>,
}

impl Judge {
    // Actions of the test.

    /// Call it right before a namespace is created.
    pub fn makes(&mut self, name: &str) {
        end(&mut self.gone, name, Timestamp::now());
        self.spaces.insert(name.to_owned(), Space::default());
    }

    /// Call it right after the deletion of a namespace was requested.
    pub fn deleted(&mut self, name: &str) {
        end(&mut self.left, name, Timestamp::now());
        let inside = format!("{name}/");
        for span in self.dropped.iter_mut().filter(|(of, _, until)| until.is_none() && of.starts_with(&inside)) {
            span.2 = Some(Timestamp::now());
        }
        self.gone.push((name.to_owned(), Timestamp::now(), None));
        self.spaces.remove(name);
    }

    /// Whether a namespace of that name was deleted before.
    pub fn was_deleted(&self, name: &str) -> bool {
        self.gone.iter().any(|(of, ..)| of == name)
    }

    /// Call it right before a namespace leaves all baselines. Every removal comes later.
    pub fn leaves(&mut self, name: &str) {
        self.left.push((name.to_owned(), Timestamp::now(), None));
        // Outside of all baselines a policy may be deleted and created again.
        self.space(name).edited.clear();
    }

    /// Call it right after a baseline has selected the namespace again.
    pub fn returned(&mut self, name: &str) {
        end(&mut self.left, name, Timestamp::now());
    }

    /// Call it right before a policy is dropped from the plan. Every removal comes later.
    pub fn drops(&mut self, name: &str, policy: &str) {
        self.dropped.push((format!("{name}/{policy}"), Timestamp::now(), None));
        self.space(name).edited.remove(policy);
    }

    /// Call it right after a baseline plans the policy again.
    pub fn plans(&mut self, name: &str, policy: &str) {
        self.plans_since(name, policy, Timestamp::now());
    }

    /// The same, for a policy that is planned again since `at`.
    pub fn plans_since(&mut self, name: &str, policy: &str, at: Timestamp) {
        end(&mut self.dropped, &format!("{name}/{policy}"), at);
    }

    /// From now on the operator may receive events late, and its writes may arrive late. That includes those already under way.
    pub fn hinder(&mut self) {
        if self.hindered.last().is_none_or(|(_, until)| until.is_some()) {
            self.hindered.push((Timestamp::now() - RACE, None));
        }
    }

    /// The operator has seen and done everything, so it is no longer hindered.
    pub fn relieve(&mut self) {
        if let Some((_, until)) = self.hindered.last_mut() {
            until.get_or_insert_with(Timestamp::now);
        }
    }

    /// When a namespace of that name was created again.
    pub fn made_again(&self, name: &str) -> impl Iterator<Item = Timestamp> {
        self.gone.iter().filter(move |(of, ..)| of == name).filter_map(|(_, _, until)| *until)
    }

    /// The time at which the operator must have known what happened at `at`.
    pub fn known(&self, at: Timestamp) -> Timestamp {
        let covers = |(from, until): &&(Timestamp, Option<Timestamp>)| at >= *from && until.is_none_or(|until| at <= until);
        self.hindered.iter().find(covers).map_or(at, |(_, until)| until.unwrap_or(Timestamp::MAX))
    }

    /// Call it after an edit of a policy that a baseline plans. Checks that it is still the same object.
    pub fn edited(&mut self, name: &str, policy: &str, uid: &str) {
        let before = self.space(name).edited.entry(policy.to_owned()).or_insert_with(|| uid.to_owned());
        assert_eq!(before, uid, "I3: {name}/{policy} was only edited, and is another now");
    }

    pub fn space(&mut self, name: &str) -> &mut Space {
        self.spaces.get_mut(name).unwrap()
    }

    // Checks.

    /// Checks I1, I3 and I4 with the stored objects. `plan` returns what a namespace should hold. None means that it must hold nothing
    /// of ours.
    pub async fn check_what_is_stored(&self, world: &World, client: &Client, plan: impl Fn(&str) -> Option<Plan>) {
        let api: Api<Namespace> = Api::all(client.clone());
        let going: BTreeSet<&str> = self.gone.iter().filter(|(.., until)| until.is_none()).map(|(name, ..)| &**name).collect();
        let living = async || {
            let all = api.list(&ListParams::default().labels(TEST_LABEL)).await?.items;
            let names: BTreeSet<String> = all.iter().map(ResourceExt::name_any).collect();
            let lives = self.spaces.keys().all(|name| names.contains(name));
            Ok::<_, kube::Error>(lives && !names.iter().any(|name| going.contains(&**name)))
        };
        world.eventually("what was deleted is gone", TIMEOUT * 2, living).await.unwrap();
        for (name, space) in &self.spaces {
            if let Some(plan) = plan(name) {
                let plan = space.theirs.keys().fold(plan, |plan, own| plan.beside(own));
                until_holds(world, name, &plan).await;
                continue;
            }
            // A policy that was made unrecognisable before the namespace left belongs to nobody.
            let is_left = |policy: &str| !space.theirs.contains_key(policy) && !space.disguised.contains(policy);
            world
                .eventually(&format!("I1: {name} holds nothing of ours"), TIMEOUT, async || {
                    let found = policies_of(client, name).list(&ListParams::default()).await?.items;
                    Ok::<_, kube::Error>(!found.iter().any(|policy| is_left(&policy.name_any())))
                })
                .await
                .unwrap();
        }
        for (name, space) in &self.spaces {
            let found = stored(world, name).await;
            let stored = |policy: &str| found.get(policy).unwrap_or_else(|| panic!("I3, I4: {name}/{policy} is gone"));
            for (policy, version) in &space.theirs {
                assert_eq!(stored(policy).resource_version().as_ref(), Some(version), "I4: {name}/{policy} was written to");
            }
            for (policy, uid) in &space.edited {
                assert_eq!(stored(policy).uid().as_ref(), Some(uid), "I3: {name}/{policy} was only edited, and is another now");
            }
        }
    }

    /// Checks I3 and I4: the operator deletes policies only if the namespace has left all baselines or the policy is no longer planned.
    /// Checks I5: in a terminating namespace it only changes policies that exist. Skips a write for which `excused` returns true. Returns the number of
    /// removals.
    pub fn check_removals(&self, writes: &[Written], excused: impl Fn(&Written) -> bool) -> usize {
        let within = |spans: &[Span], key: &str, at: Timestamp, early: Duration, late: Duration| {
            spans.iter().filter(|(of, ..)| of == key).any(|&(_, from, until)| {
                let begun = at > from && (early.is_zero() || age(at, self.known(from)) >= early);
                let over = |until| at > until && (late.is_zero() || age(at, self.known(until)) >= late);
                begun && !until.is_some_and(over)
            })
        };
        let mut removals = 0;
        for written in writes.iter().filter(|written| ["networkpolicies", "baselineoptouts"].contains(&&*written.entry.resource))
        {
            let entry = &written.entry;
            assert!(!entry.name.starts_with("own-"), "I4: {entry:#?}");
            if excused(written) {
                continue;
            }
            if entry.verb.starts_with("delete") && entry.code < 300 {
                assert_eq!(entry.resource, "networkpolicies", "I4: {entry:#?}");
                removals += 1;
                let policy = format!("{}/{}", entry.namespace, entry.name);
                let has_left = within(&self.left, &entry.namespace, entry.timestamp, Duration::ZERO, RACE);
                let is_dropped = has_left || within(&self.dropped, &policy, entry.timestamp, Duration::ZERO, RACE);
                assert!(is_dropped, "I3: removed where it is planned: {entry:#?}");
            }
            let goes = within(&self.gone, &entry.namespace, entry.timestamp, RACE, Duration::ZERO);
            // What exists there is repaired. An apply that would create something is refused.
            let repairs = entry.resource == "networkpolicies" && entry.verb == "patch" && entry.code != 403;
            assert!(!goes || repairs, "I5: written to a namespace that is going: {entry:#?}");
        }
        removals
    }
}

fn end(spans: &mut [Span], name: &str, at: Timestamp) {
    if let Some(span) = spans.iter_mut().find(|(of, _, until)| of == name && until.is_none()) {
        span.2 = Some(at);
    }
}

/// I5: a terminating namespace is not a failure. `told` are log lines about failed writes.
pub fn check_failures<'a>(told: impl IntoIterator<Item = &'a str>) {
    let of_namespaces =
        |line: &&str| ["NamespaceTerminating", "namespaces \\\"", "namespaces \""].iter().any(|text| line.contains(text));
    assert_eq!(told.into_iter().find(of_namespaces), None, "I5: a namespace that goes is no failure");
}

/// The writes since `since`, in the order in which the API server received them. `by` returns the name of the instance of an entry, or
/// None if no instance wrote it.
pub fn writes_of(world: &World, since: AuditMark, by: impl Fn(&AuditEntry) -> Option<String>) -> Vec<Written> {
    let mut entries = world.audit().unwrap().since(since).unwrap();
    entries.retain(AuditEntry::is_write);
    entries.sort_by_key(|entry| entry.timestamp);
    entries.into_iter().filter_map(|entry| by(&entry).map(|by| Written { by, entry })).collect()
}

/// A write, as the check of I6 needs it.
pub struct Sent<'a> {
    pub by: &'a str,
    pub at: Timestamp,
    /// For a write of the Lease: whether it took effect. None for other writes.
    pub lease: Option<bool>,
    pub what: &'a dyn Debug,
}

impl Written {
    pub fn sent(&self) -> Sent<'_> {
        let lease = (self.entry.resource == "leases").then_some(self.entry.code < 300);
        Sent { by: &self.by, at: self.entry.timestamp, lease, what: &self.entry }
    }
}

/// The result of the check of I6.
pub struct Terms<'a> {
    pub writes: usize,
    pub number: usize,
    /// Writes without the Lease that were excused.
    pub late: Vec<Sent<'a>>,
}

/// Checks I6: before each write, the same instance renewed the Lease at most `term` earlier, and no other instance has taken the Lease
/// since.
pub fn check_terms<'a>(writes: impl IntoIterator<Item = Sent<'a>>, term: Duration, excused: impl Fn(&Sent) -> bool) -> Terms<'a> {
    let mut last: Option<Sent> = None;
    let mut told = Terms { writes: 0, number: 0, late: Vec::new() };
    for sent in writes {
        if let Some(took_effect) = sent.lease {
            if took_effect {
                told.number += usize::from(last.is_none_or(|last| last.by != sent.by));
                last = Some(sent);
            }
            continue;
        }
        told.writes += 1;
        let renewal = last.as_ref().unwrap_or_else(|| panic!("I6: a write before anybody held the lease: {:#?}", sent.what));
        if renewal.by == sent.by && age(sent.at, renewal.at) <= term {
            continue;
        }
        assert!(excused(&sent), "I6: a write without the lease: {:#?}\n{:#?}", sent.what, renewal.what);
        told.late.push(sent);
    }
    told
}

/// A baseline that selects only one namespace. When that namespace is protected, the operator has handled all earlier events.
pub struct Sentinel<'a> {
    pub baseline: &'a str,
    pub label: (&'a str, &'a str),
    /// What the namespace should hold.
    pub plan: Plan,
}

/// Checks I2: at rest, the operator writes only for new changes. `protected` lists how many namespaces each baseline protects. `writes`
/// returns the writes of the instances since a mark. The renewals of the Lease continue, and serve as a clock.
pub async fn check_rest(
    world: &World,
    protected: &[(&str, u32)],
    sentinel: &Sentinel<'_>,
    writes: impl Fn(AuditMark) -> Vec<Written>,
) {
    for (name, count) in protected {
        let settled = |status: &PolicyBaselineStatus| {
            let counts = &status.namespaces;
            counts.protected == *count && counts.failed == 0 && counts.pending == 0 && condition(status, "Ready").status == "True"
        };
        until_status(world, name, &format!("{count} are protected"), settled).await;
    }
    let audit = world.audit().unwrap();
    let is_told = |entry: &AuditEntry| entry.resource != "leases" && !tells_a_state(entry);
    let others = |mark| writes(mark).into_iter().map(|written| written.entry).filter(is_told);
    let renewals = |mark| writes(mark).iter().filter(|written| written.entry.resource == "leases").count();
    // The last statuses and events are written after the last repairs.
    let mut mark = audit.mark();
    let quiet = async || {
        if others(mark).next().is_some() {
            mark = audit.mark();
        }
        renewals(mark) >= 4
    };
    world.eventually("I2: it comes to rest", TIMEOUT, quiet).await.unwrap();

    let mark = audit.mark();
    let namespace = world.namespace("sentinel", &[sentinel.label]).await.unwrap();
    until_holds(world, &namespace, &sentinel.plan).await;
    until_status(world, sentinel.baseline, "the sentinel is protected", |status| status.namespaces.protected == 1).await;
    world.eventually("some renewals later", TIMEOUT, async || renewals(mark) >= 4).await.unwrap();
    let (own, others): (Vec<_>, Vec<_>) =
        others(mark).partition(|entry| entry.namespace == namespace || entry.name == sentinel.baseline);
    assert!(own.len() >= 4, "the sentinel was not seen: {own:#?}");
    assert!(others.is_empty(), "I2: written at rest: {others:#?}");
}
