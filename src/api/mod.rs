//! The API: the custom resources, and all names, keys and reasons that are visible in the cluster.
//! Uses no client and no clock. All other modules may use it.

pub mod allows;
pub mod backends;
pub mod baseline;
pub mod crd_fields;
pub mod finalizers;
pub mod label_query;
pub mod lease;
pub(crate) mod lenient;
mod meta;
pub mod names;
pub mod opt_out;
pub mod other_tools;
pub mod peers;
pub(crate) mod policy_spec;
mod purpose;
pub mod reason;
mod roles;
pub mod rollout;
pub(crate) mod schema;
pub mod selector;
mod slim;
pub mod text;
mod uid;

pub use baseline::{PolicyBaseline, PolicyBaselineSpec, PolicyBaselineStatus};
pub use meta::{resource_version, whole_seconds};
pub use names::{DecidedLabel, NamespaceName, Role};
pub use opt_out::{BaselineOptOut, BaselineOptOutSpec, BaselineOptOutStatus};
pub use purpose::{AllowName, Purpose, PurposeKind};
pub use roles::Roles;
pub use slim::{SlimNamespace, SlimPolicy};
pub use uid::Uid;
