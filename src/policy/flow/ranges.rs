//! The `ipBlock` of a peer: a range of addresses without its exceptions.

use std::net::IpAddr;

use k8s_openapi::api::networking::v1::IPBlock;

use crate::policy::netpol::Block;

/// A range of addresses without its exceptions.
#[derive(Clone, Debug)]
pub struct AddressRange {
    whole: Block,
    except: Vec<Block>,
}

impl AddressRange {
    /// Reads an `ipBlock`. None: the API server takes no such range.
    pub fn of(block: &IPBlock) -> Option<Self> {
        let except = block.except.iter().flatten().map(|text| Block::parse(text)).collect::<Option<_>>()?;
        Some(Self { whole: Block::parse(&block.cidr)?, except })
    }

    /// Whether the address is in it.
    pub fn has(&self, address: IpAddr) -> bool {
        self.whole.has(address) && !self.except.iter().any(|block| block.has(address))
    }
}
