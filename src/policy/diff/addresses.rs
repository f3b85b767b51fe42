//! The addresses outside of the cluster, cut where a policy of either version cuts them.

use std::{
    collections::{BTreeSet, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::policy::{
    flow::{AddressRange, FlowSnapshot, IpFamily, Row},
    netpol::Block,
};

/// Addresses of one family that no policy tells apart.
#[derive(Clone, Debug)]
pub struct AddressSpan {
    first: u128,
    last: u128,
    family: IpFamily,
    /// One of them. It is no pod's and no node's, if there is such a one.
    pub sample: IpAddr,
}

/// All addresses.
#[derive(Debug)]
pub struct AddressSpans(pub Vec<AddressSpan>);

const fn last_of(family: IpFamily) -> u128 {
    match family {
        IpFamily::IPv4 => u32::MAX as u128,
        IpFamily::IPv6 => u128::MAX,
    }
}

fn address(family: IpFamily, number: u128) -> IpAddr {
    match (family, u32::try_from(number)) {
        (IpFamily::IPv4, Ok(number)) => Ipv4Addr::from_bits(number).into(),
        (IpFamily::IPv4, Err(_)) => Ipv4Addr::BROADCAST.into(),
        (IpFamily::IPv6, _) => Ipv6Addr::from_bits(number).into(),
    }
}

impl AddressSpans {
    /// Cuts the addresses of the families that the pods have, or of both if no pod has an address.
    pub fn of(snapshot: &FlowSnapshot, ranges: &[AddressRange]) -> Self {
        let of_pods: HashSet<IpAddr> = snapshot.pods.iter().flat_map(|pod| &pod.addresses).copied().collect();
        let of_nodes: HashSet<IpAddr> = snapshot.pods.iter().flat_map(|pod| &pod.node_addresses).copied().collect();
        let is_taken = |address: &IpAddr| of_pods.contains(address) || of_nodes.contains(address);
        let mut spans = Vec::new();
        for family in [IpFamily::IPv4, IpFamily::IPv6] {
            if !of_pods.is_empty() && !of_pods.iter().any(|address| IpFamily::of(*address) == family) {
                continue;
            }
            let mut firsts = BTreeSet::from([0]);
            for (first, last) in ranges
                .iter()
                .flat_map(AddressRange::blocks)
                .filter(|block| block.is_v4() == (family == IpFamily::IPv4))
                .map(Block::range)
            {
                firsts
                    .extend([Some(first), last.checked_add(1)].into_iter().flatten().filter(|number| *number <= last_of(family)));
            }
            let firsts: Vec<u128> = firsts.into_iter().collect();
            let lasts = firsts.iter().skip(1).map(|next| next - 1).chain([last_of(family)]);
            for (first, last) in firsts.iter().copied().zip(lasts) {
                // The pod itself is judged as a pod.
                if first == last && of_pods.contains(&address(family, first)) {
                    continue;
                }
                let free = (first..=last).take(of_pods.len() + of_nodes.len() + 1).map(|number| address(family, number));
                let sample = free.into_iter().find(|address| !is_taken(address)).unwrap_or(address(family, first));
                spans.push(AddressSpan { first, last, family, sample });
            }
        }
        Self(spans)
    }

    /// What these are called: `10.0.0.0/8`, or the first and the last address. Neighbours are one range.
    pub fn names(&self, which: &Row) -> Vec<String> {
        let mut joined: Vec<AddressSpan> = Vec::new();
        for span in which.classes().filter_map(|index| self.0.get(index)) {
            match joined.last_mut() {
                Some(before) if before.family == span.family && before.last.checked_add(1) == Some(span.first) => {
                    before.last = span.last;
                }
                _ => joined.push(span.clone()),
            }
        }
        joined.iter().map(AddressSpan::name).collect()
    }
}

impl AddressSpan {
    fn name(&self) -> String {
        let (first, last) = (address(self.family, self.first), address(self.family, self.last));
        if first == last {
            return first.to_string();
        }
        let bits = if self.family == IpFamily::IPv4 { 32 } else { 128 };
        // A block differs from its first to its last address in all bits behind its prefix.
        let differing = self.first ^ self.last;
        let is_block = differing & differing.wrapping_add(1) == 0 && self.first & differing == 0;
        if is_block { format!("{first}/{}", bits - differing.count_ones()) } else { format!("{first}-{last}") }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::flow::tests::{pod, snapshot};

    fn range(cidr: &str, except: &[&str]) -> AddressRange {
        let except: Vec<String> = except.iter().map(|text| (*text).to_owned()).collect();
        AddressRange::of((cidr, &except)).unwrap()
    }

    fn all(spans: &AddressSpans) -> Row {
        let mut row = Row::new(spans.0.len());
        row.set(0..u32::try_from(spans.0.len()).unwrap());
        row
    }

    #[test]
    fn addresses_are_cut_at_the_edges_of_ranges_and_neighbours_are_shown_as_one() {
        let spans = AddressSpans::of(&FlowSnapshot::default(), &[range("10.0.0.0/8", &["10.1.0.0/16"])]);
        let names: Vec<String> = spans.0.iter().map(AddressSpan::name).collect();
        let expected = [
            "0.0.0.0-9.255.255.255",
            "10.0.0.0/16",
            "10.1.0.0/16",
            "10.2.0.0-10.255.255.255",
            "11.0.0.0-255.255.255.255",
            "::/0",
        ];
        assert_eq!(names, expected);
        assert_eq!(spans.names(&all(&spans)), ["0.0.0.0/0", "::/0"]);
        let mut some = all(&spans);
        for index in [0, 4, 5] {
            some.unset(index);
        }
        assert_eq!(spans.names(&some), ["10.0.0.0/8"]);
    }

    #[test]
    fn the_last_address_ends_the_last_range() {
        let spans = AddressSpans::of(&FlowSnapshot::default(), &[range("255.255.255.255/32", &[]), range("ffff::/16", &[])]);
        assert_eq!(spans.names(&all(&spans)), ["0.0.0.0/0", "::/0"]);
        assert_eq!(spans.0.len(), 4);
    }

    #[test]
    fn a_family_that_no_pod_has_is_left_out_and_a_pod_stands_for_no_address() {
        let world = snapshot(&[pod("a/p", json!({}), &["10.0.0.0"])]);
        let spans = AddressSpans::of(&world, &[range("10.0.0.0/32", &[]), range("192.168.0.0/30", &[])]);
        let names: Vec<String> = spans.0.iter().map(AddressSpan::name).collect();
        assert_eq!(names, ["0.0.0.0-9.255.255.255", "10.0.0.1-192.167.255.255", "192.168.0.0/30", "192.168.0.4-255.255.255.255"]);
        assert_eq!(spans.0[2].sample.to_string(), "192.168.0.0");
        let nodes = AddressSpans::of(&world, &[range("192.168.0.1/32", &[]), range("192.168.0.0/31", &[])]);
        let samples: Vec<String> = nodes.0.iter().map(|span| span.sample.to_string()).collect();
        assert_eq!(samples, ["0.0.0.0", "192.168.0.0", "192.168.0.1", "192.168.0.2"]);
    }
}
