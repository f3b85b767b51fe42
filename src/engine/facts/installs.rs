//! The installs of the operator in this cluster, found by their Leases. Only the oldest live install works. Time is an argument.
//!
//! Anybody who may write Leases in a namespace can make one that looks like an install. So a Lease counts only if three things are true. Its
//! namespace has the label of installs. The ServiceAccount of an install there may write NetworkPolicies everywhere. And its duration is one
//! that an install may choose. Whoever may create namespaces can set the label, but nobody can give the permission without having it.
//!
//! An install is alive while somebody holds its Lease and keeps renewing it; the local clock measures that. For a moment, for example when
//! an install comes back, two may both believe to be the oldest. Then both write the same policies, until their watches show them the
//! other Lease.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc, time::Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;

use crate::{
    api::lease::{LONGEST, LeaseRecord, record, version},
    policy::listing::Listing,
};

/// A Lease that the watch showed.
#[derive(Debug)]
pub struct InstallLease {
    /// The Lease.
    pub lease: Lease,
    /// Whether the ServiceAccount of an install in its namespace may write NetworkPolicies everywhere. Also if nobody could say.
    pub may_write: bool,
}

/// The last seen state of a Lease.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Install {
    created: Option<Timestamp>,
    version: u64,
    /// Until when the holder counts as alive. `None`: nobody holds the Lease, or its holder is no install.
    until: Option<Instant>,
}

/// All installs in the cluster, from the view of this one.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct Installs {
    own: Arc<str>,
    seen: BTreeMap<Arc<str>, Install>,
    listed: Listing<String>,
    live: Vec<Arc<str>>,
    elder: Option<Arc<str>>,
}

impl Installs {
    /// Starts without any Lease. `own` is the namespace of this install.
    pub fn new(own: &str) -> Self {
        Self { own: own.into(), seen: BTreeMap::new(), listed: Listing::default(), live: vec![], elder: None }
    }

    /// The namespace of this install.
    pub const fn own(&self) -> &Arc<str> {
        &self.own
    }

    /// The namespace of the oldest live install that is older than this one. That install does the work.
    pub const fn elder(&self) -> Option<&Arc<str>> {
        self.elder.as_ref()
    }

    /// The namespaces of the other live installs.
    pub fn live(&self) -> &[Arc<str>] {
        &self.live
    }

    /// A list begins.
    pub fn relist(&mut self) {
        self.listed.begin();
    }

    /// The list is complete: Leases that it did not name are gone.
    pub fn relisted(&mut self) {
        if let Some(listed) = self.listed.end() {
            self.seen.retain(|namespace, _| listed.contains(&**namespace));
        }
    }

    /// Takes a Lease that the watch showed. Ignores a version that is not newer than the known one.
    pub fn saw(&mut self, InstallLease { lease, may_write }: &InstallLease, now: Instant) {
        let Some(namespace) = lease.metadata.namespace.as_deref() else { return };
        self.listed.names(|| namespace.into());
        let version = version(lease);
        if self.seen.get(namespace).is_some_and(|seen| seen.version >= version) {
            return;
        }
        let LeaseRecord { holder, duration, .. } = record(lease);
        let is_install = *may_write && !holder.is_empty() && duration <= LONGEST;
        let until = if is_install { now.checked_add(duration) } else { None };
        let created = lease.metadata.creation_timestamp.as_ref().map(|time| time.0);
        self.seen.insert(namespace.into(), Install { created, version, until });
    }

    /// Forgets a deleted Lease.
    pub fn gone(&mut self, lease: &Lease) {
        if let Some(namespace) = lease.metadata.namespace.as_deref() {
            self.seen.remove(namespace);
        }
    }

    /// Recomputes which installs are alive. `is_labelled` says whether a namespace may hold an install. Returns whether anything changed.
    pub fn refresh(&mut self, is_labelled: impl Fn(&str) -> bool, now: Instant) -> bool {
        let lives = |namespace: &Arc<str>, seen: &Install| {
            *namespace != self.own && seen.until.is_some_and(|until| until > now) && is_labelled(namespace)
        };
        let live = self.seen.iter().filter(|(namespace, seen)| lives(namespace, seen));
        let live: Vec<Arc<str>> = live.map(|(namespace, _)| namespace.clone()).collect();
        if live == self.live && self.elder.as_ref() == self.eldest(&live) {
            return false;
        }
        self.elder = self.eldest(&live).cloned();
        self.live = live;
        true
    }

    /// When the next live install counts as dead, unless its Lease is renewed before.
    pub fn next(&self) -> Option<Instant> {
        self.live.iter().filter_map(|namespace| self.seen.get(namespace)?.until).min()
    }

    /// The oldest of `live`, if it is older than this install.
    fn eldest<'a>(&self, live: &'a [Arc<str>]) -> Option<&'a Arc<str>> {
        let first = live.iter().min_by(|a, b| self.rank(a, b))?;
        self.rank(first, &self.own).is_lt().then_some(first)
    }

    /// Orders installs by age, the oldest first. One without a Lease comes last. Names decide between Leases of the same second.
    fn rank(&self, a: &Arc<str>, b: &Arc<str>) -> Ordering {
        let created = |namespace| self.seen.get(namespace).and_then(|seen| seen.created).unwrap_or(Timestamp::MAX);
        created(a).cmp(&created(b)).then_with(|| a.cmp(b))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn lease(namespace: &str, created: &str, version: u64, holder: &str) -> InstallLease {
        let lease = serde_json::from_value(json!({
            "metadata": { "name": "policy-baseline", "namespace": namespace, "resourceVersion": version.to_string(),
                "creationTimestamp": format!("2026-01-01T00:00:{created}Z") },
            "spec": { "holderIdentity": holder, "leaseDurationSeconds": 15 },
        }));
        InstallLease { lease: lease.unwrap(), may_write: true }
    }

    fn elder(installs: &Installs) -> Option<&str> {
        installs.elder().map(|elder| &**elder)
    }

    #[test]
    fn a_lease_in_a_namespace_without_the_label_is_no_install() {
        let now = Instant::now();
        let mut b = Installs::new("b");
        b.saw(&lease("a-tenant", "01", 1, "x"), now);
        assert!(!b.refresh(|_| false, now));
        assert_eq!(elder(&b), None);
        assert!(b.refresh(|namespace| namespace == "a-tenant", now), "the label may come later");
    }

    #[test]
    fn i16_a_lease_whose_holder_may_not_write_or_that_is_valid_for_long_is_no_install() {
        let now = Instant::now();
        let mut b = Installs::new("b");
        let mut forged = lease("a-tenant", "01", 1, "x");
        forged.may_write = false;
        b.saw(&forged, now);
        assert!(!b.refresh(|_| true, now));
        for (seconds, counts) in [(i32::MAX, false), (3601, false), (3600, true)] {
            let mut long = lease("a-tenant", "01", 2, "x");
            long.lease.spec.as_mut().unwrap().lease_duration_seconds = Some(seconds);
            let mut b = Installs::new("b");
            b.saw(&long, now);
            assert_eq!(b.refresh(|_| true, now), counts, "{seconds}");
        }
        b.saw(&lease("a-tenant", "01", 3, "x"), now);
        assert!(b.refresh(|_| true, now), "it may write by now");
    }

    #[test]
    fn the_oldest_install_that_lives_does_the_work() {
        let now = Instant::now();
        let mut b = Installs::new("b");
        assert!(!b.refresh(|_| true, now));
        b.saw(&lease("b", "05", 1, "x"), now);
        assert!(!b.refresh(|_| true, now), "nobody but us");
        b.saw(&lease("c", "07", 2, "x"), now);
        assert!(b.refresh(|_| true, now));
        assert_eq!((elder(&b), b.live().len()), (None, 1), "a younger one leaves the work to us");
        b.saw(&lease("a", "03", 3, "x"), now);
        assert!(b.refresh(|_| true, now));
        assert_eq!(elder(&b), Some("a"));
        b.saw(&lease("0", "01", 4, "x"), now);
        assert!(b.refresh(|_| true, now));
        assert_eq!(elder(&b), Some("0"));
        b.gone(&lease("0", "01", 4, "x").lease);
        assert!(b.refresh(|_| true, now));
        assert_eq!(elder(&b), Some("a"));
    }

    #[test]
    fn an_install_lives_while_its_lease_is_held_and_renewed() {
        let now = Instant::now();
        let mut b = Installs::new("b");
        b.saw(&lease("a", "03", 1, "x"), now);
        b.refresh(|_| true, now);
        assert_eq!((elder(&b), b.next()), (Some("a"), Some(now + 15 * SECOND)));
        // The same version again, from a new list, is no renewal.
        b.saw(&lease("a", "03", 1, "x"), now + 9 * SECOND);
        b.saw(&lease("a", "03", 2, "x"), now + 10 * SECOND);
        assert!(!b.refresh(|_| true, now + 16 * SECOND));
        assert!(b.refresh(|_| true, now + 25 * SECOND));
        assert_eq!((elder(&b), b.next()), (None, None));
        b.saw(&lease("a", "03", 3, "x"), now + 30 * SECOND);
        assert!(b.refresh(|_| true, now + 30 * SECOND));
        b.saw(&lease("a", "03", 4, ""), now + 31 * SECOND);
        assert!(b.refresh(|_| true, now + 31 * SECOND), "a released Lease says that nobody is there");
        assert_eq!(elder(&b), None);
    }

    #[test]
    fn one_without_a_lease_is_the_youngest_and_names_decide_within_a_second() {
        let now = Instant::now();
        let mut a = Installs::new("a");
        a.saw(&lease("b", "03", 1, "x"), now);
        a.refresh(|_| true, now);
        assert_eq!(elder(&a), Some("b"));
        a.saw(&lease("a", "03", 2, "x"), now);
        assert!(a.refresh(|_| true, now));
        assert_eq!(elder(&a), None);
    }

    #[test]
    fn what_a_list_does_not_name_is_gone() {
        let now = Instant::now();
        let mut b = Installs::new("b");
        b.saw(&lease("a", "03", 1, "x"), now);
        b.relist();
        b.relisted();
        b.refresh(|_| true, now);
        assert_eq!(elder(&b), None);
        // After a list has removed it, a Lease counts again, whatever its version is.
        b.relist();
        b.saw(&lease("a", "03", 1, "x"), now);
        b.relisted();
        b.refresh(|_| true, now);
        assert_eq!(elder(&b), Some("a"));
    }
}
