//! What an opt-out asks for, and what a baseline allows. An opt-out that asks for more is not in force at all; a message says why.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::duration::duration;
use crate::api::{
    BaselineOptOut, Role, Roles, baseline::OptOutLimits, opt_out::SHORTEST_REASON, reason::OptOutRefusal, whole_seconds,
};

/// The longest duration if the baseline does not set one.
const DEFAULT_MAX_DURATION: &str = "720h";

/// A valid opt-out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OptOut {
    /// The name of the object.
    pub name: Arc<str>,
    /// The roles that the namespace opts out of.
    pub roles: Roles,
    /// When it was created, by the API server's clock, in whole seconds.
    pub created: Timestamp,
    /// When it ends, in whole seconds.
    pub expires: Timestamp,
    /// Who approved it, and the ticket; `None` if the spec has neither.
    pub approval: Option<Arc<str>>,
}

impl OptOut {
    /// Checks an opt-out. The CRD in the cluster may admit more than this version supports; then the error says what is wrong.
    pub fn check(object: &BaselineOptOut) -> Result<Self, String> {
        let spec = &object.spec;
        let roles: Roles = spec.policies.iter().copied().collect();
        if roles.is_empty() {
            return Err("spec.policies: name at least one policy".into());
        }
        if spec.reason.trim().chars().count() < SHORTEST_REASON {
            return Err(format!("spec.reason: say in at least {SHORTEST_REASON} characters why the namespace needs this"));
        }
        let approved = spec.approved_by.as_ref().map(|who| format!("approved by {who}"));
        let approval: Vec<String> = approved.into_iter().chain(spec.ticket.clone()).collect();
        Ok(Self {
            name: object.name_any().into(),
            roles,
            created: object.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |t| whole_seconds(t.0).0),
            expires: whole_seconds(spec.expires_at.0).0,
            approval: (!approval.is_empty()).then(|| approval.join(", ").into()),
        })
    }

    /// Whether it is older than its namespace, which was created at `namespace`. Then it belongs to an earlier namespace of that name: the
    /// namespace controller finishes a namespace without deleting kinds that its discovery does not know yet, for example just after the
    /// API server started.
    pub fn is_older_than(&self, namespace: Timestamp) -> bool {
        self.created < namespace
    }

    /// Whether the opt-out has expired.
    pub fn is_over(&self, now: Timestamp) -> bool {
        now >= self.expires
    }

    /// Whether it had expired before it was created.
    pub fn was_over_at_once(&self) -> bool {
        self.expires <= self.created
    }
}

/// Which opt-outs a baseline allows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    longest: SignedDuration,
    /// The same duration, as written in the baseline.
    told: String,
    allowed: Roles,
}

impl Limits {
    /// Parses the limits. The error is the text that is not a valid duration.
    pub fn check(limits: Option<&OptOutLimits>) -> Result<Self, String> {
        let told = limits.and_then(|l| l.max_duration.as_deref()).unwrap_or(DEFAULT_MAX_DURATION);
        let allowed =
            limits.and_then(|l| l.allowed_policies.as_ref()).map_or_else(Roles::all, |roles| roles.iter().copied().collect());
        let longest = duration(told).filter(SignedDuration::is_positive).ok_or(told)?;
        Ok(Self { longest, told: told.into(), allowed })
    }

    /// Why these limits refuse an opt-out; `None` if they allow it.
    pub fn refuse(&self, opt_out: &OptOut) -> Option<OptOutRefusal> {
        if !opt_out.roles.without(self.allowed).is_empty() {
            return Some(OptOutRefusal::PolicyNotAllowed);
        }
        (opt_out.expires > self.latest(opt_out)).then_some(OptOutRefusal::TooLong)
    }

    /// The latest time at which the opt-out may end.
    fn latest(&self, opt_out: &OptOut) -> Timestamp {
        opt_out.created.checked_add(self.longest).unwrap_or(Timestamp::MAX)
    }

    /// An end that the limits allow: a day after its creation, if they allow so much.
    pub fn example(&self, opt_out: &OptOut) -> Timestamp {
        opt_out.created.checked_add(SignedDuration::from_hours(24)).unwrap_or(Timestamp::MAX).min(self.latest(opt_out))
    }

    pub fn explain(&self, opt_out: &OptOut, refusal: OptOutRefusal, baseline: &str) -> String {
        let Self { told, allowed, .. } = self;
        if refusal == OptOutRefusal::PolicyNotAllowed && allowed.is_empty() {
            return format!("baseline {baseline} allows no opt-outs (spec.optOuts.allowedPolicies)");
        }
        if refusal == OptOutRefusal::PolicyNotAllowed {
            let refused = opt_out.roles.without(*allowed);
            return format!(
                "baseline {baseline} allows no opt-out from {refused}, only from {allowed} (spec.optOuts.allowedPolicies): remove it from spec.policies"
            );
        }
        let (expires, latest) = (opt_out.expires, self.latest(opt_out));
        format!(
            "it ends at {expires}, but baseline {baseline} allows {told} from its creation (spec.optOuts.maxDuration), that is until {latest}: set spec.expiresAt to that, or create a new one"
        )
    }
}

/// The opt-outs of a namespace that have not expired, whether or not a baseline allows them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
// Most namespaces have no opt-outs, so this is one pointer in size.
pub struct NamespaceOptOuts(Option<Arc<Vec<OptOut>>>);

impl NamespaceOptOuts {
    /// The opt-out that removes this role from the namespace under these limits. If there are several, the one that ends last.
    pub fn of(&self, role: Role, limits: &Limits) -> Option<&OptOut> {
        let counts = |o: &&OptOut| o.roles.contains(role) && limits.refuse(o).is_none();
        self.0.as_deref().into_iter().flatten().filter(counts).max_by_key(|o| o.expires)
    }
}

impl FromIterator<OptOut> for NamespaceOptOuts {
    fn from_iter<I: IntoIterator<Item = OptOut>>(opt_outs: I) -> Self {
        let opt_outs: Vec<OptOut> = opt_outs.into_iter().collect();
        Self((!opt_outs.is_empty()).then(|| Arc::new(opt_outs)))
    }
}
