//! A few ranges of addresses that cover many addresses: exact ones while there are few, and then wider ones. So the memory is bounded.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;

/// The most ranges.
pub const MOST: usize = 32;
/// The lengths of the prefixes, the narrowest ranges first.
const LENGTHS_V4: [u8; 5] = [32, 24, 16, 8, 0];
const LENGTHS_V6: [u8; 5] = [128, 64, 48, 32, 0];

/// Ranges that cover all addresses that were added. Which ones they are does not depend on the order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AddressCover {
    ranges: BTreeSet<IpNet>,
    /// The place in the list of lengths. It is the same for both families, which are never mixed here.
    step: usize,
}

impl AddressCover {
    /// Adds an address.
    pub fn add(&mut self, address: IpAddr) {
        self.ranges.extend(self.around(address));
        while self.ranges.len() > MOST {
            self.step += 1;
            self.ranges = self.ranges.iter().filter_map(|range| self.around(range.addr())).collect();
        }
    }

    /// Adds what another one covers.
    pub fn join(&mut self, other: &Self) {
        self.step = self.step.max(other.step);
        let all = self.ranges.iter().chain(&other.ranges);
        self.ranges = all.filter_map(|range| self.around(range.addr())).collect();
        let addresses: Vec<IpAddr> = self.ranges.iter().map(IpNet::addr).collect();
        for address in addresses {
            self.add(address);
        }
    }

    /// The ranges as `ipBlock.cidr` takes them.
    pub fn cidrs(&self) -> impl Iterator<Item = String> {
        self.ranges.iter().map(ToString::to_string)
    }

    /// The first and the last address of each range.
    pub fn edges(&self) -> impl Iterator<Item = IpAddr> {
        self.ranges.iter().flat_map(|range| [range.network(), range.broadcast()])
    }

    /// Whether it covers addresses that nobody added.
    pub const fn is_wider(&self) -> bool {
        self.step > 0
    }

    fn around(&self, address: IpAddr) -> Option<IpNet> {
        let lengths = if address.is_ipv4() { LENGTHS_V4 } else { LENGTHS_V6 };
        let length = lengths.get(self.step).copied().unwrap_or_default();
        IpNet::new(address, length).ok().map(|range| range.trunc())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(addresses: impl IntoIterator<Item = IpAddr>) -> AddressCover {
        let mut blocks = AddressCover::default();
        addresses.into_iter().for_each(|address| blocks.add(address));
        blocks
    }

    #[test]
    fn few_addresses_are_exact_and_many_become_wider_ranges() {
        let v4 = |last: u8| IpAddr::from([10, 0, 0, last]);
        assert_eq!(of([v4(1), v4(2)]).cidrs().collect::<Vec<_>>(), ["10.0.0.1/32", "10.0.0.2/32"]);
        let many = of((0..33).map(v4));
        assert_eq!((many.cidrs().collect::<Vec<_>>(), many.is_wider()), (vec!["10.0.0.0/24".to_owned()], true));
        let v6 = of((0..40).map(|last| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last])));
        assert_eq!(v6.cidrs().collect::<Vec<_>>(), ["fd00::/64"]);
    }

    proptest! {
        #[test]
        fn every_address_is_covered_in_a_few_ranges_whatever_the_order(octets in prop::collection::vec(any::<[u8; 4]>(), 0..300)) {
            let addresses: Vec<IpAddr> = octets.into_iter().map(IpAddr::from).collect();
            let blocks = of(addresses.iter().copied());
            prop_assert!(blocks.ranges.len() <= MOST);
            prop_assert!(addresses.iter().all(|address| blocks.ranges.iter().any(|range| range.contains(address))));
            prop_assert_eq!(&of(addresses.iter().rev().copied()), &blocks);
            let (one, other) = addresses.split_at(addresses.len() / 2);
            let mut joined = of(one.iter().copied());
            joined.join(&of(other.iter().copied()));
            prop_assert_eq!(joined, blocks);
        }
    }
}
