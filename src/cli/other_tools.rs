//! The flags that name further tools. The operator and `explain` share them.

use std::sync::Arc;

use clap::Args as ClapArgs;

use crate::api::other_tools::{DomainList, OtherTools};

#[derive(Debug, ClapArgs)]
pub struct ToolArgs {
    /// Domains of network plugins whose finalizers may stay on the operator's policies, besides those that it knows; with commas between
    /// them. The admission component protect has a list of its own: add them there too.
    #[arg(long, env = "FINALIZER_DOMAINS", value_name = "DOMAINS", default_value = "", hide_default_value = true)]
    finalizer_domains: DomainList,

    /// Domains of tools that mark with labels or annotations what they may delete, besides those that the operator knows; with commas between
    /// them. The operator removes such marks from its policies, and refuses them in baselines.
    #[arg(long, env = "TRACKING_DOMAINS", value_name = "DOMAINS", default_value = "", hide_default_value = true)]
    tracking_domains: DomainList,
}

impl ToolArgs {
    /// The tools whose marks on policies are known.
    pub fn tools(self) -> Arc<OtherTools> {
        Arc::new(OtherTools { finalizers: self.finalizer_domains, tracking: self.tracking_domains })
    }
}
