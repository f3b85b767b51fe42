//! The namespace and the names can be chosen, and the admission components know the chosen ones.

use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use policy_baseline::PolicyBaseline;
use policy_baseline_e2e::{Operator, SYSTEM_NAMESPACE, TIMEOUT, World};
use serde_json::json;

use super::{CHART, assert_same, helm, objects, rendered};
use crate::repair::PLATFORM;
use crate::scene::{DENY_INGRESS, Plan, apply_baseline, policies_of, until_holds};
use crate::support::{namespaces, stored, versions};

const NAMESPACE: &str = "zz-space";
const NAME: &str = "zz-name";
const ACCOUNT: &str = "zz-account";
const CHOSEN: [&str; 4] = ["--namespace", NAMESPACE, "--set=name=zz-name", "--set=serviceAccount.name=zz-account"];
const ALL: &str = "--set=components.protect.enabled=true,components.noGap.enabled=true,components.optOutRules.enabled=true,\
    components.labelHygiene.enabled=true,components.requiredLabels.enabled=true,components.noHostNetwork.enabled=true,\
    components.sanePolicies.enabled=true,components.operatorLimits.enabled=true,components.apiPriority.enabled=true,\
    namespace.create=true";

#[tokio::test]
async fn other_names_change_the_names_and_nothing_else() {
    let world = World::bare().await.unwrap();
    let default = rendered(&world, &["--namespace", SYSTEM_NAMESPACE, ALL]);
    let chosen = rendered(&world, &[&CHOSEN[..], &[ALL]].concat());
    assert!(!chosen.contains(SYSTEM_NAMESPACE), "a place has the namespace as text");
    let user = |namespace: &str, account: &str| format!("system:serviceaccount:{namespace}:{account}");
    assert_eq!(
        chosen.matches(&user(NAMESPACE, ACCOUNT)).count(),
        default.matches(&user(SYSTEM_NAMESPACE, "policy-baseline")).count()
    );
    let back = chosen.replace(NAMESPACE, SYSTEM_NAMESPACE).replace(NAME, "policy-baseline").replace(ACCOUNT, "policy-baseline");
    assert_same(&objects(&back), &objects(&default), "with the names of the defaults");
    // Every name of an object begins with the chosen one. CRDs have their own, and so has the Role for DNS in kube-system.
    for (key, object) in objects(&chosen) {
        let name = object["metadata"]["name"].as_str().unwrap();
        let known = ["CustomResourceDefinition", "Namespace"].contains(&object["kind"].as_str().unwrap());
        assert!(known || name.starts_with(NAME) || name == ACCOUNT, "{key}");
    }
}

/// Names that YAML would read as something else.
#[tokio::test]
async fn a_namespace_whose_name_looks_like_a_number_stays_a_text() {
    let world = World::bare().await.unwrap();
    for namespace in ["1234", "1e3", "true", "null"] {
        for (key, object) in objects(&rendered(&world, &["--namespace", namespace, ALL, "--set=name=no"])) {
            assert!(object["metadata"]["name"].is_string(), "{key}");
            assert!(object["metadata"]["namespace"].is_null() || object["metadata"]["namespace"].is_string(), "{key}");
        }
    }
}

#[tokio::test]
async fn under_other_names_the_operator_works_with_protect_no_gap_and_its_limits_in_force() {
    let world = World::empty().await.unwrap();
    if world.plane().is_external() {
        return;
    }
    let on = "--set=components.protect.enabled=true,components.noGap.enabled=true,components.operatorLimits.enabled=true";
    helm(&world, &[&["install", "zz-release", CHART, "--create-namespace", on][..], &CHOSEN].concat());
    world.wait_for_crds().await.unwrap();
    let kubeconfig = world.plane().service_account_kubeconfig(NAMESPACE, ACCOUNT).await.unwrap();
    let environment = [("POD_NAMESPACE", NAMESPACE), ("LABEL_NAMESPACES", "true")];
    let mut operator = Operator::start(world.plane(), &kubeconfig, &[], &environment).unwrap();
    apply_baseline(&world, PLATFORM, &json!({})).await;
    let ns = world.namespace("team", &[]).await.unwrap();
    let before = until_holds(&world, &ns, &Plan::of(PLATFORM)).await;

    let label = async || {
        let labels = namespaces(&world).get(&ns).await?.metadata.labels.unwrap_or_default();
        Ok::<_, kube::Error>(labels.get("policybaseline.io/decided").is_some_and(|value| value.starts_with("protected-")))
    };
    world.eventually("no-gap: the operator may label", TIMEOUT, label).await.unwrap();
    // The API server refuses the administrator, and knows the user of this operator.
    let policies = policies_of(&world.admin(), &ns);
    let dry = DeleteParams { dry_run: true, ..DeleteParams::default() };
    let is_refused = async || match policies.delete(DENY_INGRESS, &dry).await {
        Err(refused) if refused.to_string().contains("'zz-name-protect-") => Ok(true),
        other => Err(format!("{other:?}")),
    };
    world.eventually("protect is in force", TIMEOUT, is_refused).await.unwrap();
    let stolen = world.plane().service_account_kubeconfig(NAMESPACE, ACCOUNT).await.unwrap();
    let stolen = Kubeconfig::read_from(&stolen).unwrap();
    let config = Config::from_custom_kubeconfig(stolen, &KubeConfigOptions::default()).await.unwrap();
    let thief: Api<PolicyBaseline> = Api::all(Client::try_from(config).unwrap());
    let limits = async || {
        let (dry, patch) = (PatchParams { dry_run: true, ..PatchParams::default() }, json!({ "spec": { "suspend": true } }));
        let said = thief.patch(PLATFORM, &dry, &Patch::Merge(patch)).await.err().map(|refused| refused.to_string());
        if said.iter().any(|said| said.contains("'zz-name-operator-limits-baselines'")) {
            Ok(true)
        } else {
            Err(format!("{said:?}"))
        }
    };
    world.eventually("the limits are in force", TIMEOUT, limits).await.unwrap();
    // The operator itself still repairs.
    let rescue = world.user("rescue", &["policybaseline.io:break-glass", "system:masters"]).await.unwrap();
    let opened = json!({ "spec": { "ingress": [{}] } });
    let api: Api<_> = policies_of(&rescue, &ns);
    api.patch(DENY_INGRESS, &PatchParams::default(), &Patch::Merge(opened)).await.unwrap();
    let after = until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
    assert_eq!(after.len(), before.len());
    let (before, after) = (versions(&before), stored(&world, &ns).await);
    let after = versions(&after);
    assert!(before.iter().all(|(name, (uid, _))| after[name].0 == *uid), "repaired in place");
    assert_eq!(operator.stop().unwrap(), 0);
}
