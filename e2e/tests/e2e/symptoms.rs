//! `policy-baseline explain symptom`: the causes of what a person sees, from the cluster and from a dump of it.

use std::path::Path;
use std::process::Output;

use policy_baseline_e2e::World;
use serde_json::{Value, json};

use crate::before_closing::run;
use crate::explain_flow::{running, said, viewer};
use crate::scene::{Plan, apply_baseline, until_holds};
use crate::support::{TEAM, team};

/// Runs `explain symptom` with this kubeconfig, or without a cluster.
async fn symptom(kubeconfig: Option<&Path>, args: &[&str]) -> Output {
    run(kubeconfig, &[&["explain", "symptom"], args].concat()).await
}

/// The names of the causes in a state.
fn causes(output: &Output, code: i32, state: &str) -> Vec<String> {
    let answer: Value = serde_json::from_str(&said(output, code)).unwrap();
    let all = answer["causes"].as_array().unwrap().iter();
    all.filter(|cause| cause["state"] == state).map(|cause| cause["cause"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_viewer_learns_the_causes_of_each_symptom_and_a_dump_says_the_same() {
    let mut world = World::new().await.unwrap();
    apply_baseline(&world, "platform", &json!({ "namespaceSelector": team("a") })).await;
    world.start_operator().await.unwrap();
    let shop = world.namespace("shop", &[(TEAM, "a")]).await.unwrap();
    let ops = world.namespace("ops", &[]).await.unwrap();
    until_holds(&world, &shop, &Plan::of("platform")).await;
    running(&world, &shop, "web", "10.200.0.1").await;
    running(&world, &ops, "tool", "10.200.1.1").await;
    let (viewer, kubeconfig) = viewer(&world).await;
    let dump = world.plane().run_kubectl(&["get", "ns,pods,svc,endpointslices,netpol", "-A", "-o", "json"]).unwrap();
    let file = world.plane().state_dir().join("symptoms.json");
    std::fs::write(&file, dump).unwrap();

    let (from, to) = (format!("--from={ops}/tool"), format!("--to={shop}/web"));
    for (name, args, code, found) in [
        ("blocked", vec![&*from, &*to, "--port=8080"], 1, vec!["ingress-denied"]),
        ("blocked-though-allowed", vec![&*from, &*to, "--port=8080"], 1, vec!["one-direction"]),
        ("passes", vec![&*from, &*to, "--port=8080"], 0, vec![]),
        ("comes-and-goes", vec![&*from, &*to, "--port=8080"], 1, vec!["always-denied"]),
    ] {
        let args = [&[name][..], &args, &["-o", "json"]].concat();
        let of_cluster = symptom(Some(&kubeconfig), &args).await;
        let of_dump = symptom(None, &[&args[..], &["--dump", file.to_str().unwrap()]].concat()).await;
        for output in [&of_cluster, &of_dump] {
            let mut found_there = causes(output, code, "found");
            // Other suites may write DNS Services into the same cluster. The policy for monitoring is nearly a rule for this traffic.
            found_there.retain(|cause| !["dns-of-source", "namespace-labels"].contains(&&**cause));
            assert_eq!(found_there, found, "{name}");
        }
        assert!(causes(&of_dump, code, "notKnown").contains(&"other-kinds".to_owned()), "{name}: a dump does not say");
    }
    // A cluster without DNS has no DNS that policies could deny.
    let dns = symptom(Some(&kubeconfig), &["dns-hangs", "-n", &shop, "-o", "json"]).await;
    assert!(matches!(dns.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&dns.stderr));
    let nobody = symptom(Some(&kubeconfig), &["dns-hangs", "--from", &format!("{shop}/nobody")]).await;
    assert_eq!(nobody.status.code(), Some(2));
    let error = String::from_utf8_lossy(&nobody.stderr).into_owned();
    assert!(error.contains(&format!("error: there is no pod {shop}/nobody. ")), "{error}");
    world.plane().run_kubectl(&["delete", "clusterrolebinding", &viewer]).unwrap();
}
