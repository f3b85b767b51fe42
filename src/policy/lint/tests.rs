//! The examples of docs/lint.md, each as a test: every rule fires on the marked lines of its bad example, and nothing else does. And what must
//! never be found: anything in what the operator renders.

use proptest::prelude::*;

use super::*;
use crate::policy::flow::FlowNamespace;

const PAGE: &str = "docs/lint.md";

fn file(path: &str) -> String {
    std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn baseline(path: &str) -> PreviewedBaseline {
    PreviewedBaseline::read(&file(path), "policy-baseline-system").unwrap()
}

/// The findings in a text, as id, line and message.
fn found(text: &str, baseline: Option<&PreviewedBaseline>) -> Vec<(&'static str, u32, String)> {
    let sources = [ManifestText { name: "x.yaml".into(), text: text.into() }];
    let settings = LintSettings { baseline, operator_namespace: "policy-baseline-system", ..LintSettings::default() };
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
