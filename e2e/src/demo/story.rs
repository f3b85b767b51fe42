//! The content of the demo, step by step.
//!
//! Each step prints why it matters and the command that a user would type. It then does the same, and waits for the expected result.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fs;
use std::iter;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use policy_baseline::{ConditionType, NoticeReason};
use policy_baseline::{PolicyBaseline, PolicyBaselineStatus, Role};
use serde_json::{Value, json};
use strum::VariantArray;
use tokio::time::Instant;

use super::page::{Page, Tone};
use super::stage::{Policies, Stage, from_here};
use super::tables;
use super::witness::Sighting;
use crate::{SERVICE_ACCOUNT, SYSTEM_NAMESPACE, paths};

const SAMPLE: &str = "manifests/samples/allows/same-namespace.yaml";
/// The policy of the sample's only allow.
const ALLOW: &str = "baseline-allow-same-namespace";
const BEFORE: [&str; 2] = ["payments", "shop"];
const AFTER: &str = "orders";
/// With these, more than ten namespaces are closed. An edit that opens ten or fewer does not wait for a confirmation.
const TEAMS: [&str; 8] = ["team-a", "team-b", "team-c", "team-d", "team-e", "team-f", "team-g", "team-h"];
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
    record(stage, page, &baseline).await.context("step 7")?;
    typo(stage, page, &baseline).await.context("step 8")
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
        "A baseline for every namespace, with one allow",
        "The allow lets the pods of a namespace talk with each other. Older namespaces are only reported: closing one that is \
         in use cuts its traffic. You decide.",
    )?;
    let text = fs::read_to_string(paths::repo().join(SAMPLE)).with_context(|| format!("read {SAMPLE}"))?;
    let sample: PolicyBaseline = serde_yaml::from_str(&text).with_context(|| format!("read {SAMPLE}"))?;
    let spec = text.find("\nspec:").and_then(|start| text.get(start..)).with_context(|| format!("{SAMPLE} has no spec"))?;
    page.command(&format!("sed -n '/^spec:/,$p' {SAMPLE}"))?;
    page.output(spec.trim_start())?;
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
        "It is closed at once. Its pods reach each other and DNS, monitoring may scrape them, and nothing else passes.",
    )?;
    page.command(&format!("kubectl create namespace {AFTER}"))?;
    page.command(&format!("kubectl get networkpolicy -n {AFTER} --watch"))?;
    let answered = stage.create_namespace(AFTER).await?;
    let policies = stage.see("the policies of the new namespace", |seen| policies_of(seen, AFTER)).await?;
    let row = |policy: &Sighting| [policy.name().into(), ms(policy.after(answered)).into()];
    page.table(["POLICY", "SEEN AFTER"], &policies.iter().map(row).collect::<Vec<_>>())?;
    let is_allow = |policy: &&Sighting| policy.name() == ALLOW;
    let allowed = policies.iter().find(is_allow).context("no allow")?.at;
    if policies.iter().any(|policy| policy.at < allowed) {
        bail!("{ALLOW} was not the first policy of {AFTER}");
    }
    page.text("The allow came first, so its pods were never cut off from each other.")?;
    let last = ms(last_of(&policies, answered));
    page.toned(&format!("{AFTER} was PROTECTED {last} after the API server had said that it exists."), Tone::Good)?;
    let status = stage
        .status(baseline, "the new namespace is protected", |status| is_ready(status) && status.namespaces.protected > 0)
        .await?;
    namespaces(stage, page, &status).await
}

async fn older_namespaces(stage: &mut Stage, page: &mut Page, baseline: &str) -> Result<()> {
    page.step("The older ones, when you say so", "One field closes them all, best after a look at what they talk to.")?;
    let answered = edit(stage, page, baseline, &json!({ "existingNamespaces": "Enforce" })).await?;
    let policies = stage.see("the policies of the older namespaces", |seen| policies_of_all(seen, &BEFORE)).await?;
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
    page.toned(&format!("Closed again after {}: it lets out DNS and nothing else.", ms(healed.after(answered))), Tone::Good)?;
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
            let about = |name: &String| told.iter().any(|event| tables::regarding(event) == name);
            Ok(attacked.iter().all(about).then_some(told))
        })
        .await?;
    tables::events(page, told)?;

    let status = stage
        .status(baseline, "the status tells of both attacks", |status| {
            let told = |name: &String| status.recent_drift.iter().any(|drift| drift.namespace == VICTIM && drift.policy == *name);
            attacked.iter().all(told) && all_is_well(status)
        })
        .await?;
    wide(stage, page, baseline).await?;
    page.command(&format!("kubectl describe pb {baseline}"))?;
    tables::conditions(page, status.conditions.iter())?;
    tables::recent_drift(page, &status)?;
    Ok(())
}

async fn typo(stage: &mut Stage, page: &mut Page, baseline: &str) -> Result<()> {
    page.step(
        "A typo that would open every namespace",
        "More teams come. Then somebody wants to exclude the namespaces sandbox-*, and writes only the asterisk.",
    )?;
    page.command(&format!("for team in {}; do kubectl create namespace $team; done", TEAMS.join(" ")))?;
    for team in TEAMS {
        stage.create_namespace(team).await?;
    }
    stage.see("the policies of the new teams", |seen| policies_of_all(seen, &TEAMS)).await?;
    let closed = BEFORE.len() + TEAMS.len() + ["default", AFTER].len();
    let is_closed =
        |status: &PolicyBaselineStatus| all_is_well(status) && usize::try_from(status.namespaces.selected) == Ok(closed);
    stage.status(baseline, "the namespaces of the new teams are protected", is_closed).await?;
    let before = stage.policies().await?;

    edit(stage, page, baseline, &json!({ "excludeNamespaces": ["*"] })).await?;
    let awaits = |condition: &&Condition| condition.type_ == ConditionType::AwaitingConfirmation.into_str();
    let status = stage
        .status(baseline, "the edit waits for a confirmation", |status| {
            status.conditions.iter().find(awaits).is_some_and(|condition| condition.status == "True")
        })
        .await?;
    wide(stage, page, baseline).await?;
    page.command(&format!("kubectl describe pb {baseline}"))?;
    tables::conditions(page, status.conditions.iter().filter(awaits))?;
    unchanged(stage, &before).await?;
    page.toned(&format!("All {} policies are still there: nothing was opened.", before.len()), Tone::Good)?;

    page.text("It is not meant, so the edit is corrected:")?;
    edit(stage, page, baseline, &json!({ "excludeNamespaces": ["sandbox-*"] })).await?;
    stage.status(baseline, "every namespace is protected again", is_closed).await?;
    wide(stage, page, baseline).await?;
    unchanged(stage, &before).await?;
    page.toned(&format!("All {} policies are the same as before the typo.", before.len()), Tone::Good)?;
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

/// Prints the edit of the baseline's spec, and makes it. Returns the time when the response of the API server had arrived.
async fn edit(stage: &Stage, page: &mut Page, baseline: &str, spec: &Value) -> Result<Instant> {
    let edit = json!({ "spec": spec });
    page.command(&format!("kubectl patch pb {baseline} --type=merge -p '{edit}'"))?;
    let baselines: Api<PolicyBaseline> = Api::all(stage.admin.clone());
    baselines.patch(baseline, &PatchParams::default(), &Patch::Merge(edit)).await.context("patch the baseline")?;
    Ok(Instant::now())
}

/// Prints the baseline's line, with all columns.
async fn wide(stage: &Stage, page: &mut Page, baseline: &str) -> Result<()> {
    let args = ["get", "pb", baseline, "-o", "wide"];
    page.command(&format!("kubectl {}", args.join(" ")))?;
    page.output(&stage.kubectl(&args).await?)?;
    Ok(())
}

/// Prints every namespace that the baseline selects: the number of policies in it, and how the status counts it.
async fn namespaces(stage: &Stage, page: &mut Page, status: &PolicyBaselineStatus) -> Result<()> {
    let mut held: BTreeMap<String, usize> = reported_names(status).into_iter().map(|name| (name.to_owned(), 0)).collect();
    for (namespace, _) in stage.policies().await?.into_keys() {
        *held.entry(namespace).or_default() += 1;
    }
    tables::namespaces(page, held, planned().count())?;
    Ok(())
}

/// Returns an error if any of these policies was removed or written since.
async fn unchanged(stage: &Stage, before: &Policies) -> Result<()> {
    let now = stage.policies().await?;
    match before.iter().find(|(key, policy)| now.get(key) != Some(policy)) {
        Some(((namespace, name), _)) => bail!("{namespace}/{name} is not as it was before the typo"),
        None => Ok(()),
    }
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

/// The names of the policies in each namespace of the baseline.
fn planned() -> impl Iterator<Item = String> {
    iter::once(ALLOW.to_owned()).chain(Role::VARIANTS.iter().copied().map(policy_name))
}

/// The first sighting of each policy of a namespace. None until every policy was seen.
fn policies_of(seen: &[Sighting], namespace: &str) -> Option<Vec<Sighting>> {
    let first = |name: String| seen.iter().find(|sighting| sighting.is(namespace, &name)).cloned();
    planned().map(first).collect()
}

/// The same for several namespaces.
fn policies_of_all(seen: &[Sighting], namespaces: &[&str]) -> Option<Vec<Sighting>> {
    let all: Option<Vec<_>> = namespaces.iter().map(|namespace| policies_of(seen, namespace)).collect();
    Some(all?.concat())
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
