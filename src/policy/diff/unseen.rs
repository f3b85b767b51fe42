//! What of a change no judged flow can show: policies that select none of the pods, and peers that are none of them. Without a word about
//! these, "no flow is decided differently" would look like "nothing changes".

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec};

use super::workloads::ComparedWorkloads;
use crate::policy::flow::{CompiledPeer, CompiledPolicies, FlowPolicy, Way, few};

/// In a very large policy, not every rule is compared with every other one.
const MOST_COMPARED: usize = 1_000_000;

/// The changes that no judged flow can show.
#[derive(Debug, Default)]
pub struct UnseenChanges {
    /// How many policies have such a change.
    pub policies: usize,
    /// One sentence about each kind of change.
    pub sentences: Vec<String>,
}

/// A policy in the old and in the new world.
#[derive(Default)]
struct DifferingPolicy {
    is_in: [bool; 2],
    /// It isolates pods of some kind in one of the worlds. Another one does nothing.
    does_something: bool,
    selects_pods: bool,
    /// A baseline plans it. Some of its policies are for pods that not every namespace has.
    is_of_baseline: bool,
    /// Its peers that select none of the pods.
    peers: Vec<String>,
}

impl UnseenChanges {
    /// Looks for them. `is_same` says for each policy of the old world, and of the new one, whether the other world has the same.
    pub fn of(worlds: [&CompiledPolicies<'_>; 2], is_same: &[Vec<bool>; 2], workloads: &ComparedWorkloads) -> Self {
        let mut differing: BTreeMap<(&str, &str), DifferingPolicy> = BTreeMap::new();
        for (world, side) in worlds.into_iter().zip(0..) {
            let selecting = selecting(world, workloads);
            let other = worlds[1 - side];
            for (number, policy) in world.snapshot.policies.iter().enumerate().filter(|(number, _)| !is_same[side][*number]) {
                let compiled = &world.policies[number];
                let found = differing.entry((&policy.namespace, &policy.name)).or_default();
                found.is_in[side] = true;
                found.does_something |= compiled.egress.is_some() || compiled.ingress.is_some();
                found.selects_pods |= selecting[number];
                found.is_of_baseline |= policy.baseline.is_some();
                // A baseline has peers for what a cluster may have.
                if policy.baseline.is_none() {
                    let version = if side == 0 { "old" } else { "new" };
                    let places = unseen_peers(world, number, spec_of(other, policy), workloads);
                    found.peers.extend(
                        places.into_iter().map(|place| format!("{}/{} {place} ({version})", policy.namespace, policy.name)),
                    );
                }
            }
        }
        Self::said(&differing)
    }

    fn said(differing: &BTreeMap<(&str, &str), DifferingPolicy>) -> Self {
        let (mut without_pods, mut peers) = (BTreeMap::<&str, Vec<String>>::new(), Vec::new());
        let mut all = Self::default();
        for ((namespace, name), policy) in differing.iter().filter(|(_, policy)| policy.does_something) {
            if policy.is_of_baseline && policy.is_in != [true, true] {
                continue;
            }
            if !policy.selects_pods {
                let what = match policy.is_in {
                    [false, _] => "new",
                    [_, false] => "gone",
                    [true, true] => "changed",
                };
                without_pods.entry(what).or_default().push(format!("{namespace}/{name}"));
                all.policies += 1;
            } else if !policy.peers.is_empty() {
                peers.extend(policy.peers.iter().cloned());
                all.policies += 1;
            }
        }
        let what_to_do =
            "so its effect is not shown. Look at its namespace and podSelector, or give the workloads that it selects";
        let sentence = |(what, names): (&str, Vec<String>)| match (&*names, what) {
            ([name], "changed") => {
                format!("the NetworkPolicy {name} changed, but no pod that was judged is selected by it, {what_to_do}")
            }
            ([name], what) => {
                format!("the NetworkPolicy {name} is {what}, but no pod that was judged is selected by it, {what_to_do}")
            }
            (names, what) => format!(
                "{} NetworkPolicies are {what}, but no pod that was judged is selected by them, so their effect is not shown: {}. Look at their namespaces and podSelectors, or give the workloads that they select",
                names.len(),
                few(names)
            ),
        };
        all.sentences.extend(without_pods.into_iter().map(sentence));
        if !peers.is_empty() {
            all.sentences.push(format!(
                "no pod that was judged is selected by these peers, which only one version has, so what they allow is not shown: {}. Look at their selectors, or give the workloads that they select",
                few(&peers)
            ));
        }
        all
    }
}

/// Which policies select a pod that is judged.
fn selecting(world: &CompiledPolicies<'_>, workloads: &ComparedWorkloads) -> Vec<bool> {
    let mut selecting = vec![false; world.policies.len()];
    for way in [Way::Egress, Way::Ingress] {
        let judged = world.isolating.of(way).iter().zip(&workloads.of_class).filter(|(_, workload)| workload.is_some());
        for policy in judged.flat_map(|(policies, _)| policies) {
            selecting[*policy as usize] = true;
        }
    }
    selecting
}

/// The spec of the policy of the same name.
fn spec_of<'a>(world: &CompiledPolicies<'a>, policy: &FlowPolicy) -> Option<&'a NetworkPolicySpec> {
    let key = (&*policy.namespace, &*policy.name);
    let found = world.snapshot.policies.binary_search_by(|one| (&*one.namespace, &*one.name).cmp(&key)).ok()?;
    world.snapshot.policies.get(found).map(|policy| &*policy.spec)
}

/// The places of the peers of a policy that select no pod that is judged, and that the other version does not have.
fn unseen_peers(
    world: &CompiledPolicies<'_>,
    number: usize,
    other: Option<&NetworkPolicySpec>,
    workloads: &ComparedWorkloads,
) -> Vec<String> {
    let is_judged = |class: u32| workloads.of_class.get(class as usize).is_some_and(Option::is_some);
    let selects_none = |peer: &CompiledPeer| match peer {
        CompiledPeer::Pods(set) => world.sets.get(*set as usize).is_some_and(|set| !set.iter().any(is_judged)),
        CompiledPeer::Addresses(_) | CompiledPeer::Nobody => false,
    };
    let (mut places, mut compared) = (Vec::new(), 0);
    for way in [Way::Egress, Way::Ingress] {
        let rules = way.rules(&world.snapshot.policies[number].spec);
        let others = other.map(|spec| way.rules(spec)).unwrap_or_default();
        for (rule, index) in world.policies[number].of(way).iter().flatten().zip(0..) {
            let Some((peers, ports)) = rules.get(index) else { continue };
            let unseen = rule.peers.iter().flatten().zip(*peers).zip(0..).filter(|((compiled, _), _)| selects_none(compiled));
            for ((_, peer), at) in unseen {
                let has_it = |(peers, of): &(&[NetworkPolicyPeer], &[NetworkPolicyPort])| of == ports && peers.contains(peer);
                if others.get(index).is_some_and(has_it) || compared > MOST_COMPARED {
                    continue;
                }
                compared += others.len();
                if !others.iter().any(has_it) {
                    places.push(way.place(index, Some(at), None));
                }
            }
        }
    }
    places
}
