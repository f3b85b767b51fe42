//! What is missing from the DNS that policies allow, and the reason that the condition gives.

use crate::api::reason::state;

/// What policies do not allow of the cluster's DNS, or what is not known of it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct DnsGap {
    /// The kind of problem.
    pub kind: DnsGapKind,
    /// What it is about, and what the user can do. For a source that cannot be read, its name.
    pub message: String,
}

/// The kinds of gaps, the worst first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum DnsGapKind {
    /// A source cannot be read.
    NotReadable,
    /// More was found than a policy may hold.
    LeftOut,
    /// No policy can express it, or its place cannot be found out.
    NotExpressible,
}

impl DnsGapKind {
    /// The reason of the condition.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotReadable => state::DNS_NOT_READABLE,
            Self::LeftOut => state::DNS_LEFT_OUT,
            Self::NotExpressible => state::DNS_NOT_EXPRESSIBLE,
        }
    }
}
