//! The environment of one test: a control plane with the shipped manifests, and the operator once the test starts it.

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Formatter};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{process, thread};

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::discovery::{self, Scope};
use kube::{Client, ResourceExt};
use serde::Deserialize;

use crate::BREAK_GLASS;
use crate::audit::AuditLog;
use crate::cluster::{ControlPlane, Options, components_on};
use crate::custom_kinds::{is_established, list_each};
use crate::operator::Operator;
use crate::pool::{self, Lease};
use crate::proxy::Proxy;
use crate::wait::{self, Probe, TIMEOUT};
use crate::{SERVICE_ACCOUNT, SYSTEM_NAMESPACE, TEST_LABEL, paths};

const MANIFESTS: &str = "manifests/base";
/// The shipped manifests with every admission component.
pub const EVERYTHING: &str = "e2e/kustomize/everything";
const OUR_GROUP: &str = "policybaseline.io";
const FIELD_MANAGER: &str = "e2e";
const TAIL: usize = 40;

pub struct World {
    // Dropped in this order, so that no operator outlives the lease of its cluster.
    operator: Option<Operator>,
    operator_args: Vec<String>,
    /// The kubeconfig of the operator, if a test has made its own.
    operator_kubeconfig: Option<PathBuf>,
    admin: Client,
    failed: AtomicBool,
    lease: Lease,
}

impl Debug for World {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("operator", &self.operator).field("lease", &self.lease).finish_non_exhaustive()
    }
}

impl World {
    /// A control plane that serves the CRDs, with the operator's namespace, ServiceAccount and RBAC. No operator runs.
    pub async fn new() -> Result<Self> {
        Self::bare().await?.with_manifests().await
    }

    /// The same in a new control plane with these options.
    pub async fn on(options: Options) -> Result<Self> {
        Self::leased(pool::acquire_with(options).await?).await?.with_manifests().await
    }

    async fn with_manifests(self) -> Result<Self> {
        let manifests = if components_on() { EVERYTHING } else { MANIFESTS };
        let base = paths::repo().join(manifests);
        if !base.join("kustomization.yaml").is_file() {
            bail!("{} has no kustomization.yaml", base.display());
        }
        self.lease
            .run_kubectl(&["apply", "--server-side", "--force-conflicts", "-k", manifests])
            .context("apply the shipped manifests")?;
        self.wait_for_crds().await?;
        Ok(self)
    }

    /// The same without the manifests.
    pub async fn bare() -> Result<Self> {
        Self::leased(pool::acquire().await?).await
    }

    /// A new control plane in which nothing was ever installed. It ends with the test.
    pub async fn empty() -> Result<Self> {
        Self::leased(pool::acquire_with(Options::default()).await?).await
    }

    async fn leased(lease: Lease) -> Result<Self> {
        let admin = lease.admin().await?;
        Ok(Self {
            operator: None,
            operator_args: Vec::new(),
            operator_kubeconfig: None,
            admin,
            failed: AtomicBool::new(false),
            lease,
        })
    }

    pub fn plane(&self) -> &ControlPlane {
        &self.lease
    }

    pub fn admin(&self) -> Client {
        self.admin.clone()
    }

    /// A client of a user that needs no account, for example a tenant to whom RBAC gives rights.
    pub async fn user(&self, name: &str, groups: &[&str]) -> Result<Client> {
        let mut groups = groups.to_vec();
        groups.extend(components_on().then_some(BREAK_GLASS));
        self.lease.user(name, &groups).await
    }

    pub fn audit(&self) -> Result<AuditLog> {
        self.lease.audit().context("a cluster that is not ours has no audit log to read")
    }

    /// The user name of the operator in the audit log.
    pub fn operator_user() -> String {
        format!("system:serviceaccount:{SYSTEM_NAMESPACE}:{SERVICE_ACCOUNT}")
    }

    /// Ends this control plane with the test. For a test that damages it.
    pub fn discard(&self) {
        self.lease.discard();
    }

    // The operator.

    /// Starts the operator, as the shipped ServiceAccount.
    pub async fn start_operator(&mut self) -> Result<()> {
        self.start_operator_with(&[]).await
    }

    /// The same with more arguments. [`Self::restart_operator`] uses them again.
    pub async fn start_operator_with(&mut self, args: &[&str]) -> Result<()> {
        if self.operator.as_mut().is_some_and(Operator::is_running) {
            bail!("the operator runs already");
        }
        self.operator_args = args.iter().map(|&arg| arg.to_owned()).collect();
        self.operator = Some(self.another_operator(args).await?);
        Ok(())
    }

    /// Starts one more operator, a second replica. The caller holds it.
    pub async fn another_operator(&self, args: &[&str]) -> Result<Operator> {
        let kubeconfig = self.operator_kubeconfig().await?;
        Operator::start(&self.lease, &kubeconfig, args, &[])
    }

    pub async fn operator_kubeconfig(&self) -> Result<PathBuf> {
        if let Some(kubeconfig) = &self.operator_kubeconfig {
            return Ok(kubeconfig.clone());
        }
        self.lease.service_account_kubeconfig(SYSTEM_NAMESPACE, SERVICE_ACCOUNT).await
    }

    /// The operator connects through that proxy from its next start on.
    pub async fn send_operator_by(&mut self, proxy: &Proxy) -> Result<()> {
        self.operator_kubeconfig = None;
        self.operator_kubeconfig = Some(proxy.kubeconfig(&self.operator_kubeconfig().await?)?);
        Ok(())
    }

    pub fn operator(&self) -> Result<&Operator> {
        self.operator.as_ref().context("no operator was started")
    }

    /// Mutable access, for example to wait for its end.
    pub fn operator_mut(&mut self) -> Result<&mut Operator> {
        self.operator.as_mut().context("no operator was started")
    }

    /// Sends SIGTERM. Returns the exit code.
    pub fn stop_operator(&mut self) -> Result<i32> {
        self.operator_mut()?.stop()
    }

    /// Sends SIGKILL.
    pub fn kill_operator(&mut self) -> Result<()> {
        self.operator_mut()?.kill()
    }

    /// Stops it if it runs, and starts it with the same arguments as before.
    pub async fn restart_operator(&mut self) -> Result<()> {
        if self.operator_mut()?.is_running() {
            self.stop_operator()?;
        }
        let args = self.operator_args.clone();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.start_operator_with(&args).await
    }

    // Objects.

    /// A name that no other namespace of this run has.
    pub fn unique(prefix: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        static RUN: OnceLock<u32> = OnceLock::new();
        let run = RUN.get_or_init(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            process::id() ^ now.subsec_nanos()
        });
        format!("{prefix}-{:04x}{:02x}", run & 0xffff, NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Creates a namespace with these labels. Returns its name: the prefix and a unique part.
    pub async fn namespace(&self, prefix: &str, labels: &[(&str, &str)]) -> Result<String> {
        let name = Self::unique(prefix);
        self.namespace_named(&name, labels).await?;
        Ok(name)
    }

    pub async fn namespace_named(&self, name: &str, labels: &[(&str, &str)]) -> Result<()> {
        let labels = labels.iter().copied().chain([(TEST_LABEL, "true")]);
        let labels: BTreeMap<String, String> = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let metadata = ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..ObjectMeta::default() };
        let api: Api<Namespace> = Api::all(self.admin());
        api.create(&PostParams::default(), &Namespace { metadata, ..Namespace::default() })
            .await
            .with_context(|| format!("create namespace {name}"))?;
        Ok(())
    }

    pub async fn policies(&self, namespace: &str) -> Result<Vec<NetworkPolicy>> {
        let api: Api<NetworkPolicy> = Api::namespaced(self.admin(), namespace);
        let list = api.list(&ListParams::default()).await;
        Ok(list.with_context(|| format!("list the policies of {namespace}"))?.items)
    }

    /// Applies each document in turn as admin, with forced server-side apply.
    ///
    /// Objects outside of a test's own namespace get the test label, so that they are swept: cluster-scoped objects, and objects in the
    /// built-in namespaces. Objects of our own API group are swept anyway and get no label.
    ///
    /// A namespace that is created in the second of a baseline is new only if the operator saw it appear after the baseline. So this waits
    /// until that second is over.
    pub async fn apply_yaml(&self, yaml: &str) -> Result<()> {
        apply_yaml(&self.admin, yaml).await.map_err(|refused| anyhow!(refused))?;
        if !yaml.contains("PolicyBaseline") {
            return Ok(());
        }
        let kind = GroupVersionKind::gvk(OUR_GROUP, "v1alpha1", "PolicyBaseline");
        let baselines: Api<DynamicObject> = Api::all_with(self.admin(), &ApiResource::from_gvk(&kind));
        // After a CRD was changed, its kind is not listed at once either.
        let everything = ListParams::default();
        let listed = async || baselines.list(&everything).await.map(Some);
        let listed = self.eventually("the baselines are listed", TIMEOUT, listed).await?;
        let newest = listed.iter().filter_map(ResourceExt::creation_timestamp).map(|created| created.0).max();
        let is_later = async || self.server_time().await.map(|now| newest.is_none_or(|newest| now > newest));
        self.eventually("a later second", TIMEOUT, is_later).await
    }

    /// The time of the API server in whole seconds, as in creation timestamps.
    pub async fn server_time(&self) -> kube::Result<Timestamp> {
        let metadata = ObjectMeta { name: Some(Self::unique("clock")), ..ObjectMeta::default() };
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        let made = Api::<Namespace>::all(self.admin()).create(&dry, &Namespace { metadata, ..Namespace::default() }).await?;
        Ok(made.creation_timestamp().map(|created| created.0).unwrap_or_default())
    }

    /// The same without the wait. The error is the exact message of the API server.
    pub async fn try_apply_yaml(&self, yaml: &str) -> Result<(), String> {
        apply_yaml(&self.admin, yaml).await
    }

    // Waiting.

    /// See [`wait::eventually`]. On a timeout, also prints the end of the operator's log, and keeps all logs.
    pub async fn eventually<P: Probe>(&self, what: &str, timeout: Duration, probe: impl AsyncFnMut() -> P) -> Result<P::Found> {
        let outcome = wait::eventually(what, timeout, probe).await;
        outcome.map_err(|late| {
            self.failed.store(true, Ordering::Relaxed);
            match &self.operator {
                Some(operator) => anyhow!("{late:#}\n{}", operator_tail(operator)),
                None => late,
            }
        })
    }

    /// Waits until the API server serves our kinds.
    pub async fn wait_for_crds(&self) -> Result<()> {
        let crds: Api<CustomResourceDefinition> = Api::all(self.admin());
        let ours = self
            .eventually("the CRDs are established", TIMEOUT, async || {
                let all = crds.list(&ListParams::default()).await?;
                let ours: Vec<_> = all.into_iter().filter(|crd| crd.spec.group == OUR_GROUP).collect();
                anyhow::Ok((!ours.is_empty() && ours.iter().all(is_established)).then_some(ours))
            })
            .await?;
        self.eventually("the CRDs are served", TIMEOUT, async || {
            list_each(&self.admin, &ours).await?;
            anyhow::Ok(true)
        })
        .await
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A timeout has already printed it.
        if thread::panicking()
            && !self.failed.load(Ordering::Relaxed)
            && let Some(operator) = &self.operator
        {
            eprintln!("{}", operator_tail(operator));
        }
        if thread::panicking() || self.failed.load(Ordering::Relaxed) {
            self.lease.keep_state();
            self.lease.discard();
        }
    }
}

fn operator_tail(operator: &Operator) -> String {
    format!("the end of {}:\n{}", operator.log_path().display(), operator.log_tail(TAIL))
}

/// Like [`World::apply_yaml`], but as the user of this client.
pub async fn apply_yaml(client: &Client, yaml: &str) -> Result<(), String> {
    for document in serde_yaml::Deserializer::from_str(yaml) {
        let value = serde_yaml::Value::deserialize(document).map_err(|err| format!("not YAML: {err}"))?;
        if value.is_null() {
            continue;
        }
        let object = serde_yaml::from_value(value).map_err(|err| format!("not an object: {err}"))?;
        apply(client, object).await.map_err(|err| match err {
            kube::Error::Api(status) => status.message,
            other => format!("{:#}", anyhow!(other)),
        })?;
    }
    Ok(())
}

async fn apply(client: &Client, mut object: DynamicObject) -> Result<(), kube::Error> {
    let types = object.types.clone().unwrap_or_default();
    let kind = GroupVersionKind::try_from(&types).map_err(|err| kube::Error::Service(Box::new(err)))?;
    let (resource, capabilities) = discovery::pinned_kind(client, &kind).await?;
    let namespace = (capabilities.scope == Scope::Namespaced).then(|| object.namespace().unwrap_or_else(|| "default".to_owned()));
    let swept_anyway = match namespace.as_deref() {
        None | Some("default" | "kube-system" | "kube-public" | "kube-node-lease") => resource.group == OUR_GROUP,
        Some(_) => true,
    };
    if !swept_anyway {
        object.labels_mut().insert(TEST_LABEL.to_owned(), "true".to_owned());
    }
    let api: Api<DynamicObject> = match &namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let how = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(&object.name_any(), &how, &Patch::Apply(&object)).await.map(drop)
}
