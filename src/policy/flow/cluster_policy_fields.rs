//! The fields of AdminNetworkPolicies, BaselineAdminNetworkPolicies and ClusterNetworkPolicies, as their versions write them (`v1alpha1` has
//! `ports`, later versions have `protocols`), and how they become one form.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;

use super::{
    cluster_policy::{ClusterPolicy, ClusterPolicyKind, NamespacedPods, PolicyTier, TierAction, TierPeer, TierPort, TierRule},
    rule_parts::Way,
};
use crate::api::peers::Protocol;

/// The fields of a policy of any of the kinds.
#[derive(Deserialize)]
pub struct ClusterPolicyFields {
    metadata: ClusterName,
    spec: ClusterPolicySpec,
}

#[derive(Deserialize)]
struct ClusterName {
    name: String,
}

#[derive(Deserialize)]
struct ClusterPolicySpec {
    tier: Option<PolicyTier>,
    priority: Option<i32>,
    subject: SubjectFields,
    ingress: Option<Vec<TierRuleFields>>,
    egress: Option<Vec<TierRuleFields>>,
}

#[derive(Deserialize)]
struct SubjectFields {
    namespaces: Option<LabelSelector>,
    pods: Option<NamespacedPods>,
}

#[derive(Deserialize)]
struct TierRuleFields {
    name: Option<String>,
    action: TierAction,
    from: Option<Vec<TierPeerFields>>,
    to: Option<Vec<TierPeerFields>>,
    ports: Option<Vec<TierPortFields>>,
    protocols: Option<Vec<TierPortFields>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TierPeerFields {
    namespaces: Option<LabelSelector>,
    pods: Option<NamespacedPods>,
    nodes: Option<LabelSelector>,
    networks: Option<Vec<String>>,
    domain_names: Option<Vec<String>>,
}

/// The first three fields are those of v1alpha1, the others those of later versions.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TierPortFields {
    port_number: Option<ProtocolAndPort>,
    port_range: Option<ProtocolAndRange>,
    named_port: Option<String>,
    tcp: Option<DestinationField>,
    udp: Option<DestinationField>,
    sctp: Option<DestinationField>,
    destination_named_port: Option<String>,
}

#[derive(Deserialize)]
struct ProtocolAndPort {
    protocol: Option<String>,
    port: i64,
}

#[derive(Deserialize)]
struct ProtocolAndRange {
    protocol: Option<String>,
    start: i64,
    end: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DestinationField {
    destination_port: Option<NumberOrRange>,
}

#[derive(Deserialize)]
struct NumberOrRange {
    number: Option<i64>,
    range: Option<PortRangeFields>,
}

#[derive(Deserialize)]
struct PortRangeFields {
    start: i64,
    end: i64,
}

impl ClusterPolicyFields {
    /// The policy, if these are the fields of one of this kind. An error names the field.
    pub fn of_kind(self, kind: ClusterPolicyKind) -> Result<ClusterPolicy, String> {
        let Self { metadata: ClusterName { name }, spec } = self;
        let tier = match kind {
            ClusterPolicyKind::Admin => PolicyTier::Admin,
            ClusterPolicyKind::BaselineAdmin => PolicyTier::Baseline,
            ClusterPolicyKind::Cluster => spec.tier.ok_or("spec: missing field `tier`")?,
        };
        let priority = match kind {
            // A cluster has only one of them.
            ClusterPolicyKind::BaselineAdmin => 0,
            ClusterPolicyKind::Admin | ClusterPolicyKind::Cluster => spec.priority.ok_or("spec: missing field `priority`")?,
        };
        let subject = match (spec.subject.namespaces, spec.subject.pods) {
            (Some(namespaces), None) => all_of(namespaces),
            (None, Some(pods)) => pods,
            (Some(_), Some(_)) | (None, None) => return Err("spec.subject: it needs either `namespaces` or `pods`".into()),
        };
        let rules = |rules: Option<Vec<TierRuleFields>>, way| rules.into_iter().flatten().map(|rule| rule.read(way)).collect();
        let (egress, ingress) = (rules(spec.egress, Way::Egress), rules(spec.ingress, Way::Ingress));
        Ok(ClusterPolicy { kind, name, tier, priority, subject, egress, ingress })
    }
}

/// All pods of the selected namespaces.
fn all_of(namespace_selector: LabelSelector) -> NamespacedPods {
    NamespacedPods { namespace_selector, ..NamespacedPods::default() }
}

impl TierRuleFields {
    fn read(self, way: Way) -> TierRule {
        let peers = match way {
            Way::Egress => self.to,
            Way::Ingress => self.from,
        };
        let peers = peers.into_iter().flatten().map(|peer| peer.read(way)).collect();
        let ports = self.ports.or(self.protocols).into_iter().flatten().map(TierPortFields::read).collect();
        TierRule { name: self.name.filter(|name| !name.is_empty()), action: self.action, peers, ports }
    }
}

impl TierPeerFields {
    fn read(self, way: Way) -> TierPeer {
        let of_pods = [self.namespaces.map(|namespaces| TierPeer::Pods(all_of(namespaces))), self.pods.map(TierPeer::Pods)];
        let of_egress = [
            self.nodes.map(TierPeer::Nodes),
            self.networks.map(TierPeer::Networks),
            self.domain_names.map(|_| TierPeer::DomainNames),
        ];
        // No version has these fields for ingress.
        only(of_pods.into_iter().chain(of_egress.into_iter().filter(|_| way == Way::Egress))).unwrap_or(TierPeer::Unknown)
    }
}

impl TierPortFields {
    fn read(self) -> TierPort {
        let named = |protocol: Option<String>| Protocol::named(protocol.as_deref());
        only([
            self.port_number.map(|of| numbers(named(of.protocol), of.port, of.port)),
            self.port_range.map(|of| numbers(named(of.protocol), of.start, of.end)),
            self.named_port.map(TierPort::Name),
            self.tcp.map(|field| field.read(Protocol::TCP)),
            self.udp.map(|field| field.read(Protocol::UDP)),
            self.sctp.map(|field| field.read(Protocol::SCTP)),
            self.destination_named_port.filter(|name| !name.is_empty()).map(TierPort::Name),
        ])
        .unwrap_or(TierPort::Unknown)
    }
}

impl DestinationField {
    fn read(self, protocol: Protocol) -> TierPort {
        match self.destination_port {
            None => TierPort::Every(protocol),
            Some(NumberOrRange { number: Some(number), range: None }) => numbers(Some(protocol), number, number),
            Some(NumberOrRange { number: None, range: Some(range) }) => numbers(Some(protocol), range.start, range.end),
            Some(NumberOrRange { .. }) => TierPort::Unknown,
        }
    }
}

fn numbers(protocol: Option<Protocol>, first: i64, last: i64) -> TierPort {
    let number = |number: i64| u16::try_from(number).ok().filter(|number| *number > 0);
    match (protocol, number(first), number(last)) {
        (Some(protocol), Some(first), Some(last)) => TierPort::Numbers(protocol, first, last),
        _ => TierPort::Unknown,
    }
}

/// The one field that is set. None: there is none, or there are several.
fn only<T>(fields: impl IntoIterator<Item = Option<T>>) -> Option<T> {
    let mut set = fields.into_iter().flatten();
    let first = set.next()?;
    set.next().is_none().then_some(first)
}
