//! Text that others write into policies and admission policies: what of it the API server accepts, and that statuses and Events show it in one
//! visible line.

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use policy_baseline_e2e::{TIMEOUT, World};
use serde_json::{Value, json};

use crate::explain::explained_as_open;
use crate::repair::{PLATFORM, enforcing, protected};
use crate::scene::{
    DENY_EGRESS, DENY_INGRESS, Plan, apply_baseline, merge, policies_of, tenant, until_event, until_holds, until_status,
};

/// What no text of a status or an Event may contain: control characters, marks of direction, zero-width characters and blank letters.
fn is_hidden(c: char) -> bool {
    let blank = ['\u{115f}', '\u{1160}', '\u{2800}', '\u{3164}', '\u{ffa0}', '\u{feff}', '\u{180b}'];
    c.is_control() || ('\u{200b}'..='\u{200f}').contains(&c) || ('\u{2028}'..='\u{202e}').contains(&c) || blank.contains(&c)
}

/// The answer to an edit by this field manager, and by a list of managedFields that names it.
async fn edits_as(policies: &Api<NetworkPolicy>, manager: &str) -> [kube::Result<NetworkPolicy>; 2] {
    let open = json!({ "spec": { "ingress": [{}] } });
    let params = PatchParams { field_manager: Some(manager.to_owned()), dry_run: true, ..PatchParams::default() };
    let entry = json!({ "manager": manager, "operation": "Update", "apiVersion": "networking.k8s.io/v1", "time": "2030-01-01T00:00:00Z",
        "fieldsType": "FieldsV1", "fieldsV1": { "f:spec": { "f:ingress": {} } } });
    let forged = json!({ "metadata": { "managedFields": [entry] }, "spec": open["spec"] });
    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    [
        policies.patch(DENY_INGRESS, &params, &Patch::Merge(&open)).await,
        policies.patch(DENY_INGRESS, &dry, &Patch::Merge(&forged)).await,
    ]
}

#[tokio::test]
async fn i13_a_field_manager_that_hides_something_is_refused_or_shown_by_its_codes_in_one_line() {
    // Letters without a shape: the API server takes them for printable.
    const HOSTILE: &str = "kubectl\u{3164}\u{115f}admin\u{2800}\u{180b}名前";
    const SHOWN: &str = r"kubectl\u{3164}\u{115f}admin\u{2800}\u{180b}名前";
    let world = enforcing(&json!({})).await;
    let (ns, tenant) = protected(&world).await;
    let policies = policies_of(&tenant, &ns);
    for manager in
        ["a\u{1b}[31mb", "a\nb", "a\rb", "a\u{7}b", "a\u{202e}b", "a\u{2066}b", "a\u{200b}b", "a\u{feff}b", "a\u{2028}b"]
    {
        let [by_name, by_list] = edits_as(&policies, manager).await;
        assert!(matches!(&by_name, Err(kube::Error::Api(status)) if status.code == 422), "{manager:?}: {by_name:?}");
        // The API server either refuses such a list, or replaces it.
        let names = by_list.ok().and_then(|policy| policy.metadata.managed_fields).unwrap_or_default();
        assert!(names.iter().all(|entry| entry.manager.as_deref() != Some(manager)), "{manager:?} is stored");
    }

    merge(&policies, DENY_INGRESS, HOSTILE, &json!({ "spec": { "ingress": [{}] } })).await;
    let note = until_event(&world, &tenant, &ns, "DriftRepaired", DENY_INGRESS).await.message.unwrap();
    assert!(note.contains(SHOWN) && !note.contains(is_hidden), "{note:?}");
    let status = until_status(&world, PLATFORM, "the drift", |status| !status.recent_drift.is_empty()).await;
    let [drift] = &status.recent_drift[..] else { panic!("{:?}", status.recent_drift) };
    assert_eq!((&*drift.field_manager, &*drift.class), (SHOWN, "SpecChanged"));
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
}

#[tokio::test]
async fn i13_what_an_adopted_policy_held_is_shown_in_one_line_too() {
    let mut world = World::new().await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({})).await;
    // So that the namespace is newer.
    crate::support::a_second_later(&world).await;
    let ns = world.namespace("team", &[]).await.unwrap();
    let tenant = tenant(&world, &[&ns]).await;
    let hostile = "\u{1b}[2Jfine\r\nReady=True\u{202e}\u{200b}";
    let foreign: Value = json!({
        "metadata": { "name": DENY_EGRESS, "annotations": { "note": hostile } },
        "spec": { "podSelector": {}, "policyTypes": ["Egress"], "egress": [{}] },
    });
    let foreign: NetworkPolicy = serde_json::from_value(foreign).unwrap();
    policies_of(&tenant, &ns).create(&PostParams::default(), &foreign).await.unwrap();
    world.start_operator().await.unwrap();
    let note = until_event(&world, &tenant, &ns, "PolicyAdopted", DENY_EGRESS).await.message.unwrap();
    assert!(note.contains(r"Ready=True\u{202e}\u{200b}") && !note.contains(is_hidden), "{note:?}");
    let log = world.operator().unwrap().log();
    assert!(log.contains("policy adopted") && !log.contains(['\u{202e}', '\u{200b}', '\u{1b}']), "the log shows it as it is");
}

/// The message of a policy that denies what the operator writes. A webhook could answer the same.
#[tokio::test]
async fn i13_what_an_admission_policy_answers_is_shown_in_one_line_too() {
    const HOSTILE: &str = "ask\u{1b}[2J the\u{202e} network\u{200b} team\u{7}";
    const SHOWN: &str = r"ask\u{1b}[2J the\u{202e} network\u{200b} team\u{7}";
    let mut world = World::new().await.unwrap();
    let ns = world.namespace("team", &[("case", "hostile")]).await.unwrap();
    let spec = json!({
        "failurePolicy": "Fail",
        "matchConstraints": {
            "namespaceSelector": { "matchLabels": { "case": "hostile" } },
            "resourceRules": [{ "apiGroups": ["networking.k8s.io"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
                "resources": ["networkpolicies"] }],
        },
        "validations": [{ "expression": "false", "message": HOSTILE }],
    });
    let object = |kind: &str, spec: &Value| {
        let version = "admissionregistration.k8s.io/v1";
        json!({ "apiVersion": version, "kind": kind, "metadata": { "name": "hostile" }, "spec": spec }).to_string()
    };
    world.apply_yaml(&object("ValidatingAdmissionPolicy", &spec)).await.unwrap();
    let binding = json!({ "policyName": "hostile", "validationActions": ["Deny"] });
    world.apply_yaml(&object("ValidatingAdmissionPolicyBinding", &binding)).await.unwrap();
    let policies = policies_of(&world.admin(), &ns);
    let probe: NetworkPolicy = serde_json::from_value(json!({ "metadata": { "name": "probe" } })).unwrap();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let is_denied = async || policies.create(&dry, &probe).await.is_err();
    world.eventually("it is denied", TIMEOUT, is_denied).await.unwrap();
    apply_baseline(&world, PLATFORM, &json!({ "existingNamespaces": "Enforce" })).await;
    world.start_operator().await.unwrap();

    let note = until_event(&world, &world.admin(), &ns, "RepairFailed", DENY_INGRESS).await.message.unwrap();
    assert!(note.contains(SHOWN) && !note.contains(is_hidden), "{note:?}");
    let is_told = |status: &policy_baseline::PolicyBaselineStatus| status.violations.iter().any(|v| v.namespace == ns);
    let status = until_status(&world, PLATFORM, "a violation", is_told).await;
    let told = &status.violations.iter().find(|violation| violation.namespace == ns).unwrap().message;
    assert!(told.contains(SHOWN) && !told.contains(is_hidden), "{told:?}");
    let text = explained_as_open(&world, &ns).await;
    assert!(text.contains(SHOWN) && !text.replace('\n', "").contains(is_hidden), "{text:?}");
    let log = world.operator().unwrap().log();
    assert!(log.contains("write failed") && !log.contains(['\u{202e}', '\u{200b}', '\u{1b}']), "the log shows it as it is");
    for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
        world.plane().run_kubectl(&["delete", kind, "hostile"]).unwrap();
    }
    until_holds(&world, &ns, &Plan::of(PLATFORM)).await;
}
