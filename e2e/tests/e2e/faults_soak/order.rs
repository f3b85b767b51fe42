//! The order of the operator's writes: it closes a namespace only after its allow is there. And when it may take an allow back: only
//! from a namespace that is not closed, because another allow cannot be written there.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::jiff::Timestamp;
use policy_baseline_e2e::proxy::{Exchange, Verb};
use policy_baseline_e2e::{AuditEntry, World};

use super::shape::SAME_NAMESPACE;
use crate::judge::{Judge, RACE, age};

const PREFIXES: [&str; 2] = ["baseline-", "zone-"];
const DENIES: [&str; 2] = ["default-deny-ingress", "default-deny-egress"];

/// A write of a policy that took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Write {
    at: Timestamp,
    removes: bool,
    by_the_operator: bool,
}

/// How often a default-deny closed a namespace.
#[derive(Debug, Default)]
pub struct Closings {
    /// After its allow, which was checked.
    pub judged: usize,
    /// Where another instance had removed it while this one ran. These are not judged.
    pub of_another: usize,
}

/// All writes of policies, by anybody, in the order of time. The key is the namespace and the name.
pub struct History<'a> {
    judge: &'a Judge,
    writes: BTreeMap<(String, String), Vec<Write>>,
}

impl<'a> History<'a> {
    pub fn new(judge: &'a Judge, mut entries: Vec<AuditEntry>) -> Self {
        entries.retain(|entry| {
            let took_effect = entry.is_write() && entry.code < 300 && !entry.uri.contains("dryRun");
            took_effect && entry.resource == "networkpolicies" && entry.subresource.is_empty()
        });
        entries.sort_by_key(|entry| entry.timestamp);
        let mut writes: BTreeMap<(String, String), Vec<Write>> = BTreeMap::new();
        for entry in entries {
            let removes = entry.verb.starts_with("delete");
            let write = Write { at: entry.timestamp, removes, by_the_operator: entry.user == World::operator_user() };
            if entry.verb == "deletecollection" {
                writes.iter_mut().filter(|((ns, _), _)| *ns == entry.namespace).for_each(|(_, all)| all.push(write));
            } else {
                writes.entry((entry.namespace, entry.name)).or_default().push(write);
            }
        }
        Self { judge, writes }
    }

    /// The last write of a policy before `at`, in the namespace that existed then.
    fn last(&self, ns: &str, policy: &str, at: Timestamp) -> Option<Write> {
        let all = self.writes.get(&(ns.to_owned(), policy.to_owned()))?;
        let write = all.iter().rev().find(|write| write.at < at)?;
        (!self.was_made_between(ns, write.at, at)).then_some(*write)
    }

    fn was_made_between(&self, ns: &str, from: Timestamp, to: Timestamp) -> bool {
        self.judge.made_again(ns).any(|made| from < made && made <= to)
    }

    fn lasts<'b>(&'b self, ns: &'b str, deny: &'b str, at: Timestamp) -> impl Iterator<Item = Write> + 'b {
        PREFIXES.into_iter().filter_map(move |prefix| self.last(ns, &format!("{prefix}{deny}"), at))
    }

    /// Whether the operator may take this allow back although it is planned: a default-deny is missing, or somebody changed it since.
    pub fn may_take_back(&self, ns: &str, policy: &str, at: Timestamp) -> bool {
        let is_closed = |deny: &&str| self.lasts(ns, deny, at).any(|write| !write.removes && write.by_the_operator);
        policy.contains("allow-") && !DENIES.iter().all(is_closed)
    }

    /// Checks that before each default-deny that closed a namespace, the allow that every baseline has was there. What others deleted a
    /// moment before counts, and so does a default-deny that others deleted: the operator repairs both at once. For an instance, others are
    /// also those that led before: it may have missed what they removed, by a list whose end is lost. The exchanges must be in the order of
    /// time. Returns how many there were.
    pub fn check_closings<'b>(&self, exchanges: impl IntoIterator<Item = &'b Exchange>) -> Closings {
        let mut found = Closings::default();
        let mut began: HashMap<&str, Timestamp> = HashMap::new();
        let mut removed: HashMap<(&str, &str), (&str, Timestamp)> = HashMap::new();
        for exchange in exchanges {
            let asked = &exchange.asked;
            let began = *began.entry(&exchange.by).or_insert(exchange.at);
            let Some(deny) = DENIES.into_iter().find(|deny| asked.name.ends_with(deny)) else { continue };
            let ns = &*asked.namespace;
            if asked.verb == Verb::Delete && exchange.code.is_some_and(|code| code < 300) {
                removed.insert((ns, deny), (&exchange.by, exchange.at));
            }
            let is_creation = asked.verb == Verb::Patch && asked.is_of("networkpolicies") && exchange.code == Some(201);
            if !is_creation || !ns.starts_with("soak-") {
                continue;
            }
            // It was decided when it was sent, and may have come later.
            let at = exchange.at;
            if self.lasts(ns, deny, at).any(|write| !write.removes || !write.by_the_operator) {
                continue;
            }
            let by_another =
                |(by, when): &(&str, Timestamp)| **by != *exchange.by && began < *when && !self.was_made_between(ns, *when, at);
            if removed.get(&(ns, deny)).is_some_and(by_another) {
                found.of_another += 1;
                continue;
            }
            found.judged += 1;
            let allow = asked.name.replace(deny, &format!("allow-{SAME_NAMESPACE}"));
            let last = self.last(ns, &allow, at);
            let is_recent = |write: Write| age(at, self.judge.known(write.at)) < RACE;
            let was_there = last.is_some_and(|write| !write.removes || (!write.by_the_operator && is_recent(write)));
            assert!(was_there, "order: closed before {allow} was there, {last:?}: {exchange:#?}");
        }
        found
    }
}
