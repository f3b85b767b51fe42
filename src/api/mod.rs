//! The API: the custom resources, and every name, key and reason that the cluster sees.
//! Must never see a client or a clock. Anyone may call it.

pub mod backends;
pub mod baseline;
pub mod lease;
mod meta;
pub mod names;
pub mod opt_out;
pub mod reason;
mod roles;
pub mod rollout;
mod schema;
pub mod selector;
mod slim;
mod uid;

pub use baseline::{PolicyBaseline, PolicyBaselineSpec, PolicyBaselineStatus};
pub use meta::{cut, resource_version, whole_seconds};
pub use names::{DecidedLabel, NamespaceName, Role};
pub use opt_out::{BaselineOptOut, BaselineOptOutSpec, BaselineOptOutStatus};
pub use roles::Roles;
pub use slim::{SlimNamespace, SlimPolicy};
pub use uid::Uid;
