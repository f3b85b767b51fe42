//! Health checks in the sandbox of Argo CD, with statuses that no operator of today writes.

use policy_baseline_e2e::gitops::{GitOpsQuestion, GitOpsVerdict, gitops_verdicts};
use serde_json::{Value, json};

use super::{customization, judge, read, words};

fn stored(kind: &str, state: &str) -> Value {
    serde_yaml::from_str(&read(&format!("{}/testdata/{state}.yaml", customization(kind)))).unwrap()
}

fn with_status(object: &Value, status: Value) -> Value {
    let mut object = object.clone();
    object["status"] = status;
    object
}

fn condition(kind: &str, status: &str, reason: &str) -> Value {
    json!({ "type": kind, "status": status, "reason": reason, "message": "why" })
}

#[test]
fn whatever_is_missing_or_unknown_in_a_status_is_work_under_way_and_no_error() {
    for (kind, state, main) in
        [("PolicyBaseline", "healthy_protected", "Ready"), ("BaselineOptOut", "healthy_withinLimits", "InForce")]
    {
        let whole = stored(kind, state);
        let mut bare = whole.clone();
        bare.as_object_mut().unwrap().remove("status");
        let on_time = |conditions: Value| with_status(&whole, json!({ "observedGeneration": 1, "conditions": conditions }));
        let late = |observed: u8| {
            let mut object = whole.clone();
            object["metadata"]["generation"] = json!(2);
            object["status"]["observedGeneration"] = json!(observed);
            object
        };
        let later = condition("Enlightened", "True", "Future");
        let cases = [
            ("no status", bare, "Progressing"),
            ("null", with_status(&whole, Value::Null), "Progressing"),
            ("a text", with_status(&whole, json!("Ready")), "Progressing"),
            ("empty", with_status(&whole, json!({})), "Progressing"),
            ("conditions null", with_status(&whole, json!({ "conditions": null })), "Progressing"),
            ("no conditions", on_time(json!([])), "Progressing"),
            ("conditions that are none", on_time(json!([null, "Ready", {}, { "type": null }])), "Progressing"),
            ("only a future condition", on_time(json!([later])), "Progressing"),
            ("a future condition beside it", on_time(json!([later, condition(main, "True", "Future")])), "Healthy"),
            ("a null before it", on_time(json!([null, condition(main, "True", "Future")])), "Healthy"),
            ("a future status", on_time(json!([condition(main, "Perhaps", "Future")])), "Progressing"),
            ("no reason and no message", on_time(json!([{ "type": main, "status": "Unknown" }])), "Progressing"),
            ("an older spec", late(1), "Progressing"),
            ("the present spec", late(2), "Healthy"),
        ];
        let objects: Vec<Value> = cases.iter().map(|(_, object, _)| object.clone()).collect();
        for ((what, _, expected), verdicts) in cases.iter().zip(judge(kind, &objects)) {
            assert_eq!(words(&verdicts)[0], *expected, "{kind}, {what}: {:?}", verdicts[0]);
        }
    }
    let unknown = |status: &str| {
        let ready = condition("Ready", status, "Future");
        with_status(&stored("PolicyBaseline", "healthy_protected"), json!({ "observedGeneration": 1, "conditions": [ready] }))
    };
    let verdicts = judge("PolicyBaseline", &[unknown("False"), unknown("Unknown")]);
    assert!(verdicts.iter().all(|all| all[0].status == "Progressing" && all[0].message == "why"), "{verdicts:?}");
}

/// What surprises in Flux: docs/gitops.md says the same.
#[test]
fn without_any_status_kstatus_calls_both_kinds_current_and_expressions_fail() {
    for (kind, state) in [("PolicyBaseline", "healthy_protected"), ("BaselineOptOut", "healthy_withinLimits")] {
        let verdicts = judge(kind, &[with_status(&stored(kind, state), Value::Null)]);
        assert_eq!(words(&verdicts[0])[1..], ["Current", "error"], "{kind}: {verdicts:?}");
    }
}

fn run(script: &str) -> GitOpsVerdict {
    let asked =
        GitOpsQuestion { object: stored("PolicyBaseline", "healthy_protected"), lua: Some(script.to_owned()), expressions: None };
    gitops_verdicts(&[asked]).unwrap().remove(0)
}

#[test]
fn the_sandbox_has_no_files_no_commands_and_a_time_limit_and_refuses_wrong_answers() {
    let healthy = "return { status = 'Healthy', message = obj.metadata.name }";
    assert_eq!(run(healthy), GitOpsVerdict { status: "Healthy".into(), message: "protected".into(), error: String::new() });
    for (script, says) in [
        ("return { status = io.open('/etc/hostname'):read() }", "attempt to index a non-table object(nil) with key 'open'"),
        ("os.execute('true')", "attempt to index a non-table object(nil) with key 'execute'"),
        ("return { status = ('healthy'):upper() }", "attempt to index a non-table object"),
        ("while true do end", "context deadline exceeded"),
        ("return 'Healthy'", "returned no table"),
        ("return { status = 'Fine' }", "no status of Argo CD"),
        ("return { status = 'Healthy', reason = 'x' }", "which Argo CD does not know"),
        ("return {", "syntax error"),
    ] {
        let said = run(script);
        assert!(said.error.contains(says), "{script}: {said:?}");
    }
}
