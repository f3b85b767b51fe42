//! The last observed state of namespaces and policies, as fingerprints. Memory only. An old event never overwrites the result of our own
//! write: the resourceVersions decide which is newer.
//!
//! One file, because events, lists and results of writes arrive in any order. Each method here must handle that. `entry.rs` has the state of
//! one namespace.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    num::{NonZeroU32, NonZeroU64},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::NetworkPolicy;

use super::{
    entry::{ChangeOrigin, Entry, is_newer},
    flight::Flight,
};
use crate::{
    api::{NamespaceName, SlimNamespace, Uid, other_tools::OtherTools, resource_version},
    policy::{
        drift::{Fingerprint, Interner},
        listing::Listing,
        netpol::MAX_BYTES_OF_NAMESPACE,
        plan::{Closed, Labels, Namespace},
    },
};

/// A namespace with a known policy that a list did not name.
#[derive(Debug, PartialEq, Eq)]
pub struct Relisted {
    /// The namespace.
    pub namespace: NamespaceName,
    /// Policies that this instance wrote during the list. If they exist, the watch will show them.
    pub unsure: Vec<Arc<str>>,
}

/// All namespaces and policies that the watches reported.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct Observed {
    // Boxed, because the tree reserves space for more entries than it holds.
    entries: BTreeMap<NamespaceName, Box<Entry>>,
    flights: HashMap<NamespaceName, Flight>,
    /// Since when a namespace lacks a planned policy that nobody can create, because the namespace is being deleted.
    lacking: BTreeMap<NamespaceName, Timestamp>,
    texts: Interner,
    tools: Arc<OtherTools>,
    relisted_namespaces: Listing<NamespaceName>,
    relisted_policies: Listing<(NamespaceName, Arc<str>)>,
    /// Policies that our writes returned since the list of policies began. The list may be older than these writes.
    written_meanwhile: HashSet<(NamespaceName, Arc<str>)>,
    policies_synced: bool,
}

impl Observed {
    /// Sets the tools whose marks on policies are known. Call this before the first policy is seen.
    pub fn know(&mut self, tools: Arc<OtherTools>) {
        self.tools = tools;
    }

    /// The tools whose marks on policies are known.
    pub fn tools(&self) -> &OtherTools {
        &self.tools
    }

    /// One namespace.
    pub fn get(&self, name: &NamespaceName) -> Option<&Entry> {
        self.entries.get(name).map(|entry| &**entry)
    }

    /// One namespace, to change it.
    pub fn get_mut(&mut self, name: &NamespaceName) -> Option<&mut Entry> {
        self.entries.get_mut(name).map(|entry| &mut **entry)
    }

    /// The uid of a namespace.
    pub fn uid(&self, name: &str) -> Option<Uid> {
        self.entries.get(name)?.uid.clone()
    }

    /// Whether a namespace is being deleted.
    pub fn is_terminating(&self, name: &NamespaceName) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.is_terminating())
    }

    /// Since when a namespace lacks a planned policy that nobody can create, because the namespace is being deleted.
    pub fn lacking_since(&self, name: &NamespaceName) -> Option<Timestamp> {
        self.lacking.get(name).copied()
    }

    /// Sets that; `None`: it lacks none.
    pub fn set_lacking_since(&mut self, name: &NamespaceName, since: Option<Timestamp>) {
        match since {
            Some(since) => drop(self.lacking.insert(name.clone(), since)),
            None => drop(self.lacking.remove(name)),
        }
    }

    /// The labels of a namespace.
    pub fn labels(&self, name: &str) -> Option<&Labels> {
        Some(&self.entries.get(name)?.namespace.as_ref()?.labels)
    }

    /// Every namespace.
    pub fn iter(&self) -> impl Iterator<Item = (&NamespaceName, &Entry)> + Clone {
        self.entries.iter().map(|(name, entry)| (name, &**entry))
    }

    /// How many namespaces there are.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// Called when this instance begins to lead. Earlier changes came from the former leader or from others. Which one is not known, so
    /// they count as found.
    pub fn take_over(&mut self) {
        for entry in self.entries.values_mut().filter(|e| e.standing == ChangeOrigin::Touched) {
            entry.standing = ChangeOrigin::Found;
        }
    }

    /// The shared copy of a namespace name, to save memory.
    fn name(&self, text: &str) -> NamespaceName {
        self.entries.get_key_value(text).map_or_else(|| NamespaceName::observed(text), |(known, _)| known.clone())
    }

    /// A list of namespaces begins.
    pub fn namespaces_relist(&mut self) {
        self.relisted_namespaces.begin();
    }

    /// The list is complete: namespaces that it did not name are gone. Returns their names.
    pub fn namespaces_relisted(&mut self) -> Vec<NamespaceName> {
        let Some(seen) = self.relisted_namespaces.end() else { return vec![] };
        let gone =
            self.entries.iter().filter(|(name, e)| e.namespace.is_some() && !seen.contains(*name)).map(|(name, _)| name.clone());
        let gone: Vec<_> = gone.collect();
        for name in &gone {
            self.namespace_deleted(name);
        }
        gone
    }

    /// Stores a namespace from the watch. Returns its name if something changed that the plan depends on.
    pub fn namespace_seen(&mut self, seen: &SlimNamespace) -> Option<NamespaceName> {
        let meta = &seen.metadata;
        let name = self.name(meta.name.as_deref()?);
        self.relisted_namespaces.names(|| name.clone());
        let texts = &mut self.texts;
        // The API server labels every namespace with its name.
        let mut value = |value: &str| if value == name.as_str() { name.text() } else { texts.get(value) };
        let labels: Vec<_> = meta.labels.iter().flatten().map(|(key, text)| (key, value(text))).collect();
        let labels = labels.into_iter().map(|(key, value)| (texts.get(key), value)).collect();
        let created = meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0);
        let mut namespace = Namespace {
            terminating: meta.deletion_timestamp.is_some(),
            pods_gone: seen.pods_gone,
            failing_since: seen.failing_since.and_then(|at| NonZeroU32::new(u32::try_from(at.as_second()).ok()?)),
            ..Namespace::new(name.clone(), labels, created)
        };
        let uid: Option<Uid> = meta.uid.as_deref().map(Into::into);
        // A list does not tell when something appeared: its versions are those of the last change.
        let is_listed = self.relisted_namespaces.is_under_way();
        let version = NonZeroU64::new(resource_version(meta.resource_version.as_deref())).filter(|_| !is_listed);
        let is_same = self.entries.get(&name).map_or(uid.is_none(), |entry| entry.uid == uid);
        if !is_same {
            self.former_ended(&name);
        }
        let entry = self.entries.entry(name.clone()).or_default();
        if !is_same {
            // A new namespace with the same name: what was known about the old one does not count.
            entry.appeared = version;
            entry.forget_policies_of_former();
            entry.established = entry.holds_ours();
            if entry.uid.is_some() {
                entry.former = entry.closed();
            }
            entry.opted_out = None;
            entry.standing = ChangeOrigin::Found;
            entry.owner = None;
            entry.uid = uid;
        }
        let known = entry.namespace.as_ref();
        namespace.closed = known.filter(|_| is_same).map_or_else(|| entry.closed(), |known| known.closed);
        namespace.serves = known.and_then(|known| known.serves.clone());
        namespace.opt_outs = known.map(|known| known.opt_outs.clone()).unwrap_or_default();
        if is_same && entry.namespace.as_ref() == Some(&namespace) {
            return None;
        }
        entry.namespace = Some(namespace);
        Some(name)
    }

    /// Sets the text about calls of the API server into the namespace; `None`: there are none. Returns the name if the text changed.
    pub fn serves(&mut self, name: &str, words: Option<Arc<str>>) -> Option<NamespaceName> {
        let namespace = self.entries.get_mut(name)?.namespace.as_mut()?;
        let is_news = namespace.serves.as_deref().map(String::as_str) != words.as_deref();
        namespace.serves = words.map(|words| Arc::new((*words).to_owned()));
        is_news.then(|| namespace.name.clone())
    }

    /// Called with the directions that a plan closes here. Once a policy is gone that no plan contains, its direction counts as never
    /// closed. Returns whether that changed.
    pub fn keep_closed(&mut self, name: &NamespaceName, planned: Closed) -> bool {
        let Some(entry) = self.entries.get_mut(name) else { return false };
        let there = entry.closed();
        let Some(namespace) = &mut entry.namespace else { return false };
        let known = namespace.closed;
        let kept = Closed { ingress: known.ingress && planned.ingress, egress: known.egress && planned.egress };
        namespace.closed = kept.or(there);
        namespace.closed != known
    }

    /// Forgets what a namespace held. `opted_out` replaces the known time at which an opt-out was first in force. Returns whether anything
    /// changed.
    pub fn release_claim(&mut self, name: &NamespaceName, opted_out: Option<Timestamp>) -> bool {
        let Some(entry) = self.entries.get_mut(name) else { return false };
        let was_established = std::mem::take(&mut entry.established);
        let before = std::mem::replace(&mut entry.opted_out, opted_out.map(Box::new));
        before.as_deref().copied() != opted_out || was_established
    }

    /// Forgets a deleted namespace. Its policies stay until the watch reports that they are gone.
    pub fn namespace_deleted(&mut self, name: &NamespaceName) {
        self.former_ended(name);
        let Some(entry) = self.entries.get_mut(name) else { return };
        let former = entry.closed();
        let policies = std::mem::take(&mut entry.policies);
        **entry = Entry { policies, former, ..Entry::default() };
        if entry.is_empty() {
            self.entries.remove(name);
        }
    }

    /// What was written to a namespace of this name says nothing of the next one.
    fn former_ended(&mut self, name: &NamespaceName) {
        self.lacking.remove(name);
        self.written_meanwhile.retain(|(namespace, _)| namespace != name);
        if let Some(flight) = self.flights.get_mut(name) {
            (flight.doubtful, flight.replaced) = (true, true);
        }
    }

    /// A list of policies begins.
    pub fn policies_relist(&mut self) {
        self.relisted_policies.begin();
        self.flights.values_mut().for_each(|flight| flight.doubtful = true);
    }

    /// The list is complete. A policy that it did not name is gone, or was written after the list was taken. Returns the namespaces of
    /// such policies.
    pub fn policies_relisted(&mut self) -> Vec<Relisted> {
        self.policies_synced = true;
        let Some(seen) = self.relisted_policies.end() else { return vec![] };
        let mut concerned = Vec::new();
        for (name, entry) in &mut self.entries {
            let (mut gone, mut unsure) = (0, Vec::new());
            entry.policies.retain(|policy, _| {
                let key = (name.clone(), policy.clone());
                let named = seen.contains(&key);
                if !named && self.written_meanwhile.contains(&key) {
                    unsure.push(policy.clone());
                } else if !named {
                    gone += 1;
                }
                named
            });
            if gone > 0 {
                entry.touch();
            }
            if gone > 0 || !unsure.is_empty() {
                entry.forget_former();
                concerned.push(Relisted { namespace: name.clone(), unsure });
            }
        }
        self.written_meanwhile.clear();
        self.entries.retain(|_, e| !e.is_empty());
        concerned
    }

    fn print(&mut self, object: &NetworkPolicy) -> Fingerprint {
        let meta = &object.metadata;
        let entry = meta.namespace.as_deref().and_then(|namespace| self.entries.get(namespace)).zip(meta.name.as_deref());
        let known = entry.and_then(|(entry, name)| entry.policies.get(name));
        let print = Fingerprint::with(object, known, &self.tools, &mut self.texts);
        let bytes = print.bytes_of_shares();
        // Most policies have no parts, so the others need not be looked at.
        if bytes == 0 {
            return print;
        }
        let others = entry.map_or(0, |(entry, name)| entry.policies.bytes_of_shares_without(name));
        if others + bytes > MAX_BYTES_OF_NAMESPACE { print.cut(&mut self.texts) } else { print }
    }

    /// Stores a policy from the watch. Returns its namespace if that changed anything.
    pub fn policy_seen(&mut self, object: &NetworkPolicy) -> Option<NamespaceName> {
        let live = self.policies_synced;
        let print = self.print(object);
        let namespace = self.name(object.metadata.namespace.as_deref()?);
        let name = self.texts.get(object.metadata.name.as_deref()?);
        self.relisted_policies.names(|| (namespace.clone(), name.clone()));
        let version = print.version;
        let entry = self.entries.entry(namespace.clone()).or_default();
        if entry.is_of_former(version) || !entry.store(name.clone(), print) {
            return None;
        }
        match self.flights.get_mut(&namespace) {
            Some(flight) => drop(flight.touched.insert(name, version)),
            None if live => entry.touch(),
            None => {}
        }
        Some(namespace)
    }

    /// Our writes to a namespace begin.
    pub fn writes_begin(&mut self, namespace: &NamespaceName) {
        let flight = Flight { doubtful: self.relisted_policies.is_under_way(), ..Flight::default() };
        self.flights.insert(namespace.clone(), flight);
    }

    /// The version that was known when our write was sent, of this policy or of its namespace, if the answer to the write shows an older
    /// policy. An answer is the truth, so the API server went back to an older state.
    pub fn went_back(&self, answer: &NetworkPolicy) -> Option<u64> {
        let meta = &answer.metadata;
        let (namespace, name) = (meta.namespace.as_deref()?, meta.name.as_deref()?);
        let entry = self.entries.get(namespace)?;
        let flight = self.flights.get(namespace)?;
        let version = resource_version(meta.resource_version.as_deref());
        if entry.is_of_former(version) {
            return entry.appeared.filter(|_| !flight.replaced).map(NonZeroU64::get);
        }
        let known = entry.policies.get(name)?;
        let is_same = meta.uid.as_deref().map(Uid::from).as_ref() == Some(&known.uid);
        // What the watch has shown since may be newer than the answer.
        let is_new = flight.touched.contains_key(name);
        (is_same && !is_new && version < known.version).then_some(known.version)
    }

    /// Stores a policy that our own write returned. Returns its fingerprint, and whether its deletion may have been missed. Such a policy
    /// is stored only when the watch shows it. A policy whose later deletion was seen is not stored, nor one of a former namespace.
    pub fn policy_written(&mut self, object: &NetworkPolicy) -> (Fingerprint, bool) {
        let print = self.print(object);
        let meta = &object.metadata;
        let (Some(namespace), Some(name)) = (meta.namespace.as_deref(), meta.name.as_deref()) else { return (print, true) };
        let (namespace, name) = (self.name(namespace), self.texts.get(name));
        let known = self.entries.get(&namespace).is_some_and(|e| e.policies.get(&name).is_some());
        let flight = self.flights.get(&namespace);
        let is_of_former = self.entries.get(&namespace).is_some_and(|entry| entry.is_of_former(print.version));
        let was_deleted = flight.and_then(|f| f.deleted.get(&name)).is_some_and(|deleted| print.version <= *deleted);
        let went = was_deleted || is_of_former;
        let unsure = !went && !known && flight.is_some_and(|f| f.doubtful);
        if !went && !unsure {
            if self.relisted_policies.is_under_way() {
                self.written_meanwhile.insert((namespace.clone(), name.clone()));
            }
            self.entries.entry(namespace).or_default().store(name, print.clone());
        }
        (print, unsure)
    }

    /// Our writes to a namespace ended. `written` holds each policy with its stored version, or `None` if it was removed. `finished`:
    /// nothing is left to write.
    pub fn writes_end(&mut self, namespace: &NamespaceName, written: &[(&str, Option<u64>)], finished: bool) {
        let Some(flight) = self.flights.remove(namespace) else { return };
        let echo = |(name, version): (&Arc<str>, &u64)| {
            let ours = written.iter().find(|(written, _)| *written == &**name);
            ours.is_some_and(|(_, stored)| stored.is_none_or(|stored| *version <= stored))
        };
        let by_others = !flight.touched.iter().chain(&flight.deleted).all(echo);
        if let Some(entry) = self.entries.get_mut(namespace) {
            match (by_others, finished) {
                (_, false) if entry.standing == ChangeOrigin::Bootstrapping => {}
                (true, _) => entry.standing = ChangeOrigin::Touched,
                (false, true) => entry.standing = ChangeOrigin::Settled,
                (false, false) => {}
            }
        }
    }

    /// Removes a policy that the watch reports as deleted. Returns its namespace if that changed anything.
    pub fn policy_deleted(&mut self, object: &NetworkPolicy) -> Option<NamespaceName> {
        let namespace = NamespaceName::observed(object.metadata.namespace.as_deref()?);
        let name = object.metadata.name.as_deref()?;
        let version = resource_version(object.metadata.resource_version.as_deref());
        let mut flight = self.flights.get_mut(&namespace);
        if let Some(flight) = &mut flight {
            // Without a version the order is unknown, so the deletion counts as the newest.
            flight.deleted.insert(name.into(), if version > 0 { version } else { u64::MAX });
        }
        let entry = self.entries.get_mut(&namespace)?;
        if entry.policies.get(name).is_none_or(|known| is_newer(known, version)) {
            return None;
        }
        entry.policies.remove(name);
        entry.forget_former();
        if flight.is_none() {
            entry.touch();
        }
        if entry.is_empty() {
            self.entries.remove(&namespace);
        }
        Some(namespace)
    }

    /// Removes a policy that our own write deleted, if it still has that uid.
    pub fn policy_removed(&mut self, namespace: &NamespaceName, name: &str, uid: &Uid) {
        if let Some(entry) = self.entries.get_mut(namespace)
            && entry.policies.get(name).is_some_and(|p| p.uid == *uid)
        {
            entry.policies.remove(name);
            entry.forget_former();
        }
    }
}

#[cfg(test)]
impl Observed {
    /// For the model: the deletions seen during the writes, whether only the watch can confirm a policy, and whether the namespace changed.
    pub fn flight(&self, namespace: &NamespaceName) -> Option<(BTreeMap<&str, u64>, [bool; 2])> {
        let flight = self.flights.get(namespace)?;
        Some((flight.deleted.iter().map(|(name, version)| (&**name, *version)).collect(), [flight.doubtful, flight.replaced]))
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use serde_json::json;

    use super::*;
    use crate::testkit::{checked, observed as stored};

    fn policy(version: u64) -> NetworkPolicy {
        let mut p = stored(&checked("b", json!({})).policies[0], "team-a");
        p.metadata.resource_version = Some(version.to_string());
        p
    }

    fn meta(name: &str, uid: &str) -> SlimNamespace {
        ObjectMeta { name: Some(name.into()), uid: Some(uid.into()), ..ObjectMeta::default() }.into()
    }

    #[test]
    fn i15_an_answer_that_is_older_than_what_was_known_before_the_write_shows_that_history_went_back() {
        let mut o = live();
        o.policy_seen(&policy(10));
        assert_eq!(o.went_back(&policy(9)), None, "no write was sent");
        o.writes_begin(&team_a());
        assert_eq!(o.went_back(&policy(9)), Some(10));
        assert_eq!([o.went_back(&policy(10)), o.went_back(&policy(11))], [None; 2]);
        let mut another = policy(9);
        another.metadata.uid = Some("another".into());
        assert_eq!(o.went_back(&another), None);
        o.policy_seen(&policy(12));
        assert_eq!(o.went_back(&policy(11)), None, "the watch was faster than the answer");
    }

    #[test]
    fn i15_an_answer_that_is_older_than_the_namespace_shows_that_history_went_back() {
        let mut o = live();
        o.namespace_seen(&next());
        o.writes_begin(&team_a());
        assert_eq!([10, 19, 21].map(|version| o.went_back(&policy(version))), [Some(20), Some(20), None]);
        // Written to the former namespace, and answered late.
        let mut o = live();
        o.writes_begin(&team_a());
        o.namespace_seen(&next());
        assert_eq!(o.went_back(&policy(10)), None);
    }

    /// The namespace that takes the name.
    fn next() -> SlimNamespace {
        ObjectMeta { resource_version: Some("20".into()), ..meta("team-a", "2").metadata }.into()
    }

    fn held(o: &Observed) -> Vec<u64> {
        o.get(&NamespaceName::observed("team-a")).map(|e| e.policies.values().map(|p| p.version).collect()).unwrap_or_default()
    }

    #[test]
    fn the_late_echo_of_a_former_state_is_no_news() {
        let mut o = Observed::default();
        o.policy_written(&policy(10));
        assert_eq!(o.policy_seen(&policy(9)), None);
        assert_eq!(o.policy_seen(&policy(10)), None);
        assert_eq!(held(&o), [10]);
        assert!(o.policy_seen(&policy(11)).is_some());
    }

    #[test]
    fn a_late_deletion_does_not_remove_what_was_created_since() {
        let mut o = Observed::default();
        o.policy_written(&policy(10));
        assert_eq!(o.policy_deleted(&policy(9)), None);
        assert_eq!(held(&o), [10]);
        assert!(o.policy_deleted(&policy(12)).is_some());
        assert_eq!(held(&o), [] as [u64; 0]);
    }

    #[test]
    fn a_list_that_does_not_name_a_policy_says_that_it_is_gone() {
        let mut o = Observed::default();
        o.policies_relist();
        o.policy_seen(&policy(1));
        assert_eq!(o.policies_relisted(), []);
        o.policies_relist();
        assert_eq!(o.policies_relisted().len(), 1);
        assert_eq!(held(&o), [] as [u64; 0]);
    }

    fn team_a() -> NamespaceName {
        NamespaceName::observed("team-a")
    }

    fn live() -> Observed {
        let mut o = Observed::default();
        o.policies_relist();
        o.policies_relisted();
        o.namespace_seen(&meta("team-a", "1"));
        o
    }

    fn standing(o: &Observed) -> ChangeOrigin {
        o.get(&team_a()).unwrap().standing
    }

    #[test]
    fn i1_the_answer_of_a_write_does_not_bring_back_what_was_deleted_since() {
        let mut o = live();
        o.writes_begin(&team_a());
        o.policy_seen(&policy(10));
        o.policy_deleted(&policy(11));
        o.policy_written(&policy(10));
        assert_eq!(held(&o), [] as [u64; 0]);
        // Created again, by a write that came later than the deletion.
        o.policy_written(&policy(12));
        assert_eq!(held(&o), [12]);
    }

    #[test]
    fn i1_what_is_written_while_a_list_is_taken_is_observed_when_a_watch_shows_it() {
        let relisted_meanwhile = |o: &mut Observed| {
            o.policies_relist();
            o.policies_relisted();
        };
        let relist_goes_on = |o: &mut Observed| o.policies_relist();
        let namespace_went = |o: &mut Observed| {
            o.namespace_deleted(&team_a());
            o.namespace_seen(&meta("team-a", "2"));
        };
        for happens in [relisted_meanwhile as fn(&mut Observed), relist_goes_on, namespace_went] {
            let mut o = live();
            o.writes_begin(&team_a());
            happens(&mut o);
            assert!(o.policy_written(&policy(5)).1, "it may have been deleted before the list was taken");
            o.writes_end(&team_a(), &[], true);
            assert_eq!(held(&o), [] as [u64; 0]);
            assert!(o.policy_seen(&policy(5)).is_some());
        }
    }

    #[test]
    fn a_policy_that_a_list_does_not_name_is_gone_though_a_write_returned_it_meanwhile() {
        let mut o = live();
        o.policy_seen(&policy(4));
        o.get_mut(&team_a()).unwrap().standing = ChangeOrigin::Settled;
        o.writes_begin(&team_a());
        o.policies_relist();
        assert!(!o.policy_written(&policy(5)).1, "it was known, and is newer now");
        let [Relisted { unsure, .. }] = &o.policies_relisted()[..] else { panic!("it is not told") };
        assert_eq!(unsure.len(), 1, "the list may be older than the write: the watch will tell");
        assert_eq!(held(&o), [] as [u64; 0]);
        assert_eq!(standing(&o), ChangeOrigin::Settled, "nobody touched it");
    }

    #[test]
    fn the_echo_of_our_writes_touches_nothing_and_what_others_do_meanwhile_does() {
        let name = policy(1).metadata.name.unwrap();
        for (seen, written, want) in [
            (vec![10], Some(10), ChangeOrigin::Settled),
            // An apply, and the patch that follows it.
            (vec![10, 11], Some(11), ChangeOrigin::Settled),
            (vec![10, 12], Some(10), ChangeOrigin::Touched),
            (vec![10], None, ChangeOrigin::Settled),
        ] {
            let mut o = live();
            o.writes_begin(&team_a());
            for version in &seen {
                o.policy_seen(&policy(*version));
            }
            assert_eq!(standing(&o), ChangeOrigin::Found);
            o.writes_end(&team_a(), &[(&name, written)], true);
            assert_eq!(standing(&o), want, "{seen:?} {written:?}");
        }
        let mut o = live();
        o.writes_begin(&team_a());
        o.policy_seen(&policy(10));
        o.writes_end(&team_a(), &[], false);
        assert_eq!(standing(&o), ChangeOrigin::Touched, "the write failed, so it was somebody else's");
    }

    #[test]
    fn a_namespace_is_news_only_when_the_plan_could_change() {
        let mut o = Observed::default();
        assert!(o.namespace_seen(&meta("a", "1")).is_some());
        assert_eq!(o.namespace_seen(&meta("a", "1")), None);
        let labels = Some([("x".to_owned(), "y".to_owned())].into());
        let labelled = ObjectMeta { labels, ..meta("a", "1").metadata }.into();
        assert!(o.namespace_seen(&labelled).is_some());
    }

    #[test]
    fn a_namespace_that_held_ours_stays_established_until_another_takes_its_name() {
        let mut o = Observed::default();
        let ns = NamespaceName::observed("team-a");
        o.namespace_seen(&meta("team-a", "1"));
        o.policy_seen(&policy(1));
        o.policy_deleted(&policy(2));
        assert!(o.get(&ns).unwrap().holdings().any);
        o.namespace_seen(&meta("team-a", "2"));
        assert!(!o.get(&ns).unwrap().holdings().any);
    }

    #[test]
    fn what_is_known_of_the_policies_of_a_former_namespace_is_not_in_the_next_one() {
        for its_end_is_seen in [false, true] {
            let mut o = live();
            o.policy_seen(&policy(10));
            if its_end_is_seen {
                o.namespace_deleted(&team_a());
            }
            assert_eq!(held(&o), [10], "the watch of policies did not show its deletion");
            assert!(o.namespace_seen(&next()).is_some());
            let entry = o.get(&team_a()).unwrap();
            assert_eq!((held(&o), entry.holdings().any, entry.was_closed()), (vec![], false, Closed::default()));
            // Late news of the former one, and the late answer to a write.
            assert_eq!((o.policy_seen(&policy(11)), held(&o)), (None, vec![]));
            o.writes_begin(&team_a());
            assert!(!o.policy_written(&policy(12)).1, "no watch will show it");
            assert_eq!(held(&o), [] as [u64; 0]);
            assert!(o.policy_seen(&policy(21)).is_some());
            assert_eq!(held(&o), [21]);
        }
    }

    #[test]
    fn what_was_written_to_a_former_namespace_while_a_list_was_taken_closes_nothing_in_the_next_one() {
        let mut o = live();
        o.policy_seen(&policy(10));
        o.policies_relist();
        o.policy_written(&policy(11));
        // The list began before it was replaced, and the end of this list comes late too.
        o.namespaces_relist();
        o.namespace_seen(&next());
        assert!(o.get(&team_a()).unwrap().was_closed().ingress, "the deletion is not known yet");
        let [Relisted { unsure, .. }] = &o.policies_relisted()[..] else { panic!("it is not told") };
        assert!(unsure.is_empty(), "no watch will show it");
        assert_eq!((held(&o), o.get(&team_a()).unwrap().was_closed()), (vec![], Closed::default()));
    }

    #[test]
    fn a_list_does_not_tell_which_policies_are_of_a_former_namespace() {
        let mut o = live();
        o.policy_seen(&policy(10));
        o.namespaces_relist();
        // This is the version of its last change. Its policies may be older.
        o.namespace_seen(&next());
        o.namespaces_relisted();
        assert_eq!(held(&o), [10]);
    }

    #[test]
    fn what_most_namespaces_lack_takes_a_word_of_each() {
        // The allocator adds one word: 168 bytes, for which it takes 176.
        assert!(size_of::<Entry>() <= 160, "{}", size_of::<Entry>());
    }

    #[test]
    fn a_namespace_that_is_gone_leaves_nothing() {
        let mut o = Observed::default();
        o.namespaces_relist();
        o.namespace_seen(&meta("a", "1"));
        assert_eq!(o.namespaces_relisted(), []);
        o.namespaces_relist();
        assert_eq!(o.namespaces_relisted().len(), 1);
        assert_eq!(o.iter().count(), 0);
    }
}
