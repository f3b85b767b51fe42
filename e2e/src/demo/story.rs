//! The content of the demo, step by step.
//!
//! Each step prints why it matters and the command that a user would type. It then does the same, and waits for the expected result.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use policy_baseline::{ConditionType, NoticeReason};
use policy_baseline::{LABEL_MANAGED_BY, MANAGER};
use policy_baseline::{PolicyBaseline, PolicyBaselineStatus, Role};
use serde_json::json;
use strum::VariantArray;
use tokio::time::Instant;

use super::page::{Cell, Page, Tone};
use super::stage::{Stage, from_here};
use super::witness::Sighting;
use crate::{SERVICE_ACCOUNT, SYSTEM_NAMESPACE, paths};

const SAMPLE: &str = "manifests/samples/minimal.yaml";
const BEFORE: [&str; 2] = ["payments", "shop"];
const AFTER: &str = "orders";
const VICTIM: &str = "payments";
const ATTACKER: &str = "mallory";
/// The prefix of the names of the sample's policies.
const PREFIX: &str = "baseline-";
/// If two events of the same policy are at most this far apart, the demo prints the time between them.
const RELATED: Duration = Duration::from_secs(1);

/// Plays the whole story. An error says which step did not reach the expected result.
pub async fn play(page: &mut Page) -> Result<Stage> {
    page.title("policy-baseline: a demo on a Kubernetes API of its own")?;
    page.text(
        "The API server is real and listens on loopback only. There are no nodes: you will see policies appear and stay, \
         not packets being dropped. What follows a $ is what you would type yourself.",
    )?;
    let mut stage = Stage::set(page).await?;
    match tell(&mut stage, page).await {
        Ok(()) => Ok(stage),
        Err(err) => Err(stage.explain(err)),
    }
}

async fn tell(stage: &mut Stage, page: &mut Page) -> Result<()> {
    page.text(&format!("The operator runs as {SYSTEM_NAMESPACE}/{SERVICE_ACCOUNT}, with the shipped RBAC and no more."))?;
    page.text(&format!("Its log is {}", from_here(stage.operator_log())))?;
    open_namespaces(stage, page).await.context("step 1")?;
    let baseline = first_baseline(stage, page).await.context("step 2")?;
    new_namespace(stage, page, &baseline).await.context("step 3")?;
    older_namespaces(stage, page, &baseline).await.context("step 4")?;
    let attacker = deletion(stage, page).await.context("step 5")?;
    tampering(stage, page, &attacker).await.context("step 6")?;
    record(stage, page, &baseline).await.context("step 7")
}

async fn open_namespaces(stage: &Stage, page: &mut Page) -> Result<()> {
    page.step(
        "Two teams are here first",
        "A namespace starts wide open: without a NetworkPolicy every pod may talk to every other.",
    )?;
    for name in BEFORE {
        run(stage, page, &["create", "namespace", name]).await?;
    }
    Ok(())
}

async fn first_baseline(stage: &Stage, page: &mut Page) -> Result<String> {
    page.step(
        "A baseline for every namespace, all defaults",
        "Older namespaces are only reported: closing one that is in use cuts its traffic. You decide.",
    )?;
    let sample = fs::read_to_string(paths::repo().join(SAMPLE)).with_context(|| format!("read {SAMPLE}"))?;
    let sample: PolicyBaseline = serde_yaml::from_str(&sample).with_context(|| format!("read {SAMPLE}"))?;
    let baseline = sample.name_any();
    stage.next_second().await?;
    run(stage, page, &["apply", "-f", SAMPLE]).await?;
    page.command(&format!("kubectl describe pb {baseline}"))?;
    let status = stage
        .status(&baseline, "the older namespaces are reported", |status| {
            let reported = reported_names(status);
            is_ready(status) && BEFORE.iter().all(|name| reported.contains(name))
        })
        .await?;
    namespaces(stage, page, &status).await?;
    page.text(&format!("It selects {}.", status.effective_selector))?;
    Ok(baseline)
}

async fn new_namespace(stage: &mut Stage, page: &mut Page, baseline: &str) -> Result<()> {
    page.step(
        "A new namespace",
        "It is closed at once: nothing comes in but what monitoring scrapes, nothing goes out but DNS.",
    )?;
    page.command(&format!("kubectl create namespace {AFTER}"))?;
    page.command(&format!("kubectl get networkpolicy -n {AFTER} --watch"))?;
    let answered = stage.create_namespace(AFTER).await?;
    let policies = stage.see("the policies of the new namespace", |seen| policies_of(seen, AFTER)).await?;
    let row = |policy: &Sighting| [policy.name().into(), ms(policy.after(answered)).into()];
    page.table(["POLICY", "SEEN AFTER"], &policies.iter().map(row).collect::<Vec<_>>())?;
    let last = ms(last_of(&policies, answered));
    page.toned(&format!("{AFTER} was PROTECTED {last} after the API server had said that it exists."), Tone::Good)?;
    let status = stage
        .status(baseline, "the new namespace is protected", |status| is_ready(status) && status.namespaces.protected > 0)
        .await?;
    namespaces(stage, page, &status).await
}

async fn older_namespaces(stage: &mut Stage, page: &mut Page, baseline: &str) -> Result<()> {
    page.step("The older ones, when you say so", "One field closes them all, best after a look at what they talk to.")?;
    let enforce = json!({ "spec": { "existingNamespaces": "Enforce" } });
    page.command(&format!("kubectl patch pb {baseline} --type=merge -p '{enforce}'"))?;
    let baselines: Api<PolicyBaseline> = Api::all(stage.admin.clone());
    baselines.patch(baseline, &PatchParams::default(), &Patch::Merge(enforce)).await.context("patch the baseline")?;
    let answered = Instant::now();
    let policies = stage
        .see("the policies of the older namespaces", |seen| {
            let all: Option<Vec<_>> = BEFORE.iter().map(|namespace| policies_of(seen, namespace)).collect();
            Some(all?.concat())
        })
        .await?;
    let last = ms(last_of(&policies, answered));
    let [one, other] = BEFORE;
    page.toned(&format!("{one} and {other} were PROTECTED {last} after the API server had taken the change."), Tone::Good)?;
    let status = stage.status(baseline, "every namespace is protected", all_is_well).await?;
    namespaces(stage, page, &status).await
}

/// The step about deletion. Returns the client of the attacker, because the next step needs it.
async fn deletion(stage: &mut Stage, page: &mut Page) -> Result<Client> {
    page.step(
        "An attack: a policy is deleted",
        &format!("{ATTACKER} has the role `edit` in {VICTIM}, like many developers. It covers NetworkPolicies."),
    )?;
    let user = format!("--user={ATTACKER}");
    run(stage, page, &["create", "rolebinding", ATTACKER, "--clusterrole=edit", &user, "-n", VICTIM]).await?;
    let attacker = stage.developer(ATTACKER).await?;
    let name = policy_name(Role::DefaultDenyIngress);
    let policies: Api<NetworkPolicy> = Api::namespaced(attacker.clone(), VICTIM);
    let rehearsal = DeleteParams::default().dry_run();
    let rehearse = async || Ok(policies.delete(&name, &rehearsal).await.map(|_| Some(()))?);
    stage.wait("the attacker's role is in force", rehearse).await?;

    let before = stage.latest(VICTIM, &name)?;
    page.command(&format!("kubectl --as={ATTACKER} delete networkpolicy {name} -n {VICTIM}"))?;
    let deleted = policies.delete(&name, &DeleteParams::default()).await;
    let answered = Instant::now();
    deleted.context("delete the policy")?;
    let healed = stage
        .see("the deleted policy is back", |seen| {
            let is_back = |now: &&Sighting| now.is(VICTIM, &name) && now.uid() != before.uid() && now.allows_what(&before);
            seen.iter().find(is_back).cloned()
        })
        .await?;
    page.toned(&format!("Back as it was after {}.", ms(healed.after(answered))), Tone::Good)?;
    Ok(attacker)
}

async fn tampering(stage: &mut Stage, page: &mut Page, attacker: &Client) -> Result<()> {
    page.step(
        "An attack: a policy is opened",
        "Quieter than a deletion: the policy is still listed, but one empty rule lets everything out.",
    )?;
    let name = policy_name(Role::DefaultDenyEgress);
    let before = stage.latest(VICTIM, &name)?;
    let hole = json!({ "spec": { "egress": [{}] } });
    page.command(&format!("kubectl --as={ATTACKER} patch networkpolicy {name} -n {VICTIM} --type=merge -p '{hole}'"))?;
    let policies: Api<NetworkPolicy> = Api::namespaced(attacker.clone(), VICTIM);
    let like_kubectl = PatchParams { field_manager: Some("kubectl-patch".to_owned()), ..PatchParams::default() };
    let opened = policies.patch(&name, &like_kubectl, &Patch::Merge(hole)).await;
    let answered = Instant::now();
    let opened = opened.context("open the policy")?;
    if opened.spec == before.policy.spec {
        bail!("the attack has changed nothing");
    }
    let healed = stage
        .see("the opened policy is closed", |seen| {
            let attack =
                seen.iter().position(|then| then.policy.metadata.resource_version == opened.metadata.resource_version)?;
            seen[attack..].iter().find(|now| now.is(VICTIM, &name) && now.allows_what(&before)).cloned()
        })
        .await?;
    if healed.uid() != before.uid() {
        bail!("the policy was replaced instead of repaired: its UID was {}, and is {}", before.uid(), healed.uid());
    }
    page.toned(&format!("Closed again after {}: DNS and nothing else goes out.", ms(healed.after(answered))), Tone::Good)?;
    page.text(&format!("UID {}, unchanged: it was patched in place, not replaced.", healed.uid()))?;
    Ok(())
}

async fn record(stage: &Stage, page: &mut Page, baseline: &str) -> Result<()> {
    page.step("What it says about that", "Events tell the team in its own namespace; the baseline's status tells you.")?;
    let attacked = [Role::DefaultDenyIngress, Role::DefaultDenyEgress].map(policy_name);
    page.command(&format!("kubectl get events -n {VICTIM}"))?;
    let events: Api<Event> = Api::namespaced(stage.admin.clone(), VICTIM);
    let told = stage
        .wait("an event for each attack", async || {
            let told = events.list(&ListParams::default()).await?.items;
            let about = |name: &String| told.iter().any(|event| regarding(event) == name);
            Ok(attacked.iter().all(about).then_some(told))
        })
        .await?;
    events_table(page, told)?;

    let status = stage
        .status(baseline, "the status tells of both attacks", |status| {
            let told = |name: &String| status.recent_drift.iter().any(|drift| drift.namespace == VICTIM && drift.policy == *name);
            attacked.iter().all(told) && all_is_well(status)
        })
        .await?;
    page.command(&format!("kubectl get pb {baseline} -o wide"))?;
    page.output(&stage.kubectl(&["get", "pb", baseline, "-o", "wide"]).await?)?;
    page.command(&format!("kubectl describe pb {baseline}"))?;
    let conditions = status.conditions.iter().map(|condition| {
        let good = [ConditionType::Ready, ConditionType::ExistingNamespacesClosed].map(|kind| kind.into_str());
        let as_it_should = good.contains(&&*condition.type_) == (condition.status == "True");
        let tone = if as_it_should { Tone::Good } else { Tone::Notice };
        let [kind, reason, message] = [&condition.type_, &condition.reason, &condition.message].map(|text| text.as_str().into());
        [kind, Cell::new(&condition.status, tone), reason, message]
    });
    page.table(["CONDITION", "STATUS", "REASON", "MESSAGE"], &conditions.collect::<Vec<_>>())?;
    let drift = status.recent_drift.iter().map(|drift| {
        let policy = format!("{}/{}", drift.namespace, drift.policy);
        [policy.into(), drift.class.as_str().into(), drift.field_manager.as_str().into(), drift.action.as_str().into()]
    });
    page.table(["RECENT DRIFT", "CLASS", "WHO (CLAIMED)", "ACTION"], &drift.collect::<Vec<_>>())?;
    Ok(())
}

/// Prints what the user can do next.
pub fn now_you(stage: &Stage, page: &mut Page) -> Result<()> {
    page.step("Now you", "Everything runs until Ctrl-C, and then goes without a trace. In another terminal:")?;
    page.to_copy(&format!("export KUBECONFIG={}", stage.admin_kubeconfig().display()))?;
    page.command("kubectl create namespace mine")?;
    page.command(&format!("kubectl delete networkpolicy --all -n {VICTIM}"))?;
    page.command("kubectl explain policybaseline.spec")?;
    page.text(&format!("If you have no kubectl, call it as {}", from_here(&stage.kubectl_path())))?;
    page.feed("What a watch on NetworkPolicies shows from now on:")?;
    Ok(())
}

/// Prints the events of the watch, until an error occurs.
pub async fn stay(stage: &mut Stage, page: &mut Page) -> Result<Infallible> {
    loop {
        let (before, now) = stage.next_sighting().await?;
        let was_there = before.as_ref().is_some_and(|before| !before.gone);
        let what = match (was_there, now.gone) {
            (_, true) => "deleted",
            (true, false) => "changed",
            (false, false) => "created",
        };
        let since = before.map(|before| now.after(before.at)).filter(|since| !now.gone && *since < RELATED);
        let later = since.map(|since| format!("  {} later", ms(since))).unwrap_or_default();
        page.feed(&format!("{what}  {}/{}{later}", now.namespace(), now.name()))?;
    }
}

/// Prints the last line, after everything has ended.
pub fn goodbye(page: &mut Page, once: bool) -> Result<()> {
    page.close("Everything has been stopped and removed.")?;
    if once {
        page.close("Without DEMO_ONCE=1 it stays up for you to play with.")?;
    }
    Ok(())
}

/// Prints the command, and runs it.
async fn run(stage: &Stage, page: &mut Page, args: &[&str]) -> Result<()> {
    page.command(&format!("kubectl {}", args.join(" ")))?;
    stage.kubectl(args).await.map(drop)
}

/// Prints every namespace that the baseline selects: the number of policies in it, and how the status counts it.
async fn namespaces(stage: &Stage, page: &mut Page, status: &PolicyBaselineStatus) -> Result<()> {
    let mut held: BTreeMap<String, usize> = reported_names(status).into_iter().map(|name| (name.to_owned(), 0)).collect();
    for policy in stage.policies().await? {
        if policy.labels().get(LABEL_MANAGED_BY).is_some_and(|manager| manager == MANAGER) {
            *held.entry(policy.namespace().unwrap_or_default()).or_default() += 1;
        }
    }
    let all = Role::VARIANTS.len();
    let row = |(namespace, held): (String, usize)| {
        let word = match held {
            0 => Cell::new("REPORTED", Tone::Notice),
            held if held == all => Cell::new("PROTECTED", Tone::Good),
            _ => Cell::new("INCOMPLETE", Tone::Bad),
        };
        [namespace.into(), format!("{held} of {all}").into(), word]
    };
    page.table(["NAMESPACE", "POLICIES", "STATE"], &held.into_iter().map(row).collect::<Vec<_>>())?;
    Ok(())
}

/// Prints events almost as kubectl does.
fn events_table(page: &mut Page, mut events: Vec<Event>) -> Result<()> {
    events.sort_by(|a, b| a.event_time.cmp(&b.event_time));
    let row = |event: &Event| {
        let [kind, reason, note] = [&event.type_, &event.reason, &event.note].map(|text| text.as_deref().unwrap_or_default());
        [kind.into(), reason.into(), regarding(event).into(), note.into()]
    };
    page.table(["TYPE", "REASON", "NETWORKPOLICY", "MESSAGE"], &events.iter().map(row).collect::<Vec<_>>())?;
    Ok(())
}

fn regarding(event: &Event) -> &str {
    event.regarding.as_ref().and_then(|object| object.name.as_deref()).unwrap_or_default()
}

fn reported_names(status: &PolicyBaselineStatus) -> BTreeSet<&str> {
    let reported = status.notices.iter().filter(|notice| notice.reason == NoticeReason::ExistingNamespace);
    reported.map(|notice| notice.namespace.as_str()).collect()
}

fn is_ready(status: &PolicyBaselineStatus) -> bool {
    status.conditions.iter().any(|condition| condition.type_ == ConditionType::Ready.into_str() && condition.status == "True")
}

fn all_is_well(status: &PolicyBaselineStatus) -> bool {
    is_ready(status) && status.namespaces.protected == status.namespaces.selected
}

fn policy_name(role: Role) -> String {
    format!("{PREFIX}{}", role.suffix())
}

/// The first sighting of each policy of a namespace. None until every policy was seen.
fn policies_of(seen: &[Sighting], namespace: &str) -> Option<Vec<Sighting>> {
    let first = |role| {
        let name = policy_name(role);
        seen.iter().find(|sighting| sighting.is(namespace, &name)).cloned()
    };
    Role::VARIANTS.iter().copied().map(first).collect()
}

fn last_of(policies: &[Sighting], moment: Instant) -> Duration {
    policies.iter().map(|policy| policy.after(moment)).max().unwrap_or_default()
}

fn ms(duration: Duration) -> String {
    match duration.as_millis() {
        0 => "under 1 ms".to_owned(),
        whole => format!("{whole} ms"),
    }
}
