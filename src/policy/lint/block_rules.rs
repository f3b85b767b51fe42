//! Rules about ranges of addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use k8s_openapi::api::networking::v1::IPBlock;

use super::{
    case::{LintCase, RuleView},
    found::RuleHit,
    rule::LintRule,
};
use crate::policy::{flow::Way, netpol::Block};

/// Shorter prefixes are almost everybody: half of the IPv4 internet is a /1, and no organisation has more than a /8.
const BROAD_V4: u8 = 8;
const BROAD_V6: u8 = 16;
/// A range with so few addresses names a service on purpose.
const ON_PURPOSE: u128 = 256;
/// The metadata services of AWS, Azure, Google Cloud and others.
const METADATA: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254))];
/// The private ranges of RFC 1918.
const PRIVATE: [&str; 3] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];

/// What is wrong with the ranges of a policy.
pub fn check(case: &LintCase) -> Vec<RuleHit> {
    let mut found = Vec::new();
    for rule in case.live_rules() {
        let blocks = rule.peers.iter().enumerate().filter_map(|(index, peer)| Some((index, peer.ip_block.as_ref()?)));
        for (index, block) in blocks {
            let path = format!("{}.ipBlock", rule.peer_path(index));
            found.extend(wide(&rule, &path, block));
            found.extend(of_pods_or_services(case, &rule, &path, block));
        }
    }
    found
}

/// The length of the prefix of a range.
fn length(cidr: &str) -> Option<u8> {
    cidr.rsplit('/').next()?.parse().ok()
}

/// Whether a range is almost everybody. Whoever takes ranges out has thought about it.
pub fn is_broad(cidr: &str, has_except: bool) -> bool {
    let broad = if cidr.contains(':') { BROAD_V6 } else { BROAD_V4 };
    !has_except && length(cidr).is_some_and(|length| length < broad)
}

/// A range that is wider than it may seem.
fn wide(rule: &RuleView, path: &str, block: &IPBlock) -> Option<RuleHit> {
    let whole = Block::parse(&block.cidr)?;
    let except: Vec<Block> = block.except.iter().flatten().filter_map(|text| Block::parse(text)).collect();
    let length = length(&block.cidr)?;
    let (first, last) = whole.range();
    let cidr = format!("{path}.cidr");
    if is_broad(&block.cidr, !except.is_empty()) {
        let verb = if rule.way == Way::Ingress { "may connect" } else { "may be reached, inside and outside of the cluster" };
        let how_many = if length == 0 { "every address" } else { "a large part of all addresses" };
        let message = format!(
            "{how_many} {verb}. Name the range that is meant; if the internet is meant, take out the private ranges with except"
        );
        return Some(RuleHit::new(LintRule::BroadCidr, cidr, message));
    }
    if rule.way == Way::Ingress || last - first < ON_PURPOSE {
        return None;
    }
    let is_open = |address: &IpAddr| whole.has(*address) && !except.iter().any(|except| except.has(*address));
    if let Some(address) = METADATA.iter().find(|address| is_open(address)) {
        let message = format!(
            "this has {address} in it, where clouds give each pod the credentials of its node. Add it to except: {address}/{}",
            if address.is_ipv4() { 32 } else { 128 }
        );
        return Some(RuleHit::new(LintRule::MetadataRange, cidr, message));
    }
    let is_out =
        |range: &&str| Block::parse(range).is_some_and(|range| except.iter().any(|one| *one == range || one.has_part(&range)));
    let (out, still): (Vec<&str>, Vec<&str>) = PRIVATE.iter().partition(|range| is_out(range));
    if length == 0 && !block.cidr.contains(':') && !out.is_empty() && !still.is_empty() {
        let message = format!(
            "except takes out {}, but not {}: if the internet is meant, take out all private ranges",
            out.join(" and "),
            still.join(" and ")
        );
        return Some(RuleHit::new(LintRule::PrivateRanges, format!("{path}.except"), message));
    }
    None
}

/// A small range with the address of a given pod or Service.
fn of_pods_or_services(case: &LintCase, rule: &RuleView, path: &str, block: &IPBlock) -> Option<RuleHit> {
    let whole = Block::parse(&block.cidr)?;
    let (first, last) = whole.range();
    if last - first >= ON_PURPOSE {
        return None;
    }
    let (address, shown) = case.given.addresses.iter().find(|(address, _)| whole.has(*address))?;
    let is_service = shown.starts_with("Service ");
    let why = match (is_service, rule.way) {
        (true, Way::Egress) => {
            "a policy sees the pods behind a Service, not its address, and this allows nothing with most network plugins. Select the pods"
        }
        (true, Way::Ingress) => "no connection comes from the address of a Service. Select the pods",
        (false, _) => "the address of a pod changes, and most network plugins never match pods by address. Select the pods",
    };
    let message = format!("{address} is the address of {shown}: {why}");
    Some(RuleHit::new(LintRule::BlockOfPodsOrServices, format!("{path}.cidr"), message))
}
