//! A few ranges of addresses that cover many addresses: exact ones while there are few, and then wider ones. So the memory is bounded. If even
//! wide ranges are not enough, no policy should name them.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;

/// The most ranges.
pub const MOST: usize = 32;
/// The lengths of the prefixes, the narrowest ranges first.
const LENGTHS_V4: [u8; 3] = [32, 24, 16];
const LENGTHS_V6: [u8; 3] = [128, 64, 48];

/// Ranges that cover all addresses that were added. Which ones they are does not depend on the order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AddressCover {
    ranges: BTreeSet<IpNet>,
    /// The place in the list of lengths. It is the same for both families, which are never mixed here.
    step: usize,
    /// There are too many for the widest ranges.
    is_too_wide: bool,
}

impl AddressCover {
    /// Adds an address.
    pub fn add(&mut self, address: IpAddr) {
        if self.is_too_wide {
            return;
        }
        self.ranges.extend(self.around(address));
        while self.ranges.len() > MOST {
            self.step += 1;
            self.is_too_wide = self.step >= LENGTHS_V4.len();
            self.ranges = self.ranges.iter().filter_map(|range| self.around(range.addr())).collect();
        }
    }

    /// Adds what another one covers.
    pub fn join(&mut self, other: &Self) {
        self.is_too_wide |= other.is_too_wide;
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

    /// Whether an address is in one of the ranges.
    pub fn has(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(&address))
    }

    /// Whether there are too many addresses for ranges that a policy should name. Then there is no range.
    pub const fn is_too_wide(&self) -> bool {
        self.is_too_wide
    }

    /// Whether it covers addresses that nobody added.
    pub const fn is_wider(&self) -> bool {
        self.step > 0
    }

    fn around(&self, address: IpAddr) -> Option<IpNet> {
        let lengths = if address.is_ipv4() { LENGTHS_V4 } else { LENGTHS_V6 };
        let length = lengths.get(self.step).copied()?;
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
            let addresses: Vec<IpAddr> = octets.iter().copied().map(IpAddr::from).collect();
            let blocks = of(addresses.iter().copied());
            prop_assert!(blocks.ranges.len() <= MOST);
            let is_covered = |address: &IpAddr| blocks.ranges.iter().any(|range| range.contains(address));
            prop_assert!(blocks.is_too_wide() || addresses.iter().all(is_covered));
            prop_assert_eq!(blocks.is_too_wide(), octets.iter().map(|octets| [octets[0], octets[1]]).collect::<BTreeSet<_>>().len() > MOST);
            prop_assert_eq!(&of(addresses.iter().rev().copied()), &blocks);
            let (one, other) = addresses.split_at(addresses.len() / 2);
            let mut joined = of(one.iter().copied());
            joined.join(&of(other.iter().copied()));
            prop_assert_eq!(joined, blocks);
        }
    }
}
