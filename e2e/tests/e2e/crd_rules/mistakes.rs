//! Mistakes that a tired person types in a baseline: one for each rule and each bound of the CRD. One file, because it is one table.

use super::mistake::{Mistake, list, map, mistake, selector_mistakes};

pub fn mistakes() -> Vec<Mistake> {
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

#[expect(clippy::too_many_lines, reason = "one table, with a row for each mistake")]
pub fn own_mistakes() -> Vec<Mistake> {
    let n = |length: usize| "n".repeat(length);
    // The message of a rule is its name.
    let rule =
        |at: &str, bad: &str, good: &str, field: &str, says: &str| mistake(at, &format!("rule {says}"), bad, good, field, says);
    let one_of = |at: &str, bad: &str, good: &str, says: &str| mistake(at, "enum", bad, good, &at.replace("[]", "[0]"), says);
    let globs = "use names of namespaces, or globs such as openshift-*: lower-case letters, digits, '-' and '*'";
    let named_egress_port = "sourceEgress: Enforce needs ports with numbers, such as ports: [{port: 9090}]; network plugins do not agree on what a named port means in an egress rule";
    let pods_or_addresses =
        "name pods by namespaceSelector (with podSelector) or by sameNamespace, or addresses by ipBlock: one of the three";
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
        // The word `mode` occurs elsewhere in the spec, so the test helper adds no mode.
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
        rule(
            "spec.monitoring",
            "{ monitoring: { sourceEgress: Enforce } }",
            "{ monitoring: { sourceEgress: Enforce, ports: [{ port: 9090 }] } }",
            "spec.monitoring",
            named_egress_port,
        ),
        rule(
            "spec.monitoring",
            "{ monitoring: { sourceEgress: Enforce, ports: [{ port: 9090 }, { port: web }] } }",
            "{ monitoring: { sourceEgress: Open, ports: [{ port: 9090 }, { port: web }] } }",
            "spec.monitoring",
            named_egress_port,
        ),
        one_of(
            "spec.monitoring.sourceEgress",
            "{ monitoring: { sourceEgress: Hold } }",
            "{ monitoring: { sourceEgress: Open } }",
            "Unsupported value: \"Hold\": supported values: \"Open\", \"Enforce\"",
        ),
        // The API server has its own message for a number that is too large, and that message begins differently.
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
            "podSelector needs namespaceSelector beside it; for DNS pods in each namespace itself, write sameNamespace: {podSelector: ...}",
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
            "write a range such as 10.0.0.0/8 or 169.254.20.10/32, without address bits after the prefix (not 10.0.0.1/8)",
        ),
        rule(
            "spec.dns.peers[].ipBlock.cidr",
            &block("{ cidr: 10.0.0.0/33 }"),
            &block("{ cidr: 'fd00::a/128' }"),
            "spec.dns.peers[0].ipBlock.cidr",
            "write a range such as 10.0.0.0/8 or 169.254.20.10/32, without address bits after the prefix (not 10.0.0.1/8)",
        ),
        rule(
            "spec.dns.peers[].ipBlock.cidr",
            &block("{ cidr: 10.0.0.1/8 }"),
            &block("{ cidr: 10.0.0.0/8 }"),
            "spec.dns.peers[0].ipBlock.cidr",
            "write a range such as 10.0.0.0/8 or 169.254.20.10/32, without address bits after the prefix (not 10.0.0.1/8)",
        ),
        rule(
            "spec.dns.peers[].ipBlock.cidr",
            &block("{ cidr: '::ffff:10.0.0.0/104' }"),
            &block("{ cidr: 'fd00::/8' }"),
            "spec.dns.peers[0].ipBlock.cidr",
            "write a range such as 10.0.0.0/8 or 169.254.20.10/32, without address bits after the prefix (not 10.0.0.1/8)",
        ),
        rule(
            "spec.dns.peers[].ipBlock",
            &block("{ cidr: 10.0.0.0/8, except: [11.0.0.0/16] }"),
            &block("{ cidr: 10.0.0.0/8, except: [10.1.0.0/16] }"),
            "spec.dns.peers[0].ipBlock",
            "except: each range must be smaller than cidr, and inside it",
        ),
        rule(
            "spec.dns.peers[].ipBlock",
            &block("{ cidr: 10.0.0.0/8, except: [10.0.0.0/8] }"),
            &block("{ cidr: 10.0.0.0/8, except: [10.0.0.0/9] }"),
            "spec.dns.peers[0].ipBlock",
            "except: each range must be smaller than cidr, and inside it",
        ),
        rule(
            "spec.dns.peers[].ipBlock",
            &block("{ cidr: 10.0.0.0/8, except: ['fd00::/16'] }"),
            &block("{ cidr: 'fd00::/8', except: ['fd00::/16'] }"),
            "spec.dns.peers[0].ipBlock",
            "except: each range must be of the address family of cidr: both IPv4, or both IPv6",
        ),
        rule(
            "spec.dns.peers[].ipBlock.except[]",
            &block("{ cidr: 10.0.0.0/8, except: [10.1.0.1/16] }"),
            &block("{ cidr: 10.0.0.0/8, except: [10.1.0.0/16] }"),
            "spec.dns.peers[0].ipBlock.except[0]",
            "write a range such as 10.0.0.0/8 or 169.254.20.10/32, without address bits after the prefix (not 10.0.0.1/8)",
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
