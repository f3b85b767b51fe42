//! What an opt-out asks for, and what a baseline allows. An opt-out that asks for more is not in force as a whole, and the sentence says why.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::duration::duration;
use crate::api::{
    BaselineOptOut, Role, Roles, baseline::OptOutLimits, opt_out::SHORTEST_REASON, reason::OptOutRefusal, whole_seconds,
};

/// What a baseline allows when it says nothing.
const DEFAULT_MAX_DURATION: &str = "720h";

/// An opt-out that can be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OptOut {
    /// Its name.
    pub name: Arc<str>,
    /// The roles that it names.
    pub roles: Roles,
    /// When it was created, by the API server's clock.
    pub created: Timestamp,
    /// When it ends, in whole seconds.
    pub expires: Timestamp,
    /// Who allowed it, and where that was decided.
    pub approval: Option<Arc<str>>,
}

impl OptOut {
    /// Reads an opt-out. The sentence says what is wrong where the CRD of the cluster lets more in than this version knows.
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
            created: object.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |t| t.0),
            expires: whole_seconds(spec.expires_at.0).0,
            approval: (!approval.is_empty()).then(|| approval.join(", ").into()),
        })
    }

    /// Whether its time is over.
    pub fn is_over(&self, now: Timestamp) -> bool {
        now >= self.expires
    }
}

/// What a baseline lets opt-outs ask for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    longest: SignedDuration,
    /// The same, as the baseline says it.
    told: String,
    allowed: Roles,
}

impl Limits {
    /// Reads the limits. An error is the text that is no duration.
    pub fn check(limits: Option<&OptOutLimits>) -> Result<Self, String> {
        let told = limits.and_then(|l| l.max_duration.as_deref()).unwrap_or(DEFAULT_MAX_DURATION);
        let allowed =
            limits.and_then(|l| l.allowed_policies.as_ref()).map_or_else(Roles::all, |roles| roles.iter().copied().collect());
        let longest = duration(told).filter(SignedDuration::is_positive).ok_or(told)?;
        Ok(Self { longest, told: told.into(), allowed })
    }

    /// Why an opt-out does not keep within them, if it does not.
    pub fn refuse(&self, opt_out: &OptOut) -> Option<OptOutRefusal> {
        if !opt_out.roles.without(self.allowed).is_empty() {
            return Some(OptOutRefusal::PolicyNotAllowed);
        }
        (opt_out.expires > self.latest(opt_out)).then_some(OptOutRefusal::TooLong)
    }

    /// When it may end at the latest.
    fn latest(&self, opt_out: &OptOut) -> Timestamp {
        opt_out.created.checked_add(self.longest).unwrap_or(Timestamp::MAX)
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

/// The opt-outs of a namespace whose time is not over, whether or not a baseline admits them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
// Most namespaces have none: one word for each.
pub struct NamespaceOptOuts(Option<Arc<Vec<OptOut>>>);

impl NamespaceOptOuts {
    /// The one by which the namespace does without that role under these limits: of several, the one that ends last.
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
