//! The examples of docs/lint.md, each as a test: every rule fires on the marked lines of its bad example, and nothing else does. And what must
//! never be found: anything in what the operator renders.

use proptest::prelude::*;

use super::*;
use crate::policy::flow::FlowNamespace;

const PAGE: &str = "docs/lint.md";
/// What stands between two files in an example.
const ANOTHER_FILE: &str = "# Another file:\n";

fn file(path: &str) -> String {
    std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn baseline(path: &str) -> PreviewedBaseline {
    PreviewedBaseline::read(&file(path), "policy-baseline-system").unwrap()
}

/// The findings in a text, as id, line and message.
fn found(text: &str, baseline: Option<&PreviewedBaseline>) -> Vec<(&'static str, u32, String)> {
    // Each part stands in its file at the line that it has here.
    let mut sources: Vec<ManifestText> = Vec::new();
    for part in text.split_inclusive(ANOTHER_FILE) {
        let before: usize = sources.last().map_or(0, |source| source.text.lines().count());
        let name = format!("x{}.yaml", sources.len());
        sources.push(ManifestText { name, text: format!("{}{part}", "\n".repeat(before)) });
    }
    let now = "2026-01-01T00:00:00.336562078Z".parse().unwrap();
    let settings = LintSettings { baseline, operator_namespace: "policy-baseline-system", now, ..LintSettings::default() };
    let report = lint(&sources, &settings);
    report.findings.into_iter().map(|one| (one.rule.id(), one.place.line, one.message)).collect()
}

/// The ids in the comments of a text, with their lines.
fn marked(text: &str) -> Vec<(&str, u32)> {
    let marks = text.lines().zip(1..).filter_map(|(line, number)| Some((line.split_once("  # PB")?.1, number)));
    marks
        .map(|(id, number)| {
            (text.lines().nth(number as usize - 1).map(|line| &line[line.len() - id.len() - 2..]).unwrap(), number)
        })
        .collect()
}

/// The section of a rule on the page: what it says, and its two examples.
fn section(page: &str, rule: LintRule) -> [String; 3] {
    let head = format!("\n### {} {}\n", rule.id(), rule.name());
    let (_, section) = page.split_once(&head).unwrap_or_else(|| panic!("{PAGE} has no section {head:?}"));
    let mut parts = section.split("```yml\n").map(str::to_owned);
    let mut example = || parts.next().unwrap().split("```").next().unwrap().to_owned();
    [example(), example(), example()]
}

#[test]
fn each_rule_fires_on_the_marked_lines_of_its_bad_example_and_nothing_in_its_good_one() {
    let page = file(PAGE);
    let beside = baseline("docs/examples/baseline.yaml");
    let mut wrong = Vec::new();
    for rule in LintRule::all() {
        let [_, bad, good] = section(&page, rule);
        let beside = rule.id().starts_with("PB8").then_some(&beside);
        let expected = marked(&bad);
        let hits = found(&bad, beside);
        let places: Vec<(&str, u32)> = hits.iter().map(|(id, line, _)| (*id, *line)).collect();
        if places != expected || !expected.iter().any(|(id, _)| *id == rule.id()) {
            wrong.push(format!("{}: expected {expected:?}, found {hits:#?}\n{bad}", rule.id()));
        }
        let hits = found(&good, beside);
        if !hits.is_empty() {
            wrong.push(format!("{}: the good example has {hits:#?}\n{good}", rule.id()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_page_says_what_each_rule_finds_and_how_bad_that_is() {
    let page = file(PAGE);
    for rule in LintRule::all() {
        let severity: &str = rule.severity().into();
        let row = format!(
            "| [{id}](#{low}-{name}) | `{name}` | {severity} | {finds} |\n",
            id = rule.id(),
            low = rule.id().to_lowercase(),
            name = rule.name(),
            finds = rule.finds()
        );
        assert!(page.contains(&row), "{PAGE} lacks the row\n{row}");
        let [text, ..] = section(&page, rule);
        let said = format!("{}. Severity: {severity}.", rule.finds());
        assert!(text.to_lowercase().contains(&said.to_lowercase()), "{}: {text}", rule.id());
    }
    assert_eq!(page.matches("\n### PB").count(), LintRule::all().count());
}

#[test]
fn nothing_is_found_in_what_the_operator_renders() {
    let mut rendered = 0;
    let samples = ["minimal", "annotated", "pci-strict", "dns", "in-waves"].map(|name| format!("manifests/samples/{name}.yaml"));
    let allows = std::fs::read_dir(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/samples/allows")).unwrap();
    let allows = allows.map(|entry| format!("manifests/samples/allows/{}", entry.unwrap().file_name().to_string_lossy()));
    for path in samples.into_iter().chain(allows) {
        assert_eq!(found(&file(&path), None), [], "{path} itself");
        let baseline = baseline(&path);
        let mut documents = Vec::new();
        for (name, labels) in [
            ("shop", vec![("tier", "prod"), ("team", "shop"), ("pci", "true")]),
            ("monitoring", vec![]),
            ("istio-system", vec![]),
            ("linkerd", vec![]),
            ("opentelemetry", vec![]),
            ("mesh", vec![("istio.io/dataplane-mode", "ambient"), ("policybaseline.io/mesh", "linkerd")]),
        ] {
            let mut namespace = FlowNamespace::named(name);
            namespace.labels.extend(labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())));
            for policy in baseline.planned(&namespace) {
                documents.push(serde_yaml::to_string(&policy.object(name, None)).unwrap());
                rendered += 1;
            }
        }
        let text = documents.join("---\n");
        assert_eq!(found(&text, None), [], "{path}");
        assert_eq!(found(&text, Some(&baseline)), [], "{path} beside itself");
    }
    assert!(rendered > 100, "{rendered}");
}

#[test]
fn nothing_is_found_in_good_policies() {
    let good = file("src/policy/lint/good.yaml");
    assert_eq!(found(&good, None), []);
    // And each of them alone, with the workloads.
    let workloads = good.split("---\n").filter(|one| one.contains("kind: Deployment") || one.contains("kind: List"));
    let workloads: Vec<&str> = workloads.collect();
    let mut policies = 0;
    for policy in good.split("---\n").filter(|one| one.contains("kind: NetworkPolicy\n")) {
        let hits = found(&format!("{policy}---\n{}", workloads.join("---\n")), None);
        // Alone, no other policy allows DNS.
        let others: Vec<_> = hits.iter().filter(|(id, ..)| *id != "PB101").collect();
        assert!(others.is_empty(), "{policy}: {others:#?}");
        policies += 1;
    }
    assert!(policies >= 10, "{policies}");
}

proptest! {
    #[test]
    fn whatever_the_text_is_each_finding_is_at_a_line_of_it(cuts in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..9), 0..12)) {
        let mut text: Vec<char> = file("src/policy/lint/good.yaml").chars().collect();
        for (at, what) in cuts {
            let at = at.index(text.len().max(1));
            match what {
                0 if text.is_empty() => {}
                0 => drop(text.remove(at)),
                1 => text.truncate(at.max(1)),
                what => text.insert(at, [':', '-', '\n', '{', '}', '[', '"', ' '][what - 2]),
            }
        }
        let text: String = text.into_iter().collect();
        let lines = u32::try_from(text.lines().count()).unwrap();
        for (id, line, message) in found(&text, None) {
            prop_assert!((1..=lines + 1).contains(&line), "{id} at line {line} of {lines}: {message}");
        }
    }
}

#[test]
fn a_policy_for_dns_with_a_wider_selector_is_one_for_these_pods_too() {
    let web = |labels: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: web, namespace: shop}}\nspec:\n  podSelector: {{matchLabels: {labels}}}\n  policyTypes: [Egress]\n  egress: [{{to: [{{podSelector: {{}}}}], ports: [{{port: 5432}}]}}]\n"
        )
    };
    let dns = |selector: &str| {
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: dns, namespace: shop}}\nspec:\n  podSelector: {selector}\n  policyTypes: [Egress]\n  egress: [{{to: [{{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: kube-system}}}}, podSelector: {{matchLabels: {{k8s-app: kube-dns}}}}}}], ports: [{{port: 53, protocol: UDP}}, {{port: 53}}]}}]\n"
        )
    };
    let ids = |selector: &str| -> Vec<&str> {
        let text = web("{part-of: shop, app: web}") + &dns(selector);
        found(&text, None).into_iter().map(|(id, ..)| id).filter(|id| *id == "PB101").collect()
    };
    for wider in [
        "{matchLabels: {part-of: shop}}",
        "{matchExpressions: [{key: app, operator: In, values: [web, api]}]}",
        "{matchExpressions: [{key: app, operator: NotIn, values: [db]}]}",
        "{matchExpressions: [{key: app, operator: Exists}]}",
    ] {
        assert_eq!(ids(wider), [""; 0], "{wider}");
    }
    for other in [
        "{matchLabels: {part-of: bank}}",
        "{matchLabels: {part-of: shop, tier: front}}",
        "{matchExpressions: [{key: app, operator: NotIn, values: [web]}]}",
        "{matchExpressions: [{key: tier, operator: NotIn, values: [db]}]}",
    ] {
        assert_eq!(ids(other), ["PB101"], "{other}");
    }
}

#[test]
fn a_kind_that_no_api_server_has_is_refused_if_a_policy_is_meant() {
    let of = |head: &str| -> Vec<(&str, u32)> {
        let text = format!("{head}\nmetadata: {{name: a, namespace: b}}\nspec: {{podSelector: {{}}}}\n");
        found(&text, None).into_iter().map(|(id, line, _)| (id, line)).collect()
    };
    for (version, kind) in [
        ("networking.k8s.io/v1", "NetworkPolicies"),
        ("networking.k8s.io/v1", "Networkpolicy"),
        ("networking/v1", "NetworkPolicy"),
        ("v1", "NetworkPolicys"),
    ] {
        assert_eq!(
            of(&format!("apiVersion: {version}\nkind: {kind}")).first().map(|(id, _)| *id),
            Some("PB002"),
            "{version} {kind}"
        );
    }
    assert_eq!(of("apiVersion: networking.k8s.io/v1\nKind: NetworkPolicy").first().map(|(id, _)| *id), Some("PB002"));
    for other in [
        "apiVersion: crd.projectcalico.org/v1\nkind: NetworkPolicy",
        "apiVersion: networking.k8s.io/v1\nkind: Ingress",
        "apiVersion: v1\nkind: Service",
    ] {
        assert_eq!(of(other), [], "{other}");
    }
}

#[test]
fn objects_of_json_may_follow_each_other() {
    let policy = |port: u32| {
        format!(
            "{{\"apiVersion\": \"networking.k8s.io/v1\", \"kind\": \"NetworkPolicy\",\n \"metadata\": {{\"name\": \"p{port}\", \"namespace\": \"b\"}},\n \"spec\": {{\"podSelector\": {{}}, \"ingress\": [{{\"ports\": [{{\"port\": {port}}}]}}]}}}}\n"
        )
    };
    let text = policy(80) + "\n" + &policy(80800) + &policy(443);
    let refused: Vec<u32> = found(&text, None).into_iter().filter(|(id, ..)| *id == "PB002").map(|(_, line, _)| line).collect();
    assert_eq!(refused, [7], "{text}");
}

fn refused_lines(text: &str) -> Vec<(&'static str, u32)> {
    found(text, None).into_iter().map(|(id, line, _)| (id, line)).collect()
}

#[test]
fn an_entry_that_the_api_server_refuses_is_one_mistake_and_two_that_cover_each_other_are_one_too() {
    let of = |rules: &str| {
        let head = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a, namespace: b}\nspec:\n  podSelector: {}\n  ingress:\n";
        refused_lines(&format!("{head}{rules}\n"))
    };
    for (rules, expected) in [
        // Port 0 is there twice, and 1-65535 would cover it.
        ("  - ports:\n    - port: 0\n    - port: 0\n    - {}", vec![("PB002", 8), ("PB002", 9)]),
        ("  - from:\n    - ipBlock: {cidr: 10.9.0.1/24}\n    - ipBlock: {cidr: 10.9.0.0/24}", vec![("PB405", 8)]),
        ("  - from:\n    - {}\n    - {}", vec![("PB002", 8), ("PB002", 9)]),
        // A rule with such an entry is not compared with another one either.
        ("  - ports: [{port: 0}]\n  - ports: [{port: 0}]", vec![("PB002", 7), ("PB002", 8)]),
        // The others still are.
        ("  - ports:\n    - port: 0\n    - port: 80\n    - port: 80", vec![("PB002", 8), ("PB701", 10)]),
        // Both select every pod of every namespace.
        (
            "  - ports: [{port: 80}]\n    from:\n    - {namespaceSelector: {}}\n    - {namespaceSelector: {}, podSelector: {}}",
            vec![("PB702", 10)],
        ),
        (
            "  - ports: [{port: 80}]\n    from:\n    - podSelector: {}\n    - podSelector: {matchLabels: {}}\n    - podSelector: {matchExpressions: []}",
            vec![("PB702", 10), ("PB702", 11)],
        ),
    ] {
        assert_eq!(of(rules), expected, "{rules}");
    }
}

#[test]
fn a_policy_on_purpose_for_pods_on_the_host_network_may_say_so_itself() {
    let text = |ignore: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: all, namespace: shop{ignore}}}\nspec: {{podSelector: {{}}}}\n---\napiVersion: v1\nkind: Pod\nmetadata: {{name: agent, namespace: shop}}\nspec: {{hostNetwork: true, containers: []}}\n"
        )
    };
    assert_eq!(refused_lines(&text("")), [("PB604", 9)]);
    let ignore = ", annotations: {policybaseline.io/lint-ignore: PB604=it is for the others}";
    assert_eq!(refused_lines(&text(ignore)), []);
    let both = text("") + "---\n" + &text(ignore).replace("name: all", "name: other");
    let messages: Vec<String> = found(&both, None).into_iter().map(|(.., message)| message).collect();
    assert!(messages.iter().all(|message| message.ends_with("selected by all")), "{messages:?}");
}

#[test]
fn numbers_without_a_fraction_are_integers_as_for_kubectl() {
    let port = |port: &str| {
        refused_lines(&format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: a, namespace: b}}\nspec: {{podSelector: {{}}, ingress: [{{ports: [{{port: {port}}}]}}]}}\n"
        ))
    };
    for fine in ["80.0", "8e1", "80"] {
        assert_eq!(port(fine), [], "{fine}");
    }
    for wrong in ["80.5", "80.0e9", "-80.0"] {
        assert_eq!(port(wrong), [("PB002", 4)], "{wrong}");
    }
}

#[test]
fn the_same_object_with_other_content_in_two_files_is_named_unless_it_has_no_namespace() {
    let policy = |metadata: &str, app: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{{metadata}}}\nspec: {{podSelector: {{matchLabels: {{app: {app}}}}}}}\n"
        )
    };
    let ids = |one: &str, other: &str| -> Vec<&str> {
        let text = format!("{}{ANOTHER_FILE}{}", policy(one, "web"), policy(other, "db"));
        found(&text, None).into_iter().map(|(id, ..)| id).filter(|id| *id != "PB007").collect()
    };
    assert_eq!(ids("name: a, namespace: b", "name: a, namespace: b"), ["PB704"]);
    assert_eq!(ids("name: a, namespace: b", "name: a, namespace: c"), [""; 0]);
    assert_eq!(ids("name: a", "name: a"), [""; 0]);
    let one = policy("name: a, namespace: b", "web");
    assert_eq!(found(&format!("{one}{ANOTHER_FILE}{one}"), None), [], "a copy does no harm");
    let text = format!("{one}{ANOTHER_FILE}{}", policy("name: a, namespace: b", "db"));
    let (_, line, message) = found(&text, None).remove(0);
    assert_eq!(line, 8);
    assert!(message.starts_with("the same object with other content is in x0.yaml, line 3. In one cluster only"), "{message}");
}

#[test]
fn what_a_baseline_opens_too_wide_or_never_writes_is_named() {
    let ids = |spec: &str| -> Vec<(&'static str, String)> {
        let text = format!(
            "apiVersion: policybaseline.io/v1alpha1\nkind: PolicyBaseline\nmetadata: {{name: p}}\nspec: {{mode: Enforce, {spec}}}\n"
        );
        found(&text, None).into_iter().map(|(id, _, message)| (id, message)).collect()
    };
    let only = |spec: &str| ids(spec).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    for wide in ["0.0.0.0/0", "128.0.0.0/1", "::/0"] {
        assert_eq!(only(&format!("dns: {{peers: [{{ipBlock: {{cidr: {wide:?}}}}}]}}")), ["PB401"], "{wide}");
    }
    assert_eq!(only("dns: {peers: [{ipBlock: {cidr: 10.0.0.0/8}}]}"), [""; 0]);
    let api = "allows: [{name: api, egress: [{to: [{kubernetesAPI: {}}]}], ingress: [{from: [{sameNamespace: {}}]}]}]";
    assert_eq!(only(api), [""; 0], "by default, all policies are planned");
    assert_eq!(only(&format!("policies: [DefaultDenyIngress], {api}")), ["PB303"]);
    assert_eq!(only(&format!("policies: [MonitoringCarveout], {api}")), ["PB303"; 3]);
    assert_eq!(only("policies: [DefaultDenyEgress, MonitoringCarveout]"), ["PB303"]);
}

#[test]
fn an_opt_out_is_judged_by_the_baseline_as_the_operator_does() {
    let limits = "apiVersion: policybaseline.io/v1alpha1\nkind: PolicyBaseline\nmetadata: {name: p}\nspec: {mode: Enforce, excludeNamespaces: [free], optOuts: {maxDuration: 48h, allowedPolicies: [DefaultDenyEgress]}}\n";
    let beside = PreviewedBaseline::read(limits, "policy-baseline-system").unwrap();
    let of = |metadata: &str, policies: &str, until: &str| -> Vec<(&'static str, u32, String)> {
        let text = format!(
            "apiVersion: policybaseline.io/v1alpha1\nkind: BaselineOptOut\nmetadata: {{name: x, {metadata}}}\nspec:\n  policies: [{policies}]\n  reason: the importer calls partners\n  expiresAt: {until}\n"
        );
        found(&text, Some(&beside))
    };
    let egress = "DefaultDenyEgress";
    assert_eq!(of("namespace: shop", egress, "2026-01-02T00:00:00Z"), []);
    for (metadata, policies, until, line, begins) in [
        (
            "namespace: shop",
            "DefaultDenyIngress",
            "2026-01-02T00:00:00Z",
            5,
            "baseline p allows no opt-out from DefaultDenyIngress",
        ),
        ("namespace: shop", egress, "2026-01-04T00:00:00Z", 7, "it ends at 2026-01-04T00:00:00Z, but baseline p allows 48h"),
        ("namespace: shop", egress, "2025-12-31T00:00:00Z", 7, "spec.expiresAt is 2025-12-31T00:00:00Z, which is over: "),
        (
            "namespace: shop, creationTimestamp: 2025-12-30T00:00:00Z",
            egress,
            "2025-12-31T00:00:00Z",
            7,
            "it expired at 2025-12-31T00:00:00Z",
        ),
    ] {
        let hits = of(metadata, policies, until);
        assert!(matches!(&*hits, [("PB805", at, message)] if *at == line && message.starts_with(begins)), "{begins}: {hits:?}");
        assert!(!hits[0].2.contains(".336"), "whole seconds: {hits:?}");
    }
    // It was created two days ago, and has a day left.
    assert_eq!(of("namespace: shop, creationTimestamp: 2025-12-31T00:00:00Z", egress, "2026-01-02T00:00:00Z"), []);
    assert_eq!(of("namespace: free", "DefaultDenyIngress", "2027-01-01T00:00:00Z"), [], "another baseline may apply there");
}

#[test]
fn monitoring_that_may_not_send_is_named_also_where_the_baseline_does_not_select_its_namespace() {
    let outside = "apiVersion: policybaseline.io/v1alpha1\nkind: PolicyBaseline\nmetadata: {name: p}\nspec: {mode: Enforce, excludeNamespaces: [monitoring]}\n";
    let beside = PreviewedBaseline::read(outside, "policy-baseline-system").unwrap();
    let text = |namespace: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: prometheus, namespace: {namespace}}}\nspec:\n  podSelector: {{}}\n  policyTypes: [Egress]\n  egress: [{{to: [{{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: kube-system}}}}}}], ports: [{{port: 53, protocol: UDP}}, {{port: 53}}]}}]\n"
        )
    };
    let hits = found(&text("monitoring"), Some(&beside));
    assert!(matches!(&*hits, [("PB803", 5, message)] if message.ends_with("Allow egress to the scraped pods")), "{hits:?}");
    assert_eq!(found(&text("kube-public"), Some(&beside)), []);
}
