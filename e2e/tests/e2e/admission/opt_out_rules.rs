//! opt-out-rules: when an opt-out is written, the API server gives the same verdict as the operator would. A change can never make an
//! opt-out wider, and a change that makes it narrower is always allowed. Except for one test, no operator runs here.
//! One file: the tests share their scene.

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::jiff::{SignedDuration, Timestamp, tz};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::{Client, ResourceExt};
use policy_baseline::Baseline;
use policy_baseline::{BaselineOptOut, PolicyBaseline};
use policy_baseline::{OptOut, OptOutVerdict, Ruling, verdict};
use policy_baseline_e2e::{TIMEOUT, World};
use serde_json::{Value, json};

use super::{apply_patched, break_glass, choose, setting};
use crate::opt_outs::{seconds_from_now, somebody_with, until_says};
use crate::repair::PLATFORM;
use crate::scene::{Plan, apply_baseline, until_holds};
use crate::support::namespaces;

const SYSTEM: &str = "policy-baseline-system";
const POLICY: &str = "policy-baseline-opt-out-rules-created";
/// The constants, each at its place in `spec.variables`.
const CONSTANTS: [&str; 3] = ["maxDuration", "allowedPolicies", "approverRequired"];
const EGRESS: &str = "DefaultDenyEgress";
const INGRESS: &str = "DefaultDenyIngress";
const CARVEOUT: &str = "MonitoringCarveout";
const APPROVER: &str = "security@example.com";
const OVER: &str = "spec.expiresAt is over";
const UNREADABLE: &str = "spec.expiresAt: write a time as in 2026-03-01T00:00:00Z";
const NOBODY: &str = "spec.approvedBy is empty: write who allowed it";
const LATER: &str = "spec.expiresAt may only be moved to an earlier time";
const OTHER_APPROVER: &str = "spec.approvedBy says who allowed this opt-out, and stays";
const MISTAKEN: &str = "a constant of opt-out-rules is wrong, and no opt-out is created until it is corrected: ";

/// The beginning of each message of the component, and the operator's reason for the same case.
const REASONS: [(&str, &str); 4] = [
    (OVER, "Expired"),
    ("spec.expiresAt is too late", "TooLong"),
    ("spec.policies: no namespace may do without", "PolicyNotAllowed"),
    ("no opt-outs are allowed here", "PolicyNotAllowed"),
];

/// The expected verdicts on an opt-out.
#[derive(Clone, Copy)]
enum Said {
    /// Both accept it.
    Accepted,
    /// Both refuse it; the API server with this message.
    Refused(&'static str),
    /// Only the API server refuses it, on purpose: the message, and why the two differ.
    RefusedAtAdmission(&'static str, &'static str),
    /// Only the operator would not put it in force, on purpose: why the two differ.
    NotInForce(&'static str),
}

impl Said {
    /// Why the two verdicts differ.
    const fn because(self) -> &'static str {
        match self {
            Accepted | Refused(_) => "they agree",
            RefusedAtAdmission(_, why) | NotInForce(why) => why,
        }
    }
}

use Said::{Accepted, NotInForce, Refused, RefusedAtAdmission};

/// Builds a spec for a given time of creation.
pub type Spec = Box<dyn Fn(Timestamp) -> Value>;

/// A spec with this end.
fn ending(expires: impl Fn(Timestamp) -> String + 'static) -> Spec {
    Box::new(move |created| spec(&json!([EGRESS]), &expires(created)))
}

/// A spec that ends this many seconds after the creation.
pub fn after(seconds: i64) -> Spec {
    ending(move |created| later(created, seconds))
}

/// The same spec with one field set.
fn with(of: Spec, field: &'static str, value: Value) -> Spec {
    Box::new(move |created| {
        let mut spec = of(created);
        spec[field] = value.clone();
        spec
    })
}

fn without(roles: &[&str]) -> Spec {
    with(after(60), "policies", json!(roles))
}

fn spec(roles: &Value, expires: &str) -> Value {
    json!({ "policies": roles, "expiresAt": expires, "approvedBy": APPROVER,
        "reason": "the partner's API moves its addresses every day" })
}

fn later(created: Timestamp, seconds: i64) -> String {
    (created + SignedDuration::from_secs(seconds)).to_string()
}

/// A time in the notation of another time zone.
fn in_zone(created: Timestamp, seconds: i64, minutes_east: i32) -> String {
    let zone = tz::Offset::from_seconds(minutes_east * 60).unwrap();
    let text = (created + SignedDuration::from_secs(seconds)).display_with_offset(zone).to_string();
    assert!(text.contains('+') || text.matches('-').count() == 3, "{text}");
    text
}

/// The operator's verdict on a new opt-out under a baseline with these limits.
fn operator_says(spec: &Value, limits: &Value, created: Timestamp) -> Result<(), String> {
    let object = json!({ "apiVersion": "policybaseline.io/v1alpha1", "kind": "BaselineOptOut", "spec": spec,
        "metadata": { "name": "o", "namespace": "a", "creationTimestamp": created } });
    let object: BaselineOptOut = serde_json::from_value(object).map_err(|err| format!("Undecodable: {err}"))?;
    let opt_out = OptOut::check(&object)?;
    let baseline = json!({ "apiVersion": "policybaseline.io/v1alpha1", "kind": "PolicyBaseline",
        "metadata": { "name": "b", "uid": "0f9e8d7c-6b5a-4321-8765-00ffabcdef12" }, "spec": { "mode": "Enforce", "optOuts": limits } });
    let baseline = Baseline::check(&serde_json::from_value::<PolicyBaseline>(baseline).unwrap(), SYSTEM).unwrap();
    match verdict(&opt_out, created, Ruling::Enforces(&baseline), created) {
        OptOutVerdict::InForce(..) => Ok(()),
        OptOutVerdict::NotInForce(refusal, message) => Err(format!("{}: {message}", refusal.into_str())),
    }
}

fn opt_outs(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<BaselineOptOut>(&()))
}

fn object(name: &str, spec: &Value) -> DynamicObject {
    let object = json!({ "apiVersion": "policybaseline.io/v1alpha1", "kind": "BaselineOptOut", "metadata": { "name": name }, "spec": spec });
    serde_json::from_value(object).unwrap()
}

/// The message of the API server, without the text before the component's own words.
fn told<T>(result: kube::Result<T>) -> Result<T, String> {
    result.map_err(|error| match error {
        kube::Error::Api(status) => {
            status.message.split_once("denied request: ").map_or(status.message.clone(), |(_, said)| said.to_owned())
        }
        other => panic!("{other:?}"),
    })
}

async fn create(client: &Client, namespace: &str, spec: &Value, params: &PostParams) -> Result<DynamicObject, String> {
    told(opt_outs(client, namespace).create(params, &object(&World::unique("o"), spec)).await)
}

pub async fn try_create(client: &Client, namespace: &str, spec: &Value) -> Result<DynamicObject, String> {
    create(client, namespace, spec, &PostParams { dry_run: true, ..PostParams::default() }).await
}

async fn merge(client: &Client, namespace: &str, name: &str, patch: Value) -> Result<DynamicObject, String> {
    told(opt_outs(client, namespace).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await)
}

/// Compares both verdicts with the expected one.
fn assert_said(name: &str, expected: Said, operator: &Result<(), String>, apiserver: &Result<(), String>) {
    let agrees = match (expected, operator, apiserver) {
        (Accepted, Ok(()), Ok(())) | (NotInForce(_), Err(_), Ok(())) => true,
        (Refused(words), Err(why), Err(said)) => {
            let reason = REASONS.into_iter().find_map(|(begins, reason)| said.starts_with(begins).then_some(reason));
            // The operator cannot decode a time close to the end of the year 9999.
            said.starts_with(words) && (why.starts_with(reason.unwrap_or_default()) || why.starts_with("Undecodable"))
        }
        (RefusedAtAdmission(words, _), Ok(()), Err(said)) => said.starts_with(words),
        _ => false,
    };
    assert!(agrees, "{name} ({})\noperator: {operator:?}\napiserver: {apiserver:?}", expected.because());
}

/// Installs the component, and waits until both of its policies are in force.
async fn opt_out_rules(world: &World) {
    let ns = world.namespace("probe", &[]).await.unwrap();
    let admin = world.admin();
    let now = Timestamp::now();
    let probe = create(&admin, &ns, &after(600)(now), &PostParams::default()).await.unwrap().name_any();
    choose(world, "opt-out-rules", async || {
        let nobody = with(after(600), "approvedBy", json!(""))(now);
        let created = try_create(&admin, &ns, &nobody).await;
        let dry = PatchParams { dry_run: true, ..PatchParams::default() };
        let patch = Patch::Merge(json!({ "spec": { "expiresAt": later(now, 700) } }));
        let changed = told(opt_outs(&admin, &ns).patch(&probe, &dry, &patch).await);
        created.err().as_deref() == Some(NOBODY) && changed.is_err()
    })
    .await;
}

/// A patch that sets constants of the component.
pub fn constants(constants: &[(&str, String)]) -> Value {
    setting(POLICY, &CONSTANTS, constants)
}

/// The API server's message for an opt-out that no limits allow.
async fn says_of_the_endless(world: &World, namespace: &str) -> String {
    let endless = spec(&json!([EGRESS]), "9999-12-31T23:59:59Z");
    try_create(&world.admin(), namespace, &endless).await.unwrap_err()
}

/// Sets the same limits as those of this baseline, and waits until they are in force.
async fn set_limits(world: &World, namespace: &str, limits: &Value, approver: Option<bool>) {
    let mut set: Vec<(&str, String)> = Vec::new();
    for (limit, value) in limits.as_object().unwrap() {
        set.push((CONSTANTS.into_iter().find(|name| name == limit).unwrap(), value.to_string()));
    }
    set.extend(approver.map(|required| ("approverRequired", required.to_string())));
    apply_patched(world, "opt-out-rules", &[constants(&set)]).unwrap();
    let longest = limits["maxDuration"].as_str().unwrap_or("720h");
    let begins = format!("spec.expiresAt is too late: an opt-out may last {longest} from its creation, ");
    let counts = async || says_of_the_endless(world, namespace).await.starts_with(&begins);
    world.eventually(&format!("{set:?} counts"), TIMEOUT, counts).await.unwrap();
}

/// A user who may do everything with opt-outs in one namespace, and nothing else.
async fn owner(world: &World, namespace: &str) -> Client {
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": "opt-out-owners" },
        "rules": [{ "apiGroups": ["policybaseline.io"], "resources": ["baselineoptouts"], "verbs": ["*"] }],
    });
    world.apply_yaml(&role.to_string()).await.unwrap();
    somebody_with(world, namespace, "opt-out-owners").await
}

const MONTH: i64 = 2_592_000;
const TOO_LATE: &str = "spec.expiresAt is too late: an opt-out may last ";
const NOT_ASKED: &str = "the operator does not ask who approved";

fn approved_by(who: Value) -> Spec {
    with(after(60), "approvedBy", who)
}

/// The name of the case, the spec, and the expected verdicts.
type Case = (&'static str, Spec, Said);

/// The cases under the default limits: 720h and all roles. `approvedBy` is required.
fn cases_under_the_defaults() -> Vec<Case> {
    const NOWHERE: &str = "no place is a day away: the operator reads it, and CEL reads not all of it";
    let text = |text: &'static str| ending(move |_| text.into());
    let fraction = |seconds, digits: &'static str| ending(move |at| later(at, seconds).replace('Z', digits));
    vec![
        ("a second before its creation", after(-1), Refused(OVER)),
        ("as it is created", after(0), Refused(OVER)),
        ("a fraction of a second after its creation", fraction(0, ".999Z"), Refused(OVER)),
        ("a second after its creation", after(1), Accepted),
        ("after exactly 720h", after(MONTH), Accepted),
        ("after 720h and a fraction", fraction(MONTH, ".999999999Z"), Accepted),
        ("after 720h and a second", after(MONTH + 1), Refused(TOO_LATE)),
        ("as it is created, in the east", ending(|at| in_zone(at, 0, 330)), Refused(OVER)),
        ("a second after its creation, in the west", ending(|at| in_zone(at, 1, -570)), Accepted),
        ("after 720h in the east", ending(|at| in_zone(at, MONTH, 120)), Accepted),
        ("after 720h and a second in the east", ending(|at| in_zone(at, MONTH + 1, 120)), Refused(TOO_LATE)),
        ("after 720h and a second in the far west", ending(|at| in_zone(at, MONTH + 1, -1439)), Refused(TOO_LATE)),
        ("after 720h in the far east", ending(|at| in_zone(at, MONTH, 1439)), Accepted),
        ("in small letters", ending(|at| later(at, 60).to_lowercase()), Accepted),
        ("in small letters, too late", ending(|at| later(at, MONTH + 1).to_lowercase()), Refused(TOO_LATE)),
        ("more digits than a nanosecond has", fraction(60, ".1234567890Z"), Refused("BaselineOptOut")),
        ("a fraction after a comma", fraction(60, ",5Z"), Accepted),
        ("a zone of a day and more", fraction(60, "-24:00"), RefusedAtAdmission(UNREADABLE, NOWHERE)),
        ("a zone that does not exist", fraction(60, "+99:99"), Refused("BaselineOptOut")),
        ("a leap second", text("2027-06-30T23:59:60Z"), Refused("BaselineOptOut")),
        ("a day that does not exist", text("2027-02-30T00:00:00Z"), Refused("BaselineOptOut")),
        ("no zone", text("2027-02-28T00:00:00"), Refused("BaselineOptOut")),
        ("never", text("9999-12-31T23:59:59Z"), Refused(TOO_LATE)),
        ("later than never", text("9999-12-31T23:59:59-23:59"), Refused(TOO_LATE)),
        ("far away", text("9998-01-01T00:00:00+23:59"), Refused(TOO_LATE)),
        ("long ago", text("1969-12-31T23:59:59.5Z"), Refused(OVER)),
        ("in the year 1000", text("1000-01-01T00:00:00+23:59"), Refused(OVER)),
        ("in the year 0", text("0000-01-01T00:00:00Z"), Refused(UNREADABLE)),
        ("before the year 1", text("0001-01-01T00:00:00+01:00"), Refused(UNREADABLE)),
        ("every role", without(&[EGRESS, INGRESS, CARVEOUT]), Accepted),
        ("no role", without(&[]), Refused("BaselineOptOut")),
        ("no reason", with(after(60), "reason", json!("                       ")), Refused("BaselineOptOut")),
        ("approved by nobody", approved_by(json!("")), RefusedAtAdmission(NOBODY, NOT_ASKED)),
        ("approved by spaces", approved_by(json!(" \u{a0}\u{3000} ")), RefusedAtAdmission(NOBODY, NOT_ASKED)),
        ("approved by null", approved_by(Value::Null), RefusedAtAdmission(NOBODY, NOT_ASKED)),
        (
            "approved by no field",
            Box::new(|at| {
                let mut spec = after(60)(at);
                spec.as_object_mut().unwrap().remove("approvedBy");
                spec
            }),
            RefusedAtAdmission(NOBODY, NOT_ASKED),
        ),
    ]
}

/// Limits, the constant `approverRequired`, and the cases. `maxDuration` differs from group to group, so the test sees when the limits are in
/// force.
type Group = (Value, Option<bool>, Vec<Case>);

fn cases_of_creation() -> Vec<Group> {
    const ONE_BAD: &str =
        "spec.policies: no namespace may do without DefaultDenyIngress, only without DefaultDenyEgress; take it out";
    const NOTHING: &str = "no opt-outs are allowed here: the list of allowed roles is empty";
    let every = || without(&[EGRESS, INGRESS, CARVEOUT]);
    vec![
        (json!({}), None, cases_under_the_defaults()),
        (
            json!({ "maxDuration": "90m", "allowedPolicies": [EGRESS] }),
            Some(true),
            vec![
                ("after exactly 90m", after(5_400), Accepted),
                ("after 90m and a second", after(5_401), Refused(TOO_LATE)),
                ("the role that is allowed", without(&[EGRESS]), Accepted),
                ("a role that is not allowed", without(&[INGRESS]), Refused(ONE_BAD)),
                ("one that is, and one that is not", without(&[EGRESS, INGRESS]), Refused(ONE_BAD)),
                ("approved by a wide space", approved_by(json!("\u{2003}")), RefusedAtAdmission(NOBODY, NOT_ASKED)),
            ],
        ),
        (
            json!({ "maxDuration": "1h30m", "allowedPolicies": [] }),
            Some(true),
            vec![("one role of none", without(&[CARVEOUT]), Refused(NOTHING)), ("all roles of none", every(), Refused(NOTHING))],
        ),
        (
            json!({ "maxDuration": "0h1s", "allowedPolicies": [EGRESS, INGRESS, CARVEOUT] }),
            Some(false),
            vec![
                ("after a second", after(1), Accepted),
                ("after two seconds", after(2), Refused(TOO_LATE)),
                ("approved by nobody, who is not asked", with(after(1), "approvedBy", json!(" ")), Accepted),
                ("approved by null, who is not asked", with(after(1), "approvedBy", Value::Null), Accepted),
            ],
        ),
        (
            json!({ "maxDuration": "720h" }),
            None,
            vec![("after 720h, in so many words", after(MONTH), Accepted), ("and a second", after(MONTH + 1), Refused(TOO_LATE))],
        ),
        // Longer than the largest duration of CEL.
        (
            json!({ "maxDuration": "999999h999999h999999h" }),
            None,
            vec![
                ("after 342 years", after(3 * 999_999 * 3_600), Accepted),
                ("after 342 years and a second", after(3 * 999_999 * 3_600 + 1), Refused(TOO_LATE)),
            ],
        ),
    ]
}

#[tokio::test]
async fn opt_out_rules_say_of_a_new_opt_out_what_the_operator_would_say() {
    let world = World::new().await.unwrap();
    opt_out_rules(&world).await;
    let ns = world.namespace("team", &[]).await.unwrap();
    let people = [somebody_with(&world, &ns, "policy-baseline-opt-outs").await, world.admin()];
    for (limits, approver, cases) in cases_of_creation() {
        set_limits(&world, &ns, &limits, approver).await;
        for (name, spec, expected) in cases {
            for who in &people {
                // If the server's clock shows the same second before and after, the object was created in that second.
                let same_second = async || {
                    let created = world.server_time().await?;
                    let result = create(who, &ns, &spec(created), &PostParams::default()).await;
                    Ok::<_, kube::Error>((world.server_time().await? == created).then_some((created, result)))
                };
                let (created, result) = world.eventually("a quiet second", TIMEOUT, same_second).await.unwrap();
                if let Ok(object) = &result {
                    assert_eq!(object.creation_timestamp().unwrap().0, created);
                }
                let operator = operator_says(&spec(created), &limits, created);
                assert_said(&format!("{name}, under {limits}"), expected, &operator, &result.map(drop));
            }
        }
    }
}

/// The name of the case, the spec before, the spec after, and the expected verdicts.
type Change = (&'static str, Spec, Spec, Said);

fn cases_of_change() -> Vec<Change> {
    const HOUR: i64 = 3_600;
    const LIMITED: &str = "the operator would take it, within maxDuration: an extension is another opt-out, which is reviewed";
    const NARROWER: &str = "it is not made wider, and stays not in force";
    const ENDED: &str = "it ends at once, and that is what is wanted";
    const RECORD: &str = "the operator does not ask who approved, and the name is the record of it";
    let text = |text: &'static str| ending(move |_| text.into());
    let approved = |who: Value| with(after(HOUR), "approvedBy", who);
    let both = |seconds| with(after(seconds), "policies", json!([EGRESS, INGRESS]));
    let fraction = |digits: &'static str| ending(move |at| later(at, HOUR).replace('Z', digits));
    vec![
        ("shortened", after(HOUR), after(HOUR - 1), Accepted),
        ("ended", after(HOUR), after(0), NotInForce(ENDED)),
        ("ended long ago", after(HOUR), text("1970-01-02T00:00:00Z"), NotInForce(ENDED)),
        ("nothing", after(HOUR), after(HOUR), Accepted),
        ("the same end in another zone", after(HOUR), ending(|at| in_zone(at, HOUR, -570)), Accepted),
        ("the same second", fraction(".1Z"), fraction(".9Z"), Accepted),
        ("a second later", after(HOUR), after(HOUR + 1), RefusedAtAdmission(LATER, LIMITED)),
        (
            "a second later in another zone",
            after(HOUR),
            ending(|at| in_zone(at, HOUR + 1, 120)),
            RefusedAtAdmission(LATER, LIMITED),
        ),
        ("later, as long as it might have been", after(HOUR), after(2 * HOUR), RefusedAtAdmission(LATER, LIMITED)),
        ("later than it might have been", after(HOUR), after(2 * HOUR + 1), Refused(LATER)),
        ("for ever", after(HOUR), text("9999-12-31T23:59:59-23:59"), Refused(LATER)),
        ("in force again", after(-HOUR), after(HOUR), RefusedAtAdmission(LATER, LIMITED)),
        ("to what cannot be read", after(HOUR), text("9999-12-31T23:59:59-23:00"), Refused(LATER)),
        ("to what can be read", text("9999-12-31T23:59:59-23:00"), after(HOUR), Accepted),
        ("a role less", both(HOUR), after(HOUR), Accepted),
        ("in another order", both(HOUR), with(after(HOUR), "policies", json!([INGRESS, EGRESS])), Accepted),
        ("a role more", after(HOUR), both(HOUR), RefusedAtAdmission("spec.policies: DefaultDenyIngress was not part", LIMITED)),
        (
            "another role",
            after(HOUR),
            with(after(HOUR), "policies", json!([INGRESS])),
            RefusedAtAdmission("spec.policies: DefaultDenyIngress was not part", LIMITED),
        ),
        (
            "a role that is not allowed",
            after(HOUR),
            with(after(HOUR), "policies", json!([EGRESS, CARVEOUT])),
            Refused("spec.policies: MonitoringCarveout was not part of this opt-out: create another one for it"),
        ),
        ("another ticket", after(HOUR), with(after(HOUR), "ticket", json!("SEC-7")), Accepted),
        (
            "another reason",
            after(HOUR),
            with(after(HOUR), "reason", json!("their migration takes longer than they said")),
            Accepted,
        ),
        ("another approver", after(HOUR), approved(json!("mallory@example.com")), RefusedAtAdmission(OTHER_APPROVER, RECORD)),
        ("the approver taken off", after(HOUR), approved(Value::Null), RefusedAtAdmission(OTHER_APPROVER, RECORD)),
        ("the approver blanked", after(HOUR), approved(json!(" ")), RefusedAtAdmission(OTHER_APPROVER, RECORD)),
        ("an approver for what had none", approved(json!(" ")), after(HOUR), Accepted),
        ("an approver for what had null", approved(Value::Null), after(HOUR), Accepted),
        ("shortened without an approver", approved(json!("")), with(after(60), "approvedBy", json!("")), Accepted),
        ("what is too long shortened", after(9 * HOUR), after(2 * HOUR), Accepted),
        ("what is too long shortened a little", after(9 * HOUR), after(8 * HOUR), NotInForce(NARROWER)),
        ("what is too long lengthened", after(8 * HOUR), after(9 * HOUR), Refused(LATER)),
        ("what never ends shortened", text("9999-12-31T23:59:59Z"), after(HOUR), Accepted),
        (
            "what cannot be read left alone",
            text("9999-12-31T23:59:59-23:00"),
            with(text("9999-12-31T23:59:59-23:00"), "ticket", json!("SEC-7")),
            NotInForce(NARROWER),
        ),
        (
            "what does without a role that is not allowed shortened",
            with(after(HOUR), "policies", json!([EGRESS, CARVEOUT])),
            with(after(60), "policies", json!([EGRESS, CARVEOUT])),
            NotInForce(NARROWER),
        ),
    ]
}

#[tokio::test]
async fn opt_out_rules_let_a_change_make_an_opt_out_narrower_and_never_wider() {
    let limits = json!({ "maxDuration": "2h", "allowedPolicies": [EGRESS, INGRESS] });
    let world = World::new().await.unwrap();
    let ns = world.namespace("team", &[]).await.unwrap();
    let people = [owner(&world, &ns).await, world.admin()];
    // Created before the component is installed, so that opt-outs that it would refuse exist too.
    let mut stored = Vec::new();
    for (name, before, becomes, expected) in cases_of_change() {
        for who in &people {
            let at = world.server_time().await.unwrap();
            let object = create(&world.admin(), &ns, &before(at), &PostParams::default()).await.unwrap();
            stored.push((name, who, object, becomes(at), expected, at));
        }
    }
    opt_out_rules(&world).await;
    set_limits(&world, &ns, &limits, None).await;
    for (name, who, mut object, spec, expected, at) in stored {
        // Even if the opt-out was invalid before, its owner may change its labels and finalizers.
        let of = object.name_any();
        merge(who, &ns, &of, json!({ "metadata": { "labels": { "team": "sre" }, "finalizers": ["e2e.example/holds"] } }))
            .await
            .unwrap();
        object = merge(who, &ns, &of, json!({ "metadata": { "finalizers": null, "annotations": { "a": "b" } } })).await.unwrap();
        object.data["spec"] = spec.clone();
        let result = told(opt_outs(who, &ns).replace(&of, &PostParams::default(), &object).await);
        assert_said(name, expected, &operator_says(&spec, &limits, at), &result.map(drop));
        opt_outs(who, &ns).delete(&of, &DeleteParams::default()).await.unwrap();
    }
}

#[tokio::test]
async fn opt_out_rules_read_every_duration_that_a_baseline_may_say_and_no_other() {
    let world = World::new().await.unwrap();
    opt_out_rules(&world).await;
    let ns = world.namespace("team", &[]).await.unwrap();
    let baselines: Api<PolicyBaseline> = Api::all(world.admin());
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(world.admin());
    let mut read = 0;
    for text in [
        "90m",
        "1h30m",
        "720h",
        "45s",
        "0h1s",
        "720h0m0s",
        "30m1h",
        "1h1h",
        "007h",
        "999999h999999m999999s",
        "999999h999999h999999h",
        "1s1s1s1s1s1s1s1s1s1s1s1s",
        "",
        "0h",
        "0h0m0s",
        "h",
        "30",
        "30d",
        "1w",
        "1.5h",
        "-1h",
        "+1h",
        "1h30",
        "1 h",
        "1H",
        "1ms",
        "500ms",
        "1us",
        "é",
        "1000000h",
        "1s1s1s1s1s1s1s1s1s1s1s1s1s",
        "720h # a month",
        "P30D",
        "unlimited",
    ] {
        let baseline = json!({ "apiVersion": "policybaseline.io/v1alpha1", "kind": "PolicyBaseline",
            "metadata": { "name": "dry" }, "spec": { "mode": "Enforce", "optOuts": { "maxDuration": text } } });
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        let accepted = baselines.create(&dry, &serde_json::from_value(baseline).unwrap()).await.is_ok();
        read += usize::from(accepted);
        // Directly, because so many applies would take long.
        let change = json!([{ "op": "test", "path": "/spec/variables/0/name", "value": "maxDuration" },
            { "op": "replace", "path": "/spec/variables/0/expression", "value": json!(text).to_string() }]);
        let change = Patch::<()>::Json(serde_json::from_value(change).unwrap());
        policies.patch(POLICY, &PatchParams::default(), &change).await.unwrap();
        let (taken, refused) = (format!("may last {text} from"), format!("{MISTAKEN}maxDuration is '{text}'; write hours, "));
        let says = async || {
            let said = says_of_the_endless(&world, &ns).await;
            match (said.contains(&taken), said.contains(&refused)) {
                (false, false) => Err(said),
                (counts, _) => Ok(Some(counts)),
            }
        };
        let counts = world.eventually(&format!("{text} was read"), TIMEOUT, says).await.unwrap();
        assert_eq!(counts, accepted, "{text}");
    }
    assert_eq!(read, 12);
}

#[tokio::test]
async fn opt_out_rules_tell_a_mistake_in_a_constant_which_holds_up_nothing_but_new_opt_outs() {
    let world = World::new().await.unwrap();
    opt_out_rules(&world).await;
    let ns = world.namespace("team", &[]).await.unwrap();
    let who = owner(&world, &ns).await;
    let (api, now) = (opt_outs(&who, &ns), Timestamp::now());
    let set = |name, cel: &str| apply_patched(&world, "opt-out-rules", &[constants(&[(name, cel.to_owned())])]);
    let lasts = "maxDuration is '30d'; write hours, minutes and seconds, as in \"720h\" or \"1h30m\" (30 days are \"720h\"), and more than 0";
    let roles = r#"write some of ["DefaultDenyIngress", "DefaultDenyEgress", "MonitoringCarveout"]"#;
    for (name, cel, says) in [
        ("maxDuration", r#""30d""#, format!("{MISTAKEN}{lasts}")),
        ("maxDuration", r#"" 720h""#, format!("{MISTAKEN}maxDuration is ' 720h'; write hours, ")),
        // A message has one line.
        (
            "maxDuration",
            r#""1h\n2h""#,
            "a constant of opt-out-rules is wrong; no opt-out is created until it is corrected".into(),
        ),
        ("allowedPolicies", r#"["Egress"]"#, format!("{MISTAKEN}allowedPolicies names 'Egress'; {roles}")),
        (
            "allowedPolicies",
            r#"["DefaultDenyEgress, DefaultDenyIngress"]"#,
            format!("{MISTAKEN}allowedPolicies names 'DefaultDenyEgress, "),
        ),
        ("allowedPolicies", r#"["DefaultDenyEgress", ""]"#, format!("{MISTAKEN}allowedPolicies names ''; {roles}")),
    ] {
        set("maxDuration", r#""720h""#).unwrap();
        let good = async || try_create(&who, &ns, &after(600)(now)).await.map(|_| true);
        world.eventually("opt-outs are created", TIMEOUT, good).await.unwrap();
        let [held, other] = [0, 1].map(|_| after(600)(now));
        let [held, other] =
            [create(&who, &ns, &held, &PostParams::default()).await, create(&who, &ns, &other, &PostParams::default()).await];
        let [held, other] = [held.unwrap().name_any(), other.unwrap().name_any()];
        let finalizer = json!({ "metadata": { "finalizers": ["e2e.example/holds"] } });
        merge(&who, &ns, &held, finalizer).await.unwrap();

        set(name, cel).unwrap();
        let refuses = async || Ok::<_, String>(try_create(&who, &ns, &after(600)(now)).await.err());
        let said = world.eventually(&format!("{cel} is refused"), TIMEOUT, refuses).await.unwrap();
        assert!(said.starts_with(&says), "{cel}: {said}");
        merge(&who, &ns, &held, json!({ "spec": { "expiresAt": later(now, 500) } })).await.unwrap();
        let said = merge(&who, &ns, &held, json!({ "spec": { "expiresAt": later(now, 501) } })).await.unwrap_err();
        assert!(said.starts_with(LATER), "{said}");
        merge(&who, &ns, &held, json!({ "metadata": { "labels": { "team": "sre" } } })).await.unwrap();
        api.delete(&other, &DeleteParams::default()).await.unwrap();
        api.delete(&held, &DeleteParams::default()).await.unwrap();
        merge(&who, &ns, &held, json!({ "metadata": { "finalizers": null } })).await.unwrap();
    }
}

#[tokio::test]
async fn opt_out_rules_are_not_in_the_way_of_a_namespace_that_goes_with_opt_outs_that_break_them() {
    let world = World::new().await.unwrap();
    let [free, held] = [world.namespace("free", &[]).await.unwrap(), world.namespace("held", &[]).await.unwrap()];
    let admin = world.admin();
    for ns in [&free, &held] {
        for broken in [after(-5)(Timestamp::now()), spec(&json!([EGRESS]), "9999-12-31T23:59:59Z")] {
            create(&admin, ns, &broken, &PostParams::default()).await.unwrap();
        }
    }
    let last = create(&admin, &held, &after(-5)(Timestamp::now()), &PostParams::default()).await.unwrap().name_any();
    merge(&admin, &held, &last, json!({ "metadata": { "finalizers": ["e2e.example/holds"] } })).await.unwrap();
    opt_out_rules(&world).await;
    let api: Api<Namespace> = namespaces(&world);
    for ns in [&free, &held] {
        api.delete(ns, &DeleteParams::default()).await.unwrap();
    }
    let is_deleted = async || opt_outs(&admin, &held).get(&last).await.map(|o| o.metadata.deletion_timestamp.is_some());
    world.eventually("the namespace controller deletes", TIMEOUT, is_deleted).await.unwrap();
    // By a cluster admin, who is not exempt. A tenant would have lost the rights in the terminating namespace.
    merge(&admin, &held, &last, json!({ "metadata": { "finalizers": null } })).await.unwrap();
    assert!(opt_outs(&admin, &held).get_opt(&last).await.unwrap().is_none());
    // The namespace controller finishes the held namespace later. This test does not check that.
    let is_gone = async || api.get_opt(&free).await.map(|found| found.is_none());
    world.eventually("the namespace is gone", TIMEOUT, is_gone).await.unwrap();
}

#[tokio::test]
async fn opt_out_rules_let_break_glass_and_the_operator_in_and_no_time_that_a_request_claims() {
    let mut world = World::new().await.unwrap();
    opt_out_rules(&world).await;
    let rescue = break_glass(&world).await;
    // Before the namespace, so that the namespace is not older.
    apply_baseline(&world, PLATFORM, &json!({})).await;
    // So that the namespace is newer.
    crate::support::a_second_later(&world).await;
    let ns = world.namespace("team", &[]).await.unwrap();
    let now = Timestamp::now();
    // A request cannot set its own creation time.
    for claimed in [MONTH, -MONTH] {
        let mut forged = object("forged", &after(2 * MONTH - 60)(now));
        forged.data["spec"]["expiresAt"] = later(now, if claimed > 0 { 2 * MONTH - 60 } else { -60 }).into();
        forged.metadata.creation_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now + SignedDuration::from_secs(claimed)));
        let said = told(opt_outs(&world.admin(), &ns).create(&PostParams::default(), &forged).await).unwrap_err();
        assert!(said.starts_with("spec.expiresAt is "), "{said}");
    }
    // An apply of an object that does not exist creates it, so the rules for creation count.
    let endless = spec(&json!([EGRESS]), "9999-12-31T23:59:59Z");
    let params = PatchParams::apply("e2e").force();
    let applied = opt_outs(&world.admin(), &ns).patch("applied", &params, &Patch::Apply(&object("applied", &endless))).await;
    assert!(told(applied).unwrap_err().starts_with("spec.expiresAt is too late"));

    create(&rescue, &ns, &endless, &PostParams::default()).await.unwrap();
    let nobody = with(after(600), "approvedBy", json!(""))(now);
    let by_rescue = create(&rescue, &ns, &nobody, &PostParams::default()).await.unwrap().name_any();
    merge(&rescue, &ns, &by_rescue, json!({ "spec": { "expiresAt": later(now, 900), "policies": [EGRESS, INGRESS] } }))
        .await
        .unwrap();
    // The operator is exempt from all rules, not only for the labels that it writes.
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": { "name": "may", "namespace": ns },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "policy-baseline-opt-outs" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": World::operator_user() }],
    });
    world.apply_yaml(&binding.to_string()).await.unwrap();
    let operator = world.user(&World::operator_user(), &[]).await.unwrap();
    let may = async || try_create(&operator, &ns, &nobody).await.map(|_| true);
    world.eventually("the operator may create what breaks the rules", TIMEOUT, may).await.unwrap();
    merge(&operator, &ns, &by_rescue, json!({ "spec": { "expiresAt": later(now, 1_000) } })).await.unwrap();
    // The operator labels an opt-out that the component would have refused, and one that it accepted.
    let good = create(&world.admin(), &ns, &after(600)(now), &PostParams::default()).await.unwrap().name_any();
    world.start_operator().await.unwrap();
    until_holds(&world, &ns, &Plan::of(PLATFORM).without(EGRESS).without(INGRESS)).await;
    until_says(&world, &ns, &by_rescue, "True WithinLimits").await;
    until_says(&world, &ns, &good, "True WithinLimits").await;
    merge(&world.admin(), &ns, &good, json!({ "spec": { "expiresAt": seconds_from_now(-1) } })).await.unwrap();
    until_says(&world, &ns, &good, "False Expired").await;
}
