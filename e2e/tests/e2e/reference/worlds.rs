//! Small random worlds that are dense: few labels, few addresses and few ports, so that policies often match, and often match only almost.

use policy_baseline_e2e::Dice;
use policy_baseline_e2e::reference::{ReferenceWorld, WorldParty, WorldPort};
use serde_json::{Map, Value, json};

const NAMESPACES: [&str; 3] = ["a", "b", "c"];
pub const KEYS: [&str; 3] = ["x", "y", "z"];
/// The flows that are tried for a world. About one in three can be.
const FLOWS: usize = 72;
/// Addresses that are no pod's, some of them those of nodes.
const OUTSIDE: [&str; 8] =
    ["10.0.0.200", "192.168.0.1", "192.168.0.2", "8.8.8.8", "fd00::200", "fd01::1", "2001:db8::1", "10.0.0.7"];
/// Ranges that contain some of these addresses and of those of pods, and parts of them.
const BLOCKS: [(&str, &[&str]); 14] = [
    ("0.0.0.0/0", &["10.0.0.0/24"]),
    ("0.0.0.0/0", &["10.0.0.0/29", "8.8.8.0/24", "192.168.0.0/30"]),
    ("10.0.0.0/24", &["10.0.0.0/31", "10.0.0.4/32"]),
    ("10.0.0.0/30", &[]),
    ("10.0.0.0/30", &["10.0.0.2/32"]),
    ("10.0.0.3/32", &[]),
    ("192.168.0.0/24", &["192.168.0.1/32"]),
    ("8.8.8.0/24", &["8.8.8.0/25"]),
    ("::/0", &["fd00::/120"]),
    ("::/0", &["fd00::/126", "2001:db8::/32"]),
    ("fd00::/64", &["fd00::1/128", "fd00::4/127"]),
    ("fd00::/126", &["fd00::2/128"]),
    ("fd00::2/128", &[]),
    ("fd01::/64", &[]),
];
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
const PORT_NAMES: [&str; 3] = ["web", "api", "dns"];
/// The ports of flows, at the edges of ranges too.
const PORTS: [(&str, u16); 10] = [
    ("TCP", 79),
    ("TCP", 80),
    ("TCP", 81),
    ("TCP", 82),
    ("TCP", 65535),
    ("TCP", 1),
    ("UDP", 80),
    ("UDP", 81),
    ("SCTP", 80),
    ("SCTP", 81),
];

/// The n-th world of a seed; `add_tiers` adds policies of the tiers to some. The same numbers give the same world.
pub fn world(seed: u64, n: u64, add_tiers: impl FnOnce(&mut Dice, &mut ReferenceWorld)) -> ReferenceWorld {
    let mut dice = Dice::nth(seed, n);
    let namespaces = &NAMESPACES[..dice.between(1, 3)];
    let mut world = ReferenceWorld { name: format!("world {n} of the seed {seed}"), ..ReferenceWorld::default() };
    for name in namespaces {
        let mut labels = labels(&mut dice);
        labels.insert("kubernetes.io/metadata.name".into(), (*name).into());
        world.objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}));
    }
    // Nodes, and what a pod sends to itself, are about no policy. In most worlds they would only be in the way.
    let (has_nodes, talk_to_themselves) = (dice.once_in(5), dice.once_in(5));
    for number in 1..=dice.between(2, 6) {
        let node = has_nodes.then(|| dice.between(1, 2));
        let pod = pod(&mut dice, namespaces, number, node);
        let name = format!("{}/p{number}", pod["metadata"]["namespace"].as_str().unwrap());
        let addresses = pod["status"]["podIPs"].as_array().unwrap().iter();
        world.parties.extend(addresses.map(|address| party(Some(name.clone()), address["ip"].as_str().unwrap())));
        world.objects.push(pod);
    }
    for number in 0..dice.between(1, 4) {
        let policy = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"namespace": dice.pick(namespaces), "name": format!("n{number}")}, "spec": spec(&mut dice),
        });
        world.objects.push(policy);
    }
    // In a world with many rules of the Admin tier, NetworkPolicies seldom decide.
    if dice.once_in(3) {
        add_tiers(&mut dice, &mut world);
    }
    let mut world =
        with_flows(world, |count| (0..FLOWS).map(|_| [dice.below(count), dice.below(count), dice.below(PORTS.len())]).collect());
    let parties = &world.parties;
    world.flows.retain(|[from, to, _]| talk_to_themselves || parties[*from].pod != parties[*to].pod);
    world
}

/// A world with the flows that are chosen between its pods, and between these and addresses outside.
pub fn with_flows(mut world: ReferenceWorld, choose: impl FnOnce(usize) -> Vec<[usize; 3]>) -> ReferenceWorld {
    world.parties.extend(OUTSIDE.map(|address| party(None, address)));
    world.ports = PORTS.map(|(protocol, number)| WorldPort { protocol: protocol.into(), number }).into();
    let is_v4 = |party: usize| !world.parties[party].address.contains(':');
    let is_pod = |party: usize| world.parties[party].pod.is_some();
    let mut flows = choose(world.parties.len());
    // A flow has one family, and policies are only about pods.
    flows.retain(|[from, to, _]| is_v4(*from) == is_v4(*to) && (is_pod(*from) || is_pod(*to)));
    world.flows = flows;
    world
}

/// Every n-th flow between different pods, and between these and addresses outside, for a world that has no parties yet. The first ones are left
/// out, another number for each name of a world.
pub fn with_every_nth_flow(mut world: ReferenceWorld, n: usize) -> ReferenceWorld {
    let first = world.name.len() % n;
    for pod in world.objects.iter().filter(|object| object["kind"] == "Pod") {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let name = format!("{}/{}", text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
        world.parties.push(party(Some(name), &text(&pod["status"]["podIP"])));
    }
    with_flows(world, |count| {
        let pairs = (0..count).flat_map(|from| (0..count).map(move |to| (from, to))).filter(|(from, to)| from != to);
        pairs.flat_map(|(from, to)| (0..PORTS.len()).map(move |port| [from, to, port])).skip(first).step_by(n).collect()
    })
}

fn party(pod: Option<String>, address: &str) -> WorldParty {
    WorldParty { pod, address: address.into() }
}

/// Choices that come up in many places.
pub trait Choices {
    fn between(&mut self, least: usize, most: usize) -> usize;
    /// Once in so many throws.
    fn once_in(&mut self, throws: usize) -> bool;
}

impl Choices for Dice {
    fn between(&mut self, least: usize, most: usize) -> usize {
        least + self.below(most - least + 1)
    }

    fn once_in(&mut self, throws: usize) -> bool {
        self.below(throws) == 0
    }
}

/// Rarely the empty value: a label with it is a label all the same.
fn value(dice: &mut Dice) -> &'static str {
    if dice.once_in(10) { "" } else { dice.pick(&["1", "2"]) }
}

fn labels(dice: &mut Dice) -> Map<String, Value> {
    (0..dice.below(3)).map(|_| (dice.pick(&KEYS[..2]).to_owned(), value(dice).into())).collect()
}

/// A list without an entry may be absent, or be there and empty.
fn list(dice: &mut Dice, into: &mut Map<String, Value>, name: &str, most: usize, entry: impl Fn(&mut Dice) -> Value) {
    match dice.below(8) {
        0 => {}
        1 => drop(into.insert(name.into(), json!([]))),
        _ => drop(into.insert(name.into(), (0..dice.between(1, most)).map(|_| entry(dice)).collect())),
    }
}

fn pod(dice: &mut Dice, namespaces: &[&str], number: usize, node: Option<usize>) -> Value {
    let mut spec = Map::new();
    let mut status = json!({"phase": "Running"});
    let host_ips = node.map(|node| [format!("192.168.0.{node}"), format!("fd01::{node}")]);
    let is_on_host_network = node.is_some() && dice.once_in(5);
    let own = [format!("10.0.0.{number}"), format!("fd00::{number}")];
    let ips = match (&host_ips, dice.below(8)) {
        (Some(host_ips), _) if is_on_host_network => &host_ips[..],
        (_, 0) => &own[..1],
        (_, 1) => &own[1..],
        (_, _) => &own[..],
    };
    let list = |ips: &[String]| -> Value { ips.iter().map(|ip| json!({"ip": ip})).collect() };
    status["podIP"] = ips[0].clone().into();
    status["podIPs"] = list(ips);
    if let Some((node, ips)) = node.zip(host_ips.as_ref()) {
        spec.insert("nodeName".into(), format!("node-{node}").into());
        status["hostIP"] = ips[0].clone().into();
        status["hostIPs"] = list(ips);
    }
    if is_on_host_network {
        spec.insert("hostNetwork".into(), true.into());
    }
    spec.insert("containers".into(), (0..dice.between(1, 2)).map(|_| container(dice)).collect());
    if dice.once_in(3) {
        // One that always restarts runs beside the others, and one that does not has ended.
        let mut init = container(dice);
        if dice.once_in(2) {
            init["restartPolicy"] = "Always".into();
        }
        spec.insert("initContainers".into(), json!([init]));
    }
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": dice.pick(namespaces), "name": format!("p{number}"), "labels": labels(dice)},
        "spec": spec, "status": status,
    })
}

fn container(dice: &mut Dice) -> Value {
    let ports: Vec<Value> = (0..dice.below(4))
        .map(|_| {
            let mut port = Map::new();
            port.insert("containerPort".into(), dice.between(79, 82).into());
            if !dice.once_in(5) {
                port.insert("name".into(), dice.pick(&PORT_NAMES).into());
            }
            if dice.once_in(2) {
                port.insert("protocol".into(), dice.pick(&PROTOCOLS).into());
            }
            port.into()
        })
        .collect();
    json!({"name": "c", "ports": ports})
}

fn spec(dice: &mut Dice) -> Value {
    let mut spec = Map::new();
    // The field is required, and an empty selector selects every pod.
    let pods = if dice.once_in(3) { json!({}) } else { selector(dice, &KEYS) };
    spec.insert("podSelector".into(), pods);
    list(dice, &mut spec, "ingress", 2, |dice| rule(dice, "from"));
    list(dice, &mut spec, "egress", 2, |dice| rule(dice, "to"));
    let types: &[&str] = dice.pick(&[&["Ingress", "Egress"], &["Egress", "Ingress"], &["Ingress"], &["Egress"], &[]]);
    if !types.is_empty() || dice.once_in(2) {
        spec.insert("policyTypes".into(), json!(types));
    }
    spec.into()
}

fn rule(dice: &mut Dice, peers: &str) -> Value {
    let mut rule = Map::new();
    list(dice, &mut rule, peers, 3, peer);
    list(dice, &mut rule, "ports", 3, port);
    rule.into()
}

fn peer(dice: &mut Dice) -> Value {
    match dice.below(5) {
        0 | 1 => {
            let (cidr, except) = dice.pick(&BLOCKS);
            let except = &except[..dice.between(0, except.len())];
            if except.is_empty() && dice.once_in(2) {
                json!({"ipBlock": {"cidr": cidr}})
            } else {
                json!({"ipBlock": {"cidr": cidr, "except": except}})
            }
        }
        2 => json!({"podSelector": selector(dice, &KEYS)}),
        3 => json!({"namespaceSelector": namespace_selector(dice)}),
        _ => json!({"namespaceSelector": namespace_selector(dice), "podSelector": selector(dice, &KEYS)}),
    }
}

/// A selector of namespaces.
pub fn namespace_selector(dice: &mut Dice) -> Value {
    match dice.below(4) {
        0 => json!({}),
        1 => json!({"matchLabels": {"kubernetes.io/metadata.name": dice.pick(&NAMESPACES)}}),
        _ => selector(dice, &KEYS),
    }
}

/// A label selector.
pub fn selector(dice: &mut Dice, keys: &[&str]) -> Value {
    let mut selector = Map::new();
    if dice.once_in(2) {
        let labels: Map<_, _> = (0..dice.below(2)).map(|_| (dice.pick(keys).to_owned(), value(dice).into())).collect();
        selector.insert("matchLabels".into(), labels.into());
    }
    if dice.once_in(2) {
        let expressions = (0..dice.below(3)).map(|_| {
            let operator = dice.pick(&["In", "NotIn", "Exists", "DoesNotExist"]);
            let mut expression = json!({"key": dice.pick(keys), "operator": operator});
            if operator.ends_with("In") {
                expression["values"] = (0..dice.between(1, 2)).map(|_| value(dice)).collect::<Vec<_>>().into();
            }
            expression
        });
        let expressions = expressions.collect::<Vec<_>>();
        selector.insert("matchExpressions".into(), expressions.into());
    }
    selector.into()
}

fn port(dice: &mut Dice) -> Value {
    let mut port = Map::new();
    if dice.once_in(2) {
        port.insert("protocol".into(), dice.pick(&PROTOCOLS).into());
    }
    match dice.below(8) {
        0 => {}
        1..=3 => drop(port.insert("port".into(), dice.pick(&PORT_NAMES).into())),
        4 | 5 => drop(port.insert("port".into(), dice.between(79, 82).into())),
        6 => {
            port.insert("port".into(), dice.between(79, 81).into());
            port.insert("endPort".into(), dice.between(81, 83).into());
        }
        _ => {
            port.insert("port".into(), 1.into());
            port.insert("endPort".into(), dice.pick(&[80, 65535]).into());
        }
    }
    port.into()
}
