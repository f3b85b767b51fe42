//! Rules about the spec of a baseline that the operator takes: what opens too much, and what is never written.

use super::{block_rules, found::RuleHit, rule::LintRule};
use crate::{
    api::{PolicyBaseline, Role},
    policy::plan::Baseline,
};

/// What is wrong with a baseline.
pub fn check(object: &PolicyBaseline, baseline: &Baseline) -> Vec<RuleHit> {
    let mut found: Vec<RuleHit> = baseline.allows_without_deny().map(|(allow, deny)| never_written(allow, deny)).collect();
    if baseline.carves_out_of_nothing() {
        let message = "the operator writes the carve-out for monitoring only where ingress is closed. policies does not name DefaultDenyIngress, so it is never written. Add DefaultDenyIngress, or remove MonitoringCarveout";
        found.push(RuleHit::new(LintRule::NeverWritten, "spec.policies", message));
    }
    for (index, peer) in object.spec.dns.iter().flat_map(|dns| &dns.peers).enumerate() {
        let Some(block) = peer.ip_block.as_ref().filter(|block| block_rules::is_broad(&block.cidr, !block.except.is_empty()))
        else {
            continue;
        };
        let message = format!(
            "every pod may send to {} on the DNS ports. Data can leave the cluster in the names that are asked for. Name the addresses of your DNS servers",
            block.cidr
        );
        found.push(RuleHit::new(LintRule::BroadCidr, format!("spec.dns.peers[{index}].ipBlock.cidr"), message));
    }
    found
}

fn never_written(allow: &str, deny: Role) -> RuleHit {
    let direction = if deny == Role::DefaultDenyEgress { "egress" } else { "ingress" };
    let message = format!(
        "the operator writes the {direction} rules of an allow only where {direction} is closed. policies does not name {deny}, so these are never written. Add {deny}, or remove them"
    );
    RuleHit::new(LintRule::NeverWritten, format!("spec.allows[{allow}].{direction}"), message)
}
