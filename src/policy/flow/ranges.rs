//! Ranges of addresses: the `ipBlock` of a peer, which is a range without its exceptions, and the networks of a peer of a tier.

use std::{collections::HashMap, net::IpAddr};

use k8s_openapi::api::networking::v1::IPBlock;
use strum::IntoStaticStr;

use crate::policy::netpol::Block;

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, Eq, Hash, IntoStaticStr, Ord, PartialEq, PartialOrd)]
pub enum IpFamily {
    IPv4,
    IPv6,
}

impl IpFamily {
    /// The family of an address.
    pub const fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::IPv4 } else { Self::IPv6 }
    }
}

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
