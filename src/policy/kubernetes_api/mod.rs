//! Finds the API server of the cluster, for allows with the peer `kubernetesAPI`: turns watch events about the Service and the EndpointSlice
//! `default/kubernetes` into single addresses and ports. Network plugins see a packet to the API server before or after its address is
//! translated, so both are found. Uses no client and no clock.

mod found;
mod objects;
mod sources;

pub use found::{ApiDestination, ApiGap, ApiObject, ClusterApi};
pub use objects::{ApiService, ApiSlice};
pub use sources::{ApiEvent, ApiSources};

/// The namespace of the Service.
pub const NAMESPACE: &str = "default";
/// The name of the Service, and of the EndpointSlice that the API server writes for it.
pub const NAME: &str = "kubernetes";
