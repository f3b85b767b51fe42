//! What the watches reported of the operator's own CRDs.

use std::{collections::BTreeMap, time::Instant};

/// What is known of the operator's own CRDs.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct CrdsSeen {
    /// By name: the fields that it lacks.
    pub missing: BTreeMap<String, Vec<String>>,
    /// When the Events about these were sent.
    pub announced: Option<Instant>,
}
