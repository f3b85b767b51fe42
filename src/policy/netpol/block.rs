//! A range of addresses, as written in an `ipBlock`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// A range of addresses of one family.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Block(IpNet);

/// The address family of a block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    /// IPv4: 32 bits.
    V4,
    /// IPv6: 128 bits.
    V6,
}

impl Block {
    /// Parses `10.0.0.0/8` or `fd00::/8` as strictly as the API server: no leading zeros. Bits after the prefix are ignored.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let length: u8 = length.parse().ok().filter(|_| length == "0" || !length.starts_with(['0', '+']))?;
        let mapped = match address {
            IpAddr::V6(address) => address.to_ipv4_mapped().zip(length.checked_sub(96)),
            IpAddr::V4(_) => None,
        };
        let (address, length) = mapped.map_or((address, length), |(address, length)| (address.into(), length));
        Some(Self(IpNet::new(address, length).ok()?.trunc()))
    }

    /// How a policy must name that range: an API server with strict validation, as from 1.36 on, takes no address bits after the prefix
    /// and no IPv4 address written as IPv6. None if the text names it so already.
    ///
    /// <https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-cidr-library> reads ranges in the same way.
    pub fn spelling(&self, text: &str) -> Option<String> {
        let address = text.split_once('/').and_then(|(address, _)| address.parse::<IpAddr>().ok());
        let is_same = address.is_some_and(|address| address == self.0.network());
        (!is_same).then(|| self.0.to_string())
    }

    /// Whether `other` is a real part of this block, not the whole block. The API server requires that of `except`.
    pub fn has_part(&self, other: &Self) -> bool {
        self.0.contains(&other.0) && self != other
    }

    /// Whether the address is in this block.
    pub fn has(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// The address family of this block.
    pub const fn family(&self) -> Family {
        match self.0 {
            IpNet::V4(_) => Family::V4,
            IpNet::V6(_) => Family::V6,
        }
    }

    /// Whether it is a range of IPv4.
    pub const fn is_v4(&self) -> bool {
        matches!(self.0, IpNet::V4(_))
    }

    /// The first and the last address, as numbers.
    pub fn range(&self) -> (u128, u128) {
        match self.0 {
            IpNet::V4(net) => (net.network().to_bits().into(), net.broadcast().to_bits().into()),
            IpNet::V6(net) => (net.network().to_bits(), net.broadcast().to_bits()),
        }
    }

    /// The addresses where it begins and ends, inside and outside of it.
    pub fn edges(&self) -> impl Iterator<Item = IpAddr> {
        let (first, last) = self.range();
        let is_v4 = self.is_v4();
        let numbers = [Some(first), Some(last), first.checked_sub(1), last.checked_add(1)].into_iter().flatten();
        numbers.filter_map(move |number| {
            if is_v4 {
                u32::try_from(number).ok().map(|number| Ipv4Addr::from_bits(number).into())
            } else {
                Some(Ipv6Addr::from_bits(number).into())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(family: Family, number: u128) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::from_bits(u32::try_from(number).unwrap()).into(),
            Family::V6 => Ipv6Addr::from_bits(number).into(),
        }
    }

    fn ends(text: &str) -> Option<(String, String)> {
        let block = Block::parse(text)?;
        let (first, last) = block.range();
        Some((address(block.family(), first).to_string(), address(block.family(), last).to_string()))
    }

    #[test]
    fn a_block_is_read_as_its_first_and_last_address() {
        let two = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(ends("10.1.2.3/8"), two("10.0.0.0", "10.255.255.255"));
        assert_eq!(ends("0.0.0.0/0"), two("0.0.0.0", "255.255.255.255"));
        assert_eq!(ends("1.2.3.4/32"), two("1.2.3.4", "1.2.3.4"));
        assert_eq!(ends("fd00::/8"), two("fd00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"));
        assert_eq!(ends("::/0"), two("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"));
        assert_eq!(ends("::ffff:10.0.0.0/104"), two("10.0.0.0", "10.255.255.255"));
        for bad in ["10.0.0.0", "10.0.0.0/33", "fd00::/129", "10.0.0/8", "10.0.0.0/08", "10.0.0.0/+8", "/8", "x/8", "010.0.0.0/8"]
        {
            assert_eq!(ends(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_edges_of_a_block_are_inside_and_outside_of_it() {
        let edges = |text: &str| Block::parse(text).unwrap().edges().map(|address| address.to_string()).collect::<Vec<_>>();
        assert_eq!(edges("10.0.0.0/24"), ["10.0.0.0", "10.0.0.255", "9.255.255.255", "10.0.1.0"]);
        assert_eq!(edges("0.0.0.0/0"), ["0.0.0.0", "255.255.255.255"]);
        assert_eq!(edges("fd00::/128"), ["fd00::", "fd00::", "fcff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fd00::1"]);
        assert_eq!(edges("::/0").len(), 2);
    }

    #[test]
    fn a_range_that_an_apiserver_rejects_has_another_spelling() {
        let spelling = |text: &str| Block::parse(text).unwrap().spelling(text);
        for good in ["10.0.0.0/8", "0.0.0.0/0", "1.2.3.4/32", "fd00::/8", "FD00::/8", "fd00:0::/8", "::/0"] {
            assert_eq!(spelling(good), None, "{good}");
        }
        for (bad, good) in [
            ("10.0.0.1/8", "10.0.0.0/8"),
            ("1.2.3.4/0", "0.0.0.0/0"),
            ("fd00::1/8", "fd00::/8"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ] {
            assert_eq!(spelling(bad).as_deref(), Some(good), "{bad}");
        }
    }

    #[test]
    fn an_address_is_in_a_block_of_its_own_family_from_the_first_to_the_last() {
        let has = |block: &str, address: &str| Block::parse(block).unwrap().has(address.parse().unwrap());
        for inside in ["10.0.0.0", "10.255.255.255", "::ffff:10.0.0.1"] {
            assert!(has("10.0.0.0/8", inside), "{inside}");
        }
        for outside in ["9.255.255.255", "11.0.0.0", "::", "::10.0.0.1"] {
            assert!(!has("10.0.0.0/8", outside), "{outside}");
        }
        assert!(has("fd00::/8", "fdff::1") && !has("::/0", "10.0.0.1") && !has("0.0.0.0/0", "fd00::1"));
    }

    #[test]
    fn a_part_is_of_the_same_family_and_never_the_whole() {
        let block = |text| Block::parse(text).unwrap();
        assert!(block("10.0.0.0/8").has_part(&block("10.1.0.0/16")));
        for other in ["10.0.0.0/8", "11.0.0.0/16", "0.0.0.0/0", "::/0"] {
            assert!(!block("10.0.0.0/8").has_part(&block(other)), "{other}");
        }
    }
}
