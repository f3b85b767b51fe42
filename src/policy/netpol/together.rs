//! Adds up what several policies of a namespace open in part.

use std::collections::BTreeMap;

use super::{
    census::Census,
    coverage::Required,
    opening::{Peers, Ports},
    ports::PortLine,
    share::{DirectionShares, NamespaceSet, PortShare, size},
    sweep::{Group, sweep},
    union::Union,
};

/// More ranges than these are not added up at once.
const MAX_RANGES: usize = 4_096;
/// The steps of [`Work`] for one namespace. They take less than 5 ms. Each value is looked at twice: with the policy alone, and with all.
const MAX_WORK: usize = 32_768;
/// The steps that each sum takes besides.
const STEPS_OF_SUM: usize = 4;

/// The work that is left for the sums of one namespace: a step is a value of a label, or a range or a value in a range of ports. So no
/// namespace delays the others, however many policies it has.
#[derive(Debug)]
pub struct Work(usize);

impl Default for Work {
    fn default() -> Self {
        Self(MAX_WORK)
    }
}

impl Work {
    /// Takes so many steps, if that many are left.
    fn take(&mut self, steps: usize) -> Option<()> {
        self.0 = self.0.checked_sub(steps)?;
        Some(())
    }
}

/// What policies open together.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Together {
    /// The widest peers, their ports, and the first rule of the first share that is part of it.
    pub widest: Option<(Peers, Ports, u16)>,
    /// They may open more, but they have too many ranges to find that out.
    pub is_too_large: bool,
}

impl Together {
    /// Adds up the shares of one direction; `None`: too little work is left. `is_dns_allowed`: port 53 alone is no opening.
    pub fn of(policies: &[&DirectionShares], census: &Census, is_dns_allowed: bool, work: &mut Work) -> Option<Self> {
        let shares = || policies.iter().flat_map(|policy| &policy.shares);
        let total = |ranges: fn(&PortShare) -> &[(u32, u32)]| shares().flat_map(ranges).copied().map(size).sum::<u64>();
        let (v4, v6) = (total(|share| &share.v4), total(|share| &share.v6));
        let left_out = policies.iter().fold((0, 0), |(v4, v6), policy| (v4 + policy.left_out.0, v6 + policy.left_out.1));
        // Most policies open too little, even if no two of them have a block in common.
        let may_be_open = |v4: u64, v6: u64| {
            u128::from(v4) >= Required::private_ipv4().enough() || u128::from(v6) >= Required::every_ipv6().enough() >> 96
        };
        let may_be_whole = |v4: u64, v6: u64| {
            u128::from(v4) >= Required::every_ipv4().enough() || u128::from(v6) >= Required::every_ipv6().enough() >> 96
        };
        let could_be = left_out != (0, 0) && may_be_whole(v4 + left_out.0, v6 + left_out.1);
        let required = census.required();
        let sets = || shares().flat_map(|share| &share.sets);
        let values = if required.is_empty() { 0 } else { sets().map(NamespaceSet::size).sum() };
        work.take(STEPS_OF_SUM + values)?;
        // Most selectors name too few namespaces, even if no two of them name the same.
        let named = |set: &NamespaceSet| match &*set.0 {
            [single] => census.count(single),
            all if census.meets_all(all) => u128::MAX,
            _ => 0,
        };
        let named = sets().map(named).fold(0, u128::saturating_add);
        let may_be_named = required.iter().any(|required| named >= required.enough());
        if !may_be_open(v4, v6) && !may_be_named {
            return Some(Self { widest: None, is_too_large: could_be });
        }
        if shares().map(|share| share.v4.len() + share.v6.len()).sum::<usize>() > MAX_RANGES {
            return Some(Self { widest: None, is_too_large: may_be_whole(v4 + left_out.0, v6 + left_out.1) });
        }
        let ports = |share: &PortShare| share.ports.as_ref().map_or(1, |ports| ports.len().max(1));
        let steps = |share: &PortShare| {
            let values: usize = share.sets.iter().map(NamespaceSet::size).sum();
            (share.v4.len() + share.v6.len() + values).saturating_mul(ports(share))
        };
        work.take(shares().map(steps).fold(0, usize::saturating_add))?;
        let mut by_ports: BTreeMap<Option<&[(u128, u128)]>, Sum> = BTreeMap::new();
        for (at, share) in shares().enumerate() {
            by_ports.entry(share.ports.as_deref()).or_default().add(at, share, census);
        }
        let always = by_ports.remove(&None).unwrap_or_default().group(&[]);
        let switched: Vec<Group> = by_ports.into_iter().map(|(ports, sum)| sum.group(ports.unwrap_or_default())).collect();
        let swept = sweep(PortLine::EVERY, &always, &switched, is_dns_allowed, &required, |_, _| {});
        let rule = |at: usize| shares().nth(at).map_or(0, |share| share.rule);
        Some(Self {
            widest: swept.widest.map(|(peers, ports, at)| (peers, ports, rule(at))),
            is_too_large: swept.is_too_large || (could_be && swept.widest.is_none_or(|(peers, ..)| peers == Peers::EveryPod)),
        })
    }
}

/// What the shares with the same ports open. Each kind has the number of its first share.
#[derive(Default)]
struct Sum {
    v4: (Vec<(u128, u128)>, Option<usize>),
    v6: (Vec<(u128, u128)>, Option<usize>),
    named: (Vec<(u128, u128)>, Option<usize>),
    every_pod: Option<usize>,
}

impl Sum {
    fn add(&mut self, at: usize, share: &PortShare, census: &Census) {
        let extend = |(ranges, first): &mut (Vec<(u128, u128)>, Option<usize>), more: &mut dyn Iterator<Item = (u128, u128)>| {
            let before = ranges.len();
            ranges.extend(more);
            if ranges.len() > before {
                first.get_or_insert(at);
            }
        };
        extend(&mut self.v4, &mut share.v4.iter().map(|(first, last)| (u128::from(*first), u128::from(*last))));
        let network = |(first, last): &(u32, u32)| (u128::from(*first) << 96, (u128::from(*last) << 96) | ((1 << 96) - 1));
        extend(&mut self.v6, &mut share.v6.iter().map(network));
        for set in &share.sets {
            match &*set.0 {
                [single] => extend(&mut self.named, &mut census.places(single).ranges()),
                all if census.meets_all(all) => drop(self.every_pod.get_or_insert(at)),
                _ => {}
            }
        }
    }

    fn group(self, ports: &[(u128, u128)]) -> Group {
        let union = |(ranges, first): (Vec<(u128, u128)>, Option<usize>)| (Union::of(ranges), first);
        let Self { v4, v6, named, every_pod } = self;
        Group { ports: ports.to_vec(), everybody: None, every_pod, v4: union(v4), v6: union(v6), named: union(named) }
    }
}
