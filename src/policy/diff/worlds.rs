//! The two worlds that are compared: the same pods, once with the old version and once with the new one.

use std::collections::BTreeSet;

use super::manifests::DiffSide;
use crate::policy::{flow::FlowSnapshot, preview::PreviewedBaseline};

/// The world with the old version, and with the new one. A policy that exists is in both, unless the old version has it: then it is in the new
/// world only if the new version has it too. One that only the new version has is in the old world as it exists.
pub fn worlds(mut world: FlowSnapshot, old: &DiffSide, new: &DiffSide) -> [FlowSnapshot; 2] {
    // What could not be read is the same on both sides. A warning names it.
    world.unread_policies.clear();
    world.unread_cluster_policies.clear();
    [side_world(world.clone(), old, &[old]), side_world(world, new, &[old, new])]
}

/// The world of a side. What the replaced sides have is gone from it.
fn side_world(mut world: FlowSnapshot, side: &DiffSide, replaced: &[&DiffSide]) -> FlowSnapshot {
    let baselines: BTreeSet<&str> =
        replaced.iter().filter_map(|side| side.baseline.as_ref()).map(PreviewedBaseline::name).collect();
    let policies = replaced.iter().flat_map(|side| &side.policies);
    let named: BTreeSet<(&str, &str)> = policies.map(|policy| (&*policy.namespace, &*policy.name)).collect();
    world.policies.retain(|policy| {
        let is_of_baseline = policy.baseline.as_deref().is_some_and(|name| baselines.contains(name));
        !is_of_baseline && !named.contains(&(&*policy.namespace, &*policy.name))
    });
    if let Some(baseline) = side.baseline.as_ref().filter(|baseline| baseline.writes()) {
        baseline.enforce_in(&mut world);
    }
    world.add_policies(side.policies.iter().cloned());
    world
}
