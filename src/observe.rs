//! What the watches last saw, as fingerprints. Memory only.
//! An older event never undoes what a write of our own returned: resourceVersions say which is newer.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::{api::networking::v1::NetworkPolicy, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use crate::{
    api::NamespaceName,
    drift::{Interner, Print},
    plan::{Holdings, Namespace},
};

/// One namespace and its policies.
#[derive(Debug, Default)]
pub struct Entry {
    /// The namespace, once its own watch has named it.
    pub namespace: Option<Namespace>,
    /// Its uid.
    pub uid: Option<Arc<str>>,
    /// Its policies by name, ours and others'.
    pub policies: BTreeMap<Arc<str>, Print>,
    /// It held a policy of ours while this process watched.
    pub established: bool,
    /// What happened to its policies.
    pub standing: Standing,
    /// The baseline whose plan it was last seen to hold.
    pub owner: Option<Arc<str>>,
}

/// What happened to the policies of a namespace: it tells drift from work.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Standing {
    /// Not known: it was so when we came.
    #[default]
    Found,
    /// Its first policies are being written.
    Bootstrapping,
    /// It was as planned when last looked at, and nobody has touched its policies since.
    Settled,
    /// Somebody touched its policies since.
    Touched,
}

impl Entry {
    fn touch(&mut self) {
        // While its first policies are written, what is seen is the echo of that.
        if self.standing != Standing::Bootstrapping {
            self.standing = Standing::Touched;
        }
    }

    /// What of ours it holds.
    pub fn holdings(&self) -> Holdings {
        let ours = self.policies.values().filter(|p| p.ours);
        let baselines: BTreeSet<Arc<str>> = ours.clone().filter_map(|p| p.baseline.clone()).collect();
        Holdings { any: self.established || ours.count() > 0, baselines, owner: self.owner.clone() }
    }

    fn is_empty(&self) -> bool {
        self.namespace.is_none() && self.policies.is_empty()
    }
}

/// Everything that the watches saw.
#[derive(Debug, Default)]
pub struct Observed {
    entries: BTreeMap<NamespaceName, Entry>,
    texts: Interner,
    relisted_namespaces: Option<HashSet<NamespaceName>>,
    relisted_policies: Option<HashSet<(NamespaceName, Arc<str>)>>,
    policies_synced: bool,
}

impl Observed {
    /// One namespace.
    pub fn get(&self, name: &NamespaceName) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// One namespace, to note something in it.
    pub fn get_mut(&mut self, name: &NamespaceName) -> Option<&mut Entry> {
        self.entries.get_mut(name)
    }

    /// Every namespace.
    pub fn iter(&self) -> impl Iterator<Item = (&NamespaceName, &Entry)> {
        self.entries.iter()
    }

    /// A list of namespaces begins.
    pub fn namespaces_relist(&mut self) {
        self.relisted_namespaces = Some(HashSet::new());
    }

    /// The list is complete: what it did not name is gone. Returns whom that concerns.
    pub fn namespaces_relisted(&mut self) -> Vec<NamespaceName> {
        let Some(seen) = self.relisted_namespaces.take() else { return vec![] };
        let gone =
            self.entries.iter().filter(|(name, e)| e.namespace.is_some() && !seen.contains(*name)).map(|(name, _)| name.clone());
        let gone: Vec<_> = gone.collect();
        for name in &gone {
            self.namespace_deleted(name);
        }
        gone
    }

    /// A namespace was seen. Returns its name when something changed that the plan depends on.
    pub fn namespace_seen(&mut self, meta: &ObjectMeta) -> Option<NamespaceName> {
        let name = NamespaceName::observed(meta.name.as_deref()?);
        if let Some(seen) = &mut self.relisted_namespaces {
            seen.insert(name.clone());
        }
        let namespace = Namespace {
            name: name.clone(),
            labels: meta.labels.clone().unwrap_or_default(),
            created: meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0),
            terminating: meta.deletion_timestamp.is_some(),
        };
        let uid: Option<Arc<str>> = meta.uid.as_deref().map(Into::into);
        let entry = self.entries.entry(name.clone()).or_default();
        if entry.uid != uid {
            // Another namespace under the same name: what was known of the former does not hold.
            entry.established = entry.policies.values().any(|p| p.ours);
            entry.standing = Standing::Found;
            entry.owner = None;
            entry.uid = uid;
        }
        if entry.namespace.as_ref() == Some(&namespace) {
            return None;
        }
        entry.namespace = Some(namespace);
        Some(name)
    }

    /// A namespace is gone.
    pub fn namespace_deleted(&mut self, name: &NamespaceName) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let policies = std::mem::take(&mut entry.policies);
        *entry = Entry { policies, ..Entry::default() };
        if entry.is_empty() {
            self.entries.remove(name);
        }
    }

    /// A list of policies begins.
    pub fn policies_relist(&mut self) {
        self.relisted_policies = Some(HashSet::new());
    }

    /// The list is complete: what it did not name is gone. Returns whom that concerns.
    pub fn policies_relisted(&mut self) -> Vec<NamespaceName> {
        self.policies_synced = true;
        let Some(seen) = self.relisted_policies.take() else { return vec![] };
        let mut concerned = Vec::new();
        for (name, entry) in &mut self.entries {
            let before = entry.policies.len();
            entry.policies.retain(|policy, _| seen.contains(&(name.clone(), policy.clone())));
            if entry.policies.len() < before {
                entry.touch();
                concerned.push(name.clone());
            }
        }
        self.entries.retain(|_, e| !e.is_empty());
        concerned
    }

    /// A policy was seen by the watch. Returns its namespace when that is news.
    pub fn policy_seen(&mut self, object: &NetworkPolicy) -> Option<NamespaceName> {
        let live = self.policies_synced;
        let namespace = self.store(object)?;
        let entry = self.entries.get_mut(&namespace)?;
        if live {
            entry.touch();
        }
        Some(namespace)
    }

    /// A write of our own returned this policy. Returns its fingerprint.
    pub fn policy_written(&mut self, object: &NetworkPolicy) -> Print {
        self.store(object);
        Print::of(object, &mut self.texts)
    }

    /// A policy is gone, by the watch. Returns its namespace when that is news.
    pub fn policy_deleted(&mut self, object: &NetworkPolicy) -> Option<NamespaceName> {
        let namespace = NamespaceName::observed(object.metadata.namespace.as_deref()?);
        let name = object.metadata.name.as_deref()?;
        let deleted = Print::of(object, &mut self.texts);
        let entry = self.entries.get_mut(&namespace)?;
        if entry.policies.get(name).is_none_or(|known| is_newer(known, &deleted)) {
            return None;
        }
        entry.policies.remove(name);
        entry.touch();
        if entry.is_empty() {
            self.entries.remove(&namespace);
        }
        Some(namespace)
    }

    /// We removed that very policy.
    pub fn policy_removed(&mut self, namespace: &NamespaceName, name: &str, uid: &str) {
        if let Some(entry) = self.entries.get_mut(namespace)
            && entry.policies.get(name).is_some_and(|p| &*p.uid == uid)
        {
            entry.policies.remove(name);
        }
    }

    /// Stores a policy unless it is known or older. Returns its namespace when something changed.
    fn store(&mut self, object: &NetworkPolicy) -> Option<NamespaceName> {
        let namespace = NamespaceName::observed(object.metadata.namespace.as_deref()?);
        let name = self.texts.get(object.metadata.name.as_deref()?);
        if let Some(seen) = &mut self.relisted_policies {
            seen.insert((namespace.clone(), name.clone()));
        }
        let print = Print::of(object, &mut self.texts);
        let entry = self.entries.entry(namespace.clone()).or_default();
        if entry.policies.get(&name).is_some_and(|known| known == &print || is_newer(known, &print)) {
            return None;
        }
        entry.established |= print.ours;
        entry.policies.insert(name, print);
        Some(namespace)
    }
}

/// Whether the first is newer than the second. Unknown versions count as old.
const fn is_newer(known: &Print, other: &Print) -> bool {
    other.version > 0 && known.version > other.version
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testkit::{checked, observed as stored};

    fn policy(version: u64) -> NetworkPolicy {
        let mut p = stored(&checked("b", json!({})).policies[0], "team-a");
        p.metadata.resource_version = Some(version.to_string());
        p
    }

    fn meta(name: &str, uid: &str) -> ObjectMeta {
        ObjectMeta { name: Some(name.into()), uid: Some(uid.into()), ..Default::default() }
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

    #[test]
    fn what_we_write_during_a_list_outlives_it() {
        let mut o = Observed::default();
        o.policies_relist();
        o.policy_written(&policy(5));
        assert_eq!(o.policies_relisted(), []);
        assert_eq!(held(&o), [5]);
    }

    #[test]
    fn a_namespace_is_news_only_when_the_plan_could_change() {
        let mut o = Observed::default();
        assert!(o.namespace_seen(&meta("a", "1")).is_some());
        assert_eq!(o.namespace_seen(&meta("a", "1")), None);
        let labelled = ObjectMeta { labels: Some([("x".to_owned(), "y".to_owned())].into()), ..meta("a", "1") };
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
