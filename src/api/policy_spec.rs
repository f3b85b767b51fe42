//! Reads the spec of a policy, but of a very large one only the beginning: tenants choose how large their policies are, and to skip an entry
//! costs a tenth of reading it.

use std::{cell::Cell, fmt, marker::PhantomData};

use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// So many rules, peers and ports of a spec are read. The others are skipped, except the first rule of each direction, and the first peer and
/// the first port of a rule. A rule without peers or ports would mean everybody, or all ports, and a direction without rules opens nothing.
pub const MOST_READ: usize = 20_001;

/// Reads a spec, or the beginning of a very large one.
pub fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Option<NetworkPolicySpec>, D::Error> {
    let left = Cell::new(MOST_READ);
    Nullable(Spec(&left)).deserialize(from)
}

/// What may be `null`.
struct Nullable<S>(S);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Nullable<S> {
    type Value = Option<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_option(self)
    }
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for Nullable<S> {
    type Value = Option<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or null")
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        self.0.deserialize(from).map(Some)
    }
}

/// Reads a spec. The number says how many more entries are read.
struct Spec<'a>(&'a Cell<usize>);

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum SpecField {
    PodSelector,
    PolicyTypes,
    Ingress,
    Egress,
    #[serde(other)]
    Other,
}

impl<'de> DeserializeSeed<'de> for Spec<'_> {
    type Value = NetworkPolicySpec;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Spec<'_> {
    type Value = NetworkPolicySpec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the spec of a NetworkPolicy")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut spec = NetworkPolicySpec::default();
        while let Some(field) = map.next_key()? {
            match field {
                SpecField::PodSelector => spec.pod_selector = map.next_value::<Option<LabelSelector>>()?,
                SpecField::PolicyTypes => spec.policy_types = map.next_value()?,
                SpecField::Ingress => {
                    let rules = map.next_value_seed(Nullable(List::of_rules(self.0, RuleField::From)))?;
                    let rule = |(from, ports)| NetworkPolicyIngressRule { from, ports };
                    spec.ingress = rules.map(|rules| rules.into_iter().map(rule).collect());
                }
                SpecField::Egress => {
                    let rules = map.next_value_seed(Nullable(List::of_rules(self.0, RuleField::To)))?;
                    let rule = |(to, ports)| NetworkPolicyEgressRule { to, ports };
                    spec.egress = rules.map(|rules| rules.into_iter().map(rule).collect());
                }
                SpecField::Other => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(spec)
    }
}

/// Reads the entries of a list until none is left to read, but at least the first one. Skips the others.
struct List<'a, S> {
    left: &'a Cell<usize>,
    /// Reads one entry.
    entry: S,
}

impl<'a> List<'a, RuleSeed<'a>> {
    fn of_rules(left: &'a Cell<usize>, peers: RuleField) -> Self {
        Self { left, entry: RuleSeed { left, peers } }
    }
}

impl<'a, T> List<'a, PhantomData<T>> {
    fn of_values(left: &'a Cell<usize>) -> Self {
        Self { left, entry: PhantomData }
    }
}

impl<'de, S: DeserializeSeed<'de> + Copy> DeserializeSeed<'de> for List<'_, S> {
    type Value = Vec<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de, S: DeserializeSeed<'de> + Copy> Visitor<'de> for List<'_, S> {
    type Value = Vec<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut read = Vec::new();
        while self.left.get() > 0 || read.is_empty() {
            let Some(entry) = list.next_element_seed(self.entry)? else { return Ok(read) };
            self.left.set(self.left.get().saturating_sub(1));
            read.push(entry);
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(read)
    }
}

/// Reads the peers and the ports of a rule.
#[derive(Clone, Copy)]
struct RuleSeed<'a> {
    left: &'a Cell<usize>,
    /// The field that has the peers.
    peers: RuleField,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(field_identifier, rename_all = "camelCase")]
enum RuleField {
    From,
    To,
    Ports,
    #[serde(other)]
    Other,
}

type PeersAndPorts = (Option<Vec<NetworkPolicyPeer>>, Option<Vec<NetworkPolicyPort>>);

impl<'de> DeserializeSeed<'de> for RuleSeed<'_> {
    type Value = PeersAndPorts;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RuleSeed<'_> {
    type Value = PeersAndPorts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a rule of a NetworkPolicy")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut peers, mut ports) = (None, None);
        while let Some(field) = map.next_key::<RuleField>()? {
            if field == self.peers {
                peers = map.next_value_seed(Nullable(List::of_values(self.left)))?;
            } else if field == RuleField::Ports {
                ports = map.next_value_seed(Nullable(List::of_values(self.left)))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok((peers, ports))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read_of(spec: &Value) -> Option<NetworkPolicySpec> {
        read(spec).unwrap()
    }

    #[test]
    fn a_usual_spec_is_read_like_the_whole_object() {
        let peers = json!([{"podSelector": {}}, {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}, {"namespaceSelector": {"matchLabels": {"a": "b"}}}]);
        let ports = json!([{"protocol": "TCP", "port": 53}, {"port": "http"}, {"port": 1, "endPort": 9}]);
        for spec in [
            json!({}),
            json!({"podSelector": null, "ingress": null, "egress": null, "policyTypes": null, "more": [1]}),
            json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": []}),
            json!({"ingress": [{}, {"from": null, "ports": null}, {"from": [], "ports": []}], "egress": [{}, {"to": []}]}),
            json!({"ingress": [{"from": peers, "ports": ports, "to": peers}], "egress": [{"to": peers, "from": peers}, {"ports": ports, "more": {}}]}),
        ] {
            assert_eq!(read_of(&spec), serde_json::from_value(spec.clone()).unwrap(), "{spec}");
        }
        assert_eq!(read_of(&Value::Null), None);
        for wrong in [json!([]), json!({"ingress": {}}), json!({"ingress": [3]}), json!({"egress": [{"to": "all"}]})] {
            assert!(read(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn i7_of_a_very_large_spec_the_beginning_is_read_and_no_list_becomes_empty() {
        let counts = |spec: &Value| {
            let rules = read_of(spec).unwrap().ingress.unwrap();
            let of = |count: fn(&NetworkPolicyIngressRule) -> usize| rules.iter().map(count).sum::<usize>();
            (rules.len(), of(|r| r.from.as_ref().map_or(0, Vec::len)), of(|r| r.ports.as_ref().map_or(0, Vec::len)))
        };
        let many = |entry: Value| vec![entry; MOST_READ + 7];
        let (peer, port) = (json!({"podSelector": {}}), json!({"port": 1}));
        assert_eq!(counts(&json!({"ingress": many(json!({}))})), (MOST_READ, 0, 0));
        assert_eq!(counts(&json!({"ingress": [{"from": many(peer.clone()), "ports": [port, port]}, {}]})), (1, MOST_READ, 1));
        assert_eq!(counts(&json!({"ingress": [{"ports": many(port.clone()), "from": [peer, peer]}, {}]})), (1, 2, MOST_READ - 2));
        // In the order of the API server.
        let both = format!(r#"{{"ingress": {}, "egress": [{{}}, {{}}]}}"#, json!(many(json!({}))));
        let both = read(&mut serde_json::Deserializer::from_str(&both)).unwrap().unwrap();
        assert_eq!((both.ingress.unwrap().len(), both.egress.unwrap().len()), (MOST_READ, 1));
        let rules = many(json!({"from": [peer, peer], "ports": [port]}));
        assert_eq!(counts(&json!({"ingress": rules})), (5_001, 10_001, 5_001));
    }
}
