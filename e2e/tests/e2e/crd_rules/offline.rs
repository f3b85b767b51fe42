//! `policy-baseline lint` refuses offline what the API server refuses, in the same words, and nothing else.

use std::io::Write as _;
use std::process::{Command, Stdio};

use policy_baseline_e2e::{Operator, World};
use serde_json::Value;

use super::{kubectl_create, manifest, mistake::Mistake, mistakes};

/// A manifest as a line of JSON.
fn line(manifest: &str) -> String {
    serde_yaml::from_str::<Value>(manifest).unwrap().to_string()
}

/// The messages of `lint` about manifests of one line each.
fn linted(manifests: &[String]) -> Vec<Vec<String>> {
    let mut command = Command::new(Operator::binary().unwrap());
    command.args(["lint", "-", "-o", "json", "--select", "PB001,PB002,PB003,PB404,PB405", "--ignore", "PB004"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let text = manifests.join("\n---\n");
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut found = vec![Vec::new(); manifests.len()];
    for finding in report["findings"].as_array().unwrap() {
        // Each document is a line, and a line is between two of them.
        let line = usize::try_from(finding["line"].as_u64().unwrap()).unwrap();
        found[line / 2].push(finding["message"].as_str().unwrap().to_owned());
    }
    found
}

#[test]
fn every_mistake_in_a_baseline_is_refused_offline_in_the_words_of_the_api_server_and_no_good_one_is() {
    let mistakes = mistakes();
    let of = |part: fn(&Mistake) -> &String| -> Vec<String> {
        mistakes.iter().enumerate().map(|(i, mistake)| line(&manifest(&format!("m{i}"), part(mistake)))).collect()
    };
    let (bad, good) = (linted(&of(|mistake| &mistake.bad)), linted(&of(|mistake| &mistake.good)));
    let mut wrong = Vec::new();
    for ((Mistake { bad: spec, says, .. }, bad), good) in mistakes.iter().zip(bad).zip(good) {
        let said = bad.join("\n");
        // Of a key that is missing, server-side apply has words of its own.
        let is_of_apply = says[0].starts_with('.') && said.contains("Required value");
        if !is_of_apply && !says.iter().all(|words| said.contains(words)) {
            wrong.push(format!("{spec}\n  should say {says:?}, but says\n  {said}"));
        }
        wrong.extend(good.into_iter().map(|said| format!("the good twin of {spec}\n  is refused:\n  {said}")));
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), mistakes.len(), wrong.join("\n"));
}

/// Specs of NetworkPolicies that are refused.
const REFUSED: [&str; 33] = [
    "{podSelector: {matchLabels: {'a b': c}}}",
    "{podSelector: {matchLabels: {'/a': c}}}",
    "{podSelector: {matchLabels: {'A_B/a': c}}}",
    "{podSelector: {matchLabels: {'a/b/c': d}}}",
    "{podSelector: {matchLabels: {app: 'a b'}}}",
    "{podSelector: {matchLabels: {app: -a}}}",
    "{podSelector: {matchLabels: {app: nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn}}}",
    "{podSelector: {matchLabels: {nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn: a}}}",
    "{podSelector: {matchExpressions: [{key: app, operator: In}]}}",
    "{podSelector: {matchExpressions: [{key: app, operator: Exists, values: [a]}]}}",
    "{podSelector: {matchExpressions: [{key: app, operator: is, values: [a]}]}}",
    "{podSelector: {matchExpressions: [{key: '', operator: In, values: ['a b']}]}}",
    "{podSelector: {}, policyTypes: [ingress]}",
    "{podSelector: {}, policyTypes: [Ingress, Egress, Ingress]}",
    "{podSelector: {}, ingress: [{ports: [{port: 0}, {port: 65536}, {port: 80, endPort: 79}, {port: 80, endPort: 70000}]}]}",
    "{podSelector: {}, ingress: [{ports: [{port: http, endPort: 80}, {endPort: 80}]}]}",
    "{podSelector: {}, ingress: [{ports: [{port: ''}, {port: '80'}, {port: a--b}, {port: -a}, {port: A}, {port: sixteen-letters-}]}]}",
    "{podSelector: {}, ingress: [{ports: [{port: 80, protocol: tcp}, {port: 80, protocol: HTTP}]}]}",
    "{podSelector: {}, ingress: [{from: [{}]}]}",
    "{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]}",
    "{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0}}, {ipBlock: {cidr: 10.0.0.0/33}}, {ipBlock: {cidr: example.com}}]}]}",
    "{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 010.0.0.0/8}}, {ipBlock: {cidr: 10.0.0.0/08}}]}]}",
    "{podSelector: {}, egress: [{to: [{ipBlock: {cidr: '::ffff:10.0.0.0/104'}}]}]}",
    "{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.0.0.1/8}}, {ipBlock: {cidr: 'fd00::1/8'}}]}]}",
    "{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8, 11.0.0.0/16, x, 10.1.2.3/16]}}]}]}",
    "{podSelector: {}, egress: [{to: [{ipBlock: {}}]}]}",
    "{podSelector: {}, ingres: []}",
    "{podSelector: {}, ingress: [{form: [], ports: [{portt: 1}]}]}",
    "{podSelector: {}, egress: {to: []}}",
    "{podSelector: {matchLabels: {on: true}}}",
    "{podSelector: {}, ingress: [{ports: [{port: 80, endPort: x}]}]}",
    "{podSelector: {}, ingress: [{ports: [{port: true}]}]}",
    "{podSelector: {}, ingress: [{ports: [{port: 3000000000}]}]}",
];

/// Specs that are accepted, although they look as if they were not.
const ACCEPTED: [&str; 6] = [
    "{}",
    "{podSelector: {matchLabels: {a.b.example.com/C_d: ''}}, policyTypes: [], ingress: []}",
    "{podSelector: null, ingress: [{from: null, ports: [{}]}]}",
    "{podSelector: {}, policyTypes: [Ingress, Ingress]}",
    "{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 'FD00:0::/8', except: ['fd00:1::/32']}}], ports: [{protocol: SCTP}]}]}",
    "{podSelector: {matchExpressions: [{key: a, operator: DoesNotExist, values: []}]}, ingress: [{ports: [{port: 1, endPort: 1}]}]}",
];

fn policy(spec: &str) -> String {
    line(&format!(
        "{{ apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{ name: lint, namespace: default }}, spec: {spec} }}"
    ))
}

/// A message without what is not of the API server: what to write instead.
fn without_advice(message: &str) -> &str {
    ["; did you mean ", ". Write ", ". Begin it ", ". Leave out "]
        .iter()
        .fold(message, |text, advice| text.split(advice).next().unwrap())
}

#[tokio::test]
async fn a_network_policy_is_refused_offline_exactly_if_the_api_server_refuses_it_and_in_its_words() {
    let world = World::new().await.unwrap();
    let manifests: Vec<String> = REFUSED.iter().chain(&ACCEPTED).map(|spec| policy(spec)).collect();
    let found = linted(&manifests);
    let mut wrong = Vec::new();
    for (manifest, messages) in manifests.iter().zip(found) {
        let (is_accepted, said) = kubectl_create(&world, manifest);
        if is_accepted != messages.is_empty() {
            wrong.push(format!("{manifest}\n  lint: {messages:#?}\n  API server: {said}"));
        }
        for message in messages.iter().filter(|message| !said.contains(without_advice(message))) {
            wrong.push(format!("{manifest}\n  lint says {message}\n  API server: {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
