//! Argo CD and Flux find what they may prune by marks, and what differs by an apply. The operator puts no mark on its policies and removes
//! those of others, and nothing that it writes makes an object differ from its manifest.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use policy_baseline::PolicyBaselineStatus;
use policy_baseline_e2e::{TIMEOUT, World};
use serde_json::json;

use super::SAMPLES;
use super::page::text_of_page;
use crate::opt_outs::{opt_out, seconds_from_now, until_says};
use crate::scene::{
    CARVEOUT, DENY_EGRESS, DENY_INGRESS, Plan, apply_baseline, baselines, condition, delete_baseline, merge, policies_of, tenant,
    until_event, until_holds, until_ready, until_status,
};
use crate::support::{TEAM, team, uids, until_finalizer, until_no_baseline};

const LABEL: &str = "app.kubernetes.io/instance";
const ANNOTATION: &str = "argocd.argoproj.io/tracking-id";
const BY_FLUX: &str = "kustomize.toolkit.fluxcd.io/name";

/// The applications that Argo CD would count the policy to: by the label, and by the annotation, which must name the policy itself.
fn applications(policy: &NetworkPolicy) -> Vec<String> {
    let by_label = policy.labels().get(LABEL).cloned();
    let its = format!(":networking.k8s.io/NetworkPolicy:{}/{}", policy.namespace().unwrap(), policy.name_any());
    let by_annotation = policy.annotations().get(ANNOTATION).and_then(|id| id.strip_suffix(&its)).map(str::to_owned);
    [by_label, by_annotation].into_iter().flatten().collect()
}

#[tokio::test]
async fn no_policy_counts_to_an_application_of_argo_cd_or_flux_whoever_is_marked_and_whoever_marks_it() {
    let mut world = World::new().await.unwrap();
    // As the tools mark what they apply: the baseline, and the namespace of a tenant.
    let marked = json!({
        "apiVersion": "policybaseline.io/v1alpha1", "kind": "PolicyBaseline",
        "metadata": {
            "name": "marked",
            "labels": { LABEL: "platform", "argocd.argoproj.io/instance": "platform", BY_FLUX: "platform" },
            "annotations": { ANNOTATION: "platform:policybaseline.io/PolicyBaseline:policy-baseline-system/marked" },
        },
        "spec": { "mode": "Enforce", "namespaceSelector": team("marked") },
    });
    world.apply_yaml(&marked.to_string()).await.unwrap();
    world.start_operator().await.unwrap();
    let ns = world.namespace("marked", &[(TEAM, "marked"), (LABEL, "shop"), (BY_FLUX, "shop")]).await.unwrap();
    let before = until_holds(&world, &ns, &Plan::of("marked")).await;
    let keys = before.values().flat_map(|policy| policy.labels().keys().chain(policy.annotations().keys()));
    let others: BTreeSet<&String> = keys.filter(|key| !key.starts_with("policybaseline.io/")).collect();
    assert_eq!(others, BTreeSet::from([&"app.kubernetes.io/managed-by".to_owned()]), "nothing was copied");
    assert!(before.values().all(|policy| applications(policy).is_empty() && policy.owner_references().is_empty()));

    // A tenant makes them look like a part of an application, so that a sync of it would prune them.
    let client = tenant(&world, &[&ns]).await;
    for name in [DENY_INGRESS, DENY_EGRESS, CARVEOUT] {
        let id = format!("shop:networking.k8s.io/NetworkPolicy:{ns}/{name}");
        let marks = json!({ "metadata": { "labels": { LABEL: "shop", BY_FLUX: "shop" }, "annotations": { ANNOTATION: id } } });
        let policy = merge(&policies_of(&client, &ns), name, "tenant", &marks).await;
        assert_eq!(applications(&policy), ["shop", "shop"], "the marks are those of Argo CD");
    }
    let after = until_holds(&world, &ns, &Plan::of("marked")).await;
    assert_eq!(uids(&after), uids(&before), "no policy was replaced");
    assert!(after.values().all(|policy| applications(policy).is_empty() && !policy.labels().contains_key(BY_FLUX)));
    for name in before.keys() {
        let event = until_event(&world, &client, &ns, "DriftRepaired", name).await;
        assert!(event.message.unwrap().contains("Pinned"), "{name}");
    }
}

#[tokio::test]
async fn a_baseline_that_asks_for_the_label_of_argo_cd_on_its_policies_is_refused_as_the_page_says() {
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    for (number, labels) in
        [json!({ LABEL: "platform" }), json!({ "argocd.argoproj.io/instance": "platform" })].into_iter().enumerate()
    {
        let name = format!("labelled-{number}");
        apply_baseline(&world, &name, &json!({ "namespaceSelector": team("none"), "metadata": { "labels": labels } })).await;
        let status = until_status(&world, &name, "it is refused", |status| condition(status, "Stalled").status == "True").await;
        let stalled = condition(&status, "Stalled");
        assert_eq!(stalled.reason, "InvalidMetadata", "{}", stalled.message);
        assert!(stalled.message.starts_with("spec.metadata.labels"), "{}", stalled.message);
    }
    let page = text_of_page();
    assert!(page.contains("`spec.metadata.labels`") && page.contains("`InvalidMetadata`"));
}

/// `kubectl diff` as the field manager of a tool. The API server says what an apply would change. The flags come before the manifests.
fn differences(world: &World, manager: &str, from: &[&str]) -> String {
    let manager = format!("--field-manager={manager}");
    let output = world.plane().kubectl().args(["diff", "--server-side", &manager]).args(from).output().unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.code().is_some_and(|code| code < 2), "{said}");
    assert_eq!(output.status.success(), said.is_empty(), "{said}");
    said
}

#[tokio::test]
async fn nothing_that_the_operator_writes_differs_from_what_argo_cd_or_flux_applied_and_prune_leaves_the_policies() {
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    let folder = format!("{SAMPLES}/clusters/production/baseline");
    let files = tempfile::tempdir().unwrap();
    let own = files.path().join("own.yaml");
    let own = own.to_str().unwrap();
    // The operator adds a finalizer to the one, and a label to the other.
    let object = |kind: &str, metadata, spec| json!({ "apiVersion": "policybaseline.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec });
    let spec = json!({ "mode": "Enforce", "deletionPolicy": "Delete", "namespaceSelector": team("applied") });
    let baseline = object("PolicyBaseline", json!({ "name": "applied" }), spec);
    let exception = opt_out("partner", &["DefaultDenyEgress"], seconds_from_now(3 * 3600)).spec;
    for manager in ["argocd-controller", "kustomize-controller"] {
        let by = format!("--field-manager={manager}");
        std::fs::write(own, baseline.to_string()).unwrap();
        let apply = |from: &[&str]| world.plane().run_kubectl(&[&["apply", "--server-side", &by][..], from].concat()).unwrap();
        apply(&["-k", &folder]);
        apply(&["-f", own]);
        crate::support::a_second_later(&world).await;
        let shop = world.namespace("shop", &[("tier", "prod")]).await.unwrap();
        let ns = world.namespace("applied", &[(TEAM, "applied")]).await.unwrap();
        let away = object("BaselineOptOut", json!({ "name": "partner", "namespace": ns }), json!(exception));
        std::fs::write(own, format!("{baseline}\n---\n{away}")).unwrap();
        apply(&["-f", own]);

        until_holds(&world, &shop, &Plan::of("default")).await;
        until_holds(&world, &ns, &Plan::of("applied").without("DefaultDenyEgress")).await;
        until_says(&world, &ns, "partner", "True WithinLimits").await;
        until_ready(&world, "default").await;
        let opted_out = |status: &PolicyBaselineStatus| condition(status, "Ready").reason == "NamespacesOptedOut";
        until_status(&world, "applied", "the opt-out counts", opted_out).await;
        until_finalizer(&world, "applied").await;
        for from in [["-k", &folder], ["-f", own]] {
            // kubectl reads the object before it asks what would change. In between, the operator may write a status.
            let in_sync = async || match differences(&world, manager, &from) {
                same if same.is_empty() => Ok(true),
                differs => Err(differs),
            };
            world.eventually(&format!("{manager} finds it in sync"), TIMEOUT, in_sync).await.unwrap();
        }
        // What is not in sync is seen.
        merge_spec(&world, "applied", &json!({ "mode": "Audit" })).await;
        let seen = differences(&world, manager, &["--force-conflicts", "-f", own]);
        assert!(seen.contains("mode: Enforce"), "{seen}");

        // Prune.
        let before: BTreeMap<_, _> = until_holds(&world, &shop, &Plan::of("default")).await;
        delete_baseline(&world, "default").await;
        until_no_baseline(&world, "default").await;
        delete_baseline(&world, "applied").await;
        until_no_baseline(&world, "applied").await;
        assert_eq!(uids(&until_holds(&world, &shop, &Plan::of("default")).await), uids(&before));
        world.plane().run_kubectl(&["delete", "namespace", &shop, &ns, "--wait=false"]).unwrap();
    }
}

async fn merge_spec(world: &World, name: &str, spec: &serde_json::Value) {
    let patch = kube::api::Patch::Merge(json!({ "spec": spec }));
    baselines(world).patch(name, &kube::api::PatchParams::default(), &patch).await.unwrap();
}
