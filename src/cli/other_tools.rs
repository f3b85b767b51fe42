//! The flag that names further tools. The operator and `explain` share it.

use std::sync::Arc;

use clap::Args as ClapArgs;

use crate::api::other_tools::{DomainList, OtherTools};

#[derive(Debug, ClapArgs)]
pub struct ToolArgs {
    /// Domains of tools that mark with labels or annotations what they may delete, besides those that the operator knows; with commas between
    /// them. The operator removes such marks from its policies, and refuses them in baselines.
    #[arg(long, env = "TRACKING_DOMAINS", value_name = "DOMAINS", default_value = "", hide_default_value = true)]
    tracking_domains: DomainList,
}

impl ToolArgs {
    /// The tools whose marks on policies are known.
    pub fn tools(self) -> Arc<OtherTools> {
        Arc::new(OtherTools { tracking: self.tracking_domains })
    }
}
