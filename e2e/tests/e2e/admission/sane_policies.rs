//! sane-policies: the warnings about a tenant's policy, who gets them, and that they agree with the operator's view of the same policy.
//! One file: the tests share their scene.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use http::{Method, Request};
use http_body_util::BodyExt;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use k8s_openapi::api::networking::v1::NetworkPolicySpec;
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::client::Body;
use policy_baseline::{Opening, Openings, Peers, Ports};
use policy_baseline_e2e::{Dice, TIMEOUT, World, repo};
use serde_json::{Value, json};

use super::{BREAK_GLASS, COMPONENTS, break_glass, choose, warnings};
use crate::docs::page;
use crate::scene::tenant;
use crate::support::{namespaces, until_gone};

const OPERATOR: &str = "system:serviceaccount:policy-baseline-system:policy-baseline";

/// A response of the API server.
struct Answer {
    code: u16,
    body: Value,
    /// The warning of each check of the component.
    told: BTreeMap<String, String>,
}

impl Answer {
    fn of(&self, check: &str) -> Option<&str> {
        self.told.get(check).map(String::as_str)
    }

    fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

/// Sends a request by hand, because kube's client does not return warnings.
async fn ask(client: &Client, method: Method, uri: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    let mut request = Request::builder().method(method).uri(uri).header("content-type", kind);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = client.send(request.body(Body::from(serde_json::to_vec(body).unwrap())).unwrap()).await.unwrap();
    let mut told = BTreeMap::new();
    for (check, said) in warnings::of_component(answer.headers(), "sane-policies") {
        assert_eq!(told.insert(check, said.clone()), None, "told twice: {said}");
    }
    let code = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    Answer { code, body: serde_json::from_slice(&body).unwrap(), told }
}

fn policy(name: &str, spec: &Value) -> Value {
    let mut spec = spec.clone();
    if spec["podSelector"].is_null() {
        spec["podSelector"] = json!({});
    }
    json!({ "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": { "name": name }, "spec": spec })
}

fn uri(ns: &str) -> String {
    format!("/apis/networking.k8s.io/v1/namespaces/{ns}/networkpolicies")
}

async fn create(client: &Client, ns: &str, policy: &Value) -> Answer {
    ask(client, Method::POST, &uri(ns), &[], policy).await
}

/// Checks a policy with a dry run: nothing is stored.
async fn judged(client: &Client, ns: &str, spec: &Value) -> Answer {
    let answer = ask(client, Method::POST, &format!("{}?dryRun=All", uri(ns)), &[], &policy("web", spec)).await;
    assert_eq!(answer.code, 201, "{}", answer.body);
    answer
}

/// A policy that fails all checks.
fn insane() -> Value {
    let mut insane = policy("probe", &json!({ "policyTypes": ["Ingress", "Egress"], "ingress": [{}] }));
    insane["metadata"]["annotations"] =
        json!({ "kubectl.kubernetes.io/last-applied-configuration": r#"{"ingress":[{"from":[]}]}"# });
    insane
}

pub async fn sane_policies(world: &World) {
    choose(world, "sane-policies", async || {
        let dry = format!("{}?dryRun=All", uri("default"));
        ask(&world.admin(), Method::POST, &dry, &[], &insane()).await.told.len() == 3
    })
    .await;
}

/// Sets the action of every check, as the patch in the docs does. Waits until it is in force.
async fn act(world: &World, action: &str, shows: impl Fn(&Answer) -> bool) {
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(world.admin());
    for check in ["dns", "everything", "peers"] {
        let patch = Patch::Merge(json!({ "spec": { "validationActions": [action] } }));
        bindings.patch(&format!("policy-baseline-sane-policies-{check}"), &PatchParams::default(), &patch).await.unwrap();
    }
    let dry = format!("{}?dryRun=All", uri("default"));
    let everywhere = async || {
        let answers = [
            policy("probe", &json!({ "policyTypes": ["Egress"] })),
            policy("probe", &json!({ "ingress": [{}] })),
            // Only the annotation is wrong.
            {
                let mut named = insane();
                named["spec"] = json!({ "podSelector": {} });
                named
            },
        ];
        for asked in answers {
            if !shows(&ask(&world.admin(), Method::POST, &dry, &[], &asked).await) {
                return false;
            }
        }
        true
    };
    world.eventually(&format!("the action is {action}"), TIMEOUT, everywhere).await.unwrap();
}

#[tokio::test]
async fn sane_policies_warns_of_isolated_egress_that_lets_no_dns_out() {
    let world = World::new().await.unwrap();
    sane_policies(&world).await;
    let ns = world.namespace("team", &[]).await.unwrap();
    let tenant = tenant(&world, &[&ns]).await;
    let udp = json!({ "port": 53, "protocol": "UDP" });
    let tcp = json!({ "port": 53, "protocol": "TCP" });
    let ports = |ports: Value| json!({ "policyTypes": ["Egress"], "egress": [{ "ports": ports }] });
    let both = Some("UDP and TCP");
    for (spec, missing) in [
        (json!({ "policyTypes": ["Egress"] }), both),
        (json!({ "policyTypes": ["Ingress", "Egress"], "egress": [] }), both),
        (ports(json!([{ "port": 443 }])), both),
        // The API server fills in the policy types of such a policy.
        (json!({ "egress": [{ "ports": [{ "port": 443 }] }] }), both),
        (ports(json!([udp])), Some("TCP")),
        (ports(json!([{ "port": 53 }])), Some("UDP")),
        (ports(json!([{ "port": 53, "protocol": "SCTP" }])), both),
        (ports(json!([{ "port": 1, "endPort": 52 }, { "port": 54, "endPort": 65535, "protocol": "UDP" }])), both),
        (ports(json!([{ "port": 1024, "endPort": 65535 }, { "port": 1024, "endPort": 65535, "protocol": "UDP" }])), both),
        (ports(json!([{ "port": "https" }])), both),
        (ports(json!([{ "port": "dns" }])), Some("UDP")),
        (ports(json!([udp, tcp])), None),
        (ports(json!([{ "port": 1, "endPort": 1024 }, { "port": 53, "endPort": 53, "protocol": "UDP" }])), None),
        (ports(json!([{ "port": 53, "endPort": 60 }, { "protocol": "UDP" }])), None),
        (ports(json!([{ "port": "dns", "protocol": "UDP" }, { "port": "dns-tcp" }])), None),
        (ports(json!([{ "port": "udp-53", "protocol": "UDP" }, { "port": "tcp-53" }])), None),
        (ports(json!([{ "port": 5353, "protocol": "UDP" }, { "port": 5353 }])), None),
        (json!({ "policyTypes": ["Egress"], "egress": [{ "ports": [udp] }, { "ports": [tcp] }] }), None),
        (json!({ "policyTypes": ["Egress"], "egress": [{ "to": [{ "ipBlock": { "cidr": "10.0.0.10/32" } }] }] }), None),
        (json!({ "policyTypes": ["Ingress"] }), None),
        (json!({ "policyTypes": ["Ingress"], "egress": [] }), None),
        (json!({}), None),
    ] {
        let answer = judged(&tenant, &ns, &spec).await;
        let expected = missing.map(|missing| {
            format!(
                "NetworkPolicy web isolates egress and lets no DNS out over {missing}, so its pods may find no name: \
                 add an egress rule for port 53 of UDP and TCP"
            )
        });
        assert_eq!(answer.of("dns"), expected.as_deref(), "{spec}");
    }
}

pub fn blocks(cidrs: &[&str]) -> Value {
    cidrs.iter().map(|cidr| block(cidr, &[])).collect()
}

pub fn block(cidr: &str, except: &[&str]) -> Value {
    json!({ "ipBlock": { "cidr": cidr, "except": except } })
}

/// All of these blocks but one.
fn but<'a>(cidrs: &[&'a str], left_out: usize) -> Vec<&'a str> {
    [&cidrs[..left_out], &cidrs[left_out + 1..]].concat()
}

/// A policy with the same rules in both directions.
pub fn both_ways(rules: &Value) -> Value {
    let out: Value = rules.as_array().unwrap().iter().map(|rule| json!({ "to": rule["from"], "ports": rule["ports"] })).collect();
    json!({ "policyTypes": ["Ingress", "Egress"], "ingress": rules, "egress": out })
}

/// Whom the policy lets through on all ports, according to the operator.
fn as_the_operator_says(spec: &Value) -> Option<String> {
    let mut spec = spec.clone();
    spec["podSelector"] = json!({});
    let spec: NetworkPolicySpec = serde_json::from_value(spec).unwrap();
    let told = |opening: Option<Opening>| opening.filter(|o| o.ports == Ports::All).map(|o| o.peers.to_string());
    let Openings { ingress, egress, .. } = Openings::of(&spec);
    assert_eq!(told(ingress), told(egress));
    told(ingress)
}

/// Whom the policy lets through on all ports, according to the component. It reports only one direction, so each is checked separately.
pub async fn as_the_component_says(client: &Client, ns: &str, spec: &Value) -> Option<String> {
    let one = |direction: &str, rules: &str| json!({ "policyTypes": [direction], rules: spec[rules] });
    let ingress = judged(client, ns, &one("Ingress", "ingress")).await;
    let egress = judged(client, ns, &one("Egress", "egress")).await;
    let who = |told: Option<&str>, before: &str, after: &str| {
        told.map(|told| {
            let (_, rest) = told.split_once(before).unwrap_or_else(|| panic!("{told}"));
            rest.split_once(after).unwrap_or_else(|| panic!("{told}")).0.to_owned()
        })
    };
    let inward = who(ingress.of("everything"), "NetworkPolicy web lets ", " in on all ports: name in each rule of ingress");
    let outward = who(egress.of("everything"), "lets its pods out to ", " on all ports: name in each rule of egress");
    assert_eq!(inward, outward, "{spec}");
    inward
}

#[tokio::test]
async fn sane_policies_says_of_everything_what_the_operator_says_of_it() {
    let world = World::new().await.unwrap();
    sane_policies(&world).await;
    let ns = world.namespace("team", &[]).await.unwrap();
    let tenant = tenant(&world, &[&ns]).await;
    let from = |peers: Value| json!([{ "from": peers }]);
    let on = |ports: Value| json!([{ "ports": ports }]);
    let range = |protocol: &str, first: u16, last: u16| json!({ "protocol": protocol, "port": first, "endPort": last });
    let not_in = json!({ "key": "env", "operator": "NotIn", "values": ["prod"] });
    let exists = |key: &str| json!({ "key": key, "operator": "Exists" });
    let private = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];
    let eighths: Vec<String> = (0..256).map(|n| format!("{n}.0.0.0/8")).collect();
    let eighths: Vec<&str> = eighths.iter().map(String::as_str).collect();
    let sixes: Vec<String> = (0..256).map(|n| if n == 0 { "::/8".to_owned() } else { format!("{n:x}00::/8") }).collect();
    let sixes: Vec<&str> = sixes.iter().map(String::as_str).collect();
    let (everybody, v4, v6, pods) =
        (Some("everybody"), Some("every IPv4 address"), Some("every IPv6 address"), Some("every pod of the cluster"));
    for (rules, expected) in [
        (json!([{}]), everybody),
        (json!([{ "from": [{ "podSelector": {} }] }, {}]), everybody),
        (json!([]), None),
        (from(blocks(&["0.0.0.0/0"])), v4),
        (from(blocks(&["::/0"])), v6),
        (from(blocks(&["::/0", "0.0.0.0/0"])), everybody),
        (from(blocks(&["0.0.0.0/1", "128.0.0.0/1"])), v4),
        (from(blocks(&["128.0.0.0/1", "0.0.0.0/2", "64.0.0.0/2"])), v4),
        (from(blocks(&["0.0.0.0/1", "128.0.0.0/2"])), None),
        (from(blocks(&["0.0.0.0/1", "0.0.0.0/1"])), None),
        (from(blocks(&["::/1", "8000::/1"])), v6),
        (from(blocks(&["4000::/2", "8000::/1"])), None),
        (from(blocks(&["::/3", "4000::/2"])), None),
        (json!([{ "from": blocks(&["::/1"]) }, { "from": blocks(&["8000::/1", "10.0.0.0/8"]) }]), v6),
        (from(blocks(&eighths)), v4),
        (from(blocks(&but(&eighths, 10))), None),
        (from(blocks(&[but(&eighths, 10), vec!["192.0.0.0/2"]].concat())), None),
        (from(blocks(&sixes)), v6),
        (from(blocks(&but(&sixes, 0x20))), None),
        (from(blocks(&[&eighths[..], &sixes[..]].concat())), everybody),
        (from(json!([block("0.0.0.0/0", &private)])), None),
        (from(json!([block("0.0.0.0/0", &["192.0.2.1/32"])])), v4),
        (from(json!([block("0.0.0.0/0", &private[1..])])), v4),
        (from(json!([block("0.0.0.0/0", &["10.0.0.0/9", "10.128.0.0/9"])])), None),
        (from(json!([block("0.0.0.0/0", &["10.0.0.0/8"]), block("10.0.0.0/8", &[])])), v4),
        (from(json!([block("0.0.0.0/0", &private), block("10.0.0.0/8", &[])])), v4),
        (from(json!([block("0.0.0.0/0", &["10.0.0.0/8"]), block("11.0.0.0/8", &[])])), None),
        (from(json!([block("::/0", &["2000::/8"])])), None),
        (from(json!([block("0.0.0.0/0", &["224.0.0.0/3", "127.0.0.0/8"])])), v4),
        (from(blocks(&eighths[..255])), v4),
        (from(blocks(&["2000::/3"])), v6),
        (from(json!([block("::/0", &["fc00::/7"])])), v6),
        (from(json!([{ "namespaceSelector": {} }])), pods),
        (from(json!([{ "namespaceSelector": {}, "podSelector": {} }])), pods),
        (
            from(json!([{ "namespaceSelector": { "matchExpressions": [not_in, exists("kubernetes.io/metadata.name")] },
            "podSelector": { "matchExpressions": [not_in] } }])),
            pods,
        ),
        (from(json!([{ "namespaceSelector": { "matchExpressions": [exists("team")] } }])), None),
        (from(json!([{ "namespaceSelector": { "matchLabels": { "team": "a" } } }])), None),
        (from(json!([{ "namespaceSelector": {}, "podSelector": { "matchLabels": { "app": "a" } } }])), None),
        (from(json!([{ "podSelector": {} }])), None),
        (on(json!([{ "port": 443 }])), None),
        (on(json!([{ "protocol": "TCP" }])), None),
        (on(json!([{ "protocol": "TCP" }, { "protocol": "UDP" }])), everybody),
        (on(json!([range("TCP", 1, 65535), range("UDP", 1, 65535)])), everybody),
        (on(json!([range("TCP", 30001, 65535), range("TCP", 1, 30000), { "protocol": "UDP" }, { "port": "http" }])), everybody),
        (on(json!([range("TCP", 1, 65534), { "port": 65535 }, { "protocol": "UDP" }])), everybody),
        (on(json!([range("TCP", 1, 30000), range("TCP", 30002, 65535), { "protocol": "UDP" }])), None),
        (on(json!([range("TCP", 2, 65535), { "protocol": "UDP" }])), None),
        (json!([{ "from": blocks(&["0.0.0.0/1"]), "ports": [{ "port": 80 }] }, { "from": blocks(&["128.0.0.0/1"]) }]), None),
        (
            json!([{ "from": blocks(&["0.0.0.0/1"]), "ports": [{ "protocol": "TCP" }, { "protocol": "UDP" }] },
            { "from": blocks(&["128.0.0.0/1"]) }]),
            v4,
        ),
    ] {
        let spec = both_ways(&rules);
        assert_eq!(as_the_operator_says(&spec).as_deref(), expected, "{rules}");
        assert_eq!(as_the_component_says(&tenant, &ns, &spec).await.as_deref(), expected, "{rules}");
    }
    // Cases that only the operator adds up: blocks smaller than a /8; an exception that is more than a 512th of its block but not most
    // of it; an exception that another block covers again; private networks; rules for different ports.
    let nines: Vec<String> = (0..512).map(|n| format!("{}.{}.0.0/9", n / 2, n % 2 * 128)).collect();
    let nines: Vec<&str> = nines.iter().map(String::as_str).collect();
    for (rules, expected) in [
        (from(blocks(&nines)), v4),
        (from(json!([block("0.0.0.0/0", &["10.0.0.0/9"])])), v4),
        (from(json!([block("0.0.0.0/0", &["10.0.0.0/8"]), block("8.0.0.0/5", &[])])), v4),
        (from(blocks(&["100.64.0.0/10", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"])), pods),
        (json!([{ "ports": [{ "protocol": "TCP" }] }, { "ports": [{ "protocol": "UDP" }] }]), everybody),
    ] {
        let spec = both_ways(&rules);
        assert_eq!(as_the_operator_says(&spec).as_deref(), expected, "{rules}");
        assert_eq!(as_the_component_says(&tenant, &ns, &spec).await, None, "{rules}");
    }
    // A case that only the component reports: the operator checks only policies for all pods.
    let spec = json!({ "podSelector": { "matchLabels": { "app": "web" } }, "ingress": [{}] });
    assert!(Openings::of(&serde_json::from_value(spec.clone()).unwrap()).is_none());
    assert!(judged(&tenant, &ns, &spec).await.of("everything").is_some());
}

#[tokio::test]
async fn sane_policies_never_says_everything_where_the_operator_does_not() {
    let world = World::new().await.unwrap();
    sane_policies(&world).await;
    let ns = world.namespace("team", &[]).await.unwrap();
    let tenant = tenant(&world, &[&ns]).await;
    let mut dice = Dice::from_env();
    let mut seen = BTreeMap::<bool, usize>::new();
    for _ in 0..80 {
        // All addresses in random pieces. Some pieces are missing, doubled, or have an exception.
        let mut pieces = vec![(0_u32, 0_u32)];
        for _ in 0..dice.below(30) {
            let at = dice.below(pieces.len());
            let (first, length) = pieces[at];
            if length < 8 {
                pieces[at] = (first, length + 1);
                pieces.push((first | 1 << (31 - length), length + 1));
            }
        }
        // The operator does not miss a piece in which peers have less than a /8 of addresses.
        let has_peers =
            |(first, length): (u32, u32)| first < 0xe000_0000 && (length < 8 || ![0, 127, 169].contains(&(first >> 24)));
        if dice.below(3) == 0 && pieces.last().copied().is_some_and(has_peers) {
            pieces.pop();
        }
        if dice.below(2) == 0 {
            pieces.extend_from_within(..);
        }
        let has_exceptions = dice.below(2) == 0;
        let mut peers = Vec::new();
        for (first, length) in pieces {
            let cidr = |first: u32, length: u32| format!("{}/{length}", std::net::Ipv4Addr::from_bits(first));
            let smaller = length + 1 + u32::try_from(dice.below(12)).unwrap();
            let except = if has_exceptions && dice.below(4) == 0 { vec![cidr(first, smaller)] } else { Vec::new() };
            if !except.is_empty() && smaller <= 8 && dice.below(2) == 0 {
                peers.push(block(&except[0], &[]));
            }
            peers.push(json!({ "ipBlock": { "cidr": cidr(first, length), "except": except } }));
        }
        // What no peer has, so that pieces of it are never missing.
        peers.extend(["0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3"].map(|cidr| block(cidr, &[])));
        let spec = json!({ "policyTypes": ["Ingress"], "ingress": [{ "from": peers }] });
        let mut parsed = spec.clone();
        parsed["podSelector"] = json!({});
        let by_operator = Openings::of(&serde_json::from_value(parsed).unwrap()).ingress;
        let by_operator = by_operator.is_some_and(|opening| opening.peers != Peers::EveryPod);
        let answer = judged(&tenant, &ns, &spec).await;
        let here = answer.of("everything").is_some();
        assert!(by_operator || !here, "{spec}");
        assert!(has_exceptions || by_operator == here, "{spec}");
        *seen.entry(here).or_default() += 1;
    }
    assert!(seen[&true] > 10 && seen[&false] > 10, "{seen:?}");
}

#[tokio::test]
async fn sane_policies_tells_of_an_empty_peer_list_that_kubectl_apply_wrote() {
    let world = World::new().await.unwrap();
    sane_policies(&world).await;
    let ns = world.namespace("team", &[]).await.unwrap();
    let file = world.plane().state_dir().join("written.json");
    let kubectl = |args: &[&str], spec: &Value| {
        fs::write(&file, policy("written", spec).to_string()).unwrap();
        let output = world.plane().kubectl().args(args).args(["-n", &ns, "-f"]).arg(&file).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        said.contains("policy-baseline-sane-policies-peers").then_some(said)
    };
    let on = |port: u16| json!([{ "port": port }]);
    for (rules, list) in [("ingress", "from"), ("egress", "to")] {
        let told = format!(
            "NetworkPolicy written has a rule with an empty {list}, which allows everybody and not nobody: name who may, \
             leave {list} out if everybody may, or leave the rule out if nobody may"
        );
        for (port, empty) in [(1, json!([])), (2, Value::Null)] {
            let said = kubectl(&["apply"], &json!({ rules: [{ list: empty, "ports": on(port) }] })).unwrap();
            assert!(said.contains(&told), "{said}");
        }
        assert_eq!(kubectl(&["apply"], &json!({ rules: [{ "ports": on(3) }] })), None);
        assert_eq!(kubectl(&["apply"], &json!({ rules: [{ list: [{ "podSelector": {} }] }] })), None);
        assert_eq!(kubectl(&["apply"], &json!({ rules: [] })), None);
        // The annotation of an earlier apply is not evidence for this change.
        kubectl(&["apply"], &json!({ rules: [{ list: [], "ports": on(4) }] })).unwrap();
        let patched = json!({ "spec": { rules: [{ "ports": on(5) }] } });
        let answer = ask(&world.admin(), Method::PATCH, &format!("{}/written", uri(&ns)), &[], &patched).await;
        assert_eq!((answer.code, answer.of("peers")), (200, None));
        world.plane().run_kubectl(&["-n", &ns, "delete", "networkpolicy", "written"]).unwrap();
    }
    // Other ways of writing leave no such annotation.
    let empty = json!({ "ingress": [{ "from": [], "ports": on(6) }] });
    assert_eq!(kubectl(&["apply", "--server-side"], &empty), None);
    assert_eq!(judged(&world.admin(), &ns, &empty).await.of("peers"), None);
}

#[tokio::test]
async fn sane_policies_judges_eight_thousand_rules_within_the_budget() {
    const MANY: usize = 8_000;
    let world = World::new().await.unwrap();
    sane_policies(&world).await;
    let ns = world.namespace("team", &[]).await.unwrap();
    let rules = |rule: &dyn Fn(usize) -> Value| (0..MANY).map(rule).collect::<Value>();
    let address = |n: usize| block(&format!("10.{}.{}.{}/32", n >> 16, n >> 8 & 255, n & 255), &[]);
    let eighth = |n: usize| block(&format!("{}.0.0.0/8", n % 223), &[]);
    let private = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];
    let internet = block("0.0.0.0/0", &private);
    let narrow: Vec<String> = (0..MANY).map(|n| format!("10.{}.{}.{}/32", n >> 16, n >> 8 & 255, n & 255)).collect();
    let narrow: Vec<&str> = narrow.iter().map(String::as_str).collect();
    let halves = json!([{ "port": 1, "endPort": 30000 }, { "port": 30001, "endPort": 65535 },
        { "protocol": "UDP", "port": 1, "endPort": 30000 }, { "protocol": "UDP", "port": 30001, "endPort": 65535 }]);
    let (dns, everything) = (Some("dns"), Some("everything"));
    for (shape, egress, expected) in [
        ("empty rules", rules(&|_| json!({})), everything),
        ("one port", rules(&|_| json!({ "ports": [{ "port": 443 }] })), dns),
        ("named ports", rules(&|_| json!({ "ports": [{ "port": "http" }, { "port": "https" }] })), dns),
        (
            "addresses and ranges of ports",
            rules(&|n| {
                json!({ "to": [address(n)],
            "ports": [{ "port": 1000, "endPort": 2000 }, { "port": 1000, "endPort": 2000, "protocol": "UDP" }] })
            }),
            dns,
        ),
        ("addresses", rules(&|n| json!({ "to": [address(n)] })), None),
        ("one rule of many addresses", json!([{ "to": rules(&address) }]), None),
        ("one rule of many ports", json!([{ "ports": rules(&|n| json!({ "port": 1000 + n })) }]), dns),
        ("blocks but one", rules(&|n| json!({ "to": [eighth(n)] })), None),
        ("one rule of blocks but one", json!([{ "to": rules(&eighth) }]), None),
        ("blocks", rules(&|n| json!({ "to": [block(&format!("{}.0.0.0/8", n % 256), &[])] })), everything),
        ("blocks of IPv6", rules(&|n| json!({ "to": [block(&format!("{:x}00::/8", 1 + n % 62), &[])] })), None),
        ("one block over and over", rules(&|_| json!({ "to": blocks(&["10.0.0.0/8"]) })), None),
        ("the internet", rules(&|_| json!({ "to": [internet] })), None),
        (
            "the internet and a private network",
            rules(&|n| json!({ "to": [if n % 2 == 0 { internet.clone() } else { block("10.0.0.0/8", &[]) }] })),
            everything,
        ),
        ("many exceptions", json!([{ "to": [block("0.0.0.0/0", &narrow)] }]), everything),
        (
            "the internet without what no peer has",
            rules(&|_| json!({ "to": [block("0.0.0.0/0", &["224.0.0.0/4"])] })),
            everything,
        ),
        ("ports that add up", rules(&|_| json!({ "to": blocks(&["10.0.0.0/8"]), "ports": halves })), None),
        (
            "selectors",
            rules(&|n| json!({ "to": [{ "namespaceSelector": { "matchLabels": { "name": format!("ns-{n}") } } }] })),
            None,
        ),
    ] {
        let answer = judged(&world.admin(), &ns, &json!({ "policyTypes": ["Egress"], "egress": egress })).await;
        let told: Vec<_> = answer.told.keys().map(String::as_str).collect();
        assert_eq!(told, expected.into_iter().collect::<Vec<_>>(), "{shape}: {:?}", answer.told);
        assert!(answer.told.values().all(|said| said.starts_with("NetworkPolicy web ")), "{shape}: {:?}", answer.told);
    }
    // For an update as well as for a create.
    let before = policy("web", &json!({ "policyTypes": ["Egress"], "egress": rules(&|n| json!({ "to": [address(n)] })) }));
    assert_eq!(create(&world.admin(), &ns, &before).await.code, 201);
    let path = format!("{}/web", uri(&ns));
    let after = json!({ "spec": { "egress": rules(&|n| json!({ "to": [eighth(n)] })) } });
    let answer = ask(&world.admin(), Method::PATCH, &path, &[], &after).await;
    assert_eq!((answer.code, answer.told.len()), (200, 0), "{:?}", answer.told);
}

#[tokio::test]
async fn sane_policies_warns_audits_or_denies_as_its_bindings_say_for_tenants_and_cluster_admins() {
    let world = World::new().await.unwrap();
    sane_policies(&world).await;
    let ns = world.namespace("team", &[]).await.unwrap();
    let tenant = tenant(&world, &[&ns]).await;
    let audit = world.audit().unwrap();
    let failure = "validation.policy.admission.k8s.io/validation_failure";
    // As it is shipped: it warns, and writes to the audit log.
    for who in [tenant.clone(), world.admin()] {
        let mark = audit.mark();
        let name = World::unique("open");
        let answer = create(&who, &ns, &policy(&name, &json!({ "ingress": [{}] }))).await;
        let told = format!(
            "NetworkPolicy {name} lets everybody in on all ports: name in each rule of ingress who may come in, or by which ports"
        );
        assert_eq!((answer.code, answer.of("everything")), (201, Some(&*told)));
        let noted = async || {
            let entries = audit.since(mark)?;
            anyhow::Ok(entries.iter().any(|entry| entry.annotations.get(failure).is_some_and(|said| said.contains(&told))))
        };
        world.eventually("it is in the audit log", TIMEOUT, noted).await.unwrap();
    }
    // Only written to the audit log.
    act(&world, "Audit", |answer| answer.code == 201 && answer.told.is_empty()).await;
    let mark = audit.mark();
    let answer = create(&tenant, &ns, &policy("noted", &json!({ "ingress": [{}] }))).await;
    assert_eq!((answer.code, answer.told.len()), (201, 0));
    let noted = async || {
        let entries = audit.since(mark)?;
        anyhow::Ok(
            entries.iter().any(|entry| entry.annotations.get(failure).is_some_and(|said| said.contains("NetworkPolicy noted "))),
        )
    };
    world.eventually("it is in the audit log", TIMEOUT, noted).await.unwrap();
    // Denied.
    act(&world, "Deny", |answer| answer.code == 403).await;
    for who in [tenant, world.admin()] {
        let name = World::unique("open");
        let answer = create(&who, &ns, &policy(&name, &json!({ "ingress": [{}] }))).await;
        assert_eq!(answer.code, 403, "{}", answer.body);
        assert!(answer.message().contains(&format!("denied request: NetworkPolicy {name} lets everybody in on all ports")));
        let answer = create(&who, &ns, &policy(&name, &json!({ "policyTypes": ["Egress"] }))).await;
        assert!(answer.message().contains(&format!("denied request: NetworkPolicy {name} isolates egress and lets no DNS out")));
        let sane = json!({ "policyTypes": ["Ingress"], "ingress": [{ "ports": [{ "port": 443 }] }] });
        assert_eq!(create(&who, &ns, &policy(&name, &sane)).await.code, 201);
    }
}

#[tokio::test]
async fn sane_policies_lets_the_operator_and_break_glass_write_what_they_want() {
    let world = World::new().await.unwrap();
    sane_policies(&world).await;
    act(&world, "Deny", |answer| answer.code == 403).await;
    let ns = world.namespace("team", &[]).await.unwrap();
    let rescue = break_glass(&world).await;
    let mut insane = insane();
    insane["metadata"]["name"] = json!("by-rescue");
    assert_eq!(create(&rescue, &ns, &insane).await.code, 201);
    insane["metadata"]["name"] = json!("by-operator");
    let as_operator = [("impersonate-user", OPERATOR), ("impersonate-group", "system:serviceaccounts")];
    let answer = ask(&world.admin(), Method::POST, &uri(&ns), &as_operator, &insane).await;
    assert_eq!(answer.code, 201, "{}", answer.body);
    // Any other user is denied, even one in system:masters, unless the user is also in the break-glass group.
    let as_another = [("impersonate-user", "somebody"), ("impersonate-group", "system:masters")];
    insane["metadata"]["name"] = json!("by-somebody");
    assert_eq!(ask(&world.admin(), Method::POST, &uri(&ns), &as_another, &insane).await.code, 403);
    let as_rescue =
        [("impersonate-user", "somebody"), ("impersonate-group", "system:masters"), ("impersonate-group", BREAK_GLASS)];
    assert_eq!(ask(&world.admin(), Method::POST, &uri(&ns), &as_rescue, &insane).await.code, 201);
}

/// Everybody may write labels. (With `protect`, nobody else may write those of the operator.)
#[tokio::test]
async fn sane_policies_trusts_no_label() {
    let world = World::new().await.unwrap();
    sane_policies(&world).await;
    act(&world, "Deny", |answer| answer.code == 403).await;
    let ns = world.namespace("team", &[]).await.unwrap();
    let tenant = tenant(&world, &[&ns]).await;
    let labels = [
        json!({ "policybaseline.io/x": "y" }),
        json!({ "app.kubernetes.io/managed-by": "policy-baseline" }),
        json!({ "app.kubernetes.io/managed-by": "policy-baseline", "policybaseline.io/baseline": "platform",
            "policybaseline.io/role": "DefaultDenyIngress" }),
    ];
    for label in labels {
        for (spec, check) in [
            (json!({ "ingress": [{}] }), "everybody in on all ports"),
            (json!({ "policyTypes": ["Egress"] }), "isolates egress and lets no DNS out"),
        ] {
            let mut disguised = policy("disguised", &spec);
            disguised["metadata"]["labels"] = label.clone();
            let answer = create(&tenant, &ns, &disguised).await;
            assert!(answer.code == 403 && answer.message().contains(check), "{label}: {}", answer.body);
        }
        let mut disguised = insane();
        disguised["spec"] = json!({ "podSelector": {} });
        disguised["metadata"]["labels"] = label.clone();
        let answer = create(&tenant, &ns, &disguised).await;
        assert!(answer.code == 403 && answer.message().contains("a rule with an empty from"), "{label}: {}", answer.body);
        // Also on an existing policy.
        let mut later = policy(&World::unique("later"), &json!({}));
        later["metadata"]["labels"] = label.clone();
        assert_eq!(create(&tenant, &ns, &later).await.code, 201);
        let path = format!("{}/{}", uri(&ns), later["metadata"]["name"].as_str().unwrap());
        let opened = ask(&tenant, Method::PATCH, &path, &[], &json!({ "spec": { "ingress": [{}] } })).await;
        assert_eq!(opened.code, 403, "{label}: {}", opened.body);
    }
}

#[tokio::test]
async fn sane_policies_denies_no_change_of_metadata_and_no_end_of_a_policy_or_a_namespace() {
    let world = World::new().await.unwrap();
    let ns = world.namespace("team", &[]).await.unwrap();
    let old = policy("old", &json!({ "policyTypes": ["Ingress", "Egress"], "ingress": [{}] }));
    assert_eq!(create(&world.admin(), &ns, &old).await.code, 201);
    sane_policies(&world).await;
    act(&world, "Deny", |answer| answer.code == 403).await;
    let tenant = tenant(&world, &[&ns]).await;
    let path = format!("{}/old", uri(&ns));
    let write = async |what: Value| ask(&tenant, Method::PATCH, &path, &[], &what).await.code;
    assert_eq!(write(json!({ "metadata": { "labels": { "team": "a" }, "finalizers": ["example.com/held"] } })).await, 200);
    // A new write is checked, also if the policy was as bad before.
    assert_eq!(write(json!({ "spec": { "podSelector": { "matchLabels": { "app": "web" } } } })).await, 403);
    // A policy that is being deleted, and that a finalizer holds.
    assert_eq!(ask(&tenant, Method::DELETE, &path, &[], &json!({})).await.code, 200);
    assert_eq!(write(json!({ "spec": { "podSelector": { "matchLabels": { "app": "web" } } } })).await, 200);
    namespaces(&world).delete(&ns, &DeleteParams::default()).await.unwrap();
    assert_eq!(write(json!({ "metadata": { "finalizers": null } })).await, 200);
    until_gone(&world, &ns).await;
}

#[tokio::test]
async fn sane_policies_holds_up_nothing_in_a_namespace_that_is_being_deleted() {
    let world = World::new().await.unwrap();
    let ns = world.namespace("team", &[]).await.unwrap();
    let config =
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "held", "finalizers": ["example.com/held"] } });
    let configs = format!("/api/v1/namespaces/{ns}/configmaps");
    assert_eq!(ask(&world.admin(), Method::POST, &configs, &[], &config).await.code, 201);
    assert_eq!(create(&world.admin(), &ns, &policy("kept", &json!({}))).await.code, 201);
    sane_policies(&world).await;
    act(&world, "Deny", |answer| answer.code == 403).await;
    let path = format!("{}/kept?dryRun=All", uri(&ns));
    let bad =
        json!({ "spec": insane()["spec"].clone(), "metadata": { "annotations": insane()["metadata"]["annotations"].clone() } });
    assert_eq!(ask(&world.admin(), Method::PATCH, &path, &[], &bad).await.code, 403);
    namespaces(&world).delete(&ns, &DeleteParams::default()).await.unwrap();
    let lets = async || [200, 404].contains(&ask(&world.admin(), Method::PATCH, &path, &[], &bad).await.code);
    world.eventually("nothing is held up", TIMEOUT, lets).await.unwrap();
    let release = json!({ "metadata": { "finalizers": null } });
    assert_eq!(ask(&world.admin(), Method::PATCH, &format!("{configs}/held"), &[], &release).await.code, 200);
    until_gone(&world, &ns).await;
}

#[tokio::test]
async fn the_kustomization_of_the_docs_makes_sane_policies_deny() {
    let world = World::new().await.unwrap();
    let docs = page("admission.md");
    let example =
        docs.split("```").find(|text| text.starts_with("yaml\n") && text.contains("../components/sane-policies")).unwrap();
    let copy = world.plane().state_dir().join("copy");
    fs::create_dir_all(copy.join("mine")).unwrap();
    let from = repo().join(COMPONENTS);
    assert!(Command::new("cp").arg("-R").args([&from, &copy.join("components")]).status().unwrap().success());
    let text = example.trim_start_matches("yaml\n").replace("resources: [../default]\n", "");
    fs::write(copy.join("mine/kustomization.yaml"), text).unwrap();
    let built = world.plane().run_kubectl(&["kustomize", copy.join("mine").to_str().unwrap()]).unwrap();
    let actions: BTreeMap<String, Value> = built
        .split("\n---\n")
        .map(|document| serde_yaml::from_str::<Value>(document).unwrap())
        .filter(|object| object["kind"] == "ValidatingAdmissionPolicyBinding")
        .map(|object| (object["metadata"]["name"].as_str().unwrap().to_owned(), object["spec"]["validationActions"].clone()))
        .collect();
    let named = |check: &str| format!("policy-baseline-sane-policies-{check}");
    assert_eq!(actions[&named("everything")], json!(["Deny", "Audit"]));
    assert_eq!(actions[&named("dns")], json!(["Warn", "Audit"]));
    assert_eq!(actions[&named("peers")], json!(["Audit"]));
}
