//! What a policy opens in part: its wide blocks, and the namespaces that it names. Several policies of a namespace may open everything
//! together, so these parts are kept, in a small form. Most policies have none.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::{
    census::{LabelRequirement, NAME_LABEL, hash},
    coverage::Required,
    opening::Pods,
    sweep::Group,
    union::Union,
};

/// What a policy opens in part, in each direction.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Shares {
    /// The pods that the policy selects.
    pub pods: Pods,
    /// Of ingress.
    pub ingress: DirectionShares,
    /// Of egress.
    pub egress: DirectionShares,
}

impl Shares {
    /// Whether there is nothing to add up.
    pub fn is_empty(&self) -> bool {
        self.ingress.is_empty() && self.egress.is_empty()
    }

    /// About how many bytes of memory the parts take.
    pub fn bytes(&self) -> usize {
        let parts = self.ingress.bytes() + self.egress.bytes();
        if parts == 0 { 0 } else { size_of::<Self>() + parts }
    }

    /// The same without the parts. Only that there were some is kept.
    pub fn cut(&self) -> Self {
        Self { pods: self.pods, ingress: self.ingress.cut(), egress: self.egress.cut() }
    }

    /// Whether the parts were cut, because the policies of the namespace have too many.
    pub fn is_cut(&self) -> bool {
        self.ingress.cut == Cut::Everything || self.egress.cut == Cut::Everything
    }

    /// Whether it depends on the labels of namespaces what the policy opens.
    pub fn names_namespaces(&self) -> bool {
        self.ingress.names_namespaces() || self.egress.names_namespaces()
    }
}

/// What a policy opens in part, in one direction.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct DirectionShares {
    /// Each for other ports.
    pub shares: Box<[PortShare]>,
    /// How many IPv4 addresses, and how many IPv6 networks of /32, were left out of `shares`, because only so many ranges are kept.
    pub left_out: (u64, u64),
    /// What else was left out.
    pub cut: Cut,
}

/// What is not kept of a policy and direction, although it may open something.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Cut {
    /// All is kept, but for the addresses that are counted.
    #[default]
    Nothing,
    /// Labels of namespaces: the policy has too many.
    Labels,
    /// All parts: the policies of the namespace together have too many.
    Everything,
}

impl DirectionShares {
    /// Whether there is nothing to add up, and nothing was left out.
    pub fn is_empty(&self) -> bool {
        !self.has_parts() && self.cut == Cut::Nothing
    }

    /// Whether there is something to add up.
    pub fn has_parts(&self) -> bool {
        !self.shares.is_empty() || self.left_out != (0, 0)
    }

    fn bytes(&self) -> usize {
        let ports = |share: &PortShare| share.ports.as_ref().map_or(0, |ports| size_of_val(&**ports));
        let ranges = |share: &PortShare| size_of_val(&*share.v4) + size_of_val(&*share.v6);
        let sets = |share: &PortShare| share.sets.iter().map(NamespaceSet::bytes).sum::<usize>();
        self.shares.iter().map(|share| size_of::<PortShare>() + ports(share) + ranges(share) + sets(share)).sum()
    }

    fn cut(&self) -> Self {
        let cut = if self.is_empty() { Cut::Nothing } else { Cut::Everything };
        Self { cut, ..Self::default() }
    }

    /// How much it opens. IPv4 addresses, IPv6 networks and values of labels count alike: it only says which policy is named first.
    pub fn weight(&self) -> u64 {
        let named = |set: &NamespaceSet| set.size() as u64;
        let ranges = |share: &PortShare| share.v4.iter().chain(&share.v6).copied().map(size).sum::<u64>();
        self.shares.iter().map(|share| ranges(share) + share.sets.iter().map(named).sum::<u64>()).sum()
    }

    /// Whether a share names namespaces, or one that was left out.
    pub fn names_namespaces(&self) -> bool {
        self.cut == Cut::Labels || self.shares.iter().any(|share| !share.sets.is_empty())
    }
}

/// What a policy opens in part on some ports.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct PortShare {
    /// The ports, as ranges on the line of ports; `None`: all ports.
    pub ports: Option<Box<[(u128, u128)]>>,
    /// The index of the first rule.
    pub rule: u16,
    /// IPv4 addresses.
    pub v4: Box<[(u32, u32)]>,
    /// IPv6 networks of /32.
    pub v6: Box<[(u32, u32)]>,
    /// Namespaces.
    pub sets: Box<[NamespaceSet]>,
}

/// The namespaces that meet all of these requirements.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct NamespaceSet(pub Box<[LabelRequirement]>);

impl NamespaceSet {
    /// How many requirements and values it has.
    pub fn size(&self) -> usize {
        self.0.iter().map(|requirement| 1 + requirement.values.as_ref().map_or(0, |values| values.len())).sum()
    }

    fn bytes(&self) -> usize {
        let values = self.0.iter().map(|requirement| requirement.values.as_ref().map_or(0, |values| size_of_val(&**values)));
        size_of::<Self>() + self.0.len() * BYTES_OF_LABEL + values.sum::<usize>()
    }
}

/// The bytes that all policies of a namespace may take here. One policy takes at most about 60,000: its ranges 16,384, its labels 20,000,
/// and its ports and shares 17,000. What nobody holds any more takes at most 1.5 MB (`Interner`). So whoever may write policies in one
/// namespace makes the operator hold less than 3 MB here, however many policies they write, and however often.
pub const MAX_BYTES_OF_NAMESPACE: usize = 1 << 20;
/// A label takes so many bytes besides its values: what the struct and two allocations take.
const BYTES_OF_LABEL: usize = 64;

/// The ranges of one family that are kept of a policy and direction. The list of a large provider's networks has fewer of this size.
const MAX_RANGES: usize = 512;
/// The ranges of ports that are kept likewise.
const MAX_PORTS: usize = 64;
/// The values of labels that are kept of a policy, in all its rules and both directions. Each label counts as [`VALUES_OF_LABEL`].
const MAX_VALUES: usize = 4_096;
const VALUES_OF_LABEL: usize = 16;
/// Fewer names than these are never almost every namespace.
const FEWEST_NAMES: usize = 3;
/// Fewer addresses than these may be left out by those that open everything. So they matter to nobody.
const FEWEST_IPV4: u128 = 1 << 24;
const FEWEST_PRIVATE: u128 = 1 << 16;
const FEWEST_IPV6: u128 = 1 << 120;

/// The room for labels of namespaces that a policy still has.
#[derive(Debug)]
pub struct LabelRoom(usize);

impl Default for LabelRoom {
    fn default() -> Self {
        Self(MAX_VALUES)
    }
}

impl LabelRoom {
    /// Takes room for these. Returns whether there was enough.
    fn take(&mut self, set: &NamespaceSet) -> bool {
        let needed = set.size() + set.0.len() * (VALUES_OF_LABEL - 1);
        self.0.checked_sub(needed).map(|left| self.0 = left).is_some()
    }
}

/// Collects the namespaces that the peers of rules with the same ports name.
#[derive(Debug, Default)]
pub struct NamedNamespaces {
    /// Selectors of one label, by its key; `None`: any value.
    by_key: BTreeMap<u32, Option<Vec<u32>>>,
    others: Vec<NamespaceSet>,
}

impl NamedNamespaces {
    /// Adds the namespaces of a selector that has a positive requirement. Requirements for which `always_holds` returns true do not count.
    pub fn add(&mut self, selector: &LabelSelector, always_holds: impl Fn(&LabelSelectorRequirement) -> bool) {
        let mut all: Vec<LabelRequirement> = Vec::new();
        let some = |values: Vec<u32>| Some(values.into_boxed_slice());
        for (key, value) in selector.match_labels.iter().flatten() {
            all.push(LabelRequirement { key: hash(key), values: some(vec![hash(value)]) });
        }
        for requirement in selector.match_expressions.iter().flatten().filter(|requirement| !always_holds(requirement)) {
            let values = requirement.values.iter().flatten().map(|value| hash(value));
            match &*requirement.operator {
                "In" => all.push(LabelRequirement { key: hash(&requirement.key), values: some(values.collect()) }),
                "Exists" => all.push(LabelRequirement { key: hash(&requirement.key), values: None }),
                "NotIn" | "DoesNotExist" => {}
                _ => return,
            }
        }
        match <[LabelRequirement; 1]>::try_from(all) {
            Ok([LabelRequirement { key, values: None }]) => drop(self.by_key.insert(key, None)),
            Ok([LabelRequirement { key, values: Some(values) }]) => {
                if let Some(known) = self.by_key.entry(key).or_insert_with(|| Some(vec![])) {
                    known.extend(values);
                }
            }
            Err(all) if all.is_empty() => {}
            Err(mut all) => {
                all.iter_mut().filter_map(|requirement| requirement.values.as_mut()).for_each(|values| values.sort_unstable());
                self.others.push(NamespaceSet(all.into()));
            }
        }
    }

    /// What of it may be almost every namespace, and whether some of that had no room.
    fn kept(self, room: &mut LabelRoom) -> (Box<[NamespaceSet]>, bool) {
        let single = self.by_key.into_iter().map(|(key, values)| {
            let distinct = |mut values: Vec<u32>| {
                values.sort_unstable();
                values.dedup();
                values.into_boxed_slice()
            };
            NamespaceSet(Box::new([LabelRequirement { key, values: values.map(distinct) }]))
        });
        let few = |requirement: &LabelRequirement| {
            requirement.key == hash(NAME_LABEL) && requirement.values.as_ref().is_some_and(|values| values.len() < FEWEST_NAMES)
        };
        let may_be_all = |set: &NamespaceSet| !set.0.iter().any(few);
        let all = single.chain(self.others).filter(may_be_all);
        let (kept, left): (Vec<NamespaceSet>, Vec<NamespaceSet>) = all.partition(|set| room.take(set));
        (kept.into(), !left.is_empty())
    }
}

/// Ranges of IPv4 addresses, or of IPv6 networks of /32.
type Ranges32 = Vec<(u32, u32)>;

impl DirectionShares {
    /// The shares of rules, by their ports.
    pub fn of(rules: impl Iterator<Item = (Group, bool, NamedNamespaces)>, room: &mut LabelRoom) -> Self {
        let (v4, v6, private) = (Required::every_ipv4(), Required::every_ipv6(), Required::private_ipv4());
        let mut shares: Vec<(PortShare, Ranges32, Ranges32)> = Vec::new();
        let (mut all_v4, mut all_private, mut all_v6) = (0_u128, 0_u128, 0_u128);
        let mut lacks_labels = false;
        for (group, is_always, sets) in rules {
            let (addresses, networks) = (v4.part(&group.v4.0), v6.part(&group.v6.0));
            let (sets, lacks_some) = sets.kept(room);
            lacks_labels |= lacks_some;
            if addresses.size() == 0 && networks.size() == 0 && sets.is_empty() {
                continue;
            }
            all_v4 = all_v4.saturating_add(addresses.size());
            all_private = all_private.saturating_add(private.part(&addresses).size());
            all_v6 = all_v6.saturating_add(networks.size());
            let rule = [group.v4.1, group.v6.1, group.named.1].into_iter().flatten().min().unwrap_or_default();
            let ports = (!is_always).then(|| group.ports.into());
            let share =
                PortShare { ports, rule: u16::try_from(rule).unwrap_or(u16::MAX), v4: Box::default(), v6: Box::default(), sets };
            shares.push((share, ranges_of(&addresses), networks_of(&networks)));
        }
        if all_v4 < FEWEST_IPV4 && all_private < FEWEST_PRIVATE {
            for (_, v4, _) in &mut shares {
                v4.clear();
            }
        }
        if all_v6 < FEWEST_IPV6 {
            for (_, _, v6) in &mut shares {
                v6.clear();
            }
        }
        let (mut left_v4, mut left_v6) = (0, 0);
        // With many ports, only what is open on all of them is kept.
        if shares.iter().filter_map(|(share, ..)| share.ports.as_ref()).map(|ports| ports.len()).sum::<usize>() > MAX_PORTS {
            for (_, v4, v6) in shares.iter().filter(|(share, ..)| share.ports.is_some()) {
                left_v4 += v4.iter().copied().map(size).sum::<u64>();
                left_v6 += v6.iter().copied().map(size).sum::<u64>();
            }
            lacks_labels |= shares.iter().any(|(share, ..)| share.ports.is_some() && !share.sets.is_empty());
            shares.retain(|(share, ..)| share.ports.is_none());
        }
        left_v4 += keep_largest(shares.iter_mut().map(|(_, v4, _)| v4));
        left_v6 += keep_largest(shares.iter_mut().map(|(_, _, v6)| v6));
        let shares = shares.into_iter().map(|(share, v4, v6)| PortShare { v4: v4.into(), v6: v6.into(), ..share });
        let opens = |share: &PortShare| !share.v4.is_empty() || !share.v6.is_empty() || !share.sets.is_empty();
        let cut = if lacks_labels { Cut::Labels } else { Cut::Nothing };
        Self { shares: shares.filter(opens).collect(), left_out: (left_v4, left_v6), cut }
    }
}

/// How many numbers are in the range.
pub fn size((first, last): (u32, u32)) -> u64 {
    u64::from(last) - u64::from(first) + 1
}

fn ranges_of(addresses: &Union) -> Vec<(u32, u32)> {
    addresses.ranges().filter_map(|(first, last)| Some((u32::try_from(first).ok()?, u32::try_from(last).ok()?))).collect()
}

/// The networks of /32 that are in the union as a whole.
fn networks_of(addresses: &Union) -> Vec<(u32, u32)> {
    let whole = |(first, last): (u128, u128)| {
        let (first, end) = (first.div_ceil(1 << 96), last.checked_add(1)? >> 96);
        Some((u32::try_from(first).ok()?, u32::try_from(end.checked_sub(1)?).ok()?)).filter(|(first, last)| first <= last)
    };
    addresses.ranges().filter_map(whole).collect()
}

/// Keeps the largest ranges. Returns how many numbers were in the others.
fn keep_largest<'a>(lists: impl Iterator<Item = &'a mut Vec<(u32, u32)>>) -> u64 {
    let lists: Vec<&mut Vec<(u32, u32)>> = lists.collect();
    let mut sizes: Vec<u64> = lists.iter().flat_map(|list| list.iter().copied().map(size)).collect();
    if sizes.len() <= MAX_RANGES {
        return 0;
    }
    let all: u64 = sizes.iter().sum();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    let kept = &sizes[..MAX_RANGES];
    let smallest = kept.last().copied().unwrap_or_default();
    let mut room = kept.iter().filter(|size| **size == smallest).count();
    for list in lists {
        list.retain(|range| {
            let size = size(*range);
            let is_last = size == smallest && room > 0;
            room -= usize::from(is_last);
            size > smallest || is_last
        });
    }
    all - kept.iter().sum::<u64>()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::policy::netpol::judge;

    fn names(count: usize, from: usize) -> Value {
        let names: Vec<String> = (from..from + count).map(|n| format!("n{n}")).collect();
        json!([{"namespaceSelector": {"matchExpressions": [{"key": NAME_LABEL, "operator": "In", "values": names}]}}])
    }

    fn kept(spec: Value) -> Shares {
        judge(&serde_json::from_value(spec).unwrap()).1.unwrap()
    }

    /// Names of namespaces in many rules, each for another port, and in both directions. All together have no room.
    fn hostile() -> Value {
        let rules =
            |peers: &str| -> Value { (0..60).map(|n| json!({peers: names(150, n), "ports": [{"port": n * 2 + 100}]})).collect() };
        json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": rules("from"), "egress": rules("to")})
    }

    #[test]
    fn i7_one_policy_keeps_few_labels_in_all_its_rules_and_says_that_some_are_left_out() {
        let shares = kept(hostile());
        assert!(shares.bytes() < 40_000, "{}", shares.bytes());
        assert_eq!((shares.ingress.cut, shares.egress.cut), (Cut::Labels, Cut::Labels));
        assert!(shares.ingress.names_namespaces() && shares.egress.names_namespaces());
    }

    #[test]
    fn labels_that_are_left_out_are_not_forgotten() {
        let rule = |peers: Value, ports: Value| json!({"podSelector": {}, "ingress": [{"from": peers, "ports": ports}]});
        let pairs = |n: usize| json!({"port": n * 2 + 100});
        let two = json!({"namespaceSelector": {"matchLabels": {"a": "b", "c": "d"}}});
        for (what, spec, cut) in [
            ("few", rule(names(4_000, 0), json!([])), Cut::Nothing),
            ("too many", rule(names(5_000, 0), json!([])), Cut::Labels),
            ("on many ports", rule(names(10, 0), (0..70).map(pairs).collect()), Cut::Labels),
            ("many selectors", rule(vec![two; 200].into(), json!([])), Cut::Labels),
        ] {
            let shares = kept(spec);
            assert_eq!((shares.ingress.cut, shares.is_empty()), (cut, false), "{what}");
        }
    }

    #[test]
    fn what_is_cut_takes_no_memory_and_only_says_so_of_the_direction_that_had_parts() {
        let spec =
            json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{"from": names(10, 0)}], "egress": []});
        let shares = kept(spec);
        assert!(shares.bytes() > 0 && !shares.is_cut());
        let cut = shares.cut();
        assert_eq!((cut.bytes(), cut.is_cut(), cut.is_empty()), (0, true, false));
        assert_eq!((cut.ingress.cut, cut.egress.cut), (Cut::Everything, Cut::Nothing));
    }
}
