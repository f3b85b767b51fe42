//! The causes of symptoms: what each is, whether it was found, by what, and what to do.

use std::collections::BTreeSet;

use serde::Serialize;
use strum::IntoStaticStr;

/// The most lines of evidence of a cause. What is left out is counted.
const MOST_EVIDENCE: usize = 8;

/// A possible cause of a symptom.
#[derive(Clone, Copy, Debug, Eq, IntoStaticStr, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
#[strum(const_into_str, serialize_all = "kebab-case")]
pub enum CauseName {
    EgressDeniesDns,
    DnsOverUdpOnly,
    DnsPodsDiffer,
    DnsRuleSelectsNothing,
    DnsPortOfService,
    IngressOfDnsDenies,
    DnsNotReady,
    NodeLocalDns,
    OwnNameservers,
    SearchDomains,
    EgressDenied,
    IngressDenied,
    NoEndpoints,
    NotReady,
    WrongPort,
    NoSharedFamily,
    DnsOfSource,
    NothingListens,
    SelectsNoPod,
    SelectsOtherPods,
    PolicyTypes,
    AllowedByRule,
    AllowsEverybody,
    OrInsteadOfAnd,
    HostNetwork,
    OwnNode,
    OpenConnection,
    HiddenClient,
    TierAllows,
    PluginIgnores,
    OneDirection,
    BothDirections,
    AddressOfPodOrService,
    SourceAddress,
    NamedPort,
    PortOfService,
    OtherPort,
    NamespaceLabels,
    PodLabels,
    NearestRule,
    EndPort,
    AlwaysDenied,
    EndpointsDiffer,
    EndpointsNotReady,
    SourcesDiffer,
    FamiliesDiffer,
    NodesDiffer,
    MutableLabels,
    YoungPolicy,
    TierDenies,
    Undecided,
    OtherKinds,
}

impl CauseName {
    /// What it is.
    pub const fn what(self) -> &'static str {
        match self {
            Self::EgressDeniesDns => "the egress policies of the pod do not allow DNS",
            Self::DnsOverUdpOnly => "DNS is allowed over UDP and not over TCP",
            Self::DnsPodsDiffer => "the policies treat the DNS pods differently",
            Self::DnsRuleSelectsNothing => "a rule for DNS selects no pod",
            Self::DnsPortOfService => "a rule names the port of the DNS Service, and the DNS pods listen on another one",
            Self::IngressOfDnsDenies => "the ingress policies of the DNS pods deny it",
            Self::DnsNotReady => "the DNS Service has no ready endpoint",
            Self::NodeLocalDns => "NodeLocal DNSCache runs, and the policies do not allow it",
            Self::OwnNameservers => "the pod asks other nameservers than the DNS of the cluster",
            Self::SearchDomains => "the DNS answers, but a name takes many requests",
            Self::EgressDenied => "the egress of the source is denied",
            Self::IngressDenied => "the ingress of the destination is denied",
            Self::NoEndpoints => "the Service leads to no ready pod",
            Self::NotReady => "a pod does not run, or is not ready",
            Self::WrongPort => "the port is not the one on which the destination is reached",
            Self::NoSharedFamily => "both ends share no address family",
            Self::DnsOfSource => "the source cannot resolve names",
            Self::NothingListens => "nothing listens on the port",
            Self::SelectsNoPod => "the policy selects no pod",
            Self::SelectsOtherPods => "the policy selects other pods",
            Self::PolicyTypes => "policyTypes of the policy leaves the direction out",
            Self::AllowedByRule => "a rule allows it: policies add up",
            Self::AllowsEverybody => "the rule that allows it allows everybody, or every port",
            Self::OrInsteadOfAnd => "two peers allow more than one peer with both selectors would",
            Self::HostNetwork => "a pod is on the host network, where policies do not apply",
            Self::OwnNode => "one end is the node of the other: these always reach each other",
            Self::OpenConnection => "the connection is older than the policy",
            Self::HiddenClient => "the client arrives with the address of a node",
            Self::TierAllows => "a policy of the Admin tier or of the Baseline tier allows it",
            Self::PluginIgnores => "the network plugin does not enforce policies",
            Self::OneDirection => "only one direction is allowed, and both are needed",
            Self::BothDirections => "no direction is allowed",
            Self::AddressOfPodOrService => "an ipBlock names the address of a pod or of a Service",
            Self::SourceAddress => "the destination sees another source than the rule names",
            Self::NamedPort => "the name of the port in a rule stands for another number",
            Self::PortOfService => "a rule names the port of the Service, and the pods listen on another one",
            Self::OtherPort => "a rule for this peer names other ports",
            Self::NamespaceLabels => "a rule for this port selects other namespaces",
            Self::PodLabels => "a rule for this port selects other pods",
            Self::NearestRule => "a rule that nearly allows it misses in more than one part",
            Self::EndPort => "the network plugin ignores endPort",
            Self::AlwaysDenied => "it does not come and go: policies always deny it",
            Self::EndpointsDiffer => "the policies treat the pods behind the destination differently",
            Self::EndpointsNotReady => "some pods behind the destination are not ready, or are being deleted",
            Self::SourcesDiffer => "the policies treat the replicas of the source differently",
            Self::FamiliesDiffer => "only one address family is allowed",
            Self::NodesDiffer => "it depends on the node: pods reach what is on their own node",
            Self::MutableLabels => "a selector has labels that change with each release",
            Self::YoungPolicy => "a policy is younger than the pods",
            Self::TierDenies => "a policy of the Admin tier or of the Baseline tier denies it",
            Self::Undecided => "it is not defined what the policies mean here, or not all could be read",
            Self::OtherKinds => "policies of other kinds, such as those of Cilium or Calico, decide",
        }
    }
}

/// Whether a cause was found.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum CauseState {
    Found,
    NotKnown,
    RuledOut,
}

/// A cause that was checked.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SymptomCause {
    pub cause: CauseName,
    pub state: CauseState,
    pub what: &'static str,
    /// What shows the state: sentences without the full stop.
    pub evidence: Vec<String>,
    /// What to do about a cause that was found, or what would make one known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub next: String,
}

impl SymptomCause {
    fn new(cause: CauseName, state: CauseState, evidence: Vec<String>, next: String) -> Self {
        let mut seen = BTreeSet::new();
        let mut unique: Vec<String> = evidence.into_iter().filter(|line| seen.insert(line.clone())).collect();
        let more = unique.len().saturating_sub(MOST_EVIDENCE);
        unique.truncate(MOST_EVIDENCE);
        if more > 0 {
            unique.push(format!("and {more} more"));
        }
        Self { cause, state, what: cause.what(), evidence: unique, next }
    }

    /// A cause that was found, by this evidence, or else one that is ruled out.
    pub fn found_if(cause: CauseName, evidence: Vec<String>, to_do: impl Into<String>, otherwise: impl Into<String>) -> Self {
        if evidence.is_empty() {
            return Self::ruled_out(cause, otherwise);
        }
        Self::new(cause, CauseState::Found, evidence, to_do.into())
    }

    /// A cause that is ruled out.
    pub fn ruled_out(cause: CauseName, why: impl Into<String>) -> Self {
        Self::new(cause, CauseState::RuledOut, vec![why.into()], String::new())
    }

    /// A cause of which the objects do not show whether it is one.
    pub fn not_known(cause: CauseName, why: Vec<String>, to_know: impl Into<String>) -> Self {
        Self::new(cause, CauseState::NotKnown, why, to_know.into())
    }

    /// The same, but not known for this reason if it would be ruled out.
    pub fn not_ruled_out(self, why: &str, to_know: &str) -> Self {
        if self.state == CauseState::RuledOut { Self::not_known(self.cause, vec![why.into()], to_know) } else { self }
    }

    /// The same under another name.
    pub fn renamed(self, cause: CauseName) -> Self {
        Self { cause, what: cause.what(), ..self }
    }

    /// Whether it was found.
    pub fn is_found(&self) -> bool {
        self.state == CauseState::Found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_evidence_is_counted_and_none_is_there_twice() {
        let lines: Vec<String> = (0..20).map(|line| format!("line {}", line / 2)).collect();
        let cause = SymptomCause::found_if(CauseName::EgressDenied, lines, "allow it", "");
        assert_eq!(cause.evidence.len(), MOST_EVIDENCE + 1);
        assert_eq!(cause.evidence.last().map(String::as_str), Some("and 2 more"));
    }
}
