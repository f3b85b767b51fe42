//! Where the cluster's DNS is: what watches and a resolv.conf say becomes what an egress policy has to allow.
//! Never sees a client or a clock. What it finds is sorted and bounded, and names single addresses or pods with labels, never everything.

mod found;
mod memory;
mod objects;
mod resolv;
mod sources;

pub use found::{ClusterDns, DnsDestination, DnsPlace};
pub use memory::{KEPT, Memory};
pub use objects::{Object, SlimDaemonSet, SlimPod, SlimService, SlimSlice};
pub use sources::{Derived, DnsEvent, OPERATORS_RESOLV_CONF, Source, Sources};

/// The namespace where DNS is in most clusters. It is always left out by baselines.
pub const KUBE_SYSTEM: &str = "kube-system";
/// The namespace of OpenShift's DNS.
pub const OPENSHIFT_DNS: &str = "openshift-dns";
/// The label of DNS Services and of DNS pods in kube-system.
pub const APP_LABEL: &str = "k8s-app";
/// The value of that label.
pub const KUBE_DNS: &str = "kube-dns";
/// The Service and the DaemonSet of OpenShift's DNS.
pub const OPENSHIFT_NAME: &str = "dns-default";
/// The DaemonSet of NodeLocal DNSCache.
pub const NODE_LOCAL: &str = "node-local-dns";
/// The port of DNS.
pub const PORT: u16 = 53;
