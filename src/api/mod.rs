//! The API: the custom resources, and every name, key and reason that the cluster sees.
//! Must never see a client or a clock. Anyone may call it.

pub mod baseline;
pub mod names;
pub mod reason;
pub mod rollout;
mod slim;
mod uid;

pub use baseline::{PolicyBaseline, PolicyBaselineSpec, PolicyBaselineStatus};
pub use names::{NamespaceName, Role};
pub use slim::{SlimNamespace, SlimPolicy};
pub use uid::Uid;
