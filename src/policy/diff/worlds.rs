//! The two worlds that are compared: the same pods, once with the old version and once with the new one.

use std::collections::BTreeSet;

use super::manifests::DiffSide;
use crate::policy::{flow::FlowSnapshot, preview::PreviewedBaseline};

/// The world with the old version, and with the new one. What exists and belongs to neither is in both.
pub fn worlds(mut world: FlowSnapshot, old: &DiffSide, new: &DiffSide) -> [FlowSnapshot; 2] {
    let sides = [old, new];
    let baselines: BTreeSet<&str> = sides.iter().filter_map(|side| side.baseline.as_ref()).map(PreviewedBaseline::name).collect();
    let named: BTreeSet<(&str, &str)> =
        sides.iter().flat_map(|side| &side.policies).map(|policy| (&*policy.namespace, &*policy.name)).collect();
    // What could not be read is the same on both sides. A warning names it.
    world.unread_policies.clear();
    world.unread_cluster_policies.clear();
    world.policies.retain(|policy| {
        let is_of_baseline = policy.baseline.as_deref().is_some_and(|name| baselines.contains(name));
        !is_of_baseline && !named.contains(&(&*policy.namespace, &*policy.name))
    });
    sides.map(|side| {
        let mut world = world.clone();
        if let Some(baseline) = side.baseline.as_ref().filter(|baseline| baseline.writes()) {
            let planned = world.all_namespaces().iter().flat_map(|namespace| baseline.flow_policies(namespace)).collect();
            world.replace_policies(baseline.name(), planned);
        }
        world.add_policies(side.policies.iter().cloned());
        world
    })
}
