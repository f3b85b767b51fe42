//! What is read of the Service and the EndpointSlice of the API server, and nothing else.

use std::{collections::BTreeSet, net::IpAddr};

use k8s_openapi::{
    api::{core::v1::Service, discovery::v1::EndpointSlice},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::Resource;
use serde::Deserialize;

use super::found::{ApiDestination, may_be_api};
use crate::policy::dns::named;

/// The watched form of the Service.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = "Service")]
pub struct ApiService {
    #[serde(deserialize_with = "named")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: ApiServiceSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ApiServiceSpec {
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Vec<String>,
    ports: Vec<ApiPort>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ApiPort {
    port: Option<i64>,
    protocol: Option<String>,
}

/// The watched form of the EndpointSlice.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = "EndpointSlice")]
pub struct ApiSlice {
    #[serde(deserialize_with = "named")]
    metadata: ObjectMeta,
    #[serde(default)]
    endpoints: Option<Vec<ApiEndpoint>>,
    #[serde(default)]
    ports: Option<Vec<ApiPort>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ApiEndpoint {
    addresses: Vec<String>,
}

impl ApiService {
    /// Its cluster IPs, on its TCP ports: what pods connect to, before the translation.
    pub fn destinations(&self) -> BTreeSet<ApiDestination> {
        let ApiServiceSpec { cluster_ip, cluster_ips, ports } = &self.spec;
        destinations(cluster_ip.iter().chain(cluster_ips), ports)
    }
}

impl ApiSlice {
    /// Its addresses, on its TCP ports: where connections arrive, after the translation.
    pub fn destinations(&self) -> BTreeSet<ApiDestination> {
        let addresses = self.endpoints.iter().flatten().flat_map(|endpoint| &endpoint.addresses);
        destinations(addresses, self.ports.as_deref().unwrap_or_default())
    }
}

fn destinations<'a>(addresses: impl Iterator<Item = &'a String>, ports: &[ApiPort]) -> BTreeSet<ApiDestination> {
    let is_tcp = |port: &&ApiPort| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
    let number = |port: &ApiPort| u16::try_from(port.port?).ok().filter(|port| *port != 0);
    let numbers: Vec<u16> = ports.iter().filter(is_tcp).filter_map(number).collect();
    let parsed = addresses.filter_map(|text| text.parse::<IpAddr>().ok()).map(|address| address.to_canonical());
    let usable = parsed.filter(|address| may_be_api(*address));
    usable.flat_map(|address| numbers.iter().map(move |port| ApiDestination { address, port: *port })).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn words(destinations: BTreeSet<ApiDestination>) -> String {
        destinations.iter().map(ApiDestination::words).collect::<Vec<_>>().join("; ")
    }

    fn service(spec: Value) -> String {
        let object = json!({"metadata": {"name": "kubernetes"}, "spec": spec});
        words(serde_json::from_value::<ApiService>(object).unwrap().destinations())
    }

    fn slice(endpoints: Value, ports: Value) -> String {
        let object = json!({"metadata": {"name": "kubernetes"}, "endpoints": endpoints, "ports": ports});
        words(serde_json::from_value::<ApiSlice>(object).unwrap().destinations())
    }

    #[test]
    fn both_forms_of_the_address_are_read_with_their_ports() {
        let https = json!([{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}]);
        assert_eq!(
            service(json!({"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"], "ports": https})),
            "10.96.0.1/32 on port 443; fd00::1/128 on port 443"
        );
        assert_eq!(service(json!({"clusterIP": "10.96.0.1", "ports": https})), "10.96.0.1/32 on port 443");
        assert_eq!(
            slice(json!([{"addresses": ["192.0.2.9"]}, {"addresses": ["192.0.2.8"]}]), json!([{"port": 6443}])),
            "192.0.2.8/32 on port 6443; 192.0.2.9/32 on port 6443"
        );
    }

    #[test]
    fn what_is_no_address_or_no_port_of_tcp_is_left_out() {
        for spec in [
            json!({}),
            json!({"clusterIP": "None", "ports": [{"port": 443}]}),
            json!({"clusterIP": "0.0.0.0", "ports": [{"port": 443}]}),
            json!({"clusterIP": "127.0.0.1", "ports": [{"port": 443}]}),
            json!({"clusterIP": "10.96.0.1", "ports": [{"port": 0}, {"port": 70000}, {"port": 53, "protocol": "UDP"}, {}]}),
        ] {
            assert_eq!(service(spec.clone()), "", "{spec}");
        }
        assert_eq!(slice(Value::Null, Value::Null), "");
        assert_eq!(
            slice(json!([{"addresses": ["224.0.0.1", "169.254.169.254", "fe80::1", "x"]}, {}]), json!([{"port": 6443}])),
            ""
        );
    }
}
