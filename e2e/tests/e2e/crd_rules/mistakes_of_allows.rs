//! Mistakes in `spec.allows`: one for each rule and each bound of the CRD. Where a wrong entry would open more than it says, the message is
//! the documentation, so it is written out here.
//! One file, because it is one table.

use super::mistake::{Mistake, list, mistake, selector_mistakes};

/// A baseline with one allow, from its fields in YAML.
fn allow(fields: &str) -> String {
    format!("{{ allows: [{{ name: x, {fields} }}] }}")
}

/// A peer in YAML, as the only one of an ingress rule.
fn from(peer: &str) -> String {
    allow(&format!("ingress: [{{ from: [{peer}] }}]"))
}

/// A peer in YAML, as the only one of an egress rule.
fn to(peer: &str) -> String {
    allow(&format!("egress: [{{ to: [{peer}] }}]"))
}

/// The message of a rule is its name.
fn rule(at: &str, bad: &str, good: &str, field: &str, says: &str) -> Mistake {
    mistake(at, &format!("rule {says}"), bad, good, field, says)
}

/// Moves mistakes into a place of the schema. `embed` writes the part with a mistake into a spec.
fn moved(mistakes: Vec<Mistake>, at: &str, field: &str, embed: impl Fn(&str) -> String) -> Vec<Mistake> {
    let one = |mistake: Mistake| {
        let Mistake { at: inside, breaks, bad, good, says: [path, says] } = mistake;
        Mistake {
            at: format!("{at}{inside}"),
            breaks,
            bad: embed(&bad),
            good: embed(&good),
            says: [format!("{field}{path}"), says],
        }
    };
    mistakes.into_iter().map(one).collect()
}

pub fn mistakes_of_allows() -> Vec<Mistake> {
    let mut all = own();
    let same = |selector: &str| format!("{{ sameNamespace: {{ podSelector: {selector} }} }}");
    let namespaces = |selector: &str| format!("{{ namespaceSelector: {selector} }}");
    let pods = |selector: &str| format!("{{ namespaceSelector: {{ matchLabels: {{ a: b }} }}, podSelector: {selector} }}");
    let block = |block: &str| format!("{{ ipBlock: {block} }}");
    for (at, field, embed) in [
        ("spec.allows[].ingress[].from[]", "spec.allows[0].ingress[0].from[0]", from as fn(&str) -> String),
        ("spec.allows[].egress[].to[]", "spec.allows[0].egress[0].to[0]", to),
    ] {
        let place = |part: &str| (format!("{at}.{part}"), format!("{field}.{part}"));
        let (at, field) = place("sameNamespace.podSelector");
        all.extend(moved(selector_mistakes(), &at, &field, |selector| embed(&same(selector))));
        let (at, field) = place("namespaceSelector");
        all.extend(moved(selector_mistakes(), &at, &field, |selector| embed(&namespaces(selector))));
        let (at, field) = place("podSelector");
        all.extend(moved(selector_mistakes(), &at, &field, |selector| embed(&pods(selector))));
        let (at, field) = place("ipBlock");
        all.extend(moved(block_mistakes(), &at, &field, |range| embed(&block(range))));
    }
    for (at, field, embed) in [
        (
            "spec.allows[].namespaceSelector",
            "spec.allows[0].namespaceSelector",
            "namespaceSelector: SELECTOR, egress: [{ to: [{ sameNamespace: {} }] }]",
        ),
        (
            "spec.allows[].podSelector",
            "spec.allows[0].podSelector",
            "podSelector: SELECTOR, egress: [{ to: [{ sameNamespace: {} }] }]",
        ),
    ] {
        all.extend(moved(selector_mistakes(), at, field, |selector| allow(&embed.replace("SELECTOR", selector))));
    }
    all.extend(moved(
        selector_mistakes(),
        "spec.dns.peers[].sameNamespace.podSelector",
        "spec.dns.peers[0].sameNamespace.podSelector",
        |selector| format!("{{ dns: {{ peers: [{}] }} }}", same(selector)),
    ));
    for (at, field, embed) in [
        (
            "spec.allows[].ingress[].ports",
            "spec.allows[0].ingress[0].ports",
            "ingress: [{ from: [{ sameNamespace: {} }], ports: PORTS }]",
        ),
        (
            "spec.allows[].egress[].ports",
            "spec.allows[0].egress[0].ports",
            "egress: [{ to: [{ sameNamespace: {} }], ports: PORTS }]",
        ),
    ] {
        all.extend(moved(port_mistakes(), at, field, |ports| allow(&embed.replace("PORTS", ports))));
    }
    all
}

#[expect(clippy::too_many_lines, reason = "one table, with a row for each mistake")]
fn own() -> Vec<Mistake> {
    let n = |length: usize| "n".repeat(length);
    let same = "{ sameNamespace: {} }";
    let named = |name: &str| format!("{{ allows: [{{ name: {name}, egress: [{{ to: [{same}] }}] }}] }}");
    let many =
        |count: usize| format!("{{ allows: {} }}", list(count, |i| format!("{{ name: a{i}, egress: [{{ to: [{same}] }}] }}")));
    let one_of_many = |direction: &str, peers: &str, count: usize| {
        allow(&format!("{direction}: {}", list(count, |_| format!("{{ {peers}: [{same}] }}"))))
    };
    let peers = |direction: &str, peers: &str, count: usize| {
        allow(&format!("{direction}: [{{ {peers}: {} }}]", list(count, |i| format!("{{ ipBlock: {{ cidr: 10.0.{i}.0/24 }} }}"))))
    };
    let name = "name: use lower-case letters, digits and '-', with a letter or digit at both ends, as in same-namespace";
    let taken = "name: use another one; it must not end like the baseline's own policies (default-deny-ingress, default-deny-egress, monitoring-carveout)";
    let everybody = "this opens to everybody (an empty namespaceSelector, 0.0.0.0/0 or ::/0): name who may talk. If everybody is meant, set acknowledgeOpen: true; then status and explain report it";
    let no_from = "from: name who may connect; an empty list would let everybody in. If everybody is meant, write from: [{ipBlock: {cidr: 0.0.0.0/0}}, {ipBlock: {cidr: '::/0'}}] and acknowledgeOpen: true";
    let no_to = "to: name to whom pods may connect; an empty list would let them connect to everybody. If everybody is meant, write to: [{ipBlock: {cidr: 0.0.0.0/0}}, {ipBlock: {cidr: '::/0'}}] and acknowledgeOpen: true";
    let api_in = "from: kubernetesAPI is for egress only; calls of the API server come from addresses of nodes or of the cloud, which only you know: write them as ipBlock";
    let api_ports = "ports: leave them out beside kubernetesAPI, its ports are found with its addresses; write other peers with their ports as a rule of their own";
    let numbers = "ports: egress rules need numbers, such as ports: [{port: 443}]; network plugins do not agree on what a named port means in an egress rule";
    let kinds = "a peer is exactly one of sameNamespace, kubernetesAPI, namespaceSelector (with or without podSelector) and ipBlock; write each further one as an entry of its own";
    let pods = "podSelector needs namespaceSelector beside it; for pods of the namespace itself, write sameNamespace: {podSelector: ...}";
    let mut all = vec![
        mistake("spec.allows", "maxItems", &many(17), &many(16), "spec.allows", "must have at most 16 items"),
        mistake(
            "spec.allows[]",
            "required name",
            &format!("{{ allows: [{{ egress: [{{ to: [{same}] }}] }}] }}"),
            &named("a"),
            ".spec.allows: element 0",
            "omits all key fields [\"name\"]",
        ),
        mistake(
            "spec.allows[].name",
            "minLength",
            &named("''"),
            &named("a"),
            "spec.allows[0].name",
            "should be at least 1 chars long",
        ),
        mistake(
            "spec.allows[].name",
            "maxLength",
            &named(&n(31)),
            &named(&n(30)),
            "spec.allows[0].name",
            "may not be more than 30 bytes",
        ),
        rule("spec.allows[].name", &named("Web"), &named("web"), "spec.allows[0].name", name),
        rule("spec.allows[].name", &named("web-"), &named("a-b"), "spec.allows[0].name", name),
        rule("spec.allows[].name", &named("my-default-deny-ingress"), &named("default-deny"), "spec.allows[0].name", taken),
        rule("spec.allows[].name", &named("monitoring-carveout"), &named("monitoring"), "spec.allows[0].name", taken),
        rule(
            "spec.allows[]",
            &allow("podSelector: {}"),
            &allow(&format!("ingress: [{{ from: [{same}] }}]")),
            "spec.allows[0]",
            "write ingress rules, egress rules, or both: an allow without rules allows nothing",
        ),
        // Everybody, in the plain forms.
        rule(
            "spec.allows[]",
            &from("{ namespaceSelector: {} }"),
            &from("{ namespaceSelector: { matchLabels: { a: b } } }"),
            "spec.allows[0]",
            everybody,
        ),
        rule(
            "spec.allows[]",
            &to("{ namespaceSelector: {}, podSelector: {} }"),
            &to("{ namespaceSelector: {}, podSelector: { matchLabels: { a: b } } }"),
            "spec.allows[0]",
            everybody,
        ),
        rule(
            "spec.allows[]",
            &from("{ ipBlock: { cidr: 0.0.0.0/0 } }"),
            &from("{ ipBlock: { cidr: 10.0.0.0/8 } }"),
            "spec.allows[0]",
            everybody,
        ),
        rule(
            "spec.allows[]",
            &to("{ ipBlock: { cidr: '::/0' } }"),
            &allow("acknowledgeOpen: true, egress: [{ to: [{ ipBlock: { cidr: '::/0' } }] }]"),
            "spec.allows[0]",
            everybody,
        ),
        // Rules.
        rule(
            "spec.allows[].ingress",
            &allow(&format!("ingress: [], egress: [{{ to: [{same}] }}]")),
            &allow(&format!("egress: [{{ to: [{same}] }}]")),
            "spec.allows[0].ingress",
            "ingress: write at least one rule, or leave the field out; an empty list allows nothing",
        ),
        rule(
            "spec.allows[].egress",
            &allow("egress: []"),
            &allow(&format!("egress: [{{ to: [{same}] }}]")),
            "spec.allows[0].egress",
            "egress: write at least one rule, or leave the field out; an empty list allows nothing",
        ),
        rule("spec.allows[].ingress[]", &allow("ingress: [{}]"), &from(same), "spec.allows[0].ingress[0]", no_from),
        rule(
            "spec.allows[].ingress[]",
            &allow("ingress: [{ from: [], ports: [{ port: 80 }] }]"),
            &from(same),
            "spec.allows[0].ingress[0]",
            no_from,
        ),
        rule(
            "spec.allows[].egress[]",
            &allow("egress: [{ ports: [{ port: 443 }] }]"),
            &to(same),
            "spec.allows[0].egress[0]",
            no_to,
        ),
        rule("spec.allows[].egress[]", &allow("egress: [{ to: [] }]"), &to(same), "spec.allows[0].egress[0]", no_to),
        rule(
            "spec.allows[].ingress[]",
            &from("{ kubernetesAPI: {} }"),
            &to("{ kubernetesAPI: {} }"),
            "spec.allows[0].ingress[0]",
            api_in,
        ),
        rule(
            "spec.allows[].egress[]",
            &allow("egress: [{ to: [{ kubernetesAPI: {} }], ports: [{ port: 443 }] }]"),
            &to("{ kubernetesAPI: {} }"),
            "spec.allows[0].egress[0]",
            api_ports,
        ),
        rule(
            "spec.allows[].egress[]",
            &allow(&format!("egress: [{{ to: [{same}], ports: [{{ port: https }}] }}]")),
            &allow(&format!("ingress: [{{ from: [{same}], ports: [{{ port: https }}] }}]")),
            "spec.allows[0].egress[0]",
            numbers,
        ),
    ];
    for (direction, list, embed) in [("ingress", "from", from as fn(&str) -> String), ("egress", "to", to)] {
        let (at, field) = (format!("spec.allows[].{direction}[].{list}[]"), format!("spec.allows[0].{direction}[0].{list}[0]"));
        all.extend([
            mistake(
                &format!("spec.allows[].{direction}"),
                "maxItems",
                &one_of_many(direction, list, 9),
                &one_of_many(direction, list, 8),
                &format!("spec.allows[0].{direction}"),
                "must have at most 8 items",
            ),
            mistake(
                &format!("spec.allows[].{direction}[].{list}"),
                "maxItems",
                &peers(direction, list, 9),
                &peers(direction, list, 8),
                &format!("spec.allows[0].{direction}[0].{list}"),
                "must have at most 8 items",
            ),
            rule(&at, &embed("{}"), &embed(same), &field, kinds),
            rule(
                &at,
                &embed("{ sameNamespace: {}, ipBlock: { cidr: 10.0.0.0/8 } }"),
                &embed("{ ipBlock: { cidr: 10.0.0.0/8 } }"),
                &field,
                kinds,
            ),
            rule(
                &at,
                &embed("{ podSelector: { matchLabels: { app: db } } }"),
                &embed("{ sameNamespace: { podSelector: { matchLabels: { app: db } } } }"),
                &field,
                pods,
            ),
        ]);
    }
    all
}

/// The mistakes in a block of addresses, with paths relative to the block.
fn block_mistakes() -> Vec<Mistake> {
    let range = "write a range such as 10.0.0.0/8 or 169.254.20.10/32, without address bits after the prefix (not 10.0.0.1/8)";
    let inside = "except: each range must be smaller than cidr, and inside it";
    let good = "{ cidr: 10.0.0.0/8, except: [10.1.0.0/16] }";
    let except = |count: usize| format!("{{ cidr: 10.0.0.0/8, except: {} }}", list(count, |i| format!("10.{i}.0.0/16")));
    let too_long = format!("10.0.0.0/{}", "0".repeat(41));
    vec![
        mistake("", "required cidr", "{ except: [10.0.0.1/32] }", good, ".cidr", "Required value"),
        rule(".cidr", "{ cidr: 10.0.0.1/8 }", "{ cidr: 10.0.0.0/8 }", ".cidr", range),
        rule(".cidr", "{ cidr: 169.254.169.254 }", "{ cidr: 169.254.169.254/32 }", ".cidr", range),
        rule(".except[]", "{ cidr: 10.0.0.0/8, except: [10.1.0.1/16] }", good, ".except[0]", range),
        rule("", "{ cidr: 10.0.0.0/8, except: [11.0.0.0/16] }", good, "", inside),
        rule("", "{ cidr: 10.0.0.0/8, except: [10.0.0.0/8] }", good, "", inside),
        rule(
            "",
            "{ cidr: 10.0.0.0/8, except: ['fd00::/16'] }",
            "{ cidr: 'fd00::/8', except: ['fd00::/16'] }",
            "",
            "except: each range must be of the address family of cidr: both IPv4, or both IPv6",
        ),
        mistake(".cidr", "minLength", "{ cidr: '' }", good, ".cidr", "should be at least 1 chars long"),
        mistake(".cidr", "maxLength", &format!("{{ cidr: {too_long} }}"), good, ".cidr", "may not be more than 49 bytes"),
        mistake(".except", "maxItems", &except(17), &except(16), ".except", "must have at most 16 items"),
        mistake(
            ".except[]",
            "maxLength",
            &format!("{{ cidr: 10.0.0.0/8, except: [{too_long}] }}"),
            good,
            ".except[0]",
            "may not be more than 49 bytes",
        ),
    ]
}

/// The mistakes in a list of ports, with paths relative to the list.
fn port_mistakes() -> Vec<Mistake> {
    let ports = |count: usize| list(count, |i| format!("{{ port: {} }}", 9000 + i));
    let number =
        "port: a number from 1 to 65535, or the name of a container port (at most 15 lower-case letters, digits and '-')";
    let end = "endPort needs a numbered port and must not be below it";
    let end_port = |bad: &str, breaks: &str, says: &str| {
        mistake(
            "[].endPort",
            breaks,
            &format!("[{{ port: 9000, endPort: {bad} }}]"),
            "[{ port: 9000, endPort: 9001 }]",
            "[0].endPort",
            says,
        )
    };
    vec![
        rule(
            "",
            "[]",
            "[{ port: 443 }]",
            "",
            "ports: name at least one port, or leave the field out for every port; an empty list would open every port",
        ),
        mistake("", "maxItems", &ports(17), &ports(16), "", "must have at most 16 items"),
        mistake("[]", "required port", "[{ protocol: UDP }]", "[{ port: 53, protocol: UDP }]", "[0].port", "Required value"),
        rule("[]", "[{ port: 0 }]", "[{ port: 1 }]", "[0]", number),
        rule("[]", "[{ port: 9010, endPort: 9000 }]", "[{ port: 9000, endPort: 9010 }]", "[0]", end),
        end_port("0", "minimum", "should be greater than or equal to 1"),
        end_port("65536", "maximum", "should be less than or equal to 65535"),
        end_port("3000000000", "format int32", "int32"),
        mistake(
            "[].protocol",
            "enum",
            "[{ port: 443, protocol: tcp }]",
            "[{ port: 443, protocol: TCP }]",
            "[0].protocol",
            "Unsupported value: \"tcp\": supported values: \"TCP\", \"UDP\", \"SCTP\"",
        ),
    ]
}
