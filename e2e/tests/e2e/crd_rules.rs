//! What the apiserver says to whoever writes a baseline: each rule and each bound of the CRD, shown by what a tired person types.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::Stdio;

use futures::{StreamExt, stream};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::Api;
use policy_baseline_e2e::{TIMEOUT, World};
use serde_json::{Value, json};

use crate::scene::baselines;

/// One mistake: where in the schema, which rule or bound it breaks, and the specs without and with it, in YAML.
struct Mistake {
    at: String,
    breaks: String,
    bad: String,
    good: String,
    /// The field and the words that the apiserver's answer must contain.
    says: [String; 2],
}

fn mistake(at: &str, breaks: &str, bad: &str, good: &str, field: &str, says: &str) -> Mistake {
    let [at, breaks, bad, good] = [at, breaks, bad, good].map(ToOwned::to_owned);
    Mistake { at, breaks, bad, good, says: [format!("{field}: "), says.to_owned()] }
}

/// A list of so many entries, in YAML.
fn list(count: usize, entry: impl Fn(usize) -> String) -> String {
    let entries: Vec<String> = (0..count).map(entry).collect();
    format!("[{}]", entries.join(", "))
}

/// A map of so many entries, in YAML.
fn map(count: usize) -> String {
    let entries: Vec<String> = (0..count).map(|i| format!("key-{i}: v")).collect();
    format!("{{ {} }}", entries.join(", "))
}

fn mistakes() -> Vec<Mistake> {
    let mut all = own_mistakes();
    for (at, field, spec) in [
        ("spec.namespaceSelector", "spec.namespaceSelector", "{ namespaceSelector: SELECTOR }"),
        (
            "spec.dns.peers[].namespaceSelector",
            "spec.dns.peers[0].namespaceSelector",
            "{ dns: { peers: [{ namespaceSelector: SELECTOR }] } }",
        ),
        (
            "spec.dns.peers[].podSelector",
            "spec.dns.peers[0].podSelector",
            "{ dns: { peers: [{ namespaceSelector: {}, podSelector: SELECTOR }] } }",
        ),
        (
            "spec.monitoring.from[].namespaceSelector",
            "spec.monitoring.from[0].namespaceSelector",
            "{ monitoring: { from: [{ namespaceSelector: SELECTOR, podSelector: {} }] } }",
        ),
        (
            "spec.monitoring.from[].podSelector",
            "spec.monitoring.from[0].podSelector",
            "{ monitoring: { from: [{ namespaceSelector: { matchLabels: { team: sre } }, podSelector: SELECTOR }] } }",
        ),
        ("spec.monitoring.podSelector", "spec.monitoring.podSelector", "{ monitoring: { podSelector: SELECTOR } }"),
        (
            "spec.monitoring.namespaceSelector",
            "spec.monitoring.namespaceSelector",
            "{ monitoring: { namespaceSelector: SELECTOR } }",
        ),
        ("spec.rollout.canarySelector", "spec.rollout.canarySelector", "{ rollout: { canarySelector: SELECTOR } }"),
    ] {
        let embed = |selector: &str| spec.replace("SELECTOR", selector);
        for mut one in selector_mistakes() {
            one.at = format!("{at}{}", one.at);
            one.bad = embed(&one.bad);
            one.good = embed(&one.good);
            one.says[0] = format!("{field}{}", one.says[0]);
            all.push(one);
        }
    }
    all
}

/// As [`mistake`], relative to a selector.
fn selector_mistakes() -> Vec<Mistake> {
    let expression = |text: &str| format!("{{ matchExpressions: [{{ {text} }}] }}");
    let v = |length: usize| "v".repeat(length);
    let values = |count: usize| expression(&format!("key: tier, operator: In, values: {}", list(count, |i| format!("v{i}"))));
    let expressions =
        |count: usize| format!("{{ matchExpressions: {} }}", list(count, |i| format!("{{ key: k{i}, operator: Exists }}")));
    let labels = |count: usize| format!("{{ matchLabels: {} }}", map(count));
    let good = expression("key: tier, operator: Exists");
    vec![
        mistake(".matchLabels", "maxProperties", &labels(17), &labels(16), ".matchLabels", "must have at most 16 items"),
        mistake(
            ".matchLabels{}",
            "maxLength",
            &format!("{{ matchLabels: {{ tier: {} }} }}", v(64)),
            &format!("{{ matchLabels: {{ tier: {} }} }}", v(63)),
            ".matchLabels.tier",
            "may not be more than 63 bytes",
        ),
        mistake(
            ".matchExpressions",
            "maxItems",
            &expressions(17),
            &expressions(16),
            ".matchExpressions",
            "must have at most 16 items",
        ),
        mistake(
            ".matchExpressions[]",
            "required key",
            &expression("operator: Exists"),
            &good,
            ".matchExpressions[0].key",
            "Required value",
        ),
        mistake(
            ".matchExpressions[]",
            "required operator",
            &expression("key: tier"),
            &good,
            ".matchExpressions[0].operator",
            "Required value",
        ),
        mistake(
            ".matchExpressions[].key",
            "minLength",
            &expression("key: '', operator: Exists"),
            &good,
            ".matchExpressions[0].key",
            "should be at least 1 chars long",
        ),
        mistake(
            ".matchExpressions[].key",
            "maxLength",
            &expression(&format!("key: {}, operator: Exists", v(318))),
            &expression(&format!("key: {}, operator: Exists", v(317))),
            ".matchExpressions[0].key",
            "may not be more than 317 bytes",
        ),
        mistake(
            ".matchExpressions[].operator",
            "enum",
            &expression("key: tier, operator: in, values: [prod]"),
            &expression("key: tier, operator: In, values: [prod]"),
            ".matchExpressions[0].operator",
            "Unsupported value: \"in\": supported values: \"In\", \"NotIn\", \"Exists\", \"DoesNotExist\"",
        ),
        mistake(
            ".matchExpressions[].values",
            "maxItems",
            &values(65),
            &values(64),
            ".matchExpressions[0].values",
            "must have at most 64 items",
        ),
        mistake(
            ".matchExpressions[].values[]",
            "maxLength",
            &expression(&format!("key: tier, operator: In, values: [{}]", v(64))),
            &expression(&format!("key: tier, operator: In, values: [{}]", v(63))),
            ".matchExpressions[0].values[0]",
            "may not be more than 63 bytes",
        ),
        mistake(
            ".matchExpressions[]",
            "rule In and NotIn need values; Exists and DoesNotExist take none",
            &expression("key: tier, operator: In"),
            &expression("key: tier, operator: NotIn, values: [prod]"),
            ".matchExpressions[0]",
            "In and NotIn need values; Exists and DoesNotExist take none",
        ),
        mistake(
            ".matchExpressions[]",
            "rule In and NotIn need values; Exists and DoesNotExist take none",
            &expression("key: tier, operator: Exists, values: [prod]"),
            &expression("key: tier, operator: DoesNotExist"),
            ".matchExpressions[0]",
            "In and NotIn need values; Exists and DoesNotExist take none",
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "one table, with a row for each mistake")]
fn own_mistakes() -> Vec<Mistake> {
    let n = |length: usize| "n".repeat(length);
    // What a rule says is what names it.
    let rule =
        |at: &str, bad: &str, good: &str, field: &str, says: &str| mistake(at, &format!("rule {says}"), bad, good, field, says);
    let one_of = |at: &str, bad: &str, good: &str, says: &str| mistake(at, "enum", bad, good, &at.replace("[]", "[0]"), says);
    let globs = "use names of namespaces, or globs such as openshift-*: lower-case letters, digits, '-' and '*'";
    let pods_or_addresses = "name pods by namespaceSelector (with podSelector), or addresses by ipBlock: one of the two";
    let block = |text: &str| format!("{{ dns: {{ peers: [{{ ipBlock: {text} }}] }} }}");
    let from = |text: &str| format!("{{ monitoring: {{ from: [{text}] }} }}");
    let port = |text: &str| format!("{{ monitoring: {{ ports: [{{ {text} }}] }} }}");
    let metadata = |text: &str| format!("{{ metadata: {{ {text} }} }}");
    let excluded = |count: usize| format!("{{ excludeNamespaces: {} }}", list(count, |i| format!("n{i}")));
    let peers = |count: usize| {
        format!("{{ dns: {{ peers: {} }} }}", list(count, |i| format!("{{ ipBlock: {{ cidr: 10.0.0.{i}/32 }} }}")))
    };
    let dns_ports = |count: usize| format!("{{ dns: {{ ports: {} }} }}", list(count, |i| (5300 + i).to_string()));
    let except = |count: usize| block(&format!("{{ cidr: 10.0.0.0/8, except: {} }}", list(count, |i| format!("10.{i}.0.0/16"))));
    let sources = |count: usize| {
        let source = |i| format!("{{ namespaceSelector: {{ matchLabels: {{ team: t{i} }} }}, podSelector: {{}} }}");
        format!("{{ monitoring: {{ from: {} }} }}", list(count, source))
    };
    let ports = |count: usize| format!("{{ monitoring: {{ ports: {} }} }}", list(count, |i| format!("{{ port: {} }}", 9000 + i)));
    let sre = "{ namespaceSelector: { matchLabels: { team: sre } }, podSelector: {} }";
    let a_number_or_name =
        "port: a number from 1 to 65535, or the name of a container port (at most 15 lower-case letters, digits and '-')";
    let end_port = "endPort needs a numbered port and must not be below it";
    let duration = "write hours, minutes and seconds, as in 720h or 1h30m (there is no unit for days: 30 days are 720h), and more than 0; allowedPolicies: [] allows no opt-outs";
    let prefix = "use lower-case letters, digits and '-', and end in '-', as in baseline-";
    let our_labels = "policybaseline.io/ and app.kubernetes.io/managed-by belong to the operator: use keys of your own";
    let our_annotations = "policybaseline.io/ belongs to the operator: use keys of your own";
    vec![
        one_of(
            "spec.mode",
            "{ mode: enforce }",
            "{ mode: Enforce }",
            "Unsupported value: \"enforce\": supported values: \"Enforce\", \"Audit\"",
        ),
        // The word stands elsewhere in the spec, so that no mode is put in.
        mistake(
            "spec",
            "required mode",
            "{ metadata: { labels: { mode: none } } }",
            "{ mode: Audit }",
            "spec.mode",
            "Required value",
        ),
        one_of(
            "spec.existingNamespaces",
            "{ existingNamespaces: Ignore }",
            "{ existingNamespaces: Report }",
            "Unsupported value: \"Ignore\": supported values: \"Report\", \"Enforce\"",
        ),
        one_of(
            "spec.deletionPolicy",
            "{ deletionPolicy: Retain }",
            "{ deletionPolicy: Orphan }",
            "Unsupported value: \"Retain\": supported values: \"Orphan\", \"Delete\"",
        ),
        one_of(
            "spec.controlPlaneBackends",
            "{ controlPlaneBackends: Open }",
            "{ controlPlaneBackends: Hold }",
            "Unsupported value: \"Open\": supported values: \"Hold\", \"Enforce\"",
        ),
        one_of(
            "spec.monitoring.sourceEgress",
            "{ monitoring: { sourceEgress: Hold } }",
            "{ monitoring: { sourceEgress: Open } }",
            "Unsupported value: \"Hold\": supported values: \"Open\", \"Enforce\"",
        ),
        // The apiserver has words of its own for a number that is too large, and they begin elsewhere.
        Mistake {
            says: ["must be of type integer with format int32".to_owned(), "in spec.priority".to_owned()],
            ..mistake("spec.priority", "format int32", "{ priority: 3000000000 }", "{ priority: -2147483648 }", "", "")
        },
        // Waves.
        rule(
            "spec.rollout",
            "{ rollout: { maxNamespacesPerWave: 0 } }",
            "{ rollout: { maxNamespacesPerWave: 1 } }",
            "spec.rollout",
            "maxNamespacesPerWave: a number from 1 on, or a share from 1% to 100%",
        ),
        rule(
            "spec.rollout",
            "{ rollout: { maxNamespacesPerWave: '101%' } }",
            "{ rollout: { maxNamespacesPerWave: '100%' } }",
            "spec.rollout",
            "maxNamespacesPerWave: a number from 1 on, or a share from 1% to 100%",
        ),
        rule(
            "spec.rollout",
            "{ rollout: { canarySelector: {} } }",
            "{ rollout: { canarySelector: { matchLabels: { stage: canary } } } }",
            "spec.rollout",
            "canarySelector must not be empty: {} would make every namespace a canary",
        ),
        rule(
            "spec.rollout.interval",
            "{ rollout: { interval: 10 minutes } }",
            "{ rollout: { interval: 1h30m } }",
            "spec.rollout.interval",
            "write hours, minutes and seconds, such as 10m or 1h30m; at most 720h",
        ),
        rule(
            "spec.rollout.interval",
            "{ rollout: { interval: 721h } }",
            "{ rollout: { interval: 720h } }",
            "spec.rollout.interval",
            "write hours, minutes and seconds, such as 10m or 1h30m; at most 720h",
        ),
        mistake(
            "spec.rollout.interval",
            "maxLength",
            &format!("{{ rollout: {{ interval: {} }} }}", "1s".repeat(17)),
            &format!("{{ rollout: {{ interval: {} }} }}", "1s".repeat(16)),
            "spec.rollout.interval",
            "may not be more than 32 bytes",
        ),
        mistake(
            "spec.rollout.maxFailures",
            "minimum",
            "{ rollout: { maxFailures: -1 } }",
            "{ rollout: { maxFailures: 0 } }",
            "spec.rollout.maxFailures",
            "should be greater than or equal to 0",
        ),
        Mistake {
            says: ["must be of type integer with format int32".to_owned(), "in spec.rollout.maxFailures".to_owned()],
            ..mistake(
                "spec.rollout.maxFailures",
                "format int32",
                "{ rollout: { maxFailures: 3000000000 } }",
                "{ rollout: { maxFailures: 2147483647 } }",
                "",
                "",
            )
        },
        // Names of namespaces.
        rule(
            "spec.excludeNamespaces",
            "{ excludeNamespaces: [Team-A] }",
            "{ excludeNamespaces: [team-a] }",
            "spec.excludeNamespaces",
            globs,
        ),
        rule(
            "spec.excludeNamespaces",
            "{ excludeNamespaces: ['dev_*'] }",
            "{ excludeNamespaces: ['dev-*', '*'] }",
            "spec.excludeNamespaces",
            globs,
        ),
        mistake(
            "spec.excludeNamespaces",
            "maxItems",
            &excluded(513),
            &excluded(512),
            "spec.excludeNamespaces",
            "must have at most 512 items",
        ),
        mistake(
            "spec.excludeNamespaces[]",
            "minLength",
            "{ excludeNamespaces: [''] }",
            "{ excludeNamespaces: [a] }",
            "spec.excludeNamespaces[0]",
            "should be at least 1 chars long",
        ),
        mistake(
            "spec.excludeNamespaces[]",
            "maxLength",
            &format!("{{ excludeNamespaces: [{}] }}", n(64)),
            &format!("{{ excludeNamespaces: [{}] }}", n(63)),
            "spec.excludeNamespaces[0]",
            "may not be more than 63 bytes",
        ),
        // Policies.
        rule(
            "spec.policies",
            "{ policies: [] }",
            "{ policies: [DefaultDenyIngress] }",
            "spec.policies",
            "name at least one policy, or leave the field out for all three; use mode: Audit to write none",
        ),
        one_of(
            "spec.policies[]",
            "{ policies: [DefaultDenyIngres] }",
            "{ policies: [MonitoringCarveout] }",
            "Unsupported value: \"DefaultDenyIngres\": supported values: \"DefaultDenyIngress\", \"DefaultDenyEgress\", \"MonitoringCarveout\"",
        ),
        rule(
            "spec.policies",
            "{ policies: [DefaultDenyIngress, DefaultDenyIngress] }",
            "{ policies: [DefaultDenyIngress, DefaultDenyEgress] }",
            "spec.policies",
            "name each policy once",
        ),
        mistake(
            "spec.policies",
            "maxItems",
            "{ policies: [DefaultDenyIngress, DefaultDenyEgress, MonitoringCarveout, Everything] }",
            "{ policies: [DefaultDenyIngress, DefaultDenyEgress, MonitoringCarveout] }",
            "spec.policies",
            "must have at most 3 items",
        ),
        // Opt-outs.
        rule(
            "spec.optOuts.maxDuration",
            "{ optOuts: { maxDuration: 30d } }",
            "{ optOuts: { maxDuration: 720h0m0s } }",
            "spec.optOuts.maxDuration",
            duration,
        ),
        rule(
            "spec.optOuts.maxDuration",
            "{ optOuts: { maxDuration: 1.5h } }",
            "{ optOuts: { maxDuration: 1h30m } }",
            "spec.optOuts.maxDuration",
            duration,
        ),
        rule(
            "spec.optOuts.maxDuration",
            "{ optOuts: { maxDuration: 0h } }",
            "{ optOuts: { maxDuration: 1s } }",
            "spec.optOuts.maxDuration",
            duration,
        ),
        mistake(
            "spec.optOuts.maxDuration",
            "maxLength",
            &format!("{{ optOuts: {{ maxDuration: {}11h }} }}", "1s".repeat(11)),
            &format!("{{ optOuts: {{ maxDuration: {}1h }} }}", "1s".repeat(11)),
            "spec.optOuts.maxDuration",
            "may not be more than 24 bytes",
        ),
        one_of(
            "spec.optOuts.allowedPolicies[]",
            "{ optOuts: { allowedPolicies: [DNS] } }",
            "{ optOuts: { allowedPolicies: [] } }",
            "Unsupported value: \"DNS\": supported values: \"DefaultDenyIngress\", \"DefaultDenyEgress\", \"MonitoringCarveout\"",
        ),
        rule(
            "spec.optOuts.allowedPolicies",
            "{ optOuts: { allowedPolicies: [DefaultDenyEgress, DefaultDenyEgress] } }",
            "{ optOuts: { allowedPolicies: [DefaultDenyEgress] } }",
            "spec.optOuts.allowedPolicies",
            "name each policy once",
        ),
        mistake(
            "spec.optOuts.allowedPolicies",
            "maxItems",
            "{ optOuts: { allowedPolicies: [DefaultDenyIngress, DefaultDenyEgress, MonitoringCarveout, DefaultDenyEgress] } }",
            "{ optOuts: { allowedPolicies: [DefaultDenyIngress, DefaultDenyEgress, MonitoringCarveout] } }",
            "spec.optOuts.allowedPolicies",
            "must have at most 3 items",
        ),
        // DNS.
        one_of(
            "spec.dns.discovery",
            "{ dns: { discovery: Off } }",
            "{ dns: { discovery: Static } }",
            "Unsupported value: \"Off\": supported values: \"Auto\", \"Static\"",
        ),
        rule("spec.dns.peers[]", "{ dns: { peers: [{}] } }", "{ dns: { peers: [] } }", "spec.dns.peers[0]", pods_or_addresses),
        rule(
            "spec.dns.peers[]",
            "{ dns: { peers: [{ namespaceSelector: {}, ipBlock: { cidr: 10.0.0.1/32 } }] } }",
            &block("{ cidr: 10.0.0.1/32 }"),
            "spec.dns.peers[0]",
            pods_or_addresses,
        ),
        rule(
            "spec.dns.peers[]",
            "{ dns: { peers: [{ podSelector: { matchLabels: { app: unbound } } }] } }",
            "{ dns: { peers: [{ namespaceSelector: {}, podSelector: { matchLabels: { app: unbound } } }] } }",
            "spec.dns.peers[0]",
            "podSelector needs namespaceSelector beside it: alone it would mean pods of every selected namespace",
        ),
        mistake("spec.dns.peers", "maxItems", &peers(17), &peers(16), "spec.dns.peers", "must have at most 16 items"),
        mistake(
            "spec.dns.peers[].ipBlock",
            "required cidr",
            &block("{ except: [10.0.0.1/32] }"),
            &block("{ cidr: 10.0.0.0/8, except: [10.0.0.1/32] }"),
            "spec.dns.peers[0].ipBlock.cidr",
            "Required value",
        ),
        rule(
            "spec.dns.peers[].ipBlock.cidr",
            &block("{ cidr: 169.254.20.10 }"),
            &block("{ cidr: 169.254.20.10/32 }"),
            "spec.dns.peers[0].ipBlock.cidr",
            "write a range such as 169.254.20.10/32",
        ),
        rule(
            "spec.dns.peers[].ipBlock.cidr",
            &block("{ cidr: 10.0.0.0/33 }"),
            &block("{ cidr: 'fd00::a/128' }"),
            "spec.dns.peers[0].ipBlock.cidr",
            "write a range such as 169.254.20.10/32",
        ),
        mistake(
            "spec.dns.peers[].ipBlock.cidr",
            "minLength",
            &block("{ cidr: '' }"),
            &block("{ cidr: 0.0.0.0/0 }"),
            "spec.dns.peers[0].ipBlock.cidr",
            "should be at least 1 chars long",
        ),
        mistake(
            "spec.dns.peers[].ipBlock.cidr",
            "maxLength",
            &block(&format!("{{ cidr: 10.0.0.0/{} }}", "0".repeat(41))),
            &block("{ cidr: 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128' }"),
            "spec.dns.peers[0].ipBlock.cidr",
            "may not be more than 49 bytes",
        ),
        mistake(
            "spec.dns.peers[].ipBlock.except",
            "maxItems",
            &except(17),
            &except(16),
            "spec.dns.peers[0].ipBlock.except",
            "must have at most 16 items",
        ),
        mistake(
            "spec.dns.peers[].ipBlock.except[]",
            "maxLength",
            &block(&format!("{{ cidr: 10.0.0.0/8, except: [10.0.0.0/{}] }}", "0".repeat(41))),
            &block("{ cidr: 10.0.0.0/8, except: [10.0.0.0/16] }"),
            "spec.dns.peers[0].ipBlock.except[0]",
            "may not be more than 49 bytes",
        ),
        mistake("spec.dns.ports", "maxItems", &dns_ports(17), &dns_ports(16), "spec.dns.ports", "must have at most 16 items"),
        rule(
            "spec.dns.ports",
            "{ dns: { ports: [5353, 5353] } }",
            "{ dns: { ports: [5353, 53] } }",
            "spec.dns.ports",
            "name each port once",
        ),
        mistake(
            "spec.dns.ports[]",
            "minimum",
            "{ dns: { ports: [0] } }",
            "{ dns: { ports: [1] } }",
            "spec.dns.ports[0]",
            "should be greater than or equal to 1",
        ),
        mistake(
            "spec.dns.ports[]",
            "maximum",
            "{ dns: { ports: [65536] } }",
            "{ dns: { ports: [65535] } }",
            "spec.dns.ports[0]",
            "should be less than or equal to 65535",
        ),
        mistake(
            "spec.dns.ports[]",
            "format int32",
            "{ dns: { ports: [3000000000] } }",
            "{ dns: { ports: [53] } }",
            "spec.dns.ports[0]",
            "int32",
        ),
        // Monitoring.
        rule(
            "spec.monitoring.from",
            "{ monitoring: { from: [] } }",
            &from(sre),
            "spec.monitoring.from",
            "name at least one source, or leave the field out for the default",
        ),
        mistake(
            "spec.monitoring.from",
            "maxItems",
            &sources(9),
            &sources(8),
            "spec.monitoring.from",
            "must have at most 8 items",
        ),
        rule(
            "spec.monitoring.from[]",
            &from("{ namespaceSelector: { matchLabels: { team: sre } } }, { podSelector: { matchLabels: { app: prometheus } } }"),
            &from("{ namespaceSelector: { matchLabels: { team: sre } }, podSelector: { matchLabels: { app: prometheus } } }"),
            "spec.monitoring.from[0]",
            "give namespaceSelector and podSelector in one entry (both must match); two entries would mean one or the other",
        ),
        rule(
            "spec.monitoring.from[]",
            &from("{ namespaceSelector: {}, podSelector: {} }"),
            &from("{ namespaceSelector: { matchExpressions: [{ key: team, operator: Exists }] }, podSelector: {} }"),
            "spec.monitoring.from[0]",
            "namespaceSelector must not be empty: {} would let pods of every namespace in",
        ),
        rule(
            "spec.monitoring.ports",
            "{ monitoring: { ports: [] } }",
            &ports(1),
            "spec.monitoring.ports",
            "name at least one port, or leave the field out for the default: an empty list would open every port",
        ),
        mistake(
            "spec.monitoring.ports",
            "maxItems",
            &ports(33),
            &ports(32),
            "spec.monitoring.ports",
            "must have at most 32 items",
        ),
        rule("spec.monitoring.ports[]", &port("port: 0"), &port("port: 1"), "spec.monitoring.ports[0]", a_number_or_name),
        rule("spec.monitoring.ports[]", &port("port: 65536"), &port("port: 65535"), "spec.monitoring.ports[0]", a_number_or_name),
        rule("spec.monitoring.ports[]", &port("port: ''"), &port("port: metrics"), "spec.monitoring.ports[0]", a_number_or_name),
        rule(
            "spec.monitoring.ports[]",
            &port("port: prometheus-metrics"),
            &port("port: metrics-of-prom"),
            "spec.monitoring.ports[0]",
            a_number_or_name,
        ),
        mistake(
            "spec.monitoring.ports[]",
            "required port",
            &port("protocol: UDP"),
            &port("port: 53, protocol: UDP"),
            "spec.monitoring.ports[0].port",
            "Required value",
        ),
        rule(
            "spec.monitoring.ports[]",
            &port("port: 9010, endPort: 9000"),
            &port("port: 9000, endPort: 9010"),
            "spec.monitoring.ports[0]",
            end_port,
        ),
        rule(
            "spec.monitoring.ports[]",
            &port("port: metrics, endPort: 9000"),
            &port("port: 9000, endPort: 9000"),
            "spec.monitoring.ports[0]",
            end_port,
        ),
        mistake(
            "spec.monitoring.ports[].endPort",
            "minimum",
            &port("port: 9000, endPort: 0"),
            &port("port: 1, endPort: 1"),
            "spec.monitoring.ports[0].endPort",
            "should be greater than or equal to 1",
        ),
        mistake(
            "spec.monitoring.ports[].endPort",
            "maximum",
            &port("port: 9000, endPort: 65536"),
            &port("port: 9000, endPort: 65535"),
            "spec.monitoring.ports[0].endPort",
            "should be less than or equal to 65535",
        ),
        mistake(
            "spec.monitoring.ports[].endPort",
            "format int32",
            &port("port: 9000, endPort: 3000000000"),
            &port("port: 9000, endPort: 9001"),
            "spec.monitoring.ports[0].endPort",
            "int32",
        ),
        one_of(
            "spec.monitoring.ports[].protocol",
            &port("port: 9090, protocol: tcp"),
            &port("port: 9090, protocol: TCP"),
            "Unsupported value: \"tcp\": supported values: \"TCP\", \"UDP\", \"SCTP\"",
        ),
        // What the policies look like.
        rule(
            "spec.metadata.namePrefix",
            &metadata("namePrefix: baseline"),
            &metadata("namePrefix: base-line-"),
            "spec.metadata.namePrefix",
            prefix,
        ),
        rule(
            "spec.metadata.namePrefix",
            &metadata("namePrefix: ''"),
            &metadata("namePrefix: b-"),
            "spec.metadata.namePrefix",
            prefix,
        ),
        rule(
            "spec.metadata.namePrefix",
            &metadata("namePrefix: '-'"),
            &metadata("namePrefix: 0-"),
            "spec.metadata.namePrefix",
            prefix,
        ),
        mistake(
            "spec.metadata.namePrefix",
            "maxLength",
            &metadata(&format!("namePrefix: {}-", n(40))),
            &metadata(&format!("namePrefix: {}-", n(39))),
            "spec.metadata.namePrefix",
            "may not be more than 40 bytes",
        ),
        rule(
            "spec.metadata.labels",
            &metadata("labels: { policybaseline.io/role: mine }"),
            &metadata("labels: { example.com/role: mine }"),
            "spec.metadata.labels",
            our_labels,
        ),
        rule(
            "spec.metadata.labels",
            &metadata("labels: { app.kubernetes.io/managed-by: argocd }"),
            &metadata("labels: { app.kubernetes.io/part-of: platform }"),
            "spec.metadata.labels",
            our_labels,
        ),
        mistake(
            "spec.metadata.labels",
            "maxProperties",
            &metadata(&format!("labels: {}", map(17))),
            &metadata(&format!("labels: {}", map(16))),
            "spec.metadata.labels",
            "must have at most 16 items",
        ),
        mistake(
            "spec.metadata.labels{}",
            "maxLength",
            &metadata(&format!("labels: {{ owner: {} }}", n(64))),
            &metadata(&format!("labels: {{ owner: {} }}", n(63))),
            "spec.metadata.labels.owner",
            "may not be more than 63 bytes",
        ),
        rule(
            "spec.metadata.annotations",
            &metadata("annotations: { policybaseline.io/plan: none }"),
            &metadata("annotations: { example.com/plan: none }"),
            "spec.metadata.annotations",
            our_annotations,
        ),
        mistake(
            "spec.metadata.annotations",
            "maxProperties",
            &metadata(&format!("annotations: {}", map(17))),
            &metadata(&format!("annotations: {}", map(16))),
            "spec.metadata.annotations",
            "must have at most 16 items",
        ),
        mistake(
            "spec.metadata.annotations{}",
            "maxLength",
            &metadata(&format!("annotations: {{ doc: {} }}", n(1025))),
            &metadata(&format!("annotations: {{ doc: {} }}", n(1024))),
            "spec.metadata.annotations.doc",
            "may not be more than 1024 bytes",
        ),
    ]
}

/// A manifest from a name and a spec in YAML. A spec that says nothing of a mode enforces.
fn manifest(name: &str, spec: &str) -> String {
    let spec = if spec.contains("mode") { spec.to_owned() } else { spec.replacen('{', "{ mode: Enforce, ", 1) };
    format!("{{ apiVersion: policybaseline.io/v1alpha1, kind: PolicyBaseline, metadata: {{ name: {name} }}, spec: {spec} }}")
}

/// The schema as it is shipped.
fn schema() -> Value {
    let crd: CustomResourceDefinition =
        serde_yaml::from_str(include_str!("../../../crds/policybaselines.policybaseline.io.yaml")).unwrap();
    let [version] = &crd.spec.versions[..] else { panic!("more than one version") };
    serde_json::to_value(version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap()).unwrap()
}

/// Every rule and bound below a node of the schema, as `(where, which)`.
fn constraints(at: &str, node: &Value, found: &mut BTreeSet<(String, String)>) {
    let mut add = |which: String| found.insert((at.to_owned(), which));
    for bound in [
        "maxLength",
        "minLength",
        "maxItems",
        "minItems",
        "maxProperties",
        "minProperties",
        "minimum",
        "maximum",
        "pattern",
        "enum",
    ] {
        if node.get(bound).is_some() {
            add(bound.to_owned());
        }
    }
    if node["format"] == "int32" {
        add("format int32".to_owned());
    }
    if node["x-kubernetes-list-type"] == "set" {
        add("set".to_owned());
    }
    for name in node["required"].as_array().into_iter().flatten() {
        add(format!("required {}", name.as_str().unwrap()));
    }
    for rule in node["x-kubernetes-validations"].as_array().into_iter().flatten() {
        add(format!("rule {}", rule["message"].as_str().expect("a rule without a message")));
    }
    for (name, child) in node["properties"].as_object().into_iter().flatten() {
        constraints(&format!("{at}.{name}"), child, found);
    }
    for (mark, child) in [("[]", "items"), ("{}", "additionalProperties")] {
        if node[child].is_object() {
            constraints(&format!("{at}{mark}"), &node[child], found);
        }
    }
}

#[test]
fn every_rule_and_bound_of_the_spec_has_its_mistake() {
    let mut shipped = BTreeSet::new();
    constraints("spec", &schema()["properties"]["spec"], &mut shipped);
    let shown: BTreeSet<(String, String)> = mistakes().into_iter().map(|mistake| (mistake.at, mistake.breaks)).collect();
    let missing: Vec<_> = shipped.difference(&shown).collect();
    assert!(missing.is_empty(), "nobody shows what these say: {missing:#?}");
    let invented: Vec<_> = shown.difference(&shipped).collect();
    assert!(invented.is_empty(), "the CRD has none of these: {invented:#?}");
}

#[tokio::test]
async fn every_mistake_is_refused_in_words_that_name_the_field_and_its_good_twin_is_not() {
    let world = World::new().await.unwrap();
    let wrong: Vec<String> = stream::iter(mistakes().into_iter().enumerate())
        .map(async |(i, mistake)| {
            let Mistake { bad, good, says, .. } = mistake;
            let mut wrong = Vec::new();
            match world.try_apply_yaml(&manifest(&format!("bad-{i}"), &bad)).await {
                Ok(()) => wrong.push(format!("{bad}\n  is accepted")),
                Err(said) if says.iter().all(|words| said.contains(words)) => {}
                Err(said) => wrong.push(format!("{bad}\n  should say {says:?}, but says\n  {said}")),
            }
            if let Err(said) = world.try_apply_yaml(&manifest(&format!("good-{i}"), &good)).await {
                wrong.push(format!("{good}\n  should be accepted, but\n  {said}"));
            }
            wrong
        })
        .buffer_unordered(8)
        .concat()
        .await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_name_that_makes_no_label_value_is_refused() {
    let world = World::new().await.unwrap();
    let said = world.try_apply_yaml(&manifest(&"n".repeat(64), "{}")).await.unwrap_err();
    assert!(said.contains("metadata.name: use at most 63 characters, the name becomes a label value"), "{said}");
    world.apply_yaml(&manifest(&"n".repeat(63), "{}")).await.unwrap();
    let mut rules = BTreeSet::new();
    let root = json!({ "x-kubernetes-validations": schema()["x-kubernetes-validations"] });
    constraints("", &root, &mut rules);
    assert_eq!(rules.len(), 1, "a rule of the whole object that no test shows: {rules:?}");
}

#[tokio::test]
async fn a_spec_at_its_limits_is_accepted() {
    let world = World::new().await.unwrap();
    let long = |i: usize, length: usize| format!("{i:0>length$}");
    let labels = |length: usize| (0..16).map(|i| (long(i, 63), "v".repeat(length))).collect::<BTreeMap<_, _>>();
    let expression =
        |i| json!({ "key": long(i, 317), "operator": "In", "values": (0..64).map(|i| long(i, 63)).collect::<Vec<_>>() });
    let selector = json!({ "matchLabels": labels(63), "matchExpressions": (0..16).map(expression).collect::<Vec<_>>() });
    let both = json!({ "namespaceSelector": selector, "podSelector": selector });
    let block =
        |i: usize| json!({ "cidr": "10.0.0.0/8", "except": (0..16).map(|j| format!("10.{i}.{j}.0/24")).collect::<Vec<_>>() });
    let blocks = (0..16).map(|i| json!({ "ipBlock": block(i) })).collect::<Vec<_>>();
    let ports = (0..32).map(|i| json!({ "port": 1000 + i, "endPort": 2000, "protocol": "SCTP" })).collect::<Vec<_>>();
    let excluded = (0..512).map(|i| long(i, 63)).collect::<Vec<_>>();
    // One after the other: all of it together is more than etcd takes.
    for (what, spec) in [
        ("selector", json!({ "namespaceSelector": selector, "excludeNamespaces": excluded, "priority": i32::MAX })),
        ("addresses", json!({ "dns": { "peers": blocks, "ports": (0..16).map(|i| 65535 - i).collect::<Vec<_>>() } })),
        ("pods", json!({ "dns": { "peers": vec![both.clone(); 8] } })),
        ("sources", json!({ "monitoring": { "from": vec![both; 8] } })),
        ("canaries", json!({ "rollout": { "canarySelector": selector, "interval": "1s".repeat(16), "maxFailures": i32::MAX } })),
        ("ports", json!({ "monitoring": { "podSelector": selector, "namespaceSelector": selector, "ports": ports } })),
        (
            "metadata",
            json!({ "metadata": { "namePrefix": format!("{}-", "p".repeat(39)), "labels": labels(63), "annotations": labels(1024) } }),
        ),
    ] {
        let accepted = world.try_apply_yaml(&manifest(&format!("limits-of-{what}"), &spec.to_string())).await;
        assert_eq!(accepted, Ok(()), "{what}");
    }
}

#[tokio::test]
async fn a_spec_with_a_mode_alone_is_accepted_and_filled_with_the_defaults() {
    let world = World::new().await.unwrap();
    world.apply_yaml(&manifest("empty", "{ mode: Enforce }")).await.unwrap();
    let stored = baselines(&world).get("empty").await.unwrap().data["spec"].clone();
    let wanted = json!({
        "mode": "Enforce", "suspend": false, "existingNamespaces": "Report", "priority": 0, "includeSystemNamespaces": false,
        "deletionPolicy": "Orphan", "controlPlaneBackends": "Hold",
        "policies": ["DefaultDenyIngress", "DefaultDenyEgress", "MonitoringCarveout"],
    });
    assert_eq!(stored, wanted);
}

#[tokio::test]
async fn a_field_that_is_null_is_as_one_that_is_absent() {
    let world = World::new().await.unwrap();
    for (i, spec) in [
        "{ namespaceSelector: null, dns: null, monitoring: null, metadata: null, optOuts: null }",
        "{ monitoring: { from: null, podSelector: null, namespaceSelector: null, ports: null }, metadata: { namePrefix: null } }",
        "{ monitoring: { ports: [{ port: 80, endPort: null }] } }",
        "{ dns: { peers: [{ namespaceSelector: {}, podSelector: null, ipBlock: null }] } }",
        "{ priority: null, policies: null }",
        "{ rollout: { canarySelector: null, maxNamespacesPerWave: null, interval: null, maxFailures: null } }",
    ]
    .into_iter()
    .enumerate()
    {
        world.try_apply_yaml(&manifest(&format!("null-{i}"), spec)).await.unwrap_or_else(|said| panic!("{spec}: {said}"));
    }
    for (spec, says) in [
        (
            "{ monitoring: { from: [{ namespaceSelector: null, podSelector: {} }] } }",
            "give namespaceSelector and podSelector in one entry",
        ),
        ("{ dns: { peers: [{ namespaceSelector: null, podSelector: {} }] } }", "one of the two"),
    ] {
        let said = world.try_apply_yaml(&manifest("null-bad", spec)).await.expect_err(spec);
        assert!(said.contains(says), "{spec}: {said}");
    }
}

#[tokio::test]
async fn a_list_that_becomes_shorter_in_git_becomes_shorter_in_the_cluster() {
    let world = World::new().await.unwrap();
    for (field, specs) in [
        ("/policies", ["{}", "{ policies: [DefaultDenyIngress] }", "{ policies: [DefaultDenyEgress] }"]),
        ("/dns/ports", ["{ dns: { ports: [5353, 5454] } }", "{ dns: { ports: [5454] } }", "{ dns: { ports: [5353] } }"]),
        ("/excludeNamespaces", ["{ excludeNamespaces: [a, b] }", "{ excludeNamespaces: [b] }", "{ excludeNamespaces: [c] }"]),
    ] {
        for (i, spec) in specs.into_iter().enumerate() {
            world.apply_yaml(&manifest("shorter", spec)).await.unwrap();
            let stored = baselines(&world).get("shorter").await.unwrap().data["spec"].clone();
            let wanted: Value = serde_yaml::from_str(spec).unwrap();
            if let Some(wanted) = wanted.pointer(field) {
                assert_eq!(stored.pointer(field), Some(wanted), "{field} after {:?}", &specs[..=i]);
            }
        }
    }
}

/// `kubectl create` of a manifest on standard input; what it says on either stream, and whether it went well.
fn kubectl_create(world: &World, manifest: &str) -> (bool, String) {
    let mut command = world.plane().kubectl();
    command.args(["create", "--dry-run=server", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(manifest.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[tokio::test]
async fn a_typo_is_named_to_whoever_uses_kubectl() {
    let world = World::new().await.unwrap();
    let mut wrong = Vec::new();
    for (spec, says) in [
        ("{ mode: enforce }", r#"spec.mode: Unsupported value: "enforce": supported values: "Enforce", "Audit""#),
        ("{ policies: [DefaultDenyIngres] }", r#"spec.policies[0]: Unsupported value: "DefaultDenyIngres""#),
        (
            "{ policies: DefaultDenyIngress }",
            "spec.policies: Invalid value: \"string\": spec.policies in body must be of type array",
        ),
        ("{ exludeNamespaces: [dev] }", r#"unknown field "spec.exludeNamespaces""#),
        ("{ dns: { peer: [] } }", r#"unknown field "spec.dns.peer""#),
        ("{ monitoring: { from: [{ namespaceselector: {} }] } }", r#"unknown field "spec.monitoring.from[0].namespaceselector""#),
        ("{ priority: high }", "spec.priority: Invalid value: \"string\": spec.priority in body must be of type integer"),
        ("{ priority: 1.5 }", "spec.priority: Invalid value: \"float64\""),
        ("{ includeSystemNamespaces: 'yes' }", "spec.includeSystemNamespaces: Invalid value: \"string\""),
        (
            "{ excludeNamespaces: dev }",
            "spec.excludeNamespaces: Invalid value: \"string\": spec.excludeNamespaces in body must be of type array",
        ),
        ("{ monitoring: { ports: [9090] } }", "spec.monitoring.ports[0]: Invalid value: \"integer\""),
        ("{ monitoring: { ports: [{ port: [1] }] } }", "spec.monitoring.ports[0].port"),
        ("{ dns: { ports: ['53'] } }", "spec.dns.ports[0]: Invalid value: \"string\""),
        ("{ policies: [DefaultDenyEgress, DefaultDenyEgress] }", "spec.policies: Invalid value: name each policy once"),
        ("null", "spec: Required value"),
    ] {
        let (accepted, said) = kubectl_create(&world, &manifest("typo", spec));
        if accepted || !said.contains(says) {
            wrong.push(format!("{spec}\n  should say {says}, but says\n  {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let (accepted, said) = kubectl_create(&world, &manifest("fine", "{ mode: Audit, priority: 1, dns: { ports: [5353] } }"));
    assert!(accepted && !said.contains("Warning"), "{said}");
}

#[tokio::test]
async fn the_shipped_manifests_apply_without_a_warning() {
    let world = World::bare().await.unwrap();
    for from in [["-k", "manifests/base"], ["-f", "crds"]] {
        let output = world.plane().kubectl().args(["apply", "--server-side", "--force-conflicts"]).args(from).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{from:?}");
    }
    let crds: Api<CustomResourceDefinition> = Api::all(world.admin());
    let crd = crds.get("policybaselines.policybaseline.io").await.unwrap();
    let conditions = crd.status.unwrap().conditions.unwrap();
    assert!(conditions.iter().all(|condition| condition.type_ != "NonStructuralSchema"), "{conditions:?}");
}

/// Every object below a node of the schema, as `kubectl explain` names it, with the names of its fields.
fn objects(at: &str, node: &Value, found: &mut Vec<(String, Vec<String>)>) {
    let node = if node["items"].is_object() { &node["items"] } else { node };
    let Some(fields) = node["properties"].as_object() else { return };
    found.push((at.to_owned(), fields.keys().cloned().collect()));
    for (name, child) in fields {
        objects(&format!("{at}.{name}"), child, found);
    }
}

#[tokio::test]
async fn kubectl_explain_describes_every_field() {
    let world = World::new().await.unwrap();
    let mut all = Vec::new();
    for part in ["spec", "status"] {
        objects(&format!("policybaseline.{part}"), &schema()["properties"][part], &mut all);
    }
    assert!(all.len() > 20, "{all:?}");
    // What kubectl cached when it applied the CRD does not know it yet.
    let cache = world.plane().state_dir().join("explain");
    let explain = |path: &str| {
        let mut command = world.plane().kubectl();
        command.env("KUBECACHEDIR", &cache).args(["explain", path]);
        tokio::task::spawn_blocking(move || command.output().unwrap())
    };
    world
        .eventually("the discovery names baselines", TIMEOUT, async || {
            explain("policybaseline").await.map(|output| output.status.success())
        })
        .await
        .unwrap();
    let explained = stream::iter(all)
        .map(async |(path, fields)| {
            let output = explain(&path).await.unwrap();
            (path, fields, output)
        })
        .buffer_unordered(4)
        .collect::<Vec<_>>()
        .await;
    for (path, fields, output) in explained {
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(
            !said.contains("<empty>") && !said.contains("<no description>"),
            "{path} has a field that nobody describes:\n{said}"
        );
        for field in fields {
            assert!(
                said.lines().any(|line| line.trim_start().starts_with(&format!("{field}\t<"))),
                "{path}.{field} is not told:\n{said}"
            );
        }
    }
}
