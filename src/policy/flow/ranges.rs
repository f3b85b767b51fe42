//! Ranges of addresses: the `ipBlock` of a peer, which is a range without its exceptions, and the networks of a peer of a tier.

use std::{collections::HashMap, net::IpAddr};

use k8s_openapi::api::networking::v1::IPBlock;

use crate::policy::netpol::Block;

/// A range of addresses without its exceptions.
#[derive(Clone, Debug)]
pub struct AddressRange {
    whole: Block,
    except: Vec<Block>,
}

impl AddressRange {
    /// Reads a range as a policy writes it. None: the API server takes no such range.
    pub fn of((cidr, except): RangeText<'_>) -> Option<Self> {
        let except = except.iter().map(|text| Block::parse(text)).collect::<Option<_>>()?;
        Some(Self { whole: Block::parse(cidr)?, except })
    }

    /// Whether the API server takes this range without exceptions.
    pub fn is_valid(cidr: &str) -> bool {
        Block::parse(cidr).is_some()
    }

    /// The range and its exceptions.
    pub fn blocks(&self) -> impl Iterator<Item = &Block> {
        std::iter::once(&self.whole).chain(&self.except)
    }

    /// Whether the address is in it.
    pub fn has(&self, address: IpAddr) -> bool {
        self.whole.has(address) && !self.except.iter().any(|block| block.has(address))
    }
}

/// The addresses of several ranges, as first and last numbers in ascending order, so that one is found without looking at each range.
#[derive(Clone, Debug, Default)]
pub struct AddressSet {
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
}

impl AddressSet {
    /// The addresses that are in at least one of these ranges.
    pub fn of<'r>(ranges: impl Iterator<Item = &'r AddressRange>) -> Self {
        let mut set = Self::default();
        for range in ranges {
            let mut excepted: Vec<(u128, u128)> =
                range.except.iter().filter(|block| block.family() == range.whole.family()).map(Block::range).collect();
            excepted.sort_unstable();
            let of_family = if range.whole.is_v4() { &mut set.v4 } else { &mut set.v6 };
            let (first, last) = range.whole.range();
            // None: an exception reaches to the end.
            let mut next = Some(first);
            for (from, to) in excepted {
                let Some(start) = next.filter(|start| *start <= last) else { break };
                if start < from {
                    of_family.push((start, last.min(from - 1)));
                }
                next = to.checked_add(1).map(|behind| behind.max(start));
            }
            of_family.extend(next.filter(|start| *start <= last).map(|start| (start, last)));
        }
        set.v4 = joined(set.v4);
        set.v6 = joined(set.v6);
        set
    }

    /// Whether the address is in it.
    pub fn has(&self, address: IpAddr) -> bool {
        let (spans, number) = match address.to_canonical() {
            IpAddr::V4(address) => (&self.v4, u128::from(address.to_bits())),
            IpAddr::V6(address) => (&self.v6, address.to_bits()),
        };
        let at = spans.partition_point(|(_, last)| *last < number);
        spans.get(at).is_some_and(|(first, _)| *first <= number)
    }
}

/// The spans in ascending order. Those that overlap are one.
fn joined(mut spans: Vec<(u128, u128)>) -> Vec<(u128, u128)> {
    spans.sort_unstable();
    spans.dedup_by(|(first, last), (_, before)| {
        let overlaps = *first <= *before;
        if overlaps {
            *before = (*before).max(*last);
        }
        overlaps
    });
    spans
}

/// A range as a policy writes it: the range, and its exceptions.
type RangeText<'a> = (&'a str, &'a [String]);

/// An `ipBlock` as a range.
pub fn range_text(block: &IPBlock) -> RangeText<'_> {
    (&block.cidr, block.except.as_deref().unwrap_or_default())
}

/// The ranges that policies name, each once.
#[derive(Debug, Default)]
pub struct KnownRanges<'a> {
    known: HashMap<RangeText<'a>, Option<u32>>,
    pub all: Vec<AddressRange>,
}

impl<'a> KnownRanges<'a> {
    /// Adds a range.
    pub fn add(&mut self, text: RangeText<'a>) {
        let all = &mut self.all;
        self.known.entry(text).or_insert_with(|| {
            let number = u32::try_from(all.len()).ok()?;
            all.push(AddressRange::of(text)?);
            Some(number)
        });
    }

    /// The number of a range. None: the API server takes no such range.
    pub fn number(&self, text: RangeText<'_>) -> Option<u32> {
        self.known.get(&text).copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn block() -> impl Strategy<Value = String> {
        prop_oneof![
            (any::<[u8; 2]>(), 24..=32_u8).prop_map(|([c, d], length)| format!("10.0.{}.{d}/{length}", c % 4)),
            prop::sample::select(vec!["0.0.0.0/0", "10.0.0.0/8", "255.255.255.255/32", "fd00::/120", "::/0", "ffff::/16"])
                .prop_map(Into::into),
        ]
    }

    proptest! {
        #[test]
        fn a_set_has_what_one_of_its_ranges_has(ranges in prop::collection::vec((block(), prop::collection::vec(block(), 0..4)), 0..5), some in any::<[u8; 2]>()) {
            let ranges: Vec<AddressRange> = ranges.iter().map(|(cidr, except)| AddressRange::of((cidr, except)).unwrap()).collect();
            let set = AddressSet::of(ranges.iter());
            let edge = |block: &Block| {
                let (first, last) = block.range();
                [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
            };
            let edges = ranges.iter().flat_map(AddressRange::blocks).flat_map(edge);
            let numbers = edges.chain([0, u32::MAX.into(), u128::MAX, 0x0a00_0000 | u128::from(some[0] % 4) << 8 | u128::from(some[1])]);
            for number in numbers {
                let v4 = u32::try_from(number).ok().map(|number| IpAddr::from(Ipv4Addr::from_bits(number)));
                for address in v4.into_iter().chain([IpAddr::from(std::net::Ipv6Addr::from_bits(number))]) {
                    prop_assert_eq!(set.has(address), ranges.iter().any(|range| range.has(address)), "{}", address);
                }
            }
        }
    }
}
