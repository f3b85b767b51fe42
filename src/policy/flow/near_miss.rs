//! Rules that would nearly allow a flow: they match its other end and not its port, or its port and not its other end. And rules that match
//! nothing at all.

use super::{
    compile::{CompiledPeer, CompiledPolicies},
    judge::Flow,
    objects::FlowPolicy,
    rule_parts::Way,
};

/// A rule of a policy that isolates an end of a flow, and does not allow the flow.
#[derive(Clone, Copy, Debug)]
pub struct NearMiss<'a> {
    pub policy: &'a FlowPolicy,
    pub way: Way,
    /// The index of the rule.
    pub rule: usize,
    pub missed: MissedPart,
}

/// The part of a rule that does not match.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MissedPart {
    Peers,
    Ports,
}

impl<'a> CompiledPolicies<'a> {
    /// The numbers of the policies that isolate a pod in a direction.
    pub fn isolating(&self, pod: usize, way: Way) -> &[u32] {
        self.classes.class(pod).map(|class| &*self.isolating.of(way)[class as usize]).unwrap_or_default()
    }

    /// The rules that one change of their peers or of their ports would make allow a flow.
    pub fn near_misses(&self, flow: &Flow, way: Way) -> Vec<NearMiss<'a>> {
        let (own, peer) = flow.ends(way);
        let seen = self.seen_peer(peer);
        let destination = flow.to.pod.and_then(|pod| self.snapshot.pods.get(pod));
        let mut found = Vec::new();
        for number in own.pod.map(|pod| self.isolating(pod, way)).unwrap_or_default() {
            let Some(policy) = self.snapshot.policies.get(*number as usize) else { continue };
            for (compiled, rule) in self.policies[*number as usize].of(way).iter().flatten().zip(0..) {
                let missed = match (self.peer(compiled, &seen).is_some(), compiled.port(flow, destination).is_some()) {
                    (true, false) => MissedPart::Ports,
                    (false, true) => MissedPart::Peers,
                    (true, true) | (false, false) => continue,
                };
                found.push(NearMiss { policy, way, rule, missed });
            }
        }
        found
    }

    /// Whether a peer of a rule selects no pod at all. A range of addresses selects no pods, so it is none of these.
    pub fn selects_no_pod(&self, policy: u32, way: Way, rule: usize, peer: usize) -> bool {
        let rules = self.policies.get(policy as usize).and_then(|policy| policy.of(way).as_ref());
        let peers = rules.and_then(|rules| rules.get(rule)).and_then(|rule| rule.peers.as_ref());
        match peers.and_then(|peers| peers.get(peer)) {
            Some(CompiledPeer::Pods(set)) => self.sets[*set as usize].iter().next().is_none(),
            Some(CompiledPeer::Nobody) => true,
            Some(CompiledPeer::Addresses(_)) | None => false,
        }
    }
}
