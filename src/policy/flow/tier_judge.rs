//! What a tier says about a flow: which rule of which policy decides, or which rules may decide where that is not known.

use std::net::IpAddr;

use serde::Serialize;
use strum::IntoStaticStr;

use super::{
    cluster_policy::{ClusterPolicyRef, PolicyTier, TierAction},
    compile::CompiledPolicies,
    objects::FlowPod,
    rule_parts::{CompiledPort, Way},
    tiers::{CompiledTierPeer, CompiledTierPolicy, CompiledTierRule},
};
use crate::api::peers::Protocol;

/// A rule of a tier, and the entries of its lists that match.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TierRuleRef<'a> {
    #[serde(flatten)]
    pub policy: ClusterPolicyRef<'a>,
    pub tier: PolicyTier,
    /// The index of the rule.
    pub rule: usize,
    /// The name of the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule_name: Option<&'a str>,
    /// The index of the peer; none if the rule denies everything because one of its peers is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<usize>,
    /// The index of the port; none if the rule names no ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<usize>,
}

impl TierRuleRef<'_> {
    /// The entries that match, as a path, with the name of the rule: `spec.egress[0].to[1] with ports[0] ("deny-all")`.
    pub fn place(&self, way: Way) -> String {
        let name = self.rule_name.map(|name| format!(" ({name:?})")).unwrap_or_default();
        way.place(self.rule, self.peer, self.port.map(|port| (self.policy.kind.ports(), port))) + &name
    }
}

/// A rule of a tier that decides, or may decide.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct TierRuling<'a> {
    #[serde(flatten)]
    pub rule: TierRuleRef<'a>,
    pub action: TierAction,
    /// Why it is not certain that the rule matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doubt: Option<Doubt>,
}

/// Why it is not certain that a rule matches.
#[derive(Clone, Copy, Debug, Eq, IntoStaticStr, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[strum(const_into_str)]
pub enum Doubt {
    #[strum(to_string = "it names domain names, and only the DNS of the pod knows their addresses")]
    DomainNames,
    #[strum(to_string = "it selects nodes, and no node is among the objects")]
    Nodes,
    #[strum(to_string = "it has a port of a form that is not known")]
    Port,
}

/// What a tier says about a flow in one direction.
#[derive(Debug)]
pub struct TierOutcome<'a> {
    /// The rules that decide, or may decide. Several only if it is not known which one does.
    pub rulings: Vec<TierRuling<'a>>,
    /// Whether it may be that no rule matches. Then the next tier decides.
    pub may_match_none: bool,
}

/// A flow in one direction, as rules of tiers see it.
#[derive(Clone, Copy, Debug)]
pub struct TierQuestion<'c> {
    pub way: Way,
    /// The class of the pod that the policies are about.
    pub class: u32,
    pub port: (Protocol, u16),
    /// The destination, if it is a pod.
    pub destination: Option<&'c FlowPod>,
    /// The class of the other end, if it is a pod on the pod network. No rule selects pods on the host network.
    pub peer_class: Option<u32>,
    pub peer_address: Option<IpAddr>,
    /// The other end may be a node: it is no pod, or one on the host network.
    pub may_be_node: bool,
}

/// Whether and by which entry of its lists a rule matches.
enum RuleMatch {
    No,
    /// The indices of the peer and of the port.
    Yes(Option<usize>, Option<usize>),
    Perhaps(Option<usize>, Option<usize>, Doubt),
}

/// What the rules of a tier may do with a flow, without their names.
#[derive(Clone, Copy, Debug, Default)]
pub struct TierTally {
    pub may_allow: bool,
    pub may_deny: bool,
    /// A rule may pass it on, or it may be that no rule matches.
    pub may_pass: bool,
}

impl<'a> CompiledPolicies<'a> {
    /// What a tier says about a flow.
    pub fn tier_outcome(&self, tier: PolicyTier, asked: &TierQuestion<'_>) -> TierOutcome<'a> {
        let mut rulings = Vec::new();
        let may_match_none = self.each_ruling(tier, asked, &mut |ruling| rulings.push(ruling));
        TierOutcome { rulings, may_match_none }
    }

    /// The same, without names and without an allocation.
    pub fn tier_tally(&self, tier: PolicyTier, asked: &TierQuestion<'_>) -> TierTally {
        let mut tally = TierTally::default();
        let may_match_none = self.each_ruling(tier, asked, &mut |ruling| match ruling.action {
            TierAction::Allow => tally.may_allow = true,
            TierAction::Deny => tally.may_deny = true,
            TierAction::Pass => tally.may_pass = true,
        });
        TierTally { may_pass: tally.may_pass || may_match_none, ..tally }
    }

    /// Passes on each rule of a tier that decides, or may decide. Returns whether it may be that no rule matches.
    fn each_ruling(&self, tier: PolicyTier, asked: &TierQuestion<'_>, each: &mut dyn FnMut(TierRuling<'a>)) -> bool {
        // No order is defined between the kinds: the first match of any of them may decide.
        let mut may_match_none = true;
        for policies in self.tiers.kinds(tier, asked.class) {
            may_match_none &= self.rulings_of_kind(policies, asked, each);
        }
        may_match_none
    }

    /// The same for the policies of one kind, in the order in which they decide.
    fn rulings_of_kind(&self, policies: &[u32], asked: &TierQuestion<'_>, each: &mut dyn FnMut(TierRuling<'a>)) -> bool {
        self.tiers.by_priority(policies).all(|equals| {
            // Of policies with the same priority, any one that matches may decide.
            let mut may_match_none = true;
            for policy in equals {
                may_match_none &= self.rulings_of_policy(self.tiers.policy(*policy), asked, each);
            }
            may_match_none
        })
    }

    /// The same for the rules of one policy: the first one that matches decides.
    fn rulings_of_policy(
        &self,
        CompiledTierPolicy { policy, rules }: &CompiledTierPolicy<'a>,
        asked: &TierQuestion<'_>,
        each: &mut dyn FnMut(TierRuling<'a>),
    ) -> bool {
        for (compiled, rule) in rules.of(asked.way).iter().zip(0..) {
            let (peer, port, doubt) = match self.tier_match(compiled, asked) {
                RuleMatch::No => continue,
                RuleMatch::Yes(peer, port) => (peer, port, None),
                RuleMatch::Perhaps(peer, port, doubt) => (peer, port, Some(doubt)),
            };
            let rule = TierRuleRef { policy: policy.policy(), tier: policy.tier, rule, rule_name: compiled.name, peer, port };
            each(TierRuling { rule, action: compiled.action, doubt });
            if doubt.is_none() {
                return false;
            }
        }
        true
    }

    fn tier_match(&self, rule: &CompiledTierRule<'_>, asked: &TierQuestion<'_>) -> RuleMatch {
        let (port, port_doubt) = match &rule.ports {
            None => (None, None),
            Some(ports) => match ports.iter().position(|port| port.matches(asked.port, asked.destination)) {
                Some(port) => (Some(port), None),
                None => match ports.iter().position(|port| matches!(port, CompiledPort::None)) {
                    Some(port) => (Some(port), Some(Doubt::Port)),
                    None => return RuleMatch::No,
                },
            },
        };
        let Some(peers) = &rule.peers else { return RuleMatch::Yes(None, port) };
        let mut perhaps = None;
        for (peer, index) in peers.iter().zip(0..) {
            match self.is_tier_peer(peer, asked) {
                Ok(false) => {}
                Ok(true) => {
                    return match port_doubt {
                        None => RuleMatch::Yes(Some(index), port),
                        Some(doubt) => RuleMatch::Perhaps(Some(index), port, doubt),
                    };
                }
                Err(doubt) => perhaps = perhaps.or(Some(RuleMatch::Perhaps(Some(index), port, doubt))),
            }
        }
        perhaps.unwrap_or(RuleMatch::No)
    }

    /// Whether the other end is this peer. An error says why that is not known.
    fn is_tier_peer(&self, peer: &CompiledTierPeer, asked: &TierQuestion<'_>) -> Result<bool, Doubt> {
        match peer {
            CompiledTierPeer::Pods(set) => Ok(asked.peer_class.is_some_and(|class| self.sets[*set as usize].has(class))),
            CompiledTierPeer::Addresses(ranges) => {
                let has = |address| ranges.iter().any(|range| self.ranges[*range as usize].has(address));
                Ok(asked.peer_address.is_some_and(has))
            }
            CompiledTierPeer::Nodes(Some(nodes)) => {
                Ok(asked.may_be_node && asked.peer_address.is_some_and(|one| nodes.contains(&one)))
            }
            CompiledTierPeer::Nodes(None) if asked.may_be_node => Err(Doubt::Nodes),
            CompiledTierPeer::Nodes(None) => Ok(false),
            CompiledTierPeer::DomainNames => Err(Doubt::DomainNames),
        }
    }
}

impl<'a> TierOutcome<'a> {
    /// The rule that passes the flow on to the next tier with certainty, if one does.
    pub fn passing(&self) -> Option<TierRuleRef<'a>> {
        let [TierRuling { rule, action: TierAction::Pass, doubt: None }] = *self.rulings else { return None };
        Some(rule)
    }
}
