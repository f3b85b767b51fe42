//! What is known of the cluster's DNS.

use std::time::Instant;

use crate::policy::dns::{ClusterDns, Memory, Sources};

/// What is known of DNS.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct DnsState {
    /// What its sources report.
    pub sources: Sources,
    /// What was found lately.
    pub memory: Memory,
    /// What plans are made with.
    pub cluster: ClusterDns,
    /// When something else follows though nothing happens.
    pub due: Option<Instant>,
}
