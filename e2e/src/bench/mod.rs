//! The bench: what the operator costs beside the raw apiserver, which does the same applies over the same stack in the same run.
//!
//! Ours and raw take turns, so that both meet the same machine. Ours is the real binary under the shipped RBAC.

mod eye;
mod report;

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use policy_baseline::client::{self, Stack};
use serde_json::json;
use tokio::time::Instant;

use self::eye::Eye;
pub use self::report::{Figure, Report};
use crate::cluster::{ControlPlane, Options};
use crate::operator::Operator;
use crate::wait::{TIMEOUT, eventually};
use crate::{SERVICE_ACCOUNT, SYSTEM_NAMESPACE, paths};

/// What the bench's namespaces are selected by.
const SIDE: &str = "bench.policybaseline.io/side";
const NAMES: [&str; 3] = ["baseline-default-deny-ingress", "baseline-default-deny-egress", "baseline-monitoring-carveout"];
/// How many samples of a single namespace or repair one round takes.
const SAMPLES: usize = 20;
/// How many rounds; ours and raw take turns in each.
const ROUNDS: usize = 3;
/// How many namespaces are created at the same time in a burst.
const CREATORS: usize = 16;

/// Who writes the policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Ours,
    Raw,
}

impl Side {
    const BOTH: [Self; 2] = [Self::Ours, Self::Raw];

    const fn label(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Raw => "raw",
        }
    }
}

/// Runs the bench with that many namespaces in a burst. `say` gets a line for each step.
pub async fn run(namespaces: usize, mut say: impl FnMut(&str)) -> Result<Report> {
    say("starting a control plane and the operator");
    let plane = ControlPlane::start(Options::default()).await?;
    plane.run_kubectl(&["apply", "--server-side", "-k", "manifests/base"])?;
    let config = kube::Config::from_custom_kubeconfig(
        kube::config::Kubeconfig::read_from(plane.admin_kubeconfig())?,
        &kube::config::KubeConfigOptions::default(),
    )
    .await?;
    let clients = client::connect(config)?;
    anyhow::ensure!(
        clients.stack == Stack::Http2,
        "the raw client does not run on the stack of the operator: {:?}",
        clients.stack
    );
    let eye = Eye::open(clients.watches.clone()).await?;
    let mut bench = Bench { raw: clients.requests, eye, made: 0, policies: vec![] };
    let kubeconfig = plane.service_account_kubeconfig(SYSTEM_NAMESPACE, SERVICE_ACCOUNT).await?;
    let operator = Operator::start(&plane, &kubeconfig, &["--log-level=warn"], &[])?;
    bench.take_up().await?;

    let mut report = Report::new(namespaces);
    for round in 1..=ROUNDS {
        for side in Side::BOTH {
            say(&format!("round {round} of {ROUNDS}: {}", side.label()));
            for _ in 0..SAMPLES {
                report.first_policies.add(side.label(), bench.one_namespace(side).await?);
                report.repair.add(side.label(), bench.one_change(side).await?);
            }
            report.burst.add(side.label(), bench.burst(side, namespaces).await?);
        }
    }
    report.resident = resident(operator.pid(), "VmRSS")?;
    report.peak = resident(operator.pid(), "VmHWM")?;
    report.binary = fs::metadata(Operator::binary()?)?.len();
    Ok(report)
}

struct Bench {
    raw: Client,
    eye: Eye,
    made: usize,
    /// The policies as the operator writes them, but for what would make them its own.
    policies: Vec<NetworkPolicy>,
}

impl Bench {
    /// A baseline that selects our side, and a first namespace, whose policies are the ones that raw applies.
    async fn take_up(&mut self) -> Result<()> {
        let baseline = json!({
            "apiVersion": "policybaseline.io/v1alpha1", "kind": "PolicyBaseline", "metadata": { "name": "bench" },
            "spec": { "namespaceSelector": { "matchLabels": { SIDE: Side::Ours.label() } } },
        });
        let raw = self.raw.clone();
        eventually("the baseline is taken", TIMEOUT, async || {
            crate::world::apply_yaml(&raw, &baseline.to_string()).await.map(|()| true)
        })
        .await?;
        let name = self.create(Side::Ours).await?;
        self.eye.until_three(&name).await?;
        let api: Api<NetworkPolicy> = Api::namespaced(self.raw.clone(), &name);
        for policy in NAMES {
            let mut found = api.get(policy).await?;
            found.metadata = ObjectMeta {
                name: found.metadata.name,
                annotations: found.metadata.annotations,
                labels: found.metadata.labels.map(|mut labels| {
                    labels.insert("app.kubernetes.io/managed-by".to_owned(), "bench".to_owned());
                    labels
                }),
                ..ObjectMeta::default()
            };
            // As the operator does: all four fields are written out.
            let spec = found.spec.get_or_insert_default();
            spec.ingress.get_or_insert_default();
            spec.egress.get_or_insert_default();
            self.policies.push(found);
        }
        Ok(())
    }

    fn next_name(&mut self) -> String {
        self.made += 1;
        format!("bench-{}", self.made)
    }

    async fn create(&mut self, side: Side) -> Result<String> {
        let name = self.next_name();
        create(&self.raw, &name, side).await?;
        Ok(name)
    }

    /// From the creation of a namespace, as sent, to its third policy, as our own watch shows it.
    async fn one_namespace(&mut self, side: Side) -> Result<Duration> {
        let name = self.next_name();
        let started = Instant::now();
        create(&self.raw, &name, side).await?;
        if side == Side::Raw {
            apply(&self.raw, &name, &self.policies).await?;
        }
        Ok(self.eye.until_three(&name).await?.saturating_duration_since(started))
    }

    /// Ours: from a change by somebody else, as our own watch shows it, to the repair, as it shows that. Raw: from an apply, as sent, to
    /// when the watch shows it.
    async fn one_change(&mut self, side: Side) -> Result<Duration> {
        let name = format!("bench-{}", self.made);
        let api: Api<NetworkPolicy> = Api::namespaced(self.raw.clone(), &name);
        let opened = json!({ "spec": { "ingress": [{}] } });
        let changed = api.patch(NAMES[0], &PatchParams::default(), &Patch::Merge(opened)).await?;
        let changed = self.eye.until_version(&changed).await?;
        if side == Side::Ours {
            let repaired = self.eye.until_after(&name, NAMES[0]).await?;
            return Ok(repaired.saturating_duration_since(changed));
        }
        let started = Instant::now();
        apply(&self.raw, &name, &self.policies[..1]).await?;
        Ok(self.eye.until_after(&name, NAMES[0]).await?.saturating_duration_since(started))
    }

    /// From the first of so many new namespaces, as sent, to the last policy of them all.
    async fn burst(&mut self, side: Side, count: usize) -> Result<Duration> {
        let names: Vec<String> = (0..count).map(|_| self.next_name()).collect();
        let started = Instant::now();
        stream::iter(&names)
            .map(|name| async {
                create(&self.raw, name, side).await?;
                if side == Side::Raw {
                    apply(&self.raw, name, &self.policies).await?;
                }
                anyhow::Ok(())
            })
            .buffer_unordered(CREATORS)
            .try_collect::<()>()
            .await?;
        let mut last = started;
        for name in &names {
            last = last.max(self.eye.until_three(name).await?);
        }
        Ok(last.saturating_duration_since(started))
    }
}

async fn create(client: &Client, name: &str, side: Side) -> Result<()> {
    let labels = [(SIDE.to_owned(), side.label().to_owned())].into();
    let metadata = ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await.context("create a namespace")?;
    Ok(())
}

/// What the operator sends: a forced apply for each policy, together.
async fn apply(client: &Client, namespace: &str, policies: &[NetworkPolicy]) -> Result<()> {
    let api: Api<NetworkPolicy> = Api::namespaced(client.clone(), namespace);
    let params = PatchParams::apply("bench").force();
    let send = |policy: &NetworkPolicy| {
        let (api, params, policy) = (api.clone(), params.clone(), policy.clone());
        async move { api.patch(policy.metadata.name.as_deref().unwrap_or_default(), &params, &Patch::Apply(&policy)).await }
    };
    try_join_all(policies.iter().map(send)).await.context("apply policies")?;
    Ok(())
}

/// A line of /proc/PID/status, in bytes.
fn resident(pid: u32, field: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("only Linux tells the memory of a process")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).context("no such line")?;
    let kilobytes: u64 = line.split_whitespace().next().context("no number")?.parse()?;
    Ok(kilobytes * 1024)
}

/// Writes the report where scripts look for it.
pub fn save(report: &Report) -> Result<()> {
    let directory = paths::repo().join("target/bench");
    fs::create_dir_all(&directory)?;
    let file = directory.join("report.json");
    write(&file, report)
}

fn write(file: &Path, report: &Report) -> Result<()> {
    fs::write(file, serde_json::to_vec_pretty(&report.json())?).with_context(|| format!("write {}", file.display()))
}
