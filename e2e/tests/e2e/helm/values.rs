//! What Helm says before it installs anything: the lint, and wrong values.

use std::fs;

use policy_baseline_e2e::{SYSTEM_NAMESPACE, World};
use serde_json::{Value, json};

use super::{CHART, RELEASE, helm, objects, refused, rendered};

#[tokio::test]
async fn the_chart_passes_the_strict_lint_with_every_set_of_values() {
    let world = World::bare().await.unwrap();
    assert!(helm(&world, &["version"]).contains("v4.3.1"));
    for more in [&[][..], &["--values=manifests/helm/values-production.yaml"], &["--namespace", SYSTEM_NAMESPACE]] {
        let said = helm(&world, &[&["lint", "--strict", CHART], more].concat());
        assert!(said.contains("1 chart(s) linted, 0 chart(s) failed"), "{said}");
        assert!(!said.contains("[WARNING]") && !said.contains("[ERROR]"), "{said}");
    }
}

#[tokio::test]
async fn a_wrong_value_is_refused_with_its_path() {
    let world = World::bare().await.unwrap();
    for (values, said) in [
        (json!({ "replica": 3 }), "additional properties 'replica' not allowed"),
        (
            json!({ "components": { "no-gap": { "enabled": true } } }),
            "at '/components': additional properties 'no-gap' not allowed",
        ),
        (json!({ "components": { "protect": { "enable": true } } }), "at '/components/protect': additional properties 'enable'"),
        (
            json!({ "components": { "protect": { "enabled": "yes" } } }),
            "at '/components/protect/enabled': got string, want boolean",
        ),
        (json!({ "components": { "optOutRules": { "maxDuration": "30d" } } }), "at '/components/optOutRules/maxDuration': '30d'"),
        (json!({ "components": { "labelHygiene": { "labels": [] } } }), "at '/components/labelHygiene/labels': minItems"),
        (json!({ "components": { "sanePolicies": { "validationActions": { "dns": ["deny"] } } } }), "/validationActions/dns': "),
        (json!({ "components": { "noHostNetwork": { "validationActions": ["Warn", "Deny"] } } }), "/validationActions': "),
        (json!({ "name": "Policy_Baseline" }), "at '/name': 'Policy_Baseline' does not match pattern"),
        (json!({ "replicas": -1 }), "at '/replicas': minimum"),
        (json!({ "image": "mine:1" }), "at '/image': got string, want object"),
        (json!({ "networkPolicy": { "apiServerPorts": [] } }), "at '/networkPolicy/apiServerPorts': minItems"),
        // Helm takes away a default that is null. Without ports, the rule would allow all of them.
        (json!({ "networkPolicy": { "apiServerPorts": null } }), "at '/networkPolicy': missing property 'apiServerPorts'"),
        (json!({ "components": { "optOutRules": { "approverRequired": null } } }), "missing property 'approverRequired'"),
        (json!({ "image": { "repository": null } }), "at '/image': missing property 'repository'"),
    ] {
        let file = world.plane().state_dir().join("wrong.json");
        fs::write(&file, values.to_string()).unwrap();
        let all = ["template", RELEASE, CHART, "--namespace", SYSTEM_NAMESPACE, "--values", file.to_str().unwrap()];
        let message = refused(&world, &all);
        assert!(message.contains(said) && message.matches("\n- at ").count() == 1, "{values}: {message}");
    }
}

#[tokio::test]
async fn the_namespace_default_is_refused_because_nothing_would_close_it() {
    let world = World::bare().await.unwrap();
    let said = refused(&world, &["template", RELEASE, CHART]);
    assert!(
        said.contains("install it in a namespace of its own: --namespace policy-baseline-system --create-namespace"),
        "{said}"
    );
}

/// `global` reaches a chart that another chart contains.
#[tokio::test]
async fn another_chart_may_contain_this_one() {
    let world = World::bare().await.unwrap();
    let dir = world.plane().state_dir().join("parent");
    fs::create_dir_all(dir.join("charts")).unwrap();
    fs::write(dir.join("Chart.yaml"), "apiVersion: v2\nname: parent\nversion: 1.0.0\n").unwrap();
    fs::write(dir.join("values.yaml"), "global: {team: platform}\npolicy-baseline: {replicas: 3}\n").unwrap();
    let to = dir.join("charts");
    helm(&world, &["package", CHART, "--destination", to.to_str().unwrap()]);
    let all = objects(&helm(&world, &["template", "parent", dir.to_str().unwrap(), "--namespace", "other"]));
    assert_eq!(all["Deployment/other/policy-baseline"]["spec"]["replicas"], 3);
}

#[tokio::test]
async fn the_values_of_the_deployment_and_of_its_policy_reach_them() {
    let world = World::bare().await.unwrap();
    let values = json!({
        "image": { "repository": "registry.example/policy-baseline", "tag": "1.2.3", "pullPolicy": "Always" },
        "imagePullSecrets": [{ "name": "registry" }], "nodeSelector": { "pool": "system" },
        "tolerations": [{ "key": "system", "operator": "Exists" }], "topologySpreadConstraints": [{ "maxSkew": 1,
            "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway" }],
        "affinity": { "nodeAffinity": {} }, "priorityClassName": "", "podLabels": { "team": "platform", "app.kubernetes.io/name": "mine" },
        "podAnnotations": { "note": "1" }, "extraArgs": ["--log-format=text"], "extraEnv": [{ "name": "RUST_LOG", "value": "debug" }],
        "networkPolicy": { "apiServerPorts": [16443], "scrapers": [], "dns": [{ "ipBlock": { "cidr": "10.0.0.10/32" } }] },
    });
    let file = world.plane().state_dir().join("values.json");
    fs::write(&file, values.to_string()).unwrap();
    let arguments = ["--namespace", SYSTEM_NAMESPACE, "--values", file.to_str().unwrap()];
    let all = objects(&rendered(&world, &arguments));
    let template = &all[&format!("Deployment/{SYSTEM_NAMESPACE}/policy-baseline")]["spec"]["template"];
    let labels = json!({ "team": "platform", "app.kubernetes.io/name": "policy-baseline" });
    assert_eq!(template["metadata"], json!({ "labels": labels, "annotations": { "note": "1" } }), "the selector still matches");
    let pod = &template["spec"];
    for field in ["affinity", "imagePullSecrets", "nodeSelector", "tolerations", "topologySpreadConstraints"] {
        assert_eq!(pod[field], values[field], "{field}");
    }
    assert_eq!(pod["priorityClassName"], Value::Null);
    let container = &pod["containers"][0];
    assert_eq!(container["image"], "registry.example/policy-baseline:1.2.3");
    assert_eq!(container["imagePullPolicy"], "Always");
    assert_eq!(container["args"], json!(["run", "--admin-address=0.0.0.0:8080", "--log-format=text"]));
    assert_eq!(container["env"].as_array().unwrap().last(), Some(&values["extraEnv"][0]));
    let policy = &all[&format!("NetworkPolicy/{SYSTEM_NAMESPACE}/policy-baseline")]["spec"];
    assert_eq!(
        (&policy["ingress"], &policy["egress"][0]["ports"]),
        (&Value::Null, &json!([{ "protocol": "TCP", "port": 16443 }]))
    );
    assert_eq!(policy["egress"][1]["to"], values["networkPolicy"]["dns"]);

    let digest = format!("--set=image.digest=sha256:{}", "a".repeat(64));
    let all = objects(&rendered(&world, &["--namespace", SYSTEM_NAMESPACE, &digest, "--set=networkPolicy.enabled=false"]));
    let image =
        &all[&format!("Deployment/{SYSTEM_NAMESPACE}/policy-baseline")]["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(image.as_str().unwrap(), format!("policy-baseline@sha256:{}", "a".repeat(64)));
    assert!(!all.contains_key(&format!("NetworkPolicy/{SYSTEM_NAMESPACE}/policy-baseline")));
}
