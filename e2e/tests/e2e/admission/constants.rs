//! Components have constants instead of parameters: they work as soon as they are switched on again, and only the constants that were
//! applied last count.

use k8s_openapi::jiff::Timestamp;
use policy_baseline_e2e::{TIMEOUT, World};
use serde_json::{Value, json};

use super::label_hygiene::{self, deny, passes, running};
use super::opt_out_rules::{self, after, try_create};
use super::{apply_patched, deny_of_page, patched, protect, required_labels, setting};
use crate::scene::{apply_baseline, policies_of};
use crate::support::remove_baseline;

const COMPONENTS: [&str; 2] = ["label-hygiene", "opt-out-rules"];

struct Limits {
    /// How long an opt-out may last, in hours.
    hours: i64,
    /// The only label that is guarded.
    label: &'static str,
}

const LIMITS: [Limits; 2] = [Limits { hours: 1, label: "tier" }, Limits { hours: 48, label: "team" }];

/// Patches that set these limits.
fn patches(limits: &Limits) -> Vec<Value> {
    let lasts = format!("\"{}h\"", limits.hours);
    let labels = json!([limits.label]).to_string();
    vec![deny(), label_hygiene::constants(&[("labels", labels)]), opt_out_rules::constants(&[("maxDuration", lasts)])]
}

/// A namespace with a running pod, for the probes.
async fn scene(world: &World) -> String {
    let ns = world.namespace("team", &[]).await.unwrap();
    running(world, &ns, "web", &json!({ "app": "web" }), &Value::Null).await;
    ns
}

/// Whether both components are in force with exactly these limits.
async fn counts(world: &World, ns: &str, limits: &Limits) -> Result<bool, String> {
    let (admin, now) = (world.admin(), Timestamp::now());
    try_create(&admin, ns, &after(limits.hours * 3_600 - 60)(now)).await?;
    let a_day_longer = try_create(&admin, ns, &after((limits.hours + 23) * 3_600)(now)).await;
    let said = a_day_longer.err().ok_or("a longer opt-out is accepted")?;
    let is_guarded = async |label: &str| !passes(&admin, ns, "web", &json!({ label: "x" })).await;
    let mut guarded = Vec::new();
    for other in &LIMITS {
        guarded.extend(is_guarded(other.label).await.then_some(other.label));
    }
    let counts = said.starts_with(&format!("spec.expiresAt is too late: an opt-out may last {}h from ", limits.hours));
    if counts && guarded == [limits.label] { Ok(true) } else { Err(format!("{said}; guarded: {guarded:?}")) }
}

async fn until_counts(world: &World, ns: &str, limits: &Limits) {
    let what = format!("{} h and {} count", limits.hours, limits.label);
    world.eventually(&what, TIMEOUT, async || counts(world, ns, limits).await).await.unwrap();
}

async fn until_off(world: &World, ns: &str) {
    let is_off = async || {
        try_create(&world.admin(), ns, &after(100 * 3_600)(Timestamp::now())).await?;
        Ok::<_, String>(passes(&world.admin(), ns, "web", &json!({ "tier": "x", "team": "x" })).await)
    };
    world.eventually("both components are off", TIMEOUT, is_off).await.unwrap();
}

#[tokio::test]
async fn a_component_that_is_switched_off_and_on_again_within_a_second_works() {
    let world = World::new().await.unwrap();
    let ns = scene(&world).await;
    for round in 0..8 {
        let limits = &LIMITS[round % 2];
        let dir = patched(&world, &COMPONENTS, &patches(limits));
        let kubectl = |args: &[&str]| world.plane().run_kubectl(args).unwrap();
        kubectl(&["apply", "--server-side", "-k", &dir]);
        until_counts(&world, &ns, limits).await;
        kubectl(&["delete", "-k", &dir]);
        // Every other time at once; else when the API server has seen that they are gone, and has stopped what it ran for them.
        if round / 2 % 2 == 1 {
            until_off(&world, &ns).await;
        }
    }
}

#[tokio::test]
async fn other_limits_count_when_only_the_policies_and_bindings_of_a_component_were_deleted() {
    let world = World::new().await.unwrap();
    let ns = scene(&world).await;
    for round in 0..4 {
        let limits = &LIMITS[round % 2];
        world.plane().run_kubectl(&["apply", "--server-side", "-k", &patched(&world, &COMPONENTS, &patches(limits))]).unwrap();
        until_counts(&world, &ns, limits).await;
        let kinds = "validatingadmissionpolicies,validatingadmissionpolicybindings";
        world.plane().run_kubectl(&["delete", kinds, "-l", "app.kubernetes.io/name=policy-baseline"]).unwrap();
        if round / 2 == 1 {
            until_off(&world, &ns).await;
        }
    }
}

#[tokio::test]
async fn other_limits_count_as_soon_as_they_are_applied_over_those_before() {
    let world = World::new().await.unwrap();
    let ns = scene(&world).await;
    for limits in LIMITS.iter().chain(&LIMITS) {
        for component in COMPONENTS {
            let all = patches(limits);
            let of = |patch: &&Value| patch["target"]["name"].as_str().unwrap().contains(component);
            let own: Vec<Value> = all.iter().filter(of).cloned().collect();
            assert!(!own.is_empty());
            apply_patched(&world, component, &own).unwrap();
        }
        until_counts(&world, &ns, limits).await;
    }
}

/// The type check of CEL does what a check of our own would do, before anything is in force.
#[tokio::test]
async fn a_constant_of_another_type_is_refused_when_it_is_applied_and_the_one_before_stays() {
    let world = World::new().await.unwrap();
    let ns = scene(&world).await;
    let kubectl = |args: &[&str]| world.plane().run_kubectl(args);
    kubectl(&["apply", "--server-side", "-k", &patched(&world, &COMPONENTS, &patches(&LIMITS[0]))]).unwrap();
    until_counts(&world, &ns, &LIMITS[0]).await;
    for (name, cel) in [
        ("maxDuration", "720h"),
        ("maxDuration", "720"),
        ("maxDuration", "duration('720h')"),
        ("maxDuration", "null"),
        ("maxDuration", ""),
        ("allowedPolicies", "DefaultDenyEgress"),
        ("allowedPolicies", r#""DefaultDenyEgress""#),
        ("allowedPolicies", "[DefaultDenyEgress]"),
        ("allowedPolicies", r#"["DefaultDenyEgress", 1]"#),
        ("allowedPolicies", "[1]"),
        ("approverRequired", r#""true""#),
        ("approverRequired", "required"),
        ("approverRequired", "True"),
        ("approverRequired", "0"),
        ("approverRequired", "null"),
        ("labels", "app"),
        ("labels", r#""app""#),
        ("labels", "[app]"),
        ("labels", r#"["app", 1]"#),
        ("labels", "[1]"),
        ("controllers", r#""relabeler""#),
        ("controllers", "[1]"),
        ("controllers", "null"),
    ] {
        let constant = [(name, cel.to_owned())];
        // The rest stays as it is, so that only this constant can be the reason.
        let (component, patches) = match name {
            "labels" | "controllers" => (COMPONENTS[0], vec![deny(), label_hygiene::constants(&constant)]),
            _ => (COMPONENTS[1], vec![opt_out_rules::constants(&constant)]),
        };
        let result = apply_patched(&world, component, &patches);
        let said = format!("{:#}", result.expect_err(&format!("{name}: {cel}")));
        assert!(said.contains(" is invalid: ") && said.contains(".expression: "), "{name}: {cel}: {said}");
    }
    until_counts(&world, &ns, &LIMITS[0]).await;
}

/// The constants are set by their place. So a patch that was written for other places must not set another variable.
#[tokio::test]
async fn a_patch_that_meets_another_variable_is_refused_by_kustomize() {
    let world = World::bare().await.unwrap();
    let built = |component: &str, policies: &str, places: &[&str], name: &str| {
        let dir = patched(&world, &[component], &[setting(policies, places, &[(name, "[]".to_owned())])]);
        world.plane().run_kubectl(&["kustomize", &dir])
    };
    for (component, policies, places, wrong) in [
        (
            "opt-out-rules",
            "policy-baseline-opt-out-rules-created",
            ["maxDuration", "allowedPolicies"],
            ["allowedPolicies", "maxDuration"],
        ),
        ("label-hygiene", "policy-baseline-label-hygiene-(pods|bindings)", ["labels", "controllers"], ["controllers", "labels"]),
    ] {
        for name in places {
            built(component, policies, &places, name).unwrap();
            let said = format!("{:#}", built(component, policies, &wrong, name).unwrap_err());
            assert!(said.contains("/spec/variables/") && said.contains("/name"), "{said}");
        }
    }
}

/// Which baselines exist is a fact and no setting, so two components read the baselines by `paramKind`. The API server starts the watch of
/// a CRD's objects again.
#[tokio::test]
async fn a_component_that_reads_baselines_knows_them_as_soon_as_it_is_switched_on_again() {
    const STAYS: &str = "stays";
    const GOES: &str = "comes-and-goes";
    let world = World::new().await.unwrap();
    let create_baseline = async |name: &str| {
        let selector = json!({ "matchLabels": { "tier": name } });
        apply_baseline(&world, name, &json!({ "namespaceSelector": selector, "existingNamespaces": "Enforce" })).await;
    };
    let mut spaces = Vec::new();
    for name in [STAYS, GOES] {
        let ns = world.namespace(name, &[("tier", name)]).await.unwrap();
        protect::forge(&policies_of(&world.admin(), &ns), "ours", &json!({ "policybaseline.io/baseline": name })).await;
        create_baseline(name).await;
        spaces.push(ns);
    }
    let admin = world.admin();
    // For each namespace: whether both components say that its baseline exists.
    let seen = async || {
        let mut seen = Vec::new();
        for ns in &spaces {
            let kept = protect::try_delete(&policies_of(&admin, ns), "ours").await.err();
            let lacks = required_labels::create(&admin, ns, &json!({})).await.err();
            let says = |error: Option<kube::Error>, words: &str| error.is_some_and(|error| error.to_string().contains(words));
            seen.push((says(kept, "protect-living"), says(lacks, "#ask-network")));
        }
        seen
    };
    let patches = [deny_of_page(required_labels::COMPONENT), required_labels::constants(r#"["app"]"#, "#ask-network")];
    let dir = patched(&world, &["protect", "required-labels"], &patches);
    for round in 0..8 {
        // The baseline comes and goes while the components are off.
        let exists = round % 2 == 0;
        if exists {
            create_baseline(GOES).await;
        } else {
            remove_baseline(&world, GOES).await;
        }
        world.plane().run_kubectl(&["apply", "--server-side", "-k", &dir]).unwrap();
        let expected = [(true, true), (exists, exists)];
        let is_so = async || {
            let seen = seen().await;
            if seen == expected { Ok(true) } else { Err(format!("{seen:?}")) }
        };
        world.eventually(&format!("round {round}: {expected:?}"), TIMEOUT, is_so).await.unwrap();
        world.plane().run_kubectl(&["delete", "-k", &dir]).unwrap();
        // Every other time at once; else when the API server has stopped what it ran for them.
        if round / 2 % 2 == 1 {
            let is_off = async || seen().await == [(false, false); 2];
            world.eventually("both components are off", TIMEOUT, is_off).await.unwrap();
        }
    }
}
