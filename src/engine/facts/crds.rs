//! What the watches reported of the operator's own CRDs.

use std::collections::BTreeMap;

/// What is known of the operator's own CRDs.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct CrdsSeen {
    /// By name: the fields that it lacks.
    pub missing: BTreeMap<String, Vec<String>>,
    /// Events about these were sent.
    pub announced: bool,
    /// What the engine knows was read through a CRD that lacked fields.
    pub list_again: bool,
}
