//! The API server's messages for mistakes in a baseline: each rule and each bound of the CRD, with mistakes of a tired person.

mod mistake;
mod mistakes;
mod mistakes_of_allows;
mod offline;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::Stdio;

use futures::{StreamExt, stream};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::Api;
use policy_baseline_e2e::{TIMEOUT, World};
use serde_json::{Value, json};

use self::mistake::Mistake;
use self::mistakes_of_allows::mistakes_of_allows;
use crate::scene::baselines;

/// All mistakes.
fn mistakes() -> Vec<Mistake> {
    mistakes::mistakes().into_iter().chain(mistakes_of_allows()).collect()
}

/// A manifest from a name and a spec in YAML. Adds `mode: Enforce` if the spec does not contain the word `mode`.
fn manifest(name: &str, spec: &str) -> String {
    let spec = if spec.contains("mode") { spec.to_owned() } else { spec.replacen('{', "{ mode: Enforce, ", 1) };
    format!("{{ apiVersion: policybaseline.io/v1alpha1, kind: PolicyBaseline, metadata: {{ name: {name} }}, spec: {spec} }}")
}

/// The schema as it is shipped.
fn schema() -> Value {
    let crd: CustomResourceDefinition =
        serde_yaml::from_str(include_str!("../../../../crds/policybaselines.policybaseline.io.yaml")).unwrap();
    let [version] = &crd.spec.versions[..] else { panic!("more than one version") };
    serde_json::to_value(version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap()).unwrap()
}

/// Collects every rule and bound below a node of the schema, as `(where, which)`.
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
    let peers = (0..8).map(|i| json!({ "ipBlock": block(i) })).collect::<Vec<_>>();
    let rule = |list: &str| json!({ list: peers, "ports": (0..16).map(|i| json!({ "port": 1000 + i, "endPort": 2000 })).collect::<Vec<_>>() });
    let (ingress, egress) = (vec![rule("from"); 8], vec![rule("to"); 8]);
    let allows = (0..16).map(|i| json!({ "name": long(i, 30), "ingress": ingress, "egress": egress })).collect::<Vec<_>>();
    // One after the other, because all of it together is larger than etcd allows.
    for (what, spec) in [
        ("selector", json!({ "namespaceSelector": selector, "excludeNamespaces": excluded, "priority": i32::MAX })),
        ("addresses", json!({ "dns": { "peers": blocks, "ports": (0..16).map(|i| 65535 - i).collect::<Vec<_>>() } })),
        ("pods", json!({ "dns": { "peers": vec![both.clone(); 8] } })),
        ("allows", json!({ "allows": allows })),
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
        "{ priority: null, policies: null, allows: null }",
        "{ allows: [{ name: x, namespaceSelector: null, podSelector: null, egress: null, ingress: [{ ports: null, from: [{ sameNamespace: {}, ipBlock: null }] }] }] }",
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
        ("{ dns: { peers: [{ namespaceSelector: null, podSelector: {} }] } }", "one of the three"),
        ("{ allows: [{ name: x, ingress: [{ from: null }] }] }", "an empty list would let everybody in"),
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
        (
            "/allows",
            [
                "{ allows: [{ name: a, egress: [{ to: [{ sameNamespace: {} }] }], acknowledgeOpen: false }, { name: b, egress: [{ to: [{ kubernetesAPI: {} }] }], acknowledgeOpen: false }] }",
                "{ allows: [{ name: b, egress: [{ to: [{ kubernetesAPI: {} }] }], acknowledgeOpen: false }] }",
                "{ allows: [{ name: b, ingress: [{ from: [{ sameNamespace: {} }] }], acknowledgeOpen: false }] }",
            ],
        ),
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

/// Runs `kubectl create` with a manifest on stdin. Returns its output of both streams, and whether it succeeded.
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

/// Collects every object below a node of the schema, as `kubectl explain` names it, with the names of its fields.
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
    // kubectl's discovery cache is from before it applied the CRD, so it does not contain the CRD.
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
