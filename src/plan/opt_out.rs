//! Whether an opt-out is in force: one function, for the operator and whoever else asks.
//! Time is an argument. An opt-out that is out of bounds is not in force as a whole, and the sentence says why.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::Baseline;
use crate::api::{BaselineOptOut, Role, Roles, baseline::OptOutLimits, opt_out::SHORTEST_REASON, reason::Refusal};

/// What a baseline allows when it says nothing.
const DEFAULT_MAX_DURATION: &str = "720h";

/// An opt-out that can be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OptOut {
    /// Its name.
    pub name: Arc<str>,
    /// The roles that it names.
    pub roles: Roles,
    /// When it was created, by the apiserver's clock.
    pub created: Timestamp,
    /// When it ends, in whole seconds.
    pub expires: Timestamp,
    /// Who allowed it, and where that was decided.
    pub approval: Option<Arc<str>>,
}

/// What is planned in the namespace of an opt-out.
#[derive(Clone, Copy, Debug)]
pub enum Ruling<'a> {
    /// No baseline enforces anything there.
    Nobody,
    /// The namespace is older than that baseline, which only reports it.
    Reports(&'a str),
    /// That baseline is enforced there.
    Enforces(&'a Baseline),
    /// That baseline holds the namespace as it is. Whether the opt-out was in force until then.
    Freezes(&'a str, bool),
}

/// Whether an opt-out is in force.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Until then; the sentence says what that means.
    InForce(Timestamp, String),
    /// Why not, in a word and a sentence.
    NotInForce(Refusal, String),
}

impl Verdict {
    /// When it ends, if it is in force.
    pub const fn until(&self) -> Option<Timestamp> {
        match self {
            Self::InForce(until, _) => Some(*until),
            Self::NotInForce(..) => None,
        }
    }
}

/// Decides whether an opt-out is in force at that time.
pub fn verdict(opt_out: &OptOut, ruling: Ruling, now: Timestamp) -> Verdict {
    let OptOut { roles, expires, .. } = opt_out;
    if opt_out.is_over(now) {
        let message = match ruling {
            Ruling::Freezes(baseline, true) => {
                format!("it expired at {expires}; baseline {baseline} holds everything here as it is until it goes on")
            }
            _ => format!(
                "it expired at {expires}, and {roles} counts here as everywhere; if the exception is still needed, create a new one"
            ),
        };
        return Verdict::NotInForce(Refusal::Expired, message);
    }
    let in_force = |more: &str| Verdict::InForce(*expires, format!("this namespace does without {roles} until {expires}{more}"));
    match ruling {
        Ruling::Nobody => {
            let message = "no baseline enforces policies in this namespace, so there is nothing to do without".into();
            Verdict::NotInForce(Refusal::NoBaseline, message)
        }
        Ruling::Reports(baseline) => {
            let message = format!(
                "this namespace is older than baseline {baseline}, which only reports it, so there is nothing to do without"
            );
            Verdict::NotInForce(Refusal::ExistingNamespace, message)
        }
        Ruling::Freezes(baseline, true) => {
            in_force(&format!("; baseline {baseline} holds everything here as it is, also beyond that time, until it goes on"))
        }
        Ruling::Freezes(baseline, false) => {
            let message = format!(
                "baseline {baseline} is suspended, stalled or waits for a confirmation, and holds everything here as it is until it goes on"
            );
            Verdict::NotInForce(Refusal::BaselineFrozen, message)
        }
        Ruling::Enforces(Baseline { name, opt_outs: limits, .. }) => match limits.refuse(opt_out) {
            None => in_force(""),
            Some(refusal) => Verdict::NotInForce(refusal, limits.explain(opt_out, refusal, name)),
        },
    }
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
            expires: whole_seconds(spec.expires_at.0),
            approval: (!approval.is_empty()).then(|| approval.join(", ").into()),
        })
    }

    /// Whether its time is over.
    pub fn is_over(&self, now: Timestamp) -> bool {
        now >= self.expires
    }
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
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
            limits.and_then(|l| l.allowed_roles.as_ref()).map_or_else(Roles::all, |roles| roles.iter().copied().collect());
        let longest = duration(told).filter(SignedDuration::is_positive).ok_or(told)?;
        Ok(Self { longest, told: told.into(), allowed })
    }

    /// Why an opt-out does not keep within them, if it does not.
    fn refuse(&self, opt_out: &OptOut) -> Option<Refusal> {
        if !opt_out.roles.without(self.allowed).is_empty() {
            return Some(Refusal::RoleNotAllowed);
        }
        (opt_out.expires > self.latest(opt_out)).then_some(Refusal::TooLong)
    }

    /// When it may end at the latest.
    fn latest(&self, opt_out: &OptOut) -> Timestamp {
        opt_out.created.checked_add(self.longest).unwrap_or(Timestamp::MAX)
    }

    fn explain(&self, opt_out: &OptOut, refusal: Refusal, baseline: &str) -> String {
        let Self { told, allowed, .. } = self;
        if refusal == Refusal::RoleNotAllowed && allowed.is_empty() {
            return format!("baseline {baseline} allows no opt-outs (spec.optOuts.allowedRoles)");
        }
        if refusal == Refusal::RoleNotAllowed {
            let refused = opt_out.roles.without(*allowed);
            return format!(
                "baseline {baseline} does not give up {refused}, only {allowed} (spec.optOuts.allowedRoles): take it out of spec.policies"
            );
        }
        let (expires, latest) = (opt_out.expires, self.latest(opt_out));
        format!(
            "it ends at {expires}, and baseline {baseline} allows {told} from its creation (spec.optOuts.maxDuration), that is until {latest}: write that into spec.expiresAt, or create a new one"
        )
    }
}

/// Hours, minutes and seconds, as in 1h30m.
fn duration(text: &str) -> Option<SignedDuration> {
    let mut seconds: i64 = 0;
    let mut rest = text;
    while let Some(end) = rest.find(|c: char| !c.is_ascii_digit()) {
        let (number, unit) = rest.split_at(end);
        let number: i64 = number.parse().ok()?;
        let (unit, after) = unit.split_at_checked(1)?;
        let unit = match unit {
            "h" => 3_600,
            "m" => 60,
            "s" => 1,
            _ => return None,
        };
        seconds = seconds.checked_add(number.checked_mul(unit)?)?;
        rest = after;
    }
    (rest.is_empty() && !text.is_empty()).then(|| SignedDuration::from_secs(seconds))
}

/// The opt-outs of a namespace whose time is not over, whether or not a baseline admits them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OptOuts(Box<[OptOut]>);

impl OptOuts {
    /// The one by which the namespace does without that role under these limits: of several, the one that ends last.
    pub fn of(&self, role: Role, limits: &Limits) -> Option<&OptOut> {
        let counts = |o: &&OptOut| o.roles.contains(role) && limits.refuse(o).is_none();
        self.0.iter().filter(counts).max_by_key(|o| o.expires)
    }
}

impl FromIterator<OptOut> for OptOuts {
    fn from_iter<I: IntoIterator<Item = OptOut>>(opt_outs: I) -> Self {
        Self(opt_outs.into_iter().collect())
    }
}
