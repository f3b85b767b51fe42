//! The harness of the end-to-end suites: a real control plane, the real operator, and observers of both.
//!
//! Nothing here decides what is correct. It starts, stops, applies, reads and waits. A process that was started here never outlives the
//! process that asked for it.

pub mod audit;
pub mod bench;
pub mod cluster;
mod custom_kinds;
pub mod demo;
pub mod dice;
pub mod gitops;
mod kubeconfig;
pub mod operator;
mod paths;
mod pki;
pub mod pool;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod reference;
mod state_dir;
mod sweep;
pub mod wait;
pub mod world;

pub use audit::{AuditEntry, AuditLog, AuditMark, skipped_without_audit_log, writes_by};
pub use cluster::{ControlPlane, Options, components_on};
pub use dice::Dice;
pub use operator::Operator;
pub use paths::{built, repo};
pub use pool::Lease;
pub use proxy::Proxy;
pub use wait::{TIMEOUT, eventually};
pub use world::{EVERYTHING, World};

/// The namespace and the ServiceAccount of the operator, as `manifests/base` has them.
pub const SYSTEM_NAMESPACE: &str = "policy-baseline-system";
pub const SERVICE_ACCOUNT: &str = "policy-baseline";

/// Every object with the label `e2e.policybaseline.io/test=true` belongs to a test, and is removed between two tests.
pub const TEST_LABEL: &str = "e2e.policybaseline.io/test";

/// Members of this group may do what the admission components deny.
pub const BREAK_GLASS: &str = "policybaseline.io:break-glass";
