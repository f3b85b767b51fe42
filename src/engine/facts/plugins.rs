//! What the watches reported of network plugins. One watch for each name of a DaemonSet, because the operator may list them only by name.

use std::collections::{BTreeMap, BTreeSet};

use crate::policy::{
    listing::Listing,
    plugins::{PluginJudgement, PluginsFound},
};

/// The network plugins, with the state of their watches.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub struct WatchedPlugins {
    /// What was found so far.
    pub found: PluginsFound,
    /// By name of the DaemonSets: the namespaces that its list has named so far.
    pub listings: BTreeMap<&'static str, Listing<String>>,
    /// The names whose list is complete.
    pub listed: BTreeSet<&'static str>,
    /// What the status says. `None` until the operator has looked.
    pub judgement: Option<PluginJudgement>,
}
