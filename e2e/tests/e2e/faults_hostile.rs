//! Hostile input: as long, as large, as many and as strange as the API server accepts, and even stranger. The operator does not panic,
//! continues to serve others, does not use more memory, and reports what is wrong.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use policy_baseline_e2e::proxy::{EventFault, When};
use policy_baseline_e2e::{TIMEOUT, World, skipped_without_audit_log};
use serde_json::{Value, json};

use crate::faults::{PLACE, PLATFORM, Play, Step};
use crate::faults_storms::resident;
use crate::faults_watches::{WATCHED, expire_watches};
use crate::scene::{
    CARVEOUT, DENY_EGRESS, DENY_INGRESS, Plan, apply_baseline, baselines, delete_baseline, merge, policies_of, until_event,
    until_holds, until_status,
};
use crate::support::{namespaces, until_no_baseline};

/// The largest size of all annotations of an object together, in bytes.
const ANNOTATIONS: usize = 256 << 10;

/// A play with three protected namespaces. None if there is no audit log.
async fn protected() -> Option<Play> {
    if skipped_without_audit_log() {
        return None;
    }
    let mut play = Play::new().await;
    play.next_act(3).await;
    play.perform(Step::Bootstrap).await;
    Some(play)
}

fn policy(name: &str, spec: &Value) -> NetworkPolicy {
    serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).unwrap()
}

/// Many rules, all different.
fn rules(many: usize) -> Value {
    let rule = |n: usize| json!({ "from": [{ "ipBlock": { "cidr": format!("10.{}.{}.0/24", n / 256, n % 256) } }] });
    (0..many).map(rule).collect()
}

impl Play {
    /// Creates a policy that belongs to a tenant.
    async fn own_policy(&mut self, namespace: &str, spec: &Value) {
        let name = World::unique("own");
        let made =
            policies_of(&self.world.admin(), namespace).create(&PostParams::default(), &policy(&name, spec)).await.unwrap();
        self.judge.space(namespace).theirs.insert(name, crate::scene::version(&made));
    }

    /// Patches one of our policies as that field manager.
    async fn spoil(&mut self, namespace: &str, policy: &str, manager: &str, patch: &Value) {
        let spoilt = merge(&policies_of(&self.world.admin(), namespace), policy, manager, patch).await;
        self.judge.edited(namespace, policy, spoilt.metadata.uid.as_deref().unwrap());
    }

    /// Checks that nobody else waits, and that the memory has not grown.
    async fn ends(mut self, what: &str, before: u64) {
        self.converge().await;
        let after = resident(self.world.operator().unwrap().pid());
        println!("{what}: resident {before} MB before, {after} MB after");
        assert!(after < before + 64, "memory grew from {before} MB to {after} MB");
        self.tell(what);
        self.finish().await;
    }

    fn resident(&self) -> u64 {
        resident(self.world.operator().unwrap().pid())
    }
}

#[tokio::test]
async fn names_and_labels_at_their_limits_are_planned_like_any_other() {
    let Some(mut play) = protected().await else { return };
    let before = play.resident();
    let key = |n: usize| format!("{}.{}/{}{n:03}", "p".repeat(63), "example".repeat(8), "k".repeat(60));
    let labels: BTreeMap<String, String> = (0..200).map(|n| (key(n), "v".repeat(63))).collect();
    for n in 0..3 {
        let name = format!("{}-{}{n}", World::unique("limit"), "n".repeat(60));
        let name = name[..63].trim_end_matches('-').to_owned();
        let name = format!("{}{n}", &name[..name.len() - 1]);
        play.make(&name).await;
        let patch = Patch::Merge(json!({ "metadata": { "labels": labels } }));
        namespaces(&play.world).patch(&name, &PatchParams::default(), &patch).await.unwrap();
    }
    play.converge().await;

    // A baseline all of whose names are as long as possible. It takes over one of the namespaces.
    let long = format!("b{}", "-b".repeat(31));
    let extra: BTreeMap<String, String> = (0..16).map(|n| (key(n), "v".repeat(63))).collect();
    let prefix = format!("{}-", "x".repeat(39));
    let place = "v".repeat(63);
    let spec = json!({
        "namespaceSelector": { "matchLabels": { key(0): place, PLACE: "long" } },
        "metadata": { "namePrefix": prefix, "labels": extra },
    });
    apply_baseline(&play.world, &long, &spec).await;
    let name = play.world.namespace("long", &[(&key(0), &place), (PLACE, "long")]).await.unwrap();
    let wanted = extra.iter().fold(Plan::of(&long).prefix(&prefix), |plan, (key, value)| plan.label(key, value));
    until_holds(&play.world, &name, &wanted).await;
    let policies = policies_of(&play.world.admin(), &name);
    policies.delete(&format!("{prefix}default-deny-ingress"), &DeleteParams::default()).await.unwrap();
    until_holds(&play.world, &name, &wanted).await;
    delete_baseline(&play.world, &long).await;
    until_no_baseline(&play.world, &long).await;

    let refused = play.world.try_apply_yaml(&crate::scene::baseline(&"b".repeat(64), &json!({}))).await.unwrap_err();
    assert!(refused.contains("at most 63 characters"), "{refused}");
    play.ends("names and labels at their limits", before).await;
}

#[tokio::test]
async fn objects_that_are_full_to_the_limit_are_seen_and_repaired() {
    let Some(mut play) = protected().await else { return };
    let before = play.resident();
    let [first, second, third] = play.cast().to_vec().try_into().unwrap();
    // Fills the annotations up to the limit, with what is already there.
    let full =
        |taken: usize| json!({ "metadata": { "annotations": { "example.com/full": "é".repeat((ANNOTATIONS - taken) / 2) } } });
    let patch = Patch::Merge(full(2000));
    namespaces(&play.world).patch(&first, &PatchParams::default(), &patch).await.unwrap();
    baselines(&play.world).patch(PLATFORM, &PatchParams::default(), &patch).await.unwrap();
    for round in 0..3 {
        let hole = json!({ "spec": { "ingress": [{}], "egress": [{}], "policyTypes": ["Ingress", "Egress"] } });
        for name in [&first, &second] {
            let mut patch = full(2000);
            patch["spec"] = hole["spec"].clone();
            patch["metadata"]["labels"] = json!({ "policybaseline.io/id": format!("forged-{round}") });
            play.spoil(name, DENY_INGRESS, "tenant", &patch).await;
        }
        // Leaves no room for our own annotations.
        let mut nothing_left = full(22);
        nothing_left["spec"] = hole["spec"].clone();
        for ours in ["policybaseline.io/plan", "policybaseline.io/about"] {
            nothing_left["metadata"]["annotations"][ours] = Value::Null;
        }
        play.spoil(&third, DENY_EGRESS, "tenant", &nothing_left).await;
        play.converge().await;
    }
    let huge = json!({ "podSelector": {}, "ingress": rules(15_000) });
    play.own_policy(&first, &huge).await;
    play.ends("annotations of 256 KiB, a policy of more than 1 MB", before).await;
}

#[tokio::test]
async fn five_thousand_rules_in_one_policy_are_taken_in_and_out_of_ours() {
    let Some(mut play) = protected().await else { return };
    let before = play.resident();
    let [first, second, _] = play.cast().to_vec().try_into().unwrap();
    play.own_policy(&first, &json!({ "podSelector": {}, "ingress": rules(5000) })).await;
    for policy in [DENY_INGRESS, CARVEOUT] {
        play.spoil(&second, policy, "tenant", &json!({ "spec": { "ingress": rules(5000) } })).await;
    }
    play.spoil(&first, DENY_EGRESS, "tenant", &json!({ "spec": { "ingress": rules(5000) } })).await;
    play.ends("5,000 rules in one policy", before).await;
}

#[tokio::test]
async fn what_is_not_ascii_is_kept_and_told_as_it_is() {
    let Some(mut play) = protected().await else { return };
    let before = play.resident();
    let [first, ..] = play.cast().to_vec().try_into().map(|names: [String; 3]| names).unwrap();
    let strange = "Zoë 🦀 \u{202e}gnirts\u{202c} \u{0} \"'\\ <script> \r\n {{ }} %s";
    let annotation = json!({ "metadata": { "annotations": { "example.com/strange": strange } } });
    namespaces(&play.world).patch(&first, &PatchParams::default(), &Patch::Merge(&annotation)).await.unwrap();
    play.spoil(&first, CARVEOUT, "tenant", &annotation).await;
    let manager = "kübectl-édit-🦀";
    play.spoil(&first, DENY_INGRESS, manager, &json!({ "spec": { "ingress": [{}] } })).await;
    let event = until_event(&play.world, &play.world.admin(), &first, "DriftRepaired", DENY_INGRESS).await;
    assert!(event.message.as_deref().is_some_and(|note| note.contains(manager)), "{event:?}");
    until_status(&play.world, PLATFORM, "who did it", |status| {
        status.recent_drift.iter().any(|drift| drift.field_manager == manager)
    })
    .await;
    let kept = policies_of(&play.world.admin(), &first).get(CARVEOUT).await.unwrap();
    assert_eq!(kept.metadata.annotations.unwrap()["example.com/strange"], strange);
    play.ends("what is not ASCII", before).await;
}

#[tokio::test]
async fn five_hundred_exclusions_of_any_shape_are_matched_and_what_looks_like_a_regex_is_refused() {
    let Some(play) = protected().await else { return };
    let before = play.resident();
    let greedy = |n: usize| {
        let mut glob = "*a".repeat(30);
        write!(glob, "{n:03}").unwrap();
        glob
    };
    let many: Vec<String> = (0..500).map(greedy).collect();
    let spec = json!({ "namespaceSelector": { "matchLabels": { PLACE: "many" } }, "excludeNamespaces": many });
    apply_baseline(&play.world, "many", &spec).await;
    let unique = World::unique("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    play.world.namespace_named(&unique, &[(PLACE, "many")]).await.unwrap();
    until_holds(&play.world, &unique, &Plan::of("many")).await;
    let excluded = format!("{}123", "a".repeat(60));
    play.world.namespace_named(&excluded, &[(PLACE, "many")]).await.unwrap();
    until_status(&play.world, "many", "one is selected", |status| status.namespaces.protected == 1).await;
    for regex in ["(a+)+$", "[a-z]*", "a{1,1000}", "^a|b$", "a?", ".*", "a\nb", "é*"] {
        let spec = json!({ "excludeNamespaces": [regex] });
        let refused = play.world.try_apply_yaml(&crate::scene::baseline("regex", &spec)).await.unwrap_err();
        assert!(refused.contains("globs such as openshift-*"), "{regex}: {refused}");
    }
    assert!(play.world.policies(&excluded).await.unwrap().is_empty());
    delete_baseline(&play.world, "many").await;
    until_no_baseline(&play.world, "many").await;
    play.ends("500 exclusions", before).await;
}

/// Lets the API server accept any baseline spec, as a CRD of a later version might.
async fn accept_anything(world: &World) {
    let crds: Api<CustomResourceDefinition> = Api::all(world.admin());
    let name = "policybaselines.policybaseline.io";
    let mut crd = serde_json::to_value(crds.get(name).await.unwrap()).unwrap();
    let spec = crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec").unwrap();
    *spec = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let patch = Patch::Merge(json!({ "spec": { "versions": crd["spec"]["versions"] } }));
    crds.patch(name, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test]
async fn a_baseline_of_a_later_version_or_of_nonsense_says_what_is_wrong_with_it_and_stalls_nobody_else() {
    const FIRST: &str = "unknown-enum";
    let Some(play) = protected().await else { return };
    play.world.discard();
    let before = play.resident();
    accept_anything(&play.world).await;
    let deep = (0..60).fold(json!("x"), |inner, _| json!({ "deeper": inner }));
    let cases = [
        (FIRST, json!({ "mode": "Learn" })),
        ("unknown-role", json!({ "policies": ["DefaultDenyEverything"] })),
        ("wrong-type", json!({ "excludeNamespaces": "kube-*" })),
        ("wrong-number", json!({ "priority": 9_999_999_999_u64 })),
        ("regex", json!({ "excludeNamespaces": ["(a+)+$"] })),
        ("not-ascii", json!({ "metadata": { "namePrefix": "überschrift-" } })),
        ("empty-list", json!({ "policies": [] })),
        ("long-prefix", json!({ "metadata": { "namePrefix": format!("{}-", "x".repeat(300)) } })),
        ("bad-label", json!({ "metadata": { "labels": { "a b": "c d" } } })),
        ("bad-cidr", json!({ "dns": { "peers": [{ "ipBlock": { "cidr": "10.0.0.0/64" } }] } })),
        ("deep", json!({ "namespaceSelector": deep })),
    ];
    for (name, spec) in &cases {
        let mut spec = spec.clone();
        spec["priority"] = spec.get("priority").cloned().unwrap_or(json!(10));
        if spec.get("namespaceSelector").is_none() {
            spec["namespaceSelector"] = json!({ "matchLabels": { PLACE: "nowhere" } });
        }
        let yaml = crate::scene::baseline(name, &spec);
        let accepted = async || play.world.try_apply_yaml(&yaml).await.map(|()| true);
        play.world.eventually("it is accepted", TIMEOUT, accepted).await.unwrap();
        if *name == FIRST {
            // A watch from before the change uses the former schema for a while, and drops fields that this schema does not have.
            let before = play.proxy.struck();
            expire_watches(&play.proxy);
            let anew = async || play.proxy.struck() >= before + WATCHED.len();
            play.world.eventually("every watch begins anew", TIMEOUT, anew).await.unwrap();
            play.proxy.calm();
        }
    }
    // Fields of a later version are ignored. The operator reports only what it knows.
    let later = json!({ "namespaceSelector": { "matchLabels": { PLACE: "later" } }, "quotas": { "egress": "10M" } });
    play.world.apply_yaml(&crate::scene::baseline("later", &later)).await.unwrap();
    let name = play.world.namespace("later", &[(PLACE, "later")]).await.unwrap();
    until_holds(&play.world, &name, &Plan::of("later")).await;
    for (name, spec) in &cases {
        let api = baselines(&play.world);
        let told = async || {
            let object = api.get(name).await.map_err(|err| err.to_string())?;
            let conditions = object.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let stalled = conditions.iter().find(|condition| condition["type"] == "Stalled").cloned().unwrap_or_default();
            let message = stalled["message"].as_str().unwrap_or_default().to_owned();
            if stalled["status"] == "True" && message.len() > 10 { Ok(Some(message)) } else { Err(format!("{conditions:?}")) }
        };
        let message = play.world.eventually(&format!("{name} is stalled"), TIMEOUT, told).await.unwrap();
        println!("{spec}: {message}");
        assert!(message.len() < 1024, "{name}: {message}");
    }
    for (name, _) in &cases {
        delete_baseline(&play.world, name).await;
    }
    delete_baseline(&play.world, "later").await;
    play.ends("baselines of a later version, or of nonsense", before).await;
}

#[tokio::test]
async fn policies_of_a_later_version_disturb_no_watch() {
    let Some(mut play) = protected().await else { return };
    let before = play.resident();
    let [first, second, _] = play.cast().to_vec().try_into().unwrap();
    // The proxy changes the tenants' policies as a later API server might send them.
    let is_own = |event: &Value| event["object"]["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("own-"));
    let newer = |event: &mut Value| {
        let spec = &mut event["object"]["spec"];
        spec["policyTypes"] = json!(["Ingress", "Forward"]);
        spec["audience"] = json!({ "kind": "Everyone" });
        spec["ingress"] = json!([{
            "from": [{ "serviceAccountSelector": { "matchLabels": { "a": "b" } } }],
            "ports": [{ "protocol": "QUIC", "port": "https", "range": [1, 2] }],
            "action": "Mirror",
        }]);
        event["object"]["status"] = json!({ "conditions": [{ "type": "Enforced", "status": "True" }] });
    };
    play.proxy.on_event(move |_, event| is_own(event), When::Always, EventFault::Rewrite(Arc::new(newer)));
    for name in [&first, &second] {
        play.own_policy(name, &json!({ "podSelector": {}, "ingress": [{}] })).await;
    }
    policies_of(&play.world.admin(), &first).delete(DENY_EGRESS, &DeleteParams::default()).await.unwrap();
    play.converge().await;
    expire_watches(&play.proxy);
    play.perform(Step::Repair).await;
    play.ends("policies of a later version", before).await;
}
