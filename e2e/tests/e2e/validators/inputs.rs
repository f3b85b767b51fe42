//! Everything that we ship as a manifest, and a control plane that knows all its kinds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use policy_baseline_e2e::gitops::gitops_crds;
use policy_baseline_e2e::{SYSTEM_NAMESPACE, World, built, repo};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::helm;
use crate::support::run;

/// What is in these folders becomes YAML later: the chart by Helm, and the manifest for krew by `make dist`.
const TEMPLATES: [&str; 2] = ["manifests/helm", "manifests/release"];

/// Where somebody finds it, and its YAML.
pub type Inputs = BTreeMap<String, String>;

/// A control plane with our CRDs and those of Argo CD, Flux and prometheus-operator. It ends with the test.
pub async fn prepared() -> World {
    let world = World::new().await.unwrap();
    world.discard();
    for crds in [gitops_crds().unwrap(), built("validators", "crds").unwrap()] {
        let crds = crds.to_str().unwrap();
        world.plane().run_kubectl(&["apply", "--server-side", "-f", crds]).unwrap();
        world.plane().run_kubectl(&["wait", "--for=condition=Established", "-f", crds]).unwrap();
    }
    world
}

pub fn documents(yaml: &str) -> Vec<Value> {
    let all = serde_yaml::Deserializer::from_str(yaml).map(|document| Value::deserialize(document).unwrap());
    all.filter(|document| !document.is_null()).collect()
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            walk(&entry, found);
        } else {
            found.push(entry);
        }
    }
}

fn shown(path: &Path) -> String {
    path.strip_prefix(repo()).unwrap().display().to_string()
}

/// Every manifest of `manifests/` and `crds/`, every build of kustomize, and what Helm makes of the chart.
pub fn inputs(world: &World) -> Inputs {
    let mut files = Vec::new();
    for dir in ["manifests", "crds"] {
        walk(&repo().join(dir), &mut files);
    }
    let is_yaml = |path: &PathBuf| path.extension().is_some_and(|end| end == "yaml");
    let (kustomizations, manifests): (Vec<_>, Vec<_>) = files
        .into_iter()
        .filter(|path| is_yaml(path) && !TEMPLATES.iter().any(|dir| path.starts_with(repo().join(dir))))
        .partition(|path| path.ends_with("kustomization.yaml"));
    let patches: BTreeSet<PathBuf> = kustomizations.iter().flat_map(|path| patches_of(path)).collect();
    let mut inputs: Inputs = manifests
        .iter()
        .filter(|path| !patches.contains(*path))
        .map(|path| (shown(path), fs::read_to_string(path).unwrap()))
        .collect();
    for kustomization in kustomizations {
        let folder = kustomization.parent().unwrap();
        inputs.insert(format!("kustomize {}", shown(folder)), build(world, &kustomization));
    }
    inputs.extend([("helm template".to_owned(), chart(&[])), ("helm template, production".to_owned(), chart(&[PRODUCTION]))]);
    inputs
}

pub const PRODUCTION: &str = "--values=manifests/helm/values-production.yaml";

/// A patch is not a whole object.
fn patches_of(kustomization: &Path) -> Vec<PathBuf> {
    let [object] = &documents(&fs::read_to_string(kustomization).unwrap())[..] else { panic!("{}", kustomization.display()) };
    let paths = object["patches"].as_array().into_iter().flatten().filter_map(|patch| patch["path"].as_str());
    paths.map(|path| kustomization.parent().unwrap().join(path)).collect()
}

/// A component is built together with `manifests/default`, which it patches.
fn build(world: &World, kustomization: &Path) -> String {
    let folder = kustomization.parent().unwrap();
    if !fs::read_to_string(kustomization).unwrap().contains("\nkind: Component\n") {
        return world.plane().run_kubectl(&["kustomize", folder.to_str().unwrap()]).unwrap();
    }
    // Four folders below the repository.
    let own = world.plane().state_dir().join("with-component");
    fs::create_dir_all(&own).unwrap();
    let up = |path: &str| format!("../../../../{path}");
    let with = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": [up("manifests/default")], "components": [up(&shown(folder))],
    });
    fs::write(own.join("kustomization.yaml"), with.to_string()).unwrap();
    world.plane().run_kubectl(&["kustomize", own.to_str().unwrap()]).unwrap()
}

/// What Helm makes of the chart with the namespace and these arguments.
pub fn chart(more: &[&str]) -> String {
    run(Command::new(helm::binary())
        .args(["template", "policy-baseline", "manifests/helm", "--namespace", SYSTEM_NAMESPACE, "--set=namespace.create=true"])
        .args(more)
        .current_dir(repo()))
}
