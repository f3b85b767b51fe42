//! Ports as numbers on one line, so that the rules of all policies can be compared port by port. Each protocol has a section: first its
//! numbered ports, then its named ports. A name stands beside all numbers, because only a pod knows which number it is.

use k8s_openapi::{api::networking::v1::NetworkPolicyPort, apimachinery::pkg::util::intstr::IntOrString};

use super::union::Union;

/// The number of ports of a protocol.
pub const NUMBERED: u128 = 65535;
/// All protocols, in the order of their sections. The API server takes no other.
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
/// The first so many protocols are those whose ports a rule must open, all of them, to open all ports.
const NEEDED: usize = 2;
/// The length of a section.
const SECTION: u128 = 1 << 124;
/// The place of the first name in a section. A name has at most 15 bytes, which are a number of 120 bits.
const NAMES: u128 = 1 << 121;
const NAME_BYTES: usize = 15;

/// The line of all ports of some rules.
#[derive(Clone, Copy, Debug)]
pub struct PortLine {
    /// How many protocols have a section. SCTP has none if no rule names it: then all ports of the others are all ports.
    sections: usize,
}

#[derive(Clone, Copy)]
struct Section {
    start: u128,
}

impl Section {
    const fn whole(self) -> (u128, u128) {
        (self.start + 1, self.start + SECTION - 1)
    }

    const fn numbered(self) -> (u128, u128) {
        (self.start + 1, self.start + NUMBERED)
    }

    /// The place of a named port.
    fn name(self, name: &str) -> u128 {
        let number = name.bytes().take(NAME_BYTES).fold(0, |number, byte| number << 8 | u128::from(byte));
        self.start + NAMES + number
    }
}

impl PortLine {
    /// The line of every protocol.
    pub const EVERY: Self = Self { sections: PROTOCOLS.len() };

    /// The line for rules with these ports.
    pub fn of<'a>(mut ports: impl Iterator<Item = &'a NetworkPolicyPort>) -> Self {
        let is_needed = |port: &NetworkPolicyPort| PROTOCOLS.iter().take(NEEDED).any(|needed| *needed == protocol(port));
        if ports.all(is_needed) { Self { sections: NEEDED } } else { Self::EVERY }
    }

    fn sections(self) -> impl Iterator<Item = (&'static str, Section)> {
        let section = |at: u128| Section { start: SECTION * at };
        PROTOCOLS.into_iter().zip((0..).map(section)).take(self.sections)
    }

    /// The ports of a rule; `None` if it opens all ports. All numbers of a protocol stand for its names too.
    pub fn place(self, ports: &[NetworkPolicyPort]) -> Option<Vec<(u128, u128)>> {
        if ports.is_empty() {
            return None;
        }
        let one = |port: &NetworkPolicyPort| {
            let (_, section) = self.sections().find(|(of, _)| *of == protocol(port))?;
            let number = |number: i32| u128::try_from(number).unwrap_or_default();
            let (first, last) = match &port.port {
                None => return Some(section.whole()),
                Some(IntOrString::Int(first)) => (number(*first).max(1), number(port.end_port.unwrap_or(*first)).min(NUMBERED)),
                Some(IntOrString::String(name)) => return Some((section.name(name), section.name(name))),
            };
            (first <= last).then_some((section.start + first, section.start + last))
        };
        let placed = Union::of(ports.iter().filter_map(one).collect());
        let is_full = |section: &Section| {
            let (first, last) = section.numbered();
            placed.within(first, last) == NUMBERED
        };
        let full: Vec<_> = self.sections().map(|(_, section)| section).filter(is_full).map(Section::whole).collect();
        if full.len() == self.sections {
            return None;
        }
        let placed = if full.is_empty() { placed } else { Union::of(placed.ranges().chain(full).collect()) };
        Some(placed.ranges().collect())
    }

    /// All ports, by protocol.
    pub fn whole(self) -> impl Iterator<Item = (u128, u128)> {
        self.sections().map(|(_, section)| section.whole())
    }

    /// The numbered ports of the protocols that count for "all ports".
    pub fn needed(self) -> impl Iterator<Item = (u128, u128)> {
        self.sections().take(NEEDED).map(|(_, section)| section.numbered())
    }

    /// The ports of DNS, for each protocol that DNS uses.
    pub fn dns(self) -> impl Iterator<Item = u128> {
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
