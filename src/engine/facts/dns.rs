//! The state of DNS discovery.

use std::time::Instant;

use crate::policy::dns::{ClusterDns, Memory, Sources};

/// What the engine knows about the cluster's DNS.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct DnsState {
    /// What the DNS sources report.
    pub sources: Sources,
    /// What was found recently. It is kept for a while after it is gone.
    pub memory: Memory,
    /// The DNS that the plans use.
    pub cluster: ClusterDns,
    /// When the DNS must be derived again without an event.
    pub due: Option<Instant>,
}
