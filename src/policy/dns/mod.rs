//! Finds the cluster's DNS: turns watch events and a resolv.conf into what an egress policy must allow.
//! Uses no client and no clock. The result is sorted and limited in size; it names single addresses or labelled pods, never everything.

mod derive;
mod found;
mod gap;
mod memory;
mod objects;
mod recalled;
mod resolv;
mod sources;
mod told;

pub use derive::NODE_LOCAL_ADDRESS;
pub use found::{ClusterDns, DnsDestination, DnsPlace};
pub use gap::DnsGap;
pub use memory::{KEPT, Memory};
pub use objects::{Object, SlimDaemonSet, SlimPod, SlimService, SlimSlice, is_usable, named};
pub use sources::{DnsEvent, OPERATORS_RESOLV_CONF, Source, Sources};

/// The namespace in which most clusters run DNS. Baselines exclude it by default.
pub const KUBE_SYSTEM: &str = "kube-system";
/// The namespace in which OpenShift runs DNS.
pub const OPENSHIFT_DNS: &str = "openshift-dns";
/// The label key of DNS Services and DNS pods in kube-system.
pub const APP_LABEL: &str = "k8s-app";
/// The value of [`APP_LABEL`]; also the name of the DNS Service.
pub const KUBE_DNS: &str = "kube-dns";
/// The name of the Service and of the DaemonSet of OpenShift's DNS.
pub const OPENSHIFT_NAME: &str = "dns-default";
/// The name of the DaemonSet of NodeLocal DNSCache.
pub const NODE_LOCAL: &str = "node-local-dns";
/// The port of DNS.
pub const PORT: u16 = 53;
