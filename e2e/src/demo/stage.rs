//! The environment of the demo: a control plane, the operator under its shipped ServiceAccount, and our own watch.
//!
//! This module starts, acts and waits. The module `story` decides what is printed about it.

use std::collections::BTreeMap;
use std::env;
use std::fmt::{self, Debug, Formatter};
use std::future::Future;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::{Api, Client, ResourceExt};
use policy_baseline::{LABEL_MANAGED_BY, MANAGER, PolicyBaseline, PolicyBaselineStatus};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::page::{Page, is_unread};
use super::witness::{Sighting, Witness};
use crate::cluster::{ControlPlane, Options};
use crate::operator::Operator;
use crate::wait::{TIMEOUT, eventually};
use crate::{SERVICE_ACCOUNT, SYSTEM_NAMESPACE, process};

/// The number of log lines of the operator that an error shows.
const TAIL: usize = 12;
/// Longer than any wait of the demo.
const AN_HOUR: Duration = Duration::from_hours(1);
/// How often the demo checks that everything still runs while the user tries things out.
const LOOK: Duration = Duration::from_secs(1);
/// How long to wait for the exit code of an operator that has ended.
const REAPED: Duration = Duration::from_secs(1);

/// Policies by namespace and name.
pub type Policies = BTreeMap<(String, String), NetworkPolicy>;

pub struct Stage {
    // Dropped in this order: the processes last, and the control plane last of them.
    pub admin: Client,
    witness: Witness,
    operator: Operator,
    plane: ControlPlane,
}

impl Debug for Stage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage").field("operator", &self.operator).field("plane", &self.plane).finish_non_exhaustive()
    }
}

impl Stage {
    /// Starts the control plane, the watch and the operator.
    pub async fn set(page: &mut Page) -> Result<Self> {
        if env::var_os("E2E_KUBECONFIG").is_some_and(|path| !path.is_empty()) {
            bail!("E2E_KUBECONFIG is set, but the demo attacks the cluster that it runs on, and only its own: unset it");
        }
        page.begin("etcd, kube-apiserver, kube-controller-manager")?;
        let plane = ControlPlane::start(Options::default()).await.context("the control plane did not start")?;
        page.done(&format!("ready in {:.1} s", plane.start_time().as_secs_f32()))?;

        page.begin("CRD, ServiceAccount and RBAC")?;
        let started = Instant::now();
        let admin = plane.admin().await?;
        kubectl(&plane, &["apply", "--server-side", "-k", "manifests/base"]).await?;
        let baselines: Api<PolicyBaseline> = Api::all(admin.clone());
        let any = ListParams::default().limit(1);
        eventually("policybaselines are served", TIMEOUT, async || baselines.list(&any).await.map(|_| true)).await?;
        page.done(&format!("installed in {:.1} s", started.elapsed().as_secs_f32()))?;

        page.begin("the operator, as the shipped ServiceAccount")?;
        let witness = Witness::new(admin.clone()).await?;
        let kubeconfig = plane.service_account_kubeconfig(SYSTEM_NAMESPACE, SERVICE_ACCOUNT).await?;
        let operator = Operator::start(&plane, &kubeconfig, &[], &[]).context("the operator did not start")?;
        page.done("started")?;
        Ok(Self { admin, witness, operator, plane })
    }

    pub fn admin_kubeconfig(&self) -> &Path {
        self.plane.admin_kubeconfig()
    }

    pub fn operator_log(&self) -> &Path {
        self.operator.log_path()
    }

    /// The kubectl that belongs to this control plane.
    pub fn kubectl_path(&self) -> PathBuf {
        PathBuf::from(self.plane.kubectl().get_program())
    }

    /// Runs kubectl and returns its output.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        kubectl(&self.plane, args).await
    }

    /// A client of a user who has only the rights that RBAC gives to this name.
    pub async fn developer(&self, name: &str) -> Result<Client> {
        self.plane.user(name, &[]).await
    }

    /// Like [`eventually`], but stops waiting when the operator has ended.
    pub async fn wait<T>(&self, what: &str, probe: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
        unless_ended(self.operator.pid(), eventually(what, TIMEOUT, probe)).await
    }

    /// Waits until our own watch has shown something. Sends no request of its own.
    pub async fn see<T>(&mut self, what: &str, find: impl Fn(&[Sighting]) -> Option<T>) -> Result<T> {
        unless_ended(self.operator.pid(), self.witness.until(what, find)).await
    }

    /// The current state of a policy.
    pub fn latest(&self, namespace: &str, name: &str) -> Result<Sighting> {
        let latest = self.witness.latest(namespace, name).cloned();
        latest.with_context(|| format!("{namespace} has no policy {name}"))
    }

    /// The status of a baseline, once it is for the current generation and `is_it` returns true.
    pub async fn status(
        &self,
        baseline: &str,
        what: &str,
        is_it: impl Fn(&PolicyBaselineStatus) -> bool,
    ) -> Result<PolicyBaselineStatus> {
        let baselines: Api<PolicyBaseline> = Api::all(self.admin.clone());
        self.wait(what, async || {
            let found = baselines.get(baseline).await?;
            let status = found.status.context("no status yet")?;
            if status.observed_generation == found.metadata.generation && is_it(&status) {
                return Ok(Some(status));
            }
            bail!("the status says {}", serde_json::to_string(&status.namespaces)?)
        })
        .await
    }

    /// Creates a namespace. Returns the time when the response of the API server had arrived.
    pub async fn create_namespace(&self, name: &str) -> Result<Instant> {
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let namespaces: Api<Namespace> = Api::all(self.admin.clone());
        let created = namespaces.create(&PostParams::default(), &Namespace { metadata, ..Namespace::default() }).await;
        let answered = Instant::now();
        created.with_context(|| format!("create namespace {name}"))?;
        Ok(answered)
    }

    /// Waits until every object that is created from now on is younger than every existing namespace. A creationTimestamp has whole
    /// seconds. A baseline of the same second treats as new what the operator sees after the baseline.
    pub async fn next_second(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.admin.clone());
        let all = namespaces.list(&ListParams::default()).await.context("list the namespaces")?;
        let youngest = all.items.iter().filter_map(|namespace| created(&namespace.metadata)).max();
        let maps: Api<ConfigMap> = Api::namespaced(self.admin.clone(), "default");
        let metadata = ObjectMeta { name: Some("what-time-is-it".to_owned()), ..ObjectMeta::default() };
        let map = ConfigMap { metadata, ..ConfigMap::default() };
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        self.wait("the next second of the apiserver's clock", async || {
            let now = created(&maps.create(&dry_run, &map).await?.metadata);
            Ok((now > youngest).then_some(()))
        })
        .await
    }

    /// The policies of the operator.
    pub async fn policies(&self) -> Result<Policies> {
        let all: Api<NetworkPolicy> = Api::all(self.admin.clone());
        let ours = ListParams::default().labels(&format!("{LABEL_MANAGED_BY}={MANAGER}"));
        let found = all.list(&ours).await.context("list the policies")?.items;
        Ok(found.into_iter().map(|policy| ((policy.namespace().unwrap_or_default(), policy.name_any()), policy)).collect())
    }

    /// The next event of our watch. Returns an error as soon as a required process has ended.
    pub async fn next_sighting(&mut self) -> Result<(Option<Sighting>, Sighting)> {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                sighting = self.witness.next() => return sighting,
                _ = look.tick() => {
                    self.plane.check_alive()?;
                    if !self.operator.is_running() {
                        bail!(ENDED);
                    }
                }
            }
        }
    }

    /// Stops the operator in order, and then the rest.
    pub fn end(mut self) -> Result<()> {
        match self.operator.stop()? {
            0 => Ok(()),
            code => Err(self.explain(anyhow!("the operator ended with code {code} when it was told to stop"))),
        }
    }

    /// Adds the end of the operator's log to an error.
    pub fn explain(&mut self, error: Error) -> Error {
        if is_unread(&error) {
            return error;
        }
        let code = match self.operator.wait_exit(REAPED) {
            Ok(Some(code)) => format!(" (its exit code is {code})"),
            Ok(None) | Err(_) => String::new(),
        };
        let log = match self.operator.log_tail(TAIL) {
            tail if tail.is_empty() => "The operator's log is empty.".to_owned(),
            tail => format!("The end of the operator's log (E2E_KEEP=1 keeps all logs):\n{tail}"),
        };
        anyhow!("{error:#}{code}\n{log}")
    }
}

const ENDED: &str = "the operator has ended";

async fn unless_ended<T>(pid: u32, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        done = work => done,
        _ = eventually("the operator ends", AN_HOUR, async || !process::alive(pid)) => bail!(ENDED),
    }
}

async fn kubectl(plane: &ControlPlane, args: &[&str]) -> Result<String> {
    let mut command = plane.kubectl();
    // A process group of its own, so that Ctrl-C reaches only the demo, and the demo then ends it.
    command.args(args).process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = EndsWithUs(command.spawn().context("start kubectl")?);
    let (stdout, stderr) = (child.0.stdout.take(), child.0.stderr.take());
    let stdout = spawn_blocking(move || stdout.map(io::read_to_string));
    let stderr = spawn_blocking(move || stderr.map(io::read_to_string));
    let said = stdout.await?.context("kubectl has no stdout")??;
    let complaint = stderr.await?.context("kubectl has no stderr")??;
    if !child.0.wait().context("wait for kubectl")?.success() {
        bail!("kubectl {}: {}", args.join(" "), complaint.trim());
    }
    Ok(said)
}

struct EndsWithUs(Child);

impl Drop for EndsWithUs {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn created(metadata: &ObjectMeta) -> Option<Timestamp> {
    metadata.creation_timestamp.as_ref().map(|time| time.0)
}

/// A path relative to the directory in which the demo was started.
pub fn from_here(path: &Path) -> String {
    let here = env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}
