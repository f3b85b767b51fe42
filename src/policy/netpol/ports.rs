//! Ports as numbers on one line, so that rules can be compared port by port. Each protocol has a section: first its numbered ports, then
//! its named ports. A name stands beside all numbers, because only a pod knows which number it is.

use std::collections::BTreeMap;

use k8s_openapi::{api::networking::v1::NetworkPolicyPort, apimachinery::pkg::util::intstr::IntOrString};

use super::union::Union;

/// The number of ports of a protocol.
pub const NUMBERED: u128 = 65535;
/// The protocols whose ports a rule must open, all of them, to open all ports.
const NEEDED: [&str; 2] = ["TCP", "UDP"];
/// The length of a section.
const SECTION: u128 = 1 << 32;

/// The line of all ports that the rules of a policy name.
#[derive(Debug)]
pub struct PortLine<'a> {
    /// The start of each section, and the place of each name in it.
    sections: BTreeMap<&'a str, Section<'a>>,
}

#[derive(Debug, Default)]
struct Section<'a> {
    start: u128,
    names: BTreeMap<&'a str, u128>,
}

impl Section<'_> {
    const fn whole(&self) -> (u128, u128) {
        (self.start + 1, self.start + SECTION - 1)
    }
}

impl<'a> PortLine<'a> {
    /// The line for rules with these ports.
    pub fn of(ports: impl Iterator<Item = &'a NetworkPolicyPort>) -> Self {
        let mut sections: BTreeMap<&str, Section> = NEEDED.into_iter().map(|protocol| (protocol, Section::default())).collect();
        for port in ports {
            let names = &mut sections.entry(protocol(port)).or_default().names;
            if let Some(IntOrString::String(name)) = &port.port {
                let next = NUMBERED + 1 + names.len() as u128;
                names.entry(name).or_insert(next);
            }
        }
        for (section, at) in sections.values_mut().zip(0..) {
            section.start = SECTION * at;
        }
        Self { sections }
    }

    /// The ports of a rule; `None` if it opens all ports. All numbers of a protocol stand for its names too.
    pub fn place(&self, ports: &[NetworkPolicyPort]) -> Option<Vec<(u128, u128)>> {
        if ports.is_empty() {
            return None;
        }
        let section = |port: &NetworkPolicyPort| self.sections.get(protocol(port));
        let one = |port: &NetworkPolicyPort| {
            let section = section(port)?;
            let number = |number: i32| u128::try_from(number).unwrap_or_default();
            let (first, last) = match &port.port {
                None => return Some(section.whole()),
                Some(IntOrString::Int(first)) => (number(*first).max(1), number(port.end_port.unwrap_or(*first)).min(NUMBERED)),
                Some(IntOrString::String(name)) => section.names.get(&**name).map(|at| (*at, *at))?,
            };
            (first <= last).then_some((section.start + first, section.start + last))
        };
        let placed = Union::of(ports.iter().filter_map(one).collect());
        let is_full = |section: &&Section| placed.within(section.start + 1, section.start + NUMBERED) == NUMBERED;
        let full: Vec<_> = self.sections.values().filter(is_full).map(Section::whole).collect();
        if full.len() == self.sections.len() {
            return None;
        }
        let placed = if full.is_empty() { placed } else { Union::of(placed.ranges().chain(full).collect()) };
        Some(placed.ranges().collect())
    }

    /// All ports, by protocol.
    pub fn whole(&self) -> impl Iterator<Item = (u128, u128)> {
        self.sections.values().map(Section::whole)
    }

    /// The numbered ports of the protocols that count for "all ports".
    pub fn needed(&self) -> impl Iterator<Item = (u128, u128)> {
        let start = |protocol: &str| self.sections.get(protocol).map(|section| section.start);
        NEEDED.into_iter().filter_map(start).map(|start| (start + 1, start + NUMBERED))
    }

    /// The ports of DNS, for each protocol that DNS uses.
    pub fn dns(&self) -> impl Iterator<Item = u128> {
        self.needed().map(|(first, _)| first + 52)
    }
}

fn protocol(port: &NetworkPolicyPort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn equal_sets_of_ports_are_the_same_place_however_they_are_written() {
        let range = |protocol: &str, first: i32, last: i32| json!({"protocol": protocol, "port": first, "endPort": last});
        let place = |ports: Value, and: Value| {
            let [ports, and]: [Vec<NetworkPolicyPort>; 2] = [ports, and].map(|ports| serde_json::from_value(ports).unwrap());
            let line = PortLine::of(ports.iter().chain(&and));
            let [one, other] = [&ports, &and].map(|ports| line.place(ports));
            (one == other, one.map(|ranges| ranges.len()))
        };
        for (one, other, ranges) in [
            (json!([{"port": 80}]), json!([{"port": 80, "protocol": "TCP"}, {"port": 80}]), Some(1)),
            (json!([{"port": 81}, {"port": 80}]), json!([range("TCP", 80, 81)]), Some(1)),
            (json!([{"port": 80}, {"port": 443}]), json!([{"port": 443}, {"port": 80}]), Some(2)),
            (json!([{"protocol": "TCP"}]), json!([range("TCP", 1, 30000), range("TCP", 30001, 65535)]), Some(1)),
            (json!([{"protocol": "TCP"}, {"protocol": "UDP"}]), json!([]), None),
            (json!([{"protocol": "TCP"}]), json!([{"protocol": "TCP"}, {"port": "http"}]), Some(1)),
            // An API server takes no such ports.
            (json!([{"port": 90, "endPort": 80}]), json!([{"port": 0}, {"port": -1}, {"port": 65536}]), Some(0)),
            (json!([range("TCP", -5, 70000)]), json!([{"protocol": "TCP"}]), Some(1)),
        ] {
            assert_eq!(place(one.clone(), other.clone()), (true, ranges), "{one} {other}");
        }
        for (one, other) in [
            (json!([{"port": 80}]), json!([{"port": 80, "protocol": "UDP"}])),
            (json!([{"port": 80}]), json!([{"port": "80"}])),
            (json!([{"port": "http"}]), json!([{"port": "https"}])),
            (json!([{"protocol": "SCTP"}, {"protocol": "TCP"}]), json!([{"protocol": "TCP"}])),
        ] {
            assert!(!place(one.clone(), other.clone()).0, "{one} {other}");
        }
    }
}
