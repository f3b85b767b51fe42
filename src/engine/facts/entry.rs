//! The last observed state of one namespace and its policies.

use std::{collections::BTreeSet, num::NonZeroU64, sync::Arc};

use jiff::Timestamp;

use crate::{
    api::{Role, Uid, names::DENIES},
    policy::{
        drift::{Fingerprint, Policies},
        netpol::{Peers, Ports},
        plan::{Closed, Holdings, Namespace},
    },
};

/// One namespace and its policies.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct Entry {
    /// The namespace; `None` until the watch of namespaces shows it.
    pub namespace: Option<Namespace>,
    /// The uid of the namespace.
    pub uid: Option<Uid>,
    /// All its policies, ours and those of others.
    pub policies: Policies,
    /// It held one of our policies while this process ran, and was not released since.
    pub established: bool,
    /// When an opt-out here was first in force; of several opt-outs the latest time.
    pub opted_out: Option<Box<Timestamp>>,
    /// The directions that only policies close which were seen in a former namespace of this name.
    pub former: Closed,
    /// What last happened to its policies.
    pub standing: ChangeOrigin,
    /// The last baseline whose plan it fully held.
    pub owner: Option<Arc<str>>,
    /// The resourceVersion with which the watch showed the new namespace. `None` if a list named it first: a list does not tell when
    /// something appeared.
    pub appeared: Option<NonZeroU64>,
}

/// What last happened to the policies of a namespace. It separates drift from normal work.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ChangeOrigin {
    /// Unknown: it was like this when this instance began.
    #[default]
    Found,
    /// Its first policies are being written.
    Bootstrapping,
    /// It was as planned at the last assessment, and nobody has changed its policies since.
    Settled,
    /// Somebody changed its policies since then.
    Touched,
}

impl Entry {
    pub(super) fn touch(&mut self) {
        // The first policies are still to be written, so nobody can have changed them.
        if self.standing != ChangeOrigin::Bootstrapping {
            self.standing = ChangeOrigin::Touched;
        }
    }

    /// Stores a policy unless it is known, or older than the known one. Returns whether that changed anything.
    pub(super) fn store(&mut self, name: Arc<str>, print: Fingerprint) -> bool {
        if self.policies.get(&name).is_some_and(|known| *known == print || is_newer(known, print.version)) {
            return false;
        }
        self.established |= print.ours;
        if self.policies.get(&name).is_none_or(|known| known.uid != print.uid) {
            let closes = closes(&name, &print);
            let Closed { ingress, egress } = self.former;
            self.former = Closed { ingress: ingress && !closes.ingress, egress: egress && !closes.egress };
        }
        if let Some(namespace) = &mut self.namespace {
            namespace.closed = namespace.closed.or(closes(&name, &print));
        }
        self.policies.insert(name, print);
        true
    }

    /// Whether a policy with this resourceVersion was in the former namespace of this name: it is older than this namespace.
    pub(super) fn is_of_former(&self, version: u64) -> bool {
        version > 0 && self.appeared.is_some_and(|appeared| version < appeared.get())
    }

    /// Forgets the policies of the former namespace. The API server removed them with it, although the watch of policies did not show that
    /// yet.
    pub(super) fn forget_policies_of_former(&mut self) {
        let mut policies = std::mem::take(&mut self.policies);
        policies.retain(|_, print| !self.is_of_former(print.version));
        self.policies = policies;
    }

    /// Policies are gone. A direction that only those of a former namespace closed was never closed in this one.
    pub(super) fn forget_former(&mut self) {
        let there = self.closed();
        if let Some(namespace) = &mut self.namespace {
            let Closed { ingress, egress } = namespace.closed;
            let ingress = ingress && (there.ingress || !self.former.ingress);
            namespace.closed = Closed { ingress, egress: egress && (there.egress || !self.former.egress) };
        }
        self.former = self.former.and(there);
    }

    /// Which of our policies it holds or held, and from which baselines.
    pub fn holdings(&self) -> Holdings {
        let any = self.established || self.holds_ours();
        let (owner, appeared) = (self.owner.clone(), self.appeared);
        let closing = |role: Role| {
            self.policies.iter().filter_map(move |(name, print)| {
                let owner = print.baseline.clone().filter(|_| closes(name, print).by(role) && !opens_all(print, role))?;
                Some((role, owner))
            })
        };
        let denies = DENIES.into_iter().flat_map(closing).collect();
        let ours = self.policies.iter().filter(|(_, print)| print.ours);
        let wide: Vec<_> = ours.filter_map(|(name, print)| Some((name.clone(), print.wide.clone()?))).collect();
        let prefixes = if wide.is_empty() { BTreeSet::new() } else { self.prefixes() };
        let opted_out = self.opted_out.as_deref().copied();
        let mut holdings = Holdings { any, opted_out, denies, wide, prefixes, owner, appeared, ..Holdings::default() };
        for print in self.policies.values().filter(|print| print.ours) {
            if let Some(name) = print.baseline.clone() {
                holdings.add_named(name, print.terminating.is_none().then_some(print.version));
            }
        }
        holdings
    }

    /// The prefixes of our default-denies there.
    fn prefixes(&self) -> BTreeSet<Arc<str>> {
        let ours = self.policies.iter().filter(|(_, print)| print.ours);
        ours.flat_map(|(name, _)| DENIES.into_iter().filter_map(move |role| name.strip_suffix(role.suffix()).map(Arc::from)))
            .collect()
    }

    /// Whether it is being deleted.
    pub fn is_terminating(&self) -> bool {
        self.namespace.as_ref().is_some_and(|namespace| namespace.terminating)
    }

    /// Whether a policy of ours is there now.
    pub fn holds_ours(&self) -> bool {
        self.policies.values().any(|p| p.ours)
    }

    /// Whether it held one of our policies, or an opt-out was in force here.
    pub const fn was_ours(&self) -> bool {
        self.established || self.opted_out.is_some()
    }

    /// The directions that our policies close now.
    pub(super) fn closed(&self) -> Closed {
        self.policies.iter().fold(Closed::default(), |closed, (name, print)| closed.or(closes(name, print)))
    }

    /// The directions that our policies close, or closed while this process watched and the plan closed them.
    pub fn was_closed(&self) -> Closed {
        self.namespace.as_ref().map(|namespace| namespace.closed).unwrap_or_default()
    }

    /// The directions of our default-denies that were deleted and that finalizers keep. Until they are gone, they deny.
    pub fn kept_closed(&self) -> Closed {
        let kept = self.policies.iter().filter(|(_, print)| print.terminating.is_some());
        kept.fold(Closed::default(), |closed, (name, print)| closed.or(closes(name, print)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.namespace.is_none() && self.policies.is_empty()
    }
}

/// Whether a policy lets everybody through in the direction of this default-deny. Then it denies nothing, whatever its name is.
fn opens_all(print: &Fingerprint, role: Role) -> bool {
    let opening = if role == Role::DefaultDenyIngress { print.opens.ingress } else { print.opens.egress };
    opening.is_some_and(|opening| opening.peers == Peers::Everybody && opening.ports == Ports::All)
}

/// The direction that this policy closes, if it is ours. The name decides, because the policy's id confirms it. Labels alone can be edited.
pub(super) fn closes(name: &str, print: &Fingerprint) -> Closed {
    let is = |role: Role| print.ours && name.ends_with(role.suffix());
    Closed { ingress: is(Role::DefaultDenyIngress), egress: is(Role::DefaultDenyEgress) }
}

/// Whether the known one is newer than that version. An unknown version is newer than any.
pub(super) const fn is_newer(known: &Fingerprint, version: u64) -> bool {
    version > 0 && known.version > version
}
