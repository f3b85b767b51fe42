//! The watches. Each has a backoff of its own, reports its own errors and never ends.

mod dns;
mod kinds;
pub mod stream;

pub use self::{dns::everything as everything_of_dns, kinds::everything};
use crate::api::backends::ConfigurationKind;

/// The watches. Everything waits for the first five of them, and for a while for the others.
pub const WATCHES: [&str; 9] = [
    "namespaces",
    "networkpolicies",
    "policybaselines",
    OPT_OUTS_WATCH,
    "leases",
    ConfigurationKind::Validating.resource(),
    ConfigurationKind::Mutating.resource(),
    ConfigurationKind::ApiService.resource(),
    ConfigurationKind::Crd.resource(),
];

/// The watch of opt-outs. Where the cluster has no CRD for them, there are none.
pub const OPT_OUTS_WATCH: &str = "baselineoptouts";

/// The watch that only baselines with a rollout wait for.
pub const REVISIONS_WATCH: &str = "controllerrevisions";
