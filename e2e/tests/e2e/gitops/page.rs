//! docs/gitops.md and the files that it names.

use std::collections::BTreeSet;

use policy_baseline_e2e::gitops::gitops_crds;
use policy_baseline_e2e::{World, repo};
use serde_json::{Value, json};

use crate::samples::commands;

use super::{SAMPLES, customization, documents, golden, judge, lua, read, words};

const KINDS: [&str; 2] = ["BaselineOptOut", "PolicyBaseline"];

pub fn text_of_page() -> String {
    read("docs/gitops.md")
}

/// The cells of the rows of a page's tables, if their first cell begins like this.
fn rows<'a>(page: &'a str, begins: &str) -> Vec<Vec<&'a str>> {
    let row = |line: &'a str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>();
    page.lines().filter(|line| line.starts_with('|')).map(row).filter(|cells| cells[0].starts_with(begins)).collect()
}

/// The code words of a cell.
fn codes(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// An object with this status of its main condition.
fn object(kind: &str, condition: &str, status: &str, reason: &str) -> Value {
    let said =
        |kind: &str, status: &str, reason: &str| json!({ "type": kind, "status": status, "reason": reason, "message": "why" });
    let conditions = match condition {
        "Stalled" => json!([said("Ready", "False", reason), said("Stalled", status, reason)]),
        _ => json!([said(condition, status, reason), said("Stalled", "False", "Valid")]),
    };
    // Nobody has processed it: so there is no generation that was observed.
    let observed = if reason == "NotProcessed" { json!({}) } else { json!({ "observedGeneration": 1 }) };
    let mut object = json!({
        "apiVersion": "policybaseline.io/v1alpha1", "kind": kind, "metadata": { "name": "x", "generation": 1 }, "status": observed,
    });
    object["status"]["conditions"] = conditions;
    object
}

/// Checks every row of the page's table about a condition. Returns `status reason` of each.
fn judged_rows(kind: &str, condition: &str) -> BTreeSet<String> {
    let page = text_of_page();
    let mut all = BTreeSet::new();
    for cells in rows(&page, &format!("`{condition}=")) {
        let words_of = codes(cells[0]);
        let (_, status) = words_of[0].split_once('=').unwrap();
        let reasons = if condition == "Stalled" { &["InvalidSelector", "AnotherInstance"][..] } else { &words_of[1..] };
        let objects: Vec<Value> = reasons.iter().map(|reason| object(kind, condition, status, reason)).collect();
        for (reason, verdicts) in reasons.iter().zip(judge(kind, &objects)) {
            assert_eq!(words(&verdicts)[..], cells[1..4], "{condition}={status} {reason}: {verdicts:?}");
            assert_eq!(verdicts[0].message, "why");
            all.insert(format!("{status} {reason}"));
        }
        assert!(!reasons.is_empty(), "{cells:?}");
    }
    all
}

#[test]
fn the_tables_of_the_page_are_what_both_tools_say_and_lack_no_reason() {
    let status = read("docs/status.md");
    let known = ["True", "False", "Unknown"].into_iter().flat_map(|word| {
        let found = rows(&status, word).into_iter().find(|cells| cells.len() == 2 && codes(cells[1]).len() > 1).unwrap();
        let reasons: Vec<String> = codes(found[1]).iter().map(|reason| format!("{word} {reason}")).collect();
        reasons.into_iter().filter(|reason| reason != "False Stalled=True")
    });
    assert_eq!(judged_rows("PolicyBaseline", "Ready"), known.collect::<BTreeSet<_>>());
    assert_eq!(judged_rows("PolicyBaseline", "Stalled").len(), 2);

    let opt_outs = read("docs/opt-outs.md");
    let (_, section) = opt_outs.split_once("\n## Is it in force?").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let known = rows(section, "`").into_iter().filter_map(|cells| match codes(cells[0])[..] {
        [status, reason] => Some(format!("{status} {reason}")),
        _ => None,
    });
    assert_eq!(judged_rows("BaselineOptOut", "InForce"), known.collect::<BTreeSet<_>>());
}

#[test]
fn the_config_map_has_the_health_checks_of_the_form_for_upstream() {
    let mut text = "# From e2e/gitops/resource_customizations, by GOLDEN=accept make e2e E2E=gitops::; do not edit. docs/gitops.md explains it.\n\
                    apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: argocd-cm\n  namespace: argocd\ndata:\n"
        .to_owned();
    for kind in KINDS {
        let entry = format!("  resource.customizations.health.policybaseline.io_{kind}: |");
        let lua = lua(kind);
        let lines = lua.lines().map(|line| if line.is_empty() { String::new() } else { format!("    {line}") });
        text.extend([entry].into_iter().chain(lines).map(|line| line + "\n"));
    }
    let path = format!("{SAMPLES}/argocd/argocd-cm.yaml");
    golden(&path, &text);
    let [map] = &documents(&read(&path))[..] else { panic!("{path}") };
    for kind in KINDS {
        assert_eq!(map["data"][format!("resource.customizations.health.policybaseline.io_{kind}")], lua(kind));
        assert!(text_of_page().contains(&customization(kind).replace(kind, "")), "the page names the form for upstream");
    }
}

#[tokio::test]
async fn the_files_and_commands_of_the_page_are_accepted_by_the_crds_of_argo_cd_and_flux() {
    let world = World::new().await.unwrap();
    if world.plane().is_external() {
        return;
    }
    let crds = gitops_crds().unwrap();
    let crds = crds.to_str().unwrap();
    let kubectl = |args: &[&str]| {
        let output = world.plane().kubectl().args(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {said}");
        (String::from_utf8(output.stdout).unwrap(), said)
    };
    // No other test may see these CRDs.
    world.discard();
    kubectl(&["apply", "--server-side", "-f", crds]);
    kubectl(&["wait", "--for=condition=Established", "-f", crds]);
    for namespace in ["argocd", "flux-system"] {
        world.namespace_named(namespace, &[]).await.unwrap();
    }
    kubectl(&["create", "configmap", "argocd-cm", "-n", "argocd", "--from-literal=url=https://argocd.example.com"]);

    let all = commands(&text_of_page());
    for command in &all {
        let args: Vec<&str> = command.split_whitespace().collect();
        assert_eq!(args[0], "kubectl", "{command}");
        let (_, warned) = kubectl(&args[1..]);
        assert_eq!(warned, "", "{command}");
    }
    let stored = kubectl(&["get", "configmap", "argocd-cm", "-n", "argocd", "-o", "yaml"]).0;
    let stored: Value = serde_yaml::from_str(&stored).unwrap();
    assert_eq!(stored["data"]["url"], "https://argocd.example.com", "the settings of Argo CD stay");
    for kind in KINDS {
        assert_eq!(stored["data"][format!("resource.customizations.health.policybaseline.io_{kind}")], lua(kind));
    }
    let applied = kubectl(&["get", "applications,kustomizations,gitrepositories", "-A", "-o", "name"]).0;
    assert_eq!(applied.lines().count(), 4, "{applied}");

    // Every file that is given to a tool, strictly: it has no field that the CRDs do not know.
    for file in ["argocd/application.yaml", "argocd/argocd-cm.yaml", "argocd/project.yaml", "flux/production.yaml"] {
        let path = format!("{SAMPLES}/{file}");
        kubectl(&["apply", "--dry-run=server", "--validate=strict", "--server-side", "--force-conflicts", "-f", &path]);
        assert!(text_of_page().contains(&format!("](../{path})")), "the page links {file}");
        for object in documents(&read(&path)) {
            let spec = &object["spec"];
            let folder = spec["path"].as_str().or_else(|| spec["source"]["path"].as_str());
            let exists = |folder: &str| repo().join(SAMPLES).join(folder).join("kustomization.yaml").is_file();
            assert!(folder.is_none_or(exists), "{folder:?}");
        }
    }
}

#[tokio::test]
async fn the_overlays_of_two_clusters_are_accepted_and_no_tool_prunes_their_crds() {
    let world = World::new().await.unwrap();
    let build =
        |folder: &str| documents(&world.plane().run_kubectl(&["kustomize", &format!("{SAMPLES}/clusters/{folder}")]).unwrap());
    let production = documents(&world.plane().run_kubectl(&["kustomize", "manifests/production"]).unwrap());
    for (cluster, mode) in [("production", "Enforce"), ("staging", "Audit")] {
        let all = build(cluster);
        let (baselines, operator): (Vec<_>, Vec<_>) = all.into_iter().partition(|object| object["kind"] == "PolicyBaseline");
        assert_eq!((&build(&format!("{cluster}/baseline")), &build(&format!("{cluster}/operator"))), (&baselines, &operator));
        assert_eq!(operator.len(), production.len(), "it is all of manifests/production");
        let [baseline] = &baselines[..] else { panic!("{baselines:?}") };
        assert_eq!(baseline["spec"]["mode"], mode);
        assert_eq!(baseline["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"], "1");
        assert!(operator.iter().all(|object| object["metadata"]["annotations"].get("argocd.argoproj.io/sync-wave").is_none()));
        let crds: Vec<_> = operator.iter().filter(|object| object["kind"] == "CustomResourceDefinition").collect();
        assert_eq!(crds.len(), 2);
        for crd in crds {
            let annotations = &crd["metadata"]["annotations"];
            assert_eq!(annotations["argocd.argoproj.io/sync-options"], "Prune=false,Delete=false");
            assert_eq!(annotations["kustomize.toolkit.fluxcd.io/prune"], "disabled");
        }
        let image = operator.iter().find_map(|object| object["spec"]["template"]["spec"]["containers"][0]["image"].as_str());
        assert_eq!(image, Some(concat!("registry.example.com/policy-baseline:", env!("CARGO_PKG_VERSION"))));
        let folder = format!("{SAMPLES}/clusters/{cluster}");
        let applied = world
            .plane()
            .kubectl()
            .args(["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-k", &folder])
            .output();
        let applied = applied.unwrap();
        assert!(applied.status.success() && applied.stderr.is_empty(), "{}", String::from_utf8_lossy(&applied.stderr));
    }
}
