//! The state of the search for the API server.

use std::time::Instant;

use super::dns::ChangeBudget;
use crate::policy::kubernetes_api::{ApiSources, ClusterApi};

/// What the engine knows about where the API server is.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct ApiState {
    /// What its objects say, and what was found recently.
    pub sources: ApiSources,
    /// The stored statuses were read since the start.
    pub is_recalled: bool,
    /// What the plans use.
    pub cluster: ClusterApi,
    /// When it must be derived again without an event.
    pub due: Option<Instant>,
    /// The changes that may still be written to all namespaces.
    pub budget: ChangeBudget,
}
